//! A chain of one's own and nodes on it, driven from outside: by `bitcoin-cli` and `lightning-cli`,
//! as a person would.

use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes as long; what does is stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// An address of nobody's, for blocks whose coins are not wanted.
const NOBODY: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// A bitcoind that ends with this value, unless it is told to stay.
pub(crate) struct Bitcoind {
    process: Child,
    dir: PathBuf,
    cli: PathBuf,
    /// Where it serves RPC.
    pub(crate) port: u16,
    stays: bool,
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
    listener.local_addr().map(|a| a.port()).map_err(|e| e.to_string())
}

/// Asks until the answer is `Some`.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("waited {} seconds for {what}", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Bitcoind {
    /// Starts one in this folder, and waits until it answers.
    pub(crate) fn start(bitcoind: &Path, dir: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let port = free_port()?;
        let process = Command::new(bitcoind)
            .arg("-regtest")
            .arg(format!("-datadir={}", dir.display()))
            .arg(format!("-rpcport={port}"))
            .args(["-listen=0", "-txindex=1", "-printtoconsole=0"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{}: {e}", bitcoind.display()))?;
        let cli = bitcoind.with_file_name("bitcoin-cli");
        let started = Self { process, dir, cli, port, stays: false };
        wait_for("bitcoind", || started.cli(&["getblockcount"]).ok())?;
        Ok(started)
    }
    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
    /// One command, its answer as text.
    pub(crate) fn cli(&self, args: &[&str]) -> Result<String, String> {
        let out = Command::new(&self.cli)
            .arg("-regtest")
            .arg(format!("-datadir={}", self.dir.display()))
            .arg(format!("-rpcport={}", self.port))
            .args(args)
            .output()
            .map_err(|e| format!("{}: {e}", self.cli.display()))?;
        if !out.status.success() {
            return Err(format!(
                "bitcoin-cli {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&out.stderr).trim()
            ));
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }
    /// Blocks for an address, or for nobody.
    pub(crate) fn mine(&self, blocks: u32, address: Option<&str>) -> Result<(), String> {
        self.cli(&["generatetoaddress", &blocks.to_string(), address.unwrap_or(NOBODY)]).map(drop)
    }
    /// How a person talks to it.
    pub(crate) fn cli_line(&self) -> String {
        format!(
            "{} -regtest -datadir={} -rpcport={}",
            self.cli.display(),
            self.dir.display(),
            self.port
        )
    }
    /// It outlives us.
    pub(crate) fn stay(mut self) {
        self.stays = true;
    }
}
impl Drop for Bitcoind {
    fn drop(&mut self) {
        if !self.stays && self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}

/// A node that ends with this value, unless it is told to stay.
pub(crate) struct Node {
    process: Child,
    bin: PathBuf,
    dir: PathBuf,
    /// What it is called in the story.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) port: u16,
    stays: bool,
}

impl Node {
    /// Starts one, and waits until it answers.
    pub(crate) fn start(
        bin: &Path,
        dir: PathBuf,
        name: &'static str,
        bitcoind: &Bitcoind,
    ) -> Result<Self, String> {
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let port = free_port()?;
        let log = dir.join("log");
        let process = Command::new(bin.join("lightningd"))
            .arg(format!("--lightning-dir={}", dir.display()))
            .args([
                "--network=regtest",
                "--developer",
                "--allow-root",
                "--dev-bitcoind-poll=1",
                "--log-level=debug",
            ])
            .arg(format!("--alias={name}"))
            .arg(format!("--addr=127.0.0.1:{port}"))
            .arg(format!("--log-file={}", log.display()))
            .arg(format!("--bitcoin-datadir={}", bitcoind.dir().display()))
            .arg(format!("--bitcoin-rpcport={}", bitcoind.port))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| format!("{}: {e}", bin.join("lightningd").display()))?;
        let node = Self { process, bin: bin.to_path_buf(), dir, name, port, stays: false };
        wait_for(name, || node.rpc(&["getinfo"]).ok())?;
        Ok(node)
    }
    /// One command by `lightning-cli`.
    pub(crate) fn rpc(&self, args: &[&str]) -> Result<Value, String> {
        let out = Command::new(self.bin.join("lightning-cli"))
            .arg(format!("--lightning-dir={}", self.dir.display()))
            .args(["--network=regtest", "-N", "none", "-J"])
            .args(args)
            .output()
            .map_err(|e| format!("lightning-cli: {e}"))?;
        let text = String::from_utf8_lossy(&out.stdout);
        if !out.status.success() {
            return Err(format!(
                "{}: lightning-cli {}: {}",
                self.name,
                args.join(" "),
                text.trim()
            ));
        }
        serde_json::from_str(&text).map_err(|e| format!("{}: {}: {e}", self.name, args.join(" ")))
    }
    /// A string in the answer.
    pub(crate) fn text(&self, args: &[&str], member: &str) -> Result<String, String> {
        let answer = self.rpc(args)?;
        answer[member]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("{}: {args:?} has no '{member}': {answer}", self.name))
    }
    /// How a person talks to it.
    pub(crate) fn cli_line(&self) -> String {
        format!(
            "{} --lightning-dir={} --regtest",
            self.bin.join("lightning-cli").display(),
            self.dir.display()
        )
    }
    /// It outlives us.
    pub(crate) fn stay(mut self) {
        self.stays = true;
    }
}
impl Drop for Node {
    fn drop(&mut self) {
        if !self.stays && self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}
