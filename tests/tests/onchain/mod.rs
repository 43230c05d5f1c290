//! What scenes on chain have in common.

#![allow(dead_code)] // not all of it by everybody who has these scenes

use serde_json::{Value, json};
use tests::{Bitcoind, Node, Pair, RpcError, wait_for};

/// What channels of these scenes have.
pub const SAT: u64 = 1_000_000;

/// What a node has in confirmed coins, in satoshi.
pub fn wealth(node: &Node) -> u64 {
    let funds = node.rpc("listfunds", &json!({}));
    let outputs = funds["outputs"].as_array().unwrap();
    outputs
        .iter()
        .filter(|o| o["status"] == "confirmed" || o["status"] == "immature")
        .map(|o| o["amount_msat"].as_u64().unwrap() / 1000)
        .sum()
}

/// What a node knows of a channel's end.
pub fn evidence(node: &Node, id: &str) -> Value {
    wait_for("the evidence", || {
        let evidence = node.channel(id)["close_reason"]["evidence"].clone();
        (!evidence.is_null()).then_some(evidence)
    })
}

/// What was published by somebody gets into a block, and both see it.
pub fn confirm_close(pair: &Pair, id: &str) {
    wait_for("a commitment in the mempool", || {
        let pool = pair.bitcoind.rpc("getrawmempool", &json!([]));
        (!pool.as_array()?.is_empty()).then_some(())
    });
    pair.bitcoind.mine(1);
    for node in [&pair.alice, &pair.bob] {
        node.sync(&pair.bitcoind);
        node.wait_state(id, "ONCHAIN");
    }
}

/// Is everything of this channel's end done, and are all coins of it in blocks?
pub fn is_resolved(node: &Node, id: &str) -> bool {
    let channel = node.channel(id);
    let Some(outputs) = channel["onchain_outputs"].as_array() else { return false };
    outputs.iter().all(|o| o["resolved"] == true)
}

/// Blocks, one by one, until both are done.
pub fn resolve(pair: &Pair, id: &str) {
    for _ in 0..80 {
        pair.bitcoind.mine(1);
        pair.alice.sync(&pair.bitcoind);
        pair.bob.sync(&pair.bitcoind);
        if is_resolved(&pair.alice, id) && is_resolved(&pair.bob, id) {
            return;
        }
    }
    panic!("80 blocks resolved nothing: {} {}", pair.alice.channel(id), pair.bob.channel(id));
}

/// The same for one.
pub fn resolve_alone(node: &Node, bitcoind: &Bitcoind, id: &str) {
    for _ in 0..80 {
        bitcoind.mine(1);
        node.sync(bitcoind);
        if is_resolved(node, id) {
            return;
        }
    }
    panic!("80 blocks resolved nothing: {}", node.channel(id));
}

/// A payment of alice's to bob in two halves: the first waits at bob's for the second.
pub struct Parts<'a> {
    pair: &'a Pair,
    hash: Value,
    secret: Value,
    msat: u64,
}

impl<'a> Parts<'a> {
    /// An invoice over this.
    pub fn new(pair: &'a Pair, msat: u64) -> Self {
        let invoice = pair.bob.rpc(
            "invoice",
            &json!({"amount_msat": msat, "label": "parts", "description": "in halves"}),
        );
        let (hash, secret) = (invoice["payment_hash"].clone(), invoice["payment_secret"].clone());
        Self { pair, hash, secret, msat }
    }
    /// Half of it, over this channel.
    pub fn send(&self, channel: &str, part: u64) {
        let scid = self.pair.alice.channel(channel)["short_channel_id"].clone();
        let hop = json!([{"id": self.pair.bob.id, "channel": scid, "amount_msat": self.msat / 2,
            "delay": 24}]);
        self.pair.alice.rpc(
            "sendpay",
            &json!({"route": hop, "payment_hash": self.hash, "payment_secret": self.secret,
                "amount_msat": self.msat, "partid": part, "groupid": 1}),
        );
    }
    /// How a part ended.
    pub fn wait(&self, part: u64) -> Result<Value, RpcError> {
        let what = json!({"payment_hash": self.hash, "partid": part, "groupid": 1, "timeout": 30});
        self.pair.alice.call("waitsendpay", &what)
    }
}

/// More that a pair can do.
pub trait Scene {
    /// Until so many HTLCs wait at bob's.
    fn wait_held(&self, id: &str, count: usize);
    /// Until this channel is usable again.
    fn reconnect(&self, id: &str);
}

impl Scene for Pair {
    fn wait_held(&self, id: &str, count: usize) {
        for (node, state) in
            [(&self.bob, "RCVD_ADD_ACK_REVOCATION"), (&self.alice, "SENT_ADD_ACK_REVOCATION")]
        {
            wait_for("HTLCs to be held", || {
                let channel = node.channel(id);
                let htlcs = channel["htlcs"].as_array()?;
                (htlcs.iter().filter(|h| h["state"] == state).count() == count).then_some(())
            });
        }
    }
    fn reconnect(&self, id: &str) {
        wait_for("both to be connected", || {
            let to = json!({"id": self.bob.id, "host": "127.0.0.1", "port": self.bob.port});
            self.alice.call("connect", &to).ok()
        });
        self.alice.wait_normal(id);
        self.bob.wait_normal(id);
    }
}
