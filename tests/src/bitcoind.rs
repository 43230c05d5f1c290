//! A bitcoind of a test's own: no wallet, driven over its RPC.

use crate::{free_port, wait_for};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

/// A key of nobody's: 1. Blocks that no test wants go to it.
const NOBODY: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// A bitcoind that ends with this value.
pub struct Bitcoind {
    process: Mutex<Child>,
    executable: PathBuf,
    dir: PathBuf,
    /// Where it serves RPC.
    pub port: u16,
    extra: Vec<String>,
}

fn executable() -> PathBuf {
    let from_env = std::env::var_os("BITCOIND").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|d| d.join("bitcoind")).find(|p| p.is_file());
    from_env.or(on_path).unwrap_or_else(|| {
        panic!("this test needs bitcoind: run `cargo xtask test`, or set BITCOIND=$(cargo xtask bitcoind)")
    })
}

impl Bitcoind {
    /// Starts one on regtest, and waits until it answers.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &["-regtest"])
    }
    /// The same with other options.
    pub fn start_with(dir: &Path, extra: &[&str]) -> Self {
        let started = Self::start_at_genesis(dir, extra);
        // A chain of one old block looks like a download that has just begun.
        started.mine(1);
        started
    }
    /// The same with no block but the first: it says of itself that it is downloading the chain.
    pub fn start_at_genesis(dir: &Path, extra: &[&str]) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let port = free_port();
        let extra: Vec<String> = extra.iter().map(|s| (*s).to_owned()).collect();
        let process = Self::spawn(&executable(), dir, port, &extra);
        let started = Self {
            process: Mutex::new(process),
            executable: executable(),
            dir: dir.to_path_buf(),
            port,
            extra,
        };
        wait_for("bitcoind", || started.try_rpc("getblockcount", &json!([])).ok());
        started
    }

    fn spawn(executable: &Path, dir: &Path, port: u16, extra: &[String]) -> Child {
        Command::new(executable)
            .arg(format!("-datadir={}", dir.display()))
            .arg(format!("-rpcport={port}"))
            .args([
                "-rpcuser=u",
                "-rpcpassword=p",
                "-listen=0",
                "-txindex=1",
                "-printtoconsole=0",
                "-connect=0",
            ])
            .args(extra)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", executable.display()))
    }

    /// It is gone at once.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }
    /// It ends in order, with everything but what its options say on its disk.
    pub fn stop(&self) {
        self.rpc("stop", &json!([]));
        self.process.lock().unwrap().wait().unwrap();
    }
    /// It is there again.
    pub fn restart(&self) {
        *self.process.lock().unwrap() =
            Self::spawn(&self.executable, &self.dir, self.port, &self.extra);
        wait_for("bitcoind", || self.try_rpc("getblockcount", &json!([])).ok());
    }

    /// One question, or what went wrong.
    pub fn try_rpc(&self, method: &str, params: &Value) -> Result<Value, String> {
        let body =
            json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params}).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|e| e.to_string())?;
        // u:p
        let request = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic dTpw\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        let mut value: Value = serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))?;
        if value["error"].is_null() {
            Ok(value["result"].take())
        } else {
            Err(value["error"].to_string())
        }
    }
    /// One question.
    pub fn rpc(&self, method: &str, params: &Value) -> Value {
        self.try_rpc(method, params).unwrap_or_else(|e| panic!("bitcoind: {method} {params}: {e}"))
    }
    /// How many blocks its best chain has above the genesis block.
    pub fn height(&self) -> u64 {
        self.rpc("getblockcount", &json!([])).as_u64().unwrap()
    }
    /// Blocks for nobody, with whatever is in the mempool.
    pub fn mine(&self, blocks: u32) {
        self.mine_to(blocks, NOBODY);
    }
    /// Blocks for an address.
    pub fn mine_to(&self, blocks: u32, address: &str) {
        self.rpc("generatetoaddress", &json!([blocks, address]));
    }
    /// Waits until a transaction is in the mempool.
    pub fn wait_mempool(&self, txid: &str) {
        wait_for(&format!("{txid} in the mempool"), || {
            let pool = self.rpc("getrawmempool", &json!([]));
            pool.as_array()?.iter().any(|t| t == txid).then_some(())
        });
    }
    /// A transaction, once bitcoind knows it: whoever names it may not have sent it yet.
    pub fn transaction(&self, txid: &str) -> Transaction {
        let raw = crate::wait_for("a transaction", || {
            self.try_rpc("getrawtransaction", &json!([txid])).ok()
        });
        bitcoin::consensus::encode::deserialize_hex(raw.as_str().unwrap()).unwrap()
    }

    /// A coin of the key 1, mature: what external fundings are made of.
    pub fn coin(&self) -> (OutPoint, Amount) {
        let hash = self.rpc("generatetoaddress", &json!([1, NOBODY]))[0].clone();
        self.mine_to(100, "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk");
        let block = self.rpc("getblock", &json!([hash, 2]));
        let txid = block["tx"][0]["txid"].as_str().unwrap().parse().unwrap();
        let value = block["tx"][0]["vout"][0]["value"].as_f64().unwrap();
        (OutPoint { txid, vout: 0 }, Amount::from_btc(value).unwrap())
    }
    /// A transaction that spends such a coin to this output and the rest to nobody, unsigned.
    pub fn spend_coin(
        &self,
        coin: (OutPoint, Amount),
        script: ScriptBuf,
        amount: Amount,
    ) -> Transaction {
        let nobody: bitcoin::Address<_> = NOBODY.parse().unwrap();
        let change = coin.1 - amount - Amount::from_sat(10_000);
        Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: coin.0,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output: vec![
                TxOut { value: amount, script_pubkey: script },
                TxOut { value: change, script_pubkey: nobody.assume_checked().script_pubkey() },
            ],
        }
    }
    /// Signs what [`Self::spend_coin`] made, and sends it.
    pub fn sign_and_send(&self, tx: &Transaction) -> String {
        let key = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA";
        let signed = self.rpc("signrawtransactionwithkey", &json!([serialize_hex(tx), [key]]));
        self.rpc("sendrawtransaction", &json!([signed["hex"]])).as_str().unwrap().to_owned()
    }
}
impl Drop for Bitcoind {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap();
        let _ = process.kill();
        let _ = process.wait();
    }
}
