//! Two nodes and a channel: payments per second, latency, and what each payment costs.

use crate::measure::{Counters, IN_FLIGHT, LOAD, SEQUENTIAL, counters, invoices, memory, pay_all};
use crate::{barriers, disk};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tests::{Bitcoind, Node, wait_for};

const STARTS: u32 = 10;

/// Options that an operator would have: no debug log, no developer's timers but the chain's.
pub(crate) fn run(base: &Path) {
    let bitcoind = Bitcoind::start(&base.join("bitcoind"));
    let quiet = ["--log-level=info", "--fee-base=0"];
    let mut payer = Node::start(&base.join("payer"), &bitcoind, &quiet);
    let mut payee = Node::start(&base.join("payee"), &bitcoind, &quiet);
    payer.fund(&bitcoind);
    payee.sync(&bitcoind);
    payer.connect(&payee);
    let id = payer.open(&payee, 1_000_000_000);
    bitcoind.mine(1);
    payer.wait_normal(&id);
    payee.wait_normal(&id);
    memory("idle", &payer);
    sequential(&payer, &payee);
    let scid = payer.channel(&id)["short_channel_id"].clone();
    for (what, msat) in [("dust", 1_000), ("non-dust", 1_000_000)] {
        load(&payer, &payee, &scid, what, msat);
    }
    payer.settled_balance(&id);
    memory("after the load", &payer);
    starts(&payer);
    barriers::report(&mut payer, &mut payee, &id);
    payee.stop();
    payer.stop();
    disk::revoked_state(&payer);
    disk::thousand_channels(&payer);
}

fn report(
    what: &str,
    mut times: Vec<Duration>,
    whole: Duration,
    before: &Counters,
    after: &Counters,
) {
    times.sort();
    let n = times.len() as f64;
    let at = |share: f64| {
        times.get((n * share) as usize).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    println!(
        "  {what:<28} {:8.1}/s   median {:7.2} ms   p95 {:7.2} ms   {:5.2} commits (both nodes)   {:5.2} signatures",
        n / whole.as_secs_f64(),
        at(0.5),
        at(0.95),
        (after.commits - before.commits) / n,
        (after.signatures - before.signatures) / n,
    );
}

/// One after another, by `pay`, as a person or a shop would.
fn sequential(payer: &Node, payee: &Node) {
    let invoices = invoices(payee, SEQUENTIAL, 1_000_000, "seq");
    let before = counters(&[payer, payee]);
    let begun = Instant::now();
    let mut times = Vec::new();
    for invoice in &invoices {
        let at = Instant::now();
        payer.pay(invoice["bolt11"].as_str().expect("an invoice has its string"));
        times.push(at.elapsed());
    }
    report("pay, one after another", times, begun.elapsed(), &before, &counters(&[payer, payee]));
}

/// `sendpay` and `waitsendpay` over a direct channel, so many at once.
fn load(payer: &Node, payee: &Node, scid: &Value, what: &str, msat: u64) {
    let invoices = invoices(payee, LOAD, msat, what);
    let route = json!([{"id": payee.id, "channel": scid, "amount_msat": msat, "delay": 10}]);
    let before = counters(&[payer, payee]);
    let begun = Instant::now();
    let times = pay_all(payer, &route, &invoices);
    let what = format!("{what}, {IN_FLIGHT} in flight");
    report(&what, times, begun.elapsed(), &before, &counters(&[payer, payee]));
}

/// From exec to an answered getinfo.
fn starts(node: &Node) {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        node.stop();
        let at = Instant::now();
        node.spawn_again();
        wait_for("an answer", || node.call("getinfo", &json!({})).ok());
        times.push(at.elapsed());
    }
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!(
        "  start to the first answer: median {:.1} ms (looked at every 10 ms)",
        median.as_secs_f64() * 1000.0
    );
}
