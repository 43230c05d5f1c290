//! Closes that a reorganisation takes back, and others in their place.

use crate::scenes::*;
use bitcoin::Transaction;
use primitives::*;
use serde_json::json;
use tests::stranger::*;

/// What spends the funding.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Mutual,
    Ours,
    Theirs,
    /// Signed, and the one before is not revoked.
    Previous,
    Revoked,
}

/// A channel with an HTLC each way that expires after so many blocks, a revoked state, and one more
/// commitment that is not answered; what each kind is.
struct Scene {
    world: World,
    live: Live,
    before: i64,
}

impl Scene {
    fn new(with_mutual: bool, blocks: u32) -> Self {
        let world = World::with(&["--watchtime-blocks=300"]);
        let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
        live.lock_in(&world);
        let before = total(&world) as i64;
        if with_mutual {
            let id = node_pays(&world, &mut live, 100_000_000, PaymentHash([1; 32]), blocks, 1);
            live.fail(id);
            live.settle();
        } else {
            Held::new(&world, "one").add(&world, &mut live, 70_000_000, blocks);
            live.settle();
            node_pays(&world, &mut live, 100_000_000, PaymentHash([1; 32]), blocks, 1);
            Held::new(&world, "two").add(&world, &mut live, 30_000_000, blocks);
            live.commit();
            live.hear_commit();
        }
        Self { world, live, before }
    }
    fn transaction(&mut self, kind: Kind) -> Transaction {
        let newest = self.live.newest();
        match kind {
            Kind::Theirs => self.live.commitment(newest),
            Kind::Previous => self.live.commitment(newest - 1),
            Kind::Revoked => self.live.commitment(1),
            Kind::Ours => {
                self.world.node.rpc("dev-fail", &json!({"id": self.live.name()}));
                wait_close(&self.world, &self.live)
            }
            Kind::Mutual => {
                let channel_id = self.live.id;
                self.live.say(&wire::Shutdown { channel_id, scriptpubkey: miner_script() });
                let heard =
                    self.live.hear_until(|m| matches!(m, wire::ChannelMessage::Shutdown(_)));
                let wire::ChannelMessage::Shutdown(theirs) = heard else { unreachable!() };
                let signed = self.live.closing_signed(&theirs.scriptpubkey, miner_script(), 1000);
                self.live.say(&signed);
                wait_close(&self.world, &self.live)
            }
        }
    }
    /// So many blocks never were.
    fn take_back(&self, depth: u32) {
        let bitcoind = &self.world.bitcoind;
        let first = bitcoind.height() + 1 - u64::from(depth);
        let hash = bitcoind.rpc("getblockhash", &json!([first]));
        bitcoind.rpc("invalidateblock", &json!([hash]));
    }
    /// So many blocks never were: this is in the first of those that came instead.
    fn instead(&self, depth: u32, tx: &Transaction) {
        self.take_back(depth);
        self.world.mine_only(&[tx]);
        for _ in 0..depth {
            self.world.mine_only(&[]);
        }
    }
}

fn first_one_then_the_other(first: Kind, second: Kind, depth: u32) {
    let mut scene = Scene::new(first == Kind::Mutual, 20);
    let (one, other) = match first {
        // Once the node has failed the channel it takes no other close.
        Kind::Mutual => (scene.transaction(first), scene.transaction(second)),
        Kind::Ours | Kind::Theirs | Kind::Previous | Kind::Revoked => {
            let other = scene.transaction(second);
            (scene.transaction(first), other)
        }
    };
    scene.live.stranger.hang_up();
    let world = &scene.world;
    world.mine_only(&[&one]);
    world.node.wait_state(&scene.live.name(), "ONCHAIN");
    world.mine(depth - 1);
    scene.instead(depth, &other);
    let how = match second {
        Kind::Ours => "local_unilateral",
        Kind::Theirs | Kind::Previous => "remote_unilateral",
        Kind::Revoked => "remote_revoked",
        Kind::Mutual => "mutual",
    };
    if second == Kind::Mutual {
        world.node.wait_state(&scene.live.name(), "ONCHAIN");
    } else {
        wait_onchain(world, &scene.live, how);
        world.resolve(&scene.live.name());
    }
    world.mine(2);
    let gained = total(world) as i64 - scene.before;
    // Whoever cheats loses all.
    let due = if second == Kind::Revoked { 600_000 } else { 0 };
    assert!(gained > due - 10_000, "{first:?}, then {second:?} at {depth}: gained {gained}");
    assert!(gained < due + 1_000, "{first:?}, then {second:?} at {depth}: gained {gained}");
}

#[test]
fn lnd_close_reorg_from_a_mutual_close_to_a_commitment() {
    first_one_then_the_other(Kind::Mutual, Kind::Theirs, 2);
    first_one_then_the_other(Kind::Mutual, Kind::Revoked, 6);
}
#[test]
fn lnd_close_reorg_from_local_to_remote_commitment() {
    first_one_then_the_other(Kind::Ours, Kind::Theirs, 1);
    first_one_then_the_other(Kind::Ours, Kind::Previous, 3);
    first_one_then_the_other(Kind::Ours, Kind::Revoked, 5);
}
#[test]
fn lnd_close_reorg_from_remote_commitment_to_another() {
    first_one_then_the_other(Kind::Theirs, Kind::Previous, 4);
    first_one_then_the_other(Kind::Theirs, Kind::Revoked, 6);
    first_one_then_the_other(Kind::Previous, Kind::Theirs, 2);
}
#[test]
fn lnd_close_reorg_from_a_revoked_commitment_to_a_valid_one() {
    first_one_then_the_other(Kind::Revoked, Kind::Theirs, 3);
    first_one_then_the_other(Kind::Revoked, Kind::Previous, 1);
}

/// Once for each depth: its block was, and never was; it comes again in another.
fn the_same_close_comes_again_from_every_depth(kind: Kind) {
    // No HTLC expires while its commitment is kept out of blocks: that would be worth a high fee.
    let mut scene = Scene::new(kind == Kind::Mutual, 60);
    let close = scene.transaction(kind);
    scene.live.stranger.hang_up();
    let (how, between) = match kind {
        Kind::Mutual => ("mutual", "CLOSINGD_COMPLETE"),
        Kind::Ours => ("local_unilateral", "AWAITING_UNILATERAL"),
        Kind::Theirs | Kind::Previous => ("remote_unilateral", "AWAITING_UNILATERAL"),
        Kind::Revoked => ("remote_revoked", "AWAITING_UNILATERAL"),
    };
    let (world, name) = (&scene.world, scene.live.name());
    for depth in 1..=6 {
        world.mine_only(&[&close]);
        wait_onchain(world, &scene.live, how);
        assert_eq!(world.evidence(&name)["blockheight"], world.height(), "{kind:?} at {depth}");
        // What follows it is mined with it, and leaves with it.
        world.mine(depth - 1);
        scene.take_back(depth);
        for _ in 0..depth {
            world.mine_only(&[]);
        }
        world.node.wait_state(&name, between);
        assert!(world.node.channel(&name)["close_reason"]["evidence"].is_null());
    }
    world.mine_only(&[&close]);
    wait_onchain(world, &scene.live, how);
    if kind != Kind::Mutual {
        world.resolve(&name);
    }
    world.mine(2);
    let gained = total(world) as i64 - scene.before;
    let due = if kind == Kind::Revoked { 600_000 } else { 0 };
    assert!(gained > due - 10_000, "{kind:?}: gained {gained}");
    assert!(gained < due + 1_000, "{kind:?}: gained {gained}");
}

#[test]
fn lnd_close_reorg_of_1_to_6_blocks_after_a_mutual_close() {
    the_same_close_comes_again_from_every_depth(Kind::Mutual);
}
/// The commitment has HTLCs.
#[test]
fn lnd_close_reorg_of_1_to_6_blocks_after_local_commitment() {
    the_same_close_comes_again_from_every_depth(Kind::Ours);
}
/// The commitments have HTLCs.
#[test]
fn lnd_close_reorg_of_1_to_6_blocks_after_remote_commitments() {
    the_same_close_comes_again_from_every_depth(Kind::Theirs);
    the_same_close_comes_again_from_every_depth(Kind::Previous);
}
#[test]
fn lnd_close_reorg_of_1_to_6_blocks_after_a_revoked_commitment() {
    the_same_close_comes_again_from_every_depth(Kind::Revoked);
}
