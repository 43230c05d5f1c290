//! Peers who fall silent in the middle of something: the node goes on alone, in time.

use crate::scenes::*;
use primitives::*;
use serde_json::json;
use tests::stranger::*;
use tests::wait_for;
use wire::{ChannelMessage, CommitmentSigned, Shutdown};

/// Where the receiver of a forwarded HTLC falls silent.
#[derive(Clone, Copy, PartialEq)]
enum Silent {
    /// It does not even revoke its old commitment.
    BeforeRevoking,
    /// It revoked, and signs nothing.
    BeforeCommitting,
    /// It has the HTLC, and says nothing of it.
    Holding,
    /// It said that it failed it, and not in a commitment.
    FailedWithoutCommitment,
}

/// The HTLC goes to the chain at its deadline, comes back, and fails upstream.
fn receiver_is_silent(silent: Silent) {
    let mut t = Between::new();
    let hash = preimage(1).hash();
    let (amount, expiry, onion) = t.onion(100_000_000, hash, 16);
    let id = t.a.add_and_settle(amount, hash, expiry, onion);
    t.b.hear_commit();
    match silent {
        Silent::BeforeRevoking => {}
        Silent::BeforeCommitting => t.b.revoke(),
        Silent::Holding | Silent::FailedWithoutCommitment => t.b.settle(),
    }
    if silent == Silent::FailedWithoutCommitment {
        t.b.fail(HtlcId(0));
    }
    // Before the incoming HTLC expires, and not before the outgoing one.
    let height = mine_until_closed(&t.world, &t.b, expiry.0);
    assert!(height >= expiry.0 - 6);
    t.fails_over_the_chain(id);
}

#[test]
fn peer_silent_before_its_revocation_is_force_closed_in_time() {
    receiver_is_silent(Silent::BeforeRevoking);
}
#[test]
fn peer_silent_before_its_commitment_is_force_closed_in_time() {
    receiver_is_silent(Silent::BeforeCommitting);
}
#[test]
fn peer_silent_about_an_htlc_is_force_closed_in_time() {
    receiver_is_silent(Silent::Holding);
}
/// The peer sends `update_fail_htlc` and no `commitment_signed`.
#[test]
fn peer_silent_after_uncommitted_fail_is_force_closed_in_time() {
    receiver_is_silent(Silent::FailedWithoutCommitment);
}

/// An outgoing HTLC that no commitment can have is failed upstream before the incoming one expires.
#[test]
fn forward_in_no_commitment_fails_back_in_time() {
    let mut t = Between::new();
    // The first is signed for, and b does not revoke: the second waits, and b decides until when.
    let (hash, later) = (preimage(1).hash(), preimage(2).hash());
    let (amount, last, onion) = t.onion(100_000_000, hash, 40);
    let first = t.a.add_and_settle(amount, hash, last, onion);
    t.b.hear_commit();
    let (amount, expiry, onion) = t.onion(50_000_000, later, 12);
    let second = t.a.add_and_settle(amount, later, expiry, onion);
    t.b.hear_until(|m| matches!(m, ChannelMessage::UpdateAddHtlc(_)));
    while t.world.height() < expiry.0 - 6 {
        t.world.mine(1);
    }
    // Its revocation would be followed by a signature for both, and with that b would take what a
    // had back long ago.
    t.a_failed(second);
    t.a_still_waits(first);
    mine_until_closed(&t.world, &t.b, last.0);
    t.fails_over_the_chain(first);
}

#[test]
fn offerer_silent_before_its_revocation_moves_no_money() {
    let mut t = Between::new();
    let hash = preimage(1).hash();
    let (amount, expiry, onion) = t.onion(100_000_000, hash, 16);
    t.a.add(amount, hash, expiry, onion);
    t.a.commit();
    t.a.hear_commit();
    // It is in both commitments, and b is not told: the older one of a's still counts.
    let number = t.a.newest() - 1;
    t.world.mine(2);
    assert_eq!(received(&t.b), 0);
    assert_eq!(t.b.line().next_within(std::time::Duration::from_millis(100)), Ok(None));
    t.a.stranger.hang_up();
    t.world.mine_only(&[&t.a.commitment(number)]);
    t.world.resolve(&t.a.name());
    t.world.mine(1);
    t.lost_nothing();
}

/// Where a peer falls silent that is asked to close.
#[derive(Clone, Copy)]
enum Closing {
    /// It never says `shutdown`.
    Shutdown,
    /// It says nothing about fees.
    Fee,
    /// It says one fee, and hears no answer.
    Hangs,
}

/// `close` with a deadline: then the node goes alone.
fn closer_is_silent(closing: Closing) {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.lock_in(&world);
    let before = total(&world);
    let call = world.call("close", &json!({"id": live.name(), "unilateraltimeout": 1}));
    let theirs = live.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
    let ChannelMessage::Shutdown(theirs) = theirs else { unreachable!() };
    match closing {
        Closing::Shutdown => {}
        Closing::Fee | Closing::Hangs => {
            live.say(&Shutdown { channel_id: live.id, scriptpubkey: miner_script() });
        }
    }
    if matches!(closing, Closing::Hangs) {
        // Far too much for the node, which is the fundee's friend.
        let offer = live.closing_signed(&theirs.scriptpubkey, miner_script(), 1);
        live.say(&offer);
    }
    let closed = call.wait().unwrap();
    assert!(closed["type"] == "unilateral" || closed["type"] == "mutual", "{closed}");
    wait_close(&world, &live);
    live.stranger.hang_up();
    world.mine(1);
    world.node.wait_state(&live.name(), "ONCHAIN");
    if closed["type"] == "unilateral" {
        world.resolve(&live.name());
    }
    world.mine(2);
    assert!(total(&world) + 5_000 > before);
}

#[test]
fn peer_silent_before_shutdown_fails_at_unilateraltimeout() {
    closer_is_silent(Closing::Shutdown);
}
#[test]
fn peer_silent_before_closing_signed_fails_at_unilateraltimeout() {
    closer_is_silent(Closing::Fee);
}
#[test]
fn peer_silent_after_closing_signed_fails_at_unilateraltimeout() {
    closer_is_silent(Closing::Hangs);
}

#[test]
fn commitment_of_another_channel_does_no_harm() {
    // A commitment for a channel of somebody else's, in this connection.
    let mut t = Between::new();
    let of_a = t.a.id;
    let sane = crate::signatures::wrong();
    t.b.say(&CommitmentSigned {
        channel_id: of_a,
        signature: sane,
        htlc_signatures: vec![],
        funding_txid: None,
    });
    wait_for("both channels to be well", || {
        let state = |l: &Live| t.world.node.channel(&l.name())["state"].clone();
        (state(&t.a) == "CHANNELD_NORMAL" && state(&t.b) == "CHANNELD_NORMAL").then_some(())
    });
    let p = preimage(3);
    // a's channel works as before; b's after it came back.
    t.b.stranger.hang_up();
    t.b.reconnect(&t.world);
    t.world.node.wait_normal(&t.b.name());
    let (id, at_b) = t.send(50_000_000, p.hash(), 30);
    t.b.fulfil(at_b, p);
    t.b.settle();
    t.a_was_paid(id, p);
    t.a.settle_without_ours();
    t.lost_nothing();
}

#[test]
fn peer_silent_before_channel_ready_keeps_nothing() {
    // Both ways: it opened, and it accepted.
    let world = World::new();
    let opened = Stranger::meet(1, &world).open(&world, Plan::new(1));
    let accepted = {
        let stranger = Stranger::meet(2, &world);
        let call = world.fund(&stranger);
        let mut draft = stranger.accept(Plan::new(2));
        let created = draft.created();
        let live = draft.sign(&created);
        call.wait().unwrap();
        live
    };
    world.mine(6);
    let before = total(&world);
    let mut lives = [opened, accepted];
    for live in &mut lives {
        live.hear_until(|m| matches!(m, ChannelMessage::ChannelReady(_)));
    }
    // For however long: nothing can be paid over it, and nothing is said.
    world.mine(30);
    for live in &mut lives {
        let state = world.node.channel(&live.name())["state"].clone();
        assert_eq!(state, "CHANNELD_AWAITING_LOCKIN");
        let route = json!([{"id": live.stranger.id(), "channel": live.scid(&world).to_string(),
            "amount_msat": 10_000_000, "delay": 20}]);
        let payment = json!({"route": route, "payment_hash": "07".repeat(32),
            "payment_secret": "09".repeat(32)});
        world.node.call("sendpay", &payment).unwrap_err();
    }
    // It came back, and is silent still: the money comes home without its help.
    for live in &mut lives {
        live.stranger.dial(&world);
        let call = world.call("close", &json!({"id": live.name(), "unilateraltimeout": 1}));
        assert_eq!(call.wait().unwrap()["type"], "unilateral");
        wait_close(&world, live);
        live.stranger.hang_up();
    }
    world.mine(1);
    for live in &lives {
        world.resolve(&live.name());
    }
    world.mine(2);
    assert!(total(&world) + 10_000 > before, "before {before}, after {}", total(&world));
}

#[test]
fn receiver_silent_before_reestablish_is_force_closed_in_time() {
    let mut t = Between::new();
    let (id, _) = t.send(100_000_000, preimage(1).hash(), 16);
    let expiry = t.world.height() + 16 + 6;
    wait_settled(&t.world, &t.b);
    // It is there, and says nothing after `init`: nothing can be failed or fulfilled.
    t.b.stranger.dial(&t.world);
    let height = mine_until_closed(&t.world, &t.b, expiry);
    assert!(height >= expiry - 6);
    t.fails_over_the_chain(id);
}

#[test]
fn offerer_silent_before_reestablish_pays_on_chain() {
    let mut t = Between::new();
    let p = preimage(1);
    let (_, at_b) = t.send(100_000_000, p.hash(), 30);
    let expiry = t.world.height() + 30 + 6;
    wait_settled(&t.world, &t.a);
    t.a.stranger.dial(&t.world);
    // The node paid for the preimage, and cannot show it to a.
    t.b.fulfil(at_b, p);
    t.b.settle();
    let height = mine_until_closed(&t.world, &t.a, expiry);
    // The commitment in one block, the claim in the next, and a's timeout is not valid yet.
    assert!(height + 2 < expiry, "{height} is late for {expiry}");
    t.world.mine(1);
    t.world.resolve(&t.a.name());
    t.world.mine(2);
    t.lost_nothing();
}

#[test]
fn eclair_late_claim_leaves_time_to_be_paid_upstream() {
    let mut t = Between::new();
    let p = preimage(1);
    let (_, at_b) = t.send(100_000_000, p.hash(), 16);
    let late = t.world.height() + 16;
    wait_settled(&t.world, &t.a);
    t.a.stranger.hang_up();
    // b shows the preimage in the last block before the node would have left it, and a is not there
    // to hear it.
    t.world.mine(late - 1 - t.world.height());
    t.b.fulfil(at_b, p);
    t.b.settle();
    mine_until_closed(&t.world, &t.a, late + 6);
    t.world.mine(1);
    t.world.resolve(&t.a.name());
    t.world.mine(2);
    t.lost_nothing();
}
