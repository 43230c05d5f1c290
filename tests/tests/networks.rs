//! Every chain, and a chain that is not there yet: bitcoinds without a network, at their first
//! block.

use serde_json::{Value, json};
use tests::{Bitcoind, Node, Options, Scratch, free_port, wait_for};

/// A bitcoind of this chain that talks to nobody, and a node on it.
fn at_genesis(scratch: &Scratch, chain: &str, network: &str) -> (Bitcoind, Node) {
    let chain = format!("-chain={chain}");
    let bitcoind = Bitcoind::start_at_genesis(&scratch.path().join("bitcoind"), &[&chain]);
    let port = free_port();
    let mut options = Options::usual(&scratch.path().join("node"), &bitcoind, port);
    options.args.retain(|arg| !arg.starts_with("--network="));
    options.args.push(format!("--network={network}"));
    let node = Node::start_as(options, port);
    (bitcoind, node)
}

fn starts_on(chain: &str, network: &str, address_begins: &str) {
    let scratch = Scratch::new();
    let (_bitcoind, node) = at_genesis(&scratch, chain, network);
    let info = node.rpc("getinfo", &json!({}));
    assert_eq!(info["network"], network);
    assert!(info["lightning-dir"].as_str().unwrap().ends_with(network), "{info}");
    let address = node.rpc("newaddr", &json!({"addresstype": "bech32"}))["bech32"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(address.starts_with(address_begins), "{address}");
    assert_eq!(node.logged("this software is young"), network == "bitcoin");
    node.stop();
}

#[test]
fn node_starts_on_testnet() {
    starts_on("test", "testnet", "tb1q");
}

#[test]
fn node_starts_on_testnet4() {
    starts_on("testnet4", "testnet4", "tb1q");
}

#[test]
fn node_starts_on_signet() {
    starts_on("signet", "signet", "tb1q");
}

#[test]
fn node_starts_on_mainnet_and_warns() {
    starts_on("main", "bitcoin", "bc1q");
}

fn is_syncing(info: &Value) -> bool {
    info["warning_bitcoind_sync"] == "Bitcoind is not up-to-date with network."
}

#[test]
fn opening_is_refused_before_the_chain_is_in_sync() {
    let scratch = Scratch::new();
    // Bob's bitcoind is downloading a chain, as far as it knows.
    let (behind, bob) = at_genesis(&scratch, "regtest", "regtest");
    assert!(is_syncing(&bob.rpc("getinfo", &json!({}))));
    let bitcoind = Bitcoind::start(&scratch.path().join("other bitcoind"));
    let alice = Node::start(&scratch.path().join("alice"), &bitcoind, &[]);
    alice.fund(&bitcoind);
    alice.connect(&bob);
    let open = |from: &Node, to: &Node| {
        from.refused("fundchannel", &json!({"id": to.id, "amount": 1_000_000}))
    };
    let error = open(&bob, &alice);
    assert_eq!(error.code, 304, "{error:?}");
    assert_eq!(error.message, "Still syncing with bitcoin network");
    let start = json!({"id": alice.id, "amount": 1_000_000});
    assert_eq!(bob.refused("fundchannel_start", &start).code, 304);
    // He accepts none either, and says why.
    let error = open(&alice, &bob);
    assert!(error.message.contains("not in sync with the chain yet, try again later"), "{error:?}");
    let funds = alice.rpc("listfunds", &json!({}));
    assert!(funds["outputs"].as_array().unwrap().iter().all(|o| o["reserved"] == false), "{funds}");

    behind.mine(1);
    wait_for("bob to be in sync", || {
        let info = bob.rpc("getinfo", &json!({}));
        (info.get("warning_bitcoind_sync").is_none()
            && info.get("warning_lightningd_sync").is_none())
        .then_some(())
    });
    assert_ne!(open(&bob, &alice).code, 304, "he has no coins, and that is all");
}
