//! The largest commitments there are: everything in them is claimed, and what that costs grows as
//! they do. `cargo test --release -p onchaind --test large -- --nocapture` prints what it costs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::table::taking;
use common::*;
use onchaind::{DEPTH, Resolver};
use primitives::*;
use std::time::{Duration, Instant};
use wire::onchaind::*;
use wire::{Long, MAX_FRAME, Message};

/// So many HTLCs each way, of 20 different expiries.
fn full(count: u64) -> World {
    let mut world = World::plain(true);
    for by in Side::BOTH {
        for n in 0..count {
            world.add(by, Msat(2_000_000 + 1000 * n), n, 110 + n as u32 % 20).unwrap();
        }
    }
    world.settle();
    world
}

/// From its beginning to its end, a block at a time: everything is claimed and confirmed in the
/// next block.
fn resolve(init: &OnchaindInit) -> (Duration, usize) {
    let mut spent = Duration::ZERO;
    let mut timed = |f: &mut dyn FnMut()| {
        let begun = Instant::now();
        f();
        spent += begun.elapsed();
    };
    let (mut resolver, mut now, mut height, mut taken) = (None, None, HEIGHT.0, 0);
    timed(&mut || {
        let new = Resolver::new(init.clone()).unwrap();
        now = Some(new.resolution());
        resolver = Some(new);
    });
    let mut resolver = resolver.unwrap();
    while now.as_ref().is_some_and(|n| n.settled.is_none()) {
        height += 1;
        assert!(height < 300, "it does not end");
        let ready: Vec<_> =
            now.iter().flat_map(|n| &n.claims.0).filter(|c| c.ready.0 <= height).collect();
        taken += ready.len();
        let (free, paired): (Vec<_>, Vec<_>) =
            ready.into_iter().partition(|c| matches!(c.shape, ClaimShape::Free {}));
        let mut transactions: Vec<_> = paired.iter().map(|c| taking(&[c], true)).collect();
        if !free.is_empty() {
            transactions.push(taking(&free, false));
        }
        timed(&mut || {
            let (height, transactions) = (BlockHeight(height), Long(transactions.clone()));
            resolver.block(OnchainBlock { height, transactions }).unwrap();
            now = Some(resolver.resolution());
        });
    }
    let now = now.unwrap();
    assert_eq!(now.failed.0.len() + now.learned.0.len(), init.upstream.0.len());
    (spent, taken)
}

#[test]
fn eight_times_as_many_htlcs_cost_about_eight_times_as_much() {
    let mut costs = vec![];
    for count in [60, 483] {
        let mut world = full(count);
        let own = world.newest(Side::Local).clone();
        let theirs = world.newest(Side::Remote).clone();
        world.add(Side::Local, Msat(100_000_000), 9999, 200);
        let mut cost = vec![];
        for (what, made, revoked) in
            [("ours", &own, false), ("theirs", &theirs, false), ("revoked", &theirs, true)]
        {
            if revoked {
                world.fee(FeeratePerKw(900));
                world.settle();
            }
            let mut init = world.init(made);
            for live in &init.state.htlcs.0 {
                if live.htlc.offered_by == Side::Local {
                    init.upstream.0.push((live.htlc.id, BlockHeight(500)));
                } else {
                    init.preimages.0.push((live.htlc.id, preimage(live.htlc.id.0)));
                }
            }
            assert!(init.encode().len() < MAX_FRAME);
            let resolution = Resolver::new(init.clone()).unwrap().resolution();
            assert_eq!(resolution.claims.0.len() as u64, 2 * count + if revoked { 2 } else { 1 });
            assert!(Resolved { resolution }.encode().len() < MAX_FRAME);
            let best = (0..3).map(|_| resolve(&init)).min().unwrap();
            cost.push((what, best));
        }
        costs.push(cost);
    }
    let [few, many] = costs.as_slice() else { panic!() };
    for ((what, few), (_, many)) in few.iter().zip(many) {
        let ratio = many.0.as_secs_f64() / few.0.as_secs_f64();
        println!("{what}: 60 each way {:?}, 483 each way {:?}: {ratio:.1} times", few.0, many.0);
        assert!(many.1 > 7 * few.1);
    }
}

#[test]
fn transaction_of_10000_outputs_costs_what_reading_it_costs() {
    let mut world = full(20);
    let made = world.newest(Side::Remote).clone();
    world.add(Side::Local, Msat(100_000_000), 9999, 200);
    world.settle();
    let init = world.init(&made);
    let mut resolver = Resolver::new(init).unwrap();
    let mut tx = world.peers_htlc_tx(&made, Side::Local, HtlcId(3), 3);
    let (input, output) = (tx.input[0].clone(), tx.output[0].clone());
    for n in 0..10_000u32 {
        let mut more = input.clone();
        more.previous_output =
            OutPoint { txid: made.built.tx.input[0].previous_output.txid, vout: n };
        more.witness = bitcoin::Witness::from_slice(&[[n as u8; 32], [7; 32]]);
        tx.input.push(more);
        // Everything pays as a second stage does: but only what is at the index of an HTLC's input
        // is one.
        tx.output.push(output.clone());
    }
    let txid = tx.compute_txid();
    resolver
        .block(OnchainBlock { height: BlockHeight(101), transactions: Long(vec![tx]) })
        .unwrap();
    let now = resolver.resolution();
    assert_eq!(now.learned.0, [(HtlcId(3), preimage(3))]);
    assert_eq!(now.claims.0.iter().filter(|c| c.outpoint.txid == txid).count(), 1);
    assert_eq!(now.outputs.0.len(), made.built.tx.output.len() + 1);
    let end = BlockHeight(101 + DEPTH);
    resolver.block(OnchainBlock { height: end, transactions: Long(vec![]) }).unwrap();
}
