//! Signatures that do not hold, and such that nobody relays.

use crate::scenes::*;
use primitives::*;
use tests::stranger::*;
use wire::{AnnouncementSignatures, ClosingSigned, CommitmentSigned, Message, Shutdown};

/// The same signature with the high S: it holds, and nobody relays it.
pub fn high_s(signature: &Signature) -> [u8; 64] {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
        0x41, 0x41,
    ];
    let mut bytes = signature.serialize_compact();
    let mut borrow = 0i16;
    for at in (0..32).rev() {
        let left = i16::from(ORDER[at]) - i16::from(bytes[32 + at]) - borrow;
        borrow = i16::from(left < 0);
        bytes[32 + at] = (left + 256 * borrow) as u8;
    }
    bytes
}

/// A signature of somebody else's.
pub fn wrong() -> Signature {
    sign_anything()
}

/// This message with these bytes in the place of that signature.
pub fn replaced(message: &impl Message, old: &Signature, new: &[u8; 64]) -> Vec<u8> {
    let (mut bytes, old) = (message.encode(), old.serialize_compact());
    let at = bytes.windows(64).position(|w| w == old).expect("the signature is in it");
    bytes[at..at + 64].copy_from_slice(new);
    bytes
}

/// A way to break a `commitment_signed` with one HTLC in it.
type Break = fn(&CommitmentSigned) -> Vec<u8>;

#[test]
fn cve_2020_26895_high_s_and_wrong_signatures_on_commitments() {
    let breaks: [(&str, Break); 7] = [
        ("high S", |m| replaced(m, &m.signature, &high_s(&m.signature))),
        ("wrong", |m| CommitmentSigned { signature: wrong(), ..m.clone() }.encode()),
        ("out of range", |m| replaced(m, &m.signature, &[0xff; 64])),
        ("high S of the HTLC", |m| {
            replaced(m, &m.htlc_signatures[0], &high_s(&m.htlc_signatures[0]))
        }),
        ("wrong of the HTLC", |m| {
            CommitmentSigned { htlc_signatures: vec![wrong()], ..m.clone() }.encode()
        }),
        ("none of the HTLC", |m| {
            CommitmentSigned { htlc_signatures: vec![], ..m.clone() }.encode()
        }),
        ("two of the HTLC", |m| {
            let one = m.htlc_signatures[0];
            CommitmentSigned { htlc_signatures: vec![one, one], ..m.clone() }.encode()
        }),
    ];
    let world = World::new();
    let mut lives: Vec<Live> =
        (0..7).map(|n| Stranger::meet(200 + n, &world).open(&world, Plan::new(200 + n))).collect();
    world.mine(3);
    let before = total(&world);
    for (live, (what, broken)) in lives.iter_mut().zip(breaks) {
        live.ready();
        let hash = preimage(1).hash();
        let height = BlockHeight(world.height() + 40);
        let end = Onion {
            amount: Msat(100_000_000),
            expiry: height,
            secret: PaymentSecret([9; 32]),
            total: Msat(100_000_000),
        };
        let onion = onion_to(world.node_point(), &end, &hash);
        live.add(Msat(100_000_000), hash, height, onion);
        let message = live.commitment_signed();
        live.line().say_raw(&broken(&message));
        let text = live.end();
        assert!(!text.is_empty(), "{what}");
        // BOLT 1, error: an invalid signature is shown the transaction that it should be for.
        if matches!(what, "wrong" | "wrong of the HTLC") {
            let tx = live.built(live.theirs.last().expect("it is signed")).tx;
            let raw = bitcoin::consensus::encode::serialize_hex(&tx);
            assert!(text.contains(&raw), "{what}: {text}");
        }
    }
    // Whatever the node made of it: what it has is what it had.
    finish(&world, &lives);
    let after = total(&world);
    assert!(after + FEES > before, "before {before}, after {after}");
}

/// Channels that are over go to the chain, and are resolved there.
pub fn finish(world: &World, lives: &[Live]) {
    for live in lives {
        let state = world.node.channel(&live.name())["state"].clone();
        if state == "CHANNELD_NORMAL" {
            world.node.rpc("dev-fail", &serde_json::json!({"id": live.name()}));
        }
        wait_close(world, live);
    }
    world.mine(1);
    for live in lives {
        world.resolve(&live.name());
    }
}

#[test]
fn cve_2020_26895_high_s_and_wrong_signatures_on_closings() {
    let world = World::new();
    for (n, what) in (0u64..).zip(["high S", "wrong", "out of range"]) {
        let mut live = Stranger::meet(300 + n, &world).open(&world, Plan::new(300 + n));
        live.lock_in(&world);
        let before = total(&world);
        let id = live.id;
        live.say(&Shutdown { channel_id: id, scriptpubkey: miner_script() });
        let theirs = live.hear_until(|m| matches!(m, wire::ChannelMessage::Shutdown(_)));
        let wire::ChannelMessage::Shutdown(theirs) = theirs else { unreachable!() };
        let good = live.closing_signed(&theirs.scriptpubkey, miner_script(), 1000);
        let bytes = match what {
            "high S" => replaced(&good, &good.signature, &high_s(&good.signature)),
            "wrong" => ClosingSigned { signature: wrong(), ..good }.encode(),
            _ => replaced(&good, &good.signature, &[0xff; 64]),
        };
        live.line().say_raw(&bytes);
        let text = live.end();
        assert!(!text.is_empty(), "{what}");
        eprintln!("{what}: {text}");
        assert!(world.spend_in_mempool(live.funding).is_none() || what != "wrong");
        // It can still be closed by an honest word, or the node goes alone.
        if world.node.channel(&live.name())["state"] == "CLOSINGD_SIGEXCHANGE" {
            live.reconnect(&world);
            live.say(&Shutdown { channel_id: id, scriptpubkey: miner_script() });
            live.hear_until(|m| matches!(m, wire::ChannelMessage::Shutdown(_)));
            let good = live.closing_signed(&theirs.scriptpubkey, miner_script(), 1000);
            live.say(&good);
        }
        wait_close(&world, &live);
        world.mine(1);
        world.node.wait_state(&live.name(), "ONCHAIN");
        for _ in 0..10 {
            world.mine(1);
        }
        let after = total(&world);
        assert!(after + FEES > before, "before {before}, after {after}");
    }
}

/// A way to break `announcement_signatures`.
type BreakAnnouncement = fn(&AnnouncementSignatures) -> Vec<u8>;

#[test]
fn cve_2020_26895_high_s_and_wrong_signatures_on_announcements() {
    let breaks: [(&str, BreakAnnouncement); 6] = [
        ("high S of the node", |m| replaced(m, &m.node_signature, &high_s(&m.node_signature))),
        ("wrong of the node", |m| {
            AnnouncementSignatures { node_signature: wrong(), ..m.clone() }.encode()
        }),
        ("out of range of the node", |m| replaced(m, &m.node_signature, &[0xff; 64])),
        ("high S of the funding", |m| {
            replaced(m, &m.bitcoin_signature, &high_s(&m.bitcoin_signature))
        }),
        ("wrong of the funding", |m| {
            AnnouncementSignatures { bitcoin_signature: wrong(), ..m.clone() }.encode()
        }),
        ("each in the other's place", |m| {
            AnnouncementSignatures {
                node_signature: m.bitcoin_signature,
                bitcoin_signature: m.node_signature,
                ..m.clone()
            }
            .encode()
        }),
    ];
    let world = World::new();
    let open = |n| Stranger::meet(n, &world).open(&world, Plan::new(n).announced());
    let mut lives: Vec<Live> = (400..406).map(open).collect();
    world.mine(6);
    let before = total(&world);
    for (live, (what, broken)) in lives.iter_mut().zip(breaks) {
        live.ready();
        live.line().hear_announcement();
        let good = live.announcement_signatures(&world);
        live.line().say_raw(&broken(&good));
        // BOLT 7 leaves the choice between the connection and the channel: nothing is lost by the
        // first.
        let text = live.end();
        assert!(text.contains("signature"), "{what}: {text}");
        assert_eq!(world.node.channel(&live.name())["state"], "CHANNELD_NORMAL", "{what}");
        // It was not taken: on a new connection the node asks again, by saying its own. What holds
        // is taken.
        live.reconnect(&world);
        live.line().hear_announcement();
        live.say(&good);
        comes_back(&world, live, 1);
        live.stranger.hang_up();
        live.reconnect(&world);
        comes_back(&world, live, 2);
        assert!(!live.line().announced, "{what}");
    }
    finish(&world, &lives);
    assert!(total(&world) + FEES > before);
}

/// The node pays the stranger, who fails it: whatever was said before was heard.
fn comes_back(world: &World, live: &mut Live, part: u64) {
    // After a reconnect the node's word may be here before ours is read there.
    world.node.wait_normal(&live.name());
    let id = node_pays(world, live, 50_000_000, PaymentHash(live.id.0), 24, part);
    live.fail(id);
    live.settle();
}
