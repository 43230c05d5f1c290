//! The suite and a peer that shares no code with it: an LDK node, on a real bitcoind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use tests::{Bitcoind, LdkPeer, Node, Scratch, wait_for};

#[test]
fn two_foreign_peers_open_pay_and_close() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let carol = LdkPeer::start(&scratch.path().join("carol"), &bitcoind);
    let dave = LdkPeer::start(&scratch.path().join("dave"), &bitcoind);
    carol.fund(&bitcoind);
    dave.fund(&bitcoind);
    let channel = carol.open(&dave.id, dave.port, 1_000_000, 0, true);
    bitcoind.mine(6);
    carol.sync(&bitcoind);
    dave.sync(&bitcoind);
    carol.wait_usable(&channel);
    dave.wait_usable(&channel);
    carol.pay(&dave.invoice(Some(100_000_000), 3600));
    carol.wait_balance(&channel, 900_000_000);
    dave.kill();
    dave.start_again();
    wait_for("a reconnect", || {
        let _ = dave.try_ask("connect", LdkPeer::place(&carol.id, carol.port));
        dave.is_connected(&carol.id).then_some(())
    });
    dave.wait_usable(&channel);
    dave.pay(&carol.invoice(Some(1_000), 3600));
    carol.wait_balance(&channel, 900_001_000);
    carol.close(&channel, "close");
    dave.wait_event("channel_closed", |e| e["channel_id"] == channel.as_str());
    carol.stop();
}

/// A suite and an LDK node on one chain, each with coins.
struct Foreign {
    bitcoind: Bitcoind,
    fulmen: Node,
    ldk: LdkPeer,
    #[allow(dead_code)]
    scratch: Scratch,
}

impl Foreign {
    fn new() -> Self {
        Self::with(&[], &[])
    }
    fn with(fulmen: &[&str], ldk: &[&str]) -> Self {
        let scratch = Scratch::new();
        let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
        let ldk = LdkPeer::start_with(&scratch.path().join("ldk"), &bitcoind, ldk);
        let fulmen = Node::start(&scratch.path().join("fulmen"), &bitcoind, fulmen);
        let address = ldk.ask("newaddr", json!({}));
        bitcoind.mine_to(1, address.as_str().unwrap());
        fulmen.fund(&bitcoind);
        ldk.sync(&bitcoind);
        Self { bitcoind, fulmen, ldk, scratch }
    }
    /// Blocks, and both have seen them.
    fn mine(&self, blocks: u32) {
        self.bitcoind.mine(blocks);
        self.ldk.sync(&self.bitcoind);
        self.fulmen.sync(&self.bitcoind);
    }
    fn connect(&self) {
        let to = json!({"id": self.ldk.id, "host": "127.0.0.1", "port": self.ldk.port});
        assert_eq!(self.fulmen.rpc("connect", &to)["id"], self.ldk.id.as_str());
    }
    /// A channel of the suite's, ready on both sides.
    fn fulmen_opens(&self, sat: u64, push_msat: u64, announce: bool) -> String {
        self.connect();
        let opened = self.fulmen.rpc(
            "fundchannel",
            &json!({"id": self.ldk.id, "amount": sat, "push_msat": push_msat, "announce": announce}),
        );
        let id = opened["channel_id"].as_str().unwrap().to_owned();
        self.confirm(&id);
        id
    }
    /// A channel of LDK's, ready on both sides.
    fn ldk_opens(&self, sat: u64, push_msat: u64, announce: bool) -> String {
        let id = self.ldk.open(&self.fulmen.id, self.fulmen.port, sat, push_msat, announce);
        self.confirm(&id);
        id
    }
    fn confirm(&self, id: &str) {
        let funding = self.fulmen.channel(id)["funding_txid"].as_str().unwrap().to_owned();
        self.bitcoind.wait_mempool(&funding);
        self.mine(6);
        self.fulmen.wait_normal(id);
        self.ldk.wait_usable(id);
    }
    /// What each has in a channel, once no HTLC is left in it, as both see it.
    fn balances_are(&self, id: &str, fulmen_msat: u64, ldk_msat: u64) {
        self.ldk.wait_balance(id, ldk_msat);
        assert_eq!(self.fulmen.settled_balance(id), fulmen_msat);
    }
}

#[test]
fn the_suite_opens_a_channel_to_ldk() {
    let f = Foreign::new();
    let id = f.fulmen_opens(1_000_000, 200_000_000, true);
    f.balances_are(&id, 800_000_000, 200_000_000);
}

#[test]
fn ldk_opens_a_channel_to_the_suite() {
    let f = Foreign::new();
    let id = f.ldk_opens(1_000_000, 200_000_000, true);
    f.balances_are(&id, 200_000_000, 800_000_000);
}
