//! `cargo run --release -p benches`: two suites and one channel, then three in a line, on tmpfs and on disk.
//!
//! Prints payments per second (one after another, and 100 in flight), latency, and what each payment cost: commits that
//! reached the disk, signatures, and the memory of each process. Numbers of one run are to be compared with each other.

mod barriers;
mod disk;
mod forwards;
mod resolve;

use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::{Bitcoind, Node, wait_for};

const SEQUENTIAL: u64 = 200;
const LOAD: u64 = 2000;
const IN_FLIGHT: usize = 100;
const STARTS: u32 = 10;

fn main() {
    if !tests::bin_dir().join("lightningd").is_file() {
        eprintln!("build the suite first: cargo build --release --workspace --bins");
        std::process::exit(1);
    }
    let disk = PathBuf::from("target/bench");
    for (name, base) in [("tmpfs", Path::new("/dev/shm/fulmen-bench")), ("disk", disk.as_path())] {
        println!("{name}:");
        let _ = std::fs::remove_dir_all(base);
        std::fs::create_dir_all(base).expect("the benchmark can make its folder");
        let base = base.canonicalize().expect("it was just made");
        if wanted("pay") {
            run(&base.join("pay"));
        }
        if wanted("forward") {
            forwards::run(&base.join("forward"));
        }
        if wanted("resolve") {
            resolve::run(&base.join("resolve"));
        }
        std::fs::remove_dir_all(&base).expect("the folder is ours");
    }
}

/// `bench pay`, `bench forward` and `bench resolve` do one of them.
fn wanted(what: &str) -> bool {
    std::env::args().nth(1).is_none_or(|only| only == what)
}

/// Options that an operator would have: no debug log, no developer's timers but the chain's.
fn run(base: &Path) {
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

struct Counters {
    commits: f64,
    signatures: f64,
}

fn counters(nodes: &[&Node]) -> Counters {
    let mut sum = Counters { commits: 0.0, signatures: 0.0 };
    for node in nodes {
        let c = node.rpc("dev-counters", &json!({}));
        sum.commits += c["commits"].as_f64().unwrap_or_default();
        sum.signatures += c["signatures"].as_f64().unwrap_or_default();
    }
    sum
}

fn invoices(payee: &Node, count: u64, msat: u64, label: &str) -> Vec<Value> {
    (0..count)
        .map(|n| {
            payee.rpc(
                "invoice",
                &json!({"amount_msat": msat, "label": format!("{label}{n}"), "description": "d"}),
            )
        })
        .collect()
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

/// Pays them all over this route, so many at once, on one connection. How long each took.
fn pay_all(payer: &Node, route: &Value, invoices: &[Value]) -> Vec<Duration> {
    let mut socket = payer.socket().expect("the node serves");
    let (mut next, mut done, mut times, mut text) = (0usize, 0usize, Vec::new(), Vec::new());
    let mut started: HashMap<usize, Instant> = HashMap::new();
    while done < invoices.len() {
        while next < invoices.len() && next - done < IN_FLIGHT {
            let invoice = &invoices[next];
            let sent = json!({"route": route, "payment_hash": invoice["payment_hash"], "payment_secret": invoice["payment_secret"]});
            ask(&mut socket, &format!("s{next}"), "sendpay", &sent);
            ask(
                &mut socket,
                &format!("w{next}"),
                "waitsendpay",
                &json!({"payment_hash": invoice["payment_hash"]}),
            );
            started.insert(next, Instant::now());
            next += 1;
        }
        for answer in answers(&mut socket, &mut text) {
            assert!(answer.get("error").is_none(), "{answer}");
            let id = answer["id"].as_str().unwrap_or_default().to_owned();
            if let Some(at) = id
                .strip_prefix('w')
                .and_then(|n| n.parse().ok())
                .and_then(|n: usize| started.remove(&n))
            {
                times.push(at.elapsed());
                done += 1;
            }
        }
    }
    times
}

fn ask(socket: &mut UnixStream, id: &str, method: &str, params: &Value) {
    let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    socket.write_all(request.to_string().as_bytes()).expect("the node reads");
}

fn answers(socket: &mut UnixStream, text: &mut Vec<u8>) -> Vec<Value> {
    let mut chunk = [0; 65536];
    let n = socket.read(&mut chunk).expect("the node answers");
    assert!(n > 0, "the node hung up");
    text.extend_from_slice(&chunk[..n]);
    let mut out = Vec::new();
    while let Some(end) = text.windows(2).position(|w| w == b"\n\n") {
        let one: Vec<u8> = text.drain(..end + 2).collect();
        out.push(serde_json::from_slice(&one).expect("answers are JSON"));
    }
    out
}

/// Proportional set size of every process of a node.
fn memory(when: &str, node: &Node) {
    let mut rows = Vec::new();
    let mut total = 0;
    for pid in std::iter::once(node.pid()).chain(node.children("")) {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let Ok(rollup) = std::fs::read_to_string(dir.join("smaps_rollup")) else { continue };
        let name = std::fs::read_to_string(dir.join("comm")).unwrap_or_default();
        let pss: u64 = rollup
            .lines()
            .find_map(|l| l.strip_prefix("Pss:"))
            .and_then(|l| l.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or_default();
        total += pss;
        rows.push(format!("{} {:.1}", name.trim(), pss as f64 / 1024.0));
    }
    println!("  memory {when}: {:.1} MB PSS ({})", total as f64 / 1024.0, rows.join(", "));
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
