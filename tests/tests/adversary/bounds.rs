//! Numbers at their ends, and blocks as large as they get.

use crate::scenes::*;
use bitcoin::key::{TapTweak, UntweakedPublicKey};
use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::{Amount, OutPoint, Sequence, Transaction, TxIn, TxOut, Witness};
use primitives::*;
use secp256k1::SECP256K1;
use serde_json::json;
use tests::stranger::*;
use wire::Message;

/// Each of these comes back to who offered it, in the same channel, and that goes on.
fn each_comes_back(t: &mut Between, offers: Vec<(Msat, BlockHeight, wire::OnionPacket)>) {
    for (amount, expiry, onion) in offers {
        let id = t.a.add(amount, PaymentHash([8; 32]), expiry, onion);
        t.a.settle_without_ours();
        assert!(t.a.channel.htlc(Side::Local, id).is_none());
        assert_eq!(received(&t.b), 0);
    }
    assert_eq!(total(&t.world), t.before);
}

#[test]
fn c_lightning_small_cltv_and_eclair_far_cltv() {
    let mut t = Between::new();
    let (height, hash) = (t.world.height(), PaymentHash([8; 32]));
    let far = 499_999_999;
    let mut offers = Vec::new();
    // What arrives, and what is to go on.
    for (expiry, on) in [
        (0, 0),
        (1, 1),
        (height - 1, height - 7),
        (height, height),
        (height + 1, height - 5),
        (height + 2, height + 1),
        (height + 6, height),
        (height + 30, height + 30),
        (height + 30, height + 29),
        (height + 30, u32::MAX - 6),
        (height + 30, 0),
        (far, far - 6),
        (far, 500_000_000),
        (height + 5_000, height + 4_000),
    ] {
        let (_, _, onion) = onion_through(&t.world, &t.b, 50_000_000, hash, on);
        offers.push((Msat(51_000_000), BlockHeight(expiry), onion));
    }
    // Amounts.
    let expiry = BlockHeight(height + 46);
    for (brings, goes_on) in [(1, 0), (1, 1), (1, u64::MAX), (50_000_000, 50_000_001)] {
        let end = Onion {
            amount: Msat(goes_on),
            expiry: BlockHeight(height + 40),
            secret: PaymentSecret([9; 32]),
            total: Msat(goes_on),
        };
        let (over, next) = (t.b.scid(&t.world), t.b.stranger.point());
        let onion = forward_onion(t.world.node_point(), over, next, &end, &hash);
        offers.push((Msat(brings), expiry, onion));
    }
    each_comes_back(&mut t, offers);
    // And one that is as it should be.
    let p = preimage(1);
    let (id, at_b) = t.send(50_000_000, p.hash(), 30);
    t.b.fulfil(at_b, p);
    t.b.settle();
    t.a_was_paid(id, p);
    t.a.settle_without_ours();
    t.lost_nothing();
}

#[test]
fn lnd_onion_bomb() {
    let mut t = Between::new();
    let (node, next, hash) = (t.world.node_point(), t.b.stranger.point(), PaymentHash([8; 32]));
    let expiry = BlockHeight(t.world.height() + 40);
    let mut payloads: Vec<Vec<u8>> =
        vec![vec![0; 2], vec![0xff; 2], vec![0; 1100], vec![0xff; 1100]];
    // A record that says it is as long as a length can be, at each width of it.
    for length in [
        vec![0xfc],
        vec![0xfd, 0xff, 0xff],
        vec![0xfe, 0xff, 0xff, 0xff, 0xff],
        vec![0xff; 9],
        vec![0xff, 0, 0, 0, 1, 0, 0, 0, 0],
        // Not in its shortest form.
        vec![0xfd, 0, 1],
    ] {
        for kind in [2, 6, 8, 10, 253] {
            payloads.push([vec![kind], length.clone(), vec![1; 40]].concat());
        }
    }
    let mut offers: Vec<_> = payloads
        .into_iter()
        .map(|p| (Msat(50_000_000), expiry, raw_onion(node, p, next, &hash)))
        .collect();
    // Bytes that are no onion: versions, keys, and a MAC of nothing.
    for byte in [0, 1, 2, 0xff] {
        offers.push((Msat(50_000_000), expiry, wire::OnionPacket(Box::new([byte; 1366]))));
    }
    each_comes_back(&mut t, offers);
}

#[test]
fn lnd_and_btcd_block_parsing_a_block_that_is_one_witness() {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.lock_in(&world);
    let before = total(&world);
    // A tapscript of nearly four million bytes, none of which is executed.
    let mut script = Builder::new().push_opcode(op::OP_PUSHBYTES_0).push_opcode(op::OP_IF);
    let most = <&bitcoin::script::PushBytes>::try_from(&[0x51u8; 520][..]).unwrap();
    for _ in 0..7_500 {
        script = script.push_slice(most);
    }
    let script = script.push_opcode(op::OP_ENDIF).push_opcode(op::OP_PUSHNUM_1).into_script();
    let inner = UntweakedPublicKey::from(miner_key().public_key(SECP256K1));
    let tree = TaprootBuilder::new().add_leaf(0, script.clone()).unwrap();
    let tree = tree.finalize(SECP256K1, inner).unwrap();
    let control = tree.control_block(&(script.clone(), LeafVersion::TapScript)).unwrap();
    let (tweaked, _) = inner.tap_tweak(SECP256K1, tree.merkle_root());
    let to = ScriptBuf::new_p2tr_tweaked(tweaked);
    let first = world.pay(&[(to, Amount::from_sat(5_000_000))]);
    world.mine_only(&[&first]);
    let spend = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: first.compute_txid(), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[script.to_bytes(), control.serialize()]),
        }],
        output: vec![TxOut { value: Amount::from_sat(1_000), script_pubkey: miner_script() }],
    };
    assert!(spend.weight().to_wu() > 3_900_000);
    world.mine_only(&[&spend]);
    world.stays_modest();
    // The chain is followed: what comes after it is seen.
    live.stranger.hang_up();
    world.mine_only(&[&live.commitment(live.newest())]);
    world.resolve(&live.name());
    world.mine(1);
    assert!(total(&world) + 1_000 > before);
}

/// Terms that may be refused. If they are not, the channel works.
type Terms = fn(&mut Plan);

/// Terms that the node accepts give a channel that opens, and that closes again.
#[test]
fn openings_with_extreme_terms_open_and_close() {
    let changes: [Terms; 10] = [
        |p| p.terms.max_in_flight = Msat(u64::MAX),
        |p| p.terms.max_in_flight = Msat(1),
        |p| p.terms.htlc_minimum = Msat(500_000_000),
        |p| p.terms.to_self_delay = 0,
        |p| p.terms.to_self_delay = 60,
        |p| p.terms.max_accepted_htlcs = 1,
        |p| p.terms.reserve = Sat(300_000),
        |p| p.terms.reserve = Sat(354),
        |p| p.push_msat = 0,
        |p| p.feerate = 253,
    ];
    let world = World::new();
    let mut opened = Vec::new();
    let mut height = 0;
    for (n, change) in (1u64..).zip(changes) {
        let mut plan = Plan::new(n);
        change(&mut plan);
        let mut stranger = Stranger::meet(n, &world);
        let temporary = ChannelId([n as u8; 32]);
        stranger.say(&plan.open_channel(temporary));
        let answer = stranger.line().hear().expect("the node answers");
        if answer[..2] != wire::AcceptChannel::NUMBER.to_be_bytes() {
            continue;
        }
        let accept = wire::AcceptChannel::take_body(&answer[2..]).unwrap();
        let mut draft = stranger.drafted(plan, temporary, &accept);
        let tx = world.pay(&[draft.output()]);
        draft.create(OutPoint { txid: tx.compute_txid(), vout: 0 });
        let mut live = draft.signed();
        world.send(&tx);
        live.lock_in(&world);
        opened.push(live);
        height = world.height();
    }
    assert!(opened.len() >= 5 && height > 0, "{}", opened.len());
    let before = total(&world);
    crate::signatures::finish(&world, &opened);
    world.mine(1);
    assert!(total(&world) + 1_000 * opened.len() as u64 > before);
}

/// The same where the node opens.
type Answer = fn(&mut wire::AcceptChannel);

/// The node funds a channel on each set of terms that a stranger may answer with.
#[test]
fn accepters_with_extreme_terms_leave_the_node_its_money() {
    let changes: [Answer; 14] = [
        |m| m.minimum_depth = 0,
        |m| m.minimum_depth = u32::MAX,
        |m| m.max_htlc_value_in_flight_msat = Msat(u64::MAX),
        |m| m.max_htlc_value_in_flight_msat = Msat(0),
        |m| m.htlc_minimum_msat = Msat(u64::MAX),
        |m| m.to_self_delay = 0,
        |m| m.to_self_delay = u16::MAX,
        |m| m.max_accepted_htlcs = 0,
        |m| m.max_accepted_htlcs = 484,
        |m| m.channel_reserve_satoshis = Sat(u64::MAX),
        |m| m.channel_reserve_satoshis = Sat(499_999),
        |m| m.dust_limit_satoshis = Sat(u64::MAX),
        |m| m.temporary_channel_id = ChannelId([0xff; 32]),
        |m| m.channel_type = None,
    ];
    let world = World::new();
    let before = total(&world);
    let mut opened = Vec::new();
    for (n, change) in (1u64..).zip(changes) {
        let stranger = Stranger::meet(n, &world);
        let call = world.fund(&stranger);
        let mut draft = stranger.accept_but(Plan::new(n), change);
        match draft.line().hear() {
            Ok(message) if message[..2] == wire::FundingCreated::NUMBER.to_be_bytes() => {
                let created = wire::FundingCreated::take_body(&message[2..]).unwrap();
                draft.take_created(&created);
                opened.push(draft.sign(&created));
                call.wait().unwrap();
                world.mine(1);
            }
            // An answer to another proposal is none to this one, and it waits for as long as the
            // peer is there.
            _ => {
                if n == 13 {
                    draft.stranger.hang_up();
                }
                assert!(call.wait().is_err(), "{n}");
            }
        }
    }
    world.mine(3);
    for live in &opened {
        live_fails(&world, live);
    }
    world.mine(1);
    opened.iter().for_each(|live| world.resolve(&live.name()));
    world.mine(1);
    assert!(total(&world) + 3_000 * (1 + opened.len() as u64) > before);
}

fn live_fails(world: &World, live: &Live) {
    world.node.rpc("dev-fail", &serde_json::json!({"id": live.name()}));
    wait_close(world, live);
}

/// BOLT 2, "cltv_expiry_delta Selection". With a delta of 80 the node would fail the channel 40
/// blocks before the expiry of what it fulfils.
#[test]
fn final_htlc_past_its_fulfilment_deadline_fails_back() {
    let world = World::with(&["--cltv-delta=80"]);
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.lock_in(&world);
    let mut pays = |label: &str, cltv: Option<u32>, blocks: u32| {
        let mut asked =
            serde_json::json!({"amount_msat": 10_000_000, "label": label, "description": label});
        asked["cltv"] = cltv.into();
        let made = world.node.rpc("invoice", &asked);
        let hash = made["payment_hash"].as_str().unwrap().parse().unwrap();
        let secret: ChannelId = made["payment_secret"].as_str().unwrap().parse().unwrap();
        let (amount, expiry) = (Msat(10_000_000), BlockHeight(world.height() + blocks));
        let end = Onion { amount, expiry, secret: PaymentSecret(secret.0), total: amount };
        let id = live.add(amount, hash, expiry, onion_to(world.node_point(), &end, &hash));
        live.settle_without_ours();
        world.mine(1);
        live.preimages.iter().any(|(i, _)| *i == id)
    };
    for blocks in [5, 6, 39, 40] {
        assert!(!pays(&format!("late {blocks}"), Some(5), blocks), "{blocks}");
    }
    assert!(pays("in time", Some(5), 41));
    // What the node asks for by itself leaves time enough.
    let made = serde_json::json!({"amount_msat": 1, "label": "its own", "description": ""});
    let bolt11 = world.node.rpc("invoice", &made)["bolt11"].clone();
    let decoded = world.node.rpc("decode", &serde_json::json!([bolt11]));
    assert_eq!(decoded["min_final_cltv_expiry"], 41);
    assert_eq!(world.node.channel(&live.name())["state"], "CHANNELD_NORMAL");
}

/// BOLT 2, channel_ready: it comes again with another alias, which the node uses from then on; an
/// equal one changes nothing.
#[test]
fn channel_ready_with_another_alias_is_kept() {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.lock_in(&world);
    let before = total(&world);
    let mut ready = wire::ChannelReady {
        channel_id: live.id,
        second_per_commitment_point: live.keys.commitment_point(1),
        short_channel_id: None,
    };
    live.say(&ready);
    for alias in [0x0b00_0001_0002_0003, 0x0b00_0004_0005_0006, 0x0b00_0004_0005_0006] {
        ready.short_channel_id = Some(ShortChannelId(alias));
        live.say(&ready);
    }
    let last = ready.short_channel_id.unwrap().to_string();
    let is_kept = |world: &World, live: &Live| {
        tests::wait_for("the alias", || {
            let channel = world.node.channel(&live.name());
            (channel["alias"]["remote"] == last.as_str()).then_some(())
        });
    };
    is_kept(&world, &live);
    world.node.kill();
    world.node.start_again();
    is_kept(&world, &live);
    live.reconnect(&world);
    world.node.wait_normal(&live.name());
    let id = node_pays(&world, &mut live, 10_000_000, preimage(1).hash(), 24, 1);
    live.fail(id);
    live.settle();
    assert_eq!(total(&world), before);
}

/// BOLT 7, channel_update: htlc_maximum_msat is not above what the peer lets be in flight.
#[test]
fn htlc_maximum_msat_is_at_most_the_peers_max_in_flight() {
    let world = World::new();
    let mut plan = Plan::new(1);
    plan.terms.max_in_flight = Msat(300_000_000);
    let mut live = Stranger::meet(1, &world).open(&world, plan);
    live.lock_in(&world);
    let maximum = || {
        let channel = world.node.channel(&live.name());
        channel["updates"]["local"]["htlc_maximum_msat"].as_u64().unwrap()
    };
    assert_eq!(maximum(), 300_000_000);
    world.node.rpc("setchannel", &json!({"id": live.name(), "htlcmax": 900_000_000u64}));
    assert_eq!(maximum(), 300_000_000);
    world.node.rpc("setchannel", &json!({"id": live.name(), "htlcmax": 200_000_000u64}));
    assert_eq!(maximum(), 200_000_000);
}
