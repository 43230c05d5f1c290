//! A lightningd of a test's own, with its whole suite.

use crate::{Bitcoind, bin_dir, free_port, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// What a call was answered with, if it was no result.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// CLN's number.
    pub code: i64,
    /// For people.
    pub message: String,
    /// For programs.
    pub data: Value,
}

/// How a node is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its `--lightning-dir`.
    pub dir: PathBuf,
    /// Everything on the command line.
    pub args: Vec<String>,
    /// What it reads on stdin.
    pub stdin: Vec<u8>,
    /// Its stdout is a pipe that nobody reads.
    pub unread: bool,
}

impl Options {
    /// What every test node has: regtest, this bitcoind, a port of its own, developer's options, a
    /// log.
    pub fn usual(dir: &Path, bitcoind: &Bitcoind, port: u16) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let args = vec![
            format!("--lightning-dir={}", dir.display()),
            "--network=regtest".to_owned(),
            "--developer".to_owned(),
            "--allow-root".to_owned(),
            "--dev-bitcoind-poll=1".to_owned(),
            "--dev-fast-gossip".to_owned(),
            "--log-level=debug".to_owned(),
            format!("--log-file={}/log", dir.display()),
            format!("--addr=127.0.0.1:{port}"),
            "--bitcoin-rpcuser=u".to_owned(),
            "--bitcoin-rpcpassword=p".to_owned(),
            format!("--bitcoin-rpcport={}", bitcoind.port),
        ];
        Self { dir: dir.to_path_buf(), args, stdin: Vec::new(), unread: false }
    }
    /// Starts it, and says how it ended: for nodes that refuse to start.
    pub fn run_to_end(&self) -> (ExitStatus, String) {
        let out = Command::new(bin_dir().join("lightningd"))
            .args(&self.args)
            .stdin(self.stdin())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status, said)
    }
    fn stdin(&self) -> Stdio {
        if self.stdin.is_empty() {
            return Stdio::null();
        }
        // Far less than what a pipe holds.
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&self.stdin).unwrap();
        reader.into()
    }
    fn stdout(&self) -> Stdio {
        if !self.unread {
            return Stdio::null();
        }
        let (reader, writer) = std::io::pipe().unwrap();
        use nix::fcntl::{FcntlArg, fcntl};
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        // Open for as long as the test lives.
        std::mem::forget(reader);
        writer.into()
    }
    /// `--network` of its command line; without, mainnet.
    fn network(&self) -> &str {
        self.args.iter().rev().find_map(|arg| arg.strip_prefix("--network=")).unwrap_or("bitcoin")
    }
}

/// A node that ends with this value.
pub struct Node {
    options: Options,
    process: RefCell<Child>,
    /// Where it listens.
    pub port: u16,
    /// Who it is.
    pub id: String,
    next_id: Cell<u64>,
}

impl Node {
    /// Starts one, and waits until it is in sync.
    pub fn start(dir: &Path, bitcoind: &Bitcoind, extra: &[&str]) -> Self {
        let port = free_port();
        let mut options = Options::usual(dir, bitcoind, port);
        options.args.extend(extra.iter().map(|s| (*s).to_owned()));
        let node = Self::start_as(options, port);
        node.sync(bitcoind);
        node
    }
    /// Starts one with these options, and waits until it answers.
    pub fn start_as(options: Options, port: u16) -> Self {
        let process = Self::spawn(&options);
        let mut node = Self {
            options,
            process: RefCell::new(process),
            port,
            id: String::new(),
            next_id: Cell::new(0),
        };
        node.wait_up();
        node.id = node.rpc("getinfo", &json!({}))["id"].as_str().unwrap().to_owned();
        node
    }
    fn spawn(options: &Options) -> Child {
        let lightningd = bin_dir().join("lightningd");
        Command::new(&lightningd)
            .args(&options.args)
            .stdin(options.stdin())
            .stdout(options.stdout())
            .spawn()
            .unwrap_or_else(|e| {
                panic!("{}: {e}; run `cargo build --workspace --bins`", lightningd.display())
            })
    }
    /// Waits until it answers.
    pub fn wait_up(&self) {
        wait_for("lightningd to answer", || {
            if let Some(status) = self.process.borrow_mut().try_wait().unwrap() {
                panic!("lightningd ended with {status}:\n{}", self.log());
            }
            self.call("getinfo", &json!({})).ok()
        });
    }
    /// Its folder for this network.
    pub fn network_dir(&self) -> PathBuf {
        self.options.dir.join(self.options.network())
    }
    /// How it was started.
    pub const fn options(&self) -> &Options {
        &self.options
    }
    /// Did its process end?
    pub fn is_dead(&self) -> bool {
        self.process.borrow_mut().try_wait().unwrap().is_some()
    }
    /// How long its log is, in bytes.
    pub fn log_size(&self) -> u64 {
        std::fs::metadata(self.options.dir.join("log")).map_or(0, |m| m.len())
    }
    /// What it logged from this byte on.
    pub fn log_from(&self, at: u64) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = std::fs::File::open(self.options.dir.join("log")) {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_to_end(&mut text).unwrap();
        }
        String::from_utf8_lossy(&text).into_owned()
    }
    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.options.dir.join("log")).unwrap_or_default()
    }
    /// Is this in its log?
    pub fn logged(&self, what: &str) -> bool {
        self.log().contains(what)
    }

    /// A fresh connection to its socket.
    pub fn socket(&self) -> std::io::Result<UnixStream> {
        let stream = UnixStream::connect(self.network_dir().join("lightning-rpc"))?;
        stream.set_read_timeout(Some(crate::PATIENCE))?;
        Ok(stream)
    }
    /// One call on a connection of its own: what came of it.
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        self.call_within(crate::PATIENCE, method, params)
    }
    /// The same for whoever does not wait longer than this for the answer. What was asked may be
    /// done all the same.
    pub fn call_within(
        &self,
        time: Duration,
        method: &str,
        params: &Value,
    ) -> Result<Value, RpcError> {
        let broken =
            |e: std::io::Error| RpcError { code: 0, message: e.to_string(), data: Value::Null };
        let mut stream = self.socket().map_err(broken)?;
        stream.set_read_timeout(Some(time)).map_err(broken)?;
        self.next_id.set(self.next_id.get() + 1);
        let id = format!("test:{method}#{}", self.next_id.get());
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        stream.write_all(request.to_string().as_bytes()).map_err(broken)?;
        let mut answer = Vec::new();
        let mut chunk = [0; 65536];
        while !answer.ends_with(b"\n\n") {
            let n = stream.read(&mut chunk).map_err(broken)?;
            if n == 0 {
                return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
            }
            answer.extend_from_slice(&chunk[..n]);
        }
        let mut answer: Value =
            serde_json::from_slice(&answer).unwrap_or_else(|e| panic!("{method}: {e}"));
        assert_eq!(answer["id"], id.as_str(), "an answer to another question");
        match answer.get("error") {
            None => Ok(answer["result"].take()),
            Some(e) => Err(RpcError {
                code: e["code"].as_i64().unwrap(),
                message: e["message"].as_str().unwrap().to_owned(),
                data: e["data"].clone(),
            }),
        }
    }
    /// One call that works.
    pub fn rpc(&self, method: &str, params: &Value) -> Value {
        self.call(method, params)
            .unwrap_or_else(|e| panic!("{method} {params}: {e:?}\n{}", self.tail()))
    }
    /// Many calls that work, at once on one connection. Their results, in the order they came.
    pub fn rpc_all(&self, method: &str, params: impl Iterator<Item = Value>) -> Vec<Value> {
        let mut stream = self.socket().unwrap();
        let mut expected = 0;
        for params in params {
            expected += 1;
            let request =
                json!({"jsonrpc": "2.0", "id": expected, "method": method, "params": params});
            stream.write_all(request.to_string().as_bytes()).unwrap();
        }
        let (mut results, mut text, mut chunk) = (Vec::new(), Vec::new(), [0; 65536]);
        while results.len() < expected {
            let n = stream.read(&mut chunk).unwrap();
            assert!(n > 0, "{method}: the node hung up\n{}", self.tail());
            text.extend_from_slice(&chunk[..n]);
            while let Some(end) = text.windows(2).position(|w| w == b"\n\n") {
                let one: Vec<u8> = text.drain(..end + 2).collect();
                let mut answer: Value = serde_json::from_slice(&one).unwrap();
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                results.push(answer["result"].take());
            }
        }
        results
    }
    /// One call that is refused.
    pub fn refused(&self, method: &str, params: &Value) -> RpcError {
        match self.call(method, params) {
            Err(e) => e,
            Ok(v) => panic!("{method} {params} was answered with {v}"),
        }
    }
    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Waits until it is at bitcoind's tip.
    pub fn sync(&self, bitcoind: &Bitcoind) {
        wait_for("the node to be in sync", || {
            let info = self.rpc("getinfo", &json!({}));
            let behind = info.get("warning_lightningd_sync").is_some()
                || info.get("warning_bitcoind_sync").is_some();
            (info["blockheight"].as_u64() == Some(bitcoind.height()) && !behind).then_some(())
        });
    }
    /// A block reward of its own, mature.
    pub fn fund(&self, bitcoind: &Bitcoind) {
        let address = self.rpc("newaddr", &json!({"addresstype": "p2tr"}))["p2tr"]
            .as_str()
            .unwrap()
            .to_owned();
        bitcoind.mine_to(1, &address);
        bitcoind.mine(100);
        self.sync(bitcoind);
        let funds = self.rpc("listfunds", &json!({}));
        assert!(
            funds["outputs"].as_array().unwrap().iter().any(|o| o["status"] == "confirmed"),
            "{funds}"
        );
    }
    /// Connects to another.
    pub fn connect(&self, other: &Self) {
        let to = json!({"id": other.id, "host": "127.0.0.1", "port": other.port});
        assert_eq!(self.rpc("connect", &to)["id"], other.id.as_str());
    }
    /// Opens a channel; it waits for its confirmations. The channel's id.
    pub fn open(&self, other: &Self, sat: u64) -> String {
        let opened = self.rpc("fundchannel", &json!({"id": other.id, "amount": sat}));
        opened["channel_id"].as_str().unwrap().to_owned()
    }
    /// The channel of this id.
    pub fn channel(&self, id: &str) -> Value {
        let list = self.rpc("listpeerchannels", &json!({"channel_id": id}));
        list["channels"].get(0).cloned().unwrap_or(Value::Null)
    }
    /// Waits until a channel can carry payments.
    pub fn wait_normal(&self, id: &str) {
        wait_for("the channel to be ready", || {
            let channel = self.channel(id);
            (channel["state"] == "CHANNELD_NORMAL" && channel["reestablished"] == true)
                .then_some(())
        });
    }
    /// Waits until a channel is in this state.
    pub fn wait_state(&self, id: &str, state: &str) {
        wait_for(&format!("the state {state}"), || {
            (self.channel(id)["state"] == state).then_some(())
        });
    }
    /// Waits until no HTLC is under way, and says what is ours.
    pub fn settled_balance(&self, id: &str) -> u64 {
        wait_for("HTLCs to settle", || {
            let channel = self.channel(id);
            channel["htlcs"].as_array()?.is_empty().then(|| channel["to_us_msat"].as_u64())?
        })
    }
    /// An invoice's string.
    pub fn invoice(&self, msat: u64, label: &str) -> String {
        let made = self
            .rpc("invoice", &json!({"amount_msat": msat, "label": label, "description": label}));
        made["bolt11"].as_str().unwrap().to_owned()
    }
    /// Pays, and the receipt.
    pub fn pay(&self, bolt11: &str) -> Value {
        let paid = self.rpc("pay", &json!({"bolt11": bolt11}));
        assert_eq!(paid["status"], "complete", "{paid}");
        paid
    }

    /// Ends it in order, by `stop`: with the exit code of a node that has nothing to complain of.
    pub fn stop(&self) {
        assert_eq!(self.rpc("stop", &json!({})), json!({"result": "Shutdown complete"}));
        assert_eq!(self.wait_end().code(), Some(0), "{}", self.tail());
    }
    fn wait_end(&self) -> ExitStatus {
        wait_for("lightningd to end", || self.process.borrow_mut().try_wait().unwrap())
    }
    /// SIGTERM, and how it ended.
    pub fn terminate(&self) -> ExitStatus {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        self.wait_end()
    }
    /// The master's process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.borrow().id()).unwrap())
    }
    /// kill -9 of the master; its children die with it.
    pub fn kill(&self) {
        self.process.borrow_mut().kill().unwrap();
        self.wait_end();
    }
    /// It is there again, with what is on its disk.
    pub fn start_again(&self) {
        self.spawn_again();
        self.wait_up();
    }
    /// The same without waiting until it answers.
    pub fn spawn_again(&self) {
        *self.process.borrow_mut() = Self::spawn(&self.options);
    }
    /// The same, with more on its command line.
    pub fn start_again_with(&mut self, extra: &[&str]) {
        self.options.args.extend(extra.iter().map(|s| (*s).to_owned()));
        self.start_again();
    }
    /// From its next start on this stands in the place of what begins like it.
    pub fn replace_arg(&mut self, head: &str, value: &str) {
        self.options.args.retain(|arg| !arg.starts_with(head));
        self.options.args.push(format!("{head}{value}"));
    }
    /// Process ids of its children with this executable; all of them for an empty name.
    pub fn children(&self, executable: &str) -> Vec<Pid> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            // pid (name cut to 15 characters) state parent ...
            let Some((head, rest)) = stat.rsplit_once(')') else { continue };
            let parent: Option<i32> = rest.split_whitespace().nth(1).and_then(|p| p.parse().ok());
            let name = head.split_once('(').map_or("", |(_, n)| n);
            if parent == Some(self.pid().as_raw())
                && (executable.is_empty() || (executable.starts_with(name) && !name.is_empty()))
            {
                found.push(Pid::from_raw(pid));
            }
        }
        found
    }
    /// Waits until this is in the log.
    pub fn wait_log(&self, what: &str) {
        wait_for(&format!("'{what}' in the log"), || self.logged(what).then_some(()));
    }
}
impl Drop for Node {
    fn drop(&mut self) {
        let process = self.process.get_mut();
        let _ = process.kill();
        let _ = process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.options.dir.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|l| !l.contains(" chain: block ")).collect();
            eprintln!(
                "--- log of {}:\n{}",
                self.id,
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
    }
}
