//! Openings by strangers: fundings that are none, words that make no sense, silence, and crowds.

use crate::scenes::*;
use crate::signatures::{high_s, replaced, wrong};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint};
use primitives::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::stranger::*;
use tests::wait_for;
use wire::{
    AcceptChannel, ChannelReady, Error, FundingCreated, FundingSigned, Message, OpenChannel, Rest,
};

fn list(world: &World) -> Vec<Value> {
    world.node.rpc("listpeerchannels", &json!({}))["channels"].as_array().unwrap().clone()
}

/// An honest stranger still gets a channel, and the node can pay over it.
fn still_works(world: &World, n: u64) {
    let mut live = Stranger::meet(n, world).open(world, Plan::new(n));
    live.lock_in(world);
}

#[test]
fn cve_2019_12998_funding_output_is_verified() {
    let world = World::new();
    let sat = Amount::from_sat;
    for (n, lie) in (1u64..).zip(["less", "more", "script", "other output", "no output"]) {
        let mut draft = Stranger::meet(n, &world).propose(Plan::new(n));
        let (script, amount) = draft.output();
        let output = match lie {
            "less" => (script, amount - sat(1)),
            "more" => (script, amount + sat(1)),
            "script" => (miner_script(), amount),
            _ => (script, amount),
        };
        let tx = world.pay(&[output]);
        let vout = match lie {
            "other output" => 1,
            "no output" => 7,
            _ => 0,
        };
        draft.create(OutPoint { txid: tx.compute_txid(), vout });
        let mut live = draft.signed();
        world.send(&tx);
        live.say(&ChannelReady {
            channel_id: live.id,
            second_per_commitment_point: live.keys.commitment_point(1),
            short_channel_id: None,
        });
        world.mine(1);
        let told: Error = live.line().expect();
        assert!(told.text().contains("not what was agreed"), "{lie}: {}", told.text());
        assert_eq!(world.node.channel(&live.name()), Value::Null, "{lie}");
        assert!(live.line().next_within(Duration::from_millis(50)).is_ok_and(|m| m.is_none()));
    }
    assert_eq!(list(&world).len(), 0);
    still_works(&world, 50);
}

#[test]
fn cve_2019_12998_double_spent_funding_is_never_ready() {
    let world = World::new();
    let coin = world.coin();
    let mut draft = Stranger::meet(1, &world).propose(Plan::new(1));
    let tx = world.pay_from(coin, &[draft.output()]);
    draft.create(OutPoint { txid: tx.compute_txid(), vout: 0 });
    let mut live = draft.signed();
    let other = world.pay_from(coin, &[(miner_script(), Amount::from_sat(5_000))]);
    world.send(&other);
    world.mine(20);
    let channel = world.node.channel(&live.name());
    assert_eq!(channel["state"], "CHANNELD_AWAITING_LOCKIN");
    assert_eq!(live.line().next_within(Duration::from_millis(50)), Ok(None));
    // The chain changes its mind: the funding is there after all, and then it is not.
    let hash = world.bitcoind.rpc("getblockhash", &json!([world.height() - 19]));
    world.bitcoind.rpc("invalidateblock", &json!([hash]));
    world.bitcoind.rpc(
        "generateblock",
        &json!([
            "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk",
            [bitcoin::consensus::encode::serialize_hex(&tx)]
        ]),
    );
    world.mine(20);
    live.ready();
    world.node.wait_normal(&live.name());
}

#[test]
fn cln_duplicate_funding_outpoint() {
    let world = World::new();
    let mut first = Stranger::meet(1, &world).open(&world, Plan::new(1));
    first.lock_in(&world);
    for n in [2, 3] {
        let mut draft = Stranger::meet(n, &world).propose(Plan::new(n));
        draft.create(first.funding);
        let text = draft.line().end();
        assert!(!text.contains(&first.stranger.id()), "{text}");
        let of: Vec<Value> = list(&world);
        assert_eq!(of.len(), 1, "{of:?}");
    }
    // The first is none the worse for it.
    assert_eq!(world.node.channel(&first.name())["state"], "CHANNELD_NORMAL");
    let before = total(&world);
    world.node.rpc("dev-fail", &json!({"id": first.name()}));
    wait_close(&world, &first);
    world.mine(1);
    world.resolve(&first.name());
    assert!(total(&world) + FEES > before);
    // Nor is its outpoint free once it is closed.
    let mut draft = Stranger::meet(4, &world).propose(Plan::new(4));
    draft.create(first.funding);
    draft.line().end();
    assert!(list(&world).iter().all(|c| c["peer_id"] != draft.stranger.id().as_str()));
}

#[test]
fn eclair_channel_id_collision() {
    let world = World::new();
    let mut first = Stranger::meet(1, &world).open(&world, Plan::new(1));
    first.lock_in(&world);
    // Another outpoint with the same channel id: what is xored into the txid is the output's
    // number.
    let mut txid = first.funding.txid.to_byte_array();
    txid[31] ^= 1 ^ first.funding.vout as u8;
    let same = OutPoint { txid: bitcoin::Txid::from_byte_array(txid), vout: 1 };
    let both = [ChannelId::from_funding(&same), ChannelId::from_funding(&first.funding)];
    assert_eq!(both[0], both[1]);
    // Another peer's, and the same peer's, on the connection of the channel itself.
    let mut draft = Stranger::meet(2, &world).propose(Plan::new(2));
    draft.create(same);
    draft.line().end();
    first.reconnect(&world);
    first.hear_until(|m| matches!(m, wire::ChannelMessage::ChannelReady(_)));
    let mut draft = first.stranger.propose(Plan::new(3));
    draft.create(same);
    draft.line().end();
    // An attempt under the id of a channel, on the same connection.
    let mut stranger = Stranger::meet(1, &world);
    stranger.say(&Plan::new(4).open_channel(first.id));
    let answer = stranger.line().hear().unwrap_or_default();
    assert_ne!(answer.get(..2), Some(&AcceptChannel::NUMBER.to_be_bytes()[..]));
    drop(answer);
    first.stranger = stranger;
    wait_for("the attempts to be gone", || {
        let channels = list(&world);
        (channels.len() == 1 && channels[0]["state"] == "CHANNELD_NORMAL").then_some(())
    });
    first.reconnect(&world);
    world.node.wait_normal(&first.name());
}

/// A way to break an `open_channel`.
type Change = fn(&mut OpenChannel);

/// Each field of `open_channel` at values that no node may accept.
const OPEN_CHANNEL_EXTREMES: [Change; 28] = [
    |m| m.chain_hash = [0; 32],
    |m| m.chain_hash = [0xff; 32],
    |m| m.temporary_channel_id = ChannelId([0; 32]),
    |m| m.funding_satoshis = Sat(0),
    |m| m.funding_satoshis = Sat(999),
    |m| m.funding_satoshis = Sat(u64::MAX),
    |m| m.push_msat = Msat(m.funding_satoshis.0 * 1000 + 1),
    |m| m.push_msat = Msat(m.funding_satoshis.0 * 1000),
    |m| m.push_msat = Msat(u64::MAX),
    |m| m.dust_limit_satoshis = Sat(0),
    |m| m.dust_limit_satoshis = Sat(353),
    |m| m.dust_limit_satoshis = Sat(1063),
    |m| m.dust_limit_satoshis = Sat::MAX_MONEY,
    |m| m.max_htlc_value_in_flight_msat = Msat(0),
    |m| m.channel_reserve_satoshis = Sat(0),
    |m| m.channel_reserve_satoshis = Sat::MAX_MONEY,
    |m| m.channel_reserve_satoshis = m.funding_satoshis,
    |m| m.htlc_minimum_msat = Msat(u64::MAX),
    |m| m.feerate_per_kw = FeeratePerKw(0),
    |m| m.feerate_per_kw = FeeratePerKw(u32::MAX),
    |m| m.to_self_delay = u16::MAX,
    |m| m.max_accepted_htlcs = 0,
    |m| m.max_accepted_htlcs = 484,
    |m| m.max_accepted_htlcs = u16::MAX,
    |m| m.channel_type = None,
    |m| m.channel_type = Some(Rest(vec![])),
    |m| m.channel_type = Some(Rest(vec![0xff; 300])),
    |m| m.upfront_shutdown_script = Some(Rest(vec![0x6a, 1, 1])),
];

/// Each field of `funding_created` at its ends.
const FUNDING_CREATED_EXTREMES: [fn(&mut FundingCreated); 5] = [
    |m| m.funding_txid = Hash::from_byte_array([0; 32]),
    |m| m.funding_txid = Hash::from_byte_array([0xff; 32]),
    |m| m.temporary_channel_id = ChannelId([0; 32]),
    |m| m.temporary_channel_id = ChannelId([0xff; 32]),
    |m| m.funding_output_index = u16::MAX,
];

#[test]
fn cln_zero_txid_assertion_and_other_fields_at_their_ends() {
    let world = World::new();
    for (n, change) in OPEN_CHANNEL_EXTREMES.iter().enumerate() {
        let plan = Plan::new(1);
        let mut open = plan.open_channel(ChannelId([n as u8 + 1; 32]));
        change(&mut open);
        let mut stranger = Stranger::meet(1, &world);
        stranger.line().say_raw(&open.encode());
        let answer = stranger.line().hear().unwrap_or_default();
        assert_ne!(
            answer.get(..2),
            Some(&AcceptChannel::NUMBER.to_be_bytes()[..]),
            "{n}: {open:?}"
        );
        assert!(!answer.is_empty(), "{n}: nothing was said to {open:?}");
    }
    for change in FUNDING_CREATED_EXTREMES {
        let mut draft = Stranger::meet(1, &world).propose(Plan::new(1));
        let mut created =
            draft.funding_created(OutPoint { txid: Hash::from_byte_array([7; 32]), vout: 0 });
        change(&mut created);
        draft.stranger.say(&created);
        let text = draft.line().end();
        assert!(!text.is_empty(), "nothing was said to {created:?}");
    }
    // Every message cut short, and one byte too long.
    let whole = Plan::new(1).open_channel(ChannelId([77; 32])).encode();
    for len in [2, 3, 34, 66, 100, 200, 319, 320] {
        let mut stranger = Stranger::meet(1, &world);
        stranger.line().say_raw(&whole[..len.min(whole.len() - 1)]);
        let _ = stranger.line().next_within(Duration::from_millis(20));
    }
    nothing_is_left(&world);
    still_works(&world, 50);
}

#[test]
fn cve_2020_26895_high_s_and_wrong_signatures_in_openings() {
    let world = World::new();
    let nowhere = OutPoint { txid: Hash::from_byte_array([7; 32]), vout: 0 };
    for what in 0..3 {
        // The stranger opens.
        let mut draft = Stranger::meet(1 + 2 * what, &world).propose(Plan::new(1));
        let good = draft.funding_created(nowhere);
        let bytes = match what {
            0 => replaced(&good, &good.signature, &high_s(&good.signature)),
            1 => FundingCreated { signature: wrong(), ..good }.encode(),
            _ => replaced(&good, &good.signature, &[0; 64]),
        };
        draft.line().say_raw(&bytes);
        assert!(!draft.line().end().is_empty());
        nothing_is_left(&world);
        // The node opens.
        // Another one: of the same the node may know the connection before.
        let stranger = Stranger::meet(2 + 2 * what, &world);
        let call = world.fund(&stranger);
        let mut draft = stranger.accept(Plan::new(2));
        draft.created();
        let good: FundingSigned = draft.funding_signed();
        let bytes = match what {
            0 => replaced(&good, &good.signature, &high_s(&good.signature)),
            1 => FundingSigned { signature: wrong(), ..good }.encode(),
            _ => replaced(&good, &good.signature, &[0; 64]),
        };
        draft.line().say_raw(&bytes);
        assert!(!draft.line().end().is_empty());
        assert!(call.wait().is_err());
        nothing_is_left(&world);
    }
}

/// No channel, no daemon, no coin reserved, nothing sent.
fn nothing_is_left(world: &World) {
    wait_for("the opening to be gone", || {
        (list(world).is_empty() && world.node.children("lightning_openingd").is_empty())
            .then_some(())
    });
    let funds = world.node.rpc("listfunds", &json!({}));
    assert!(funds["outputs"].as_array().unwrap().iter().all(|o| o["reserved"] == false));
    assert_eq!(world.bitcoind.rpc("getrawmempool", &json!([])), json!([]));
}

#[test]
fn peer_silent_at_each_step_of_an_opening_leaves_nothing_behind() {
    let world = World::new();
    let mut silent = Vec::new();
    // Not even a handshake; the handshake; init; a proposal; a funding.
    let address = ("127.0.0.1", world.node.port);
    let mute: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let bare = Connection::dial(&world.node, &key(31));
    silent.push(Stranger::meet(32, &world));
    let mut proposed = Stranger::meet(33, &world);
    proposed.say(&Plan::new(33).open_channel(ChannelId([33; 32])));
    let accepted = Stranger::meet(34, &world).propose(Plan::new(34));
    // The node proposes, and nobody answers; or answers, and then not.
    let deaf = Stranger::meet(35, &world);
    let one = world.fund(&deaf);
    let half = Stranger::meet(36, &world);
    let two = world.fund(&half);
    let mut half = half.accept(Plan::new(36));
    half.created();
    // All the while the node serves everybody else.
    let begun = Instant::now();
    still_works(&world, 50);
    assert!(begun.elapsed() < Duration::from_secs(20));
    // When they go, everything goes.
    drop((mute, bare, silent, proposed, accepted, deaf, half));
    assert!(one.wait().is_err() && two.wait().is_err());
    wait_for("the openings to be gone", || {
        let gone = world.node.children("lightning_openingd").is_empty();
        (gone && list(&world).len() == 1).then_some(())
    });
    let funds = world.node.rpc("listfunds", &json!({}));
    assert!(funds["outputs"].as_array().unwrap().iter().all(|o| o["reserved"] == false));
}

#[test]
fn our_opening_is_cancelled_while_the_peer_is_silent() {
    let world = World::new();
    let deaf = Stranger::meet(1, &world);
    let call = world.fund(&deaf);
    wait_for("the attempt", || {
        (world.node.children("lightning_openingd").len() == 1).then_some(())
    });
    wait_for("the cancelling", || world.node.call("fundchannel_cancel", &json!([deaf.id()])).ok());
    assert!(call.wait().is_err());
    nothing_is_left(&world);
}

/// Node ids of the flood of openings.
const IDS: u64 = 100;
/// Openings that each of them proposes.
const EACH: u64 = 100;

/// Opens channels whose funding is never broadcast, until the node refuses one or all of
/// [`EACH`] are open. Returns how many are.
fn open_until_refused(mut stranger: Stranger, id: u64) -> (Stranger, u64) {
    for left in (0..EACH).rev() {
        let plan = Plan::new(1000 + id * EACH + left);
        let temporary = ChannelId(key(left + id * EACH + (1 << 30)).secret_bytes());
        stranger.say(&plan.open_channel(temporary));
        let answer = stranger.line().hear().expect("the node stays on the line");
        if answer[..2] != AcceptChannel::NUMBER.to_be_bytes() {
            return (stranger, EACH - 1 - left);
        }
        let accept = AcceptChannel::take_body(&answer[2..]).unwrap();
        let txid = bitcoin::Txid::hash(&temporary.0);
        let mut draft = stranger.drafted(plan, temporary, &accept);
        draft.create(OutPoint { txid, vout: 0 });
        let _: FundingSigned = draft.line().expect();
        stranger = draft.stranger;
    }
    (stranger, EACH)
}

/// Proposes this many at once, and counts the errors that answer them: one for each, until the
/// node has told this peer often enough.
fn refusals_of(stranger: &mut Stranger, id: u64, proposals: u64) -> u64 {
    for n in 0..proposals {
        let plan = Plan::new(1);
        stranger.say(&plan.open_channel(ChannelId(key(n + id * EACH + (1 << 31)).secret_bytes())));
    }
    let mut refused = 0;
    let quiet = Duration::from_millis(20);
    while let Some(answer) = stranger.line().next_within(quiet).expect("the line holds") {
        // Or one that goes no further: what all strangers may begin has grown meanwhile.
        let is_error = answer[..2] == Error::NUMBER.to_be_bytes();
        assert!(is_error || answer[..2] == AcceptChannel::NUMBER.to_be_bytes());
        refused += u64::from(is_error);
    }
    refused
}

#[test]
fn fake_channels_dos_ten_thousand_opens_never_funded() {
    let world = World::new();
    let before = world.node.rpc("getinfo", &json!({}));
    let begun = Instant::now();
    let (mut opened, mut refused) = (0u64, 0u64);
    let mut crowd = Vec::new();
    for id in 0..IDS {
        let (mut stranger, accepted) = open_until_refused(Stranger::meet(1000 + id, &world), id);
        opened += accepted;
        // The one that was refused, and the rest at once.
        refused += u64::from(accepted < EACH);
        refused += refusals_of(&mut stranger, id, EACH.saturating_sub(accepted + 1));
        crowd.push(stranger);
    }
    eprintln!("{opened} opened, {refused} refused in {:?}", begun.elapsed());
    assert!(opened + refused <= IDS * EACH);
    // At its worst, not only once it is over: all of them are connected.
    world.stays_modest();
    // Ten at once, then one a second: what all strangers together may begin.
    assert!(opened <= 11 + begun.elapsed().as_secs(), "{opened}");
    assert!(begun.elapsed() < Duration::from_secs(60));
    let channels = list(&world);
    let channels = channels.iter().filter(|c| c["state"] == "CHANNELD_AWAITING_LOCKIN");
    assert_eq!(channels.count() as u64, opened);
    // The node itself may still open, and once the crowd is gone it costs no process.
    let stranger = Stranger::meet(1, &world);
    let call = world.fund(&stranger);
    let mut draft = stranger.accept(Plan::new(2));
    let created = draft.created();
    let _ours = draft.sign(&created);
    call.wait().unwrap();
    drop(crowd);
    wait_for("their daemons to end", || {
        (world.node.children("lightning_channeld").len() <= 1).then_some(())
    });
    assert_eq!(world.node.rpc("getinfo", &json!({}))["id"], before["id"]);
}

#[test]
fn cln_channel_open_race_with_a_storm_of_reconnects() {
    let world = World::new();
    for round in 0..40u64 {
        let who = round / 8;
        let mut stranger = Stranger::meet(1 + who, &world);
        let plan = Plan::new(100 + round);
        let temporary = ChannelId(key(round + (1 << 32)).secret_bytes());
        match round % 4 {
            // Gone at once, before the answer, after it, after the funding.
            0 => {}
            1 => stranger.say(&plan.open_channel(temporary)),
            half => {
                stranger.say(&plan.open_channel(temporary));
                // An error, where the last attempt is not quite gone.
                let answer = stranger.line().hear().expect("the node answers");
                if half == 2 || answer[..2] != AcceptChannel::NUMBER.to_be_bytes() {
                    continue;
                }
                let accept = AcceptChannel::take_body(&answer[2..]).unwrap();
                let mut draft = stranger.drafted(plan, temporary, &accept);
                let txid = bitcoin::Txid::hash(&temporary.0);
                draft.create(OutPoint { txid, vout: 0 });
                if round % 8 == 3 {
                    let _ = draft.line().next_within(Duration::from_millis(5));
                }
            }
        }
    }
    assert!(list(&world).len() <= 20);
    still_works(&world, 50);
}

/// Opens a channel whose funding is a lie, says that it never minded, and leaves; its name, or why
/// the node refused it.
fn given_up(world: &World, (who, n): (u64, u64)) -> Result<String, String> {
    let mut stranger = Stranger::meet(who, world);
    let plan = Plan::new(n);
    let temporary = ChannelId(key(n).secret_bytes());
    let accept = stranger.propose_once(&plan, temporary)?;
    let mut draft = stranger.drafted(plan, temporary, &accept);
    draft.create(OutPoint { txid: bitcoin::Txid::hash(&temporary.0), vout: 0 });
    let mut live = draft.signed();
    let never_mind = Error::new(live.id, "never mind");
    live.say(&never_mind);
    world.node.wait_state(&live.name(), "AWAITING_UNILATERAL");
    live.stranger.hang_up();
    Ok(live.name())
}

/// To give a channel up before its funding makes no room for another.
#[test]
fn ldk_monitor_bloat_given_up_channel_still_counts_to_the_limit() {
    let world = World::new();
    for n in 3000..3004 {
        given_up(&world, (3000, n)).unwrap();
    }
    let refused = given_up(&world, (3000, 3004)).unwrap_err();
    assert!(refused.contains("wait for their funding"), "{refused}");
    assert_eq!(list(&world).len(), 4);
    world.stays_modest();
}

#[test]
fn ldk_monitor_bloat_given_up_channel_is_forgotten_in_time() {
    let world = World::new();
    let name = given_up(&world, (3000, 3000)).unwrap();
    for _ in 0..10 {
        world.mine(201);
    }
    assert_eq!(list(&world).len(), 1);
    world.mine(12);
    wait_for("it to be forgotten", || world.node.channel(&name).is_null().then_some(()));
    still_works(&world, 60);
}
