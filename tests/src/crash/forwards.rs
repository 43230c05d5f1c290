//! A forwarder one of whose two channels is on the chain while the other lives: the one place where
//! a node can lose between two of its own.

use super::channels::{MOST_FEES, bury, last_number, mine_until, open_between, wealth};
use super::onchain::{HALF, Halves, fail, give, is_resolved, wait_held};
use super::{Who, World};
use crate::hop;
use serde_json::{Value, json};

/// What the forwarder takes for one half.
const FEE: u64 = 1 + HALF / 100_000;
const IN: [Who; 2] = [Who::L1, Who::L2];
const OUT: [Who; 2] = [Who::L2, Who::L3];

/// The outgoing channel closes; the payee shows the preimage on the chain.
pub fn out_taken(world: &mut World) {
    half_on_chain(world, OUT, true);
}
/// The outgoing channel closes; nobody shows anything, and the HTLC comes back.
pub fn out_timeout(world: &mut World) {
    half_on_chain(world, OUT, false);
}
/// The incoming channel closes; the payee shows the preimage to the forwarder, who takes the HTLC
/// on the chain.
pub fn in_taken(world: &mut World) {
    half_on_chain(world, IN, true);
}

/// From l1 over l2 to l3. There is time for the chain between the two hops.
fn route(world: &World, [first, second]: [&str; 2]) -> Value {
    let scid = |who: Who, id: &str| world.channel(who, id)["short_channel_id"].clone();
    json!([
        hop(&world.line.l2, &scid(Who::L1, first), HALF + FEE, 60),
        hop(&world.line.l3, &scid(Who::L2, second), HALF, 24),
    ])
}

/// The line's own channels have enough on their nearer side.
fn refill(world: &mut World) {
    let (first, second) = (world.line.first.clone(), world.line.second.clone());
    for (id, [near, far]) in [(second, OUT), (first, IN)] {
        let [left, _] = world.settled(&id, [near, far]);
        if left < 10 * HALF {
            give(world, &id, [far, near], 30 * HALF);
        }
    }
}

/// The payee hears of the close and may publish its own commitment: an HTLC transaction with
/// anchors is paid by its wallet.
fn fund_payee(world: &mut World) {
    let funds = world.line.l3.rpc("listfunds", &json!({}));
    if funds["outputs"].as_array().is_none_or(Vec::is_empty) {
        world.line.l3.fund(&world.line.bitcoind);
        world.sync();
    }
}

/// One half of a payment goes over a channel that `ends` have beside the line's, and is held at its
/// end. That channel closes.
fn half_on_chain(world: &mut World, ends: [Who; 2], taken: bool) {
    let id = open_between(world, ends);
    world.sync();
    world.settled(&id, ends);
    refill(world);
    fund_payee(world);
    let had = Who::ALL.map(|who| wealth(world, who));
    let (first, second) = (world.line.first.clone(), world.line.second.clone());
    let way = if ends == IN { [id.as_str(), &second] } else { [&first, id.as_str()] };
    let halves = Halves::new(world, Who::L1, Who::L3);
    halves.send_by(world, &route(world, way), 1).expect("everybody is there");
    wait_held(world, IN, way[0], 1);
    wait_held(world, OUT, way[1], 1);

    let number = last_number(world, world.target);
    world.begin(number);
    fail(world, Who::L2, ends, &id);
    if taken {
        halves.complete_by(world, |world, halves, part| {
            halves.send_by(world, &route(world, [&first, &second]), part)
        });
    }
    mine_until(world, 120, "everything to be resolved", |w| {
        ends.iter().all(|who| is_resolved(w, *who, &id))
    });
    world.line.bitcoind.mine(6);
    world.sync();
    let ended = world.wait("the end of a half", |w| halves.first_ended(w));
    assert_eq!(ended, if taken { "complete" } else { "failed" });
    assert_eq!(world.wait("the invoice", |w| halves.is_paid(w)), taken);
    world.finish();
    world.sync();
    world.settled(&first, IN);
    world.settled(&second, OUT);
    check_wealth(world, had, taken);
    world.check_logs();
    bury(world);
}

/// The payer paid both halves and their fees, or nothing.
fn check_wealth(world: &mut World, had: [u64; 3], taken: bool) {
    let [paid, fees] = if taken { [2 * HALF / 1000, 2 * FEE / 1000] } else { [0, 0] };
    let due = [had[0] - paid - fees, had[1] + fees, had[2] + paid];
    for (who, due) in Who::ALL.into_iter().zip(due) {
        let has = wealth(world, who);
        // What is below a satoshi goes to one or the other.
        assert!(
            (due.saturating_sub(MOST_FEES)..=due + 2).contains(&has),
            "{} has {has} of {due}",
            who.name()
        );
    }
}
