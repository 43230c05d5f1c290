//! Messages out of order, twice, or made up, in every state of a channel: each costs its sender's
//! channel at most.

use crate::scenes::*;
use crate::signatures::wrong;
use bitcoin::hashes::Hash;
use primitives::*;
use serde_json::json;
use std::time::Duration;
use tests::stranger::*;
use tests::wait_for;
use wire::*;

/// What a stranger says where nobody waits for it.
pub type Say = fn(&Live) -> Vec<u8>;

fn onion() -> OnionPacket {
    OnionPacket(Box::new([7; 1366]))
}
fn add_htlc(live: &Live, id: u64, msat: u64, expiry: u32) -> Vec<u8> {
    UpdateAddHtlc {
        channel_id: live.id,
        id: HtlcId(id),
        amount: Msat(msat),
        payment_hash: preimage(77).hash(),
        cltv_expiry: BlockHeight(expiry),
        onion: onion(),
        path_key: None,
    }
    .encode()
}
fn fulfil(live: &Live, id: u64, preimage: Preimage) -> Vec<u8> {
    let channel_id = live.id;
    UpdateFulfillHtlc { channel_id, id: HtlcId(id), preimage, attribution_data: None }.encode()
}
fn fail(live: &Live, id: u64) -> Vec<u8> {
    let (channel_id, reason) = (live.id, vec![1; 292]);
    UpdateFailHtlc { channel_id, id: HtlcId(id), reason, attribution_data: None }.encode()
}
fn malformed(live: &Live, id: u64, failure_code: u16) -> Vec<u8> {
    let sha256_of_onion = Sha256Digest([3; 32]);
    UpdateFailMalformedHtlc { channel_id: live.id, id: HtlcId(id), sha256_of_onion, failure_code }
        .encode()
}
fn feerate(live: &Live, feerate: u32) -> Vec<u8> {
    UpdateFee { channel_id: live.id, feerate: FeeratePerKw(feerate) }.encode()
}
fn committed(live: &Live, signature: Signature, htlc_signatures: Vec<Signature>) -> Vec<u8> {
    CommitmentSigned { channel_id: live.id, signature, htlc_signatures, funding_txid: None }
        .encode()
}
fn revoked(live: &Live, per_commitment_secret: SecretKey, next: u64) -> Vec<u8> {
    let next_per_commitment_point = live.keys.commitment_point(next);
    RevokeAndAck { channel_id: live.id, per_commitment_secret, next_per_commitment_point }.encode()
}
fn ready(live: &Live, n: u64) -> Vec<u8> {
    ChannelReady {
        channel_id: live.id,
        second_per_commitment_point: live.keys.commitment_point(n),
        short_channel_id: Some(ShortChannelId(n.wrapping_sub(2))),
    }
    .encode()
}
fn shutdown(live: &Live, scriptpubkey: ScriptBuf) -> Vec<u8> {
    Shutdown { channel_id: live.id, scriptpubkey }.encode()
}

const SAID: [(&str, Say); 37] = [
    ("channel_ready", |l| ready(l, 1)),
    ("channel_ready with another point", |l| ready(l, 9)),
    ("shutdown", |l| shutdown(l, miner_script())),
    ("shutdown to no script", |l| shutdown(l, ScriptBuf::new())),
    ("shutdown to a script of another form", |l| shutdown(l, ScriptBuf::from(vec![0x51; 34]))),
    ("closing_signed", |l| {
        let channel_id = l.id;
        let (fee_satoshis, signature) = (Sat(500), wrong());
        ClosingSigned { channel_id, fee_satoshis, signature, fee_range: None }.encode()
    }),
    ("an HTLC whose id was skipped", |l| add_htlc(l, 9, 20_000_000, 200)),
    ("an HTLC again", |l| add_htlc(l, 0, 100_000_000, 160)),
    ("an HTLC of nothing", |l| add_htlc(l, 1, 0, 200)),
    ("an HTLC of all money", |l| add_htlc(l, 1, u64::MAX, 200)),
    ("an HTLC until a date", |l| add_htlc(l, 1, 20_000_000, 500_000_000)),
    ("an HTLC for ever", |l| add_htlc(l, 1, 20_000_000, u32::MAX)),
    ("fulfilled what is not", |l| fulfil(l, 99, preimage(1))),
    ("fulfilled with a wrong preimage", |l| fulfil(l, 0, Preimage([0xee; 32]))),
    ("fulfilled", |l| fulfil(l, 0, preimage(1))),
    ("failed what is not", |l| fail(l, u64::MAX)),
    ("failed", |l| fail(l, 0)),
    ("malformed", |l| malformed(l, 0, 0x8005)),
    ("malformed and not so", |l| malformed(l, 0, 5)),
    ("no fee", |l| feerate(l, 0)),
    ("all fee", |l| feerate(l, u32::MAX)),
    ("a commitment of nothing new", |l| committed(l, wrong(), vec![])),
    ("the last commitment again", |l| {
        let last = l.sign(l.theirs.last().unwrap());
        committed(l, last.signature, last.htlcs)
    }),
    ("a commitment with too many signatures", |l| committed(l, wrong(), vec![wrong(); 483])),
    ("a revocation that is not due", |l| revoked(l, l.keys.secret(l.newest()), l.newest() + 2)),
    ("an old revocation again", |l| revoked(l, l.keys.secret(0), 2)),
    ("a revocation of something else", |l| revoked(l, key(3), 1)),
    ("channel_reestablish", |l| l.reestablish_message().encode()),
    ("funding_signed", |l| FundingSigned { channel_id: l.id, signature: wrong() }.encode()),
    ("funding_created", |l| {
        FundingCreated {
            temporary_channel_id: l.id,
            funding_txid: bitcoin::Txid::all_zeros(),
            funding_output_index: 0,
            signature: wrong(),
        }
        .encode()
    }),
    ("announcement_signatures", |l| {
        AnnouncementSignatures {
            channel_id: l.id,
            short_channel_id: ShortChannelId(u64::MAX),
            node_signature: wrong(),
            bitcoin_signature: wrong(),
        }
        .encode()
    }),
    ("stfu", |l| Stfu { channel_id: l.id, initiator: 1 }.encode()),
    ("tx_abort", |l| TxAbort { channel_id: l.id, data: vec![0; 60_000] }.encode()),
    ("a batch of none", |l| {
        StartBatch { channel_id: l.id, batch_size: 0, message_type: Some(132) }.encode()
    }),
    ("a batch of very many", |l| {
        StartBatch { channel_id: l.id, batch_size: u16::MAX, message_type: Some(132) }.encode()
    }),
    ("half a message", |l| add_htlc(l, 1, 1_000_000, 200)[..700].to_vec()),
    ("a warning, and then an error", |l| Error::new(l.id, "\u{202e}\0 so be it").encode()),
];

/// What the node has of a channel by [`Plan::new`], whose opener pays every fee of a commitment.
const NODES_SAT: u64 = 400_000;

/// Brings a channel that can carry payments to where something is said that should not be.
pub type Reach = fn(&World, &mut Live);

fn in_state(from: u64, is_ready: bool, reach: Reach) {
    everything_said(from, is_ready, reach, &SAID);
}

/// In this state, each of these on a channel of its own.
pub fn everything_said(from: u64, is_ready: bool, reach: Reach, said: &[(&str, Say)]) {
    let world = World::new();
    let mut lives: Vec<Live> = Vec::new();
    for n in 0..said.len() as u64 {
        lives.push(Stranger::meet(from + n, &world).open(&world, Plan::new(from + n)));
    }
    world.mine(3);
    if is_ready {
        for live in &mut lives {
            live.ready();
        }
        lives.iter().for_each(|l| world.node.wait_normal(&l.name()));
    }
    let (before, height) = (total(&world), world.height());
    for (live, (what, say)) in lives.iter_mut().zip(said) {
        reach(&world, live);
        let bytes = say(live);
        if what.starts_with("a warning") {
            let warning = Warning::new(live.id, &"w".repeat(60_000));
            live.say(&warning);
        }
        // Twice, where it did not end there.
        live.line().say_raw(&bytes);
        live.line().say_raw(&bytes);
        let _ = live.line().next_within(Duration::from_millis(60));
    }
    end_all(&world, &mut lives);
    world.stays_modest();
    count(&world, &lives, said, before, height);
}

/// The node has of each channel what it had of it before, to the satoshi: an HTLC that it offered
/// came back, and it took none that was offered to it, for nobody showed or asked for a preimage.
/// Fees are all that it paid, and they are few.
fn count(world: &World, lives: &[Live], said: &[(&str, Say)], before: u64, height: u32) {
    let mined = world.mined_since(height);
    let (mut fees, mut anchors) = (0, 0);
    for (live, (what, _)) in lives.iter().zip(said) {
        let spends = |o: &bitcoin::OutPoint| {
            mined.iter().find(|(tx, _)| tx.input.iter().any(|i| i.previous_output == *o))
        };
        let (commitment, _) = spends(&live.funding).expect("the channel is on chain");
        let txid = commitment.compute_txid();
        let (mut taken, mut own) = (0, 0);
        for (vout, output) in (0u32..).zip(&commitment.output) {
            // The stranger takes nothing: who does is the node. Anchors are the opener's gift.
            if spends(&bitcoin::OutPoint { txid, vout }).is_some() {
                match output.value.to_sat() {
                    330 => own += 330,
                    value => taken += value,
                }
            }
        }
        assert_eq!(taken, NODES_SAT, "{what}: what the node has of {commitment:#?}");
        anchors += own;
    }
    for (tx, fee) in &mined {
        // The opener pays for commitments, and the openers are strangers.
        let commitment = lives.iter().any(|l| tx.input[0].previous_output == l.funding);
        fees += if commitment { 0 } else { fee.to_sat() };
    }
    assert!(fees < 3_000 * lives.len() as u64, "{fees} of fees");
    assert_eq!(total(world), before + anchors - fees, "coins, beside what the chain shows");
}

/// Whatever is still open goes to the chain; everything is resolved there, and each party takes
/// what is its own.
fn end_all(world: &World, lives: &mut [Live]) {
    for live in lives.iter_mut() {
        live.stranger.hang_up();
        // It may have failed meanwhile, or be closed in harmony.
        let _ = world.node.call("dev-fail", &json!({"id": live.name()}));
    }
    for live in lives.iter() {
        wait_for("the channel to be closed", || {
            let spent = world.spend_in_mempool(live.funding).is_some();
            let gone = world.node.channel(&live.name())["state"] == "ONCHAIN";
            (spent || gone).then_some(())
        });
    }
    world.mine(1);
    for live in lives.iter() {
        world.node.wait_state(&live.name(), "ONCHAIN");
        if !world.node.channel(&live.name())["onchain_outputs"].is_null() {
            world.resolve(&live.name());
        }
    }
    world.mine(2);
}

/// A part of a payment for the node, held by it.
pub fn held(world: &World, live: &mut Live) {
    Held::new(world, &live.name()).add(world, live, 100_000_000, 24);
}

#[test]
fn disorder_before_channel_ready() {
    in_state(1000, false, |_, _| {});
}
#[test]
fn disorder_in_a_channel_at_rest() {
    in_state(1100, true, |_, _| {});
}
#[test]
fn disorder_after_an_htlc_without_its_commitment() {
    in_state(1200, true, held);
}
#[test]
fn disorder_after_an_unanswered_commitment_of_the_node() {
    in_state(1300, true, |world, live| {
        held(world, live);
        live.commit();
        live.hear_commit();
    });
}
#[test]
fn disorder_while_an_htlc_is_held() {
    in_state(1400, true, |world, live| {
        held(world, live);
        live.settle();
    });
}
#[test]
fn disorder_while_an_htlc_of_the_node_is_held() {
    in_state(1500, true, |world, live| {
        // Its preimage is nobody's.
        node_pays(world, live, 100_000_000, PaymentHash(live.id.0), 24, 1);
    });
}
#[test]
fn disorder_after_shutdown() {
    in_state(1600, true, |world, live| {
        held(world, live);
        live.settle();
        live.say(&Shutdown { channel_id: live.id, scriptpubkey: miner_script() });
        live.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
    });
}
#[test]
fn disorder_in_the_negotiation_of_a_closing() {
    in_state(1700, true, |_, live| {
        live.say(&Shutdown { channel_id: live.id, scriptpubkey: miner_script() });
        live.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
    });
}
#[test]
fn disorder_before_channel_reestablish() {
    in_state(1800, true, |world, live| {
        held(world, live);
        live.settle();
        live.stranger.dial(world);
    });
}
#[test]
fn disorder_in_a_channel_that_failed() {
    in_state(1900, true, |world, live| {
        held(world, live);
        live.settle();
        world.node.rpc("dev-fail", &json!({"id": live.name()}));
        live.stranger.dial(world);
    });
}
