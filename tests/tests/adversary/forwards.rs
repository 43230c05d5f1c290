//! HTLCs through the node, and preimages that appear where they can.

use crate::scenes::*;
use bitcoin::Transaction;
use primitives::*;
use tests::stranger::*;

#[test]
fn honest_forward_pays() {
    let mut t = Between::new();
    let p = preimage(1);
    let (id, at_b) = t.send(100_000_000, p.hash(), 30);
    t.b.fulfil(at_b, p);
    t.b.settle();
    t.a_was_paid(id, p);
    t.a.settle_without_ours();
    t.lost_nothing();
}

/// Which commitment the receiver publishes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Published {
    Current,
    Previous,
    Next,
    TheNodes,
    /// The newest of two, after it said that it failed the HTLC, which only the older one has.
    FailedAndPrevious,
    /// One that is revoked, which is all ours; but who paid the receiver has to be paid as well.
    Revoked,
}

#[test]
fn eclair_preimage_extraction_from_the_current_commitment() {
    eclair_preimage_extraction(Published::Current);
}
#[test]
fn eclair_preimage_extraction_from_the_previous_commitment() {
    eclair_preimage_extraction(Published::Previous);
}
#[test]
fn eclair_preimage_extraction_from_the_next_commitment() {
    eclair_preimage_extraction(Published::Next);
}
#[test]
fn eclair_preimage_extraction_from_our_own_commitment() {
    eclair_preimage_extraction(Published::TheNodes);
}
#[test]
fn eclair_preimage_extraction_after_update_fail_htlc() {
    eclair_preimage_extraction(Published::FailedAndPrevious);
}

#[test]
fn eclair_preimage_extraction_from_a_revoked_commitment() {
    eclair_preimage_extraction(Published::Revoked);
}

fn eclair_preimage_extraction(published: Published) {
    let mut t = Between::new();
    let p = preimage(1);
    let (id, at_b) = t.send(100_000_000, p.hash(), 30);
    let number = t.b.newest();
    let other = prepare(&mut t, published, (number, id, at_b));
    let (commitment, claim) = commitment_and_claim(&t, published, (number, at_b), p);
    t.b.stranger.hang_up();
    t.world.mine_only(&[&commitment]);
    t.a_still_waits(id);
    t.world.mine_only(&[&claim]);
    t.a_was_paid(id, p);
    if let Some(other) = other {
        t.world.resolve(&t.b.name());
        t.world.mine(6);
        t.a_failed(other);
    }
    t.world.resolve(&t.b.name());
    t.a.settle_without_ours();
    t.lost_nothing();
}

/// Brings b's channel to where the commitment counts, or no longer does. `number` is that of the
/// commitment with the HTLC, `id` and `at_b` are the HTLC's ids. Returns the id at a of a second
/// HTLC, if one was needed.
fn prepare(
    t: &mut Between,
    published: Published,
    (number, id, at_b): (u64, HtlcId, HtlcId),
) -> Option<HtlcId> {
    match published {
        Published::Current | Published::TheNodes => None,
        Published::Previous | Published::Next => {
            // One more, signed for b, who does not revoke: two commitments count.
            let hash = preimage(2).hash();
            let (amount, expiry, onion) = t.onion(50_000_000, hash, 30);
            let other = t.a.add_and_settle(amount, hash, expiry, onion);
            t.b.hear_commit();
            Some(other)
        }
        Published::FailedAndPrevious => {
            t.b.fail(at_b);
            t.b.commit();
            t.b.hear_revoke();
            t.b.hear_commit();
            // The newest has it no more; the one before is not revoked.
            assert!(t.b.mine(number + 1).htlcs.is_empty());
            t.a_still_waits(id);
            None
        }
        Published::Revoked => {
            let hash = preimage(2).hash();
            let (amount, expiry, onion) = t.onion(50_000_000, hash, 30);
            let other = t.a.add_and_settle(amount, hash, expiry, onion);
            t.b.settle_with(2);
            wait_settled(&t.world, &t.b);
            assert!(t.b.newest() > number);
            Some(other)
        }
    }
}

/// The commitment, and the claim of its HTLC with the preimage.
fn commitment_and_claim(
    t: &Between,
    published: Published,
    (number, at_b): (u64, HtlcId),
    p: Preimage,
) -> (Transaction, Transaction) {
    let which = (Side::Remote, at_b);
    match published {
        Published::TheNodes => {
            t.world.node.rpc("dev-fail", &serde_json::json!({"id": t.b.name()}));
            let tx = wait_close(&t.world, &t.b);
            let newest = t.b.theirs.len() as u64 - 1;
            assert_eq!(tx.compute_txid(), t.b.nodes(newest).tx.compute_txid());
            (tx, Spend::transaction(&[t.b.claim(newest, which, Some(p))], 5_000))
        }
        Published::Current
        | Published::Previous
        | Published::FailedAndPrevious
        | Published::Revoked => {
            let claim = t.b.second_stage(&t.world, number, which, Some(p));
            (t.b.commitment(number), claim)
        }
        Published::Next => {
            let claim = t.b.second_stage(&t.world, number + 1, which, Some(p));
            (t.b.commitment(number + 1), claim)
        }
    }
}

/// BOLT 4, "Onion Decryption": an HMAC that was received before. The first HTLC with it was
/// forwarded and failed; the same onion on the same and on another channel, and after a restart,
/// goes nowhere.
#[test]
fn replayed_onion_is_forwarded_once() {
    let mut t = Between::new();
    let mut other = Stranger::meet(103, &t.world).open(&t.world, Plan::new(3));
    other.lock_in(&t.world);
    let before = total(&t.world);
    let hash = preimage(1).hash();
    let (amount, expiry, onion) = t.onion(50_000_000, hash, 40);
    let id = t.a.add_and_settle(amount, hash, expiry, onion.clone());
    t.b.settle_with(1);
    t.b.fail(HtlcId(0));
    t.b.settle();
    t.a_failed(id);
    let id = t.a.add_and_settle(amount, hash, expiry, onion.clone());
    t.a_failed(id);
    other.add(amount, hash, expiry, onion.clone());
    other.settle_without_ours();
    t.world.node.kill();
    t.world.node.start_again();
    t.b.reconnect(&t.world);
    t.a.reconnect(&t.world);
    for id in [t.a.name(), t.b.name()] {
        t.world.node.wait_normal(&id);
    }
    let id = t.a.add_and_settle(amount, hash, expiry, onion);
    t.a_failed(id);
    // b has heard of nothing: an honest payment is its next HTLC.
    let (id, at_b) = t.send(50_000_000, preimage(2).hash(), 40);
    assert_eq!(at_b, HtlcId(1));
    t.b.fulfil(at_b, preimage(2));
    t.b.settle();
    t.a_was_paid(id, preimage(2));
    tests::wait_for("the node to have its fee", || (total(&t.world) >= before).then_some(()));
}
