//! Hooks and notifications: plugins are asked what becomes of received HTLCs, and hear of
//! connections and payments.

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tests::{Pair, Scratch, wait_for};

/// A plugin without any library. `policy` says how it answers to hook calls from then on (`hold`:
/// later, by `release`); `seen` returns every hook call and notification that it got.
const PLUGIN: &str = r#"#!/usr/bin/env python3
import json, os, sys
seen, held, policy = [], [], {"result": "continue"}
file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "policy")
if os.path.exists(file):
    policy = json.load(open(file))
def write(value):
    sys.stdout.write(json.dumps(value) + "\n\n")
    sys.stdout.flush()
def answer(request, result):
    write({"jsonrpc": "2.0", "id": request["id"], "result": result})
decoder, text = json.JSONDecoder(), ""
for line in sys.stdin:
    text = (text + line).lstrip()
    try:
        request, end = decoder.raw_decode(text)
    except ValueError:
        continue
    text = text[end:]
    method, params = request["method"], request.get("params")
    if method == "getmanifest":
        answer(request, {"dynamic": True, "options": [],
            "hooks": [{"name": "htlc_accepted", "before": ["offers"]}],
            "subscriptions": ["connect", "invoice_payment"],
            "rpcmethods": [{"name": name, "usage": "[value]", "description": name}
                           for name in ("policy", "release", "seen", "die")]})
    elif method == "init":
        answer(request, {})
    elif method == "htlc_accepted":
        seen.append({"hook": params})
        if policy == "hold":
            held.append(request)
        else:
            answer(request, policy)
    elif method == "policy":
        policy = params[0]
        json.dump(policy, open(file, "w"))
        answer(request, {})
    elif method == "release":
        for waiting in held:
            answer(waiting, params[0])
        answer(request, {"released": len(held)})
        held = []
    elif method == "seen":
        answer(request, {"seen": seen})
    elif method == "die":
        sys.exit(0)
    elif "id" not in request:
        seen.append({"topic": method, "params": params})
"#;

fn write_plugin(dir: &Path) -> PathBuf {
    let path = dir.join("decider.py");
    std::fs::write(&path, PLUGIN).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Two nodes with a channel; the payee has the plugin.
struct Asked {
    pair: Pair,
    channel: String,
}

impl Asked {
    fn new() -> Self {
        let scratch = Scratch::new();
        let plugin = format!("--plugin={}", write_plugin(scratch.path()).display());
        let pair = Pair::within(scratch, &[], &[&plugin]);
        let channel = pair.open(1_000_000);
        Self { pair, channel }
    }

    /// The plugin answers so from now on.
    fn policy(&self, answer: Value) {
        self.pair.bob.rpc("policy", &json!([answer]));
    }

    fn seen(&self, kind: &str) -> Vec<Value> {
        let all = self.pair.bob.rpc("seen", &json!([]))["seen"].clone();
        all.as_array().unwrap().iter().filter(|s| s.get(kind).is_some()).cloned().collect()
    }

    /// Begins a payment of one hop.
    fn send(&self, hash: &Value, secret: &Value, msat: u64) {
        let scid = self.pair.alice.channel(&self.channel)["short_channel_id"].clone();
        let hop =
            json!({"id": self.pair.bob.id, "channel": scid, "amount_msat": msat, "delay": 20});
        let params = json!({"route": [hop], "payment_hash": hash, "payment_secret": secret});
        self.pair.alice.rpc("sendpay", &params);
    }

    fn invoice(&self, msat: u64, label: &str) -> (Value, Value) {
        let made = self
            .pair
            .bob
            .rpc("invoice", &json!({"amount_msat": msat, "label": label, "description": label}));
        (made["payment_hash"].clone(), made["payment_secret"].clone())
    }

    fn end_of(&self, hash: &Value) -> Result<Value, tests::RpcError> {
        self.pair.alice.call("waitsendpay", &json!({"payment_hash": hash, "timeout": 60}))
    }
}

/// SHA-256 of 32 bytes of 0x11.
const KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const HASH: &str = "02d449a31fbb267c8f352e9968a79e3e5fc95c1bbeaa502fd6454ebde5a4bedc";

#[test]
fn htlc_accepted_hook_continues_fails_and_resolves() {
    let asked = Asked::new();
    let (hash, secret) = asked.invoice(5_000_000, "plain");
    asked.send(&hash, &secret, 5_000_000);
    assert_eq!(asked.end_of(&hash).unwrap()["status"], "complete");
    let question = asked.seen("hook")[0]["hook"].clone();
    assert_eq!(question["peer_id"], asked.pair.alice.id.as_str());
    let htlc = &question["htlc"];
    assert_eq!((&htlc["payment_hash"], &htlc["amount_msat"]), (&hash, &json!(5_000_000)));
    assert_eq!(htlc["id"], 0);
    let tip = asked.pair.bitcoind.height();
    assert_eq!(htlc["cltv_expiry"].as_u64().unwrap() - tip, htlc["cltv_expiry_relative"]);
    let onion = &question["onion"];
    assert_eq!((&onion["payment_secret"], &onion["total_msat"]), (&secret, &json!(5_000_000)));
    assert_eq!((&onion["type"], &onion["next_onion"]), (&json!("tlv"), &json!("")));
    let payload = onion["payload"].as_str().unwrap();
    let length = usize::from_str_radix(&payload[..2], 16).unwrap();
    assert_eq!(payload.len(), 2 * (1 + length), "the payload comes with its length");

    // PERM|14, incorrect_or_unknown_payment_details; and what a nonsensical answer comes to:
    // temporary_node_failure.
    for (answer, code) in [
        (json!({"result": "fail", "failure_message": "400F00000000004c4b4000000064"}), 0x400f),
        (json!({"result": "fail"}), 0x2002),
        (json!({"result": "as you like"}), 0x2002),
        (json!({"result": "resolve", "payment_key": KEY}), 0x2002),
    ] {
        asked.policy(answer.clone());
        let (hash, secret) = asked.invoice(5_000_000, &answer.to_string());
        asked.send(&hash, &secret, 5_000_000);
        let failed = asked.end_of(&hash).unwrap_err();
        assert_eq!(failed.data["failcode"], code, "{answer}: {}", failed.message);
    }
    // No invoice of ours, and a preimage that only the plugin has.
    asked.policy(json!({"result": "resolve", "payment_key": KEY}));
    asked.send(&json!(HASH), &json!(KEY), 6_000_000);
    assert_eq!(asked.end_of(&json!(HASH)).unwrap()["payment_preimage"], KEY);
}

#[test]
fn htlc_held_by_a_plugin_is_asked_about_again_after_a_restart() {
    let asked = Asked::new();
    asked.policy(json!("hold"));
    asked.send(&json!(HASH), &json!(KEY), 6_000_000);
    wait_for("the question", || (asked.seen("hook").len() == 1).then_some(()));
    asked.pair.bob.kill();
    asked.pair.bob.start_again();
    // The plugin was told to hold, and is another process now.
    wait_for("the question again", || (asked.seen("hook").len() == 1).then_some(()));
    let again = asked.seen("hook")[0]["hook"]["htlc"].clone();
    assert_eq!((&again["payment_hash"], &again["id"]), (&json!(HASH), &json!(0)));
    let released = json!([{"result": "resolve", "payment_key": KEY}]);
    assert_eq!(asked.pair.bob.rpc("release", &released)["released"], 1);
    assert_eq!(asked.end_of(&json!(HASH)).unwrap()["payment_preimage"], KEY);
}

#[test]
fn htlc_held_by_a_plugin_that_dies_continues_without_it() {
    let asked = Asked::new();
    asked.policy(json!("hold"));
    let (hash, secret) = asked.invoice(5_000_000, "held");
    asked.send(&hash, &secret, 5_000_000);
    wait_for("the question", || (asked.seen("hook").len() == 1).then_some(()));
    asked.pair.bob.refused("die", &json!([]));
    assert_eq!(asked.end_of(&hash).unwrap()["status"], "complete");
}

#[test]
fn htlc_held_by_a_plugin_is_failed_before_its_expiry() {
    let asked = Asked::new();
    asked.policy(json!("hold"));
    asked.send(&json!(HASH), &json!(KEY), 6_000_000);
    wait_for("the question", || (asked.seen("hook").len() == 1).then_some(()));
    let expiry = asked.seen("hook")[0]["hook"]["htlc"]["cltv_expiry"].as_u64().unwrap();
    // Half of regtest's cltv-delta before it: later nobody could claim it safely.
    let blocks = expiry - asked.pair.bitcoind.height() - 3;
    asked.pair.bitcoind.mine(blocks.try_into().unwrap());
    assert_eq!(asked.end_of(&json!(HASH)).unwrap_err().data["failcode"], 0x2002);
    asked.pair.bob.wait_normal(&asked.channel);
    // It comes too late, and changes nothing.
    let released = json!([{"result": "resolve", "payment_key": KEY}]);
    assert_eq!(asked.pair.bob.rpc("release", &released)["released"], 1);
    asked.pair.bob.rpc("getinfo", &json!({}));
}

#[test]
fn plugin_is_notified_of_connections_and_paid_invoices() {
    let asked = Asked::new();
    let (hash, secret) = asked.invoice(5_000_000, "heard");
    asked.send(&hash, &secret, 5_000_000);
    let paid = asked.end_of(&hash).unwrap();
    let heard = wait_for("the notification", || {
        asked.seen("topic").into_iter().find(|s| s["topic"] == "invoice_payment")
    });
    let body = json!({"label": "heard", "preimage": paid["payment_preimage"], "msat": 5_000_000});
    assert_eq!(heard["params"], json!({"invoice_payment": body}));
    let connected = asked.seen("topic").into_iter().find(|s| s["topic"] == "connect").unwrap();
    let connect = &connected["params"]["connect"];
    assert_eq!(
        (&connect["id"], &connect["direction"]),
        (&json!(asked.pair.alice.id), &json!("in"))
    );
    assert_eq!(
        (&connect["address"]["type"], &connect["address"]["address"]),
        (&json!("ipv4"), &json!("127.0.0.1"))
    );
}
