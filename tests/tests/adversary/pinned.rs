//! Commitments that no block takes at their own feerate, while a conflicting one of the node's
//! cannot enter the mempool: the node bumps what stands there, whoever published it.

use crate::scenes::*;
use channel::commitment::Commitment;
use primitives::*;
use serde_json::json;
use tests::stranger::*;

/// Blocks take nothing below 4 sat/vB.
const CHAIN: [&str; 2] = ["-regtest", "-blockmintxfee=0.00004"];
/// Commitments pay 1 sat/vB; the node's claims and anchor bumps know what blocks want.
const RATES: &str = "--force-feerates=1100/1100/253/1100/1100/253";

/// Two channels of a node that forwards, whose fundings got into a block though they pay too
/// little.
fn between(world: World) -> Between {
    let cheap = |n| Plan { feerate: 253, ..Plan::new(n) };
    let in_block = |live: Live| {
        let funding = live.funding_tx.as_ref().unwrap().compute_txid().to_string();
        world.bitcoind.rpc("prioritisetransaction", &json!([funding, 0, 100_000]));
        live
    };
    let mut a = in_block(Stranger::meet(101, &world).open(&world, cheap(1)));
    let plan = cheap(2).sized(1_000_000, 600_000);
    let mut b = in_block(Stranger::meet(102, &world).open(&world, plan));
    world.mine(3);
    a.ready();
    b.ready();
    for id in [a.name(), b.name()] {
        world.node.wait_normal(&id);
    }
    let before = total(&world);
    Between { a, b, before, world }
}

/// Which of its two commitments that count b publishes.
#[derive(Clone, Copy, PartialEq)]
enum Which {
    Newest,
    Previous,
}

/// b holds an HTLC that a offered, and does not hear of the preimage of one that it offered to a.
/// Then its commitment stands in the mempool at 1 sat/vB, with a child of this many outputs on its
/// own anchor if there is one.
fn is_bumped_in_time(world: World, which: Which, outputs: Option<usize>) {
    is_bumped(world, which, outputs, false);
}

fn is_bumped(world: World, which: Which, outputs: Option<usize>, dies: bool) {
    let mut t = between(world);
    let to_b = preimage(1).hash();
    let (amount, incoming, onion) = t.onion(100_000_000, to_b, 24);
    let id = t.a.add_and_settle(amount, to_b, incoming, onion);
    t.b.settle_with(1);
    let to_a = preimage(2);
    let expiry = t.world.height() + 20;
    let (amount, received, onion) = onion_through(&t.world, &t.a, 100_000_000, to_a.hash(), expiry);
    t.b.add_and_settle(amount, to_a.hash(), received, onion);
    t.a.settle_with(1);
    wait_settled(&t.world, &t.b);
    if which == Which::Previous {
        // It is paid, as b hears, and b does not revoke the commitment that has the HTLC.
        t.a.fulfil(HtlcId(0), to_a);
        t.a.settle();
        t.b.hear_commit();
    }
    let number = t.b.newest() - u64::from(which == Which::Previous);
    let (commitment, built) = (t.b.commitment(number), t.b.mine(number));
    assert_eq!(built.htlcs.len(), 2);
    t.b.stranger.hang_up();
    if which == Which::Newest {
        t.a.fulfil(HtlcId(0), to_a);
        t.a.settle();
    }
    t.world.send(&commitment);
    if let Some(outputs) = outputs {
        t.world.send(&t.b.large_child(&t.world, number, outputs));
    }
    // It is the node's to hurry: neither b nor any miner does.
    let ours = t.b.anchor(number, Side::Remote);
    let closed = mine_until_closed(&t.world, &t.b, received.0);
    let bump = t.world.wait_spend(ours);
    assert_eq!(bump.input[0].previous_output, ours);
    if dies {
        t.a.stranger.hang_up();
        t.world.node.kill();
        t.world.node.start_again();
        t.a.reconnect(&t.world);
        t.world.node.wait_normal(&t.a.name());
    }
    assert!(closed < received.0, "{closed} is late for {received}");
    resolves_in_time(&t, &built, incoming, received);
    assert_eq!(t.world.evidence(&t.b.name())["close"], "remote_unilateral");
    t.world.resolve(&t.b.name());
    t.world.mine(6);
    t.a_failed(id);
    t.world.mine(1);
    t.lost_nothing();
}

/// b's HTLC is claimed before b can take it back at `received`, and a's goes back to a before
/// `incoming`.
fn resolves_in_time(t: &Between, built: &Commitment, incoming: BlockHeight, received: BlockHeight) {
    let output = |by| {
        let found = built.htlcs.iter().find(|h| h.htlc.offered_by == by).unwrap();
        found.tx.input[0].previous_output.to_string()
    };
    let spent = |outpoint: &str| {
        let outputs = t.world.node.channel(&t.b.name())["onchain_outputs"].clone();
        let mut all = outputs.as_array()?.iter();
        all.find(|o| o["outpoint"] == outpoint)?["spent_height"].as_u64()
    };
    let (theirs, mine) = (output(Side::Local), output(Side::Remote));
    while spent(&theirs).is_none() || spent(&mine).is_none() {
        assert!(t.world.height() < incoming.0, "an HTLC is not resolved in time");
        t.world.mine(1);
    }
    assert!(spent(&theirs).unwrap() <= u64::from(received.0), "{:?}", spent(&theirs));
    assert!(spent(&mine).unwrap() < u64::from(incoming.0), "{:?}", spent(&mine));
}

#[test]
fn anchor_bump_of_remote_newest_commitment_beside_a_large_child() {
    is_bumped_in_time(World::on(&CHAIN, &[RATES]), Which::Newest, Some(1_900));
}

#[test]
fn anchor_bump_of_remote_previous_commitment_beside_large_child() {
    is_bumped_in_time(World::on(&CHAIN, &[RATES]), Which::Previous, Some(1_900));
}

#[test]
fn anchor_bump_of_remote_newest_commitment_without_packages() {
    is_bumped_in_time(World::on_plain_backend(&CHAIN, &[RATES]), Which::Newest, None);
}

#[test]
fn anchor_bump_of_remote_previous_commitment_without_packages() {
    is_bumped_in_time(World::on_plain_backend(&CHAIN, &[RATES]), Which::Previous, None);
}

#[test]
fn anchor_bump_of_remote_commitment_survives_a_crash() {
    let world = World::on_plain_backend(&CHAIN, &[RATES]);
    is_bumped(world, Which::Newest, Some(1_900), true);
}

/// A revoked commitment that stands in the mempool for ever keeps ours out, and nobody is punished.
#[test]
fn anchor_bump_of_a_revoked_commitment_lets_its_penalty_confirm() {
    let mut t = between(World::on(&CHAIN, &[RATES]));
    let old = t.b.newest();
    let (id, _) = t.send(100_000_000, preimage(1).hash(), 16);
    let expiry = t.world.height() + 16 + 6;
    wait_settled(&t.world, &t.b);
    t.b.stranger.hang_up();
    let commitment = t.b.commitment(old);
    t.world.send(&commitment);
    t.world.send(&t.b.large_child(&t.world, old, 1_900));
    let ours = t.b.anchor(old, Side::Remote);
    mine_until_closed(&t.world, &t.b, expiry);
    t.world.wait_spend(ours);
    t.world.mine(1);
    wait_onchain(&t.world, &t.b, "remote_revoked");
    t.world.resolve(&t.b.name());
    t.world.mine(6);
    t.a_failed(id);
    t.lost_nothing();
}
