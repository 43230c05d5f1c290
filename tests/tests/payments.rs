//! Invoices and payments: what is refused, what is waited for, what is said of it.

use serde_json::{Value, json};
use std::io::{Read, Write};
use tests::{Bitcoind, Node, Pair, Scratch, wait_for};

const SAT: u64 = 1_000_000;

fn node() -> (Scratch, Bitcoind, Node) {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &[]);
    (scratch, bitcoind, node)
}

/// A payment of one hop over the pair's channel, with what the payee is told.
fn send(pair: &Pair, id: &str, hash: &Value, secret: Value, msat: u64, more: &Value) -> Value {
    let scid = pair.alice.channel(id)["short_channel_id"].clone();
    let route = json!([{"id": pair.bob.id, "channel": scid, "amount_msat": msat, "delay": 12}]);
    let mut params = json!({"route": route, "payment_hash": hash, "payment_secret": secret});
    for (name, value) in more.as_object().unwrap() {
        params[name] = value.clone();
    }
    pair.alice.rpc("sendpay", &params)
}

#[test]
fn invoice_decodes_to_what_was_requested() {
    let (_scratch, _bitcoind, node) = node();
    let preimage = "01".repeat(32);
    let made = node.rpc(
        "invoice",
        &json!({"amount_msat": "1234sat", "label": 7, "description": "tea & biscuits", "expiry": 3600, "preimage": preimage,
            "cltv": 20, "fallbacks": ["bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"]}),
    );
    let decoded = node.rpc("decode", &json!([made["bolt11"]]));
    assert_eq!(decoded["type"], "bolt11 invoice");
    assert_eq!(decoded["payee"], node.id.as_str());
    assert_eq!(
        (decoded["amount_msat"].as_u64(), decoded["expiry"].as_u64()),
        (Some(1_234_000), Some(3600))
    );
    assert_eq!(decoded["min_final_cltv_expiry"], 20);
    assert_eq!(decoded["description"], "tea & biscuits");
    assert_eq!(decoded["payment_hash"], made["payment_hash"]);
    assert_eq!(decoded["payment_secret"], made["payment_secret"]);
    assert_eq!(decoded["fallbacks"][0]["addr"], "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080");
    let listed =
        node.rpc("listinvoices", &json!({"invstring": made["bolt11"]}))["invoices"][0].clone();
    assert_eq!((listed["label"].as_str(), listed["status"].as_str()), (Some("7"), Some("unpaid")));
    let hashed = node.rpc("invoice", &json!({"amount_msat": "any", "label": "h", "description": "x".repeat(2000), "deschashonly": true}));
    assert!(node.rpc("decode", &json!([hashed["bolt11"]]))["description_hash"].is_string());
}

#[test]
fn labels_and_preimages_are_used_once() {
    let (_scratch, _bitcoind, node) = node();
    let preimage = "02".repeat(32);
    let with = |label: &str, preimage: &str| json!({"amount_msat": 1, "label": label, "description": "d", "preimage": preimage});
    node.rpc("invoice", &with("a", &preimage));
    let again = node.refused("invoice", &with("a", &"03".repeat(32)));
    assert_eq!((again.code, again.data["label"].as_str()), (900, Some("a")));
    assert_eq!(node.refused("invoice", &with("b", &preimage)).code, 901);
    assert_eq!(node.refused("delinvoice", &json!(["a", "paid"])).code, 906);
    assert_eq!(node.refused("delinvoice", &json!(["zzz", "unpaid"])).code, 905);
    assert_eq!(node.rpc("delinvoice", &json!(["a", "unpaid"]))["label"], "a");
    node.rpc("invoice", &with("a", &preimage));
    for (wrong, says) in [
        (json!([0, "x", "d"]), "amount_msat"),
        (json!([1, "x", "d".repeat(640)]), "639"),
        (
            json!({"amount_msat": 1, "label": "x", "description": "d", "preimage": "00"}),
            "32 byte hex",
        ),
        (
            json!({"amount_msat": 1, "label": "x", "description": "d", "fallbacks": ["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]}),
            "regtest",
        ),
    ] {
        assert!(node.refused("invoice", &wrong).message.contains(says), "{wrong}");
    }
}

#[test]
fn invoices_are_listed_in_pages() {
    let (_scratch, _bitcoind, node) = node();
    for n in 0..7 {
        node.invoice(1000, &format!("n{n}"));
    }
    let labels = |params: &Value| -> Vec<String> {
        let list = node.rpc("listinvoices", params);
        list["invoices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["label"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(labels(&json!({})).len(), 7);
    assert_eq!(labels(&json!({"index": "created", "start": 3, "limit": 2})), ["n2", "n3"]);
    assert_eq!(labels(&json!({"index": "updated"})), Vec::<String>::new());
    assert_eq!(node.refused("listinvoices", &json!({"start": 3})).code, -32602);
}

#[test]
fn waitinvoice_returns_when_the_invoice_is_paid_or_expires() {
    let pair = Pair::new();
    let _id = pair.open(SAT);
    let bolt11 = pair.bob.invoice(1000, "waited for");
    let wait = |method: &str, params: Value| {
        let mut socket = pair.bob.socket().unwrap();
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        socket.write_all(request.to_string().as_bytes()).unwrap();
        socket
    };
    let answer = |mut socket: std::os::unix::net::UnixStream| -> Value {
        let mut text = Vec::new();
        let mut chunk = [0; 4096];
        while !text.ends_with(b"\n\n") {
            let n = socket.read(&mut chunk).unwrap();
            assert!(n > 0, "hung up");
            text.extend_from_slice(&chunk[..n]);
        }
        serde_json::from_slice(&text).unwrap()
    };
    let one = wait("waitinvoice", json!(["waited for"]));
    let any = wait("waitanyinvoice", json!([0]));
    let expiring = json!({"amount_msat": 1, "label": "short", "description": "d", "expiry": 1});
    let expired_string = pair.bob.rpc("invoice", &expiring)["bolt11"].as_str().unwrap().to_owned();
    let late = wait("waitinvoice", json!(["short"]));
    let paid = pair.alice.pay(&bolt11);
    for socket in [one, any] {
        let got = answer(socket)["result"].clone();
        assert_eq!((got["status"].as_str(), got["pay_index"].as_u64()), (Some("paid"), Some(1)));
        assert_eq!(got["payment_preimage"], paid["payment_preimage"]);
    }
    assert_eq!(answer(late)["error"]["code"], 903);
    assert_eq!(pair.alice.refused("pay", &json!([expired_string])).code, 207);
    assert_eq!(pair.bob.rpc("waitanyinvoice", &json!([0, 0]))["label"], "waited for");
    assert_eq!(pair.bob.refused("waitanyinvoice", &json!([1, 0])).code, 904);
    assert_eq!(pair.bob.rpc("waitinvoice", &json!(["waited for"]))["status"], "paid");
}

#[test]
fn payment_without_invoice_fails_at_the_payee_costs_nothing() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    let before = pair.alice.settled_balance(&id);
    let invoice =
        pair.bob.rpc("invoice", &json!({"amount_msat": 100_000, "label": "l", "description": "d"}));
    let (hash, secret) = (invoice["payment_hash"].clone(), invoice["payment_secret"].clone());
    let wait = |hash: &Value| pair.alice.refused("waitsendpay", &json!({"payment_hash": hash}));
    // Another hash, another secret, too little, more than twice as much.
    let unknown = json!("77".repeat(32));
    for (hash, secret, msat) in [
        (&unknown, secret.clone(), 100_000),
        (&hash, json!("88".repeat(32)), 100_000),
        (&hash, secret.clone(), 99_999),
        (&hash, secret.clone(), 200_001),
    ] {
        send(&pair, &id, hash, secret, msat, &json!({}));
        let failed = wait(hash);
        assert_eq!(failed.code, 203);
        assert_eq!(failed.data["failcodename"], "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS");
        assert_eq!(
            (failed.data["erring_index"].as_u64(), failed.data["erring_node"].as_str()),
            (Some(1), Some(pair.bob.id.as_str()))
        );
    }
    assert_eq!(pair.alice.settled_balance(&id), before);
    // As much as twice is a gift.
    send(&pair, &id, &hash, secret.clone(), 200_000, &json!({}));
    assert_eq!(pair.alice.rpc("waitsendpay", &json!({"payment_hash": hash}))["status"], "complete");
    assert_eq!(
        pair.bob.rpc("listinvoices", &json!(["l"]))["invoices"][0]["amount_received_msat"],
        200_000
    );
    // And a second time is none.
    let again = pair.alice.rpc("listsendpays", &json!({"payment_hash": hash}));
    assert_eq!(
        again["payments"].as_array().unwrap().iter().filter(|p| p["status"] == "complete").count(),
        1
    );
    assert_eq!(
        pair.alice.refused("waitsendpay", &json!({"payment_hash": "99".repeat(32)})).code,
        208
    );
}

#[test]
fn mpp_parts_are_held_until_all_arrive() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    let invoice =
        pair.bob.rpc("invoice", &json!({"amount_msat": 300_000, "label": "l", "description": "d"}));
    let (hash, secret) = (invoice["payment_hash"].clone(), invoice["payment_secret"].clone());
    let part = |n: u64| {
        let more = json!({"partid": n, "groupid": 1, "amount_msat": 300_000});
        send(&pair, &id, &hash, secret.clone(), 100_000, &more)
    };
    part(1);
    part(2);
    wait_for("two parts to be held", || {
        let channel = pair.bob.channel(&id);
        let held = channel["htlcs"]
            .as_array()?
            .iter()
            .filter(|h| h["state"] == "RCVD_ADD_ACK_REVOCATION")
            .count();
        (held == 2).then_some(())
    });
    assert_eq!(pair.bob.rpc("listinvoices", &json!(["l"]))["invoices"][0]["status"], "unpaid");
    // A restart of the payee forgets nothing of what it holds.
    pair.bob.kill();
    pair.bob.start_again();
    wait_for("the connection", || {
        pair.alice
            .call(
                "connect",
                &json!({"id": pair.bob.id, "host": "127.0.0.1", "port": pair.bob.port}),
            )
            .ok()
    });
    pair.alice.wait_normal(&id);
    part(3);
    for n in 1..=3 {
        let done = pair
            .alice
            .rpc("waitsendpay", &json!({"payment_hash": hash, "partid": n, "groupid": 1}));
        assert_eq!(done["status"], "complete");
    }
    assert_eq!(
        pair.bob.rpc("listinvoices", &json!(["l"]))["invoices"][0]["amount_received_msat"],
        300_000
    );
    assert_eq!(pair.alice.settled_balance(&id), SAT * 1000 - 300_000);
}

#[test]
fn pay_reports_why_it_fails() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    let too_much = pair.bob.invoice(SAT * 1000, "all of it");
    let failed = pair.alice.refused("pay", &json!({"bolt11": too_much}));
    assert!([205, 206, 210].contains(&failed.code), "{failed:?}");
    assert!(failed.message.contains("msat"), "{failed:?}");
    let own = pair.alice.invoice(1000, "to myself");
    assert_ne!(
        pair.alice.call("pay", &json!({"bolt11": own})).map(|p| p["status"].clone()),
        Ok(json!("failed"))
    );
    assert_eq!(pair.alice.refused("pay", &json!({"bolt11": "lnbcrt1nonsense"})).code, -32602);
    // Paid twice is paid once.
    let bolt11 = pair.bob.invoice(5_000, "once");
    let first = pair.alice.pay(&bolt11);
    assert_eq!(pair.alice.pay(&bolt11)["payment_preimage"], first["payment_preimage"]);
    let listed = pair.alice.rpc("listpays", &json!({"bolt11": bolt11}));
    assert_eq!(listed["pays"].as_array().unwrap().len(), 1);
    assert_eq!(listed["pays"][0]["status"], "complete");
    assert_eq!(pair.alice.settled_balance(&id), SAT * 1000 - 5_000);
}

#[test]
fn payment_over_an_unknown_channel_is_refused_at_once() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    let invoice =
        pair.bob.rpc("invoice", &json!({"amount_msat": 1000, "label": "l", "description": "d"}));
    let route = json!([{"id": pair.bob.id, "channel": "1x2x3", "amount_msat": 1000, "delay": 10}]);
    let refused = pair
        .alice
        .refused("sendpay", &json!({"route": route, "payment_hash": invoice["payment_hash"]}));
    assert_eq!((refused.code, refused.data["erring_index"].as_u64()), (204, Some(0)));
    // More than the channel has fails here too, and says what it has.
    let scid = pair.alice.channel(&id)["short_channel_id"].clone();
    let route =
        json!([{"id": pair.bob.id, "channel": scid, "amount_msat": SAT * 1000, "delay": 10}]);
    let params = json!({"route": route, "payment_hash": invoice["payment_hash"], "payment_secret": invoice["payment_secret"]});
    pair.alice.rpc("sendpay", &params);
    let failed =
        pair.alice.refused("waitsendpay", &json!({"payment_hash": invoice["payment_hash"]}));
    assert_eq!((failed.code, failed.data["erring_index"].as_u64()), (204, Some(0)));
    assert!(failed.message.contains("can send"), "{}", failed.message);
}

#[test]
fn payer_behind_the_tip_by_a_few_blocks_pays() {
    let mut pair = Pair::new();
    let id = pair.open(1_000_000);
    pair.alice.stop();
    pair.alice.start_again_with(&["--dev-bitcoind-poll=1000"]);
    pair.alice.wait_normal(&id);
    let bolt11 = pair.bob.invoice(50_000_000, "late");
    let height = pair.bitcoind.height();
    pair.bitcoind.mine(3);
    pair.bob.sync(&pair.bitcoind);
    assert_eq!(pair.alice.rpc("getinfo", &json!({}))["blockheight"], height);
    pair.alice.pay(&bolt11);
}

#[test]
fn sendpay_refuses_more_parts_than_the_amount_needs() {
    let pair = Pair::new();
    let id = pair.open(1_000_000);
    let made = pair.bob.rpc("invoice", &json!(["3000sat", "parts", "d"]));
    let scid = pair.alice.channel(&id)["short_channel_id"].clone();
    let part = |n: u64, msat: u64| {
        let route = json!([{"id": pair.bob.id, "channel": scid, "delay": 30, "amount_msat": msat}]);
        json!({"route": route, "payment_hash": made["payment_hash"], "payment_secret": made["payment_secret"],
            "amount_msat": 3_000_000, "partid": n, "bolt11": made["bolt11"]})
    };
    // Bob holds what is not the whole yet.
    pair.alice.rpc("sendpay", &part(1, 1_000_000));
    pair.alice.rpc("sendpay", &part(2, 1_500_000));
    // The last may bring it above the whole: BOLT 4 asks to stop once it is reached.
    pair.alice.rpc("sendpay", &part(3, 1_000_000));
    let paid = |n: u64| json!({"payment_hash": made["payment_hash"], "partid": n, "timeout": 30});
    assert_eq!(pair.alice.rpc("waitsendpay", &paid(3))["status"], "complete");

    let made = pair.bob.rpc("invoice", &json!(["3000sat", "held", "d"]));
    let part = |n: u64, msat: u64| {
        let route = json!([{"id": pair.bob.id, "channel": scid, "delay": 30, "amount_msat": msat}]);
        json!({"route": route, "payment_hash": made["payment_hash"], "payment_secret": made["payment_secret"],
            "amount_msat": 3_000_000, "partid": n, "bolt11": made["bolt11"]})
    };
    let mut socket = pair.alice.socket().unwrap();
    let mut requests = String::new();
    for (n, msat) in [(1, 2_999_999), (2, 1), (3, 1)] {
        let one = json!({"jsonrpc": "2.0", "id": n, "method": "sendpay", "params": part(n, msat)});
        requests += &one.to_string();
    }
    // All at once: the third is read while the others are under way.
    socket.write_all(requests.as_bytes()).unwrap();
    let mut codes = std::collections::BTreeMap::new();
    let answers = serde_json::Deserializer::from_reader(socket).into_iter::<Value>();
    for answer in answers.take(3).map(Result::unwrap) {
        codes.insert(answer["id"].as_u64().unwrap(), answer["error"]["code"].as_i64());
    }
    assert_eq!(codes, [(1, None), (2, None), (3, Some(200))].into());
}

#[test]
fn sendpay_refuses_a_part_that_does_not_fit_pending_ones() {
    let pair = Pair::new();
    let id = pair.open(1_000_000);
    let made = pair.bob.rpc("invoice", &json!(["3000sat", "parts", "d"]));
    let scid = pair.alice.channel(&id)["short_channel_id"].clone();
    let part = |n: u64, msat: u64, total: u64| {
        let route = json!([{"id": pair.bob.id, "channel": scid, "delay": 30, "amount_msat": msat}]);
        json!({"route": route, "payment_hash": made["payment_hash"], "payment_secret": made["payment_secret"],
            "amount_msat": total, "partid": n})
    };
    // Bob waits for the rest, and would take whatever else comes.
    pair.alice.rpc("sendpay", &part(1, 1_000_000, 3_000_000));
    let alone = pair.alice.refused("sendpay", &part(0, 3_000_000, 3_000_000));
    assert_eq!((alone.code, &*alone.message), (200, "Already have parallel payment in progress"));
    let another = pair.alice.refused("sendpay", &part(2, 1_000_000, 4_000_000));
    assert_eq!(another.code, 201, "{}", another.message);
    let onion = |n: u64, more: Value| {
        let mut params = json!({"onion": "00".repeat(1366), "payment_hash": made["payment_hash"], "partid": n,
            "first_hop": {"id": pair.bob.id, "amount_msat": 1000, "delay": 30}});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let alone = pair.alice.refused("sendonion", &onion(0, json!({})));
    assert_eq!((alone.code, &*alone.message), (200, "Already have parallel payment in progress"));
    // What onions say of themselves is only said, and may come to more than numbers can hold.
    let all = 2_100_000_000_000_000_000u64;
    let mut socket = pair.alice.socket().unwrap();
    let mut requests = String::new();
    for n in 2..=11 {
        let params = onion(n, json!({"amount_msat": all}));
        requests += &json!({"jsonrpc": "2.0", "id": n, "method": "sendonion", "params": params})
            .to_string();
    }
    let last = part(12, 1_000, 3_000_000);
    requests +=
        &json!({"jsonrpc": "2.0", "id": 12, "method": "sendpay", "params": last}).to_string();
    socket.write_all(requests.as_bytes()).unwrap();
    let mut answers = serde_json::Deserializer::from_reader(socket).into_iter::<Value>();
    let refused = answers.find_map(|a| a.ok().filter(|a| a["id"] == 12)).unwrap();
    assert!([200, 201].contains(&refused["error"]["code"].as_i64().unwrap()), "{refused}");
}
