//! Three nodes in a line: a payer, a forwarder, a payee.

use crate::{Bitcoind, Node, Scratch, wait_for};
use serde_json::{Value, json};
use std::path::Path;

/// What each channel of a [`Line`] has, in satoshi.
pub const LINE_SAT: u64 = 10_000_000;

/// A channel from `l1` to `l2` and one from `l2` to `l3`, all of it on the nearer side.
pub struct Line {
    /// The chain.
    pub bitcoind: Bitcoind,
    /// Pays.
    pub l1: Node,
    /// Forwards.
    pub l2: Node,
    /// Is paid.
    pub l3: Node,
    /// The channel of l1 and l2.
    pub first: String,
    /// The channel of l2 and l3.
    pub second: String,
    /// The last to go, if it is the line's own.
    pub scratch: Option<Scratch>,
}

/// One hop of a route: over which channel to whom, how much arrives, and how many blocks are left.
pub fn hop(node: &Node, channel: &Value, msat: u64, delay: u32) -> Value {
    json!({"id": node.id, "channel": channel, "amount_msat": msat, "delay": delay})
}

impl Line {
    /// With options for each.
    pub fn with(options: [&[&str]; 3]) -> Self {
        let scratch = Scratch::new();
        let mut line = Self::within(scratch.path(), options);
        line.scratch = Some(scratch);
        line
    }
    /// In this folder, which stays.
    pub fn within(folder: &Path, options: [&[&str]; 3]) -> Self {
        let bitcoind = Bitcoind::start(&folder.join("bitcoind"));
        let [l1, l2, l3] = ["l1", "l2", "l3"].map(|name| folder.join(name));
        let l1 = Node::start(&l1, &bitcoind, options[0]);
        let l2 = Node::start(&l2, &bitcoind, options[1]);
        let l3 = Node::start(&l3, &bitcoind, options[2]);
        l1.fund(&bitcoind);
        l2.fund(&bitcoind);
        l1.connect(&l2);
        l2.connect(&l3);
        let first = l1.open(&l2, LINE_SAT);
        let second = l2.open(&l3, LINE_SAT);
        bitcoind.mine(6);
        let line = Self { bitcoind, l1, l2, l3, first, second, scratch: None };
        line.wait_ready();
        line
    }
    /// With no options.
    pub fn new() -> Self {
        Self::with([&[]; 3])
    }
    /// Everybody is in sync, and both channels carry payments.
    pub fn wait_ready(&self) {
        for node in [&self.l1, &self.l2, &self.l3] {
            node.sync(&self.bitcoind);
        }
        self.l1.wait_normal(&self.first);
        self.l2.wait_normal(&self.first);
        self.l2.wait_normal(&self.second);
        self.l3.wait_normal(&self.second);
    }
    /// Whoever was away is called again.
    pub fn reconnect(&self) {
        for (from, to) in [(&self.l1, &self.l2), (&self.l2, &self.l3)] {
            let params = json!({"id": to.id, "host": "127.0.0.1", "port": to.port});
            wait_for("a connection", || from.call("connect", &params).ok());
        }
        self.wait_ready();
    }
    /// The short ids of both channels.
    pub fn scids(&self) -> [Value; 2] {
        [
            self.l1.channel(&self.first)["short_channel_id"].clone(),
            self.l2.channel(&self.second)["short_channel_id"].clone(),
        ]
    }
    /// The usual way for this much: fee-base 1, 10 millionths, a delta of 6 blocks, and 12 for the
    /// payee.
    pub fn route(&self, msat: u64) -> Value {
        let [first, second] = self.scids();
        json!([
            hop(&self.l2, &first, msat + 1 + msat / 100_000, 18),
            hop(&self.l3, &second, msat, 12),
        ])
    }
    /// An invoice of the payee's: hash and secret.
    pub fn invoice(&self, msat: u64, label: &str) -> (Value, Value) {
        let params = json!({"amount_msat": msat, "label": label, "description": label});
        let made = self.l3.rpc("invoice", &params);
        (made["payment_hash"].clone(), made["payment_secret"].clone())
    }
}
impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}
