//! Our own plugins killed at work: the backend, and the one that pays.

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use tests::{Node, Pair, bin_dir, wait_for};

/// kill -9 of one of a node's plugins.
fn kill_plugin(node: &Node, name: &str) {
    let pids = node.children(name);
    assert_eq!(pids.len(), 1, "{name}: {pids:?}");
    kill(pids[0], Signal::SIGKILL).unwrap();
}

/// What every one of our own is: the node cannot go on without it, says so, and ends.
fn ends_with_a_sentence(node: &Node, name: &str) {
    wait_for("the node to end", || node.is_dead().then_some(()));
    let log = node.log();
    let said = log.lines().rfind(|l| l.contains("Plugin marked as important"));
    let said = said.expect("the log says why");
    assert!(said.contains(&format!("plugin {name} ended")), "{said}");
}

/// The node says why it ends.
#[test]
fn killed_backend_plugin_stops_the_node_without_losses() {
    let pair = Pair::new();
    let id = pair.open(1_000_000);
    pair.alice.pay(&pair.bob.invoice(10_000_000, "before"));
    let had = pair.alice.settled_balance(&id);
    kill_plugin(&pair.alice, "bcli");
    ends_with_a_sentence(&pair.alice, "bcli");
    // What happened in the meantime is caught up with.
    pair.bitcoind.mine(3);
    pair.alice.start_again();
    pair.alice.sync(&pair.bitcoind);
    pair.bob.sync(&pair.bitcoind);
    come_together(&pair, &id);
    assert_eq!(pair.alice.settled_balance(&id), had);
    pair.alice.pay(&pair.bob.invoice(10_000_000, "after"));
    assert_eq!(pair.alice.settled_balance(&id), had - 10_000_000);
}

fn come_together(pair: &Pair, id: &str) {
    let bob = json!({"id": pair.bob.id, "host": "127.0.0.1", "port": pair.bob.port});
    wait_for("a connection", || pair.alice.call("connect", &bob).ok());
    pair.alice.wait_normal(id);
    pair.bob.wait_normal(id);
}

/// A payment whose payee is frozen: offered, and its end is not known.
struct Underway {
    pair: Pair,
    id: String,
    bolt11: String,
    caller: UnixStream,
}

const PAID: u64 = 50_000_000;

impl Underway {
    fn begin(options: &[&str]) -> Self {
        let pair = Pair::with(options, &[]);
        let id = pair.open(1_000_000);
        let bolt11 = pair.bob.invoice(PAID, "frozen");
        Self::freeze(&pair, Signal::SIGSTOP);
        let mut caller = pair.alice.socket().unwrap();
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "pay", "params": [bolt11]});
        caller.write_all(request.to_string().as_bytes()).unwrap();
        let underway = Self { pair, id, bolt11, caller };
        underway.wait_part("pending");
        underway
    }
    fn freeze(pair: &Pair, signal: Signal) {
        let channeld = pair.bob.children("lightning_channeld");
        assert_eq!(channeld.len(), 1);
        kill(channeld[0], signal).unwrap();
    }
    fn parts(&self) -> Vec<Value> {
        let list = self.pair.alice.rpc("listsendpays", &json!({"bolt11": self.bolt11}));
        list["payments"].as_array().unwrap().clone()
    }
    fn wait_part(&self, status: &str) {
        wait_for(&format!("the part to be {status}"), || {
            let parts = self.parts();
            (parts.len() == 1 && parts[0]["status"] == status).then_some(())
        });
    }
    /// What `pay`'s caller heard, when it ended.
    fn heard(&mut self) -> String {
        let (mut said, mut chunk) = (Vec::new(), [0; 4096]);
        while !said.ends_with(b"\n\n") {
            match self.caller.read(&mut chunk) {
                Ok(n) if n > 0 => said.extend_from_slice(&chunk[..n]),
                _ => break,
            }
        }
        String::from_utf8(said).unwrap()
    }
    /// One payment, of one part, once: everybody says so, and paying again pays nothing.
    fn was_paid_once(&self) {
        let alice = &self.pair.alice;
        self.wait_part("complete");
        let pays = alice.rpc("listpays", &json!({"bolt11": self.bolt11}));
        let pays = pays["pays"].as_array().unwrap();
        assert_eq!(pays.len(), 1, "{pays:?}");
        assert_eq!(
            (&pays[0]["status"], &pays[0]["amount_msat"]),
            (&json!("complete"), &json!(PAID))
        );
        let again = alice.pay(&self.bolt11);
        assert_eq!(again["payment_preimage"], pays[0]["preimage"]);
        assert_eq!(self.parts().len(), 1);
        let invoice = self.pair.bob.rpc("listinvoices", &json!(["frozen"]))["invoices"][0].clone();
        assert_eq!(
            (&invoice["status"], &invoice["amount_received_msat"]),
            (&json!("paid"), &json!(PAID))
        );
        assert_eq!(self.pair.bob.settled_balance(&self.id), PAID);
        assert_eq!(alice.settled_balance(&self.id), 1_000_000_000 - PAID);
    }
}

#[test]
fn payment_continues_without_the_plugin_that_began_it() {
    // The same executable under a name of its own, as a plugin that the node can do without.
    let folder = tests::Scratch::new();
    let path = folder.path().join("payer");
    std::os::unix::fs::symlink(bin_dir().join("pay"), &path).unwrap();
    let path = path.to_str().unwrap();
    let mut t = Underway::begin(&["--disable-plugin=pay", &format!("--plugin={path}")]);
    kill_plugin(&t.pair.alice, "payer");
    // Nobody knows what came of it yet, and the caller is told only that nobody tells it.
    let heard = t.heard();
    assert!(heard.contains("Plugin terminated before replying to RPC call"), "{heard}");
    assert_eq!(t.pair.alice.refused("pay", &json!([t.bolt11])).code, -32601);
    assert_eq!(t.parts()[0]["status"], "pending");
    // The plugin is back before the part has ended: the invoice is not paid twice meanwhile.
    t.pair.alice.rpc("plugin", &json!({"subcommand": "start", "plugin": path}));
    let pending = t.pair.alice.rpc("listpays", &json!({"bolt11": t.bolt11}));
    assert_eq!(pending["pays"][0]["status"], "pending");
    t.pair.alice.refused("pay", &json!([t.bolt11]));
    assert_eq!(t.parts().len(), 1);
    Underway::freeze(&t.pair, Signal::SIGCONT);
    t.was_paid_once();
}

#[test]
fn payment_continues_after_node_and_plugin_are_killed() {
    let mut t = Underway::begin(&[]);
    kill_plugin(&t.pair.alice, "pay");
    ends_with_a_sentence(&t.pair.alice, "pay");
    assert!(!t.heard().contains("result"));
    Underway::freeze(&t.pair, Signal::SIGCONT);
    t.pair.alice.start_again();
    t.pair.alice.sync(&t.pair.bitcoind);
    come_together(&t.pair, &t.id);
    t.was_paid_once();
}
