//! What it costs to resolve a close full of HTLCs: processor time of everything, with few and with
//! as many as there can be.

use crate::forwards::processor_time_of;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tests::{Bitcoind, Node, hop, wait_for};

const FEW: u64 = 60;
const MANY: u64 = 483;
/// Each HTLC: not dust.
const PART: u64 = 2_000_000;

pub fn run(base: &Path) {
    let few = close_with(&base.join("few"), FEW);
    let many = close_with(&base.join("many"), MANY);
    println!(
        "  resolving a close: {:.2} s of processor time with {FEW} HTLCs each way, {:.2} s with {MANY}: {:.1} times as much",
        few.as_secs_f64(),
        many.as_secs_f64(),
        many.as_secs_f64() / few.as_secs_f64()
    );
}

/// Parts of a payment that is never whole: they wait at the payee's, for about a minute.
fn begin_parts(from: &Node, to: &Node, id: &str, count: u64) {
    let total = PART * (count + 1);
    let made = json!({"amount_msat": total, "label": "parts", "description": "parts"});
    let invoice = to.rpc("invoice", &made);
    let scid = from.channel(id)["short_channel_id"].clone();
    let part = |part| {
        json!({"route": [hop(to, &scid, PART, 30)], "payment_hash": invoice["payment_hash"],
            "payment_secret": invoice["payment_secret"], "amount_msat": total, "partid": part, "groupid": 1})
    };
    from.rpc_all("sendpay", (1..=count).map(part));
}

fn close_with(base: &Path, count: u64) -> Duration {
    let bitcoind = Bitcoind::start(&base.join("bitcoind"));
    let options = ["--log-level=info", "--max-concurrent-htlcs=483"];
    let one = Node::start(&base.join("one"), &bitcoind, &options);
    let other = Node::start(&base.join("other"), &bitcoind, &options);
    for node in [&one, &other] {
        node.fund(&bitcoind);
    }
    one.sync(&bitcoind);
    one.connect(&other);
    let opened = one.rpc(
        "fundchannel",
        &json!({"id": other.id, "amount": 100_000_000, "push_msat": 50_000_000_000u64}),
    );
    let id = opened["channel_id"].as_str().expect("a channel has its id").to_owned();
    bitcoind.mine(6);
    for node in [&one, &other] {
        node.wait_normal(&id);
        node.sync(&bitcoind);
    }
    begin_parts(&one, &other, &id, count);
    begin_parts(&other, &one, &id, count);
    let held = |node: &Node| {
        let channel = node.channel(&id);
        let there =
            |h: &&Value| h["state"].as_str().is_some_and(|s| s.ends_with("ADD_ACK_REVOCATION"));
        channel["htlcs"].as_array().map_or(0, |h| h.iter().filter(there).count() as u64)
    };
    wait_for("all HTLCs to be there", || {
        (held(&one) == 2 * count && held(&other) == 2 * count).then_some(())
    });
    // What channeld does is no part of it, and its time is gone with it. (The system keeps 15
    // letters of a name.)
    let used = || -> Duration {
        let all = [&one, &other].into_iter().flat_map(|n| processor_time_of(n, ""));
        all.filter(|(name, _)| !name.contains("chann")).map(|(_, t)| t).sum()
    };
    let before = used();
    one.rpc("dev-fail", &json!({"id": id}));
    one.wait_state(&id, "AWAITING_UNILATERAL");
    let resolved = |node: &Node| {
        let outputs = node.channel(&id)["onchain_outputs"].clone();
        outputs.as_array().is_some_and(|o| o.iter().all(|o| o["resolved"] == true))
    };
    for _ in 0..150 {
        bitcoind.mine(1);
        one.sync(&bitcoind);
        other.sync(&bitcoind);
        if resolved(&one) && resolved(&other) {
            return used() - before;
        }
    }
    panic!("150 blocks did not resolve {count} HTLCs: {}", one.channel(&id)["onchain_outputs"]);
}
