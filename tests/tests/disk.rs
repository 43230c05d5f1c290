//! A disk that fills up: the node lives, promises nothing new, follows the chain, and goes on when
//! there is room.

use nix::unistd::Pid;
use serde_json::json;
use std::io::{Read, Write};
use std::path::PathBuf;
use tests::{Bitcoind, Node, Pair, Scratch, wait_for};

/// How much room bob's disk has, as it is told.
struct Room(PathBuf);

impl Room {
    fn set(&self, bytes: u64) {
        // Never half written.
        let new = self.0.with_extension("new");
        std::fs::write(&new, bytes.to_string()).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }
}

const PLENTY: u64 = 100 << 30;

/// A channel of alice's with bob, whose disk is told.
fn begin(scratch: &Scratch) -> (Pair, Room, String) {
    let room = Room(scratch.path().join("room"));
    room.set(PLENTY);
    let option = format!("--dev-free-space-file={}", room.0.display());
    let pair = Pair::with(&[], &[&option]);
    let id = pair.open(1_000_000);
    (pair, room, id)
}

fn wait_warning(pair: &Pair, text: &str) {
    wait_for(text, || {
        let info = pair.bob.rpc("getinfo", &json!({}));
        (info["warning_disk_space"].as_str().unwrap_or_default() == text).then_some(())
    });
}
const FULL: &str =
    "The disk is full: nothing new is received, sent, forwarded or opened until there is room.";

#[test]
fn full_disk_suspends_payments_but_not_the_chain() {
    let scratch = Scratch::new();
    let (pair, room, _) = begin(&scratch);
    let invoice = pair.bob.rpc("invoice", &json!([1_000_000, "before", "d"]));
    room.set(500 << 20);
    wait_warning(&pair, "There is little space left on the disk: make room.");
    pair.bob.wait_log("only 500 MB are left on the disk of the database");
    room.set(1 << 20);
    wait_warning(&pair, FULL);

    let refused = pair.bob.refused("invoice", &json!([1_000_000, "while full", "d"]));
    assert!(refused.message.contains("the disk is full"), "{refused:?}");
    let refused = pair.bob.refused("newaddr", &json!([]));
    assert!(refused.message.contains("the disk is full"), "{refused:?}");
    let refused = pair.bob.refused("close", &json!([pair.alice.id]));
    assert!(refused.message.contains("the disk is full"), "{refused:?}");
    let mut payer = pair.alice.socket().unwrap();
    let pay = json!({"jsonrpc": "2.0", "id": 1, "method": "pay", "params": [invoice["bolt11"]]});
    payer.write_all(pay.to_string().as_bytes()).unwrap();
    wait_for("alice to offer it", || {
        let list = pair.alice.rpc("listpeerchannels", &json!({}));
        (list["channels"][0]["htlcs"].as_array()?.len() == 1).then_some(())
    });
    // The chain is followed, though nothing of the payment is taken.
    pair.bitcoind.mine(3);
    pair.bob.sync(&pair.bitcoind);
    let invoices = pair.bob.rpc("listinvoices", &json!({}));
    assert_eq!(invoices["invoices"].as_array().map(Vec::len), Some(1), "{invoices}");
    assert_eq!(invoices["invoices"][0]["status"], "unpaid");
    room.set(PLENTY);
    let mut answer = [0; 4096];
    let length = payer.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.contains("\"complete\""), "{answer}");
    wait_warning(&pair, "");
    pair.bob.wait_log("there is room on the disk of the database again");
    pair.bob.rpc("invoice", &json!([1_000_000, "while full", "d"]));
}

#[test]
fn full_disk_hides_no_close_of_the_peer() {
    let scratch = Scratch::new();
    let (pair, room, _) = begin(&scratch);
    let invoice = pair.bob.rpc("invoice", &json!([100_000_000, "some for bob", "d"]));
    pair.alice.pay(invoice["bolt11"].as_str().unwrap());
    room.set(1 << 20);
    wait_warning(&pair, FULL);
    pair.alice.rpc("disconnect", &json!({"id": pair.bob.id, "force": true}));
    pair.alice.rpc("close", &json!({"id": pair.bob.id, "unilateraltimeout": 1}));
    wait_for("bob to see the close", || {
        pair.bitcoind.mine(1);
        let list = pair.bob.rpc("listpeerchannels", &json!({}));
        (list["channels"][0]["state"] == "ONCHAIN").then_some(())
    });
    // What is his of it comes to him.
    wait_for("bob's output", || {
        pair.bitcoind.mine(1);
        let funds = pair.bob.rpc("listfunds", &json!({}));
        let ours = |o: &serde_json::Value| o["status"] == "confirmed";
        funds["outputs"].as_array()?.iter().any(ours).then_some(())
    });
}

#[test]
fn full_database_restarts_lightningd_with_its_reserve() {
    let scratch = Scratch::new();
    let room = Room(scratch.path().join("room"));
    room.set(PLENTY);
    let told = format!("--dev-free-space-file={}", room.0.display());
    // The directory as seen from here: the lightningd that begins anew must find the same one.
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count() - 1);
    let folder = Scratch::new();
    let dir = format!("--lightning-dir={up}{}", folder.path().join("bob").display());
    let pair = Pair::within(folder, &[], &[&told, &dir, "--dev-database-pages=60"]);
    let id = pair.open(1_000_000);
    let pid = pair.bob.pid();
    let filters = filters_of(pid);
    // From here on the database takes no further page.
    let reserve = pair.bob.network_dir().join("lightningd-reserve");
    wait_for("a reserve", || reserve.exists().then_some(()));
    room.set(1 << 20);
    wait_for("a full database", || {
        pair.bitcoind.mine(20);
        pair.bob.logged("restarting from the database").then_some(())
    });
    wait_for("its reserve is given back", || (!reserve.exists()).then_some(()));
    assert!(pair.bob.socket().is_err(), "nobody waits for an answer that cannot come");
    room.set(PLENTY);
    // The same process, under the same filters, and nothing is lost.
    pair.bob.wait_up();
    assert_eq!(pair.bob.pid(), pid);
    assert_eq!(filters_of(pid), filters);
    pair.alice.sync(&pair.bitcoind);
    pair.bob.sync(&pair.bitcoind);
    pair.bob.wait_normal(&id);
    pair.alice.connect(&pair.bob);
    let invoice = pair.bob.rpc("invoice", &json!([1_000_000, "after", "d"]));
    pair.alice.pay(invoice["bolt11"].as_str().unwrap());
}

/// How many filters the kernel holds this process's calls against.
fn filters_of(pid: Pid) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("Seccomp_filters:"));
    line.unwrap_or_default().to_owned()
}

#[test]
fn lightningd_that_waits_for_disk_space_stops_on_request() {
    let scratch = Scratch::new();
    let room = Room(scratch.path().join("room"));
    room.set(PLENTY);
    let told = format!("--dev-free-space-file={}", room.0.display());
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let options = [told.as_str(), "--dev-database-pages=60"];
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &options);
    let reserve = node.network_dir().join("lightningd-reserve");
    wait_for("a reserve", || reserve.exists().then_some(()));
    room.set(1 << 20);
    wait_for("a full database", || {
        bitcoind.mine(20);
        node.logged("restarting from the database").then_some(())
    });
    assert!(!node.terminate().success());
    node.wait_log("stopped by a signal while waiting for free disk space");
}
