//! A tip that is too old to be the chain's: nothing new is put at stake by it, and what is at stake
//! is protected.

#[path = "onchain/mod.rs"]
mod scenes;

use scenes::*;
use serde_json::json;
use tests::{Bitcoind, Node, Pair, Scratch, wait_for};

const HOUR: u64 = 3600;

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// It is so many hours ago, for whoever makes blocks.
fn clock(bitcoind: &Bitcoind, hours_ago: u64) {
    bitcoind.rpc("setmocktime", &json!([now() - hours_ago * HOUR]));
}

fn at_tip(node: &Node, bitcoind: &Bitcoind) {
    wait_for("the tip", || {
        let height = node.rpc("getinfo", &json!({}))["blockheight"].as_u64();
        (height == Some(bitcoind.height())).then_some(())
    });
}

fn warning(node: &Node) -> Option<String> {
    let info = node.rpc("getinfo", &json!({}));
    info["warning_bitcoind_sync"].as_str().map(str::to_owned)
}

/// Funded nodes on a chain whose blocks are six hours old.
fn pair_of_long_ago() -> Pair {
    let scratch = Scratch::new();
    let start = format!("-mocktime={}", now() - 6 * HOUR);
    let bitcoind = Bitcoind::start_with(&scratch.path().join("bitcoind"), &["-regtest", &start]);
    let alice = Node::start(&scratch.path().join("alice"), &bitcoind, &[]);
    let bob = Node::start(&scratch.path().join("bob"), &bitcoind, &[]);
    alice.fund(&bitcoind);
    bob.fund(&bitcoind);
    alice.sync(&bitcoind);
    Pair { bitcoind, alice, bob, scratch }
}

/// An HTLC to bob fails, and neither node can open a channel to the other.
fn receives_and_opens_nothing(pair: &Pair, id: &str) {
    let scid = pair.alice.channel(id)["short_channel_id"].clone();
    let made = pair.bob.rpc("invoice", &json!([1_000_000, "on an old one", "d"]));
    let route =
        json!([{"id": pair.bob.id, "channel": scid, "amount_msat": 1_000_000, "delay": 24}]);
    let (hash, secret) = (&made["payment_hash"], &made["payment_secret"]);
    pair.alice
        .rpc("sendpay", &json!({"route": route, "payment_hash": hash, "payment_secret": secret}));
    let failed = pair.alice.refused("waitsendpay", &json!({"payment_hash": hash, "timeout": 40}));
    assert_eq!(failed.data["failcodename"], "WIRE_TEMPORARY_NODE_FAILURE", "{failed:?}");
    assert_eq!(failed.code, 204, "it can be tried again");
    let opens = |from: &Node, to: &Node| {
        from.refused("fundchannel", &json!({"id": to.id, "amount": 100_000}))
    };
    assert_eq!(opens(&pair.bob, &pair.alice).code, 304);
    assert!(opens(&pair.alice, &pair.bob).message.contains("not in sync"));
}

/// On a tip that is too old the node receives, forwards and opens nothing new.
#[test]
fn stale_tip_stops_new_business_and_keeps_htlcs_protected() {
    let mut pair = pair_of_long_ago();
    let id = pair.open(SAT);
    pair.alice.pay(&pair.bob.invoice(300_000_000, "as if nothing were wrong"));
    pair.bob.stop();
    clock(&pair.bitcoind, 0);
    pair.bitcoind.mine(1);
    pair.bob.start_again_with(&["--dev-stale-tip=14400"]);
    pair.bob.sync(&pair.bitcoind);
    pair.alice.sync(&pair.bitcoind);
    pair.reconnect(&id);
    pair.alice.pay(&pair.bob.invoice(1_000_000, "on a new tip"));

    // The new block is gone, and others come that are hours behind.
    let newest = pair.bitcoind.rpc("getbestblockhash", &json!([]));
    clock(&pair.bitcoind, 5);
    pair.bitcoind.rpc("invalidateblock", &json!([newest]));
    pair.bitcoind.mine(2);
    at_tip(&pair.bob, &pair.bitcoind);
    at_tip(&pair.alice, &pair.bitcoind);
    let said = warning(&pair.bob).expect("it warns");
    assert!(said.contains("newest block is from 5h") || said.contains("from 6h"), "{said}");
    assert_eq!(warning(&pair.alice), None, "regtest has no limit");
    pair.bob.wait_log("Nothing new is received, forwarded or opened");

    receives_and_opens_nothing(&pair, &id);
    // What is at stake is protected: the peer closes, and what is ours is taken.
    let before = wealth(&pair.bob);
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    wait_for("the commitment", || {
        (!pair.bitcoind.rpc("getrawmempool", &json!([])).as_array()?.is_empty()).then_some(())
    });
    for _ in 0..20 {
        pair.bitcoind.mine(1);
        at_tip(&pair.bob, &pair.bitcoind);
    }
    pair.bob.wait_state(&id, "ONCHAIN");
    assert!(is_resolved(&pair.bob, &id), "{}", pair.bob.channel(&id));
    let gained = wealth(&pair.bob) - before;
    assert!((300_000..=301_000).contains(&gained), "bob got {gained}");
    assert!(warning(&pair.bob).is_some());

    // A new block, and it is over.
    clock(&pair.bitcoind, 0);
    pair.bitcoind.mine(1);
    pair.bob.sync(&pair.bitcoind);
    pair.bob.wait_log("bitcoind has a new block again");
}
