//! Routes: as callers give them, and as onions carry them.

use crate::rooms::channels::Channel;
use crate::rooms::payments::Scope;
use crate::rooms::payments::view::first_hop_failed;
use crate::sys::args::Args;
use crate::sys::form::{RpcError, code};
use onion::{Failure, FinalPayload, ForwardPayload, Hop, ROUTING_INFO_LEN, build};
use primitives::*;
use serde_json::Value;

/// Hops of a route: what an onion can hold of the smallest payloads.
const MAX_HOPS: usize = 20;

/// A hop of a route that somebody gave us.
pub struct GivenHop {
    pub node: NodeId,
    pub channel: ShortChannelId,
    pub amount: Msat,
    pub delay: u32,
}

/// `route`: under the names of getroute, or those of getroutes.
pub fn parse(args: &Args) -> Result<Vec<GivenHop>, RpcError> {
    let list = args
        .raw("route")
        .and_then(Value::as_array)
        .ok_or_else(|| RpcError::params("route: should be an array"))?;
    if list.is_empty() || list.len() > MAX_HOPS {
        return Err(RpcError::params(format!(
            "route: has {} hops, and 1 to {MAX_HOPS} are possible",
            list.len()
        )));
    }
    list.iter()
        .enumerate()
        .map(|(n, hop)| {
            parse_hop(hop, true).map_err(|e| RpcError::params(format!("route[{n}]: {e}")))
        })
        .map(|hop| hop.map(|(given, _)| given))
        .collect()
}

/// One hop, and whether it names its channel: it must if that is asked for.
pub fn parse_hop(hop: &Value, needs_channel: bool) -> Result<(GivenHop, bool), String> {
    let first = |names: [&'static str; 2]| names.into_iter().find_map(|n| hop.get(n));
    let text = |names| first(names).and_then(Value::as_str);
    let amount = match first(["amount_out_msat", "amount_msat"]) {
        Some(Value::Number(v)) => v.as_u64().map(Msat),
        Some(Value::String(s)) => Msat::parse(s).ok(),
        _ => None,
    };
    let delay = first(["cltv_out", "delay"]).and_then(Value::as_u64);
    // The direction follows from who is at its ends.
    let channel = text(["short_channel_id_dir", "channel"])
        .map(|t| t.split('/').next().unwrap_or(t).parse::<ShortChannelId>().ok());
    let channel = match channel {
        Some(None) => return Err("'channel' is no short_channel_id".to_owned()),
        None if needs_channel => return Err("'channel' is no short_channel_id".to_owned()),
        known => known.flatten(),
    };
    let given = GivenHop {
        node: text(["node_id_out", "id"])
            .and_then(|t| t.parse().ok())
            .ok_or("'id' is no node id")?,
        channel: channel.unwrap_or(ShortChannelId(0)),
        amount: amount
            .filter(|a| *a <= Sat::MAX_MONEY.msat())
            .ok_or("'amount_msat' is no amount")?,
        delay: delay.and_then(|d| u32::try_from(d).ok()).ok_or("'delay' is no number of blocks")?,
    };
    Ok((given, channel.is_some()))
}

/// One more than the height: a block may come while the HTLC is on its way.
pub fn expiry(node: &Scope, delay: u32) -> BlockHeight {
    BlockHeight(node.chain.height().0.saturating_add(1).saturating_add(delay))
}

/// The channel that a payment leaves by: the one that is named, or the fullest that works.
pub fn first_channel(
    node: &Scope,
    peer: NodeId,
    name: Option<ShortChannelId>,
) -> Result<&Channel, RpcError> {
    let found = match name {
        Some(name) => {
            node.channels.with(peer).find(|c| c.scid == Some(name) || c.alias_local == name)
        }
        None => {
            node.channels.with(peer).max_by_key(|c| (c.is_usable(), c.live.balance.local, c.number))
        }
    };
    let (failure, text) = match (found, name) {
        (Some(channel), _) if channel.is_usable() => return Ok(channel),
        (Some(channel), _) => {
            let why = if channel.reestablished { "busy" } else { "not connected" };
            let text = format!("channel {} is {} and {why}", channel.name(), channel.state.name());
            (Failure::TemporaryChannelFailure { channel_update: vec![] }, text)
        }
        (None, Some(name)) => {
            (Failure::UnknownNextPeer, format!("No channel {name} with peer {peer}"))
        }
        (None, None) => (Failure::UnknownNextPeer, format!("No channel with peer {peer}")),
    };
    let data = first_hop_failed(node.id, peer, name, &failure);
    Err(RpcError { code: code::PAY_TRY_OTHER_ROUTE, message: text, data: Some(data) })
}

/// A key for one onion.
pub fn session_key() -> SecretKey {
    loop {
        // All but one in 2^128 numbers are keys.
        if let Ok(key) = SecretKey::from_slice(&subdaemon::random::<32>()) {
            return key;
        }
    }
}

/// The onion that carries a route.
pub fn onion_for(
    node: &Scope,
    args: &Args,
    route: &[GivenHop],
    hash: PaymentHash,
    total: Msat,
) -> Result<onion::Built, RpcError> {
    let mut hops = Vec::with_capacity(route.len());
    for (n, hop) in route.iter().enumerate() {
        let key = hop
            .node
            .point()
            .ok_or_else(|| RpcError::params(format!("route[{n}]: 'id' is no point")))?;
        let payload = match route.get(n + 1) {
            Some(next) => ForwardPayload {
                short_channel_id: next.channel,
                amount: next.amount,
                cltv_expiry: expiry(node, next.delay),
            }
            .to_bytes(),
            None => FinalPayload {
                amount: hop.amount,
                cltv_expiry: expiry(node, hop.delay),
                payment_secret: args.hash("payment_secret").map(PaymentSecret),
                total,
                payment_metadata: args.hex("payment_metadata"),
                keysend: None,
                extra: vec![],
            }
            .to_bytes(),
        };
        hops.push(Hop { node: key, payload });
    }
    build(&session_key(), &hops, &hash.0, ROUTING_INFO_LEN)
        .map_err(|e| RpcError::params(format!("route: {e}")))
}
