//! The end of a channel, by either side, and what each has on the chain after it.

use super::{Foreign, coins_sat, wait_for};
use serde_json::{Value, json};
use std::io::Write;

impl Foreign {
    /// The transaction that spends the channel's funding, once it is in the mempool.
    pub(super) fn spender_of(&self, funding: &Value) -> bitcoin::Transaction {
        let funding = funding.as_str().unwrap();
        wait_for("the closing transaction", || {
            let pool = self.bitcoind.rpc("getrawmempool", &json!([]));
            let all = pool.as_array()?.iter();
            let mut all = all.map(|txid| self.bitcoind.transaction(txid.as_str().unwrap()));
            all.find(|tx| tx.input.iter().any(|i| i.previous_output.txid.to_string() == funding))
        })
    }

    /// One of them closes; both agree, and both have on the chain what they had in the channel: the
    /// opener less the fee.
    pub(super) fn closes(&self, id: &str, who: &str) {
        let channel = self.fulmen.channel(id);
        let fulmen_sat = self.fulmen.settled_balance(id) / 1000;
        let capacity = channel["total_msat"].as_u64().unwrap() / 1000;
        let ldk_sat = self.ldk.channel(id)["to_self_msat"].as_u64().unwrap() / 1000;
        let before = (coins_sat(&self.fulmen), self.ldk.onchain_sat());
        match who {
            "fulmen" => {
                let closed = self.fulmen.rpc("close", &json!([id]));
                assert_eq!(closed["type"], "mutual", "{closed}");
            }
            _ => self.ldk.close(id),
        }
        self.ldk.wait_event("channel_closed", |e| e["channel_id"] == id);
        let tx = self.spender_of(&channel["funding_txid"]);
        let out: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
        let fee = capacity - out;
        assert!((100..=20_000).contains(&fee), "a fee of {fee}");
        self.mine(1);
        self.fulmen.wait_state(id, "ONCHAIN");
        let opener_pays = |sat, opener: bool| {
            if opener { capacity - (fulmen_sat + ldk_sat - sat) - fee } else { sat }
        };
        let is_opener = channel["opener"] == "local";
        let wanted = (
            before.0 + opener_pays(fulmen_sat, is_opener),
            before.1 + opener_pays(ldk_sat, !is_opener),
        );
        wait_for("the coins of the closing", || {
            (coins_sat(&self.fulmen) == wanted.0).then_some(())
        });
        wait_for("ldk's coins of the closing", || {
            let _ = self.ldk.try_ask("sync", json!({}));
            (self.ldk.onchain_sat() == wanted.1).then_some(())
        });
        let closer = if who == "fulmen" { "local" } else { "remote" };
        assert_eq!(self.fulmen.channel(id)["closer"], closer);
    }
}

#[test]
fn mutual_close_works_from_either_side_and_either_opener() {
    let f = Foreign::new();
    let (theirs, ours) =
        (f.ldk_opens(600_000, 100_000_000, true), f.fulmen_opens(500_000, 90_000_000, true));
    f.balances_are(&theirs, 100_000_000, 500_000_000);
    f.balances_are(&ours, 410_000_000, 90_000_000);
    f.closes(&theirs, "fulmen");
    f.fulmen.pay(&f.ldk.invoice(Some(10_000_123), 3600));
    f.balances_are(&ours, 399_999_877, 100_000_123);
    f.closes(&ours, "ldk");
}

#[test]
fn close_waits_for_pending_payments_through_restarts_of_both() {
    let f = Foreign::new();
    let id = f.fulmen_opens(500_000, 100_000_000, false);
    let one = f.held(&id, 7);
    let two = f.held(&id, 8);
    f.ldk.close(&id);
    f.fulmen.wait_state(&id, "CHANNELD_SHUTTING_DOWN");
    // Nothing begins any more.
    let late = f.fulmen.invoice(1_000_000, "late");
    let refused = f.ldk.try_ask("pay", json!({"bolt11": late}));
    assert!(refused.is_err(), "{refused:?}");
    f.fulmen.kill();
    f.fulmen.start_again();
    f.connect_somehow();
    f.claim(&one);
    f.wait_claimed(&one);
    f.ldk.stop();
    f.ldk.start_again();
    f.connect_somehow();
    assert_eq!(f.fulmen.channel(&id)["state"], "CHANNELD_SHUTTING_DOWN");
    wait_for("the claim to be taken", || f.try_claim(&two).ok());
    f.wait_claimed(&two);
    f.ldk.wait_event("channel_closed", |e| e["channel_id"] == id.as_str());
    let tx = f.spender_of(&f.fulmen.channel(&id)["funding_txid"]);
    let to_ldk = tx.output.iter().map(|o| o.value.to_sat()).min().unwrap();
    assert_eq!(to_ldk, 104_000);
    f.mine(1);
    f.fulmen.wait_state(&id, "ONCHAIN");
}

#[test]
fn simultaneous_close_survives_a_disconnection() {
    let f = Foreign::new();
    let ids = [f.fulmen_opens(500_000, 100_000_000, true), f.ldk_opens(500_000, 100_000_000, true)];
    let mut callers = Vec::new();
    for id in &ids {
        // The answers are not waited for: the node dies first.
        let mut asked = f.fulmen.socket().unwrap();
        let close = json!({"jsonrpc": "2.0", "id": "c", "method": "close", "params": [id]});
        asked.write_all(close.to_string().as_bytes()).unwrap();
        callers.push(asked);
        // LDK may have heard of ours already, and then it refuses.
        let _ = f.ldk.try_close(id);
    }
    f.ldk.ask("disconnect", json!({"node_id": f.fulmen.id}));
    f.fulmen.kill();
    f.fulmen.start_again();
    f.connect_somehow();
    for id in &ids {
        wait_for("the connection and the closing", || {
            f.connect_somehow();
            (f.fulmen.channel(id)["state"] == "CLOSINGD_COMPLETE").then_some(())
        });
        let tx = f.spender_of(&f.fulmen.channel(id)["funding_txid"]);
        assert!(tx.output.iter().any(|o| o.value.to_sat() == 100_000), "{tx:?}");
        f.ldk.wait_event("channel_closed", |e| e["channel_id"] == id.as_str());
    }
    f.mine(1);
    for id in &ids {
        f.fulmen.wait_state(id, "ONCHAIN");
    }
}

#[test]
fn force_close_by_ldk_is_detected_and_survives_a_restart() {
    let f = Foreign::new();
    let id = f.fulmen_opens(500_000, 100_000_000, true);
    f.fulmen.pay(&f.ldk.invoice(Some(1_000_000), 3600));
    f.balances_are(&id, 399_000_000, 101_000_000);
    f.ldk.force_close(&id);
    let funding = f.fulmen.channel(&id)["funding_txid"].clone();
    let tx = f.spender_of(&funding);
    assert!(tx.output.iter().any(|o| o.value.to_sat() == 101_000), "{tx:?}");
    wait_for("the error of the peer to be heard", || {
        (f.fulmen.channel(&id)["state"] != "CHANNELD_NORMAL").then_some(())
    });
    f.mine(1);
    wait_for("the spend to be seen", || {
        ["FUNDING_SPEND_SEEN", "ONCHAIN"].iter().find(|s| f.fulmen.channel(&id)["state"] == **s)
    });
    f.fulmen.stop();
    f.fulmen.start_again();
    assert_eq!(f.fulmen.channel(&id)["to_us_msat"], 399_000_000);
}

#[test]
fn force_close_works_while_ldk_is_offline() {
    let f = Foreign::new();
    let id = f.ldk_opens(500_000, 100_000_000, true);
    f.ldk.pay(&f.fulmen.invoice(1_000_000, "once"));
    f.balances_are(&id, 101_000_000, 399_000_000);
    let funding = f.fulmen.channel(&id)["funding_txid"].clone();
    f.ldk.stop();
    let closed = f.fulmen.rpc("close", &json!({"id": id, "unilateraltimeout": 1}));
    assert_eq!(closed["type"], "unilateral");
    let tx = f.spender_of(&funding);
    assert!(tx.output.iter().any(|o| o.value.to_sat() == 101_000), "{tx:?}");
    f.bitcoind.mine(1);
    f.ldk.start_again();
    f.ldk.sync(&f.bitcoind);
    // LDK knows our commitment, and what it has in it.
    f.ldk.wait_event("channel_closed", |e| e["channel_id"] == id.as_str());
    let left = f.ldk.ask("balances", json!({}))["lightning_sat"].as_u64().unwrap();
    let to_ldk = tx.output.iter().map(|o| o.value.to_sat()).max().unwrap();
    assert_eq!(left, to_ldk);
}
