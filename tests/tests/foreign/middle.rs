//! The suite between two LDK nodes: what it forwards, and what it does on chain when one of its
//! channels ends in between.

use super::{Foreign, coins_sat, wait_for};
use bitcoin::hashes::{Hash, sha256};
use serde_json::{Value, json};
use tests::LdkPeer;

/// Less than the tenth of a channel that LDK lets be in flight.
const MSAT: u64 = 40_000_000;
const CHANNEL_SAT: u64 = 500_000;

/// left - fulmen - right, both channels private: the payer learns the way from the payee's invoice.
struct Middle {
    f: Foreign,
    right: LdkPeer,
    left_id: String,
    right_id: String,
}

/// A payment that waits at right's.
struct Held {
    hash: String,
    preimage: String,
}

impl Middle {
    fn new(options: &[&str]) -> Self {
        let f = Foreign::with(&[], options);
        let right = LdkPeer::start_with(&f.scratch.path().join("right"), &f.bitcoind, options);
        let address = right.ask("newaddr", json!({}));
        f.bitcoind.mine_to(1, address.as_str().unwrap());
        f.mine(100);
        right.sync(&f.bitcoind);
        let left_id = f.ldk_opens(CHANNEL_SAT, 100_000_000, false);
        let to = json!({"id": right.id, "host": "127.0.0.1", "port": right.port});
        f.fulmen.rpc("connect", &to);
        let opened = f.fulmen.rpc(
            "fundchannel",
            &json!({"id": right.id, "amount": CHANNEL_SAT, "push_msat": 100_000_000, "announce": false}),
        );
        let right_id = opened["channel_id"].as_str().unwrap().to_owned();
        f.bitcoind.wait_mempool(opened["txid"].as_str().unwrap());
        f.mine(6);
        right.sync(&f.bitcoind);
        f.fulmen.wait_normal(&right_id);
        right.wait_usable(&right_id);
        Self { f, right, left_id, right_id }
    }
    fn mine(&self, blocks: u32) {
        self.f.mine(blocks);
        self.right.sync(&self.f.bitcoind);
    }
    /// Left pays right, who holds it.
    fn hold(&self, seed: u8) -> Held {
        let hash = sha256::Hash::hash(&[seed; 32]).to_string();
        let held = self.right.ask("hold_invoice", json!({"msat": MSAT, "payment_hash": hash}));
        self.f.ldk.begin_pay(held["bolt11"].as_str().unwrap(), None);
        self.right.wait_event("payment_claimable", |e| e["payment_hash"] == hash.as_str());
        Held { hash, preimage: format!("{seed:02x}").repeat(32) }
    }
    fn claim(&self, held: &Held) {
        let what = json!({"payment_hash": held.hash, "preimage": held.preimage, "msat": MSAT});
        self.right.ask("claim", what);
    }
    /// How the payment ended for left.
    fn end(&self, held: &Held) -> Value {
        self.f.ldk.wait_paid(&held.hash)["event"].clone()
    }
    fn closed_by(&self, ours: bool, id: &str, peer: &LdkPeer) {
        if ours {
            self.f.fulmen.rpc("dev-fail", &json!({"id": id}));
        } else {
            peer.force_close(id);
        }
        let funding = self.f.fulmen.channel(id)["funding_txid"].clone();
        self.f.spender_of(&funding);
        self.mine(1);
        self.f.fulmen.wait_state(id, "ONCHAIN");
    }
    /// Blocks until the suite is done with a channel.
    fn resolve(&self, id: &str) {
        for round in 0..70 {
            let channel = self.f.fulmen.channel(id);
            let outputs = channel["onchain_outputs"].as_array().cloned().unwrap_or_default();
            if round > 0 && !outputs.is_empty() && outputs.iter().all(|o| o["resolved"] == true) {
                return;
            }
            // What waits for its delay waits for many.
            self.mine(if round == 30 { 140 } else { 1 });
        }
        panic!("not resolved: {}", self.f.fulmen.channel(id));
    }
}

/// Payments go both ways through our node.
#[test]
fn forward_between_two_ldk_nodes_survives_a_kill() {
    let m = Middle::new(&[]);
    let paid = m.hold(1);
    m.claim(&paid);
    assert_eq!(m.end(&paid), "payment_successful");
    // Back the other way.
    let back = m.f.ldk.invoice(Some(20_000_000), 3600);
    let hash = m.right.begin_pay(&back, None);
    assert_eq!(m.right.wait_paid(&hash)["event"], "payment_successful");
    // Not wanted.
    let refused = m.hold(2);
    m.right.ask("fail", json!({"payment_hash": refused.hash}));
    assert_eq!(m.end(&refused), "payment_failed");
    // Killed while it is held.
    let held = m.hold(3);
    m.f.fulmen.kill();
    m.f.fulmen.start_again();
    m.f.reconnect(&m.left_id);
    let to = json!({"id": m.right.id, "host": "127.0.0.1", "port": m.right.port});
    wait_for("a connection", || m.f.fulmen.call("connect", &to).ok());
    m.f.fulmen.wait_normal(&m.right_id);
    m.claim(&held);
    assert_eq!(m.end(&held), "payment_successful");
    let forwards = m.f.fulmen.rpc("listforwards", &json!({}));
    let settled = forwards["forwards"].as_array().unwrap().iter();
    assert_eq!(settled.filter(|f| f["status"] == "settled").count(), 3);
}

/// The channel to the payer ends while the payment is held; then the payee claims, and the suite
/// takes its money on chain.
fn the_payers_channel_ends(ours: bool, options: &[&str]) {
    let m = Middle::new(options);
    let held = m.hold(1);
    let before = coins_sat(&m.f.fulmen);
    m.closed_by(ours, &m.left_id, &m.f.ldk);
    m.claim(&held);
    m.resolve(&m.left_id);
    assert_eq!(m.end(&held), "payment_successful");
    let gained = coins_sat(&m.f.fulmen) - before;
    assert!((130_000..=141_000).contains(&gained), "{gained}");
    assert_eq!(m.f.fulmen.channel(&m.right_id)["state"], "CHANNELD_NORMAL");
}

#[test]
fn htlc_success_on_our_commitment_is_claimed_upstream() {
    the_payers_channel_ends(true, &[]);
}
#[test]
fn htlc_success_on_commitment_of_ldk_is_claimed_upstream() {
    the_payers_channel_ends(false, &[]);
}
#[test]
fn htlc_success_without_anchors_is_claimed_upstream() {
    the_payers_channel_ends(true, &["--no-anchors"]);
}

/// The channel to the payee ends while the payment is held; it claims on chain, and the payer gets
/// the preimage from there.
fn the_payees_channel_ends_and_it_claims(ours: bool) {
    let m = Middle::new(&[]);
    let held = m.hold(1);
    m.closed_by(ours, &m.right_id, &m.right);
    m.claim(&held);
    let before = m.f.fulmen.channel(&m.left_id)["to_us_msat"].as_u64().unwrap();
    wait_for("the preimage to come over the chain", || {
        m.mine(1);
        let now = m.f.fulmen.channel(&m.left_id)["to_us_msat"].as_u64().unwrap();
        (now > before).then_some(())
    });
    assert_eq!(m.end(&held), "payment_successful");
    assert_eq!(m.f.fulmen.channel(&m.left_id)["state"], "CHANNELD_NORMAL");
    m.resolve(&m.right_id);
}

#[test]
fn preimage_revealed_by_ldk_on_our_commitment_pays_upstream() {
    the_payees_channel_ends_and_it_claims(true);
}
#[test]
fn preimage_revealed_by_ldk_on_its_commitment_pays_upstream() {
    the_payees_channel_ends_and_it_claims(false);
}

/// The channel to the payee ends, and it never claims: the payment goes back to the payer, and its
/// channel lives on.
fn the_payees_channel_ends_and_the_payment_times_out(ours: bool) {
    let m = Middle::new(&[]);
    let held = m.hold(1);
    let before = coins_sat(&m.f.fulmen);
    // LDK hides how far it is to the payee behind some hundred blocks.
    let expiry = m.f.fulmen.channel(&m.right_id)["htlcs"][0]["expiry"].as_u64().unwrap();
    m.closed_by(ours, &m.right_id, &m.right);
    let left = expiry.saturating_sub(m.f.bitcoind.height() + 2);
    m.mine(u32::try_from(left).unwrap());
    let gave_up = |m: &Middle| {
        let forwards = m.f.fulmen.rpc("listforwards", &json!({}));
        forwards["forwards"][0]["status"] == "failed"
    };
    for _ in 0..20 {
        if gave_up(&m) {
            break;
        }
        m.mine(1);
    }
    assert!(gave_up(&m), "{}", m.f.fulmen.channel(&m.right_id));
    assert_eq!(m.end(&held), "payment_failed");
    assert_eq!(m.f.fulmen.channel(&m.left_id)["state"], "CHANNELD_NORMAL");
    m.resolve(&m.right_id);
    let gained = coins_sat(&m.f.fulmen) - before;
    assert!((385_000..=400_000).contains(&gained), "{gained}");
}

#[test]
fn htlc_timeout_on_our_commitment_fails_back_to_the_payer() {
    the_payees_channel_ends_and_the_payment_times_out(true);
}
#[test]
fn htlc_timeout_on_commitment_of_ldk_fails_back_to_the_payer() {
    the_payees_channel_ends_and_the_payment_times_out(false);
}

/// Payments wait in both directions of the channel to the right when it ends; then each payee
/// claims.
fn both_directions(ours: bool) {
    let m = Middle::new(&[]);
    let there = m.hold(1);
    let hash = sha256::Hash::hash(&[2; 32]).to_string();
    let held = m.f.ldk.ask("hold_invoice", json!({"msat": MSAT, "payment_hash": hash}));
    m.right.begin_pay(held["bolt11"].as_str().unwrap(), None);
    m.f.ldk.wait_event("payment_claimable", |e| e["payment_hash"] == hash.as_str());
    assert_eq!(m.f.fulmen.channel(&m.right_id)["htlcs"].as_array().unwrap().len(), 2);
    let before = coins_sat(&m.f.fulmen);
    m.closed_by(ours, &m.right_id, &m.right);
    let claim = json!({"payment_hash": hash, "preimage": "02".repeat(32), "msat": MSAT});
    m.f.ldk.ask("claim", claim);
    m.claim(&there);
    m.resolve(&m.right_id);
    assert_eq!(m.end(&there), "payment_successful");
    assert_eq!(m.right.wait_paid(&hash)["event"], "payment_successful");
    // What was ours there, and what right gave; less what left gave.
    let gained = coins_sat(&m.f.fulmen) - before;
    assert!((385_000..=400_100).contains(&gained), "{gained}");
    assert_eq!(m.f.fulmen.channel(&m.left_id)["state"], "CHANNELD_NORMAL");
}

#[test]
fn our_commitment_with_htlcs_both_ways_pays_both_sides() {
    both_directions(true);
}
#[test]
fn commitment_of_ldk_with_htlcs_both_ways_pays_both_sides() {
    both_directions(false);
}

#[test]
fn ldk_forwards_between_two_of_our_nodes() {
    let f = Foreign::new();
    let last = tests::Node::start(&f.scratch.path().join("last"), &f.bitcoind, &[]);
    let first_id = f.fulmen_opens(CHANNEL_SAT, 100_000_000, true);
    let last_id = f.ldk.open(&last.id, last.port, CHANNEL_SAT, 100_000_000, true);
    let funding = last.channel(&last_id)["funding_txid"].as_str().unwrap().to_owned();
    f.bitcoind.wait_mempool(&funding);
    f.mine(6);
    last.sync(&f.bitcoind);
    last.wait_normal(&last_id);
    f.ldk.wait_usable(&last_id);
    let scid = |node: &tests::Node, id: &str| node.channel(id)["short_channel_id"].clone();
    let pay = |msat: u64, label: &str, fee: u64| {
        let made = json!({"amount_msat": msat, "label": label, "description": "d"});
        let invoice = last.rpc("invoice", &made);
        let route = json!([
            {"id": f.ldk.id, "channel": scid(&f.fulmen, &first_id), "amount_msat": msat + fee, "delay": 100},
            {"id": last.id, "channel": scid(&last, &last_id), "amount_msat": msat, "delay": 24},
        ]);
        f.fulmen.rpc(
            "sendpay",
            &json!({"route": route, "payment_hash": invoice["payment_hash"],
                "payment_secret": invoice["payment_secret"]}),
        );
        f.fulmen
            .call("waitsendpay", &json!({"payment_hash": invoice["payment_hash"], "timeout": 40}))
    };
    assert_eq!(pay(30_000_000, "enough", 1000).unwrap()["status"], "complete");
    f.fulmen.settled_balance(&first_id);
    let refused = pay(30_000_000, "too little", 999).unwrap_err();
    assert_eq!(refused.data["failcodename"], "WIRE_FEE_INSUFFICIENT", "{refused:?}");
    assert_eq!(refused.data["erring_index"], 1, "the second channel");
    assert_eq!(last.settled_balance(&last_id), 130_000_000);
}
