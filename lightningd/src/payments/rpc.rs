//! `sendpay`, `waitsendpay`, `listsendpays`, `delpay`.

use super::{Payment, RouteHop, Status, error_of, store};
use crate::channels;
use crate::events::Event;
use crate::htlcs::HtlcEvent;
use crate::invoices::rpc::{Page, hash_of_string};
use crate::json::{hex, now, put};
use crate::node::Node;
use crate::rpc::args::Args;
use crate::rpc::{Answer, Caller, RpcError, code};
use crate::turn::{Stop, Turn};
use crate::waits::{self, For};
use onion::{FinalPayload, ForwardPayload, Hop, build};
use primitives::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use wire::channeld::Offer;

/// Routing information of an onion. BOLT 4.
const ROUTING_INFO: usize = 1300;
/// A peer that keeps channeld from committing for this long does not keep the caller waiting longer.
const STORE_AFTER: Duration = Duration::from_secs(1);
/// Hops of a route: what an onion can hold of the smallest payloads.
const MAX_HOPS: usize = 20;

/// As every command shows it.
pub fn to_json(p: &Payment) -> Value {
    let mut out = json!({
        "created_index": p.created_index,
        "id": p.created_index,
        "payment_hash": p.hash.to_string(),
        "groupid": p.groupid,
    });
    put(&mut out, "updated_index", p.updated_index);
    put(&mut out, "partid", (p.partid != 0).then_some(p.partid));
    put(&mut out, "destination", p.destination.map(|d| d.to_string()));
    put(&mut out, "amount_msat", p.amount.map(|a| a.0));
    put(&mut out, "amount_sent_msat", Some(p.sent.0));
    put(&mut out, "created_at", Some(p.created_at));
    put(&mut out, "completed_at", p.completed_at);
    put(&mut out, "status", Some(p.status.name()));
    put(&mut out, "payment_preimage", p.preimage.map(|i| hex(&i.0)));
    put(&mut out, "label", p.label.clone());
    put(&mut out, "bolt11", p.bolt11.clone());
    put(&mut out, "description", p.description.clone());
    out
}

/// What `waitsendpay` says of an end.
pub fn wait_result(p: &Payment) -> Result<Value, RpcError> {
    match p.status {
        Status::Complete | Status::Pending => Ok(to_json(p)),
        Status::Failed => Err(error_of(p)),
    }
}

struct GivenHop {
    node: NodeId,
    channel: ShortChannelId,
    amount: Msat,
    delay: u32,
}

fn parse_route(args: &Args) -> Result<Vec<GivenHop>, RpcError> {
    let bad = |n: usize, what: &str| RpcError::params(format!("route[{n}]: {what}"));
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
            let text = |name: &str| hop.get(name).and_then(Value::as_str);
            let amount = match hop.get("amount_msat") {
                Some(Value::Number(v)) => v.as_u64().map(Msat),
                Some(Value::String(s)) => Msat::parse(s).ok(),
                _ => None,
            };
            let delay =
                hop.get("delay").and_then(Value::as_u64).and_then(|d| u32::try_from(d).ok());
            Ok(GivenHop {
                node: text("id")
                    .and_then(|t| t.parse().ok())
                    .ok_or_else(|| bad(n, "'id' is no node id"))?,
                channel: text("channel")
                    .and_then(|t| t.parse().ok())
                    .ok_or_else(|| bad(n, "'channel' is no short_channel_id"))?,
                amount: amount
                    .filter(|a| *a <= Sat::MAX_MONEY.msat())
                    .ok_or_else(|| bad(n, "'amount_msat' is no amount"))?,
                delay: delay.ok_or_else(|| bad(n, "'delay' is no number of blocks"))?,
            })
        })
        .collect()
}

/// What an earlier part of the same hash means for this one.
fn earlier<'a>(
    node: &'a Node,
    turn: &mut Turn<'_>,
    hash: PaymentHash,
    (partid, groupid): (u64, u64),
    (amount, destination): (Msat, NodeId),
) -> Result<Option<&'a Payment>, Stop> {
    let mut replaced = Vec::new();
    for p in node.payments.of(hash) {
        let same_part = (p.partid, p.groupid) == (partid, groupid);
        match p.status {
            Status::Complete
                if same_part && p.amount == Some(amount) && p.destination == Some(destination) =>
            {
                return Ok(Some(p));
            }
            Status::Complete => {
                let error = RpcError {
                    code: code::PAY_RHASH_ALREADY_USED,
                    message: format!(
                        "Already succeeded with amount {} (asked: {amount})",
                        p.amount.unwrap_or(p.sent)
                    ),
                    data: Some(to_json(p)),
                };
                return Err(error.into());
            }
            Status::Pending if same_part => {
                if p.amount == Some(amount) && p.destination == Some(destination) {
                    return Ok(Some(p));
                }
                let text = format!(
                    "Already pending with amount {} to another end (asked: {amount})",
                    p.amount.unwrap_or(p.sent)
                );
                return Err(RpcError::new(code::PAY_RHASH_ALREADY_USED, text).into());
            }
            Status::Pending if p.groupid != groupid => {
                let text = format!("Payment with groupid={} still in progress", p.groupid);
                return Err(RpcError::new(code::PAY_IN_PROGRESS, text).into());
            }
            Status::Pending => {}
            Status::Failed if same_part => replaced.push(p.created_index),
            Status::Failed => {}
        }
    }
    for index in replaced {
        store::remove(turn.db, index)?;
        turn.install(move |node| node.payments.remove(index));
    }
    Ok(None)
}

/// `sendpay route payment_hash [label] [amount_msat] [bolt11] [payment_secret] [partid] [localinvreqid] [groupid] ...`.
pub fn sendpay(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let route = parse_route(args)?;
    let hash = PaymentHash(
        args.hash("payment_hash")
            .ok_or_else(|| RpcError::params("missing required parameter: payment_hash"))?,
    );
    let (Some(first), Some(last)) = (route.first(), route.last()) else {
        return Err(RpcError::params("route: is empty").into());
    };
    let (partid, groupid) = (index(args, "partid")?, index(args, "groupid")?);
    let total = args.msat("amount_msat").unwrap_or(last.amount);
    if total > Sat::MAX_MONEY.msat() {
        return Err(
            RpcError::params("amount_msat: that is more than all the money there is").into()
        );
    }
    if partid > 0 && args.msat("amount_msat").is_none() {
        return Err(RpcError::params("Must specify amount_msat with partid").into());
    }
    if partid == 0 && total != last.amount && args.raw("payment_secret").is_none() {
        let text = format!("amount_msat: {total} is not the route's last amount {}", last.amount);
        return Err(RpcError::params(text).into());
    }
    match earlier(node, turn, hash, (partid, groupid), (last.amount, last.node))? {
        Some(same) if node.payments.is_unstored(same.created_index) => {
            let (index, caller) = (same.created_index, caller.clone());
            turn.install(move |node| node.payments.tell_when_stored(index, caller));
            return Ok(Answer::Later);
        }
        Some(same) => return Ok(Answer::Now(to_json(same))),
        None => {}
    }
    let channel = first_channel(node, first)?;
    let built = onion_for(node, args, &route, hash, total)?;
    let packet = built
        .onion_packet()
        .ok_or_else(|| RpcError::params("route: the onion has another size than an HTLC takes"))?;
    let created_index = node.payments.next_index();
    let payment = Payment {
        created_index,
        updated_index: None,
        hash,
        partid,
        groupid,
        status: Status::Pending,
        amount: Some(last.amount),
        sent: first.amount,
        total,
        destination: Some(last.node),
        label: args.text("label"),
        bolt11: args.text("bolt11"),
        description: args.text("description"),
        created_at: now(),
        completed_at: None,
        preimage: None,
        secrets: built.shared_secrets,
        route: route.iter().map(|h| RouteHop { node: h.node, channel: h.channel }).collect(),
        channel: channel.number,
        failure: None,
    };
    let offer = Offer {
        key: created_index,
        amount: first.amount,
        payment_hash: hash,
        expiry: expiry(node, first.delay),
        onion: packet,
        path_key: None,
    };
    // Its row comes with that of its HTLC, before the peer hears of it: one barrier for both.
    channels::order(channel, turn, &offer);
    let caller = caller.clone();
    turn.install(move |node| {
        node.payments.insert(payment);
        node.payments.tell_when_stored(created_index, caller);
    });
    turn.at(Instant::now() + STORE_AFTER, Event::Htlc(HtlcEvent::StorePayment(created_index)));
    Ok(Answer::Later)
}

/// What `sendpay` says of a part that is under way.
pub fn pending_result(payment: &Payment) -> Value {
    let mut out = to_json(payment);
    put(&mut out, "message", Some("Monitor status with listpays or waitsendpay"));
    out
}

/// Which part, or which attempt: a number that a row can hold.
fn index(args: &Args, name: &'static str) -> Result<u64, RpcError> {
    let n = args.number(name).unwrap_or(0);
    if i64::try_from(n).is_err() {
        return Err(RpcError::params(format!("{name}: {n} is above {}", i64::MAX)));
    }
    Ok(n)
}

/// One more than the height: a block may come while the HTLC is on its way.
fn expiry(node: &Node, delay: u32) -> BlockHeight {
    BlockHeight(node.chain.height().0.saturating_add(1).saturating_add(delay))
}

fn first_channel<'a>(node: &'a Node, first: &GivenHop) -> Result<&'a channels::Channel, RpcError> {
    let named = |c: &&channels::Channel| {
        c.peer == first.node && (c.scid == Some(first.channel) || c.alias_local == first.channel)
    };
    let channel = node.channels.all.values().find(named);
    let text = match channel {
        Some(channel) if channel.is_usable() => return Ok(channel),
        Some(channel) => format!(
            "channel {} is {} and {}",
            first.channel,
            channel.state.name(),
            if channel.reestablished { "busy" } else { "not connected" }
        ),
        None => format!("No channel {} with peer {}", first.channel, first.node),
    };
    let data = json!({
        "erring_index": 0,
        "failcode": 0x400a,
        "failcodename": "WIRE_UNKNOWN_NEXT_PEER",
        "erring_node": node.id.to_string(),
        "erring_channel": first.channel.to_string(),
        "erring_direction": 0,
    });
    Err(RpcError { code: code::PAY_TRY_OTHER_ROUTE, message: text, data: Some(data) })
}

fn onion_for(
    node: &Node,
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
    let session = loop {
        // All but one in 2^128 numbers are keys.
        if let Ok(key) = SecretKey::from_slice(&subdaemon::random::<32>()) {
            break key;
        }
    };
    build(&session, &hops, &hash.0, ROUTING_INFO)
        .map_err(|e| RpcError::params(format!("route: {e}")))
}

/// `waitsendpay payment_hash [timeout] [partid] [groupid]`.
pub fn waitsendpay(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let hash = PaymentHash(
        args.hash("payment_hash")
            .ok_or_else(|| RpcError::params("missing required parameter: payment_hash"))?,
    );
    let partid = args.number("partid").unwrap_or(0);
    let groupid = args
        .number("groupid")
        .or_else(|| node.payments.of(hash).map(|p| p.groupid).max())
        .unwrap_or(0);
    let found = node.payments.of(hash).find(|p| (p.partid, p.groupid) == (partid, groupid));
    match found {
        None => Err(RpcError::new(
            code::PAY_NO_SUCH_PAYMENT,
            "Never attempted payment part for the given payment_hash",
        )
        .into()),
        Some(p) if p.status == Status::Pending => {
            waits::add(
                node,
                turn,
                caller,
                For::Payment(hash, partid, groupid),
                args.number("timeout"),
            );
            Ok(Answer::Later)
        }
        Some(p) => Ok(Answer::Now(wait_result(p)?)),
    }
}

/// `listsendpays [bolt11] [payment_hash] [status] [index] [start] [limit]`.
pub fn listsendpays(
    node: &Node,
    _: &mut Turn<'_>,
    args: &Args,
    _: &Caller,
) -> Result<Answer, Stop> {
    let mut hash = args.hash("payment_hash").map(PaymentHash);
    if let Some(text) = args.text("bolt11") {
        if hash.is_some() {
            return Err(
                RpcError::params("Can only specify one of {bolt11} or {payment_hash}").into()
            );
        }
        hash = Some(hash_of_string(&text)?);
    }
    let status = args.text("status");
    if status.as_deref().is_some_and(|s| !matches!(s, "pending" | "complete" | "failed")) {
        return Err(RpcError::params("status: should be 'pending', 'complete' or 'failed': invalid token (see logs for details)").into());
    }
    let page = Page::parse(args)?;
    let wanted = |p: &&Payment| status.as_deref().is_none_or(|s| s == p.status.name());
    let list: Vec<Value> = match hash {
        Some(hash) => node.payments.of(hash).filter(wanted).map(to_json).collect(),
        None => page
            .of(node
                .payments
                .all
                .values()
                .filter(wanted)
                .map(|p| (p.created_index, p.updated_index, p)))
            .into_iter()
            .map(to_json)
            .collect(),
    };
    Ok(Answer::Now(json!({"payments": list})))
}

/// `delpay payment_hash status [partid] [groupid]`.
pub fn delpay(node: &Node, turn: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let hash = PaymentHash(
        args.hash("payment_hash")
            .ok_or_else(|| RpcError::params("missing required parameter: payment_hash"))?,
    );
    let status = args.need_text("status")?;
    if status != "complete" && status != "failed" {
        return Err(RpcError::params(
            "status: should be 'complete' or 'failed': invalid token (see logs for details)",
        )
        .into());
    }
    let of_hash: Vec<&Payment> = node.payments.of(hash).collect();
    if of_hash.is_empty() {
        return Err(RpcError::new(
            code::PAY_NO_SUCH_PAYMENT,
            format!("Unknown payment with payment_hash: {hash}"),
        )
        .into());
    }
    let picked: Vec<&Payment> = of_hash
        .into_iter()
        .filter(|p| {
            args.number("partid").is_none_or(|n| n == p.partid)
                && args.number("groupid").is_none_or(|n| n == p.groupid)
        })
        .collect();
    if let Some(other) = picked.iter().find(|p| p.status.name() != status) {
        let text =
            format!("Payment with hash {hash} has status {}, not {status}", other.status.name());
        return Err(RpcError::new(211, text).into());
    }
    let list: Vec<Value> = picked.iter().map(|p| to_json(p)).collect();
    for p in &picked {
        store::remove(turn.db, p.created_index)?;
        let index = p.created_index;
        turn.install(move |node| node.payments.remove(index));
    }
    Ok(Answer::Now(json!({"payments": list})))
}
