//! Coins on chain: addresses, amounts, withdrawals, reorganisations.

use serde_json::{Value, json};
use tests::{Bitcoind, Node, Scratch, wait_for};

fn node() -> (Scratch, Bitcoind, Node) {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &[]);
    (scratch, bitcoind, node)
}

fn outputs(node: &Node) -> Vec<Value> {
    node.rpc("listfunds", &json!({}))["outputs"].as_array().unwrap().clone()
}

#[test]
fn block_reward_is_immature_then_spendable() {
    let (_scratch, bitcoind, node) = node();
    let address = node.rpc("newaddr", &json!(["bech32"]))["bech32"].as_str().unwrap().to_owned();
    bitcoind.mine_to(1, &address);
    node.sync(&bitcoind);
    assert_eq!(outputs(&node)[0]["status"], "immature");
    let to = node.rpc("newaddr", &json!(["p2tr"]))["p2tr"].clone();
    assert_eq!(node.refused("withdraw", &json!([to, "100000sat"])).code, 301);
    bitcoind.mine(99);
    node.sync(&bitcoind);
    assert_eq!(outputs(&node)[0]["status"], "confirmed");
    assert_eq!(outputs(&node)[0]["address"], address.as_str());
}

#[test]
fn withdraw_pays_the_amount_and_returns_the_change() {
    let (_scratch, bitcoind, node) = node();
    node.fund(&bitcoind);
    let before = outputs(&node)[0]["amount_msat"].as_u64().unwrap();
    let to = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let sent = node
        .rpc("withdraw", &json!({"destination": to, "satoshi": 100_000, "feerate": "1000perkw"}));
    let txid = sent["txid"].as_str().unwrap();
    bitcoind.wait_mempool(txid);
    let tx = bitcoind.transaction(txid);
    assert!(tx.output.iter().any(|o| o.value.to_sat() == 100_000));
    assert_eq!(bitcoin::consensus::encode::serialize_hex(&tx), sent["tx"].as_str().unwrap());
    let fee = before / 1000 - tx.output.iter().map(|o| o.value.to_sat()).sum::<u64>();
    let weight = tx.weight().to_wu();
    assert!(fee >= weight && fee < weight + weight / 20, "{fee} for {weight} at 1000 per kw");
    assert_eq!(outputs(&node)[0]["status"], "unconfirmed");
    bitcoind.mine(1);
    node.sync(&bitcoind);
    let left: u64 = outputs(&node).iter().map(|o| o["amount_msat"].as_u64().unwrap()).sum();
    assert_eq!(left, before - 100_000_000 - fee * 1000);
    let all = node.rpc("withdraw", &json!([to, "all"]));
    bitcoind.wait_mempool(all["txid"].as_str().unwrap());
    assert!(outputs(&node).is_empty());
    assert_eq!(node.rpc("listfunds", &json!([true]))["outputs"].as_array().unwrap().len(), 2);
}

#[test]
fn chosen_utxos_are_each_checked() {
    let (_scratch, bitcoind, node) = node();
    node.fund(&bitcoind);
    let to = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let nobodys = format!("{}:0", "11".repeat(32));
    let refused =
        node.refused("withdraw", &json!({"destination": to, "satoshi": 1000, "utxos": [nobodys]}));
    assert!(refused.message.contains("Unknown UTXO"), "{}", refused.message);
    for (wrong, says) in [
        (json!(["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", 1000]), "no address of regtest"),
        (json!(["nonsense", 1000]), "is no address"),
        (json!([to, "1.5"]), "satoshi: should be"),
        (json!([to, 100]), "dust"),
    ] {
        let refused = node.refused("withdraw", &wrong);
        assert!(refused.message.contains(says), "{}", refused.message);
    }
}

#[test]
fn utxos_follow_the_chain_through_a_reorg() {
    let (_scratch, bitcoind, node) = node();
    node.fund(&bitcoind);
    let to = node.rpc("newaddr", &json!(["p2tr"]))["p2tr"].as_str().unwrap().to_owned();
    let sent = node.rpc("withdraw", &json!({"destination": to, "satoshi": 1_000_000}));
    let txid = sent["txid"].as_str().unwrap().to_owned();
    bitcoind.wait_mempool(&txid);
    bitcoind.mine(2);
    node.sync(&bitcoind);
    let confirmed = |node: &Node| {
        outputs(node)
            .iter()
            .filter(|o| o["txid"] == txid.as_str() && o["status"] == "confirmed")
            .count()
    };
    assert_eq!(confirmed(&node), 2);
    // Three blocks instead of two, without it.
    let tip = bitcoind.height();
    let old = bitcoind.rpc("getblockhash", &json!([tip - 1]));
    bitcoind.rpc("invalidateblock", &json!([old]));
    let empty = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk";
    for _ in 0..3 {
        bitcoind.rpc("generateblock", &json!([empty, []]));
    }
    wait_for("the new chain", || {
        (node.rpc("getinfo", &json!({}))["blockheight"].as_u64() == Some(bitcoind.height())
            && confirmed(&node) == 0)
            .then_some(())
    });
    assert!(
        outputs(&node).iter().all(|o| o["txid"] != txid.as_str() || o["status"] == "unconfirmed")
    );
    bitcoind.wait_mempool(&txid);
    bitcoind.mine(1);
    wait_for("the transaction in the new chain", || (confirmed(&node) == 2).then_some(()));
}

#[test]
fn restart_keeps_every_utxo() {
    let (_scratch, bitcoind, node) = node();
    node.fund(&bitcoind);
    let before = outputs(&node);
    node.kill();
    bitcoind.mine(1);
    node.start_again();
    node.sync(&bitcoind);
    assert_eq!(outputs(&node), before);
    assert_eq!(node.rpc("waitblockheight", &json!([1])), json!({"blockheight": bitcoind.height()}));
    assert_eq!(node.refused("waitblockheight", &json!([100_000, 0])).code, 2000);
}

#[test]
fn feerates_are_shown_in_both_units() {
    let (_scratch, _bitcoind, node) = node();
    let perkw = node.rpc("feerates", &json!(["perkw"]))["perkw"].clone();
    let perkb = node.rpc("feerates", &json!(["perkb"]))["perkb"].clone();
    assert_eq!(perkw["opening"].as_u64().map(|r| r * 4), perkb["opening"].as_u64());
    assert_eq!(perkw["floor"], 253);
    assert_eq!(node.refused("feerates", &json!(["perfoo"])).code, -32602);
}

#[test]
fn reorg_to_equal_or_lower_height_is_seen_without_a_new_block() {
    let (_scratch, bitcoind, node) = node();
    let address = node.rpc("newaddr", &json!(["bech32"]))["bech32"].as_str().unwrap().to_owned();
    bitcoind.mine_to(1, &address);
    node.sync(&bitcoind);
    assert_eq!(outputs(&node).len(), 1);
    let gone = bitcoind.rpc("getbestblockhash", &json!([]));
    bitcoind.rpc("invalidateblock", &json!([gone]));
    bitcoind.mine(1);
    wait_for("the reward to be gone", || outputs(&node).is_empty().then_some(()));
    node.sync(&bitcoind);

    bitcoind.mine_to(3, &address);
    node.sync(&bitcoind);
    assert_eq!(outputs(&node).len(), 3);
    let first = bitcoind.rpc("getblockhash", &json!([bitcoind.height() - 2]));
    bitcoind.rpc("invalidateblock", &json!([first]));
    bitcoind.mine(1);
    wait_for("the rewards to be gone", || outputs(&node).is_empty().then_some(()));
    node.sync(&bitcoind);
}
