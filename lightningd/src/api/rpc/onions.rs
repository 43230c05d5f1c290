//! `createonion` and `sendonion`: onions of a caller's own making.

use crate::api::rpc::payments::index;
use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::rooms::payments::offer::{Part, earlier, start};
use crate::rooms::payments::route;
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError};
use crate::sys::json::{from_hex, hex};
use onion::{Hop, ROUTING_INFO_LEN, build};
use primitives::*;
use serde_json::{Value, json};
use wire::{BigSize, OnionPacket, Wire};

/// `onion_size` is a u16 on the wire of every protocol that has one.
const MAX_ONION: u64 = 65_535;

/// `createonion hops assocdata [session_key] [onion_size]`.
pub fn createonion(_: &Node, _: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let list = args
        .raw("hops")
        .and_then(Value::as_array)
        .ok_or_else(|| RpcError::params("hops: should be an array"))?;
    let mut hops = Vec::with_capacity(list.len().min(onion::MAX_HOPS));
    for (n, hop) in list.iter().enumerate() {
        let bad = |what: &str| RpcError::params(format!("hops[{n}]: {what}"));
        let text = |name: &str| hop.get(name).and_then(Value::as_str);
        let node = text("pubkey").and_then(|t| t.parse::<NodeId>().ok()).and_then(|n| n.point());
        let payload =
            text("payload").and_then(from_hex).ok_or_else(|| bad("'payload' is no hex"))?;
        hops.push(Hop {
            node: node.ok_or_else(|| bad("'pubkey' is no node id"))?,
            payload: without_length(&payload)
                .ok_or_else(|| bad("'payload' does not begin with its length"))?
                .to_vec(),
        });
    }
    let session = match args.hash("session_key") {
        Some(key) => SecretKey::from_slice(&key)
            .map_err(|_| RpcError::params("session_key: is no secret key"))?,
        None => route::session_key(),
    };
    let associated = args.hex("assocdata").unwrap_or_default();
    let size = args.number("onion_size").unwrap_or(ROUTING_INFO_LEN as u64);
    if size > MAX_ONION - onion::ONION_OVERHEAD as u64 {
        return Err(RpcError::params(format!("onion_size: {size} is above {MAX_ONION}")).into());
    }
    let built = build(&session, &hops, &associated, size as usize)
        .map_err(|e| RpcError::params(format!("hops: {e}")))?;
    let secrets: Vec<String> = built.shared_secrets.iter().map(|s| hex(s.expose())).collect();
    Ok(Answer::Now(json!({"onion": hex(&built.packet), "shared_secrets": secrets})))
}

/// A payload as callers give it: a BigSize that counts the rest, and the rest.
fn without_length(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    let length = BigSize::take(&mut rest).ok()?.0;
    (u64::try_from(rest.len()).ok()? == length).then_some(rest)
}

/// `sendonion onion first_hop payment_hash [label] [shared_secrets] [partid] [bolt11]
/// [amount_msat] [destination] [localinvreqid] [groupid] [description] [total_amount_msat]`.
pub fn sendonion(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let packet = args.hex("onion").and_then(|bytes| OnionPacket::from_bytes(&bytes).ok());
    let packet = packet.ok_or_else(|| {
        RpcError::params("onion: should be 1366 bytes, as createonion makes them")
    })?;
    let first = args.raw("first_hop").unwrap_or(&Value::Null);
    let (first, is_named) =
        route::parse_hop(first, false).map_err(|e| RpcError::params(format!("first_hop: {e}")))?;
    let hash = PaymentHash(
        args.hash("payment_hash")
            .ok_or_else(|| RpcError::params("missing required parameter: payment_hash"))?,
    );
    let secrets = shared_secrets(args)?;
    let (partid, groupid) = (index(args, "partid")?, index(args, "groupid")?);
    let amount = args.msat("amount_msat");
    let named = args.msat("total_amount_msat");
    let total = named.or(amount).unwrap_or(first.amount);
    if amount.max(Some(total)) > Some(Sat::MAX_MONEY.msat()) {
        let text = "amount_msat: that is more than all the money there is";
        return Err(RpcError::params(text).into());
    }
    let destination = args.node("destination");
    // What it makes together is the caller's business where it says nothing of it.
    let same = (amount, named, destination);
    if let Some(answer) = earlier(node, turn, (hash, partid, groupid), same, caller)? {
        return Ok(answer);
    }
    let channel = route::first_channel(node, first.node, is_named.then_some(first.channel))?;
    let part = Part {
        hash,
        partid,
        groupid,
        amount,
        sent: first.amount,
        total,
        destination,
        secrets,
        route: vec![],
        expiry: route::expiry(node, first.delay),
        packet,
    };
    Ok(start(node, turn, (args, caller), channel, part))
}

fn shared_secrets(args: &Args) -> Result<Vec<Secret<32>>, RpcError> {
    let bad = || RpcError::params("shared_secrets: should be an array of 32 byte hex values");
    let Some(list) = args.raw("shared_secrets") else { return Ok(vec![]) };
    let list = list.as_array().filter(|l| l.len() <= onion::MAX_HOPS).ok_or_else(bad)?;
    list.iter()
        .map(|secret| {
            let bytes = secret.as_str().and_then(from_hex).and_then(|b| b.try_into().ok());
            bytes.map(Secret::new).ok_or_else(bad)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_counts_itself() {
        assert_eq!(without_length(&[2, 7, 8]), Some(&[7, 8][..]));
        for bad in [&[][..], &[3, 7, 8], &[1, 7, 8], &[0xfd, 0, 2, 7, 8], &[0xff; 9]] {
            assert_eq!(without_length(bad), None, "{bad:?}");
        }
    }
}
