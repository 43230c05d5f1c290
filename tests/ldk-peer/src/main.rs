//! A peer that shares no code with the suite: one LDK node in a process of its own, for the
//! black-box tests.
//!
//! It is told what to do by lines of JSON on stdin, answers each by a line on stdout, and says
//! there what happens to it:
//!
//! ```text
//! > {"id": 1, "do": "invoice", "msat": 1000, "expiry": 3600}
//! < {"id": 1, "ok": {"bolt11": "lnbcrt...", "payment_hash": "..."}}
//! < {"event": "payment_received", "payment_hash": "...", "msat": 1000}
//! ```
//!
//! What is refused is answered with `"error"`. All it knows, its seed included, is in its storage
//! folder: killed and started on the same folder it is the same node. It ends with its stdin.
//!
//! It is no node for anybody's money.

mod commands;
mod events;

use ldk_node::bitcoin::Network;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::logger::LogLevel;
use ldk_node::{Builder, Node};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::str::FromStr;
use std::sync::Arc;

/// What went wrong, for the test that reads it.
type Error = String;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let node = match start(&args) {
        Ok(node) => Arc::new(node),
        Err(e) => {
            eprintln!("ldkpeer: {e}");
            std::process::exit(1);
        }
    };
    say(&json!({"event": "started", "node_id": node.node_id().to_string()}));
    let teller = Arc::clone(&node);
    std::thread::spawn(move || events::tell(&teller));
    obey(&node);
}

/// The node of these arguments: storage folder, port to listen on, bitcoind's RPC port, and
/// `--no-anchors` perhaps.
fn start(args: &[String]) -> Result<Node, Error> {
    let [dir, port, bitcoind_port, options @ ..] = args else {
        return Err("usage: ldkpeer DIR PORT BITCOIND_PORT [--no-anchors]".to_owned());
    };
    let mut config = ldk_node::config::Config { network: Network::Regtest, ..Default::default() };
    config.storage_dir_path.clone_from(dir);
    for option in options {
        match option.as_str() {
            "--no-anchors" => config.anchor_channels_config = None,
            other => return Err(format!("no such option: {other}")),
        }
    }
    let port: u16 = port.parse().map_err(|_| format!("not a port: {port}"))?;
    let rpc_port: u16 =
        bitcoind_port.parse().map_err(|_| format!("not a port: {bitcoind_port}"))?;
    let address = SocketAddress::from_str(&format!("127.0.0.1:{port}")).map_err(debug)?;
    let mut builder = Builder::from_config(config);
    builder
        .set_chain_source_bitcoind_rpc("127.0.0.1".into(), rpc_port, "u".into(), "p".into())
        .set_filesystem_logger(Some(format!("{dir}/log")), Some(LogLevel::Trace));
    builder.set_listening_addresses(vec![address]).map_err(debug)?;
    builder.set_node_alias("ldkpeer".to_owned()).map_err(debug)?;
    let node = builder.build().map_err(debug)?;
    node.start().map_err(debug)?;
    Ok(node)
}

/// Does what the lines of stdin say, one after the other, to their end.
fn obey(node: &Node) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let answer = match serde_json::from_str::<Value>(&line) {
            Err(e) => json!({"id": null, "error": format!("{e}: {line}")}),
            Ok(request) => match commands::run(node, &request) {
                Ok(result) => json!({"id": request["id"], "ok": result}),
                Err(e) => json!({"id": request["id"], "error": e}),
            },
        };
        let stopped = answer["ok"] == "stopped";
        say(&answer);
        if stopped {
            return;
        }
    }
}

/// One line on stdout. Whoever read it may be gone, and then this process is of no use.
fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// LDK's errors are for programmers.
fn debug(e: impl std::fmt::Debug) -> Error {
    format!("{e:?}")
}
