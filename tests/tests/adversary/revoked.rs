//! Revoked commitments, published: everything in them is the node's, whoever comes first to which
//! output.

use crate::scenes::*;
use bitcoin::Transaction;
use primitives::*;
use serde_json::json;
use tests::stranger::*;

/// The HTLCs of a revoked commitment.
#[derive(Clone, Copy)]
struct Htlcs {
    /// Do all have one hash and amount?
    equal: bool,
    /// And one expiry?
    same_expiry: bool,
}

/// A channel with a revoked commitment that has two HTLCs each way; its number, and the HTLCs: two
/// of the stranger's, then two of the node's, whose preimages it knows.
fn with_revoked(
    world: &World,
    n: u64,
    plan: Plan,
    htlcs: Htlcs,
) -> (Live, u64, Vec<(Side, HtlcId)>) {
    let mut live = Stranger::meet(n, world).open(world, plan);
    live.lock_in(world);
    let mut which = Vec::new();
    for (at, held) in [Held::new(world, &format!("{n}-0")), Held::new(world, &format!("{n}-1"))]
        .into_iter()
        .enumerate()
    {
        let at = at as u32;
        let msat = if htlcs.equal { 50_000_000 } else { 40_000_000 + u64::from(at) * 7_000_000 };
        let blocks = if htlcs.same_expiry { 40 } else { 40 + at };
        which.push((Side::Local, held.add(world, &mut live, msat, blocks)));
        live.settle();
    }
    for at in 0..2 {
        let hash =
            if htlcs.equal { preimage(n as u8) } else { preimage((n * 2 + at) as u8) }.hash();
        let msat = if htlcs.equal { 50_000_000 } else { 60_000_000 + at * 7_000_000 };
        let blocks = if htlcs.same_expiry { 40 } else { 40 + at as u32 };
        which.push((Side::Remote, node_pays(world, &mut live, msat, hash, blocks, at + 1)));
    }
    let number = live.newest();
    assert_eq!(live.mine(number).htlcs.len(), 4);
    // One HTLC more revokes that.
    Held::new(world, &format!("{n}-2")).add(world, &mut live, 20_000_000, 60);
    live.settle();
    wait_settled(world, &live);
    assert!(live.newest() > number);
    (live, number, which)
}

fn preimage_of(n: u64, at: usize, equal: bool) -> Option<Preimage> {
    let node_offered = at.checked_sub(2)? as u64;
    Some(preimage(if equal { n as u8 } else { (n * 2 + node_offered) as u8 }))
}

/// Second stages of the stranger's get into a block before the node's penalties: for each subset,
/// in the given order of blocks.
fn revoked(plan: fn(u64) -> Plan, htlcs: Htlcs, orders: &[&[usize]]) {
    // Half of everything is what a penalty may cost at its deadline, which is far away here.
    let world = World::with(&["--watchtime-blocks=300"]);
    for (round, order) in (1u64..).zip(orders) {
        let (mut live, number, which) = with_revoked(&world, round, plan(round), htlcs);
        let commitment = live.commitment(number);
        let before = total(&world);
        let stages: Vec<Transaction> = order
            .iter()
            .map(|at| {
                live.second_stage(&world, number, which[*at], preimage_of(round, *at, htlcs.equal))
            })
            .collect();
        live.stranger.hang_up();
        world.mine_only(&[&commitment]);
        wait_onchain(&world, &live, "remote_revoked");
        for stage in &stages {
            let lock = stage.lock_time.to_consensus_u32();
            while lock > world.height() {
                // Timeouts are lawful later. Nothing of the node's gets into these blocks.
                world.mine_only(&[]);
            }
            world.mine_only(&[stage]);
        }
        world.resolve(&live.name());
        world.mine(2);
        // The whole channel, less fees: the commitment's, the second stages', ours.
        let gained = total(&world) as i64 - before as i64;
        let node_had = 400_000i64;
        assert!(gained > 1_000_000 - node_had - FEES as i64, "order {order:?}: gained {gained}");
    }
}

const DIFFERENT: Htlcs = Htlcs { equal: false, same_expiry: false };

/// The cheat either leaves its outputs alone or competes with each second-stage transaction.
#[test]
fn revoked_broadcast_alone_and_with_each_second_stage_is_lost() {
    revoked(Plan::new, DIFFERENT, &[&[], &[2], &[3]]);
}
#[test]
fn ldk_invalid_claims_griefing_one_batch_input_each_block() {
    revoked(Plan::new, DIFFERENT, &[&[2, 3, 0, 1], &[3, 1], &[0, 2]]);
}
#[test]
fn ldk_invalid_claims_griefing_without_anchors() {
    revoked(|n| Plan::new(n).plain(), DIFFERENT, &[&[3, 2, 1, 0], &[1, 3], &[]]);
}
#[test]
fn ldk_duplicate_htlc_force_close_same_expiry() {
    let equal = Htlcs { equal: true, same_expiry: true };
    revoked(Plan::new, equal, &[&[], &[2], &[3, 0]]);
}
#[test]
fn ldk_duplicate_htlc_force_close_different_expiry() {
    let equal = Htlcs { equal: true, same_expiry: false };
    revoked(|n| Plan::new(n).plain(), equal, &[&[3], &[2, 1], &[0, 1, 2, 3]]);
}

/// The cheat replaces one input of the penalty batch in each block.
#[test]
fn lnd_replacement_stalling_one_batch_input_replaced_each_block() {
    let world = World::with(&["--watchtime-blocks=300"]);
    let (mut live, number, which) = with_revoked(&world, 1, Plan::new(1), DIFFERENT);
    let before = total(&world);
    live.stranger.hang_up();
    world.mine_only(&[&live.commitment(number)]);
    wait_onchain(&world, &live, "remote_revoked");
    for at in [2, 3] {
        // What the node has in the mempool for this output makes way for what pays more, with all
        // that it shares it with.
        let (_, output) = Live::htlc_output(&live.mine(number), which[at].0, which[at].1);
        let outpoint = output.tx.input[0].previous_output;
        world.wait_spend(outpoint);
        let stage = live.second_stage(&world, number, which[at], preimage_of(1, at, false));
        world.send(&stage);
        assert_eq!(world.wait_spend(outpoint).compute_txid(), stage.compute_txid());
        world.mine(1);
    }
    // The rest is not stalled by it.
    let is_taken = || {
        let channel = world.node.channel(&live.name());
        let outputs = channel["onchain_outputs"].as_array().unwrap();
        assert!(outputs.iter().any(|o| o["what"] == "their_to_local"), "{outputs:?}");
        outputs.iter().all(|o| o["what"] != "their_to_local" || o["resolved"] == true)
    };
    for _ in 0..3 {
        world.mine(1);
    }
    assert!(is_taken());
    world.resolve(&live.name());
    world.mine(2);
    let gained = total(&world) as i64 - before as i64;
    assert!(gained > 600_000 - FEES as i64, "gained {gained}");
}

/// The first commitment, and those in the middle of an update.
#[test]
fn revoked_commitments_of_each_kind_are_punished() {
    let world = World::new();
    let mut lives = Vec::new();
    for n in 1..=4u64 {
        let mut live = Stranger::meet(n, &world).open(&world, Plan::new(n));
        live.lock_in(&world);
        for at in 0..3 {
            Held::new(&world, &format!("{n}-{at}")).add(&world, &mut live, 30_000_000, 50);
            live.settle();
        }
        wait_settled(&world, &live);
        lives.push(live);
    }
    let before = total(&world);
    for (live, number) in lives.iter_mut().zip([0, 1, 2, u64::MAX]) {
        // The newest but one: revoked in the last message before the line broke.
        let number = number.min(live.newest() - 1);
        live.stranger.hang_up();
        let tx = live.commitment(number);
        world.mine_only(&[&tx]);
    }
    for live in &lives {
        wait_onchain(&world, live, "remote_revoked");
        world.resolve(&live.name());
    }
    world.mine(2);
    let gained = total(&world) as i64 - before as i64;
    assert!(gained > 4 * 600_000 - 4 * FEES as i64, "gained {gained}");
}

#[test]
fn lnd_close_reorg_from_a_mutual_close_to_a_revoked_commitment() {
    for depth in [1, 2, 6] {
        let world = World::with(&["--watchtime-blocks=300"]);
        let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
        live.lock_in(&world);
        // All of it becomes the stranger's and back: state 0 was better for it.
        let id = node_pays(&world, &mut live, 100_000_000, preimage(1).hash(), 40, 1);
        live.fail(id);
        live.settle();
        let revoked = live.commitment(live.newest() - 1);
        let before = total(&world);
        let id = live.id;
        live.say(&wire::Shutdown { channel_id: id, scriptpubkey: miner_script() });
        let theirs = live.hear_until(|m| matches!(m, wire::ChannelMessage::Shutdown(_)));
        let wire::ChannelMessage::Shutdown(theirs) = theirs else { unreachable!() };
        let good = live.closing_signed(&theirs.scriptpubkey, miner_script(), 1000);
        live.say(&good);
        wait_close(&world, &live);
        live.stranger.hang_up();
        world.mine(1);
        world.node.wait_state(&live.name(), "ONCHAIN");
        world.mine(depth - 1);
        let hash = world.bitcoind.rpc("getblockhash", &json!([world.height() + 1 - depth]));
        world.bitcoind.rpc("invalidateblock", &json!([hash]));
        world.mine_only(&[&revoked]);
        for _ in 0..depth {
            world.mine_only(&[]);
        }
        wait_onchain(&world, &live, "remote_revoked");
        world.resolve(&live.name());
        world.mine(2);
        let gained = total(&world) as i64 - before as i64;
        assert!(gained > 600_000 - FEES as i64, "depth {depth}: gained {gained}");
    }
}
