//! The main job: two suites open a channel, pay both ways, close it; restarts and kills in between.

use serde_json::{Value, json};
use std::io::Write;
use tests::{Pair, wait_for};

const SAT: u64 = 1_000_000;

fn status_of_invoice(node: &tests::Node, label: &str) -> Value {
    node.rpc("listinvoices", &json!({"label": label}))["invoices"][0]["status"].clone()
}

/// What both have in the channel, once nothing is under way: always the whole of it.
fn balances(pair: &Pair, id: &str) -> (u64, u64) {
    let both = (pair.alice.settled_balance(id), pair.bob.settled_balance(id));
    assert_eq!(both.0 + both.1, SAT * 1000);
    both
}

#[test]
fn channel_opens_pays_both_ways_and_closes() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    let channel = pair.alice.channel(&id);
    assert_eq!(channel["opener"], "local");
    assert_eq!(channel["channel_type"]["names"], json!(["static_remotekey/even", "anchors/even"]));
    assert_eq!(balances(&pair, &id), (SAT * 1000, 0));
    // Not dust, dust, and the other way.
    for (from, to, msat, label) in [
        (&pair.alice, &pair.bob, 200_000_000, "large"),
        (&pair.alice, &pair.bob, 1_000, "dust"),
        (&pair.bob, &pair.alice, 50_000_001, "back"),
        (&pair.bob, &pair.alice, 1, "least"),
    ] {
        let paid = from.pay(&to.invoice(msat, label));
        assert_eq!(paid["amount_msat"], msat);
        assert_eq!(status_of_invoice(to, label), "paid");
    }
    let given = 200_000_000 + 1_000 - 50_000_001 - 1;
    assert_eq!(balances(&pair, &id), (SAT * 1000 - given, given));

    let closed = pair.bob.rpc("close", &json!([pair.alice.id]));
    assert_eq!(closed["type"], "mutual");
    let txid = closed["txid"].as_str().unwrap();
    assert_eq!(closed["txids"], json!([txid]));
    pair.bitcoind.wait_mempool(txid);
    let tx = pair.bitcoind.transaction(txid);
    let to_bob = tx.output.iter().map(|o| o.value.to_sat()).min().unwrap();
    assert_eq!(to_bob, given / 1000, "the opener pays the fee");
    pair.bitcoind.mine(1);
    pair.alice.wait_state(&id, "ONCHAIN");
    pair.bob.wait_state(&id, "ONCHAIN");
    wait_for("bob's coins", || {
        let funds = pair.bob.rpc("listfunds", &json!({}));
        funds["outputs"]
            .as_array()?
            .iter()
            .find(|o| o["txid"] == txid && o["status"] == "confirmed")
            .map(drop)
    });
    pair.bitcoind.mine(100);
    for node in [&pair.alice, &pair.bob] {
        node.sync(&pair.bitcoind);
        let list = node.rpc("listclosedchannels", &json!({}));
        assert_eq!(list["closedchannels"][0]["channel_id"], id.as_str());
        assert_eq!(
            list["closedchannels"][0]["closer"],
            if node.id == pair.bob.id { "local" } else { "remote" }
        );
    }
}

#[test]
fn channel_resumes_after_a_restart_of_either_node() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    pair.alice.pay(&pair.bob.invoice(100_000_000, "before"));
    for (round, node) in [&pair.alice, &pair.bob].into_iter().enumerate() {
        node.stop();
        node.start_again();
        wait_for("both to be connected", || {
            let connected = pair.alice.channel(&id)["peer_connected"] == true;
            if !connected {
                let to = json!({"id": pair.bob.id, "host": "127.0.0.1", "port": pair.bob.port});
                let _ = pair.alice.call("connect", &to);
            }
            connected.then_some(())
        });
        pair.alice.wait_normal(&id);
        pair.bob.wait_normal(&id);
        pair.alice.pay(&pair.bob.invoice(1_000_000, &format!("after {round}")));
        pair.bob.pay(&pair.alice.invoice(2_000_000, &format!("back {round}")));
    }
    assert_eq!(balances(&pair, &id).1, 100_000_000 - 2 * 1_000_000);
}

#[test]
fn kill_of_all_daemons_between_payments_loses_nothing() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    let mut given = 0;
    for round in 0..4u64 {
        let (from, to) =
            if round % 2 == 0 { (&pair.alice, &pair.bob) } else { (&pair.bob, &pair.alice) };
        // The first one is well above the reserve, so that bob can give some back.
        let msat = if round % 2 == 0 { 60_000_000 } else { 10_000_000 } + round;
        let label = format!("round {round}");
        from.pay(&to.invoice(msat, &label));
        if round % 2 == 0 {
            given += msat
        } else {
            given -= msat
        }
        // The receipt is in hand; whatever else is under way is cut off.
        let victim = if round < 2 { from } else { to };
        victim.kill();
        victim.start_again();
        assert_eq!(status_of_invoice(to, &label), "paid");
        let paid = from.rpc("listpays", &json!({}))["pays"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|p| p["status"] == "complete")
            .count();
        assert!(paid > 0);
        let to = json!({"id": pair.bob.id, "host": "127.0.0.1", "port": pair.bob.port});
        wait_for("the connection", || pair.alice.call("connect", &to).ok());
        pair.alice.wait_normal(&id);
        pair.bob.wait_normal(&id);
        assert_eq!(balances(&pair, &id).1, given);
    }
}

#[test]
fn channel_reconnects_after_one_of_its_daemons_dies() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    pair.alice.pay(&pair.bob.invoice(5_000_000, "before"));
    for executable in ["lightning_channeld", "lightning_connectd"] {
        let victims = pair.alice.children(executable);
        assert_eq!(victims.len(), 1, "{executable}");
        nix::sys::signal::kill(victims[0], nix::sys::signal::Signal::SIGKILL).unwrap();
        wait_for("another one", || {
            (pair.alice.children(executable).first()? != &victims[0]).then_some(())
        });
        pair.alice.wait_normal(&id);
        pair.bob.wait_normal(&id);
        pair.alice.pay(&pair.bob.invoice(5_000_000, executable));
    }
    assert_eq!(balances(&pair, &id).1, 15_000_000);
}

#[test]
fn channel_with_push_msat_begins_with_it() {
    let pair = Pair::new();
    pair.alice.connect(&pair.bob);
    let params =
        json!({"id": pair.bob.id, "amount": SAT, "push_msat": 300_000_000, "announce": false});
    let id = pair.alice.rpc("fundchannel", &params)["channel_id"].as_str().unwrap().to_owned();
    pair.bitcoind.mine(1);
    pair.alice.wait_normal(&id);
    pair.bob.wait_normal(&id);
    assert_eq!(balances(&pair, &id), (SAT * 1000 - 300_000_000, 300_000_000));
    let channel = pair.bob.channel(&id);
    assert_eq!(
        (channel["private"].as_bool(), channel["opener"].as_str()),
        (Some(true), Some("remote"))
    );
    pair.bob.pay(&pair.alice.invoice(100_000_000, "some of it"));
}

#[test]
fn concurrent_payments_all_arrive() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    let scid = pair.alice.channel(&id)["short_channel_id"].clone();
    let count = 60;
    let mut hashes = Vec::new();
    for n in 0..count {
        // Half of them dust.
        let msat = if n % 2 == 0 { 100_000 } else { 2_000_000 };
        let params = json!({"amount_msat": msat, "label": format!("n{n}"), "description": "d"});
        let invoice = pair.bob.rpc("invoice", &params);
        let route = json!([{"id": pair.bob.id, "channel": scid, "amount_msat": msat, "delay": 10}]);
        let sent = json!({"route": route, "payment_hash": invoice["payment_hash"], "payment_secret": invoice["payment_secret"]});
        assert_eq!(pair.alice.rpc("sendpay", &sent)["status"], "pending");
        hashes.push(invoice["payment_hash"].clone());
    }
    for hash in hashes {
        assert_eq!(
            pair.alice.rpc("waitsendpay", &json!({"payment_hash": hash}))["status"],
            "complete"
        );
    }
    assert_eq!(balances(&pair, &id).1, count / 2 * 2_100_000);
}

#[test]
fn channel_closes_before_its_funding_confirms_after_a_restart() {
    let pair = Pair::new();
    pair.alice.connect(&pair.bob);
    let id = pair.alice.open(&pair.bob, SAT);
    pair.alice.wait_state(&id, "CHANNELD_AWAITING_LOCKIN");
    pair.bitcoind.mine(1);
    pair.alice.wait_normal(&id);
    pair.bob.wait_normal(&id);
    pair.alice.pay(&pair.bob.invoice(100_000_000, "something to close for"));
    pair.bob.stop();
    // Said when the peer is there.
    let socket = pair.alice.socket().unwrap();
    let close = json!({"jsonrpc": "2.0", "id": 1, "method": "close", "params": [id]});
    (&socket).write_all(close.to_string().as_bytes()).unwrap();
    pair.alice.wait_state(&id, "CHANNELD_SHUTTING_DOWN");
    pair.bob.start_again();
    wait_for("the connection", || {
        pair.alice
            .call(
                "connect",
                &json!({"id": pair.bob.id, "host": "127.0.0.1", "port": pair.bob.port}),
            )
            .ok()
    });
    pair.alice.wait_state(&id, "CLOSINGD_COMPLETE");
    pair.bitcoind.mine(1);
    pair.bob.wait_state(&id, "ONCHAIN");
}

#[test]
fn close_keeps_its_unilateraltimeout_through_a_restart() {
    let pair = Pair::new();
    let id = pair.open(1_000_000);
    pair.bob.kill();
    let mut socket = pair.alice.socket().unwrap();
    let params = json!({"id": id, "unilateraltimeout": 4});
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "close", "params": params});
    socket.write_all(request.to_string().as_bytes()).unwrap();
    pair.alice.wait_state(&id, "CHANNELD_SHUTTING_DOWN");
    pair.alice.kill();
    pair.alice.start_again();
    pair.alice.wait_state(&id, "AWAITING_UNILATERAL");
    let reason = pair.alice.channel(&id)["state_changes"].as_array().unwrap().last().cloned();
    assert_eq!(reason.unwrap()["message"], "close: the peer did not agree in time");
}

#[test]
fn peer_is_dialled_until_it_closes_a_channel_we_must_not() {
    let pair = Pair::new();
    let id = pair.open(1_000_000);
    pair.alice.pay(&pair.bob.invoice(50_000_000, "one"));
    pair.alice.stop();
    let rows = pair.alice.network_dir().join("lightningd.sqlite3");
    let old = std::fs::read(&rows).unwrap();
    pair.alice.start_again();
    pair.alice.wait_normal(&id);
    pair.alice.pay(&pair.bob.invoice(50_000_000, "two"));
    pair.alice.settled_balance(&id);
    pair.alice.stop();
    pair.bob.kill();
    // The database of before the second payment; what was revoked since stands in a file of its
    // own.
    std::fs::write(&rows, old).unwrap();
    pair.alice.start_again();
    let error = pair.alice.refused("close", &json!({"id": id, "unilateraltimeout": 1}));
    assert!(error.message.contains("our data is old"), "{error:?}");
    assert_eq!(pair.alice.channel(&id)["lost_state"], true);
    pair.alice.stop();
    pair.alice.start_again();
    assert_eq!(pair.bitcoind.rpc("getrawmempool", &json!([])), json!([]));
    // Bob does not know where alice is: she has to come.
    pair.bob.start_again();
    wait_for("bob to publish his commitment", || {
        let pool = pair.bitcoind.rpc("getrawmempool", &json!([]));
        (!pool.as_array()?.is_empty()).then_some(())
    });
    pair.bitcoind.mine(1);
    pair.alice.wait_state(&id, "ONCHAIN");
}

#[test]
fn close_keeps_its_destination_and_fees_through_a_restart() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    pair.alice.pay(&pair.bob.invoice(100_000_000, "something to close for"));
    pair.alice.settled_balance(&id);
    for (unfit, says) in [
        (json!({"id": id, "feerange": ["slow"]}), "array of two feerates"),
        (json!({"id": id, "feerange": [2000, 1000]}), "is above the highest"),
        (json!({"id": id, "wrong_funding": format!("{}:0", "00".repeat(32))}), "not supported"),
        (json!({"id": id, "fee_negotiation_step": "10%"}), "not supported"),
        (json!({"id": id, "destination": "not an address"}), "destination"),
    ] {
        let refused = pair.alice.refused("close", &unfit);
        assert_eq!(refused.code, -32602, "{refused:?}");
        assert!(refused.message.contains(says), "{refused:?}");
    }
    assert_eq!(pair.alice.channel(&id)["state"], "CHANNELD_NORMAL");

    pair.bob.stop();
    let mut socket = pair.alice.socket().unwrap();
    let params = json!({
        "id": id,
        "destination": "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk",
        "feerange": ["5000perkw", "24000perkb"],
        "fee_negotiation_step": "50%",
        "force_lease_closed": false,
    });
    let close = json!({"jsonrpc": "2.0", "id": 1, "method": "close", "params": params});
    socket.write_all(close.to_string().as_bytes()).unwrap();
    pair.alice.wait_state(&id, "CHANNELD_SHUTTING_DOWN");
    pair.alice.kill();
    pair.alice.start_again();
    pair.bob.start_again();
    pair.alice.wait_state(&id, "CLOSINGD_COMPLETE");
    let txid = wait_for("the closing in the mempool", || {
        let pool = pair.bitcoind.rpc("getrawmempool", &json!([]));
        pool.get(0)?.as_str().map(str::to_owned)
    });
    let tx = pair.bitcoind.transaction(&txid);
    let address = |o: &&bitcoin::TxOut| {
        let address = bitcoin::Address::from_script(&o.script_pubkey, bitcoin::Network::Regtest);
        address.is_ok_and(|a| a.to_string() == "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk")
    };
    let ours = tx.output.iter().find(address);
    let ours = ours.expect("the output that was asked for").value.to_sat();
    assert_eq!(tx.output.len(), 2);
    let paid: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
    assert_eq!(ours, SAT - 100_000 - (SAT - paid), "the opener pays the fee");
    // Far above what regtest's estimates say, and what the last commitment would have cost.
    let per_kw = (SAT - paid) * 1000 / tx.weight().to_wu();
    assert!((5000..6000).contains(&per_kw), "{per_kw}perkw");
    pair.bitcoind.mine(1);
    pair.bob.wait_state(&id, "ONCHAIN");
}

#[test]
fn upfront_shutdown_script_is_the_only_one() {
    let pair = Pair::new();
    pair.alice.connect(&pair.bob);
    let fixed = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk";
    let params = json!({"id": pair.bob.id, "amount": SAT, "close_to": fixed});
    let opened = pair.alice.rpc("fundchannel", &params);
    let id = opened["channel_id"].as_str().unwrap().to_owned();
    pair.bitcoind.mine(1);
    pair.alice.wait_normal(&id);
    assert_eq!(pair.alice.channel(&id)["close_to_addr"], fixed);
    let other = pair.alice.rpc("newaddr", &json!({"addresstype": "p2tr"}))["p2tr"].clone();
    let refused = pair.alice.refused("close", &json!({"id": id, "destination": other}));
    assert!(refused.message.contains("was opened to be closed to"), "{refused:?}");
    let closed = pair.alice.rpc("close", &json!({"id": id, "destination": fixed}));
    let tx = pair.bitcoind.transaction(closed["txid"].as_str().unwrap());
    let script = &tx.output[0].script_pubkey;
    assert_eq!(tx.output.len(), 1);
    assert!(closed["tx"].as_str().unwrap().contains(&script.to_hex_string()));
    let address = bitcoin::Address::from_script(script, bitcoin::Network::Regtest).unwrap();
    assert_eq!(address.to_string(), fixed);
}

/// What a channel's first line of status is, and its second if there is one.
fn status(node: &tests::Node, id: &str) -> (String, Option<String>) {
    let lines = node.channel(id)["status"].clone();
    let line = |n: usize| lines.get(n).and_then(Value::as_str).map(str::to_owned);
    (line(0).unwrap_or_default(), line(1))
}
fn wait_status(node: &tests::Node, id: &str, first: &str) -> Option<String> {
    wait_for(&format!("the status '{first}'"), || {
        let (line, second) = status(node, id);
        (line == first).then_some(second)
    })
}

#[test]
fn channel_status_names_what_each_daemon_waits_for() {
    let pair = Pair::new();
    pair.alice.connect(&pair.bob);
    // openingd, before there is a channel.
    let start = json!({"id": pair.bob.id, "amount": SAT});
    pair.alice.rpc("fundchannel_start", &start);
    let of = |node: &tests::Node| node.rpc("listpeerchannels", &json!({}))["channels"][0].clone();
    assert_eq!(of(&pair.alice)["status"], json!(["OPENINGD:Awaiting fundchannel_complete."]));
    assert_eq!(of(&pair.bob)["status"], json!(["OPENINGD:The peer opens a channel."]));
    pair.alice.rpc("fundchannel_cancel", &json!([pair.bob.id]));
    wait_for("bob to forget it", || of(&pair.bob).is_null().then_some(()));

    // channeld.
    let id = pair.alice.open(&pair.bob, SAT);
    wait_status(&pair.alice, &id, "CHANNELD_AWAITING_LOCKIN:Funding has not confirmed yet.");
    pair.bitcoind.mine(1);
    for node in [&pair.alice, &pair.bob] {
        node.wait_normal(&id);
        assert_eq!(wait_status(node, &id, "CHANNELD_NORMAL:Channel ready for use."), None);
    }
    pair.alice.sync(&pair.bitcoind);
    pair.bob.sync(&pair.bitcoind);
    pair.alice.pay(&pair.bob.invoice(100_000_000, "something to close for"));
    pair.bob.stop();
    wait_status(&pair.alice, &id, "CHANNELD_NORMAL:Will attempt reconnect");
    pair.bob.start_again();
    wait_status(&pair.alice, &id, "CHANNELD_NORMAL:Channel ready for use.");

    // closingd: what it said last stays, as long as nothing else has the channel.
    pair.alice.rpc("close", &json!([id]));
    let complete =
        "CLOSINGD_COMPLETE:The closing transaction is signed by both, and waits to be in a block.";
    for node in [&pair.alice, &pair.bob] {
        let second = wait_status(node, &id, complete);
        assert!(second.is_none_or(|line| !line.is_empty()));
    }

    // onchaind: a lasting line, and one that counts.
    pair.bitcoind.mine(1);
    for node in [&pair.alice, &pair.bob] {
        node.wait_state(&id, "ONCHAIN");
    }
}

#[test]
fn onchain_channel_status_names_its_outputs_and_their_delays() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    pair.alice.pay(&pair.bob.invoice(100_000_000, "something of bob's"));
    pair.alice.settled_balance(&id);
    pair.bob.stop();
    let closed = pair.alice.rpc("close", &json!([id, 1]));
    assert_eq!(closed["type"], "unilateral");
    wait_status(&pair.alice, &id, "AWAITING_UNILATERAL:Our commitment waits to be in a block.");
    pair.bitcoind.wait_mempool(closed["txid"].as_str().unwrap());
    pair.bitcoind.mine(1);
    let tracked = "ONCHAIN:Tracking our own unilateral close";
    wait_for("a line that counts", || {
        let (first, second) = status(&pair.alice, &id);
        (first == tracked && second?.contains("outputs unresolved: in")).then_some(())
    });
    pair.bob.start_again();
    wait_for("bob's line", || {
        let (first, second) = status(&pair.bob, &id);
        (first == "ONCHAIN:Tracking their unilateral close" && second.is_some()).then_some(())
    });
}
