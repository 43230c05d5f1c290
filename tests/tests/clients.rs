//! Clients and plugin libraries of CLN's world, as they are published: pyln-client, cln-rpc,
//! cln-plugin. They do not know that we are not CLN.

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tests::{Bitcoind, Client, Node, Pair, Scratch, pyln_python, pyln_script, rust_client};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string"))
}

/// Node, addresses, help and `check`.
fn pyln_asks_about_the_node(pair: &Pair, alice: &Client) {
    let info = alice.ask("getinfo", json!({}));
    assert_eq!((&info["id"], &info["network"]), (&json!(pair.alice.id), &json!("regtest")));
    assert_eq!(info["fees_collected_msat"], 0);
    let addresses = alice.ask("newaddr", json!({"addresstype": "all"}));
    assert!(text(&addresses["bech32"]).starts_with("bcrt1q"), "{addresses}");
    assert!(text(&addresses["p2tr"]).starts_with("bcrt1p"), "{addresses}");
    let help = alice.ask("help", json!({}));
    assert!(help["help"].as_array().unwrap().iter().any(|h| h["command"] == "getinfo"), "{help}");
    let checked = alice.ask(
        "check",
        json!({"command_to_check": "invoice", "amount_msat": 1, "label": "l", "description": "d"}),
    );
    assert_eq!(checked["command_to_check"], "invoice");
}

/// Connects, opens, and waits until the channel is usable. Returns its id.
fn pyln_opens_a_channel(pair: &Pair, alice: &Client) -> String {
    let to = json!({"peer_id": pair.bob.id, "host": "127.0.0.1", "port": pair.bob.port});
    assert_eq!(alice.ask("connect", to)["id"], pair.bob.id.as_str());
    let opened = alice.ask("fundchannel", json!({"node_id": pair.bob.id, "amount": 1_000_000}));
    let channel = text(&opened["channel_id"]).to_owned();
    pair.bitcoind.mine(6);
    for node in [&pair.alice, &pair.bob] {
        node.wait_normal(&channel);
        node.sync(&pair.bitcoind);
    }
    let listed = alice.ask("listpeerchannels", json!({"peer_id": pair.bob.id}));
    assert_eq!(listed["channels"][0]["total_msat"], 1000000000);
    assert_eq!(listed["channels"][0]["state"], "CHANNELD_NORMAL");
    channel
}

/// Bob waits for the payment on the same connection that he asks with.
fn pyln_pays_an_invoice(pair: &Pair, alice: &Client, bob: &Client) {
    let made = bob.ask(
        "invoice",
        json!({"amount_msat": {"msat": 50_000}, "label": "tea", "description": "a cup of tea"}),
    );
    let bolt11 = text(&made["bolt11"]).to_owned();
    let decoded = alice.ask("decode", json!({"string": bolt11}));
    assert_eq!(
        (&decoded["amount_msat"], &decoded["description"], &decoded["payee"]),
        (&json!(50000), &json!("a cup of tea"), &json!(pair.bob.id))
    );
    bob.begin("waitanyinvoice", json!({"lastpay_index": 0, "timeout": 40}));
    let paid = alice.ask("pay", json!({"bolt11": bolt11}));
    assert_eq!((&paid["status"], &paid["amount_msat"]), (&json!("complete"), &json!(50000)));
    let waited = bob.finish().unwrap();
    assert_eq!((&waited["label"], &waited["status"]), (&json!("tea"), &json!("paid")));
    assert_eq!(waited["payment_preimage"], paid["payment_preimage"]);
    let invoices = bob.ask("listinvoices", json!({"label": "tea"}));
    assert_eq!(invoices["invoices"][0]["amount_received_msat"], 50000);
    let pays = alice.ask("listpays", json!({}));
    assert_eq!(
        (&pays["pays"][0]["status"], &pays["pays"][0]["bolt11"]),
        (&json!("complete"), &json!(bolt11))
    );
}

/// Error codes arrive as pyln-client raises them.
fn pyln_reads_errors(alice: &Client, bob: &Client) {
    let again =
        bob.refused("invoice", json!({"amount_msat": 1, "label": "tea", "description": "d"}));
    assert_eq!(again.code, 900, "{again:?}");
    let nowhere = alice.refused("waitsendpay", json!({"payment_hash": "00".repeat(32)}));
    assert_eq!(nowhere.code, 208, "{nowhere:?}");
    let unreachable = alice.refused(
        "connect",
        json!({"peer_id": format!("02{}", "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"), "host": "127.0.0.1", "port": 1}),
    );
    assert_eq!(unreachable.code, 401, "{unreachable:?}");
}

/// Lists, feerates and `ping`.
fn pyln_lists(pair: &Pair, alice: &Client) {
    for (method, member) in [
        ("listfunds", "outputs"),
        ("listpeers", "peers"),
        ("listsendpays", "payments"),
        ("listclosedchannels", "closedchannels"),
        ("listconfigs", "configs"),
    ] {
        assert!(!alice.ask(method, json!({}))[member].is_null(), "{method}");
    }
    assert!(alice.ask("feerates", json!({"style": "perkw"}))["perkw"]["opening"].is_u64());
    assert!(alice.ask("ping", json!({"peer_id": pair.bob.id}))["totlen"].is_u64());
}

#[test]
fn pyln_client_opens_pays_and_closes_a_channel() {
    let pair = Pair::new();
    let (alice, bob) = (Client::pyln(&pair.alice), Client::pyln(&pair.bob));
    pyln_asks_about_the_node(&pair, &alice);
    let channel = pyln_opens_a_channel(&pair, &alice);
    pyln_pays_an_invoice(&pair, &alice, &bob);
    pyln_reads_errors(&alice, &bob);
    pyln_lists(&pair, &alice);
    let closed = alice.ask("close", json!({"peer_id": channel}));
    assert_eq!(closed["type"], "mutual", "{closed}");
    alice.ask("stop", json!({}));
}

/// The wallet pays, and the channel opens. Returns its id.
fn cln_rpc_opens_a_channel(pair: &Pair, alice: &Client, bob: &Client) -> String {
    assert_eq!(alice.ask("getinfo", json!({}))["id"], pair.alice.id.as_str());
    let address = text(&alice.ask("newaddr", json!({"addresstype": "p2tr"}))["p2tr"]).to_owned();
    let sent = alice.ask("withdraw", json!({"destination": address, "satoshi": "100000000sat"}));
    assert_eq!(text(&sent["txid"]).len(), 64);
    let to = json!({"id": pair.bob.id, "host": "127.0.0.1", "port": pair.bob.port});
    assert_eq!(alice.ask("connect", to)["id"], pair.bob.id.as_str());
    pair.bitcoind.mine(1);
    pair.alice.sync(&pair.bitcoind);
    let opened = alice.ask(
        "fundchannel",
        json!({"id": pair.bob.id, "amount": "1000000sat", "push_msat": 20_000_000}),
    );
    let channel = text(&opened["channel_id"]).to_owned();
    for state in ["before", "after"] {
        for client in [alice, bob] {
            let listed = client.ask("listpeerchannels", json!({}));
            assert_eq!(listed["channels"][0]["channel_id"], channel.as_str(), "{state}");
        }
        pair.bitcoind.mine(6);
    }
    for node in [&pair.alice, &pair.bob] {
        node.wait_normal(&channel);
        node.sync(&pair.bitcoind);
    }
    channel
}

/// `pay`, and both waits for an invoice.
fn cln_rpc_pays_an_invoice(alice: &Client, bob: &Client) {
    let made = bob.ask(
        "invoice",
        json!({"amount_msat": "50000msat", "label": "tea", "description": "a cup of tea"}),
    );
    let decoded = alice.ask("decode", json!({"string": made["bolt11"]}));
    assert_eq!((&decoded["amount_msat"], &decoded["valid"]), (&json!("50000msat"), &json!(true)));
    bob.begin("waitinvoice", json!({"label": "tea"}));
    let paid = alice.ask("pay", json!({"bolt11": made["bolt11"]}));
    assert_eq!(paid["status"], "complete");
    assert_eq!(bob.finish().unwrap()["payment_preimage"], paid["payment_preimage"]);
    assert_eq!(
        bob.ask("waitanyinvoice", json!({"lastpay_index": 0, "timeout": 1}))["label"],
        "tea"
    );
}

/// `sendpay` from bob to alice; then the lists of both and `delinvoice`.
fn cln_rpc_pays_over_a_route(pair: &Pair, alice: &Client, bob: &Client) {
    let made =
        alice.ask("invoice", json!({"amount_msat": "7000msat", "label": "l", "description": "d"}));
    let info = bob.ask("listpeerchannels", json!({}));
    let route = json!([{"id": pair.alice.id, "channel": info["channels"][0]["short_channel_id"], "delay": 20, "amount_msat": 7_000}]);
    let order = json!({"route": route, "payment_hash": made["payment_hash"], "payment_secret": made["payment_secret"], "bolt11": made["bolt11"]});
    assert_eq!(bob.ask("sendpay", order)["status"], "pending");
    let settled =
        bob.ask("waitsendpay", json!({"payment_hash": made["payment_hash"], "timeout": 30}));
    assert_eq!(settled["status"], "complete");
    assert_eq!(bob.ask("listsendpays", json!({}))["payments"][0]["status"], "complete");
    assert_eq!(alice.ask("listpays", json!({}))["pays"][0]["status"], "complete");
    assert_eq!(alice.ask("listinvoices", json!({"label": "l"}))["invoices"][0]["status"], "paid");
    assert_eq!(alice.ask("delinvoice", json!({"label": "l", "status": "paid"}))["label"], "l");
    let unknown = alice.refused("delinvoice", json!({"label": "l", "status": "paid"}));
    assert_eq!(unknown.code, 905, "{unknown:?}");
}

/// Until both nodes list the channel as closed.
fn cln_rpc_closes_the_channel(pair: &Pair, alice: &Client, bob: &Client, channel: &str) {
    assert_eq!(alice.ask("close", json!({"id": channel}))["type"], "mutual");
    pair.bitcoind.mine(1);
    for node in [&pair.alice, &pair.bob] {
        node.wait_state(channel, "ONCHAIN");
    }
    alice.ask("listpeerchannels", json!({}));
    pair.bitcoind.mine(100);
    for client in [alice, bob] {
        tests::wait_for("the channel to be buried", || {
            let closed = client.ask("listclosedchannels", json!({}));
            (closed["closedchannels"][0]["channel_id"] == channel).then_some(())
        });
    }
}

#[test]
fn cln_rpc_parses_every_answer() {
    let pair = Pair::new();
    let (alice, bob) = (Client::cln_rpc(&pair.alice), Client::cln_rpc(&pair.bob));
    let channel = cln_rpc_opens_a_channel(&pair, &alice, &bob);
    cln_rpc_pays_an_invoice(&alice, &bob);
    cln_rpc_pays_over_a_route(&pair, &alice, &bob);
    for (method, params) in [
        ("listfunds", json!({})),
        ("listpeers", json!({})),
        ("listtransactions", json!({})),
        ("listclosedchannels", json!({})),
        ("listconfigs", json!({})),
        ("getlog", json!({"level": "debug"})),
        ("help", json!({})),
        ("feerates", json!({"style": "perkb"})),
        ("ping", json!({"id": pair.bob.id})),
        ("waitblockheight", json!({"blockheight": 1})),
        ("plugin", json!({"subcommand": "list"})),
    ] {
        alice.ask(method, params);
    }

    cln_rpc_closes_the_channel(&pair, &alice, &bob, &channel);
    alice.ask("listfunds", json!({"spent": true}));
    assert_eq!(alice.ask("disconnect", json!({"id": pair.bob.id, "force": true})), json!({}));
    alice.ask("stop", json!({}));
}

fn node(options: &[&str]) -> (Scratch, Bitcoind, Node) {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let node = Node::start(&scratch.path().join("node"), &bitcoind, options);
    (scratch, bitcoind, node)
}

/// What is started must be one executable: a script's python is named in it.
fn pyln_plugin(dir: &Path) -> PathBuf {
    let path = dir.join("pyplugin");
    let (python, script) = (pyln_python(), pyln_script("plugin.py"));
    let text = format!("#!/bin/sh\nexec '{}' '{}'\n", python.display(), script.display());
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn pyln_plugin_adds_methods_and_options() {
    let place = Scratch::new();
    let plugin = format!("--plugin={}", pyln_plugin(place.path()).display());
    let (_scratch, _bitcoind, node) =
        node(&[&plugin, "--py-greeting=Moin", "--py-number=7", "--py-polite"]);
    node.wait_log("pyln is here, in ");
    let declared = json!(["py-greeting", "py-number", "py-polite"]);
    assert_eq!(
        node.rpc("pygreet", &json!(["Bob"])),
        json!({"said": "Moin Bob", "times": 1, "polite": true, "number": 7, "declared": declared, "by": node.id})
    );
    let named = node.rpc("pygreet", &json!({"times": 3}));
    assert_eq!((&named["said"], &named["times"]), (&json!("Moin you"), &json!(3)));
    let failed = node.refused("pyfail", &json!({}));
    assert_eq!(failed.code, 4243, "{failed:?}");
    assert_eq!(node.rpc("pylater", &json!({})), json!({"later": true}));
    let help = node.rpc("help", &json!(["pygreet"]))["help"][0]["command"].clone();
    assert!(text(&help).starts_with("pygreet [name] [times]"), "{help}");
    // The same through its own client.
    let client = Client::pyln(&node);
    assert_eq!(
        client.ask("call", json!({"method": "pygreet", "payload": {"name": "Eve"}}))["said"],
        "Moin Eve"
    );
    assert_eq!(
        node.rpc("plugin", &json!(["stop", "pyplugin"]))["result"],
        "Successfully stopped pyplugin."
    );
}

#[test]
fn cln_plugin_crate_adds_methods_and_options() {
    let plugin = format!("--plugin={}", rust_client("rustplugin").display());
    let options = [
        plugin.as_str(),
        "--rust-times=3",
        "--rust-loud",
        "--rust-polite=false",
        "--rust-guest=Eve",
        "--rust-guest=Bob",
    ];
    let (_scratch, _bitcoind, node) = node(&options);
    assert_eq!(
        node.rpc("rustgreet", &json!({"a": 1})),
        json!({"said": "Hello", "times": 3, "polite": false, "loud": true, "guests": ["Eve", "Bob"], "params": {"a": 1},
            "by": node.id, "network": "regtest"})
    );
    let failed = node.refused("rustfail", &json!([]));
    assert_eq!((failed.code, failed.message.as_str()), (-32700, "as you wish"), "{failed:?}");
    let configs = node.rpc("listconfigs", &json!({}))["configs"].clone();
    assert_eq!(configs["rust-guest"]["values_str"], json!(["Eve", "Bob"]));
    assert_eq!(
        node.rpc("plugin", &json!(["stop", "rustplugin"]))["result"],
        "Successfully stopped rustplugin."
    );
}
