//! Fees of what is claimed on chain, and databases that are older than the channel.

#[path = "onchain/mod.rs"]
mod scenes;

use bitcoin::Transaction;
use scenes::*;
use serde_json::{Value, json};
use tests::{Bitcoind, Node, Pair, Scratch, wait_for};

/// A pair on a chain whose miners take nothing below 4000 sat per 1000 virtual bytes (1000 per 1000
/// weight).
fn dear_pair() -> Pair {
    dear_pair_at("1100/1100/253/1100/253/253")
}
fn dear_pair_at(feerates: &str) -> Pair {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start_with(
        &scratch.path().join("bitcoind"),
        &["-regtest", "-blockmintxfee=0.00004"],
    );
    let options = [&*format!("--force-feerates={feerates}")];
    let alice = Node::start(&scratch.path().join("alice"), &bitcoind, &options);
    let bob = Node::start(&scratch.path().join("bob"), &bitcoind, &options);
    alice.fund(&bitcoind);
    bob.fund(&bitcoind);
    alice.sync(&bitcoind);
    Pair { bitcoind, alice, bob, scratch }
}

#[test]
fn anchor_bump_confirms_a_low_fee_commitment_before_htlc_expiry() {
    let pair = dear_pair();
    let id = pair.open(SAT);
    let parts = Parts::new(&pair, 400_000_000);
    parts.send(&id, 1);
    pair.wait_held(&id, 1);
    let expiry = pair.alice.channel(&id)["htlcs"][0]["expiry"].as_u64().unwrap();
    pair.bob.stop();
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    wait_for("our commitment in the mempool", || {
        let pool = pair.bitcoind.rpc("getrawmempool", &json!([]));
        (!pool.as_array()?.is_empty()).then_some(())
    });
    // It is not mined at its price, until its child makes it worth it: in time.
    while pair.alice.channel(&id)["state"] != "ONCHAIN" {
        pair.bitcoind.mine(1);
        pair.alice.sync(&pair.bitcoind);
        assert!(pair.bitcoind.height() <= expiry, "it was not pushed in time");
    }
    assert!(pair.alice.logged("bumping our commitment"));
    pair.bob.start_again();
    resolve(&pair, &id);
}

#[test]
fn claim_feerate_rises_until_it_confirms_before_its_deadline() {
    let pair = dear_pair();
    let id = pair.open(SAT);
    let other = pair.open(SAT);
    let parts = Parts::new(&pair, 400_000_000);
    parts.send(&id, 1);
    pair.wait_held(&id, 1);
    let expiry = pair.alice.channel(&id)["htlcs"][0]["expiry"].as_u64().unwrap();
    pair.bob.rpc("dev-fail", &json!({"id": id}));
    while pair.bob.channel(&id)["state"] != "ONCHAIN" {
        pair.bitcoind.mine(1);
        pair.alice.sync(&pair.bitcoind);
        pair.bob.sync(&pair.bitcoind);
        assert!(pair.bitcoind.height() + 2 < expiry, "the commitment was not mined");
        if pair.bob.channel(&id)["state"] == "AWAITING_UNILATERAL" {
            // Nothing is at stake yet that would push it: somebody in a hurry pays instead.
            let txid = pair.bitcoind.rpc("getrawmempool", &json!([]))[0].clone();
            pair.bitcoind.rpc("prioritisetransaction", &json!([txid, 0, 100_000]));
        }
    }
    parts.send(&other, 2);
    assert_eq!(parts.wait(2).unwrap()["status"], "complete");
    let taken = |outputs: &Value| {
        let list = outputs.as_array().cloned().unwrap_or_default();
        list.iter().any(|o| o["what"] == "their_htlc 0" && !o["spent_by"].is_null())
    };
    while !taken(&pair.bob.channel(&id)["onchain_outputs"]) {
        assert!(pair.bitcoind.height() <= expiry, "the claim was not mined in time");
        pair.bitcoind.mine(1);
        pair.alice.sync(&pair.bitcoind);
        pair.bob.sync(&pair.bitcoind);
    }
    assert_eq!(parts.wait(1).unwrap()["status"], "complete");
    resolve(&pair, &id);
}

/// A part of a payment, which waits at bob's for the rest.
fn part(pair: &Pair, id: &str, (sat, delay): (u64, u32)) {
    let all = sat * 2000;
    let invoice = pair.bob.rpc(
        "invoice",
        &json!({"amount_msat": all, "label": sat.to_string(), "description": "in halves"}),
    );
    let scid = pair.alice.channel(id)["short_channel_id"].clone();
    let hop =
        json!([{"id": pair.bob.id, "channel": scid, "amount_msat": sat * 1000, "delay": delay}]);
    pair.alice.rpc(
        "sendpay",
        &json!({"route": hop, "payment_hash": invoice["payment_hash"],
            "payment_secret": invoice["payment_secret"], "amount_msat": all, "partid": 1, "groupid": 1}),
    );
}

/// At this expiry alice's only coin pays for what takes back that HTLC: nothing else of hers waits
/// in the mempool.
fn only_one_waits(pair: &Pair, expiry: u64) {
    pair.bitcoind.mine(u32::try_from(expiry - pair.bitcoind.height()).unwrap());
    pair.alice.sync(&pair.bitcoind);
    wait_for("the HTLC's transaction", || {
        let pool = pair.bitcoind.rpc("getrawmempool", &json!([]));
        let pool = pool.as_array()?.iter().filter_map(Value::as_str);
        let times = pool.map(|txid| pair.bitcoind.transaction(txid).lock_time.to_consensus_u32());
        // What sweeps our own output has none.
        let times: Vec<u32> = times.filter(|t| (1..500_000_000).contains(t)).collect();
        (times == [u32::try_from(expiry).unwrap()]).then_some(())
    });
}

#[test]
fn large_htlc_preempts_the_only_utxo_of_a_small_unmined_claim() {
    // What sweeps our own output is too cheap for a while, too: it brings no second coin.
    let pair = dear_pair_at("1100/1100/1100/253/253/253");
    let id = pair.open(SAT);
    part(&pair, &id, (1_500, 24));
    part(&pair, &id, (400_000, 28));
    pair.wait_held(&id, 2);
    let htlcs = pair.alice.channel(&id)["htlcs"].clone();
    let expiry = |sat: u64| {
        let mut all = htlcs.as_array().unwrap().iter();
        all.find(|h| h["amount_msat"] == sat * 1000).unwrap()["expiry"].as_u64().unwrap()
    };
    let (small, large) = (expiry(1_500), expiry(400_000));
    assert!(small < large);
    pair.bob.stop();
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    wait_for("our commitment in the mempool", || {
        let pool = pair.bitcoind.rpc("getrawmempool", &json!([]));
        (!pool.as_array()?.is_empty()).then_some(())
    });
    pair.bitcoind.mine(1);
    pair.alice.sync(&pair.bitcoind);
    pair.alice.wait_state(&id, "ONCHAIN");
    only_one_waits(&pair, small);
    only_one_waits(&pair, large);
    let taken = || {
        let outputs = pair.alice.channel(&id)["onchain_outputs"].clone();
        let mut all = outputs.as_array().unwrap().iter();
        all.any(|o| o["what"] == "our_htlc 1" && !o["spent_by"].is_null())
    };
    while !taken() {
        pair.bitcoind.mine(1);
        pair.alice.sync(&pair.bitcoind);
        assert!(pair.bitcoind.height() < large + 72, "it came too late");
    }
}

/// The transaction of the mempool that spends an output of this one.
fn child_of(pair: &Pair, txid: &str) -> Option<Transaction> {
    let pool = pair.bitcoind.rpc("getrawmempool", &json!([]));
    let all = pool.as_array()?.iter().filter_map(Value::as_str);
    let mut all = all.map(|txid| pair.bitcoind.transaction(txid));
    all.find(|tx| tx.input.iter().any(|i| i.previous_output.txid.to_string() == txid))
}

/// A claim of 1,500 sat that no miner wants holds the only UTXO. The bump of another commitment
/// cannot replace it (BIP 125, rule 2), so it spends its change.
#[test]
fn anchor_bump_spends_change_of_claim_that_holds_the_only_utxo() {
    let pair = dear_pair_at("1100/1100/253/253/1100/253");
    let (id, other) = (pair.open(SAT), pair.open(SAT));
    part(&pair, &id, (1_500, 10));
    part(&pair, &other, (400_000, 40));
    pair.wait_held(&id, 1);
    pair.wait_held(&other, 1);
    let expiry = |id: &str| pair.alice.channel(id)["htlcs"][0]["expiry"].as_u64().unwrap();
    let (small, large) = (expiry(&id), expiry(&other));
    pair.bob.stop();
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    let commitment = wait_for("our commitment in the mempool", || {
        pair.bitcoind.rpc("getrawmempool", &json!([]))[0].as_str().map(str::to_owned)
    });
    pair.bitcoind.rpc("prioritisetransaction", &json!([commitment, 0, 100_000]));
    pair.bitcoind.mine(1);
    pair.alice.sync(&pair.bitcoind);
    pair.alice.wait_state(&id, "ONCHAIN");
    only_one_waits(&pair, small);
    let claim = child_of(&pair, &commitment).expect("the small HTLC's claim").compute_txid();
    pair.alice.rpc("dev-fail", &json!({"id": other}));
    let bump =
        wait_for("an anchor bump with the claim's change", || child_of(&pair, &claim.to_string()));
    assert_eq!(bump.input.len(), 2);
    // Both parents are mined with it.
    let parents: Vec<String> =
        bump.input.iter().map(|i| i.previous_output.txid.to_string()).collect();
    pair.bitcoind.mine(1);
    let left = pair.bitcoind.rpc("getrawmempool", &json!([]));
    let left: Vec<&str> = left.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(!parents.iter().any(|p| left.contains(&p.as_str())), "{left:?}");
    pair.alice.sync(&pair.bitcoind);
    pair.alice.wait_state(&other, "ONCHAIN");
    // The large HTLC comes back as soon as it may.
    let is_back = || {
        let outputs = pair.alice.channel(&other)["onchain_outputs"].clone();
        let mut all = outputs.as_array().into_iter().flatten();
        all.any(|o| o["what"] == "our_htlc 0" && !o["spent_by"].is_null())
    };
    while !is_back() {
        assert!(pair.bitcoind.height() <= large + 2, "it came too late");
        pair.bitcoind.mine(1);
        pair.alice.sync(&pair.bitcoind);
    }
}

/// Everything that a stopped node has in its database, taken away or put back.
fn database(node: &Node, from: &str, to: &str) {
    for suffix in ["", "-wal", "-shm"] {
        let dir = node.network_dir();
        let (from, to) = (dir.join(format!("{from}{suffix}")), dir.join(format!("{to}{suffix}")));
        let _ = std::fs::remove_file(&to);
        if from.exists() {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// Nothing is under way but so many HTLCs that are held.
fn quiet(node: &Node, id: &str, held: usize) {
    wait_for("HTLCs to settle", || {
        (node.channel(id)["htlcs"].as_array()?.len() == held).then_some(())
    });
}

/// Alice has an old database; with it goes the witness, if it should. So many HTLCs are held in
/// both.
fn restored(pair: &Pair, id: &str, witness_too: bool, held: usize) {
    pair.alice.pay(&pair.bob.invoice(100_000_000, "before"));
    quiet(&pair.alice, id, held);
    put_back(pair, id, witness_too, held);
}

/// The same with what she has now.
fn put_back(pair: &Pair, id: &str, witness_too: bool, held: usize) {
    pair.alice.stop();
    database(&pair.alice, "lightningd.sqlite3", "backup.sqlite3");
    pair.alice.start_again();
    pair.reconnect(id);
    pair.alice.pay(&pair.bob.invoice(200_000_000, "after"));
    quiet(&pair.alice, id, held);
    quiet(&pair.bob, id, held);
    pair.alice.stop();
    // Nobody there to say so: the node is on its own with its old data.
    pair.bob.stop();
    database(&pair.alice, "backup.sqlite3", "lightningd.sqlite3");
    if witness_too {
        std::fs::remove_file(pair.alice.network_dir().join("lightningd-revocations")).unwrap();
    }
    pair.alice.start_again();
}

/// The peer closes, and alice takes what is hers of that: a little less than this.
fn the_peer_closes(pair: &Pair, id: &str, sat: u64) {
    let before = wealth(&pair.alice);
    pair.bob.start_again();
    wait_for("the peer to close", || {
        let to = json!({"id": pair.bob.id, "host": "127.0.0.1", "port": pair.bob.port});
        let _ = pair.alice.call("connect", &to);
        let pool = pair.bitcoind.rpc("getrawmempool", &json!([]));
        (!pool.as_array()?.is_empty()).then_some(())
    });
    confirm_close(pair, id);
    assert_eq!(evidence(&pair.bob, id)["close"], "local_unilateral");
    resolve(pair, id);
    let gained = wealth(&pair.alice) - before;
    assert!((sat - 10_000..=sat).contains(&gained), "alice got {gained}");
}

#[test]
fn restored_database_is_proved_old_and_broadcasts_nothing() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    restored(&pair, &id, false, 0);
    assert!(pair.alice.logged("this database is old"));
    assert_eq!(pair.alice.channel(&id)["lost_state"], true);
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    pair.bitcoind.mine(3);
    pair.alice.sync(&pair.bitcoind);
    assert_eq!(pair.bitcoind.rpc("getrawmempool", &json!([])), json!([]));
    the_peer_closes(&pair, &id, 700_000);
}

/// Told to fail a channel that nobody knows the state of, the node does not.
fn it_publishes_nothing(pair: &Pair, id: &str) {
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    assert!(pair.alice.logged("should be failed, and is not"));
    assert_eq!(pair.alice.channel(id)["state"], "CHANNELD_NORMAL");
    pair.bitcoind.mine(3);
    pair.alice.sync(&pair.bitcoind);
    assert_eq!(pair.bitcoind.rpc("getrawmempool", &json!([])), json!([]));
}

/// Without the revocation log, `channel_reestablish` alone shows whether our state is old.
#[test]
fn missing_revocation_log_blocks_broadcast_until_reestablish() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    restored(&pair, &id, true, 0);
    assert!(pair.alice.logged("as after a restore from a backup"));
    it_publishes_nothing(&pair, &id);
    the_peer_closes(&pair, &id, 700_000);
}

/// A database of before the first payment proves no more than any other.
#[test]
fn restored_first_state_does_not_verify_our_state() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    pair.alice.stop();
    pair.bob.stop();
    for node in [&pair.alice, &pair.bob] {
        node.start_again();
        assert!(!node.logged("as after a restore from a backup"), "its record is there already");
    }
    pair.reconnect(&id);
    put_back(&pair, &id, true, 0);
    assert!(pair.alice.logged("as after a restore from a backup"));
    it_publishes_nothing(&pair, &id);
    the_peer_closes(&pair, &id, 800_000);
}

/// An HTLC's deadline passes before the peer's `channel_reestablish` verified our state.
#[test]
fn htlc_deadline_before_reestablish_logs_broken_no_broadcast() {
    for witness_too in [true, false] {
        let pair = Pair::new();
        let id = pair.open(SAT);
        let parts = Parts::new(&pair, 200_000_000);
        parts.send(&id, 1);
        pair.wait_held(&id, 1);
        let expiry = pair.alice.channel(&id)["htlcs"][0]["expiry"].as_u64().unwrap();
        restored(&pair, &id, witness_too, 1);
        let missed = format!("Offered HTLC 0 cltv {expiry} hit deadline");
        pair.bitcoind.mine(u32::try_from(expiry - pair.bitcoind.height()).unwrap());
        pair.alice.sync(&pair.bitcoind);
        assert!(!pair.alice.logged(&missed), "there is time");
        // Said again with every block, where nobody knows how old the data is.
        for n in 1..=3 {
            pair.bitcoind.mine(1);
            pair.alice.sync(&pair.bitcoind);
            let log = pair.alice.log();
            let lines: Vec<&str> = log.lines().filter(|l| l.contains(&missed)).collect();
            if witness_too {
                let loud =
                    |l: &&&str| l.contains("**BROKEN**") && l.contains("Connect to the peer");
                assert_eq!(lines.iter().filter(loud).count(), n, "{lines:?}");
            } else {
                assert!(lines.iter().any(|l| l.contains("UNUSUAL")), "{lines:?}");
            }
        }
        let channel = pair.alice.channel(&id);
        if witness_too {
            assert_eq!(channel["state"], "CHANNELD_NORMAL");
            let status = channel["status"].to_string();
            assert!(status.contains("nobody knows whether this database is old"), "{status}");
            assert!(status.contains(&missed), "{status}");
        } else {
            assert_eq!(
                (&channel["lost_state"], &channel["state"]),
                (&json!(true), &json!("AWAITING_UNILATERAL"))
            );
            assert!(channel["close_reason"]["message"].as_str().unwrap().contains(&missed));
        }
        assert_eq!(pair.bitcoind.rpc("getrawmempool", &json!([])), json!([]));
        // BOLT 2: whoever lost its data has what pays its key; the HTLC's keys are those of a
        // commitment that it never heard of.
        the_peer_closes(&pair, &id, 600_000);
    }
}
