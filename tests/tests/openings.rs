//! Openings: external fundings, cancelling, what is refused and leaves nothing behind.

use bitcoin::{Amount, ScriptBuf};
use serde_json::{Value, json};
use tests::{Bitcoind, Node, Pair, Scratch, wait_for};

const SAT: u64 = 500_000;

fn reserved(node: &tests::Node) -> usize {
    let funds = node.rpc("listfunds", &json!({}));
    funds["outputs"].as_array().unwrap().iter().filter(|o| o["reserved"] == true).count()
}

fn nothing_is_left(pair: &Pair) {
    wait_for("the opening to be gone", || {
        let empty = |n: &tests::Node| {
            n.rpc("listpeerchannels", &json!({}))["channels"].as_array().is_some_and(Vec::is_empty)
        };
        (empty(&pair.alice) && empty(&pair.bob)).then_some(())
    });
    assert_eq!(reserved(&pair.alice), 0);
}

/// Begins an external funding; the script to pay.
fn begin(pair: &Pair) -> ScriptBuf {
    pair.alice.connect(&pair.bob);
    let started = pair.alice.rpc("fundchannel_start", &json!({"id": pair.bob.id, "amount": SAT}));
    assert!(started["funding_address"].as_str().unwrap().starts_with("bcrt1q"));
    ScriptBuf::from_hex(started["scriptpubkey"].as_str().unwrap()).unwrap()
}

fn psbt(tx: &bitcoin::Transaction, spent: (bitcoin::OutPoint, Amount), script: &str) -> String {
    let mut psbt = bitcoin::Psbt::from_unsigned_tx(tx.clone()).unwrap();
    psbt.inputs[0].witness_utxo = Some(bitcoin::TxOut {
        value: spent.1,
        script_pubkey: ScriptBuf::from_hex(script).unwrap(),
    });
    psbt.to_string()
}

/// P2WPKH of the key 1.
const NOBODYS_SCRIPT: &str = "0014751e76e8199196d454941c45d1b3a323f1433bd6";

#[test]
fn external_psbt_funds_a_channel() {
    let pair = Pair::new();
    let script = begin(&pair);
    let coin = pair.bitcoind.coin();
    let tx = pair.bitcoind.spend_coin(coin, script, Amount::from_sat(SAT));
    let params = json!({"id": pair.bob.id, "psbt": psbt(&tx, coin, NOBODYS_SCRIPT)});
    let done = pair.alice.rpc("fundchannel_complete", &params);
    assert_eq!(done["commitments_secured"], true);
    let id = done["channel_id"].as_str().unwrap().to_owned();
    assert_eq!(pair.bitcoind.sign_and_send(&tx), tx.compute_txid().to_string());
    pair.bitcoind.mine(1);
    pair.alice.wait_normal(&id);
    pair.bob.wait_normal(&id);
    pair.alice.pay(&pair.bob.invoice(50_000_000, "with other people's coins"));
}

#[test]
fn external_funding_is_cancelled_until_bitcoind_has_it() {
    let pair = Pair::new();
    for published in [false, true] {
        let script = begin(&pair);
        let coin = pair.bitcoind.coin();
        let tx = pair.bitcoind.spend_coin(coin, script, Amount::from_sat(SAT));
        let params = json!({"id": pair.bob.id, "psbt": psbt(&tx, coin, NOBODYS_SCRIPT)});
        let id = pair.alice.rpc("fundchannel_complete", &params)["channel_id"].clone();
        if published {
            pair.bitcoind.sign_and_send(&tx);
            let refused = pair.alice.refused("fundchannel_cancel", &json!([pair.bob.id]));
            assert_eq!(refused.code, 308, "{}", refused.message);
            pair.bitcoind.mine(1);
            pair.alice.wait_normal(id.as_str().unwrap());
        } else {
            let done = pair.alice.rpc("fundchannel_cancel", &json!([pair.bob.id]));
            assert!(done["cancelled"].is_string());
            assert_eq!(pair.alice.channel(id.as_str().unwrap()), Value::Null);
        }
    }
}

/// A PSBT with a non-segwit input, or another than was agreed; the right one is taken afterwards.
#[test]
fn cln_non_segwit_psbt_or_unagreed_psbt_is_refused() {
    let pair = Pair::new();
    let script = begin(&pair);
    let coin = pair.bitcoind.coin();
    let with =
        |script: ScriptBuf, sat: u64| pair.bitcoind.spend_coin(coin, script, Amount::from_sat(sat));
    let right = with(script.clone(), SAT);
    let other = ScriptBuf::from_hex(NOBODYS_SCRIPT).unwrap();
    for (psbt, says) in [
        ("nonsense".to_owned(), "cannot be read"),
        (psbt(&with(script.clone(), SAT - 1), coin, NOBODYS_SCRIPT), "was agreed"),
        (psbt(&with(other, SAT), coin, NOBODYS_SCRIPT), "no output pays"),
        (psbt(&right, coin, "76a914751e76e8199196d454941c45d1b3a323f1433bd688ac"), "not segwit"),
        (
            bitcoin::Psbt::from_unsigned_tx(right.clone()).unwrap().to_string(),
            "does not say what it spends",
        ),
    ] {
        let refused =
            pair.alice.refused("fundchannel_complete", &json!({"id": pair.bob.id, "psbt": psbt}));
        assert_eq!(refused.code, 309);
        assert!(refused.message.contains(says), "{}", refused.message);
    }
    let params = json!({"id": pair.bob.id, "psbt": psbt(&right, coin, NOBODYS_SCRIPT)});
    assert_eq!(pair.alice.rpc("fundchannel_complete", &params)["commitments_secured"], true);
}

#[test]
fn cancelled_opening_leaves_nothing() {
    let pair = Pair::new();
    assert_eq!(pair.alice.refused("fundchannel_cancel", &json!([pair.bob.id])).code, 306);
    begin(&pair);
    let twice = pair.alice.refused("fundchannel_start", &json!({"id": pair.bob.id, "amount": SAT}));
    assert!(twice.message.contains("Already funding"), "{}", twice.message);
    assert!(pair.alice.rpc("fundchannel_cancel", &json!([pair.bob.id]))["cancelled"].is_string());
    nothing_is_left(&pair);
    assert_eq!(pair.alice.refused("fundchannel_cancel", &json!([pair.bob.id])).code, 307);
    // And once more from the start.
    let id = pair.open(SAT);
    pair.alice.pay(&pair.bob.invoice(1_000_000, "after all"));
    assert_eq!(pair.alice.settled_balance(&id), SAT * 1000 - 1_000_000);
}

#[test]
fn disconnection_ends_an_opening_and_unreserves_its_utxos() {
    let pair = Pair::new();
    begin(&pair);
    pair.bob.kill();
    nothing_is_left_at(&pair.alice);
    pair.bob.start_again();
    pair.bob.sync(&pair.bitcoind);
    pair.open(SAT);
}

fn nothing_is_left_at(node: &tests::Node) {
    wait_for("the opening to be gone", || {
        node.rpc("listpeerchannels", &json!({}))["channels"].as_array()?.is_empty().then_some(())
    });
    assert_eq!(reserved(node), 0);
}

#[test]
fn refused_opening_names_both_values_and_unreserves_its_utxos() {
    let pair = Pair::with(&[], &["--min-capacity-sat=200000"]);
    let open = |params: Value| pair.alice.refused("fundchannel", &params);
    let bob = &pair.bob.id;
    assert_eq!(open(json!({"id": bob, "amount": SAT})).code, 306, "unknown");
    pair.alice.connect(&pair.bob);
    let small = open(json!({"id": bob, "amount": 150_000}));
    assert!(small.message.contains("200000"), "{}", small.message);
    assert_eq!(reserved(&pair.alice), 0);
    assert_eq!(open(json!({"id": bob, "amount": "51btc"})).code, 301);
    assert_eq!(open(json!({"id": bob, "amount": 100_000, "push_msat": 200_000_000})).code, 301);
    assert_eq!(open(json!({"id": bob, "amount": 100})).code, 302);
    let kind = open(json!({"id": bob, "amount": SAT, "channel_type": [80]}));
    assert!(kind.message.contains("bit 80"), "{}", kind.message);
    assert_eq!(open(json!({"id": "05".repeat(33), "amount": SAT})).code, -32602);
    nothing_is_left(&pair);
}

#[test]
fn funding_that_never_confirms_is_forgotten_by_the_accepter() {
    let pair = Pair::new();
    let coin = pair.bitcoind.coin();
    pair.bob.sync(&pair.bitcoind);
    pair.alice.sync(&pair.bitcoind);
    let script = begin(&pair);
    let honest = pair.bitcoind.spend_coin(coin, script, Amount::from_sat(SAT));
    let params = json!({"id": pair.bob.id, "psbt": psbt(&honest, coin, NOBODYS_SCRIPT)});
    let id =
        pair.alice.rpc("fundchannel_complete", &params)["channel_id"].as_str().unwrap().to_owned();
    // The coin goes elsewhere: the funding can never confirm.
    let other = pair.bitcoind.spend_coin(
        coin,
        ScriptBuf::from_hex(NOBODYS_SCRIPT).unwrap(),
        Amount::from_sat(SAT),
    );
    pair.bitcoind.sign_and_send(&other);
    pair.bitcoind.mine(3);
    pair.bob.sync(&pair.bitcoind);
    assert_eq!(pair.bob.channel(&id)["state"], "CHANNELD_AWAITING_LOCKIN");
    // An accepter waits for 2016 blocks, and no longer.
    pair.bitcoind.mine(2010);
    pair.bob.sync(&pair.bitcoind);
    assert_eq!(pair.bob.channel(&id)["state"], "CHANNELD_AWAITING_LOCKIN");
    pair.bitcoind.mine(10);
    pair.bob.sync(&pair.bitcoind);
    wait_for("bob to forget it", || pair.bob.channel(&id).is_null().then_some(()));
}

#[test]
fn large_channel_and_several_with_one_peer_open() {
    let pair = Pair::new();
    pair.alice.connect(&pair.bob);
    let large = pair.alice.open(&pair.bob, 1_000_000_000);
    pair.bitcoind.mine(1);
    pair.alice.wait_normal(&large);
    pair.alice.sync(&pair.bitcoind);
    let small = pair.alice.open(&pair.bob, SAT);
    pair.bitcoind.mine(1);
    for id in [&large, &small] {
        pair.alice.wait_normal(id);
        pair.bob.wait_normal(id);
    }
    pair.alice.pay(&pair.bob.invoice(600_000_000_000, "more than the small one has"));
    let refused = pair.alice.refused("close", &json!([pair.bob.id]));
    assert!(refused.message.contains("multiple channels"), "{}", refused.message);
    let scid = pair.alice.channel(&small)["short_channel_id"].clone();
    assert_eq!(pair.alice.rpc("close", &json!([scid]))["type"], "mutual");
    pair.alice.pay(&pair.bob.invoice(1_000_000, "over the one that is left"));
}

/// bitcoind takes no chain of three unconfirmed transactions here, and the funding is the third.
#[test]
fn refused_funding_is_cancelled_after_a_restart() {
    let scratch = Scratch::new();
    let options = ["-regtest", "-limitclustercount=2"];
    let bitcoind = Bitcoind::start_with(&scratch.path().join("bitcoind"), &options);
    let alice = Node::start(&scratch.path().join("alice"), &bitcoind, &[]);
    let bob = Node::start(&scratch.path().join("bob"), &bitcoind, &[]);
    alice.fund(&bitcoind);
    alice.sync(&bitcoind);
    bob.sync(&bitcoind);
    alice.connect(&bob);
    let unspent = || {
        let funds = alice.rpc("listfunds", &json!({}))["outputs"].clone();
        let spendable = |o: &&Value| o["status"] != "spent" && o["reserved"] == false;
        let spendable = funds.as_array().unwrap().iter().filter(spendable);
        spendable.map(|o| (o["txid"].clone(), o["output"].clone())).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let address = alice.rpc("newaddr", &json!({"addresstype": "p2tr"}))["p2tr"].clone();
        let all = json!({"destination": address, "satoshi": "all", "minconf": 0});
        alice.rpc("withdraw", &all);
    }
    let coins = unspent();
    let refused = alice.refused("fundchannel", &json!({"id": bob.id, "amount": SAT, "minconf": 0}));
    assert_eq!(refused.code, 303, "{}", refused.message);
    assert_ne!(unspent(), coins);
    for crash in [true, false] {
        let seen = alice.log_size();
        if crash {
            alice.kill()
        } else {
            alice.stop()
        }
        alice.start_again();
        // Each start sends it twice. What dies before it hears the answers does not know who has
        // it.
        wait_for("both answers", || {
            let log = alice.log_from(seen);
            let both = ["the funding was not taken", "chain: transaction "];
            both.iter().all(|line| log.contains(line)).then_some(())
        });
    }
    wait_for("the funding to be cancelled", || {
        alice.call("fundchannel_cancel", &json!([bob.id])).ok()
    });
    assert_eq!(unspent(), coins);
    assert!(alice.rpc("listpeerchannels", &json!({}))["channels"].as_array().unwrap().is_empty());
    bitcoind.mine(1);
    alice.sync(&bitcoind);
    alice.connect(&bob);
    alice.rpc("fundchannel", &json!({"id": bob.id, "amount": SAT}));
}
