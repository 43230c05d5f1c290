//! Reorganisations of more blocks than the node keeps in memory: while it runs, while it is down,
//! and below everything that it knows.

use crate::scenes::*;
use primitives::*;
use serde_json::json;
use tests::stranger::*;
use tests::wait_for;

/// More than the headers in memory.
const DEPTH: u64 = 160;

/// A channel, another one that the node closed, and coins that it paid to itself: all in blocks
/// that never were.
struct Scene {
    world: World,
    live: Live,
    closed: Live,
    withdrawal: String,
    /// The height of both fundings.
    height: u64,
    before: u64,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
        let mut closed = Stranger::meet(2, &world).open(&world, Plan::new(2));
        let address = world.node.rpc("newaddr", &json!({"addresstype": "p2tr"}))["p2tr"].clone();
        let withdraw = json!({"destination": address, "satoshi": 1_000_000});
        let withdrawal = world.node.rpc("withdraw", &withdraw)["txid"].as_str().unwrap().to_owned();
        world.mine(3);
        for it in [&mut live, &mut closed] {
            it.ready();
            world.node.wait_normal(&it.name());
        }
        let height = world.bitcoind.height() - 2;
        let before = total(&world);
        world.mine(110);
        closed.stranger.hang_up();
        world.node.rpc("dev-fail", &json!({"id": closed.name()}));
        wait_close(&world, &closed);
        world.mine(1);
        wait_onchain(&world, &closed, "local_unilateral");
        world.resolve(&closed.name());
        world.mine(u32::try_from(height + DEPTH - world.bitcoind.height()).unwrap());
        Self { world, live, closed, withdrawal, height, before }
    }

    /// Every block from the fundings on never was. In as many others and some more the fundings
    /// come later.
    fn reorganise(&self) {
        let bitcoind = &self.world.bitcoind;
        let withdrawal = bitcoind.transaction(&self.withdrawal);
        let hash = bitcoind.rpc("getblockhash", &json!([self.height]));
        bitcoind.rpc("invalidateblock", &json!([hash]));
        for _ in 0..7 {
            bitcoind
                .rpc("generateblock", &json!(["bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk", []]));
        }
        for tx in
            [self.live.funding_tx.as_ref(), self.closed.funding_tx.as_ref(), Some(&withdrawal)]
        {
            // The node may have been faster.
            let _known = self.world.try_send(tx.unwrap());
        }
        bitcoind.mine(u32::try_from(DEPTH).unwrap());
    }

    /// The node is where the chain is, and everything of it is there again.
    fn recovers(mut self) {
        self.world.node.sync(&self.world.bitcoind);
        wait_for("the funding to be found again", || {
            let channel = self.world.node.channel(&self.live.name());
            let scid: ShortChannelId = channel["short_channel_id"].as_str()?.parse().ok()?;
            assert_eq!(u64::from(scid.block().0), self.height + 7);
            Some(())
        });
        let name = self.closed.name();
        wait_for("the close to come again", || {
            self.world.mine(1);
            let there = self.world.node.channel(&name)["state"] == "ONCHAIN";
            (there && self.world.is_resolved(&name)).then_some(())
        });
        let after = total(&self.world);
        assert!(after <= self.before && after + FEES > self.before, "{} {after}", self.before);
        let listed = self.world.node.rpc("listfunds", &json!({}))["outputs"].clone();
        let is_withdrawn = |o: &&serde_json::Value| o["txid"] == *self.withdrawal;
        for output in listed.as_array().unwrap().iter().filter(is_withdrawn) {
            assert_eq!(
                (&output["status"], &output["blockheight"]),
                (&json!("confirmed"), &json!(self.height + 7))
            );
        }
        let id = node_pays(&self.world, &mut self.live, 5_000_000, preimage(1).hash(), 40, 1);
        self.live.fulfil(id, preimage(1));
        self.live.settle();
    }
}

#[test]
fn reorg_deeper_than_the_headers_in_memory_is_followed() {
    let scene = Scene::new();
    scene.reorganise();
    scene.recovers();
}

fn while_down(change: impl FnOnce(&World), says: &str) {
    let mut scene = Scene::new();
    scene.live.stranger.hang_up();
    scene.world.node.stop();
    change(&scene.world);
    scene.reorganise();
    scene.world.node.start_again();
    scene.world.node.wait_log(says);
    scene.world.node.sync(&scene.world.bitcoind);
    scene.live.reconnect(&scene.world);
    scene.recovers();
}

#[test]
fn reorg_deeper_than_the_headers_in_memory_is_followed_at_start() {
    while_down(|_| {}, "no longer in the chain");
}

/// An older version kept 144 headers.
#[test]
fn reorg_below_every_known_header_is_followed() {
    let old_version = |world: &World| {
        let path = world.node.network_dir().join("lightningd.sqlite3");
        let db = rusqlite::Connection::open(path).unwrap();
        db.execute("DELETE FROM blocks WHERE height <= (SELECT max(height) FROM blocks) - 144", [])
            .unwrap();
    };
    while_down(old_version, "the first that is known");
}
