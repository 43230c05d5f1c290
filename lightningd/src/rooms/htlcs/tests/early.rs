//! Incoming HTLCs that are about to expire (at 206) while their outgoing ones (until 200) are
//! unresolved.

use super::*;
use crate::kernel::turn::Turn;
use crate::rooms::chain::estimates::Estimates;
use crate::sys::fatal::Stop;

const NONE: [u64; 0] = [];

/// Channel 2 has so many HTLCs of 1000 sat each, and a close costs this much.
fn waiting(name: &str, forwards: u64, cost_sat: u32) -> Rig {
    let mut rig = narrow(name);
    set_cost(&mut rig, cost_sat);
    for id in 0..forwards {
        arrive(&mut rig, id);
        bind(&mut rig, OUT, (id, id, id + 1));
        commit(&mut rig, OUT, (id, id, id + 1));
    }
    rig.go_to_chain(OUT);
    rig
}
fn set_cost(rig: &mut Rig, sat: u32) {
    // 3800 weight units, rounded up.
    let floor = FeeratePerKw((sat * 10).div_ceil(38));
    rig.node.chain.fees = Some(Estimates { floor, by_blocks: vec![(2, floor)] });
}
/// A block at this height: which HTLCs are failed back.
fn tip(rig: &mut Rig, height: u32) -> Vec<u64> {
    let block = (BlockHeight(height), bitcoin::hashes::Hash::all_zeros());
    rig.node.chain.headers.push_back(block);
    back(&rig.run(Event::NewTip(BlockHeight(height))))
}
fn back(said: &[Said]) -> Vec<u64> {
    let failed = |s: &Said| match s {
        Said::Fail(IN, id, _) => Some(id.0),
        _ => None,
    };
    said.iter().filter_map(failed).collect()
}
fn learn(rig: &mut Rig, id: u64) -> Vec<Said> {
    let it = HtlcId(id);
    rig.turn(|n, t| learned_preimage(n, t, ChannelNumber(OUT), it, preimage(id)))
}
fn fails(rig: &mut Rig, id: u64) -> Vec<Said> {
    rig.turn(|node, turn| failed_on_chain(node, turn, ChannelNumber(OUT), HtlcId(id)))
}
/// Forwards that may have cost something, and whether they did.
fn rows(rig: &Rig) -> Vec<(u32, bool)> {
    let mut rows = rig.db.prepare("SELECT forward, lost FROM early_failures ORDER BY 1").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn early_failure_comes_three_blocks_before_the_incoming_expiry() {
    for crash in [false, true] {
        let mut rig = waiting(&format!("early-once-{crash}"), 1, 1_100);
        assert_eq!(tip(&mut rig, 202), NONE);
        assert_eq!(tip(&mut rig, 203), [0]);
        if crash {
            rig.crash();
        }
        assert_eq!((status(&rig), rows(&rig)), (vec![FAILED], vec![(1, false)]));
        assert_eq!(back(&again(&mut rig)), [0], "the decision is a row");
        assert_eq!(tip(&mut rig, 204), NONE);
        // The peer shows the preimage now: what was said upstream stays said.
        assert_eq!(learn(&mut rig, 0), []);
        assert_eq!((status(&rig), rows(&rig)), (vec![FAILED], vec![(1, true)]));
        assert_eq!(rig.node.htlcs.fees_collected, Msat::ZERO);
        rig.crash();
        assert_eq!(learn(&mut rig, 0), []);
        assert_eq!(fails(&mut rig, 0), []);
        assert_eq!((back(&again(&mut rig)), rows(&rig)), (vec![0], vec![(1, true)]));
    }
}

#[test]
fn early_failures_of_a_channel_cost_less_than_its_close() {
    let mut rig = waiting("early-sum", 3, 2_100);
    assert_eq!(tip(&mut rig, 203), [0, 1]);
    rig.crash();
    set_cost(&mut rig, 2_100);
    assert_eq!(tip(&mut rig, 204), NONE);
    // Of one that came back nothing is lost.
    assert_eq!(fails(&mut rig, 0), []);
    assert_eq!(rows(&rig), [(2, false)]);
    assert_eq!(tip(&mut rig, 205), [2]);
    // What was lost counts for as long as the incoming channel lives.
    let mut rig = waiting("early-lost", 3, 2_100);
    assert_eq!(tip(&mut rig, 203), [0, 1]);
    learn(&mut rig, 0);
    rig.node.channels.all.remove(&ChannelNumber(OUT));
    rig.crash();
    set_cost(&mut rig, 2_100);
    rig.node.channels.all.remove(&ChannelNumber(OUT));
    assert_eq!(tip(&mut rig, 204), [2], "the outgoing channel is buried: one of two was lost");
    assert_eq!(tip(&mut rig, 205), NONE);
}

#[test]
fn forward_above_the_cost_of_a_close_is_not_failed_early() {
    let mut rig = waiting("early-large", 1, 900);
    for height in 203..=210 {
        assert_eq!(tip(&mut rig, height), NONE);
    }
    // The market is another one.
    set_cost(&mut rig, 1_100);
    assert_eq!(tip(&mut rig, 211), [0]);
    let mut rig = waiting("early-large-paid", 1, 900);
    assert_eq!(tip(&mut rig, 205), NONE);
    assert_eq!(learn(&mut rig, 0), fulfil());
}

/// With a `cltv-delta` below four the incoming expiry is near before the outgoing one.
#[test]
fn early_failure_waits_for_the_outgoing_expiry() {
    let mut rig = waiting("early-live", 1, 1_100);
    let incoming = rig.node.channels.all.get_mut(&ChannelNumber(IN)).unwrap();
    incoming.live.htlcs.0[0].htlc.expiry = BlockHeight(201);
    assert_eq!(tip(&mut rig, 198), NONE);
    assert_eq!(tip(&mut rig, 199), NONE);
    assert_eq!(tip(&mut rig, 200), [0]);
}

#[test]
fn early_failure_waits_for_the_chain_to_be_read() {
    let mut rig = waiting("early-unread", 1, 1_100);
    rig.node.chain.caught_up = false;
    assert_eq!(tip(&mut rig, 203), NONE);
    let caught_up = |node: &crate::node::Node, turn: &mut Turn<'_>| -> Result<(), Stop> {
        crate::flows::backend::caught_up(node, turn)
    };
    assert_eq!(back(&rig.turn(caught_up)), [0]);
}

/// bitcoind was away for a while: its next block is not its newest.
#[test]
fn early_failure_waits_for_the_blocks_that_bitcoind_has() {
    let mut rig = waiting("early-behind", 1, 1_100);
    let backend = crate::rooms::chain::Backend { blocks: 205, headers: 205, syncing: false };
    rig.node.chain.backend = Some(backend);
    assert_eq!(tip(&mut rig, 203), NONE);
    assert_eq!(tip(&mut rig, 204), NONE);
    assert_eq!(tip(&mut rig, 205), [0]);
}

/// bitcoind had more blocks when it was asked last, and has left them since.
#[test]
fn early_failure_comes_when_bitcoind_has_no_more_blocks() {
    let mut rig = waiting("early-shorter", 1, 1_100);
    let backend = crate::rooms::chain::Backend { blocks: 205, headers: 205, syncing: false };
    rig.node.chain.backend = Some(backend);
    assert_eq!(tip(&mut rig, 203), NONE);
    let none = serde_json::json!({"blockhash": null, "block": null});
    let purpose = crate::kernel::words::rooms::Purpose::Block(BlockHeight(204));
    assert_eq!(back(&rig.run(Event::Backend(purpose, Ok(none)))), [0]);
}

#[test]
fn early_failure_is_skipped_if_the_incoming_channel_closes() {
    let mut rig = waiting("early-closing", 1, 1_100);
    rig.go_to_chain(IN);
    assert_eq!(tip(&mut rig, 203), NONE);
    assert_eq!(status(&rig), [OFFERED]);
    assert!(rig.channel(IN).decided.is_empty());
}

#[test]
fn early_failure_of_one_htlc_leaves_another_of_its_hash_alone() {
    let mut rig = narrow("early-hash");
    set_cost(&mut rig, 2_500);
    for (id, expiry) in [(0, 206), (1, 306)] {
        arrive_of(&mut rig, (id, 0), expiry);
        bind(&mut rig, OUT, (id, 0, id + 1));
        commit(&mut rig, OUT, (id, 0, id + 1));
    }
    rig.go_to_chain(OUT);
    assert_eq!(tip(&mut rig, 203), [0]);
    // onchaind names every HTLC of the hash.
    for id in [HtlcId(0), HtlcId(1)] {
        let said = rig.turn(|n, t| learned_preimage(n, t, ChannelNumber(OUT), id, preimage(0)));
        let paid = (id == HtlcId(1)).then_some(Said::Fulfil(IN, id, preimage(0)));
        assert_eq!(said, Vec::from_iter(paid));
    }
    assert_eq!((status(&rig), rows(&rig)), (vec![FAILED, SETTLED], vec![(1, true)]));
}

#[test]
fn early_failures_are_forgotten_with_their_incoming_channel() {
    let mut rig = waiting("early-forgotten", 2, 2_100);
    assert_eq!(tip(&mut rig, 203), [0, 1]);
    learn(&mut rig, 0);
    assert_eq!(rows(&rig), [(1, true), (2, false)]);
    for (channel, left) in [(OUT, 2), (IN, 0)] {
        rig.turn(|node, turn| {
            let channel = &node.channels.all[&ChannelNumber(channel)];
            crate::rooms::channels::watch::close_for_good(channel, turn, "a test")
        });
        assert_eq!((rows(&rig).len(), rig.node.htlcs.early.len()), (left, left), "{channel}");
    }
}
