//! What all suites measure with: counters of the nodes, many payments at once, memory.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tests::Node;

/// Payments that are made one after another.
pub(crate) const SEQUENTIAL: u64 = 200;
/// Payments that are made many at once.
pub(crate) const LOAD: u64 = 2000;
/// So many at once.
pub(crate) const IN_FLIGHT: usize = 100;

pub(crate) struct Counters {
    pub(crate) commits: f64,
    pub(crate) signatures: f64,
}

pub(crate) fn counters(nodes: &[&Node]) -> Counters {
    let mut sum = Counters { commits: 0.0, signatures: 0.0 };
    for node in nodes {
        let c = node.rpc("dev-counters", &json!({}));
        sum.commits += c["commits"].as_f64().unwrap_or_default();
        sum.signatures += c["signatures"].as_f64().unwrap_or_default();
    }
    sum
}

pub(crate) fn invoices(payee: &Node, count: u64, msat: u64, label: &str) -> Vec<Value> {
    (0..count)
        .map(|n| {
            payee.rpc(
                "invoice",
                &json!({"amount_msat": msat, "label": format!("{label}{n}"), "description": "d"}),
            )
        })
        .collect()
}

/// Pays them all over this route, so many at once, on one connection. How long each took.
pub(crate) fn pay_all(payer: &Node, route: &Value, invoices: &[Value]) -> Vec<Duration> {
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
pub(crate) fn memory(when: &str, node: &Node) {
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
