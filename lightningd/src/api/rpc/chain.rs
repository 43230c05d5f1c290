//! `feerates`, `listtransactions`, `waitblockheight`.

use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::rooms::chain::feerates::Use;
use crate::rooms::chain::store;
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError};
use primitives::FeeratePerKw;
use serde_json::{Map, Value, json};

/// Weights of the transactions that `feerates` prices, as CLN has them.
const OPENING_WEIGHT: u64 = 702;
const MUTUAL_WEIGHT: u64 = 673;
const UNILATERAL_WEIGHT: u64 = 598;
const UNILATERAL_ANCHOR_WEIGHT: u64 = 598 + 1124;
const HTLC_TIMEOUT_WEIGHT: u64 = 663;
const HTLC_SUCCESS_WEIGHT: u64 = 703;

/// The feerate of each use, in what `unit` makes of it.
fn rates(node: &Node, unit: impl Fn(FeeratePerKw) -> u64) -> Map<String, Value> {
    let mut inner = Map::new();
    let estimates = node.chain.fees.clone().unwrap_or_default();
    let list: Vec<Value> = estimates
        .by_blocks
        .iter()
        .map(|(blocks, rate)| json!({"blockcount": blocks, "feerate": unit(*rate), "smoothed_feerate": unit(*rate)}))
        .collect();
    for (name, what) in [
        ("opening", Use::Opening),
        ("mutual_close", Use::MutualClose),
        ("unilateral_close", Use::UnilateralClose),
        ("unilateral_anchor_close", Use::UnilateralAnchorClose),
        ("penalty", Use::Penalty),
    ] {
        if let Some(rate) = node.feerate(what) {
            inner.insert(name.to_owned(), json!(unit(rate)));
        }
    }
    let (low, high) = node.feerate_bounds(false);
    inner.insert("min_acceptable".to_owned(), json!(unit(low)));
    inner.insert("max_acceptable".to_owned(), json!(unit(high)));
    inner.insert("floor".to_owned(), json!(unit(node.feerate_floor())));
    inner.insert("estimates".to_owned(), Value::Array(list));
    inner
}

/// What transactions of usual weights would pay. `None` until there are estimates.
fn example_fees(node: &Node) -> Option<Value> {
    let penalty = node.feerate(Use::Penalty)?;
    Some(json!({
        "opening_channel_satoshis": node.feerate(Use::Opening)?.fee(OPENING_WEIGHT).0,
        "mutual_close_satoshis": node.feerate(Use::MutualClose)?.fee(MUTUAL_WEIGHT).0,
        "unilateral_close_satoshis":
            node.feerate(Use::UnilateralAnchorClose)?.fee(UNILATERAL_ANCHOR_WEIGHT).0,
        "unilateral_close_nonanchor_satoshis":
            node.feerate(Use::UnilateralClose)?.fee(UNILATERAL_WEIGHT).0,
        "htlc_timeout_satoshis": penalty.fee(HTLC_TIMEOUT_WEIGHT).0,
        "htlc_success_satoshis": penalty.fee(HTLC_SUCCESS_WEIGHT).0,
    }))
}

/// `feerates style`.
pub fn feerates(node: &Node, _: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let style = args.need_text("style")?;
    let unit = |rate: FeeratePerKw| match style.as_str() {
        // "Any" is the greatest number of 32 bits in either unit: clients read no more.
        "perkb" => rate.per_kvb().min(u64::from(u32::MAX)),
        _ => u64::from(rate.0),
    };
    if style != "perkb" && style != "perkw" {
        return Err(RpcError::params(
            "style: should be 'perkb' or 'perkw': invalid token (see logs for details)",
        )
        .into());
    }
    let mut out = Map::new();
    if node.chain.fees.is_none() {
        out.insert(
            "warning_missing_feerates".to_owned(),
            json!("Some fee estimates unavailable: bitcoind startup?"),
        );
    }
    out.insert(style.clone(), Value::Object(rates(node, unit)));
    if let Some(fees) = example_fees(node) {
        out.insert("onchain_fee_estimates".to_owned(), fees);
    }
    Ok(Answer::Now(Value::Object(out)))
}

/// `listtransactions`.
pub fn listtransactions(
    _: &Node,
    turn: &mut Turn<'_>,
    _: &Args,
    _: &Caller,
) -> Result<Answer, Stop> {
    let all = store::all_transactions(turn.db)?;
    let list: Vec<Value> = all
        .iter()
        .map(|(tx, height, index)| {
            json!({
                "hash": tx.compute_txid().to_string(),
                "rawtx": bitcoin::consensus::encode::serialize_hex(tx),
                "blockheight": height.unwrap_or(0),
                "txindex": index.unwrap_or(0),
                "locktime": tx.lock_time.to_consensus_u32(),
                "version": tx.version.0,
                "inputs": tx.input.iter().map(|i| json!({"txid": i.previous_output.txid.to_string(),
                    "index": i.previous_output.vout, "sequence": i.sequence.0})).collect::<Vec<_>>(),
                "outputs": tx.output.iter().enumerate().map(|(n, o)| json!({"index": n,
                    "amount_msat": o.value.to_sat() * 1000, "scriptPubKey": o.script_pubkey.to_hex_string()})).collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(Answer::Now(json!({"transactions": list})))
}

/// `waitblockheight blockheight [timeout]`.
pub fn waitblockheight(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let height = args.number32("blockheight")?.unwrap_or(0);
    let timeout = args.number32("timeout")?.unwrap_or(60);
    let now = node.chain.height().0;
    if now >= height {
        return Ok(Answer::Now(json!({"blockheight": now})));
    }
    crate::kernel::waiting::add(
        node,
        turn,
        caller,
        crate::kernel::waits::For::Height(height),
        Some(timeout.into()),
    );
    Ok(Answer::Later)
}
