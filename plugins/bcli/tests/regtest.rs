//! The plugin as lightningd runs it, in front of a real bitcoind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

fn bitcoind_binary() -> PathBuf {
    let found = std::env::var_os("BITCOIND").map(PathBuf::from).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("bitcoind")).find(|file| file.is_file())
    });
    found.expect("no bitcoind: set BITCOIND=$(cargo xtask bitcoind), or put one on PATH")
}

/// A bitcoind of its own, gone with the test.
struct Bitcoind {
    child: Option<Child>,
    dir: PathBuf,
    port: u16,
}

impl Bitcoind {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("bcli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        // Free now; whoever takes it in between makes the test fail, not pass.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut bitcoind = Self { child: None, dir, port };
        bitcoind.start();
        bitcoind
    }
    fn start(&mut self) {
        let child = Command::new(bitcoind_binary())
            .args(["-regtest", "-server", "-listen=0", "-fallbackfee=0.0001", "-txindex"])
            .arg(format!("-datadir={}", self.dir.display()))
            .arg(format!("-rpcport={}", self.port))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }
    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // As after a clean stop.
        let _ = std::fs::remove_file(self.dir.join("regtest/.cookie"));
    }
}
impl Drop for Bitcoind {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The plugin, spoken to as lightningd does.
struct Plugin {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    log: Vec<String>,
}

impl Plugin {
    fn new(options: Value, dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bcli"))
            .arg("--developer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) =
            (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut plugin = Self { child, to, from, log: Vec::new() };
        let manifest = plugin.ask("getmanifest", json!({ "allow-deprecated-apis": false }));
        assert_eq!(manifest["result"]["rpcmethods"].as_array().unwrap().len(), 7);
        let configuration = json!({
            "lightning-dir": dir, "rpc-file": "lightning-rpc", "network": "regtest", "startup": true
        });
        let init =
            plugin.ask("init", json!({ "options": options, "configuration": configuration }));
        assert_eq!(init["result"], json!({}));
        plugin
    }
    fn of(bitcoind: &Bitcoind) -> Self {
        let options = json!({ "bitcoin-datadir": bitcoind.dir, "bitcoin-rpcport": bitcoind.port });
        Self::new(options, &bitcoind.dir)
    }
    fn say(&mut self, id: &str, method: &str, params: Value) {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        write!(self.to, "{request}\n\n").unwrap();
    }
    /// The next answer; what it logs is kept.
    fn hear(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "the plugin is gone");
            if line.trim().is_empty() {
                continue;
            }
            let said: Value = serde_json::from_str(&line).unwrap();
            if said["method"] != "log" {
                return said;
            }
            let (level, message) = (&said["params"]["level"], &said["params"]["message"]);
            self.log.push(format!("{}: {}", level.as_str().unwrap(), message.as_str().unwrap()));
        }
    }
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.say(method, method, params);
        let answer = self.hear();
        assert_eq!(answer["id"], method);
        answer
    }
    fn result(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }
    fn logged(&self, what: &str) -> usize {
        self.log.iter().filter(|line| line.contains(what)).count()
    }
}
impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A question of the test's own to bitcoind, past the plugin.
fn bitcoin_cli(bitcoind: &Bitcoind, args: &[&str]) -> String {
    let cli = bitcoind_binary().with_file_name("bitcoin-cli");
    let out = Command::new(cli)
        .args(["-regtest", "-rpcwait"])
        .arg(format!("-datadir={}", bitcoind.dir.display()))
        .arg(format!("-rpcport={}", bitcoind.port))
        .args(args)
        .output()
        .unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn chain_is_told_as_lightningd_wants_it() {
    let bitcoind = Bitcoind::new("chain");
    let mut plugin = Plugin::of(&bitcoind);
    // bitcoind was started a moment ago: this waits for it.
    let info = plugin.result("getchaininfo", json!({ "last_height": 0 }));
    let genesis = bitcoin_cli(&bitcoind, &["getblockhash", "0"]);
    assert_eq!(
        info,
        json!({ "chain": "regtest", "headercount": 0, "blockcount": 0, "ibd": true, "bestblockhash": genesis })
    );
    bitcoin_cli(&bitcoind, &["generatetoaddress", "101", ADDRESS]);
    let info = plugin.result("getchaininfo", json!([0]));
    assert_eq!((&info["blockcount"], &info["ibd"]), (&json!(101), &json!(false)));

    let block = plugin.result("getrawblockbyheight", json!({ "height": 1 }));
    let hash = bitcoin_cli(&bitcoind, &["getblockhash", "1"]);
    let hex = bitcoin_cli(&bitcoind, &["getblock", &hash, "0"]);
    assert_eq!(block, json!({ "blockhash": hash, "block": hex }));
    let beyond = plugin.result("getrawblockbyheight", json!({ "height": 102 }));
    assert_eq!(beyond, json!({ "blockhash": null, "block": null }));

    let verbose: Value =
        serde_json::from_str(&bitcoin_cli(&bitcoind, &["getblock", &hash, "2"])).unwrap();
    let txid = verbose["tx"][0]["txid"].as_str().unwrap();
    let out = plugin.result("getutxout", json!({ "txid": txid, "vout": 0 }));
    let script = "0014751e76e8199196d454941c45d1b3a323f1433bd6";
    assert_eq!(out, json!({ "amount": 5_000_000_000u64, "script": script }));
    let none = plugin.result("getutxout", json!({ "txid": txid, "vout": 7 }));
    assert_eq!(none, json!({ "amount": null, "script": null }));

    // Made up on regtest, and never below the floor.
    let fees = plugin.result("estimatefees", json!({}));
    let feerates: Vec<Value> =
        [2, 6, 12, 100].map(|blocks| json!({ "blocks": blocks, "feerate": 1000 })).into();
    assert_eq!(fees["feerates"], json!(feerates));
    assert_eq!(fees["feerate_floor"], 100);
    plugin.result("estimatefees", json!({}));
    assert_eq!(plugin.logged("info: bitcoind has no fee estimates on this regtest"), 1);

    for (method, params) in [
        ("getutxout", json!({ "txid": "00", "vout": 0 })),
        ("getrawblockbyheight", json!({})),
        ("sendrawtransaction", json!({ "tx": "xyz", "allowhighfees": false })),
    ] {
        assert_eq!(plugin.ask(method, params)["error"]["code"], -32602);
    }
}

#[test]
fn transactions_are_sent_and_refused_with_the_reason() {
    let bitcoind = Bitcoind::new("send");
    let mut plugin = Plugin::of(&bitcoind);
    bitcoin_cli(&bitcoind, &["generatetoaddress", "101", ADDRESS]);
    let hash = bitcoin_cli(&bitcoind, &["getblockhash", "1"]);
    let block: Value =
        serde_json::from_str(&bitcoin_cli(&bitcoind, &["getblock", &hash, "2"])).unwrap();
    let txid = block["tx"][0]["txid"].as_str().unwrap();
    let signed = |txid: &str, amount: &str, spent: &str| {
        let inputs = json!([{ "txid": txid, "vout": 0 }]).to_string();
        let outputs = format!("[{{\"{ADDRESS}\":{amount}}}]");
        let raw = bitcoin_cli(&bitcoind, &["createrawtransaction", &inputs, &outputs]);
        let keys = r#"["cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA"]"#;
        let script = "0014751e76e8199196d454941c45d1b3a323f1433bd6";
        let spent =
            format!(r#"[{{"txid":"{txid}","vout":0,"scriptPubKey":"{script}","amount":{spent}}}]"#);
        let signed = bitcoin_cli(&bitcoind, &["signrawtransactionwithkey", &raw, keys, &spent]);
        serde_json::from_str::<Value>(&signed).unwrap()["hex"].as_str().unwrap().to_owned()
    };

    // Half a bitcoin of fee is an accident, unless it is not.
    let dear = signed(txid, "49.5", "50");
    let sent = plugin.result("sendrawtransaction", json!({ "tx": dear, "allowhighfees": false }));
    assert_eq!(sent["success"], false);
    assert!(sent["errmsg"].as_str().unwrap().contains("Fee exceeds maximum"), "{sent}");
    let sent = plugin.result("sendrawtransaction", json!({ "tx": dear, "allowhighfees": true }));
    assert_eq!(sent, json!({ "success": true, "errmsg": "" }));
    bitcoin_cli(&bitcoind, &["generatetoaddress", "1", ADDRESS]);
    // Spent is gone; in the chain already is fine.
    let out = plugin.result("getutxout", json!({ "txid": txid, "vout": 0 }));
    assert_eq!(out["amount"], Value::Null);
    let again = plugin.result("sendrawtransaction", json!({ "tx": dear, "allowhighfees": true }));
    assert_eq!(again["success"], true, "{again}");
    let nonsense =
        plugin.result("sendrawtransaction", json!({ "tx": "00", "allowhighfees": true }));
    assert_eq!(nonsense["success"], false);

    // A parent and its child, together.
    let hash = bitcoin_cli(&bitcoind, &["getblockhash", "2"]);
    let block: Value =
        serde_json::from_str(&bitcoin_cli(&bitcoind, &["getblock", &hash, "2"])).unwrap();
    let parent = signed(block["tx"][0]["txid"].as_str().unwrap(), "49.999", "50");
    let decoded: Value =
        serde_json::from_str(&bitcoin_cli(&bitcoind, &["decoderawtransaction", &parent])).unwrap();
    let child = signed(decoded["txid"].as_str().unwrap(), "49.998", "49.999");
    let sent = plugin.result("submitpackage", json!({ "txs": [parent, child] }));
    assert_eq!(sent, json!({ "success": true, "errmsg": "" }));
    // What spends an output before any block has it.
    let spent = json!({ "txid": decoded["txid"], "vout": 0 });
    let unspent = json!({ "txid": txid, "vout": 7 });
    let found = plugin.result("mempoolspends", json!({ "outpoints": [spent, unspent] }));
    assert_eq!(found, json!({ "transactions": [child] }));
    let sent = plugin.result("submitpackage", json!({ "txs": [child, parent] }));
    assert_eq!(sent["success"], false);
}

#[test]
fn bcli_waits_for_a_lost_bitcoind_and_says_so_once() {
    let mut bitcoind = Bitcoind::new("gone");
    let mut plugin = Plugin::of(&bitcoind);
    plugin.result("getchaininfo", json!({}));
    let before = plugin.log.len();
    bitcoind.stop();
    plugin.say("one", "getchaininfo", json!({}));
    plugin.say("two", "getchaininfo", json!({}));
    // It notices before it is back, and it comes back with another cookie.
    while plugin.logged("cannot be reached") == 0 {
        let mut line = String::new();
        plugin.from.read_line(&mut line).unwrap();
        if let Ok(said) = serde_json::from_str::<Value>(&line) {
            plugin.log.push(said["params"]["message"].as_str().unwrap().to_owned());
        }
    }
    bitcoind.start();
    let mut ids = [plugin.hear()["id"].clone(), plugin.hear()["id"].clone()];
    ids.sort_by_key(Value::to_string);
    assert_eq!(ids, ["one", "two"]);
    plugin.result("getchaininfo", json!({}));
    let news = plugin.log.split_off(before);
    assert_eq!(
        news.iter().filter(|line| line.contains("cannot be reached")).count(),
        1,
        "{news:?}"
    );
    assert_eq!(news.iter().filter(|line| line.contains("answers again")).count(), 1, "{news:?}");
}

#[test]
fn fees_are_none_without_made_up_ones() {
    let bitcoind = Bitcoind::new("nofakes");
    let options = json!({
        "bitcoin-datadir": bitcoind.dir, "bitcoin-rpcport": bitcoind.port, "dev-no-fake-fees": true
    });
    let mut plugin = Plugin::new(options, &bitcoind.dir);
    let fees = plugin.result("estimatefees", json!({}));
    assert_eq!(fees, json!({ "feerate_floor": 100, "feerates": [] }));
}
