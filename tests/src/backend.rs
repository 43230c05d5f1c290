//! A Bitcoin backend with the methods that every backend must have, and none of those that it may
//! have.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PLAIN_BACKEND: &str = r#"#!/usr/bin/env python3
import base64, json, sys, urllib.error, urllib.request
PORT = "@PORT@"
def bitcoind(method, *params):
    body = json.dumps({"jsonrpc": "1.0", "id": 0, "method": method, "params": params}).encode()
    login = "Basic " + base64.b64encode(b"u:p").decode()
    request = urllib.request.Request("http://127.0.0.1:" + PORT, body, {"Authorization": login})
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["result"], None
    except urllib.error.HTTPError as e:
        return None, json.load(e)["error"]["message"]
def getchaininfo(last_height=0):
    info = bitcoind("getblockchaininfo")[0]
    return {"chain": info["chain"], "headercount": info["headers"], "blockcount": info["blocks"],
            "bestblockhash": info["bestblockhash"], "ibd": info["initialblockdownload"]}
def getrawblockbyheight(height):
    blockhash, wrong = bitcoind("getblockhash", height)
    if wrong:
        return {"blockhash": None, "block": None}
    return {"blockhash": blockhash, "block": bitcoind("getblock", blockhash, 0)[0]}
def estimatefees():
    return {"feerate_floor": 1000, "feerates": []}
def sendrawtransaction(tx, allowhighfees=False):
    wrong = bitcoind("sendrawtransaction", tx, 0)[1]
    return {"success": wrong is None, "errmsg": wrong or ""}
def getutxout(txid, vout):
    out = bitcoind("gettxout", txid, vout)[0]
    if out is None:
        return {"amount": None, "script": None}
    return {"amount": round(out["value"] * 10**8), "script": out["scriptPubKey"]["hex"]}
METHODS = [getchaininfo, getrawblockbyheight, estimatefees, sendrawtransaction, getutxout]
def answer(request, result):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n\n")
    sys.stdout.flush()
decoder, text = json.JSONDecoder(), ""
for line in sys.stdin:
    text = (text + line).lstrip()
    try:
        request, end = decoder.raw_decode(text)
    except ValueError:
        continue
    text = text[end:]
    method, params = request["method"], request.get("params") or {}
    if method == "getmanifest":
        names = [{"name": m.__name__, "usage": "", "description": "of a plain backend"} for m in METHODS]
        options = [{"name": n, "type": "string", "description": "not ours"} for n in
                   ["bitcoin-rpcuser", "bitcoin-rpcpassword", "bitcoin-rpcport"]]
        answer(request, {"dynamic": False, "options": options, "rpcmethods": names})
    elif method == "init":
        answer(request, {})
    for m in METHODS:
        if m.__name__ == method:
            answer(request, m(*params) if isinstance(params, list) else m(**params))
"#;

/// Writes it into this folder, for the bitcoind at this port: what `--plugin` is to name.
pub fn plain_backend(dir: &Path, port: u16) -> PathBuf {
    let path = dir.join("plain.py");
    std::fs::write(&path, PLAIN_BACKEND.replace("@PORT@", &port.to_string())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}
