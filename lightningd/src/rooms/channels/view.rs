//! Parts of channels as JSON.

use crate::rooms::channels::policy::{ignores_fee_limits, of, put_policy};
use crate::rooms::channels::{Channel, Scope};
use crate::sys::json::put;
use bitcoin::Transaction;
use bitcoin::consensus::encode::serialize_hex;
use primitives::*;
use serde_json::{Value, json};

/// Bits and names of a channel type.
pub fn channel_type_json(features: &Features) -> Value {
    let bits: Vec<usize> = features.bits().collect();
    let names: Vec<String> = bits
        .iter()
        .map(|bit| {
            let name = feature::name_in_type(*bit).unwrap_or("unknown");
            format!("{name}/{}", if bit % 2 == 0 { "even" } else { "odd" })
        })
        .collect();
    json!({"bits": bits, "names": names})
}

pub fn feature_names(channel_type: &Features) -> Vec<&'static str> {
    let shown = [feature::STATIC_REMOTEKEY, feature::ANCHORS].into_iter();
    shown.filter(|bit| channel_type.offers(*bit)).filter_map(feature::name).collect()
}

/// What `close` answers.
pub fn closed(kind: &str, tx: &Transaction) -> Value {
    let (raw, txid) = (serialize_hex(tx), tx.compute_txid().to_string());
    json!({"type": kind, "tx": raw, "txid": txid, "txs": [raw], "txids": [txid]})
}

/// What `fundchannel_cancel` answers.
pub fn cancelled() -> Value {
    json!({"cancelled": super::opening::CANCELLED})
}

/// What `fundchannel` answers.
pub fn funded(channel: &Channel, tx: &Transaction) -> Value {
    let params = &channel.live.params;
    let mut out = json!({
        "tx": serialize_hex(tx),
        "txid": tx.compute_txid().to_string(),
        "outnum": params.funding.vout,
        "channel_id": channel.id.to_string(),
        "channel_type": channel_type_json(&params.channel_type),
    });
    put(&mut out, "close_to", channel.upfront.local.as_ref().map(|s| s.to_hex_string()));
    put(&mut out, "mindepth", Some(channel.minimum_depth));
    out
}

/// What `fundchannel_start` answers.
pub fn started(
    network: Network,
    (funding_script, channel_type): (&ScriptBuf, &Features),
    minimum_depth: u32,
    close_to: Option<&ScriptBuf>,
) -> Value {
    let mut out = json!({
        "funding_address": crate::rooms::wallet::address(funding_script, network),
        "scriptpubkey": funding_script.to_hex_string(),
        "channel_type": channel_type_json(channel_type),
        "warning_usage": "The funding transaction MUST NOT be broadcast until after channel establishment has been successfully completed by running `fundchannel_complete`",
        "mindepth": minimum_depth,
    });
    put(&mut out, "close_to", close_to.map(|s| s.to_hex_string()));
    out
}

/// What `fundchannel_complete` answers.
pub fn completed(channel: ChannelId) -> Value {
    json!({"channel_id": channel.to_string(), "commitments_secured": true})
}

/// What `setchannel` answers.
pub fn set_channels(list: Vec<Value>) -> Value {
    json!({"channels": list})
}

/// A channel of `setchannel`'s answer.
pub fn set_channel(node: &Scope, channel: &Channel) -> Value {
    let mut out = json!({
        "peer_id": channel.peer.to_string(),
        "channel_id": channel.id.to_string(),
    });
    put(&mut out, "short_channel_id", channel.scid.map(|s| s.to_string()));
    put_policy(&mut out, &of(node, channel));
    put(&mut out, "ignore_fee_limits", Some(ignores_fee_limits(node, channel)));
    out
}
