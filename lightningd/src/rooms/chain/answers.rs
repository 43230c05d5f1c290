//! What the backend says, read: CLN's contract for backend plugins, and nothing that is not in it.
//! Pure, since anybody may write a backend.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Block, BlockHash, Transaction};
use primitives::BlockHeight;
use serde_json::Value;

/// `getchaininfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// Its name, as in BIP 70.
    pub chain: String,
    /// How many blocks the backend has.
    pub blocks: u32,
    /// Of how many it knows.
    pub headers: u32,
    /// Is it still downloading the chain?
    pub syncing: bool,
    /// Its tip, where it says so.
    pub best: Option<BlockHash>,
}

impl ChainInfo {
    /// Reads it. The chain's name comes first: a backend on another chain is told so whatever else
    /// it says.
    pub fn parse(answer: &Value) -> Result<Self, String> {
        let number = |name: &str| {
            let n = answer.get(name).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
            n.ok_or_else(|| format!("'{name}' is no block number"))
        };
        let best = answer.get("bestblockhash").and_then(Value::as_str);
        Ok(Self {
            chain: answer.get("chain").and_then(Value::as_str).unwrap_or_default().to_owned(),
            blocks: number("blockcount")?,
            headers: number("headercount")?,
            syncing: answer.get("ibd").and_then(Value::as_bool).unwrap_or(false),
            best: best.and_then(|hash| hash.parse().ok()),
        })
    }
}

/// `getrawblockbyheight`: the block, or `None` where the chain is not that long.
pub fn block(answer: &Value, height: BlockHeight) -> Result<Option<Block>, String> {
    let (hash, raw) = match (answer.get("blockhash"), answer.get("block")) {
        (Some(Value::String(hash)), Some(Value::String(raw))) => (hash, raw),
        (Some(Value::Null), Some(Value::Null)) => return Ok(None),
        _ => return Err(format!("of block {height}, neither it nor that it is not there")),
    };
    let hash: BlockHash = hash.parse().map_err(|_| "'blockhash' is no hash")?;
    // Consensus decoding as Core does it: no limits of our own on witnesses.
    let block: Block = deserialize_hex(raw).map_err(|e| format!("block {height}: {e}"))?;
    if block.block_hash() != hash {
        return Err(format!("block {height} is not the one of hash {hash}"));
    }
    Ok(Some(block))
}

/// `mempoolspends`: the transactions, and how many that are none.
pub fn mempool(answer: &Value) -> (Vec<Transaction>, usize) {
    let list = answer.get("transactions").and_then(Value::as_array);
    let (mut found, mut odd) = (Vec::new(), 0);
    for entry in list.into_iter().flatten() {
        match entry.as_str().map(deserialize_hex) {
            Some(Ok(tx)) => found.push(tx),
            Some(Err(_)) | None => odd += 1,
        }
    }
    (found, odd)
}

/// `getutxout`: is the output there? Only where the answer says that it is not does anybody rely on
/// it.
pub fn is_unspent(answer: &Value) -> Result<bool, String> {
    match (answer.get("amount"), answer.get("script")) {
        (Some(Value::Null), Some(Value::Null)) => Ok(false),
        (Some(amount), Some(Value::String(_))) if !amount.is_null() => Ok(true),
        _ => Err("neither an output nor that there is none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn getutxout_answer_of_another_shape_is_an_error() {
        assert_eq!(is_unspent(&json!({"amount": null, "script": null})), Ok(false));
        assert_eq!(is_unspent(&json!({"amount": 7, "script": "00"})), Ok(true));
        for odd in [json!({}), json!(null), json!([]), json!({"amount": null}), json!("no")] {
            assert!(is_unspent(&odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_block_is_there_or_not_there_and_nothing_else() {
        let height = BlockHeight(0);
        assert_eq!(block(&json!({"blockhash": null, "block": null}), height), Ok(None));
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        let hex = bitcoin::consensus::encode::serialize_hex(&genesis);
        let hash = genesis.block_hash().to_string();
        assert_eq!(block(&json!({"blockhash": hash, "block": hex}), height), Ok(Some(genesis)));
        for odd in [
            json!({}),
            json!({"blockhash": hash, "block": null}),
            json!({"blockhash": hash, "block": format!("{hex}00")}),
            json!({"blockhash": hash, "block": hex.get(2..)}),
            json!({"blockhash": "00".repeat(32), "block": hex}),
            json!({"blockhash": "zz", "block": hex}),
        ] {
            assert!(block(&odd, height).is_err(), "{odd}");
        }
    }
}
