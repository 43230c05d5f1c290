//! lightningd's questions, but for fees. The shapes are CLN's contract with a Bitcoin backend.

use crate::amount::{Dust, sat};
use crate::bitcoind::{BCLI_ERROR, Bitcoind, Found, Refusal};
use sdk::{Answer, AnswerPart, Call, Kind, RpcError, kind};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, RpcError>;

/// bitcoind's codes that are answers.
mod refusal {
    pub(super) const MISC: i64 = -1;
    pub(super) const INVALID_PARAMETER: i64 = -8;
    pub(super) const ALREADY_IN_CHAIN: i64 = -27;
}

const HEX: Kind<String> = Kind { should_be: "should be a hex value", read: hex };
const TXID: Kind<String> = Kind {
    should_be: "should be a txid",
    read: |token| hex(token).filter(|text| text.len() == 64),
};

fn hex(token: &str) -> Option<String> {
    let text: String = serde_json::from_str(token).ok()?;
    (text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit())).then_some(text)
}

/// Which chain, and how far.
pub(crate) fn getchaininfo(call: &Call<'_, Bitcoind>) -> Result<Answer> {
    #[derive(Deserialize)]
    struct ChainInfo {
        chain: String,
        blocks: u64,
        headers: u64,
        bestblockhash: String,
        #[serde(default)]
        initialblockdownload: bool,
    }
    call.named(&["last_height"])?.optional("last_height", &kind::U32)?;
    let found = call.state.must("getblockchaininfo", &json!([]))?;
    let info: ChainInfo = found.read("getblockchaininfo")?;
    Answer::json(&json!({
        "chain": info.chain,
        "headercount": info.headers,
        "blockcount": info.blocks,
        "ibd": info.initialblockdownload,
        // Beyond CLN's contract: a reorganisation that leaves the height as it was would be seen
        // only with the next block.
        "bestblockhash": info.bestblockhash,
    }))
}

/// The block at a height; nulls where there is none.
pub(crate) fn getrawblockbyheight(call: &Call<'_, Bitcoind>) -> Result<Answer> {
    let height = call.named(&["height"])?.required("height", &kind::U32)?;
    let bitcoind = call.state;
    let hash: String = match bitcoind.call("getblockhash", &json!([height]))? {
        Ok(found) => found.read("getblockhash")?,
        Err(Refusal { code: refusal::INVALID_PARAMETER, .. }) => {
            return Answer::json(&json!({ "blockhash": null, "block": null }));
        }
        Err(other) => return Err(unexpected("getblockhash", &other)),
    };
    let block = get_block(bitcoind, &hash)?;
    let json = block.json();
    let is_hex = json.len() > 2
        && json
            .strip_prefix('"')
            .and_then(|j| j.strip_suffix('"'))
            .is_some_and(|j| !j.contains('\\'));
    if !is_hex {
        return Err(RpcError::new(BCLI_ERROR, "bitcoind's answer to getblock is no text"));
    }
    // A block may be 8 MB of hex: it goes from bitcoind's answer to ours as it lies there.
    let (body, range) = block.into_slice();
    Ok(Answer::parts(vec![
        AnswerPart::Text(format!("{{\"blockhash\":{},\"block\":", json!(hash))),
        AnswerPart::Slice(body, range),
        AnswerPart::Text("}".to_owned()),
    ]))
}

/// The block; where bitcoind has pruned it, it is told to fetch it from its peers again.
fn get_block(bitcoind: &Bitcoind, hash: &str) -> Result<Found> {
    let begun = Instant::now();
    let mut asked = 0;
    loop {
        match bitcoind.call("getblock", &json!([hash, 0]))? {
            Ok(found) => return Ok(found),
            Err(refusal) if refusal.code != refusal::MISC => {
                return Err(unexpected("getblock", &refusal));
            }
            Err(pruned) if begun.elapsed() > bitcoind.config.retry => {
                return Err(unexpected("getblock", &pruned));
            }
            Err(_) => {}
        }
        asked = ask_a_peer(bitcoind, hash, asked)?;
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Has bitcoind ask the next of its peers for a block. Which peer that was, counting on.
fn ask_a_peer(bitcoind: &Bitcoind, hash: &str, asked: usize) -> Result<usize> {
    #[derive(Deserialize)]
    struct Peer {
        id: i64,
        #[serde(default)]
        servicesnames: Vec<String>,
    }
    let found = bitcoind.must("getpeerinfo", &json!([]))?;
    let peers: Vec<Peer> = found.read("getpeerinfo")?;
    let full = |peer: &&Peer| peer.servicesnames.iter().any(|name| name == "NETWORK");
    let full: Vec<i64> = peers.iter().filter(full).map(|peer| peer.id).collect();
    let peer = full.get(asked % full.len().max(1)).copied();
    match peer {
        None => log::debug!("block {hash} is pruned, and no peer of bitcoind has it"),
        Some(id) => {
            if let Err(refusal) = bitcoind.call("getblockfrompeer", &json!([hash, id]))? {
                log::debug!("block {hash} from peer {id} of bitcoind: {}", refusal.message);
            }
        }
    }
    Ok(asked.wrapping_add(1))
}

fn unexpected(method: &str, refusal: &Refusal) -> RpcError {
    let Refusal { code, message } = refusal;
    RpcError::new(BCLI_ERROR, format!("bitcoind refuses {method}: {message} (code {code})"))
}

/// An unspent output; nulls where it is spent or unknown.
pub(crate) fn getutxout(call: &Call<'_, Bitcoind>) -> Result<Answer> {
    #[derive(Deserialize)]
    struct TxOut<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
        #[serde(rename = "scriptPubKey")]
        script: Script,
    }
    #[derive(Deserialize)]
    struct Script {
        hex: String,
    }
    let params = call.named(&["txid", "vout"])?;
    let (txid, vout) = (params.required("txid", &TXID)?, params.required("vout", &kind::U32)?);
    let found = call.state.must("gettxout", &json!([txid, vout]))?;
    let json = found.json();
    if json.is_empty() || json == "null" {
        return Answer::json(&json!({ "amount": null, "script": null }));
    }
    let out: TxOut<'_> = found.read("gettxout")?;
    let amount = sat(out.value.get(), Dust::Refuse).ok_or_else(|| {
        RpcError::new(
            BCLI_ERROR,
            format!("bitcoind's answer to gettxout: {} is no amount", out.value),
        )
    })?;
    Answer::json(&json!({ "amount": amount, "script": out.script.hex }))
}

/// Broadcasts. A transaction that is in the chain already has succeeded.
pub(crate) fn sendrawtransaction(call: &Call<'_, Bitcoind>) -> Result<Answer> {
    let params = call.named(&["tx", "allowhighfees"])?;
    let tx = params.required("tx", &HEX)?;
    let high = params.optional("allowhighfees", &kind::BOOL)?.unwrap_or(false);
    let params = if high { json!([tx, 0]) } else { json!([tx]) };
    let (success, errmsg) = match call.state.call("sendrawtransaction", &params)? {
        Ok(_txid) => (true, String::new()),
        Err(refusal) => (
            refusal.code == refusal::ALREADY_IN_CHAIN,
            format!("{} (code {})", refusal.message, refusal.code),
        ),
    };
    Answer::json(&json!({ "success": success, "errmsg": errmsg }))
}

/// Broadcasts a parent with the child that pays for both.
pub(crate) fn submitpackage(call: &Call<'_, Bitcoind>) -> Result<Answer> {
    const TXS: Kind<Vec<String>> = Kind {
        should_be: "should be an array of transactions in hex, parents first",
        read: |token| {
            let txs: Vec<Value> = serde_json::from_str(token).ok()?;
            txs.iter().map(|tx| hex(&tx.to_string())).collect()
        },
    };
    #[derive(Deserialize)]
    struct Package {
        package_msg: String,
        #[serde(rename = "tx-results", default)]
        results: serde_json::Map<String, Value>,
    }
    let txs = call.named(&["txs"])?.required("txs", &TXS)?;
    // maxfeerate 0 means no limit: the child pays for its parent too, and may pay more for each of
    // its own bytes than bitcoind's default.
    let mut answer = call.state.call("submitpackage", &json!([txs, 0]))?;
    if matches!(answer, Err(Refusal { code: refusal::MISC, .. })) {
        // Bitcoin Core before 28 knows no maxfeerate here, and answers a second parameter with its
        // help text.
        answer = call.state.call("submitpackage", &json!([txs]))?;
    }
    let (success, errmsg) = match answer {
        Ok(found) => {
            let package: Package = found.read("submitpackage")?;
            let errors =
                package.results.values().filter_map(|result| result.get("error")?.as_str());
            let mut errmsg = package.package_msg.clone();
            errors.for_each(|error| errmsg += &format!("; {error}"));
            let success = package.package_msg == "success";
            (success, if success { String::new() } else { errmsg })
        }
        Err(refusal) => (false, format!("{} (code {})", refusal.message, refusal.code)),
    };
    Answer::json(&json!({ "success": success, "errmsg": errmsg }))
}

/// Transactions that spend these outputs and are in the mempool: the preimages in them are worth
/// blocks.
pub(crate) fn mempoolspends(call: &Call<'_, Bitcoind>) -> Result<Answer> {
    #[derive(Deserialize, serde::Serialize)]
    struct Outpoint {
        txid: String,
        vout: u32,
    }
    #[derive(Deserialize)]
    struct Spend {
        spendingtxid: Option<String>,
    }
    const OUTPOINTS: Kind<Vec<Outpoint>> = Kind {
        should_be: "should be an array of {txid, vout}",
        read: |token| serde_json::from_str(token).ok(),
    };
    let outpoints = call.named(&["outpoints"])?.required("outpoints", &OUTPOINTS)?;
    let found = call.state.must("gettxspendingprevout", &json!([outpoints]))?;
    let spends: Vec<Spend> = found.read("gettxspendingprevout")?;
    let txids: std::collections::BTreeSet<String> =
        spends.into_iter().filter_map(|s| s.spendingtxid).collect();
    let mut transactions = Vec::new();
    for txid in txids {
        // One that left the mempool meanwhile is in a block, or was replaced: it is found there, or
        // was of no use.
        if let Ok(raw) = call.state.call("getrawtransaction", &json!([txid]))? {
            transactions.push(raw.read::<String>("getrawtransaction")?);
        }
    }
    Answer::json(&json!({ "transactions": transactions }))
}
