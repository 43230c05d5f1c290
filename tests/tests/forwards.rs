//! Three nodes in a line: what the one in the middle forwards, refuses, and still knows after it was killed.

use nix::sys::signal::{Signal, kill};
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

/// What everybody has once nothing is under way: l1 gave `msat` and the fee, l2 kept the fee, l3 got `msat`.
fn assert_moved(line: &Line, msat: u64, fee: u64) {
    let whole = LINE_SAT * 1000;
    assert_eq!(line.l1.settled_balance(&line.first), whole - msat - fee);
    assert_eq!(line.l2.settled_balance(&line.first), msat + fee);
    assert_eq!(line.l2.settled_balance(&line.second), whole - msat);
    assert_eq!(line.l3.settled_balance(&line.second), msat);
    assert_eq!(line.l2.rpc("getinfo", &json!({}))["fees_collected_msat"], fee);
}

#[test]
fn a_payment_goes_through_the_middle_which_keeps_its_fee() {
    let line = Line::new();
    let [first, second] = line.scids();
    let invoice = line.invoice(200_000_000, "one");
    let done = send(&line.l1, &line.route(200_000_000), &invoice).unwrap();
    assert_eq!(done["status"], "complete");
    assert_eq!(done["amount_sent_msat"], 200_002_001);
    assert_moved(&line, 200_000_000, 2001);

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
    let params = |status: &str| json!({"in_channel": first, "in_htlc_id": 0, "status": status});
    assert_eq!(line.l2.refused("delforward", &params("failed")).code, 1401);
    assert_eq!(line.l2.refused("delforward", &params("offered")).code, -32602);
    line.l2.rpc("delforward", &params("settled"));
    assert_eq!(line.l2.refused("delforward", &params("settled")).code, 1401);
    assert_eq!(forwards(&line.l2).len(), 1);
    assert_eq!(line.l2.rpc("getinfo", &json!({}))["fees_collected_msat"], 2002);
}

#[test]
fn every_rule_of_the_middle_fails_with_its_code_and_the_payer_reads_who_said_it() {
    let line = Line::new();
    let [first, second] = line.scids();
    let invoice = line.invoice(1_000_000, "one");
    let route = |sent: u64, msat: u64, delays: (u32, u32), channel: &Value| {
        json!([hop(&line.l2, &first, sent, delays.0), hop(&line.l3, channel, msat, delays.1)])
    };
    let height = u32::try_from(line.bitcoind.height()).unwrap();
    let out = format!("{:08x}", height + 1 + 13);
    let nowhere = json!("1x2x3");
    // BOLT 4: what is reported, and no channel_update.
    for (route, code, name, raw) in [
        (
            route(1_000_010, 1_000_000, (18, 12), &second),
            0x100c,
            "WIRE_FEE_INSUFFICIENT",
            format!("100c{:016x}0000", 1_000_010),
        ),
        (
            route(1_000_011, 1_000_000, (18, 13), &second),
            0x100d,
            "WIRE_INCORRECT_CLTV_EXPIRY",
            format!("100d{out}0000"),
        ),
        (
            route(1_000_011, 1_000_000, (18, 12), &nowhere),
            0x400a,
            "WIRE_UNKNOWN_NEXT_PEER",
            "400a".to_owned(),
        ),
        (
            route(1_000_011, 1_000_000, (7, 1), &second),
            0x100e,
            "WIRE_EXPIRY_TOO_SOON",
            "100e0000".to_owned(),
        ),
        (
            route(1_000_011, 1_000_000, (2022, 2016), &second),
            21,
            "WIRE_EXPIRY_TOO_FAR",
            "0015".to_owned(),
        ),
        (
            route(1_000_011, 0, (18, 12), &second),
            0x100b,
            "WIRE_AMOUNT_BELOW_MINIMUM",
            "100b00000000000000000000".to_owned(),
        ),
    ] {
        let failed = send(&line.l1, &route, &invoice).unwrap_err();
        assert_eq!((failed.code, &failed.data["failcodename"]), (204, &json!(name)), "{failed:?}");
        assert_eq!(failed.data["failcode"], code);
        assert_eq!(failed.data["raw_message"], raw);
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
        assert_eq!(forward["failcode"], code);
        assert!(forward.get("out_msat").is_none() && forward.get("resolved_time").is_none());
    }
    // What the payee refuses comes back through the middle as it was.
    let other = (json!("77".repeat(32)), invoice.1.clone());
    let failed = send(&line.l1, &line.route(1_000_000), &other).unwrap_err();
    assert_eq!((failed.code, failed.data["erring_index"].as_u64()), (203, Some(2)));
    assert_eq!(failed.data["failcodename"], "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS");
    assert_eq!(failed.data["erring_channel"], second);
    assert_eq!(last_forward(&line.l2)["status"], "failed");
    // A peer that is away, and one that closes.
    line.l3.stop();
    wait_for("l2 to notice", || {
        (line.l2.channel(&line.second)["reestablished"] == false).then_some(())
    });
    let failed = send(&line.l1, &line.route(1_000_000), &invoice).unwrap_err();
    assert_eq!(failed.data["failcodename"], "WIRE_TEMPORARY_CHANNEL_FAILURE");
    assert_eq!(failed.data["raw_message"], "10070000");
    // Its answer comes when the channel is closed: nobody waits for it here.
    let params = json!({"id": line.second, "unilateraltimeout": 0});
    let close = json!({"jsonrpc": "2.0", "id": 1, "method": "close", "params": params});
    let mut socket = line.l2.socket().unwrap();
    socket.write_all(close.to_string().as_bytes()).unwrap();
    line.l2.wait_state(&line.second, "CHANNELD_SHUTTING_DOWN");
    let failed = send(&line.l1, &line.route(1_000_000), &invoice).unwrap_err();
    assert_eq!(failed.data["failcodename"], "WIRE_PERMANENT_CHANNEL_FAILURE");

    assert_moved_nothing(&line);
    // Pages and filters.
    let list = |params: Value| {
        let list = line.l2.rpc("listforwards", &params)["forwards"].as_array().unwrap().clone();
        list.iter().map(|f| f["created_index"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(list(json!({"status": "failed"})), [7]);
    assert_eq!(list(json!({"status": "settled"})), [0u64; 0]);
    assert_eq!(list(json!({"out_channel": nowhere})), [3]);
    assert_eq!(list(json!({"index": "created", "start": 2, "limit": 3})), [2, 3, 4]);
    assert_eq!(list(json!({"index": "updated", "start": 1})), [7]);
    assert_eq!(line.l2.refused("listforwards", &json!({"status": "lost"})).code, -32602);
}

fn assert_moved_nothing(line: &Line) {
    assert_eq!(line.l1.settled_balance(&line.first), LINE_SAT * 1000);
    assert_eq!(line.l2.settled_balance(&line.second), LINE_SAT * 1000);
    assert_eq!(line.l2.rpc("getinfo", &json!({}))["fees_collected_msat"], 0);
}

#[test]
fn setchannel_says_what_a_channel_wants_and_old_prices_hold_for_a_while() {
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
fn a_parallel_channel_takes_what_the_named_one_cannot() {
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

/// One part of two, which the payee holds until the other comes.
fn hold(line: &Line, invoice: &(Value, Value), half: u64, partid: u64) {
    let more = json!({"partid": partid, "groupid": 1, "amount_msat": half * 2});
    begin(&line.l1, &line.route(half), (&invoice.0, &invoice.1), &more);
}

fn wait_part(node: &Node, invoice: &(Value, Value), partid: u64) -> Result<Value, RpcError> {
    let params = json!({"payment_hash": invoice.0, "partid": partid, "groupid": 1, "timeout": 40});
    node.call("waitsendpay", &params)
}

/// The other half, by the forwarder itself.
fn complete(line: &Line, invoice: &(Value, Value), half: u64) {
    let second = line.l2.channel(&line.second)["short_channel_id"].clone();
    let more = json!({"partid": 9, "groupid": 1, "amount_msat": half * 2});
    let route = json!([hop(&line.l3, &second, half, 12)]);
    begin(&line.l2, &route, (&invoice.0, &invoice.1), &more);
}

#[test]
fn the_middle_is_killed_while_the_payee_holds_and_nothing_is_lost() {
    let line = Line::new();
    let invoice = line.invoice(2_000_000, "held");
    hold(&line, &invoice, 1_000_000, 1);
    wait_held(&line.l3, &line.second, 1);
    assert_eq!(last_forward(&line.l2)["status"], "offered");
    assert_eq!(last_forward(&line.l2)["out_htlc_id"], 0);
    for round in 0..3 {
        match round {
            0 => line.l2.kill(),
            // Its daemons die alone.
            1 => {
                for child in line.l2.children("lightning_channeld") {
                    kill(child, Signal::SIGKILL).unwrap();
                }
            }
            _ => line.l2.stop(),
        }
        if round != 1 {
            line.l2.start_again();
        }
        line.reconnect();
        assert_eq!(last_forward(&line.l2)["status"], "offered", "round {round}");
        wait_held(&line.l3, &line.second, 1);
        wait_held(&line.l1, &line.first, 1);
    }
    hold(&line, &invoice, 1_000_000, 2);
    for part in 1..=2 {
        assert_eq!(wait_part(&line.l1, &invoice, part).unwrap()["status"], "complete");
    }
    assert_moved(&line, 2_000_000, 22);
    assert_eq!(forwards(&line.l2).len(), 2);
}

#[test]
fn a_preimage_waits_for_the_payer_through_a_kill() {
    let line = Line::new();
    let invoice = line.invoice(2_000_000, "held");
    hold(&line, &invoice, 1_000_000, 1);
    wait_held(&line.l3, &line.second, 1);
    // The payer is away when the preimage comes, and the forwarder dies once it has it.
    line.l1.kill();
    complete(&line, &invoice, 1_000_000);
    wait_for("the preimage", || (last_forward(&line.l2)["status"] == "settled").then_some(()));
    line.l2.kill();
    line.l2.start_again();
    line.l1.start_again();
    line.reconnect();
    assert_eq!(wait_part(&line.l1, &invoice, 1).unwrap()["status"], "complete");
    assert_eq!(line.l1.settled_balance(&line.first), LINE_SAT * 1000 - 1_000_011);
    assert_eq!(line.l2.rpc("getinfo", &json!({}))["fees_collected_msat"], 11);
}

#[test]
fn a_failure_waits_for_the_payer_through_a_kill() {
    let line = Line::new();
    let route = line.route(1_000_000);
    let unknown = (json!("77".repeat(32)), json!("88".repeat(32)));
    // The payee stands still, so that the HTLC is offered and no more.
    let master = line.l3.pid();
    kill(master, Signal::SIGSTOP).unwrap();
    begin(&line.l1, &route, (&unknown.0, &unknown.1), &json!({}));
    wait_for("the offer", || {
        line.l2.channel(&line.second)["htlcs"].as_array().map(Vec::len).filter(|n| *n == 1)
    });
    line.l1.kill();
    kill(master, Signal::SIGCONT).unwrap();
    wait_for("the failure", || (last_forward(&line.l2)["status"] == "failed").then_some(()));
    line.l2.kill();
    line.l2.start_again();
    line.l1.start_again();
    line.reconnect();
    let wait = json!({"payment_hash": unknown.0, "timeout": 40});
    let failed = line.l1.call("waitsendpay", &wait).unwrap_err();
    assert_eq!((failed.code, failed.data["erring_index"].as_u64()), (203, Some(2)));
    assert_moved_nothing(&line);
}

/// The daemon of the middle's channel with the payee.
fn outgoing_daemon(line: &Line) -> nix::unistd::Pid {
    // In the order in which they were born.
    *line.l2.children("lightning_channeld").iter().max_by_key(|p| p.as_raw()).unwrap()
}

#[test]
fn what_was_never_offered_fails_and_is_not_offered_later() {
    let line = Line::new();
    for round in 0..2 {
        let invoice = line.invoice(1_000_000, &format!("round {round}"));
        // The order waits in its socket, and dies with it.
        let daemon = outgoing_daemon(&line);
        kill(daemon, Signal::SIGSTOP).unwrap();
        begin(&line.l1, &line.route(1_000_000), (&invoice.0, &invoice.1), &json!({}));
        wait_for("the forward", || (last_forward(&line.l2)["status"] == "offered").then_some(()));
        assert!(last_forward(&line.l2).get("out_htlc_id").is_none());
        if round == 0 {
            kill(daemon, Signal::SIGKILL).unwrap();
        } else {
            line.l2.kill();
            line.l2.start_again();
        }
        line.reconnect();
        let wait = json!({"payment_hash": invoice.0, "timeout": 40});
        let failed = line.l1.call("waitsendpay", &wait).unwrap_err();
        assert_eq!(failed.data["failcodename"], "WIRE_TEMPORARY_CHANNEL_FAILURE", "{failed:?}");
        assert_eq!(failed.data["erring_index"], 1);
        assert_eq!(last_forward(&line.l2)["status"], "local_failed");
    }
    assert_moved_nothing(&line);
    let list = line.l3.rpc("listhtlcs", &json!({}));
    assert_eq!(list["htlcs"], json!([]));
}

#[test]
fn parts_come_together_behind_the_middle() {
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

/// BOLT 4's payloads, with their lengths, as createonion takes them.
fn payload(records: &[(u8, Vec<u8>)]) -> String {
    let mut body = Vec::new();
    for (kind, value) in records {
        body.push(*kind);
        body.push(u8::try_from(value.len()).unwrap());
        body.extend(value);
    }
    body.insert(0, u8::try_from(body.len()).unwrap());
    body.iter().map(|b| format!("{b:02x}")).collect()
}
fn short(n: u64) -> Vec<u8> {
    n.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect()
}
fn unhex(v: &Value) -> Vec<u8> {
    let text = v.as_str().unwrap().as_bytes();
    text.chunks(2)
        .map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap())
        .collect()
}
fn scid_bytes(v: &Value) -> Vec<u8> {
    let parts: Vec<u64> = v.as_str().unwrap().split('x').map(|p| p.parse().unwrap()).collect();
    (parts[0] << 40 | parts[1] << 16 | parts[2]).to_be_bytes().to_vec()
}

#[test]
fn onions_of_a_callers_own_making_travel_and_their_errors_are_read_by_who_has_the_secrets() {
    let line = Line::new();
    let [first, second] = line.scids();
    let height = line.bitcoind.height();
    // `node3` is who the last layer is made for.
    let onion = |(hash, secret): &(Value, Value), msat: u64, node3: &str| {
        let total = [unhex(secret), short(msat)].concat();
        let forward = [(2, short(msat)), (4, short(height + 13)), (6, scid_bytes(&second))];
        let last = [(2, short(msat)), (4, short(height + 13)), (8, total)];
        line.l1.rpc(
            "createonion",
            &json!({"hops": [
                {"pubkey": line.l2.id, "payload": payload(&forward)},
                {"pubkey": node3, "payload": payload(&last)},
            ], "assocdata": hash}),
        )
    };
    let send = |made: &Value, hash: &Value, with_secrets: bool, channel: bool| {
        let mut first_hop = json!({"id": line.l2.id, "amount_msat": 1_000_011, "delay": 18});
        if channel {
            first_hop["channel"] = first.clone();
        }
        let mut params =
            json!({"onion": made["onion"], "first_hop": first_hop, "payment_hash": hash});
        if with_secrets {
            params["shared_secrets"] = made["shared_secrets"].clone();
        }
        let sent = line.l1.rpc("sendonion", &params);
        assert_eq!((&sent["status"], &sent["payment_hash"]), (&json!("pending"), hash));
        line.l1.call("waitsendpay", &json!({"payment_hash": hash, "timeout": 40}))
    };
    let invoice = line.invoice(1_000_000, "by hand");
    let made = onion(&invoice, 1_000_000, &line.l3.id);
    assert_eq!(made["onion"].as_str().unwrap().len(), 2 * 1366);
    assert_eq!(send(&made, &invoice.0, false, false).unwrap()["status"], "complete");
    // The payee does not know it: read with the secrets, and as it came without.
    let unknown = (json!("77".repeat(32)), json!("88".repeat(32)));
    let made = onion(&unknown, 1_000_000, &line.l3.id);
    let failed = send(&made, &unknown.0, true, true).unwrap_err();
    assert_eq!((failed.code, failed.data["erring_index"].as_u64()), (203, Some(2)));
    assert_eq!(failed.data["failcodename"], "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS");
    let failed = send(&made, &unknown.0, false, true).unwrap_err();
    assert_eq!(failed.code, 202);
    let reply = failed.data["onionreply"].as_str().unwrap();
    assert_eq!(reply.len(), 2 * (32 + 2 + 2 + 256));
    let listed = line.l1.rpc("listsendpays", &json!({"payment_hash": unknown.0}));
    assert_eq!(listed["payments"][0]["erroronion"], reply);
    // A layer that the payee cannot open: it tells the middle alone, and the middle tells the payer.
    let made = onion(&unknown, 1_000_000, &line.l1.id);
    let failed = send(&made, &unknown.0, true, true).unwrap_err();
    assert_eq!((failed.code, failed.data["erring_index"].as_u64()), (204, Some(1)));
    assert_eq!(failed.data["failcodename"], "WIRE_INVALID_ONION_HMAC");
    let forward = last_forward(&line.l2);
    assert_eq!((&forward["status"], &forward["failcode"]), (&json!("failed"), &json!(0xc005)));
    // One that nobody can open, at the first hop.
    let garbled = json!({"onion": format!("00{}", "11".repeat(1365)), "shared_secrets": made["shared_secrets"]});
    let failed = send(&garbled, &unknown.0, true, true).unwrap_err();
    assert_eq!(failed.data["failcodename"], "WIRE_INVALID_ONION_KEY");
    // CLN's own example, with its session key.
    let hops = [
        (
            "033845802d25b4e074ccfd7cd8b339a41dc75bf9978a034800444b51d42b07799a",
            "11020203e804019706080000760000010000",
        ),
        (
            "03cecbfdc68544cc596223b68ce0710c9e5d2c9cb317ee07822d95079acc703d31",
            "11020203e804019706080000780000010000",
        ),
        (
            "02287bfac8b99b35477ebe9334eede1e32b189e24644eb701c079614712331cec0",
            "2b020203e80401910822d7768066e4322f8e4603fac079d72d39757655eae27e46057913bd038bd670cd03e8",
        ),
    ];
    let hops: Vec<Value> = hops.iter().map(|(k, p)| json!({"pubkey": k, "payload": p})).collect();
    let params = json!({"hops": hops, "session_key": "41".repeat(32),
        "assocdata": "c604fdfab4dc32f8efe4d02afb2a8e1284df9bb3853ad9a91324c1c40dfc94da"});
    let made = line.l1.rpc("createonion", &params);
    assert!(made["onion"].as_str().unwrap().starts_with(
        "0002eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619770b0fbc0a1cf999ec960bfbbbba542e05864d0d24ddf4b26b87e2e7eab0e16ada7007461339d5e9df65df74ab5c6cabda0cd4f1186bd07fc5648b2d3cd34deb26384d37838de93e3a4dbb0b6b19f40c8c63ffc17174abe4e2bcb15a9c11a1fa93d526957b3f58bfda08ca932"
    ));
    for (params, what) in [
        (json!({"hops": [], "assocdata": ""}), "no hops"),
        (
            json!({"hops": [{"pubkey": line.l2.id, "payload": "0501"}], "assocdata": ""}),
            "its length",
        ),
        (json!({"hops": hops, "assocdata": "", "onion_size": 100}), "bytes"),
    ] {
        let refused = line.l1.refused("createonion", &params);
        assert!(refused.message.contains(what), "{}", refused.message);
    }
    assert_eq!(line.l1.refused("sendonion", &json!(["00", {}, "77".repeat(32)])).code, -32602);
}

#[test]
fn as_many_as_a_channel_takes_are_in_flight_through_the_middle() {
    let line = Line::new();
    let [_, second] = line.scids();
    let (parts, msat) = (483, 1_000_000);
    // One more part is missing in the end, so that all of them are held.
    let total = msat * (parts + 1);
    let invoice = line.invoice(total, "many");
    let more = |part: u64| json!({"partid": part, "groupid": 1, "amount_msat": total});
    let direct = json!([hop(&line.l3, &second, msat, 12)]);
    begin(&line.l2, &direct, (&invoice.0, &invoice.1), &more(1000));
    let route = line.route(msat);
    let begun = line.l1.rpc_all(
        "sendpay",
        (1..parts).map(|part| {
            let mut params =
                json!({"route": route, "payment_hash": invoice.0, "payment_secret": invoice.1});
            for (name, value) in more(part).as_object().unwrap() {
                params[name] = value.clone();
            }
            params
        }),
    );
    assert!(begun.iter().all(|b| b["status"] == "pending"), "{begun:?}");
    wait_held(&line.l3, &line.second, 483);
    // The channel behind the middle is full, the one before has room.
    begin(&line.l1, &line.route(msat), (&invoice.0, &invoice.1), &more(parts));
    let failed = wait_part(&line.l1, &invoice, parts).unwrap_err();
    assert_eq!(failed.data["failcodename"], "WIRE_TEMPORARY_CHANNEL_FAILURE");
    assert_eq!(failed.data["erring_index"], 1);
    // The payee lets go of what stays incomplete; nobody pays anything, nobody closes anything.
    line.l2.kill();
    line.l2.start_again();
    line.reconnect();
    wait_held(&line.l3, &line.second, 483);
    assert_eq!(forwards(&line.l2).iter().filter(|f| f["status"] == "offered").count(), 482);
}
