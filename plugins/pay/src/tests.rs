//! The plugin as lightningd runs it, in front of a lightningd that a script plays.

mod rig;

use crate::direct::{Channel, MAX_PARTS, NoWay, split};
use invoice::{Currency, Description};
use primitives::*;
use proptest::prelude::*;
use rig::*;
use serde_json::{Value, json};

#[test]
fn direct_peer_is_paid_with_one_part() {
    let mut node = Node::new("one", world(&[("1x1x1", 500), ("2x2x2", 5000)], &[Fate::Paid]));
    let text = bolt11(|_| {});
    let answer = node.ask("pay", json!({ "bolt11": text, "label": "lunch" }));
    let mut result = answer["result"].clone();
    assert!(result["created_at"].take().as_u64().is_some(), "{answer}");
    assert_eq!(
        result,
        json!({
            "destination": payee_id(), "payment_hash": hash(), "created_at": null, "parts": 1, "amount_msat": 1000,
            "amount_sent_msat": 1000, "payment_preimage": "07".repeat(32), "status": "complete"
        })
    );
    assert_eq!(
        node.world().sent,
        [json!({
            "route": [{
                "id": payee_id(), "channel": "2x2x2", "direction": 1, "amount_msat": 1000, "delay": 13, "style": "tlv"
            }],
            "payment_hash": hash(), "amount_msat": 1000, "bolt11": text, "payment_secret": "09".repeat(32),
            "groupid": 1, "label": "lunch", "payment_metadata": "0102"
        })]
    );
}

#[test]
fn payment_above_each_channel_goes_in_parts() {
    let fates = vec![Fate::Paid; 3];
    let mut node =
        Node::new("parts", world(&[("1x1x1", 500), ("2x2x2", 400), ("3x3x3", 300)], &fates));
    let answer = node.ask("pay", json!([bolt11(|_| {})]));
    assert_eq!(answer["result"]["parts"], 3, "{answer}");
    assert_eq!(answer["result"]["amount_msat"], 1000);
    assert_eq!(answer["result"].get("warning_partial_completion"), None);
    let sent = node.world().sent.clone();
    let parts: Vec<_> = sent
        .iter()
        .map(|s| {
            (s["partid"].as_u64(), s["route"][0]["amount_msat"].as_u64(), s["amount_msat"].as_u64())
        })
        .collect();
    let total = Some(1000);
    assert_eq!(
        parts,
        [(Some(1), Some(500), total), (Some(2), Some(400), total), (Some(3), Some(100), total)]
    );

    let mut node = Node::new("noparts", world(&[("1x1x1", 500), ("2x2x2", 600)], &[]));
    let single = bolt11(|t| t.features = Features::compulsory(&[feature::PAYMENT_SECRET]));
    let answer = node.ask("pay", json!([single]));
    assert_eq!(answer["error"]["code"], 205);
    assert!(
        answer["error"]["message"].as_str().unwrap().contains("does not allow payment in parts")
    );
}

#[test]
fn passing_failure_is_tried_again_over_another_channel() {
    let mut node = Node::new(
        "again",
        world(
            &[("1x1x1", 5000), ("2x2x2", 4000)],
            &[temporary(), Fate::Refused(204, "gone"), Fate::Paid],
        ),
    );
    let answer = node.ask("pay", json!([bolt11(|_| {})]));
    assert_eq!(answer["result"]["parts"], 3, "{answer}");
    let sent = node.world().sent.clone();
    let ways: Vec<_> = sent.iter().map(|s| (s.get("partid"), &s["route"][0]["channel"])).collect();
    let (one, two) = (json!(1), json!(2));
    assert_eq!(
        ways,
        [(None, &json!("1x1x1")), (Some(&one), &json!("2x2x2")), (Some(&two), &json!("1x1x1"))]
    );
}

#[test]
fn passing_failure_of_the_payee_is_tried_again() {
    let said =
        |failcode: u16| Fate::Failed(204, json!({ "erring_index": 1, "failcode": failcode }));
    // temporary_node_failure, mpp_timeout.
    let fates = [said(0x2002), said(23), Fate::Paid];
    let mut node = Node::new("payee-again", world(&[("1x1x1", 5000)], &fates));
    let answer = node.ask("pay", json!([bolt11(|_| {})]));
    assert_eq!((&answer["result"]["parts"], node.world().sent.len()), (&json!(3), 3), "{answer}");
}

#[test]
fn pay_stops_when_the_payee_refuses_or_time_is_over() {
    let refusal =
        Fate::Failed(203, json!({ "erring_index": 1, "failcode": 0x400f, "big": u64::MAX }));
    let mut node = Node::new("refused", world(&[("1x1x1", 5000)], &[refusal]));
    let error = node.ask("pay", json!([bolt11(|_| {})]))["error"].clone();
    assert_eq!(error["code"], 203, "{error}");
    assert_eq!(
        (&error["data"]["failcode"], &error["data"]["big"]),
        (&json!(0x400f), &json!(u64::MAX))
    );
    assert_eq!(error["data"]["attempts"][0]["channel"], "1x1x1");
    assert_eq!(node.world().sent.len(), 1);

    let mut node = Node::new("timeout", world(&[("1x1x1", 5000)], &[temporary()]));
    let error =
        node.ask("pay", json!({ "bolt11": bolt11(|_| {}), "retry_for": 0 }))["error"].clone();
    assert_eq!(
        (&error["code"], &error["data"]["sendpay_tries"]),
        (&json!(210), &json!(1)),
        "{error}"
    );

    // A channel that is gone for good is not tried again.
    let gone = Fate::Failed(204, json!({ "erring_index": 0, "failcode": 0x4008 }));
    let mut node = Node::new("forgood", world(&[("1x1x1", 5000)], &[gone]));
    let error = node.ask("pay", json!([bolt11(|_| {})]))["error"].clone();
    assert_eq!((&error["code"], node.world().sent.len()), (&json!(205), 1), "{error}");
}

#[test]
fn connection_that_ends_says_nothing_of_the_payment() {
    let world = World { hangs_up: 3, ..world(&[("1x1x1", 5000)], &[Fate::Paid]) };
    let mut node = Node::new("hung-up", world);
    let answer = node.ask("pay", json!([bolt11(|_| {})]));
    assert_eq!(answer["result"]["status"], "complete", "{answer}");
    assert_eq!(node.world().sent.len(), 1);
}

#[test]
fn giving_up_waits_for_the_parts_that_are_under_way() {
    let refusal = Fate::Failed(203, json!({ "failcode": 0x400f }));
    let mut node =
        Node::new("wait", world(&[("1x1x1", 600), ("2x2x2", 500)], &[Fate::Held, refusal.clone()]));
    node.say("pay", json!([bolt11(|_| {})]));
    node.until(|world| world.sent.len() == 2);
    // A second call for the same hash does not pay again, and others are answered meanwhile.
    let second = node.ask("pay", json!([bolt11(|_| {})]));
    assert_eq!(second["error"]["code"], 200, "{second}");
    assert_eq!(node.ask("listpays", json!({}))["result"], json!({ "pays": [] }));
    node.release(Fate::Paid);
    let answer = node.hear();
    assert_eq!(answer["result"]["payment_preimage"], "07".repeat(32), "{answer}");
    assert_eq!(answer["result"]["amount_sent_msat"], 600);
}

#[test]
fn payment_beyond_direct_peers_fails_with_a_reason() {
    let away = |change: fn(&mut Value)| {
        let mut away = channel("1x1x1", 5000);
        change(&mut away);
        World { channels: vec![away], ..World::default() }
    };
    let excluded = json!({ "bolt11": bolt11(|_| {}), "exclude": ["1x1x1/1"] });
    for (name, world, params, why) in [
        ("nobody", world(&[], &[]), json!([bolt11(|_| {})]), "only pay direct peers yet"),
        (
            "poor",
            world(&[("1x1x1", 999)], &[]),
            json!([bolt11(|_| {})]),
            "can send 999msat, and 1000msat are needed",
        ),
        (
            "offline",
            away(|c| c["peer_connected"] = json!(false)),
            json!([bolt11(|_| {})]),
            "not connected",
        ),
        (
            "closing",
            away(|c| c["state"] = json!("CHANNELD_SHUTTING_DOWN")),
            json!([bolt11(|_| {})]),
            "not connected",
        ),
        ("excluded", world(&[("1x1x1", 5000)], &[]), excluded, "only pay direct peers yet"),
    ] {
        let mut node = Node::new(name, world);
        let error = node.ask("pay", params)["error"].clone();
        assert_eq!(error["code"], 205, "{name}: {error}");
        assert!(error["message"].as_str().unwrap().contains(why), "{name}: {error}");
    }
}

#[test]
fn invoice_that_should_not_be_paid_is_not() {
    let mut node = Node::new("refuse", world(&[("1x1x1", 5000)], &[]));
    let good = || bolt11(|_| {});
    // BOLT 11, "Feature Bits": without basic_mpp the payee takes one HTLC with all of it.
    let one_htlc = || {
        let required = &[feature::VAR_ONION_OPTIN, feature::PAYMENT_SECRET];
        bolt11(|t| t.features = Features::compulsory(required))
    };
    let hashed = || bolt11(|t| t.description = Description::hash_of("coffee"));
    for (params, code, why) in [
        (json!(["lnbcrt1nonsense"]), -32602, "Invalid bolt11"),
        (
            json!([bolt11(|t| t.currency = Currency::Bitcoin)]),
            -32602,
            "it asks for 'bc', this node has 'bcrt'",
        ),
        (json!([good(), 1000]), -32602, "amount_msat parameter unnecessary"),
        (json!([bolt11(|t| t.amount = None)]), -32602, "amount_msat parameter required"),
        (json!({ "bolt11": hashed(), "description": "tea" }), -32602, "description does not match"),
        (json!({ "bolt11": good(), "partial_msat": 1001 }), -32602, "partial_msat"),
        (json!({ "bolt11": one_htlc(), "partial_msat": 999 }), -32602, "does not offer basic_mpp"),
        (json!({ "bolt11": good(), "maxfee": 1, "exemptfee": 1 }), -32602, "maxfee"),
        (json!({ "bolt11": good(), "maxdelay": 9 }), 206, "maxdelay"),
        (json!([bolt11(|t| t.timestamp -= 3600)]), 207, "Invoice expired"),
        (json!({}), -32602, "missing required parameter: bolt11"),
    ] {
        let error = node.ask("pay", params)["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
    }
    assert_eq!(node.world().sent.len(), 0);
}

#[test]
fn amount_of_ones_own_a_share_and_a_payment_to_oneself() {
    let mut node = Node::new("own", world(&[("1x1x1", 5000)], &[Fate::Paid]));
    let params = json!({ "invstring": bolt11(|t| t.amount = None), "amount_msat": "2sat", "description": "coffee" });
    assert_eq!(node.ask("pay", params)["result"]["amount_msat"], 2000);

    let mut node = Node::new("share", world(&[("1x1x1", 5000)], &[Fate::Paid]));
    let params = json!({ "bolt11": bolt11(|_| {}), "partial_msat": 300 });
    assert_eq!(node.ask("pay", params)["result"]["amount_sent_msat"], 300);
    let sent = node.world().sent[0].clone();
    assert_eq!((&sent["amount_msat"], &sent["partid"]), (&json!(1000), &json!(1)));
    assert_eq!(sent["route"][0]["amount_msat"], 300);

    let mut ourselves = world(&[], &[Fate::Paid]);
    ourselves.own_id = Some(payee_id());
    let mut node = Node::new("self", ourselves);
    assert_eq!(node.ask("pay", json!([bolt11(|_| {})]))["result"]["status"], "complete");
    assert_eq!(node.world().sent[0]["route"], json!([]));
}

fn row(index: u64, group: u64, part: u64, status: &str, amount: u64) -> Value {
    let mut row = json!({
        "created_index": index, "id": index, "payment_hash": hash(), "groupid": group, "partid": part,
        "destination": payee_id(), "amount_msat": amount, "amount_sent_msat": amount + 1, "created_at": 1000 + index,
        "status": status, "bolt11": "lnbcrt1\\u0041", "label": "l"
    });
    match status {
        "complete" => {
            row["payment_preimage"] = json!("07".repeat(32));
            row["completed_at"] = json!(2000 + index);
            row["updated_index"] = json!(index);
        }
        "failed" => row["erroronion"] = json!("ab"),
        _ => {}
    }
    row
}

#[test]
fn paid_invoice_answers_at_once_and_pending_is_not_repeated() {
    let paid = vec![
        row(1, 1, 1, "failed", 1000),
        row(2, 2, 1, "complete", 400),
        row(3, 2, 2, "complete", 600),
    ];
    let mut node = Node::new("paid", World { earlier: paid.clone(), ..World::default() });
    let result = node.ask("pay", json!([bolt11(|_| {})]))["result"].clone();
    assert_eq!(
        result,
        json!({
            "destination": payee_id(), "payment_hash": hash(), "created_at": 1002, "parts": 2, "amount_msat": 1000,
            "amount_sent_msat": 1002, "payment_preimage": "07".repeat(32), "status": "complete"
        })
    );
    let mut other = paid;
    other[1]["destination"] = json!("02".repeat(33));
    let mut node = Node::new("other", World { earlier: other, ..World::default() });
    assert_eq!(node.ask("pay", json!([bolt11(|_| {})]))["error"]["code"], 201);
    let pending = vec![row(1, 1, 0, "pending", 1000)];
    let mut node = Node::new("pending", World { earlier: pending, ..World::default() });
    assert_eq!(node.ask("pay", json!([bolt11(|_| {})]))["error"]["code"], 200);
    // After a failure the next attempt is a group of its own.
    let mut after = world(&[("1x1x1", 5000)], &[Fate::Paid]);
    after.earlier = vec![row(1, 4, 0, "failed", 1000)];
    let mut node = Node::new("after", after);
    assert_eq!(node.ask("pay", json!([bolt11(|_| {})]))["result"]["parts"], 1);
    assert_eq!(node.world().sent[0]["groupid"], 5);
}

#[test]
fn listpays_puts_parts_together() {
    let earlier = vec![
        row(1, 1, 0, "failed", 1000),
        row(2, 2, 1, "complete", 400),
        row(3, 2, 2, "complete", 600),
        row(4, 2, 3, "failed", 600),
        row(5, 3, 0, "pending", 7),
    ];
    let mut node = Node::new("list", World { earlier, ..World::default() });
    let pays = node.ask("listpays", json!({}))["result"]["pays"].clone();
    let common = |index: u64| {
        json!({
            "bolt11": "lnbcrt1\\u0041", "destination": payee_id(), "payment_hash": hash(), "label": "l",
            "created_at": 1000 + index, "created_index": index
        })
    };
    let with = |index: u64, more: Value| {
        let mut all = common(index);
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    assert_eq!(
        pays,
        json!([
            with(1, json!({ "status": "failed", "amount_sent_msat": 0, "erroronion": "ab" })),
            with(
                2,
                json!({
                    "status": "complete", "completed_at": 2003, "preimage": "07".repeat(32), "amount_msat": 1000,
                    "amount_sent_msat": 1002, "number_of_parts": 2, "updated_index": 3
                })
            ),
            with(5, json!({ "status": "pending", "amount_msat": 7, "amount_sent_msat": 8 })),
        ])
    );
    let failed = node.ask("listpays", json!({ "status": "failed" }))["result"]["pays"].clone();
    assert_eq!(failed.as_array().unwrap().len(), 1);
    // BTCPay passes the hash as second, with nothing as first.
    node.ask("listpays", json!([null, hash()]));
    assert_eq!(node.world().listed.last(), Some(&json!({ "payment_hash": hash() })));
    node.ask("listpays", json!({ "index": "created", "start": 3, "limit": 2 }));
    assert_eq!(
        node.world().listed.last(),
        Some(&json!({ "index": "created", "start": 3, "limit": 2 }))
    );
    assert_eq!(node.ask("listpays", json!({ "status": "lost" }))["error"]["code"], -32602);
}

fn any_channel() -> impl Strategy<Value = Channel> {
    (any::<bool>(), 0u64..2000, 0u64..50, 1u64..1500, 0u32..3, 0u32..1000).prop_map(
        |(usable, spendable, least, most, failures, n)| Channel {
            id: format!("{n}x1x1"),
            direction: 0,
            usable,
            spendable: Msat(spendable),
            least: Msat(least),
            most: Msat(most),
            failures,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn parts_bring_what_is_needed_and_fit_their_channels(
        channels in proptest::collection::vec(any_channel(), 0..6), needed in 1u64..4000, may_split: bool
    ) {
        let mut channels = channels;
        channels.sort_by(|a, b| a.id.cmp(&b.id));
        channels.dedup_by(|a, b| a.id == b.id);
        match split(&channels, Msat(needed), may_split) {
            Ok(parts) => {
                prop_assert_eq!(parts.iter().map(|p| p.amount.0).sum::<u64>(), needed);
                prop_assert!(parts.len() == 1 || (may_split && parts.len() <= MAX_PARTS));
                for channel in &channels {
                    let own = || parts.iter().filter(|p| p.channel == channel.id);
                    let sum: u64 = own().map(|p| p.amount.0).sum();
                    prop_assert!(sum <= channel.spendable.0);
                    prop_assert!(own().all(|p| p.amount >= channel.least && p.amount <= channel.most && p.amount.0 > 0));
                    prop_assert!(channel.usable || sum == 0);
                }
            }
            // One that could do it alone is always found.
            Err(why) => {
                let could = |c: &&Channel| {
                    c.usable && c.least.0 <= needed && needed <= c.most.0 && needed <= c.spendable.0
                };
                prop_assert!(channels.iter().find(could).is_none(), "{why}");
                prop_assert_eq!(why == NoWay::NoChannel, channels.is_empty());
            }
        }
    }
}
