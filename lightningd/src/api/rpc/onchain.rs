//! What people and programs are told of channels on chain.

use crate::node::Node;
use crate::rooms::channels::Channel;
use crate::sys::json::put;
use primitives::Side;
use serde_json::{Value, json};

/// What ended this channel, with the evidence: for listpeerchannels and listclosedchannels.
pub fn put_reason(out: &mut Value, node: &Node, channel: &Channel) {
    if channel.state.is_open() {
        return;
    }
    let mut reason = json!({"cause": channel.cause.name(), "message": channel.reason});
    put(
        &mut reason,
        "by",
        channel.closer.map(|s| if s == Side::Local { "local" } else { "remote" }),
    );
    if let (None, Some((txid, height))) = (channel.funding_height, channel.spend) {
        let evidence = json!({"close": "funding_double_spent", "txid": txid.to_string(), "blockheight": height.0});
        put(&mut reason, "evidence", Some(evidence));
        return put(out, "close_reason", Some(reason));
    }
    // What was found out of a close that left the chain proves nothing.
    let is_of_it = |e: &&Value| {
        channel.spend.is_some_and(|(txid, height)| {
            e["txid"] == txid.to_string() && e["blockheight"] == height.0
        })
    };
    let evidence = node.onchain.evidence.get(&channel.number).filter(is_of_it);
    match (evidence, channel.spend, &channel.close_tx) {
        (Some(evidence), ..) => put(&mut reason, "evidence", Some(evidence.clone())),
        (None, Some((txid, height)), Some(close)) if close.compute_txid() == txid => {
            let evidence =
                json!({"close": "mutual", "txid": txid.to_string(), "blockheight": height.0});
            put(&mut reason, "evidence", Some(evidence));
        }
        (None, ..) => {}
    }
    put(out, "close_reason", Some(reason));
}

/// What each output of its end is and what became of it.
pub fn put_outputs(out: &mut Value, node: &Node, channel: &Channel) {
    let Some(resolution) =
        node.onchain.cases.get(&channel.number).and_then(|c| c.resolution.as_ref())
    else {
        return;
    };
    let outputs: Vec<Value> = resolution
        .outputs
        .0
        .iter()
        .map(|o| {
            let mut one = json!({
                "outpoint": o.outpoint.to_string(),
                "amount_msat": o.amount.msat().0,
                "what": o.what,
                "resolved": o.done,
            });
            put(&mut one, "spent_by", o.spent.map(|(txid, _)| txid.to_string()));
            put(&mut one, "spent_height", o.spent.map(|(_, height)| height.0));
            one
        })
        .collect();
    put(out, "onchain_outputs", Some(outputs));
}
