//! Commitments that no mempool takes alone: they come with the child that pays for them, where the
//! backend can send both at once. And the matrix of closes by markets: each kind of close, with few
//! and with as many HTLCs as there can be, is in a block in time.

#[path = "../onchain/mod.rs"]
mod scenes;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, Sequence, Transaction, TxIn, TxOut, Witness};
use scenes::*;
use serde_json::{Value, json};
use std::path::Path;
use tests::stranger::{miner_script, sign_miner_input};
use tests::{Bitcoind, Node, Pair, Scratch, hop, plain_backend, wait_for};

/// Commitments pay 253 per 1000 weight, claims and pushes four thousand.
const RATES: &str = "--force-feerates=1100/1100/253/4000/4000/253";

/// Alice and bob on a chain with these options, alice with what she needs beside.
fn pair(chain: &[&str], alices: impl Fn(&Path) -> Vec<String>) -> Pair {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start_with(&scratch.path().join("bitcoind"), chain);
    let alices = alices(scratch.path());
    let alices: Vec<&str> = alices.iter().map(String::as_str).chain([RATES]).collect();
    let alice = Node::start(&scratch.path().join("alice"), &bitcoind, &alices);
    let bob = Node::start(&scratch.path().join("bob"), &bitcoind, &[RATES]);
    alice.fund(&bitcoind);
    bob.sync(&bitcoind);
    Pair { bitcoind, alice, bob, scratch }
}

fn spend(from: OutPoint, value: Amount, output: Vec<TxOut>) -> Transaction {
    let mut tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: from,
            script_sig: bitcoin::ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output,
    };
    sign_miner_input(&mut tx, 0, value);
    tx
}

fn to_miner(sat: u64, count: usize) -> Vec<TxOut> {
    vec![TxOut { value: Amount::from_sat(sat), script_pubkey: miner_script() }; count]
}

/// Coins of nobody's, each enough for one large transaction.
fn change_money(bitcoind: &Bitcoind) -> Vec<OutPoint> {
    let (coin, value) = bitcoind.coin();
    let tx = spend(coin, value, to_miner(COIN, 90));
    let raw = serialize_hex(&tx);
    // The rest is fee: what bitcoind finds absurd, and a miner does not.
    bitcoind.rpc("generateblock", &json!(["bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk", [raw]]));
    let txid = tx.compute_txid();
    (0..90).map(|vout| OutPoint { txid, vout }).collect()
}

const COIN: u64 = 5_000_000;
/// Outputs of a transaction that is as large as it may be.
const MANY: usize = 3_000;

fn mempool_minimum(bitcoind: &Bitcoind) -> f64 {
    bitcoind.rpc("getmempoolinfo", &json!([]))["mempoolminfee"].as_f64().unwrap()
}

/// Large transactions at a price between a commitment's and a push's, until the mempool takes
/// nothing cheaper.
fn crowd(bitcoind: &Bitcoind, coins: &[OutPoint]) {
    let quiet = mempool_minimum(bitcoind);
    for (n, coin) in coins.iter().enumerate() {
        // About 93,000 virtual bytes: from 6 satoshi for each on.
        let fee = 600_000 + 2_000 * n as u64;
        let out = (COIN - fee) / MANY as u64;
        let tx = spend(*coin, Amount::from_sat(COIN), to_miner(out, MANY));
        let _ = bitcoind.try_rpc("sendrawtransaction", &json!([serialize_hex(&tx), 0]));
        if mempool_minimum(bitcoind) > quiet {
            return;
        }
    }
    panic!("the mempool takes everything: {}", bitcoind.rpc("getmempoolinfo", &json!([])));
}

fn last_commitment(node: &Node, id: &str) -> (String, Value) {
    let raw = node.rpc("dev-sign-last-tx", &json!({"id": id}))["tx"].clone();
    let tx: Transaction =
        bitcoin::consensus::encode::deserialize_hex(raw.as_str().unwrap()).unwrap();
    (tx.compute_txid().to_string(), raw)
}

/// The commitment pays less than the mempool's minimum feerate and is relayed with its child.
#[test]
fn package_relays_a_commitment_below_the_mempool_minimum() {
    let pair = pair(&["-regtest", "-maxmempool=5"], |_| vec![]);
    let coins = change_money(&pair.bitcoind);
    let id = pair.open(SAT);
    pair.alice.pay(&pair.bob.invoice(100_000_000, "before"));
    pair.alice.settled_balance(&id);
    pair.bob.stop();
    crowd(&pair.bitcoind, &coins);
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    let (txid, raw) = last_commitment(&pair.alice, &id);
    // Unless it is there with its child already, since the backend's fees have risen.
    if let Err(alone) = pair.bitcoind.try_rpc("sendrawtransaction", &json!([raw])) {
        assert!(alone.contains("mempool min fee not met"), "{alone}");
    }
    // A block that leaves everything where it is: from then on it is pushed.
    pair.bitcoind
        .rpc("generateblock", &json!(["bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk", []]));
    pair.bitcoind.wait_mempool(&txid);
    assert!(pair.alice.logged("bumping our commitment"));
    let entry = pair.bitcoind.rpc("getmempoolentry", &json!([txid]));
    assert_eq!(entry["spentby"].as_array().unwrap().len(), 1, "its child: {entry}");
    pair.bitcoind.mine(1);
    pair.alice.sync(&pair.bitcoind);
    pair.alice.wait_state(&id, "ONCHAIN");
}

/// A backend without packages takes the commitment and its child one after the other.
#[test]
fn backend_without_submitpackage_gets_commitment_then_its_child() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start_with(
        &scratch.path().join("bitcoind"),
        &["-regtest", "-blockmintxfee=0.00004"],
    );
    let plugin = format!("--plugin={}", plain_backend(scratch.path(), bitcoind.port).display());
    let alices = ["--disable-plugin=bcli", &plugin, RATES];
    let alice = Node::start(&scratch.path().join("alice"), &bitcoind, &alices);
    let bob = Node::start(&scratch.path().join("bob"), &bitcoind, &[RATES]);
    alice.fund(&bitcoind);
    bob.sync(&bitcoind);
    let pair = Pair { bitcoind, alice, bob, scratch };
    let help = pair.alice.rpc("help", &json!({}))["help"].clone();
    let has = |name: &str| {
        help.as_array().unwrap().iter().any(|h| h["command"].as_str().unwrap().starts_with(name))
    };
    assert!(has("getutxout") && !has("submitpackage") && !has("mempoolspends"));
    let id = pair.open(SAT);
    pair.alice.pay(&pair.bob.invoice(100_000_000, "before"));
    pair.alice.settled_balance(&id);
    pair.bob.stop();
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    let (txid, _) = last_commitment(&pair.alice, &id);
    pair.bitcoind.wait_mempool(&txid);
    // At its own price no block takes it.
    pair.bitcoind.mine(1);
    pair.alice.sync(&pair.bitcoind);
    wait_for("the commitment's child", || {
        let entry = pair.bitcoind.rpc("getmempoolentry", &json!([txid]));
        (entry["spentby"].as_array()?.len() == 1).then_some(())
    });
    pair.bitcoind.mine(1);
    pair.alice.sync(&pair.bitcoind);
    pair.alice.wait_state(&id, "ONCHAIN");
    resolve_alone(&pair.alice, &pair.bitcoind, &id);
}

/// At this market the child, which pays for both, pays more for each of its own bytes than bitcoind
/// takes by default.
const DEAR: &str = "--force-feerates=1100/1100/253/1500000/1500000/253";

#[test]
fn package_whose_child_pays_above_maxfeerate_is_accepted() {
    let mut pair = pair(&["-regtest", "-maxmempool=5"], |_| vec![]);
    let coins = change_money(&pair.bitcoind);
    // A bump costs at most half of what alice has in it.
    let id = pair.open(10 * SAT);
    pair.alice.pay(&pair.bob.invoice(100_000_000, "before"));
    pair.alice.settled_balance(&id);
    pair.bob.stop();
    pair.alice.stop();
    pair.alice.start_again_with(&[DEAR]);
    crowd(&pair.bitcoind, &coins);
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    let (txid, _) = last_commitment(&pair.alice, &id);
    pair.bitcoind.wait_mempool(&txid);
    let entry = pair.bitcoind.rpc("getmempoolentry", &json!([txid]));
    let child = pair.bitcoind.rpc("getmempoolentry", &json!([entry["spentby"][0]]));
    let fee = child["fees"]["base"].as_f64().unwrap() * 100_000_000.0;
    assert!(fee / child["vsize"].as_f64().unwrap() > 10_000.0, "{child}");
}

/// What blocks and mempool want, and what the node knows of it.
struct Market {
    /// What a block's transactions pay at least, in BTC per 1000 virtual bytes.
    block_minimum: &'static str,
    /// The estimates of both nodes, per 1000 weight. Their commitments pay 253.
    feerate: u32,
    /// Is the mempool full of transactions that pay more than commitments?
    is_crowded: bool,
}

/// How a channel of the matrix ends.
#[derive(Clone, Copy, PartialEq)]
enum Close {
    Mutual,
    /// Alice's commitment.
    Ours,
    /// Bob's, who has no coins that could bump it; alice fails the channel after it is published.
    Theirs,
}

/// Each way a channel ends, with the number of HTLCs each way.
const CLOSES: [(Close, u64); 7] = [
    (Close::Ours, 483),
    (Close::Theirs, 483),
    (Close::Ours, 30),
    (Close::Theirs, 30),
    (Close::Ours, 0),
    (Close::Theirs, 0),
    (Close::Mutual, 0),
];
/// Each HTLC: no dust.
const PART: u64 = 2_000_000;
/// Blocks until the first of them expires.
const EXPIRY: u32 = 40;

/// Parts of a payment that is never whole: the payee holds them.
fn begin_parts(from: &Node, to: &Node, id: &str, count: u64) {
    let total = PART * (count + 1);
    let label = format!("{id} {}", from.id);
    let made = json!({"amount_msat": total, "label": label, "description": "parts"});
    let invoice = to.rpc("invoice", &made);
    let scid = from.channel(id)["short_channel_id"].clone();
    let part = |part| {
        json!({"route": [hop(to, &scid, PART, EXPIRY)], "payment_hash": invoice["payment_hash"],
            "payment_secret": invoice["payment_secret"], "amount_msat": total, "partid": part,
            "groupid": 1})
    };
    let begun = from.rpc_all("sendpay", (1..=count).map(part));
    assert!(begun.iter().all(|b| b["status"] == "pending"), "{begun:?}");
}

fn spent_in_mempool(bitcoind: &Bitcoind, funding: &Value) -> Option<()> {
    let spends = bitcoind.rpc("gettxspendingprevout", &json!([[funding]]));
    spends[0]["spendingtxid"].as_str().map(|_| ())
}

/// A payee holds the parts of an incomplete payment for a minute: the markets do not compete for
/// the processor.
static ONE_MARKET: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Every kind of close at once: each is in a block before an HTLC expires.
fn closes_confirm(market: &Market) {
    let _alone = ONE_MARKET.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (pair, coins) = pair_on(market);
    let (bitcoind, alice, bob) = (&pair.bitcoind, &pair.alice, &pair.bob);
    let channels: Vec<MarketChannel> =
        CLOSES.into_iter().map(|c| MarketChannel::open(&pair, c)).collect();
    bitcoind.mine(6);
    for node in [alice, bob] {
        node.sync(bitcoind);
        channels.iter().for_each(|c| node.wait_normal(&c.id));
    }
    if market.is_crowded {
        crowd(bitcoind, &coins);
    }
    let expiry = bitcoind.height() + u64::from(EXPIRY);
    for channel in &channels {
        channel.hold_htlcs(&pair);
        channel.begin(&pair, market);
    }
    let unspent = |channel: &&MarketChannel| {
        let funding = &channel.funding;
        let out = bitcoind.rpc("gettxout", &json!([funding["txid"], funding["vout"], false]));
        !out.is_null()
    };
    while channels.iter().any(|c| unspent(&c)) {
        let late: Vec<&String> = channels.iter().filter(unspent).map(|c| &c.id).collect();
        assert!(bitcoind.height() < expiry, "not in a block in time: {late:?}");
        bitcoind.mine(1);
        alice.sync(bitcoind);
    }
    let log = alice.log();
    assert!(!log.contains("**BROKEN**"));
    assert!(market.feerate == 253 || log.contains("bumping our commitment"));
}

/// Alice and bob, connected and funded, on a chain with this market; and the UTXOs that its crowd
/// spends.
fn pair_on(market: &Market) -> (Pair, Vec<OutPoint>) {
    let scratch = Scratch::new();
    let minimum = format!("-blockmintxfee={}", market.block_minimum);
    let chain = ["-regtest", "-maxmempool=5", &minimum];
    let bitcoind = Bitcoind::start_with(&scratch.path().join("bitcoind"), &chain);
    let rate = market.feerate;
    let rates = format!("--force-feerates={rate}/{rate}/253/{rate}/{rate}/253");
    let options =
        ["--max-concurrent-htlcs=483", "--dev-bitcoind-poll=0", "--log-level=info", &rates];
    let alice = Node::start(&scratch.path().join("alice"), &bitcoind, &options);
    let bob = Node::start(&scratch.path().join("bob"), &bitcoind, &options);
    let coins = if market.is_crowded { change_money(&bitcoind) } else { vec![] };
    let address = alice.rpc("newaddr", &json!({"addresstype": "p2tr"}))["p2tr"].clone();
    bitcoind.mine_to(20, address.as_str().unwrap());
    alice.fund(&bitcoind);
    alice.connect(&bob);
    (Pair { bitcoind, alice, bob, scratch }, coins)
}

/// A channel of the matrix.
struct MarketChannel {
    close: Close,
    /// Held each way.
    htlcs: u64,
    id: String,
    /// The outpoint, as bitcoind takes it.
    funding: Value,
}

impl MarketChannel {
    fn open(pair: &Pair, (close, htlcs): (Close, u64)) -> Self {
        let funding =
            json!({"id": pair.bob.id, "amount": 100_000_000, "push_msat": 50_000_000_000u64});
        let opened = pair.alice.rpc("fundchannel", &funding);
        let funding = json!({"txid": opened["txid"], "vout": opened["outnum"]});
        pair.bitcoind.mine(1);
        pair.alice.sync(&pair.bitcoind);
        pair.bob.sync(&pair.bitcoind);
        Self { close, htlcs, id: opened["channel_id"].as_str().unwrap().to_owned(), funding }
    }

    /// Offers the HTLCs, and waits until both nodes hold all of them.
    fn hold_htlcs(&self, pair: &Pair) {
        let (alice, bob) = (&pair.alice, &pair.bob);
        begin_parts(alice, bob, &self.id, self.htlcs);
        begin_parts(bob, alice, &self.id, self.htlcs);
        let held = |node: &Node| {
            let channel = node.channel(&self.id);
            let there =
                |h: &&Value| h["state"].as_str().is_some_and(|s| s.ends_with("ADD_ACK_REVOCATION"));
            channel["htlcs"].as_array().map_or(0, |h| h.iter().filter(there).count() as u64)
        };
        wait_for("all HTLCs to be held", || {
            [alice, bob].iter().all(|node| held(node) == 2 * self.htlcs).then_some(())
        });
    }

    /// Closes the channel, and waits for the transaction in the mempool.
    fn begin(&self, pair: &Pair, market: &Market) {
        let (id, bitcoind) = (&self.id, &pair.bitcoind);
        match self.close {
            Close::Mutual => drop(pair.alice.rpc("close", &json!({"id": id}))),
            Close::Ours => drop(pair.alice.rpc("dev-fail", &json!({"id": id}))),
            Close::Theirs => {
                pair.bob.rpc("dev-fail", &json!({"id": id}));
                if !market.is_crowded {
                    wait_for("bob's commitment", || spent_in_mempool(bitcoind, &self.funding));
                }
                // BOLT 1, error: bob says one, and alice fails the channel too.
                pair.alice.wait_state(id, "AWAITING_UNILATERAL");
            }
        }
        wait_for("a close in the mempool", || spent_in_mempool(bitcoind, &self.funding));
    }
}

#[test]
fn closes_confirm_at_the_relay_floor() {
    let block_minimum = "0.00001";
    closes_confirm(&Market { block_minimum, feerate: 253, is_crowded: false });
}

#[test]
fn closes_confirm_at_50_sat_per_vbyte() {
    let block_minimum = "0.0005";
    closes_confirm(&Market { block_minimum, feerate: 12_600, is_crowded: false });
}

#[test]
fn closes_confirm_at_500_sat_per_vbyte() {
    let block_minimum = "0.005";
    closes_confirm(&Market { block_minimum, feerate: 125_500, is_crowded: false });
}

#[test]
fn closes_confirm_above_a_raised_mempool_minimum() {
    let block_minimum = "0.00001";
    closes_confirm(&Market { block_minimum, feerate: 4_000, is_crowded: true });
}
