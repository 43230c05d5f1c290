//! Three nodes in a line: what the one in the middle forwards, refuses, and still knows after it
//! was killed.

mod chain;
mod kills;
mod onions;

use serde_json::{Value, json};
use std::io::Write;
use tests::{LINE_SAT, Line, Node, RpcError, hop, wait_for};

/// `sendpay` over a given route, and how it ended.
fn send(node: &Node, route: &Value, (hash, secret): &(Value, Value)) -> Result<Value, RpcError> {
    begin(node, route, (hash, secret), &json!({}));
    node.call("waitsendpay", &json!({"payment_hash": hash, "timeout": 40}))
}

fn begin(node: &Node, route: &Value, (hash, secret): (&Value, &Value), more: &Value) {
    let mut params = json!({"route": route, "payment_hash": hash, "payment_secret": secret});
    for (name, value) in more.as_object().unwrap() {
        params[name] = value.clone();
    }
    node.rpc("sendpay", &params);
}

fn forwards(node: &Node) -> Vec<Value> {
    node.rpc("listforwards", &json!({}))["forwards"].as_array().unwrap().clone()
}

/// The end of the newest forward.
fn last_forward(node: &Node) -> Value {
    forwards(node).pop().unwrap_or(Value::Null)
}

/// Waits until this many HTLCs of this channel are fully there.
fn wait_held(node: &Node, channel: &str, count: usize) {
    wait_for("HTLCs to be held", || {
        let channel = node.channel(channel);
        let held = channel["htlcs"].as_array()?.iter();
        let there = |h: &&Value| {
            h["state"] == "RCVD_ADD_ACK_REVOCATION" || h["state"] == "SENT_ADD_ACK_REVOCATION"
        };
        (held.filter(there).count() == count).then_some(())
    });
}

/// What everybody has once nothing is under way: l1 gave `msat` and the fee, l2 kept the fee, l3
/// got `msat`.
fn assert_moved(line: &Line, msat: u64, fee: u64) {
    let whole = LINE_SAT * 1000;
    assert_eq!(line.l1.settled_balance(&line.first), whole - msat - fee);
    assert_eq!(line.l2.settled_balance(&line.first), msat + fee);
    assert_eq!(line.l2.settled_balance(&line.second), whole - msat);
    assert_eq!(line.l3.settled_balance(&line.second), msat);
    assert_eq!(line.l2.rpc("getinfo", &json!({}))["fees_collected_msat"], fee);
}

/// A settled forward of 200,000,000 msat, and its two HTLCs.
fn first_forward_is_listed(line: &Line) {
    let [first, second] = line.scids();
    let forward = last_forward(&line.l2);
    for (name, value) in [
        ("in_channel", first.clone()),
        ("out_channel", second.clone()),
        ("in_htlc_id", json!(0)),
        ("out_htlc_id", json!(0)),
        ("in_msat", json!(200_002_001)),
        ("out_msat", json!(200_000_000)),
        ("fee_msat", json!(2001)),
        ("status", json!("settled")),
        ("style", json!("tlv")),
        ("created_index", json!(1)),
        ("updated_index", json!(1)),
    ] {
        assert_eq!(forward[name], value, "{name}");
    }
    assert!(forward["resolved_time"].as_f64() >= forward["received_time"].as_f64());
    assert!(line.l1.rpc("listforwards", &json!({}))["forwards"].as_array().unwrap().is_empty());
    let htlcs = line.l2.rpc("listhtlcs", &json!({}))["htlcs"].clone();
    let said: Vec<_> = htlcs
        .as_array()
        .unwrap()
        .iter()
        .map(|h| (h["direction"].as_str().unwrap(), h["state"].as_str().unwrap()))
        .collect();
    let expected = [("in", "SENT_REMOVE_ACK_REVOCATION"), ("out", "RCVD_REMOVE_ACK_REVOCATION")];
    assert_eq!(said, expected);
    assert_eq!(htlcs[0]["created_index"], 1);
    let of_second = line.l2.rpc("listhtlcs", &json!([second]));
    assert_eq!(of_second["htlcs"].as_array().unwrap().len(), 1);
}

/// `delforward` of the first of two; the sum of the fees stays.
fn delforward_keeps_the_fees(line: &Line) {
    let [first, _] = line.scids();
    let params = |status: &str| json!({"in_channel": first, "in_htlc_id": 0, "status": status});
    assert_eq!(line.l2.refused("delforward", &params("failed")).code, 1401);
    assert_eq!(line.l2.refused("delforward", &params("offered")).code, -32602);
    line.l2.rpc("delforward", &params("settled"));
    assert_eq!(line.l2.refused("delforward", &params("settled")).code, 1401);
    assert_eq!(forwards(&line.l2).len(), 1);
    assert_eq!(line.l2.rpc("getinfo", &json!({}))["fees_collected_msat"], 2002);
}

#[test]
fn forward_pays_and_earns_its_fee() {
    let line = Line::new();
    let invoice = line.invoice(200_000_000, "one");
    let done = send(&line.l1, &line.route(200_000_000), &invoice).unwrap();
    assert_eq!(done["status"], "complete");
    assert_eq!(done["amount_sent_msat"], 200_002_001);
    assert_moved(&line, 200_000_000, 2001);
    first_forward_is_listed(&line);

    // Dust goes as well, and the other way, by the names that only the two ends of a channel know.
    let alias = |node: &Node, id: &str| node.channel(id)["alias"]["local"].clone();
    let back = line.l1.rpc("invoice", &json!([1000, "back", "d"]));
    let route = json!([
        hop(&line.l2, &alias(&line.l3, &line.second), 1001, 18),
        hop(&line.l1, &alias(&line.l2, &line.first), 1000, 12),
    ]);
    let there = (back["payment_hash"].clone(), back["payment_secret"].clone());
    send(&line.l3, &route, &there).unwrap();
    assert_eq!(last_forward(&line.l2)["fee_msat"], 1);
    assert_eq!(line.l2.rpc("getinfo", &json!({}))["fees_collected_msat"], 2002);
    // Known by what is stored.
    line.l2.stop();
    line.l2.start_again();
    assert_eq!(line.l2.rpc("getinfo", &json!({}))["fees_collected_msat"], 2002);
    assert_eq!(forwards(&line.l2).len(), 2);
    delforward_keeps_the_fees(&line);
}

/// No channel has this `short_channel_id`.
const NOWHERE: &str = "1x2x3";

/// A route that breaks a rule of the forwarder, and the error that it must give.
struct Breach {
    route: Value,
    code: u64,
    name: &'static str,
    /// BOLT 4: the failure code, what is reported with it, and no `channel_update`.
    raw: String,
}

/// In the order in which `listforwards` numbers them.
fn breaches(line: &Line) -> [Breach; 6] {
    let [first, second] = line.scids();
    let route = |sent: u64, msat: u64, delays: (u32, u32), channel: &Value| {
        json!([hop(&line.l2, &first, sent, delays.0), hop(&line.l3, channel, msat, delays.1)])
    };
    let height = u32::try_from(line.bitcoind.height()).unwrap();
    let out = format!("{:08x}", height + 1 + 13);
    let nowhere = json!(NOWHERE);
    [
        Breach {
            route: route(1_000_010, 1_000_000, (18, 12), &second),
            code: 0x100c,
            name: "WIRE_FEE_INSUFFICIENT",
            raw: format!("100c{:016x}0000", 1_000_010),
        },
        Breach {
            route: route(1_000_011, 1_000_000, (18, 13), &second),
            code: 0x100d,
            name: "WIRE_INCORRECT_CLTV_EXPIRY",
            raw: format!("100d{out}0000"),
        },
        Breach {
            route: route(1_000_011, 1_000_000, (18, 12), &nowhere),
            code: 0x400a,
            name: "WIRE_UNKNOWN_NEXT_PEER",
            raw: "400a".to_owned(),
        },
        Breach {
            route: route(1_000_011, 1_000_000, (7, 1), &second),
            code: 0x100e,
            name: "WIRE_EXPIRY_TOO_SOON",
            raw: "100e0000".to_owned(),
        },
        Breach {
            route: route(1_000_011, 1_000_000, (2022, 2016), &second),
            code: 21,
            name: "WIRE_EXPIRY_TOO_FAR",
            raw: "0015".to_owned(),
        },
        Breach {
            route: route(1_000_011, 0, (18, 12), &second),
            code: 0x100b,
            name: "WIRE_AMOUNT_BELOW_MINIMUM",
            raw: "100b00000000000000000000".to_owned(),
        },
    ]
}

fn fails_at_the_forwarder(line: &Line, breach: &Breach, invoice: &(Value, Value)) {
    let Breach { route, code, name, raw } = breach;
    let failed = send(&line.l1, route, invoice).unwrap_err();
    assert_eq!((failed.code, &failed.data["failcodename"]), (204, &json!(name)), "{failed:?}");
    assert_eq!(failed.data["failcode"], *code);
    assert_eq!(failed.data["raw_message"], *raw);
    assert_eq!(failed.data["erring_index"], 1);
    assert_eq!(failed.data["erring_node"], line.l2.id.as_str());
    assert_eq!(failed.data["erring_channel"], route[1]["channel"]);
    let direction = u8::from(line.l2.id > line.l3.id);
    assert_eq!(failed.data["erring_direction"], direction);
    let forward = last_forward(&line.l2);
    assert_eq!(
        (&forward["status"], &forward["failreason"]),
        (&json!("local_failed"), &json!(name))
    );
    assert_eq!(forward["failcode"], *code);
    assert!(forward.get("out_msat").is_none() && forward.get("resolved_time").is_none());
}

fn offline_and_closing_peers_fail_forwards(line: &Line, invoice: &(Value, Value)) {
    line.l3.stop();
    wait_for("l2 to notice", || {
        (line.l2.channel(&line.second)["reestablished"] == false).then_some(())
    });
    let failed = send(&line.l1, &line.route(1_000_000), invoice).unwrap_err();
    assert_eq!(failed.data["failcodename"], "WIRE_TEMPORARY_CHANNEL_FAILURE");
    assert_eq!(failed.data["raw_message"], "10070000");
    // Its answer comes when the channel is closed: nobody waits for it here.
    let params = json!({"id": line.second, "unilateraltimeout": 0});
    let close = json!({"jsonrpc": "2.0", "id": 1, "method": "close", "params": params});
    let mut socket = line.l2.socket().unwrap();
    socket.write_all(close.to_string().as_bytes()).unwrap();
    line.l2.wait_state(&line.second, "CHANNELD_SHUTTING_DOWN");
    let failed = send(&line.l1, &line.route(1_000_000), invoice).unwrap_err();
    assert_eq!(failed.data["failcodename"], "WIRE_PERMANENT_CHANNEL_FAILURE");
}

fn failed_forwards_are_listed_in_pages(line: &Line) {
    let list = |params: Value| {
        let list = line.l2.rpc("listforwards", &params)["forwards"].as_array().unwrap().clone();
        list.iter().map(|f| f["created_index"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(list(json!({"status": "failed"})), [7]);
    assert_eq!(list(json!({"status": "settled"})), [0u64; 0]);
    assert_eq!(list(json!({"out_channel": NOWHERE})), [3]);
    assert_eq!(list(json!({"index": "created", "start": 2, "limit": 3})), [2, 3, 4]);
    assert_eq!(list(json!({"index": "updated", "start": 1})), [7]);
    assert_eq!(line.l2.refused("listforwards", &json!({"status": "lost"})).code, -32602);
}

/// The payer reads which node failed the HTLC.
#[test]
fn forward_breaking_each_rule_fails_with_its_onion_code() {
    let line = Line::new();
    let invoice = line.invoice(1_000_000, "one");
    let breaches = breaches(&line);
    for breach in &breaches {
        fails_at_the_forwarder(&line, breach, &invoice);
    }
    // What the payee refuses comes back through the middle as it was.
    let other = (json!("77".repeat(32)), invoice.1.clone());
    let failed = send(&line.l1, &line.route(1_000_000), &other).unwrap_err();
    assert_eq!((failed.code, failed.data["erring_index"].as_u64()), (203, Some(2)));
    assert_eq!(failed.data["failcodename"], "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS");
    assert_eq!(failed.data["erring_channel"], line.scids()[1]);
    assert_eq!(last_forward(&line.l2)["status"], "failed");
    offline_and_closing_peers_fail_forwards(&line, &invoice);
    assert_moved_nothing(&line);
    failed_forwards_are_listed_in_pages(&line);
}

fn assert_moved_nothing(line: &Line) {
    assert_eq!(line.l1.settled_balance(&line.first), LINE_SAT * 1000);
    assert_eq!(line.l2.settled_balance(&line.second), LINE_SAT * 1000);
    assert_eq!(line.l2.rpc("getinfo", &json!({}))["fees_collected_msat"], 0);
}

#[test]
fn setchannel_changes_fees_and_old_ones_hold_for_a_while() {
    let line = Line::new();
    let [_, second] = line.scids();
    let set = |params: Value| line.l2.rpc("setchannel", &params)["channels"][0].clone();
    let pay = |msat: u64, label: &str| {
        send(&line.l1, &line.route(msat), &line.invoice(msat, label))
            .map_err(|e| e.data["failcodename"].clone())
    };
    let now = set(
        json!({"id": second, "feebase": 5000, "feeppm": 100, "htlcmin": 2000, "htlcmax": "9000sat"}),
    );
    for (name, value) in [
        ("fee_base_msat", json!(5000)),
        ("fee_proportional_millionths", json!(100)),
        ("minimum_htlc_out_msat", json!(2000)),
        ("maximum_htlc_out_msat", json!(9_000_000)),
        ("short_channel_id", second.clone()),
        ("channel_id", json!(line.second)),
        ("ignore_fee_limits", json!(true)),
    ] {
        assert_eq!(now[name], value, "{name}");
        if name.contains("msat") || name.contains("fee") {
            assert_eq!(line.l2.channel(&line.second)[name], value);
        }
    }
    let update = line.l2.channel(&line.second)["updates"]["local"].clone();
    assert_eq!(
        update,
        json!({"htlc_minimum_msat": 2000, "htlc_maximum_msat": 9_000_000, "cltv_expiry_delta": 6, "fee_base_msat": 5000,
            "fee_proportional_millionths": 100})
    );
    // Ten minutes for whoever has not heard.
    pay(10_000_000, "old price, old bounds").unwrap();
    set(json!({"id": line.second, "enforcedelay": 0}));
    assert_eq!(pay(1_000_000, "too cheap"), Err(json!("WIRE_FEE_INSUFFICIENT")));
    set(json!({"id": line.l3.id, "feebase": 1, "feeppm": 10, "enforcedelay": 0}));
    assert_eq!(pay(1999, "too small"), Err(json!("WIRE_AMOUNT_BELOW_MINIMUM")));
    assert_eq!(pay(9_000_001, "too large"), Err(json!("WIRE_TEMPORARY_CHANNEL_FAILURE")));
    pay(9_000_000, "as large as may be").unwrap();
    // It outlives a restart; the other channel was never touched; the capacity is a bound.
    line.l2.kill();
    line.l2.start_again();
    assert_eq!(line.l2.channel(&line.second)["maximum_htlc_out_msat"], 9_000_000);
    assert_eq!(line.l2.channel(&line.first)["maximum_htlc_out_msat"], LINE_SAT * 1000);
    let all = line.l2.rpc("setchannel", &json!({"id": "all", "htlcmax": u64::pow(10, 15)}));
    assert_eq!(all["channels"].as_array().unwrap().len(), 2);
    assert_eq!(all["channels"][0]["maximum_htlc_out_msat"], LINE_SAT * 1000);
    assert!(all["channels"][0].get("warning_htlcmax_too_high").is_some());
    for bad in [json!(["1x2x3"]), json!(["nonsense"]), json!(["all", u64::from(u32::MAX) + 1])] {
        assert_eq!(line.l2.refused("setchannel", &bad).code, -32602);
    }
}

#[test]
fn parallel_channel_forwards_what_the_named_one_cannot() {
    let line = Line::new();
    let [_, second] = line.scids();
    let other = line.l2.open(&line.l3, 1_000_000);
    line.bitcoind.mine(6);
    line.l2.wait_normal(&other);
    line.l3.wait_normal(&other);
    line.wait_ready();
    let small = line.l2.channel(&other)["short_channel_id"].clone();
    let by_name = |msat: u64| {
        let mut route = line.route(msat);
        route[1]["channel"] = small.clone();
        route
    };
    // The named one where it can, the other where it cannot, and nobody where neither can.
    for (msat, over) in [(400_000_000, &small), (700_000_000, &second)] {
        send(&line.l1, &by_name(msat), &line.invoice(msat, &msat.to_string())).unwrap();
        assert_eq!(last_forward(&line.l2)["out_channel"], *over);
    }
    let more = json!([hop(&line.l3, &second, 2_000_000_000, 12)]);
    send(&line.l2, &more, &line.invoice(2_000_000_000, "l2's own")).unwrap();
    let much = 8_000_000_000;
    let failed = send(&line.l1, &by_name(much), &line.invoice(much, "all")).unwrap_err();
    assert_eq!(failed.data["failcodename"], "WIRE_TEMPORARY_CHANNEL_FAILURE");
    assert_eq!(failed.data["erring_node"], line.l2.id.as_str());
    assert_eq!(last_forward(&line.l2)["status"], "local_failed");
    assert_eq!(line.l2.settled_balance(&other), 600_000_000);
    assert_eq!(line.l2.settled_balance(&line.second), LINE_SAT * 1000 - 2_700_000_000);
}

#[test]
fn mpp_parts_meet_behind_the_forwarder() {
    let line = Line::new();
    let invoice = line.invoice(30_000_000, "parts");
    for part in 1..=5 {
        let more = json!({"partid": part, "groupid": 1, "amount_msat": 30_000_000});
        begin(&line.l1, &line.route(6_000_000), (&invoice.0, &invoice.1), &more);
    }
    for part in 1..=5 {
        assert_eq!(wait_part(&line.l1, &invoice, part).unwrap()["status"], "complete");
    }
    assert_moved(&line, 30_000_000, 5 * 61);
}

fn wait_part(node: &Node, invoice: &(Value, Value), partid: u64) -> Result<Value, RpcError> {
    let params = json!({"payment_hash": invoice.0, "partid": partid, "groupid": 1, "timeout": 40});
    node.call("waitsendpay", &params)
}
