//! What is asked of the Bitcoin backend: bcli, or a plugin that answers in its place.

use bitcoin::Transaction;
use bitcoin::consensus::encode::serialize_hex;
use primitives::{BlockHeight, OutPoint};
use serde_json::{Value, json};

/// A question, by CLN's methods and three of ours (`mempoolspends`, `submitpackage`, and
/// `getutxout` as CLN has it).
#[derive(Debug)]
pub enum Question<'a> {
    /// Which chain it follows, and how far it is.
    ChainInfo {
        /// How far we are.
        last_height: BlockHeight,
    },
    /// What transactions should pay.
    Fees,
    /// The block at this height of its best chain.
    Block(BlockHeight),
    /// A transaction for the mempool. High fees are ours to judge.
    Send(&'a Transaction),
    /// Transactions for the mempool, together: parents before children.
    SendPackage(Vec<&'a Transaction>),
    /// Is this output there, and unspent?
    Unspent(OutPoint),
    /// What in the mempool spends these.
    MempoolSpends(Vec<OutPoint>),
}

impl Question<'_> {
    pub(super) const fn method(&self) -> &'static str {
        match self {
            Self::ChainInfo { .. } => "getchaininfo",
            Self::Fees => "estimatefees",
            Self::Block(_) => "getrawblockbyheight",
            Self::Send(_) => "sendrawtransaction",
            Self::SendPackage(_) => "submitpackage",
            Self::Unspent(_) => "getutxout",
            Self::MempoolSpends(_) => "mempoolspends",
        }
    }

    pub(super) fn params(&self) -> Value {
        let output = |o: &OutPoint| json!({"txid": o.txid.to_string(), "vout": o.vout});
        match self {
            Self::ChainInfo { last_height } => json!({"last_height": last_height.0}),
            Self::Fees => json!({}),
            Self::Block(height) => json!({"height": height.0}),
            Self::Send(tx) => json!({"tx": serialize_hex(tx), "allowhighfees": true}),
            Self::SendPackage(all) => {
                let raw: Vec<String> = all.iter().map(serialize_hex).collect();
                json!({"txs": raw})
            }
            Self::Unspent(outpoint) => output(outpoint),
            Self::MempoolSpends(outpoints) => {
                json!({"outpoints": outpoints.iter().map(output).collect::<Vec<_>>()})
            }
        }
    }
}
