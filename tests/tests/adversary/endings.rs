//! Channels that fail or close: what the peer hears, and how long it may take.

use crate::scenes::*;
use primitives::*;
use serde_json::json;
use tests::stranger::*;
use wire::{ChannelMessage, Error, Message, RevokeAndAck, Shutdown};

/// The errors on the line until the node hangs up: all are about this channel.
fn errors(live: &mut Live) -> Vec<String> {
    let mut errors = Vec::new();
    while let Ok(bytes) = live.line().hear() {
        if bytes.starts_with(&Error::NUMBER.to_be_bytes()) {
            let error = Error::take_body(&bytes[2..]).unwrap();
            assert_eq!(error.channel_id, live.id);
            errors.push(error.text());
        }
    }
    errors
}

/// BOLT 1, error: the sender of an error fails the channel, and who fails it says so. BOLT 2,
/// "Message Retransmission": again on the next connection.
#[test]
fn error_reaches_the_peer_of_a_channel_that_we_fail() {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.lock_in(&world);
    let before = total(&world);
    world.node.rpc("dev-fail", &json!({"id": live.name()}));
    assert_eq!(errors(&mut live), ["Failing due to dev-fail command"]);
    for state in ["AWAITING_UNILATERAL", "ONCHAIN"] {
        world.node.wait_state(&live.name(), state);
        live.stranger.dial(&world);
        let error: Error = live.line().expect();
        assert_eq!((error.channel_id, error.text()), (live.id, "the channel is closed".to_owned()));
        // A node of the same kind has an error of its own, and more than one message under way.
        // None is answered, and a peer that goes on is left.
        let ours = live.reestablish_message();
        live.say(&ours);
        let patience = std::time::Duration::from_millis(10);
        tests::wait_for("the node to hang up", || {
            live.say(&Error::new(live.id, "closed here, too"));
            let answer = live.line().next_within(patience);
            assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
            answer.is_err().then_some(())
        });
        if state == "AWAITING_UNILATERAL" {
            wait_close(&world, &live);
            world.mine(1);
        }
    }
    world.resolve(&live.name());
    world.mine(1);
    assert!(total(&world) + FEES > before);
}

/// The connection stays where another channel of the peer needs it.
#[test]
fn error_about_one_channel_leaves_the_others_of_the_peer_alone() {
    let world = World::new();
    let mut first = Stranger::meet(1, &world).open(&world, Plan::new(1));
    first.lock_in(&world);
    let (funding, name) = (first.funding, first.name());
    let mut second = first.stranger.open(&world, Plan::new(2));
    second.lock_in(&world);
    world.node.rpc("dev-fail", &json!({"id": name}));
    assert_eq!(second.end(), "Failing due to dev-fail command");
    let hash = preimage(1).hash();
    let id = node_pays(&world, &mut second, 10_000_000, hash, 24, 1);
    second.fail(id);
    second.settle();
    world.wait_spend(funding);
}

/// BOLT 2, revoke_and_ack: a secret that is no key, or not that of the point, fails the channel; no
/// connection mends it.
#[test]
fn revocation_with_an_invalid_key_fails_the_channel() {
    let breaks: [fn(&RevokeAndAck) -> Vec<u8>; 4] = [
        |m| with_bytes(m, 34, &[0; 32]),
        |m| with_bytes(m, 34, &[0xff; 32]),
        |m| with_bytes(m, 34, &[7; 32]),
        |m| with_bytes(m, 66, &[0; 33]),
    ];
    let world = World::new();
    let open = |n| Stranger::meet(n, &world).open(&world, Plan::new(n));
    let mut lives: Vec<Live> = (600..604).map(open).collect();
    world.mine(3);
    for live in &mut lives {
        live.ready();
        world.node.wait_normal(&live.name());
    }
    let before = total(&world);
    for (live, broken) in lives.iter_mut().zip(breaks) {
        let route = json!([{"id": live.stranger.id(), "channel": live.scid(&world).to_string(),
            "amount_msat": 10_000_000, "delay": 24}]);
        let hash = PaymentHash(live.id.0).to_string();
        world.node.rpc(
            "sendpay",
            &json!({"route": route, "payment_hash": hash, "payment_secret": "09".repeat(32)}),
        );
        live.hear_commit();
        let revocation = broken(&live.revocation());
        live.line().say_raw(&revocation);
        let text = live.end();
        assert!(text.starts_with("BOLT 2, revoke_and_ack: "), "{text}");
        world.node.wait_state(&live.name(), "AWAITING_UNILATERAL");
    }
    crate::signatures::finish(&world, &lives);
    assert!(total(&world) + 4 * 10_000 + FEES > before);
}

/// The same message with these bytes at that place.
fn with_bytes(message: &RevokeAndAck, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = message.encode();
    encoded[at..at + bytes.len()].copy_from_slice(bytes);
    encoded
}

/// The peer began a close, has five seconds for it, and says nothing more. What there was before.
fn stalled_close(world: &World) -> (Live, u64) {
    let mut live = Stranger::meet(1, world).open(world, Plan::new(1));
    live.lock_in(world);
    let before = total(world);
    live.say(&Shutdown { channel_id: live.id, scriptpubkey: miner_script() });
    live.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
    world.node.wait_state(&live.name(), "CLOSINGD_SIGEXCHANGE");
    (live, before)
}
const FIVE_SECONDS: &str = "--dev-peer-close-seconds=5";

/// BOLT 2, closing_signed: a close that the peer began and stalls, over reconnects and our restart,
/// fails the channel.
#[test]
fn stalled_close_of_the_peer_fails_the_channel() {
    let world = World::with(&[FIVE_SECONDS]);
    let (mut live, before) = stalled_close(&world);
    // It comes back, and says no shutdown any more.
    live.stranger.hang_up();
    live.reconnect(&world);
    live.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
    world.node.kill();
    world.node.start_again();
    live.reconnect(&world);
    let text = live.end();
    assert!(text.contains("no agreement in time on the close that the peer began"), "{text}");
    world.node.wait_state(&live.name(), "AWAITING_UNILATERAL");
    wait_close(&world, &live);
    world.mine(1);
    world.resolve(&live.name());
    world.mine(1);
    assert!(total(&world) + FEES > before);
}

/// A `close` without a timeout of its own joins the peer's close: it gives a peer that stalls no
/// more time.
#[test]
fn stalled_close_of_the_peer_keeps_its_deadline_after_our_close() {
    let world = World::with(&[FIVE_SECONDS]);
    let (mut live, before) = stalled_close(&world);
    let closed = world.node.rpc("close", &json!({"id": live.name()}));
    assert_eq!(closed["type"], "unilateral");
    assert!(live.end().contains("no agreement in time on the close that the peer began"));
    wait_close(&world, &live);
    world.mine(1);
    world.resolve(&live.name());
    world.mine(1);
    assert!(total(&world) + FEES > before);
}

/// BOLT 2, shutdown, rationale: scripts of nodes from before segwit, in a channel without anchors;
/// with anchors they are refused.
#[test]
fn shutdown_to_p2pkh_closes_a_channel_without_anchors() {
    let p2pkh = ScriptBuf::from_bytes([&[0x76, 0xa9, 20][..], &[7; 20], &[0x88, 0xac]].concat());
    let world = World::new();
    for (n, anchors) in [(1, false), (2, true)] {
        let plan = if anchors { Plan::new(n) } else { Plan::new(n).plain() };
        let mut live = Stranger::meet(n, &world).open(&world, plan);
        live.lock_in(&world);
        let before = total(&world);
        live.say(&Shutdown { channel_id: live.id, scriptpubkey: p2pkh.clone() });
        if anchors {
            assert!(live.end().contains("a form that BOLT 2 does not list"));
            continue;
        }
        let theirs = live.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
        let ChannelMessage::Shutdown(theirs) = theirs else { unreachable!() };
        let offer = live.closing_signed(&theirs.scriptpubkey, p2pkh.clone(), 1000);
        live.say(&offer);
        let close = wait_close(&world, &live);
        assert!(close.output.iter().any(|o| o.script_pubkey == p2pkh));
        world.mine(1);
        world.node.wait_state(&live.name(), "ONCHAIN");
        assert!(total(&world) + FEES > before);
    }
}
