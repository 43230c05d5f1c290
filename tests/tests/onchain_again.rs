//! What was sent once is sent until it is in a block: with every block, and on every start. A
//! mempool forgets.

#[path = "onchain/mod.rs"]
mod scenes;

use scenes::*;
use serde_json::json;
use tests::{Bitcoind, Node, Pair, Scratch, wait_for};

/// A pair on a bitcoind whose mempool is gone whenever it stops.
fn forgetful() -> Pair {
    let scratch = Scratch::new();
    let bitcoind =
        Bitcoind::start_with(&scratch.path().join("bitcoind"), &["-regtest", "-persistmempool=0"]);
    let alice = Node::start(&scratch.path().join("alice"), &bitcoind, &[]);
    let bob = Node::start(&scratch.path().join("bob"), &bitcoind, &[]);
    alice.fund(&bitcoind);
    bob.sync(&bitcoind);
    Pair { bitcoind, alice, bob, scratch }
}

fn forget(bitcoind: &Bitcoind) {
    bitcoind.stop();
    bitcoind.restart();
    assert_eq!(bitcoind.rpc("getrawmempool", &json!([])), json!([]));
}

/// The one transaction that waits.
fn waiting(bitcoind: &Bitcoind) -> String {
    wait_for("a transaction in the mempool", || {
        let pool = bitcoind.rpc("getrawmempool", &json!([]));
        Some(pool.as_array()?.first()?.as_str()?.to_owned())
    })
}

/// The mempool forgets it: alice sends it again with the next block, and when she is started again.
fn comes_again(pair: &Pair, txid: &str) {
    forget(&pair.bitcoind);
    pair.bitcoind
        .rpc("generateblock", &json!(["bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk", []]));
    pair.bitcoind.wait_mempool(txid);
    pair.alice.kill();
    forget(&pair.bitcoind);
    pair.alice.start_again();
    pair.bitcoind.wait_mempool(txid);
}

/// Fundings, commitments and claims.
#[test]
fn rebroadcast_of_unconfirmed_txs_at_each_block_and_start() {
    let pair = forgetful();
    pair.alice.connect(&pair.bob);
    let id = pair.alice.open(&pair.bob, SAT);
    let funding = waiting(&pair.bitcoind);
    comes_again(&pair, &funding);
    pair.bitcoind.mine(6);
    pair.reconnect(&id);
    // Only alice does anything from here on.
    pair.bob.stop();
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    let commitment = waiting(&pair.bitcoind);
    comes_again(&pair, &commitment);
    pair.bitcoind.mine(1);
    pair.alice.sync(&pair.bitcoind);
    pair.alice.wait_state(&id, "ONCHAIN");
    // What is hers of it, after its delay.
    let claim = wait_for("a claim", || {
        pair.bitcoind.mine(1);
        pair.alice.sync(&pair.bitcoind);
        let pool = pair.bitcoind.rpc("getrawmempool", &json!([]));
        Some(pool.as_array()?.first()?.as_str()?.to_owned())
    });
    assert_eq!(
        pair.bitcoind.transaction(&claim).input[0].previous_output.txid.to_string(),
        commitment
    );
    comes_again(&pair, &claim);
    resolve_alone(&pair.alice, &pair.bitcoind, &id);
}

/// Fewer confirmations than this, and it could still be otherwise.
const BURIED: u64 = 100;

fn is_listed(node: &Node, id: &str) -> bool {
    node.channel(id)["state"] == "ONCHAIN"
}

/// Not one block sooner.
#[test]
fn channel_is_forgotten_100_blocks_after_its_last_transaction() {
    let pair = Pair::new();
    let ids = [pair.open(SAT), pair.open(SAT)];
    let [alone, together] = &ids;
    let closed = pair.alice.rpc("close", &json!({"id": together}));
    assert_eq!(closed["type"], "mutual");
    pair.bob.stop();
    pair.alice.rpc("dev-fail", &json!({"id": alone}));
    wait_for("both closes in the mempool", || {
        (pair.bitcoind.rpc("getrawmempool", &json!([])).as_array()?.len() == 2).then_some(())
    });
    pair.bitcoind.mine(1);
    pair.alice.sync(&pair.bitcoind);
    let mutual = pair.bitcoind.height();
    resolve_alone(&pair.alice, &pair.bitcoind, alone);
    let outputs = pair.alice.channel(alone)["onchain_outputs"].clone();
    let heights = outputs.as_array().unwrap().iter().filter_map(|o| o["spent_height"].as_u64());
    let last = heights.max().expect("something was taken");
    assert!(mutual < last);
    for (id, at) in [(together, mutual), (alone, last)] {
        // One confirmation is the block itself.
        let until = at + BURIED - 2;
        pair.bitcoind.mine(u32::try_from(until - pair.bitcoind.height()).unwrap());
        pair.alice.sync(&pair.bitcoind);
        assert!(is_listed(&pair.alice, id), "99 confirmations");
        // Six blocks never were, and others took their place: they count anew.
        let hash = pair.bitcoind.rpc("getblockhash", &json!([until - 5]));
        pair.bitcoind.rpc("invalidateblock", &json!([hash]));
        pair.bitcoind.mine_to(5, "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk");
        wait_for("the other chain", || {
            let tip = pair.alice.rpc("getinfo", &json!({}))["blockheight"].as_u64();
            (tip == Some(until - 1)).then_some(())
        });
        pair.bitcoind.mine(1);
        pair.alice.sync(&pair.bitcoind);
        assert!(is_listed(&pair.alice, id), "99 confirmations again");
        pair.bitcoind.mine(1);
        wait_for("the channel to be forgotten", || {
            let list = pair.alice.rpc("listclosedchannels", &json!({}));
            list["closedchannels"].as_array()?.iter().find(|c| c["channel_id"] == **id)?;
            Some(())
        });
        assert!(pair.alice.channel(id).is_null());
    }
}
