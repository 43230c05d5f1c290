//! What a second reading of the master found: each of these was wrong once.

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use std::io::{Read, Write};
use tests::{Bitcoind, Node, Pair, Scratch, wait_for};

const SAT: u64 = 1_000_000;

fn node_with(options: &[&str]) -> (Scratch, Bitcoind, Node) {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let node = Node::start(&scratch.path().join("node"), &bitcoind, options);
    (scratch, bitcoind, node)
}

fn route_to(pair: &Pair, id: &str, msat: u64) -> Value {
    let scid = pair.alice.channel(id)["short_channel_id"].clone();
    json!([{"id": pair.bob.id, "channel": scid, "amount_msat": msat, "delay": 20}])
}

#[test]
fn number_beyond_a_database_integer_is_refused() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    let hash = "11".repeat(32);
    for (amount, more) in [
        (u64::MAX, json!({})),
        (1, json!({"amount_msat": u64::MAX})),
        (1, json!({"partid": u64::MAX, "amount_msat": 1})),
        (1, json!({"groupid": u64::MAX})),
    ] {
        let mut params = json!({"route": route_to(&pair, &id, amount), "payment_hash": hash});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(pair.alice.refused("sendpay", &params).code, -32602, "{params}");
    }
    assert_eq!(pair.alice.rpc("listsendpays", &json!({}))["payments"], json!([]));
}

/// The reserve counts the whole wallet, not the chosen UTXOs alone.
#[test]
fn utxos_chosen_twice_or_too_young_are_refused() {
    let pair = Pair::new();
    pair.open(SAT);
    let alice = &pair.alice;
    let funds = alice.rpc("listfunds", &json!({}))["outputs"].clone();
    let coin = format!("{}:{}", funds[0]["txid"].as_str().unwrap(), funds[0]["output"]);
    let address = alice.rpc("newaddr", &json!({"addresstype": "bech32"}))["bech32"].clone();
    let to = |satoshi: Value, utxos: Value| json!({"destination": address, "satoshi": satoshi, "utxos": utxos});
    let said = alice.refused("withdraw", &to(json!(SAT), json!([coin, coin])));
    assert!(said.message.contains("twice"), "{}", said.message);
    pair.bitcoind.mine_to(1, address.as_str().unwrap());
    alice.sync(&pair.bitcoind);
    let young = alice.rpc("listfunds", &json!({}))["outputs"].clone();
    let young = young.as_array().unwrap().iter().find(|o| o["status"] == "immature").unwrap();
    let young = format!("{}:{}", young["txid"].as_str().unwrap(), young["output"]);
    let said = alice.refused("withdraw", &to(json!(SAT), json!([young])));
    assert!(said.message.contains("not mature"), "{}", said.message);
    // Two coins: the one that is not chosen is reserve enough.
    alice.rpc("withdraw", &to(json!(10_000_000), json!([coin])));
    pair.bitcoind.mine(1);
    alice.sync(&pair.bitcoind);
    let funds = alice.rpc("listfunds", &json!({}))["outputs"].clone();
    let small =
        funds.as_array().unwrap().iter().find(|o| o["amount_msat"] == 10_000_000_000u64).unwrap();
    let small = format!("{}:{}", small["txid"].as_str().unwrap(), small["output"]);
    alice.rpc("withdraw", &to(json!(9_990_000), json!([small])));
}

/// One answer from this socket.
fn next_answer(socket: &mut std::os::unix::net::UnixStream) -> Value {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\n\n") {
        socket.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn answered_wait_does_not_end_another_of_the_same_id() {
    let (_scratch, bitcoind, node) = node_with(&[]);
    let mut socket = node.socket().unwrap();
    let height = bitcoind.height();
    let say = |socket: &mut std::os::unix::net::UnixStream, height: u64, timeout: u64| {
        let request = json!({"jsonrpc": "2.0", "id": 0, "method": "waitblockheight",
            "params": [height, timeout]});
        socket.write_all(request.to_string().as_bytes()).unwrap();
    };
    say(&mut socket, height + 1, 4);
    // The second waits longer, under the same id: BTCPay's is always 0.
    say(&mut socket, height + 2, 60);
    bitcoind.mine(1);
    assert_eq!(next_answer(&mut socket)["result"]["blockheight"], height + 1);
    let mut other = node.socket().unwrap();
    say(&mut other, height + 100, 5);
    assert_eq!(next_answer(&mut other)["error"]["code"], 2000);
    bitcoind.mine(1);
    assert_eq!(next_answer(&mut socket)["result"]["blockheight"], height + 2);
}

#[test]
fn stop_answers_every_caller() {
    let (_scratch, _bitcoind, node) = node_with(&[]);
    let mut socket = node.socket().unwrap();
    let one = r#"{"jsonrpc":"2.0","id":1,"method":"stop","params":[]}"#;
    let two = one.replace("1,", "2,");
    socket.write_all(format!("{one}{two}").as_bytes()).unwrap();
    for id in [1, 2] {
        let answer = next_answer(&mut socket);
        assert_eq!(
            (&answer["id"], &answer["result"]["result"]),
            (&json!(id), &json!("Shutdown complete"))
        );
    }
}

#[test]
fn utxos_of_an_opening_ended_by_a_crash_are_spendable_again() {
    let pair = Pair::new();
    pair.alice.connect(&pair.bob);
    // Bob is there and says nothing.
    kill(pair.bob.pid(), Signal::SIGSTOP).unwrap();
    let mut socket = pair.alice.socket().unwrap();
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "fundchannel",
        "params": {"id": pair.bob.id, "amount": SAT}});
    socket.write_all(request.to_string().as_bytes()).unwrap();
    let reserved = || {
        let funds = pair.alice.rpc("listfunds", &json!({}));
        funds["outputs"].as_array().unwrap().iter().any(|o| o["reserved"] == true)
    };
    wait_for("the coins to be reserved", || reserved().then_some(()));
    pair.alice.kill();
    pair.alice.start_again();
    assert!(!reserved());
    kill(pair.bob.pid(), Signal::SIGCONT).unwrap();
}

#[test]
fn peer_with_a_channel_is_listed_even_if_it_always_dialled_us() {
    let pair = Pair::new();
    pair.open(SAT);
    pair.alice.stop();
    pair.bob.stop();
    pair.bob.start_again();
    let peers = pair.bob.rpc("listpeers", &json!({}))["peers"].clone();
    assert_eq!(peers[0]["id"], pair.alice.id.as_str());
    assert_eq!((&peers[0]["connected"], &peers[0]["num_channels"]), (&json!(false), &json!(1)));
}

#[test]
fn plugins_and_daemons_begin_with_no_signal_blocked() {
    let (_scratch, _bitcoind, node) = node_with(&[]);
    for name in ["bcli", "lightning_connectd"] {
        let pid = wait_for(name, || node.children(name).first().copied());
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let blocked = status.lines().find_map(|l| l.strip_prefix("SigBlk:")).unwrap();
        assert_eq!(blocked.trim(), "0000000000000000", "{name}");
    }
}

#[test]
fn fundchannel_connects_to_a_peer_whose_address_is_known() {
    let pair = Pair::new();
    pair.alice.connect(&pair.bob);
    pair.alice.rpc("disconnect", &json!([pair.bob.id]));
    let connected = || pair.alice.rpc("listpeers", &json!({}))["peers"] != json!([]);
    wait_for("the connection's end", || (!connected()).then_some(()));
    let id = pair.alice.open(&pair.bob, SAT);
    pair.bitcoind.mine(6);
    pair.alice.wait_normal(&id);
    // Where nobody is any more, it fails with the reason.
    pair.bob.stop();
    wait_for("the connection's end", || {
        let peers = pair.alice.rpc("listpeers", &json!({}));
        (peers["peers"][0]["connected"] == false).then_some(())
    });
    let said = pair.alice.refused("fundchannel", &json!({"id": pair.bob.id, "amount": SAT}));
    assert_eq!(said.code, 401, "{}", said.message);
}

#[test]
fn unresolved_htlc_fails_its_channel_after_its_expiry() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    let bolt11 = pair.bob.invoice(100_000_000, "late");
    let decoded = pair.alice.rpc("decode", &json!([bolt11]));
    // Bob's daemon of the channel takes nothing any more.
    let daemon = pair.bob.children("lightning_channeld")[0];
    kill(daemon, Signal::SIGSTOP).unwrap();
    let params = json!({"route": route_to(&pair, &id, 100_000_000),
        "payment_hash": decoded["payment_hash"], "payment_secret": decoded["payment_secret"]});
    pair.alice.rpc("sendpay", &params);
    wait_for("the HTLC", || {
        (pair.alice.channel(&id)["htlcs"].as_array()?.len() == 1).then_some(())
    });
    pair.bitcoind.mine(25);
    pair.alice.wait_state(&id, "AWAITING_UNILATERAL");
    pair.alice.wait_log("hit deadline");
    pair.alice.wait_log("publishing our commitment");
    // What became of the HTLC the chain will tell: until then nobody says that it failed, a restart
    // included.
    pair.alice.stop();
    pair.alice.start_again();
    let payments = pair.alice.rpc("listsendpays", &json!({}));
    assert_eq!(payments["payments"][0]["status"], "pending");
}

#[test]
fn lightningd_raises_its_descriptor_limit_to_the_hard_one() {
    let (_scratch, _bitcoind, node) = node_with(&[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let files = limits.lines().find_map(|l| l.strip_prefix("Max open files")).unwrap();
    let both: Vec<&str> = files.split_whitespace().take(2).collect();
    assert_eq!(both[0], both[1]);
}

#[test]
fn disconnect_notification_finds_the_peer_gone() {
    let pair = Pair::new();
    for _ in 0..30 {
        pair.alice.connect(&pair.bob);
        pair.alice.rpc("disconnect", &json!([pair.bob.id]));
        assert_eq!(pair.alice.rpc("listpeers", &json!([pair.bob.id]))["peers"], json!([]));
        let again = pair.alice.refused("disconnect", &json!([pair.bob.id]));
        assert_eq!(again.message, "Peer not connected");
    }
}
