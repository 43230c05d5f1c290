//! Payments both ways: of any size, many at once, and those that fail.

use super::{Foreign, begin_pay, sendpay};
use serde_json::{Value, json};
use tests::RpcError;

/// Both pay what the other asks for, and what it leaves open. What the suite has less in the end.
fn pay_both_ways(f: &Foreign) -> i64 {
    let mut given = 0;
    // Above dust, at its border, below, and the least there is.
    for msat in [90_000_000u64, 354_000, 353_999, 1_000, 1] {
        let bolt11 = f.ldk.invoice(Some(msat), 3600);
        let paid = f.fulmen.pay(&bolt11);
        let hash = &paid["payment_hash"];
        let got = f.ldk.wait_event("payment_received", |e| &e["payment_hash"] == hash);
        assert_eq!((&paid["amount_msat"], &got["msat"]), (&json!(msat), &json!(msat)));
        given += i64::try_from(msat).unwrap();
    }
    for msat in [30_000_001u64, 546_000, 1_000, 1] {
        let label = format!("from ldk {msat}");
        let preimage = f.ldk.pay(&f.fulmen.invoice(msat, &label));
        let invoice = f.fulmen.rpc("listinvoices", &json!({"label": label}))["invoices"][0].clone();
        assert_eq!(invoice["status"], "paid");
        assert_eq!(invoice["amount_received_msat"], msat);
        assert_eq!(invoice["payment_preimage"], preimage.as_str());
        given -= i64::try_from(msat).unwrap();
    }
    given
}

#[test]
fn payments_both_ways_in_an_announced_channel_we_opened() {
    let f = Foreign::new();
    let id = f.fulmen_opens(1_000_000, 200_000_000, true);
    let given = pay_both_ways(&f).cast_unsigned();
    f.balances_are(&id, 800_000_000 - given, 200_000_000 + given);
    f.closes(&id, "fulmen");
}

#[test]
fn payments_both_ways_in_a_private_channel_ldk_opened() {
    let f = Foreign::new();
    let id = f.ldk_opens(1_000_000, 200_000_000, false);
    assert_eq!(f.fulmen.channel(&id)["private"], true);
    let given = pay_both_ways(&f).cast_unsigned();
    f.balances_are(&id, 200_000_000 - given, 800_000_000 + given);
    f.closes(&id, "ldk");
}

#[test]
fn payer_chooses_the_amount_of_an_invoice_without_one() {
    let f = Foreign::new();
    let id = f.fulmen_opens(1_000_000, 200_000_000, false);
    let open = f.ldk.invoice(None, 3600);
    let paid = f.fulmen.rpc("pay", &json!({"bolt11": open, "amount_msat": 7_654_321}));
    assert_eq!(paid["status"], "complete");
    let made = json!({"amount_msat": "any", "label": "any", "description": "any"});
    let open = f.fulmen.rpc("invoice", &made)["bolt11"].as_str().unwrap().to_owned();
    let hash = f.ldk.begin_pay(&open, Some(1_234_567));
    assert_eq!(f.ldk.wait_paid(&hash)["event"], "payment_successful");
    let invoice = f.fulmen.rpc("waitinvoice", &json!(["any"]));
    assert_eq!(invoice["amount_received_msat"], 1_234_567);
    // Twice what is asked for is still taken: BOLT 4 lets the payer hide the amount so.
    let hash = f.ldk.begin_pay(&f.fulmen.invoice(1_000_000, "twice"), Some(2_000_000));
    assert_eq!(f.ldk.wait_paid(&hash)["event"], "payment_successful");
    f.balances_are(&id, 800_000_000 - 7_654_321 + 3_234_567, 200_000_000 + 7_654_321 - 3_234_567);
}

#[test]
fn concurrent_payments_both_ways_all_arrive() {
    let f = Foreign::new();
    let id = f.fulmen_opens(2_000_000, 1_000_000_000, false);
    let amount = |n: u64| if n.is_multiple_of(2) { 100_000 + n } else { 2_000_000 + n };
    // 30 is what the suite takes at once.
    let from_fulmen: Vec<u64> = (0..45).map(amount).collect();
    let from_ldk: Vec<u64> = (100..130).map(amount).collect();
    let to_ldk: Vec<String> = from_fulmen.iter().map(|m| f.ldk.invoice(Some(*m), 3600)).collect();
    let to_fulmen: Vec<String> =
        from_ldk.iter().map(|m| f.fulmen.invoice(*m, &format!("n{m}"))).collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..45 {
        ours.push(begin_pay(&f, &id, &to_ldk[n], from_fulmen[n]));
        if let Some(bolt11) = to_fulmen.get(n) {
            theirs.push(f.ldk.begin_pay(bolt11, None));
        }
    }
    for hash in ours {
        let done = f.fulmen.rpc("waitsendpay", &json!({"payment_hash": hash}));
        assert_eq!(done["status"], "complete");
    }
    for hash in theirs {
        assert_eq!(f.ldk.wait_paid(&hash)["event"], "payment_successful");
    }
    let given: u64 = from_fulmen.iter().sum();
    let got: u64 = from_ldk.iter().sum();
    f.balances_are(&id, 1_000_000_000 - given + got, 1_000_000_000 + given - got);
    f.closes(&id, "fulmen");
}

/// How a payment of the suite's ended that LDK refuses.
fn refused_by_ldk(f: &Foreign, hash: &Value) -> RpcError {
    let error = f.fulmen.refused("waitsendpay", &json!({"payment_hash": hash}));
    assert_eq!(error.data["erring_node"], f.ldk.id.as_str(), "{error:?}");
    error
}

#[test]
fn payment_refused_by_ldk_fails_back() {
    let f = Foreign::new();
    let id = f.fulmen_opens(1_000_000, 200_000_000, true);
    let nobodys = json!("5a".repeat(32));
    sendpay(&f, &id, 10_000_000, &nobodys, &nobodys);
    let unknown = refused_by_ldk(&f, &nobodys);
    assert_eq!(unknown.data["failcodename"], "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS");
    // Dust fails no otherwise.
    let nobodys = json!("5b".repeat(32));
    sendpay(&f, &id, 1_000, &nobodys, &nobodys);
    assert_eq!(refused_by_ldk(&f, &nobodys).code, unknown.code);
    // Too little.
    let half = begin_pay(&f, &id, &f.ldk.invoice(Some(20_000_000), 3600), 10_000_000);
    assert_eq!(refused_by_ldk(&f, &half).data["failcode"], unknown.data["failcode"]);
    // Held, and then not wanted.
    let hash = json!("5c".repeat(32));
    let held = f.ldk.ask("hold_invoice", json!({"msat": 3_000_000, "payment_hash": hash}));
    begin_pay(&f, &id, held["bolt11"].as_str().unwrap(), 3_000_000);
    f.ldk.wait_event("payment_claimable", |e| e["payment_hash"] == hash);
    assert_eq!(f.fulmen.channel(&id)["htlcs"].as_array().unwrap().len(), 1);
    f.ldk.ask("fail", json!({"payment_hash": hash}));
    refused_by_ldk(&f, &hash);
    // Too late: LDK goes by the time of its blocks, and gives two hours of grace.
    let late = f.ldk.invoice(Some(5_000_000), 1);
    let tip = f.bitcoind.rpc("getbestblockhash", &json!([]));
    let now = f.bitcoind.rpc("getblock", &json!([tip]))["time"].as_u64().unwrap();
    f.bitcoind.rpc("setmocktime", &json!([now + 4 * 3600]));
    f.mine(12);
    let late = begin_pay(&f, &id, &late, 5_000_000);
    assert_eq!(refused_by_ldk(&f, &late).data["failcode"], unknown.data["failcode"]);

    f.balances_are(&id, 800_000_000, 200_000_000);
    f.fulmen.pay(&f.ldk.invoice(Some(1_000_000), 24 * 3600));
    f.balances_are(&id, 799_000_000, 201_000_000);
}

#[test]
fn payment_refused_by_our_node_fails_back() {
    let f = Foreign::new();
    let id = f.ldk_opens(1_000_000, 200_000_000, true);
    // Nobody's any more, dust or not.
    for msat in [10_000_000, 1_000] {
        let label = format!("gone {msat}");
        let gone = f.fulmen.invoice(msat, &label);
        f.fulmen.rpc("delinvoice", &json!({"label": label, "status": "unpaid"}));
        let end = f.ldk.wait_paid(&f.ldk.begin_pay(&gone, None));
        assert_eq!(
            (&end["event"], &end["reason"]),
            (&json!("payment_failed"), &json!("RecipientRejected"))
        );
    }
    // More than twice what was asked for.
    let dear = f.fulmen.invoice(1_000_000, "dear");
    let end = f.ldk.wait_paid(&f.ldk.begin_pay(&dear, Some(2_000_001)));
    assert_eq!(end["reason"], "RecipientRejected");
    // Paid already.
    let once = f.fulmen.invoice(1_000_000, "once");
    f.ldk.pay(&once);
    assert!(f.ldk.try_ask("pay", json!({"bolt11": once})).is_err());
    let unpaid = f.fulmen.rpc("listinvoices", &json!({"label": "dear"}))["invoices"][0].clone();
    assert_eq!(unpaid["status"], "unpaid");
    f.balances_are(&id, 201_000_000, 799_000_000);
    f.closes(&id, "ldk");
}
