//! An LDK node of a test's own, in a process of its own: a peer that shares no code with the suite.
//!
//! What it understands is written in `tests/ldk-peer/src/commands.rs`.

use crate::{Bitcoind, Node, PATIENCE, bin_dir, free_port, wait_for};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A peer that ends with this value.
pub struct LdkPeer {
    dir: PathBuf,
    args: Vec<String>,
    running: RefCell<Running>,
    /// Where it listens.
    pub port: u16,
    /// Who it is.
    pub id: String,
    next_id: Cell<u64>,
}

/// One life of the process.
struct Running {
    process: Child,
    stdin: ChildStdin,
    said: Arc<Said>,
}

/// What it has said and nobody has taken yet.
#[derive(Default)]
struct Said {
    lines: Mutex<Lines>,
    news: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<Value>,
    ended: bool,
}

impl Said {
    fn listen(&self, stdout: ChildStdout) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let line = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            self.lines.lock().unwrap().lines.push(line);
            self.news.notify_all();
        }
        self.lines.lock().unwrap().ended = true;
        self.news.notify_all();
    }
    /// The first line that fits, once it is there; it is taken away.
    fn take(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(at) = lines.lines.iter().position(&fits) {
                return lines.lines.remove(at);
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if lines.ended || left.is_zero() {
                let (ended, said) = (lines.ended, lines.lines.clone());
                drop(lines);
                let why = if ended { "it ended" } else { "in vain" };
                panic!("waited for {what} from ldkpeer: {why}; it said {said:?}");
            }
            lines = self.news.wait_timeout(lines, left).unwrap().0;
        }
    }
}

/// Where `cargo xtask test` builds it: beside the suite's own executables, in a folder of its own.
fn executable() -> PathBuf {
    let target = bin_dir();
    let target = target.parent().expect("target/debug has a parent");
    let found = target.join("ldk-peer/debug/ldkpeer");
    assert!(
        found.is_file(),
        "this test needs {}: `cargo xtask test` builds it, and runs the tests",
        found.display()
    );
    found
}

impl LdkPeer {
    /// Starts one, and waits until it is at bitcoind's tip.
    pub fn start(dir: &Path, bitcoind: &Bitcoind) -> Self {
        Self::start_with(dir, bitcoind, &[])
    }
    /// The same with options: `--no-anchors`.
    pub fn start_with(dir: &Path, bitcoind: &Bitcoind, extra: &[&str]) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let port = free_port();
        let mut args = vec![dir.display().to_string(), port.to_string(), bitcoind.port.to_string()];
        args.extend(extra.iter().map(|s| (*s).to_owned()));
        let (running, id) = Self::spawn(&args);
        let running = RefCell::new(running);
        let dir = dir.to_path_buf();
        let peer = Self { dir, args, running, port, id, next_id: Cell::new(0) };
        peer.sync(bitcoind);
        peer
    }
    fn spawn(args: &[String]) -> (Running, String) {
        let mut process = Command::new(executable())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("ldkpeer: {e}"));
        let stdin = process.stdin.take().unwrap();
        let stdout = process.stdout.take().unwrap();
        let said = Arc::new(Said::default());
        let listener = Arc::clone(&said);
        std::thread::spawn(move || listener.listen(stdout));
        let started = said.take("its start", |l| l["event"] == "started");
        (Running { process, stdin, said }, started["node_id"].as_str().unwrap().to_owned())
    }
    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Tells it to do one thing: what came of it.
    pub fn try_ask(&self, what: &str, mut params: Value) -> Result<Value, String> {
        self.next_id.set(self.next_id.get() + 1);
        let id = self.next_id.get();
        params["id"] = json!(id);
        params["do"] = json!(what);
        let mut running = self.running.borrow_mut();
        writeln!(running.stdin, "{params}").expect("ldkpeer reads");
        let mut answer =
            running.said.take(&format!("the answer to {params}"), |l| l["id"] == json!(id));
        match answer.get("error") {
            Some(e) => Err(e.as_str().unwrap().to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }
    /// Tells it to do one thing that works.
    pub fn ask(&self, what: &str, params: Value) -> Value {
        let shown = params.to_string();
        self.try_ask(what, params).unwrap_or_else(|e| panic!("ldkpeer: {what} {shown}: {e}"))
    }
    /// Waits for an event of this name for which this holds. Each is had once.
    pub fn wait_event(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let said = Arc::clone(&self.running.borrow().said);
        said.take(name, |l| l["event"] == name && holds(l))
    }

    /// Waits until it is at bitcoind's tip.
    pub fn sync(&self, bitcoind: &Bitcoind) {
        let tip = bitcoind.rpc("getbestblockhash", &json!([]));
        wait_for("ldkpeer to be in sync", || {
            // It refuses while its own poll is under way.
            let _ = self.try_ask("sync", json!({}));
            (self.ask("info", json!({}))["block"] == tip).then_some(())
        });
    }
    /// A block reward of its own, mature.
    pub fn fund(&self, bitcoind: &Bitcoind) {
        let address = self.ask("newaddr", json!({}));
        bitcoind.mine_to(1, address.as_str().unwrap());
        bitcoind.mine(100);
        self.sync(bitcoind);
        wait_for("ldkpeer to have coins", || (self.spendable_sat() > 0).then_some(()));
    }
    fn spendable_sat(&self) -> u64 {
        self.ask("balances", json!({}))["spendable_sat"].as_u64().unwrap()
    }
    /// All its confirmed and unconfirmed coins.
    pub fn onchain_sat(&self) -> u64 {
        self.ask("balances", json!({}))["onchain_sat"].as_u64().unwrap()
    }

    /// Where another is, as it wants to be told.
    pub fn place(id: &str, port: u16) -> Value {
        json!({"node_id": id, "address": format!("127.0.0.1:{port}")})
    }
    /// Connects to a node of the suite.
    pub fn connect(&self, to: &Node) {
        self.ask("connect", Self::place(&to.id, to.port));
    }
    /// Is it connected to this node?
    pub fn is_connected(&self, id: &str) -> bool {
        let peers = self.ask("peers", json!({}));
        peers.as_array().unwrap().iter().any(|p| p["node_id"] == id && p["connected"] == true)
    }
    /// Opens a channel to whoever is there, and waits for its funding transaction: the channel's
    /// id.
    pub fn open(&self, id: &str, port: u16, sat: u64, push_msat: u64, announce: bool) -> String {
        let mut params = Self::place(id, port);
        params["sat"] = json!(sat);
        params["push_msat"] = json!(push_msat);
        params["announce"] = json!(announce);
        let user = self.ask("open", params)["user_channel_id"].clone();
        let wanted = ["channel_pending", "channel_closed"];
        let said = Arc::clone(&self.running.borrow().said);
        let event = said.take("the opening", |l| {
            l["user_channel_id"] == user && wanted.iter().any(|w| l["event"] == *w)
        });
        assert_eq!(event["event"], "channel_pending", "{event}");
        event["channel_id"].as_str().unwrap().to_owned()
    }
    /// The channel of this id.
    pub fn channel(&self, id: &str) -> Value {
        let list = self.ask("channels", json!({}));
        let found = list.as_array().unwrap().iter().find(|c| c["channel_id"] == id);
        found.cloned().unwrap_or(Value::Null)
    }
    /// Waits until a channel can carry payments.
    pub fn wait_usable(&self, id: &str) {
        wait_for("ldkpeer's channel to be usable", || {
            (self.channel(id)["usable"] == true).then_some(())
        });
    }
    /// Waits until this is what it has in a channel, HTLCs that it offers not counted.
    pub fn wait_balance(&self, id: &str, msat: u64) {
        let mut seen = Value::Null;
        let begun = Instant::now();
        while seen != msat {
            seen = self.channel(id)["to_self_msat"].clone();
            assert!(begun.elapsed() < PATIENCE, "ldkpeer has {seen}, and should have {msat}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    /// Tells it to close a channel, in agreement.
    pub fn close(&self, channel_id: &str) {
        self.try_close(channel_id).unwrap_or_else(|e| panic!("ldkpeer: close: {e}"));
    }
    /// The same; it may refuse.
    pub fn try_close(&self, channel_id: &str) -> Result<Value, String> {
        self.try_ask("close", self.named(channel_id))
    }
    /// Tells it to publish its commitment.
    pub fn force_close(&self, channel_id: &str) {
        self.ask("force_close", self.named(channel_id));
    }
    fn named(&self, channel_id: &str) -> Value {
        let channel = self.channel(channel_id);
        json!({"user_channel_id": channel["user_channel_id"], "node_id": channel["node_id"]})
    }

    /// An invoice's string, of any amount for `None`.
    pub fn invoice(&self, msat: Option<u64>, expiry: u32) -> String {
        let made = self.ask("invoice", json!({"msat": msat, "expiry": expiry}));
        made["bolt11"].as_str().unwrap().to_owned()
    }
    /// Begins to pay: the payment's hash.
    pub fn begin_pay(&self, bolt11: &str, msat: Option<u64>) -> String {
        let begun = self.ask("pay", json!({"bolt11": bolt11, "msat": msat}));
        begun["payment_hash"].as_str().unwrap().to_owned()
    }
    /// Waits for the end of a payment of its own: the event that says it.
    pub fn wait_paid(&self, hash: &str) -> Value {
        let said = Arc::clone(&self.running.borrow().said);
        said.take("the end of a payment", |l| {
            let is_end = l["event"] == "payment_successful" || l["event"] == "payment_failed";
            is_end && l["payment_hash"] == hash
        })
    }
    /// Pays, and it works: the preimage.
    pub fn pay(&self, bolt11: &str) -> String {
        let hash = self.begin_pay(bolt11, None);
        let end = self.wait_paid(&hash);
        assert_eq!(end["event"], "payment_successful", "{end}");
        end["preimage"].as_str().unwrap().to_owned()
    }

    /// Ends it in order.
    pub fn stop(&self) {
        assert_eq!(self.ask("stop", json!({})), "stopped");
        self.running.borrow_mut().process.wait().unwrap();
    }
    /// It is gone at once. LDK may close its channels for it: what it keeps of them is not written
    /// in one step.
    pub fn kill(&self) {
        let mut running = self.running.borrow_mut();
        running.process.kill().unwrap();
        running.process.wait().unwrap();
    }
    /// It is there again, with what is on its disk.
    pub fn start_again(&self) {
        let (running, id) = Self::spawn(&self.args);
        assert_eq!(id, self.id, "the same node");
        *self.running.borrow_mut() = running;
    }
}
impl Drop for LdkPeer {
    fn drop(&mut self) {
        let process = &mut self.running.get_mut().process;
        let _ = process.kill();
        let _ = process.wait();
        if std::thread::panicking() {
            let log = self.log();
            // What it says of its connections, its channels and its faults; the rest is noise here.
            let lines: Vec<&str> = log.lines().filter(|l| !l.contains("TRACE")).collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- log of ldkpeer {}:\n{tail}", self.id);
        }
    }
}
