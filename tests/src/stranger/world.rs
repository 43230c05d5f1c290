//! One node on a chain of its own, and what every test of an adversary asks of it at the end.

use super::miner::{miner_script, sign_miner_input};
use crate::{Bitcoind, Node, PATIENCE, RpcError, Scratch, wait_for};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use serde_json::{Value, json};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// What the node may take, whatever strangers do.
const MAX_RSS_KB: u64 = 100 * 1024;
/// Four for each daemon (two sockets, its stderr, a copy of its peer's socket) of the 48 that
/// strangers may have started, and 40 of its own.
const MAX_DESCRIPTORS: usize = 4 * 48 + 40;

/// A node with coins, a chain, and a miner whose coins strangers spend. When it goes, the node must
/// have stayed modest and sane.
pub struct World {
    /// The chain.
    pub bitcoind: Bitcoind,
    /// Whom everybody is after.
    pub node: Node,
    next_coin: Cell<u64>,
    _scratch: Scratch,
}

/// A call whose answer comes later.
pub struct Call(UnixStream);

impl Call {
    /// The answer.
    pub fn wait(mut self) -> Result<Value, RpcError> {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut text, mut chunk) = (Vec::new(), [0; 65536]);
        while !text.ends_with(b"\n\n") {
            let n = self.0.read(&mut chunk).unwrap();
            assert!(n > 0, "the node hung up");
            text.extend_from_slice(&chunk[..n]);
        }
        let mut answer: Value = serde_json::from_slice(&text).unwrap();
        match answer.get("error") {
            None => Ok(answer["result"].take()),
            Some(e) => Err(RpcError {
                code: e["code"].as_i64().unwrap(),
                message: e["message"].as_str().unwrap().to_owned(),
                data: e["data"].clone(),
            }),
        }
    }
}

impl World {
    /// With options for the node.
    pub fn with(options: &[&str]) -> Self {
        Self::on(&["-regtest"], options)
    }
    /// The same on a chain with options of its own.
    pub fn on(chain: &[&str], options: &[&str]) -> Self {
        Self::started(chain, options, |_, _| vec![])
    }
    /// The same where the node's backend has neither `submitpackage` nor `mempoolspends`.
    pub fn on_plain_backend(chain: &[&str], options: &[&str]) -> Self {
        Self::started(chain, options, |dir, bitcoind| {
            let plugin = crate::plain_backend(dir, bitcoind.port);
            vec!["--disable-plugin=bcli".to_owned(), format!("--plugin={}", plugin.display())]
        })
    }
    fn started(
        chain: &[&str],
        options: &[&str],
        backend: impl Fn(&std::path::Path, &Bitcoind) -> Vec<String>,
    ) -> Self {
        let scratch = Scratch::new();
        let bitcoind = Bitcoind::start_with(&scratch.path().join("bitcoind"), chain);
        let backend = backend(scratch.path(), &bitcoind);
        let backend: Vec<&str> = backend.iter().map(String::as_str).collect();
        let options = [options, &backend].concat();
        let node = Node::start(
            &scratch.path().join("node"),
            &bitcoind,
            &[&["--dev-bitcoind-poll=0"], options.as_slice()].concat(),
        );
        let address = node.rpc("newaddr", &json!({"addresstype": "p2tr"}))["p2tr"].clone();
        bitcoind.mine_to(3, address.as_str().unwrap());
        // What comes first is mature then: the node's coins, and some for the miner.
        bitcoind.mine(108);
        node.sync(&bitcoind);
        Self { bitcoind, node, next_coin: Cell::new(1), _scratch: scratch }
    }
    /// With none.
    pub fn new() -> Self {
        Self::with(&[])
    }
    /// Its node's key.
    pub fn node_point(&self) -> primitives::Point {
        self.node.id.parse().unwrap()
    }
    /// Asks, and hears the answer later.
    pub fn call(&self, method: &str, params: &Value) -> Call {
        let mut socket = self.node.socket().unwrap();
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        socket.write_all(request.to_string().as_bytes()).unwrap();
        Call(socket)
    }
    /// Blocks, seen by the node.
    pub fn mine(&self, blocks: u32) {
        self.bitcoind.mine(blocks);
        self.node.sync(&self.bitcoind);
    }
    /// A block without what waits in the mempool, seen by the node.
    pub fn mine_only(&self, transactions: &[&Transaction]) {
        let raw: Vec<String> = transactions.iter().map(|tx| serialize_hex(*tx)).collect();
        let nobody = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk";
        self.bitcoind.rpc("generateblock", &json!([nobody, raw]));
        self.node.sync(&self.bitcoind);
    }
    /// The tip's height.
    pub fn height(&self) -> u32 {
        u32::try_from(self.bitcoind.height()).unwrap()
    }
    /// A mature coin of nobody's: strangers pay with it.
    pub fn coin(&self) -> (OutPoint, Amount) {
        loop {
            let height = self.next_coin.get();
            self.next_coin.set(height + 1);
            if self.bitcoind.height() < height + 100 {
                self.mine(100);
            }
            let hash = self.bitcoind.rpc("getblockhash", &json!([height]));
            let block = self.bitcoind.rpc("getblock", &json!([hash, 2]));
            let out = &block["tx"][0]["vout"][0];
            if out["scriptPubKey"]["hex"] == miner_script().to_hex_string() {
                let txid = block["tx"][0]["txid"].as_str().unwrap().parse().unwrap();
                let value = Amount::from_btc(out["value"].as_f64().unwrap()).unwrap();
                return (OutPoint { txid, vout: 0 }, value);
            }
        }
    }
    /// A transaction of the miner's that pays this, signed and not sent.
    pub fn pay(&self, outputs: &[(ScriptBuf, Amount)]) -> Transaction {
        self.pay_from(self.coin(), outputs)
    }
    /// The same with this coin.
    pub fn pay_from(
        &self,
        coin: (OutPoint, Amount),
        outputs: &[(ScriptBuf, Amount)],
    ) -> Transaction {
        let paid: Amount = outputs.iter().map(|(_, amount)| *amount).sum();
        // Little: bitcoind makes its estimates of such as these.
        let change = coin.1 - paid - Amount::from_sat(200);
        let mut output: Vec<TxOut> = outputs
            .iter()
            .map(|(script, value)| TxOut { value: *value, script_pubkey: script.clone() })
            .collect();
        output.push(TxOut { value: change, script_pubkey: miner_script() });
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: coin.0,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            }],
            output,
        };
        sign_miner_input(&mut tx, 0, coin.1);
        tx
    }
    /// The miner's coin back to the miner, for this fee.
    pub fn pay_from_with(&self, coin: (OutPoint, Amount), fee: u64) -> Transaction {
        let mut tx = self.pay_from(coin, &[]);
        tx.output[0].value = coin.1 - Amount::from_sat(fee);
        sign_miner_input(&mut tx, 0, coin.1);
        tx
    }
    /// Into the mempool, without asking what it costs.
    pub fn send(&self, tx: &Transaction) -> String {
        self.try_send(tx).unwrap_or_else(|e| panic!("{}: {e}", serialize_hex(tx)))
    }
    /// The same, if bitcoind takes it.
    pub fn try_send(&self, tx: &Transaction) -> Result<String, String> {
        let sent = self.bitcoind.try_rpc("sendrawtransaction", &json!([serialize_hex(tx), 0]))?;
        Ok(sent.as_str().unwrap().to_owned())
    }
    /// Waits until a transaction that spends this output is in the mempool.
    pub fn wait_spend(&self, outpoint: OutPoint) -> Transaction {
        wait_for(&format!("a spend of {outpoint}"), || self.spend_in_mempool(outpoint))
    }
    /// What spends this output in the mempool.
    pub fn spend_in_mempool(&self, outpoint: OutPoint) -> Option<Transaction> {
        let asked = json!([[{"txid": outpoint.txid.to_string(), "vout": outpoint.vout}]]);
        let spends = self.bitcoind.rpc("gettxspendingprevout", &asked);
        let txid = spends[0]["spendingtxid"].as_str()?.to_owned();
        let raw = self.bitcoind.try_rpc("getrawtransaction", &json!([txid])).ok()?;
        bitcoin::consensus::encode::deserialize_hex(raw.as_str()?).ok()
    }
    /// Everything in blocks above this height but what miners made: as bitcoind tells it, with the
    /// fee of each.
    pub fn mined_since(&self, height: u32) -> Vec<(Transaction, Amount)> {
        let mut found = Vec::new();
        for height in height + 1..=self.height() {
            let hash = self.bitcoind.rpc("getblockhash", &json!([height]));
            let block = self.bitcoind.rpc("getblock", &json!([hash, 2]));
            for tx in block["tx"].as_array().unwrap().iter().skip(1) {
                let fee = Amount::from_btc(tx["fee"].as_f64().unwrap()).unwrap();
                let hex = tx["hex"].as_str().unwrap();
                found.push((bitcoin::consensus::encode::deserialize_hex(hex).unwrap(), fee));
            }
        }
        found
    }
    /// What the node has in confirmed coins, in satoshi.
    pub fn wealth(&self) -> u64 {
        let funds = self.node.rpc("listfunds", &json!({}));
        let outputs = funds["outputs"].as_array().unwrap();
        let counts = |o: &&Value| o["status"] == "confirmed" || o["status"] == "immature";
        outputs.iter().filter(counts).map(|o| o["amount_msat"].as_u64().unwrap() / 1000).sum()
    }
    /// Blocks, one by one, until everything of this channel's end is done.
    pub fn resolve(&self, id: &str) {
        for _ in 0..80 {
            self.mine(1);
            if self.is_resolved(id) {
                return;
            }
        }
        panic!("80 blocks resolved nothing: {}", self.node.channel(id));
    }
    /// Is it?
    pub fn is_resolved(&self, id: &str) -> bool {
        let channel = self.node.channel(id);
        let Some(outputs) = channel["onchain_outputs"].as_array() else { return false };
        outputs.iter().all(|o| o["resolved"] == true)
    }
    /// What the node knows of a channel's end.
    pub fn evidence(&self, id: &str) -> Value {
        wait_for("the evidence", || {
            let evidence = self.node.channel(id)["close_reason"]["evidence"].clone();
            (!evidence["close"].is_null()).then_some(evidence)
        })
    }

    /// lightningd is small, and holds few descriptors.
    pub fn stays_modest(&self) {
        let proc = format!("/proc/{}", self.node.pid());
        let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
        let rss = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
        let rss: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(rss < MAX_RSS_KB, "lightningd took {rss} kB");
        // Daemons that were told to end keep theirs until they have.
        wait_for("lightningd to have few descriptors", || {
            let descriptors = std::fs::read_dir(format!("{proc}/fd")).ok()?.count();
            (descriptors < MAX_DESCRIPTORS).then_some(())
        });
    }
    /// Whatever happened: it stayed modest, and found no bug in itself.
    fn stayed_sane(&self) {
        self.stays_modest();
        let log = self.node.log();
        let broken: Vec<&str> = log.lines().filter(|l| l.contains("**BROKEN**")).collect();
        assert!(broken.is_empty(), "{broken:#?}");
    }
}
impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stayed_sane();
        }
    }
}
