//! Connections that break and nodes that die, with payments under way and between them.

use super::{Foreign, begin_pay, coins_sat, wait_for};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Amount, OutPoint};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const HELD_MSAT: u64 = 2_000_000;

impl Foreign {
    /// A payment of the suite's that LDK holds until it is told what to do: its hash and preimage.
    pub(super) fn held(&self, id: &str, seed: u8) -> (String, String) {
        let preimage = [seed; 32];
        let hash = sha256::Hash::hash(&preimage).to_string();
        let held = self.ldk.ask("hold_invoice", json!({"msat": HELD_MSAT, "payment_hash": hash}));
        begin_pay(self, id, held["bolt11"].as_str().unwrap(), HELD_MSAT);
        self.ldk.wait_event("payment_claimable", |e| e["payment_hash"] == hash.as_str());
        (hash, format!("{seed:02x}").repeat(32))
    }
    pub(super) fn try_claim(&self, (hash, preimage): &(String, String)) -> Result<Value, String> {
        let what = json!({"payment_hash": hash, "preimage": preimage, "msat": HELD_MSAT});
        self.ldk.try_ask("claim", what)
    }
    pub(super) fn claim(&self, held: &(String, String)) {
        self.try_claim(held).unwrap();
    }
    pub(super) fn wait_claimed(&self, (hash, preimage): &(String, String)) {
        let done = self.fulmen.rpc("waitsendpay", &json!({"payment_hash": hash}));
        assert_eq!(done["payment_preimage"], preimage.as_str());
    }
    fn pay_each_other(&self, label: &str) {
        self.fulmen.pay(&self.ldk.invoice(Some(3_000_000), 3600));
        self.ldk.pay(&self.fulmen.invoice(2_999_000, label));
    }
}

#[test]
fn payment_survives_a_disconnection() {
    let f = Foreign::new();
    let id = f.fulmen_opens(1_000_000, 200_000_000, true);
    // Claimed once they are connected again.
    let one = f.held(&id, 1);
    f.ldk.ask("disconnect", json!({"node_id": f.fulmen.id}));
    f.reconnect(&id);
    f.claim(&one);
    f.wait_claimed(&one);
    // Claimed before.
    let two = f.held(&id, 2);
    f.fulmen.rpc("disconnect", &json!({"id": f.ldk.id, "force": true}));
    f.claim(&two);
    f.reconnect(&id);
    f.wait_claimed(&two);
    // Refused before.
    let (three, _) = f.held(&id, 3);
    f.ldk.ask("disconnect", json!({"node_id": f.fulmen.id}));
    f.ldk.ask("fail", json!({"payment_hash": three}));
    f.reconnect(&id);
    f.fulmen.refused("waitsendpay", &json!({"payment_hash": three}));
    f.pay_each_other("after all");
    f.balances_are(&id, 800_000_000 - 4_001_000, 200_000_000 + 4_001_000);
    f.closes(&id, "ldk");
}

#[test]
fn payment_survives_a_restart_of_either_node() {
    let f = Foreign::new();
    let id = f.ldk_opens(1_000_000, 500_000_000, false);
    let one = f.held(&id, 1);
    f.fulmen.stop();
    f.claim(&one);
    f.fulmen.start_again();
    f.reconnect(&id);
    f.wait_claimed(&one);
    let two = f.held(&id, 2);
    f.fulmen.kill();
    f.fulmen.start_again();
    f.reconnect(&id);
    f.claim(&two);
    f.wait_claimed(&two);
    let three = f.held(&id, 3);
    f.ldk.stop();
    f.ldk.start_again();
    f.reconnect(&id);
    f.claim(&three);
    f.wait_claimed(&three);
    f.pay_each_other("after all");
    f.balances_are(&id, 500_000_000 - 6_001_000, 500_000_000 + 6_001_000);
    f.closes(&id, "fulmen");
}

#[test]
fn kill_of_our_node_between_payments_loses_nothing() {
    let f = Foreign::new();
    let id = f.fulmen_opens(1_000_000, 200_000_000, true);
    for round in 1..=3u64 {
        f.pay_each_other(&format!("round {round}"));
        f.fulmen.kill();
        f.fulmen.start_again();
        f.reconnect(&id);
        let paid = f.fulmen.rpc("listinvoices", &json!({"label": format!("round {round}")}));
        assert_eq!(paid["invoices"][0]["status"], "paid");
        f.balances_are(&id, 800_000_000 - round * 1_000, 200_000_000 + round * 1_000);
    }
    // Not killed: LDK closes a channel when its own papers are not of one moment.
    f.ldk.stop();
    f.ldk.start_again();
    f.reconnect(&id);
    f.pay_each_other("last");
    f.balances_are(&id, 799_996_000, 200_004_000);
}

#[test]
fn kill_of_our_node_amid_payments_leaves_both_in_agreement() {
    let f = Foreign::new();
    let id = f.fulmen_opens(1_000_000, 400_000_000, false);
    let (mut given, mut got) = (0, 0);
    for round in 0..3u64 {
        let to_ldk: Vec<String> = (0..10).map(|_| f.ldk.invoice(Some(1_500_000), 3600)).collect();
        let to_fulmen: Vec<String> =
            (0..10).map(|n| f.fulmen.invoice(700_000, &format!("{round} {n}"))).collect();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for (a, b) in to_ldk.iter().zip(&to_fulmen) {
            theirs.push(f.ldk.begin_pay(b, None));
            ours.push(begin_pay(&f, &id, a, 1_500_000));
        }
        // Another moment each time: before, amid and after the first answers.
        for hash in ours.iter().take(usize::try_from(round).unwrap() * 3) {
            f.fulmen.rpc("waitsendpay", &json!({"payment_hash": hash}));
        }
        f.fulmen.kill();
        f.fulmen.start_again();
        f.reconnect(&id);
        for hash in &ours {
            if f.fulmen.call("waitsendpay", &json!({"payment_hash": hash})).is_ok() {
                given += 1_500_000;
                f.ldk.wait_event("payment_received", |e| &e["payment_hash"] == hash);
            }
        }
        for (n, hash) in theirs.iter().enumerate() {
            let paid = f.ldk.wait_paid(hash)["event"] == "payment_successful";
            let label = format!("{round} {n}");
            let invoice =
                f.fulmen.rpc("listinvoices", &json!({"label": label}))["invoices"][0].clone();
            assert_eq!(invoice["status"] == "paid", paid, "{invoice}");
            got += if paid { 700_000 } else { 0 };
        }
        f.balances_are(&id, 600_000_000 - given + got, 400_000_000 + given - got);
    }
    f.closes(&id, "fulmen");
}

#[test]
fn payments_amid_many_disconnections_end_once_each() {
    let f = Foreign::new();
    let id = f.fulmen_opens(1_000_000, 400_000_000, true);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..12 {
        for n in 0..2 {
            // One of two is dust.
            let msat = if n == 0 { 1_000_000 } else { 100_000 };
            let bolt11 = f.ldk.invoice(Some(msat), 3600);
            ours.push((begin_pay(&f, &id, &bolt11, msat), msat));
            let bolt11 = f.fulmen.invoice(2 * msat, &format!("{round} {n}"));
            theirs.push((f.ldk.begin_pay(&bolt11, None), 2 * msat));
        }
        if round % 2 == 0 {
            f.ldk.ask("disconnect", json!({"node_id": f.fulmen.id}));
        } else {
            f.fulmen.rpc("disconnect", &json!({"id": f.ldk.id, "force": true}));
        }
        f.reconnect(&id);
    }
    let (mut given, mut got) = (0, 0);
    for (hash, msat) in ours {
        if f.fulmen.call("waitsendpay", &json!({"payment_hash": hash})).is_ok() {
            given += msat;
            f.ldk.wait_event("payment_received", |e| e["payment_hash"] == hash);
        }
    }
    for (hash, msat) in theirs {
        if f.ldk.wait_paid(&hash)["event"] == "payment_successful" {
            got += msat;
        }
    }
    assert!(given > 0 && got > 0);
    f.balances_are(&id, 600_000_000 - given + got, 400_000_000 + given - got);
    f.closes(&id, "ldk");
}

#[test]
fn feerate_follows_our_estimates_when_we_opened() {
    let mut f = Foreign::with(&["--force-feerates=1000"], &[]);
    let id = f.fulmen_opens(1_000_000, 400_000_000, false);
    assert_eq!(f.ldk.channel(&id)["feerate_per_kw"], 1000);
    for (round, feerate) in [2500, 1200].into_iter().enumerate() {
        f.fulmen.stop();
        f.fulmen.start_again_with(&[&format!("--force-feerates={feerate}")]);
        f.reconnect(&id);
        wait_for("the new feerate", || {
            (f.ldk.channel(&id)["feerate_per_kw"] == feerate).then_some(())
        });
        f.pay_each_other(&format!("at {feerate}, {round}"));
    }
    f.balances_are(&id, 600_000_000 - 2_000, 400_000_000 + 2_000);
    f.closes(&id, "fulmen");
}

/// LDK looks at the estimates once a minute.
const LDK_LOOKS: Duration = Duration::from_secs(90);

impl Foreign {
    /// Blocks whose transactions pay so much that bitcoind has an estimate, and a high one.
    fn raise_estimates(&self) {
        // Rewards of nobody's key, which everybody knows.
        let rewards = (4..100).map(|height| {
            let hash = self.bitcoind.rpc("getblockhash", &json!([height]));
            let block = self.bitcoind.rpc("getblock", &json!([hash, 2]));
            let txid = block["tx"][0]["txid"].as_str().unwrap().parse().unwrap();
            let value = block["tx"][0]["vout"][0]["value"].as_f64().unwrap();
            (OutPoint { txid, vout: 0 }, Amount::from_btc(value).unwrap())
        });
        self.bitcoind.mine(40);
        let script = bitcoin::ScriptBuf::new_p2wpkh(&Hash::from_byte_array([7; 20]));
        for coin in rewards.take(30) {
            let tx = self.bitcoind.spend_coin(coin, script.clone(), Amount::from_sat(100_000));
            self.bitcoind.sign_and_send(&tx);
            self.bitcoind.mine(1);
        }
        let estimate = self.bitcoind.rpc("estimatesmartfee", &json!([1008, "ECONOMICAL"]));
        assert!(estimate["feerate"].as_f64() > Some(0.0001), "{estimate}");
        self.ldk.sync(&self.bitcoind);
        self.fulmen.sync(&self.bitcoind);
    }
}

#[test]
fn feerate_follows_estimates_of_ldk_when_it_opened() {
    let f = Foreign::new();
    let id = f.ldk_opens(1_000_000, 400_000_000, false);
    let feerate = || f.fulmen.channel(&id)["feerate"]["perkw"].as_u64().unwrap();
    let before = feerate();
    f.raise_estimates();
    f.ldk.stop();
    f.ldk.start_again();
    f.reconnect(&id);
    let begun = Instant::now();
    while feerate() < 2 * before {
        assert!(begun.elapsed() < LDK_LOOKS, "the feerate is {} and stays there", feerate());
        std::thread::sleep(Duration::from_millis(100));
    }
    f.pay_each_other("afterwards");
    f.balances_are(&id, 400_000_000 - 1_000, 600_000_000 + 1_000);
    f.closes(&id, "ldk");
}

#[test]
fn kill_of_ldk_loses_no_money() {
    let f = Foreign::new();
    let id = f.fulmen_opens(1_000_000, 200_000_000, true);
    let alone = |c: &Value| {
        let state = c["state"].as_str().unwrap_or_default();
        !["CHANNELD_NORMAL", "CHANNELD_AWAITING_LOCKIN"].contains(&state)
    };
    for round in 1..=3u64 {
        f.pay_each_other(&format!("round {round}"));
        f.balances_are(&id, 800_000_000 - round * 1_000, 200_000_000 + round * 1_000);
        f.ldk.kill();
        f.ldk.start_again();
        f.connect_somehow();
        // Its papers may not be of one moment: then it closes.
        wait_for("LDK to go on, or to close", || {
            let usable = f.ldk.channel(&id)["usable"] == true;
            (usable || alone(&f.fulmen.channel(&id))).then_some(())
        });
        if alone(&f.fulmen.channel(&id)) {
            let before = coins_sat(&f.fulmen);
            wait_for("our coins", || {
                f.mine(1);
                (coins_sat(&f.fulmen) > before + 790_000).then_some(())
            });
            return;
        }
        f.fulmen.wait_normal(&id);
    }
    f.closes(&id, "ldk");
}
