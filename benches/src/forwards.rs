//! Forwards: a payer, a forwarder and a payee in a line, all on this machine.

use crate::measure::{Counters, LOAD, SEQUENTIAL, counters, invoices, memory, pay_all};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::{Line, Node};

/// Not dust.
const MSAT: u64 = 1_000_000;

pub fn run(base: &Path) {
    std::fs::create_dir_all(base).expect("the benchmark can make its folder");
    let quiet: &[&str] = &["--log-level=info"];
    let line = Line::within(base, [quiet; 3]);
    let route = line.route(MSAT);

    let list = invoices(&line.l3, SEQUENTIAL, MSAT, "seq");
    let before = counted(&line);
    let (begun, mut times) = (Instant::now(), Vec::new());
    for invoice in &list {
        let at = Instant::now();
        let (hash, secret) = (&invoice["payment_hash"], &invoice["payment_secret"]);
        let params = json!({"route": route, "payment_hash": hash, "payment_secret": secret});
        line.l1.rpc("sendpay", &params);
        line.l1.rpc("waitsendpay", &json!({"payment_hash": hash}));
        times.push(at.elapsed());
    }
    report("forward, one after another", times, begun.elapsed(), &before, &line);

    let list = invoices(&line.l3, LOAD, MSAT, "load");
    let before = counted(&line);
    let used = processor_time(&line);
    let begun = Instant::now();
    let times = pay_all(&line.l1, &route, &list);
    report("forward, 100 in flight", times, begun.elapsed(), &before, &line);
    for ((name, was), (_, now)) in used.iter().zip(processor_time(&line)) {
        let each = (now.as_secs_f64() - was.as_secs_f64()) * 1e6 / LOAD as f64;
        println!("    {name}: {each:.0} µs of processor time per forward");
    }
    line.l1.settled_balance(&line.first);
    memory("of the forwarder after the load", &line.l2);
}

fn nodes(line: &Line) -> [&Node; 3] {
    [&line.l1, &line.l2, &line.l3]
}

fn counted(line: &Line) -> [Counters; 3] {
    nodes(line).map(|node| counters(&[node]))
}

fn report(
    what: &str,
    mut times: Vec<Duration>,
    whole: Duration,
    before: &[Counters; 3],
    line: &Line,
) {
    times.sort();
    let n = times.len() as f64;
    let at = |share: f64| {
        times.get((n * share) as usize).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    let after = counted(line);
    let each = |of: fn(&Counters) -> f64| {
        let rates = before.iter().zip(&after).map(|(b, a)| format!("{:.2}", (of(a) - of(b)) / n));
        rates.collect::<Vec<_>>().join(", ")
    };
    println!(
        "  {what:<28} {:8.1}/s   median {:7.2} ms   p95 {:7.2} ms   commits per forward at payer, middle, payee: {}; signatures: {}",
        n / whole.as_secs_f64(),
        at(0.5),
        at(0.95),
        each(|c| c.commits),
        each(|c| c.signatures),
    );
}

/// What each process of each node has used so far.
fn processor_time(line: &Line) -> Vec<(String, Duration)> {
    let named = nodes(line).into_iter().zip(["payer ", "middle ", "payee "]);
    named.flat_map(|(node, name)| processor_time_of(node, name)).collect()
}

/// What each process of this one has used so far.
pub fn processor_time_of(node: &Node, name: &str) -> Vec<(String, Duration)> {
    let mut out = Vec::new();
    for pid in std::iter::once(node.pid()).chain(node.children("")) {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((head, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        let process = head.split_once('(').map_or("", |(_, n)| n);
        // utime and stime, in hundredths of a second.
        out.push((format!("{name}{process}"), Duration::from_millis((ticks(11) + ticks(12)) * 10)));
    }
    out
}
