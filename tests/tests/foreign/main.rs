//! The suite and a peer that shares no code with it: an LDK node, on a real bitcoind.
//!
//! Here is what the stories have in common; they are told in the modules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by a panic"
)]

mod closing;
mod interrupted;
mod middle;
mod opening;
mod payments;
mod revoked;

use serde_json::{Value, json};
use std::cell::Cell;
use tests::{Bitcoind, LdkPeer, Node, Scratch, wait_for};

/// A suite and an LDK node on one chain, each with coins.
struct Foreign {
    bitcoind: Bitcoind,
    fulmen: Node,
    ldk: LdkPeer,
    #[allow(dead_code, reason = "held until the end: dropping it removes the folder")]
    scratch: Scratch,
    /// What the suite has every reason to call broken in this story.
    broken: Cell<Option<&'static str>>,
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
        Self { bitcoind, fulmen, ldk, scratch, broken: Cell::new(None) }
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
    /// Connected again, by whoever comes first.
    fn connect_somehow(&self) {
        wait_for("a connection", || {
            let to = json!({"id": self.ldk.id, "host": "127.0.0.1", "port": self.ldk.port});
            self.fulmen.call("connect", &to).ok()
        });
    }
    /// Connected again, and the channel is usable.
    fn reconnect(&self, id: &str) {
        self.connect_somehow();
        self.fulmen.wait_normal(id);
        self.ldk.wait_usable(id);
    }
    /// Blocks while the suite is down.
    fn mine_for_ldk(&self, blocks: u32) {
        self.bitcoind.mine(blocks);
        self.ldk.sync(&self.bitcoind);
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

/// Whatever LDK does, and whenever a node dies: it is no bug of the suite's.
impl Drop for Foreign {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let log = self.fulmen.log();
            let broken = log.lines().filter(|l| l.contains("BROKEN"));
            let (known, broken): (Vec<&str>, Vec<&str>) =
                broken.partition(|l| self.broken.get().is_some_and(|known| l.contains(known)));
            assert!(broken.is_empty(), "{broken:#?}");
            assert_eq!(!known.is_empty(), self.broken.get().is_some(), "{known:#?}");
        }
    }
}

/// All coins of a node of the suite, those of the mempool with them.
fn coins_sat(node: &Node) -> u64 {
    let funds = node.rpc("listfunds", &json!({}));
    let outputs = funds["outputs"].as_array().unwrap().iter();
    outputs.map(|o| o["amount_msat"].as_u64().unwrap() / 1000).sum()
}

/// Begins a payment of the suite's as soon as the channel takes it; how it ends is waited for
/// elsewhere.
fn sendpay(f: &Foreign, id: &str, msat: u64, hash: &Value, secret: &Value) {
    let scid = f.fulmen.channel(id)["short_channel_id"].clone();
    let route = json!([{"id": f.ldk.id, "channel": scid, "amount_msat": msat, "delay": 40}]);
    let sent = json!({"route": route, "payment_hash": hash, "payment_secret": secret});
    // It may just have lost its connection, and not say so in its state.
    let begun = wait_for("a payment to be taken", || f.fulmen.call("sendpay", &sent).ok());
    assert_eq!(begun["status"], "pending");
}

/// What is left of an invoice of LDK's to pay it by hand: its hash and its secret.
fn parts_of(f: &Foreign, bolt11: &str) -> (Value, Value) {
    let decoded = f.fulmen.rpc("decode", &json!([bolt11]));
    (decoded["payment_hash"].clone(), decoded["payment_secret"].clone())
}

/// Begins to pay an invoice of LDK's: its hash.
fn begin_pay(f: &Foreign, id: &str, bolt11: &str, msat: u64) -> Value {
    let (hash, secret) = parts_of(f, bolt11);
    sendpay(f, id, msat, &hash, &secret);
    hash
}
