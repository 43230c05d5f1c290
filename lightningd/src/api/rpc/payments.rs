//! `sendpay`, `waitsendpay`, `listsendpays`, `delpay`.

use crate::api::rpc::invoices::{Page, hash_of_string};
use crate::kernel::turn::{Stop, Turn};
use crate::kernel::waits;
use crate::kernel::waits::For;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::HtlcEvent;
use crate::node::Node;
use crate::rooms::channels;
use crate::rooms::htlcs::key::Origin;
use crate::rooms::payments::{Payment, RouteHop, Status, error_of, route, store};
use crate::sys::args::Args;
use crate::sys::form::{Answer, Caller, RpcError, code};
use crate::sys::json::{hex, now, put};
use primitives::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use wire::OnionPacket;
use wire::channeld::Offer;

/// A peer that keeps channeld from committing for this long does not keep the caller waiting longer.
const STORE_AFTER: Duration = Duration::from_secs(1);

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
    let unread = p.failure.as_ref().and_then(|(_, _, data)| data.get("onionreply")).cloned();
    put(&mut out, "erroronion", unread);
    out
}

/// What `waitsendpay` says of an end.
pub fn wait_result(p: &Payment) -> Result<Value, RpcError> {
    match p.status {
        Status::Complete | Status::Pending => Ok(to_json(p)),
        Status::Failed => Err(error_of(p)),
    }
}

/// What an earlier part of the same hash means for this one: an answer, or nothing.
pub fn earlier(
    node: &Node,
    turn: &mut Turn<'_>,
    (hash, partid, groupid): (PaymentHash, u64, u64),
    (amount, total, destination): (Option<Msat>, Option<Msat>, Option<NodeId>),
    caller: &Caller,
) -> Result<Option<Answer>, Stop> {
    let mut pending = Msat::ZERO;
    let mut replaced = Vec::new();
    for p in node.payments.of(hash) {
        let same_part = (p.partid, p.groupid) == (partid, groupid);
        let same = same_part && p.amount == amount && p.destination == destination;
        match p.status {
            Status::Complete if same => return Ok(Some(Answer::Now(to_json(p)))),
            Status::Complete => {
                let asked = amount.map(|a| format!(" (asked: {a})")).unwrap_or_default();
                let error = RpcError {
                    code: code::PAY_RHASH_ALREADY_USED,
                    message: format!(
                        "Already succeeded with amount {}{asked}",
                        p.amount.unwrap_or(p.sent)
                    ),
                    data: Some(to_json(p)),
                };
                return Err(error.into());
            }
            Status::Pending if same && node.payments.is_unstored(p.created_index) => {
                let (index, caller) = (p.created_index, caller.clone());
                turn.install(move |node| node.payments.tell_when_stored(index, caller));
                return Ok(Some(Answer::Later));
            }
            Status::Pending if same => return Ok(Some(Answer::Now(to_json(p)))),
            Status::Pending if same_part => {
                let text = format!(
                    "Already pending with amount {} to another end",
                    p.amount.unwrap_or(p.sent)
                );
                return Err(RpcError::new(code::PAY_RHASH_ALREADY_USED, text).into());
            }
            Status::Pending if p.groupid != groupid => {
                let text = format!("Payment with groupid={} still in progress", p.groupid);
                return Err(RpcError::new(code::PAY_IN_PROGRESS, text).into());
            }
            // The payee may take both.
            Status::Pending if (p.partid == 0) != (partid == 0) => {
                let kind = if p.partid == 0 { "non-parallel" } else { "parallel" };
                let text = format!("Already have {kind} payment in progress");
                return Err(RpcError::new(code::PAY_IN_PROGRESS, text).into());
            }
            Status::Pending if total.is_some_and(|total| total != p.total) => {
                let text = format!(
                    "the parts under way make {}, and this one would make {}",
                    p.total,
                    total.unwrap_or_default()
                );
                return Err(RpcError::new(code::PAY_RHASH_ALREADY_USED, text).into());
            }
            Status::Pending => pending = pending.saturating_add(p.amount.unwrap_or_default()),
            Status::Failed if same_part => replaced.push(p.created_index),
            Status::Failed => {}
        }
    }
    // BOLT 4, "Basic Multi-Part Payments": nothing more is sent once the parts under way make the whole.
    if let Some(total) = total.filter(|total| pending >= *total && pending > Msat::ZERO) {
        let text = format!("Already have {pending} of {total} payments in progress");
        return Err(RpcError::new(code::PAY_IN_PROGRESS, text).into());
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
    let route = route::parse(args)?;
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
    let same = (Some(last.amount), Some(total), Some(last.node));
    if let Some(answer) = earlier(node, turn, (hash, partid, groupid), same, caller)? {
        return Ok(answer);
    }
    let channel = route::first_channel(node, first.node, Some(first.channel))?;
    let built = route::onion_for(node, args, &route, hash, total)?;
    let packet = built
        .onion_packet()
        .ok_or_else(|| RpcError::params("route: the onion has another size than an HTLC takes"))?;
    let part = Part {
        hash,
        partid,
        groupid,
        amount: Some(last.amount),
        sent: first.amount,
        total,
        destination: Some(last.node),
        secrets: built.shared_secrets,
        route: route.iter().map(|h| RouteHop { node: h.node, channel: h.channel }).collect(),
        expiry: route::expiry(node, first.delay),
        packet,
    };
    Ok(start(node, turn, (args, caller), channel, part))
}

/// A part that is about to be offered.
pub struct Part {
    pub hash: PaymentHash,
    pub partid: u64,
    pub groupid: u64,
    pub amount: Option<Msat>,
    pub sent: Msat,
    pub total: Msat,
    pub destination: Option<NodeId>,
    pub secrets: Vec<Secret<32>>,
    pub route: Vec<RouteHop>,
    pub expiry: BlockHeight,
    pub packet: OnionPacket,
}

/// Offers a part. Its row comes with that of its HTLC, before the peer hears of it: one barrier for both.
pub fn start(
    node: &Node,
    turn: &mut Turn<'_>,
    (args, caller): (&Args, &Caller),
    channel: &channels::Channel,
    part: Part,
) -> Answer {
    let created_index = node.payments.next_index();
    let offer = Offer {
        key: Origin::Payment(created_index).key(),
        amount: part.sent,
        payment_hash: part.hash,
        expiry: part.expiry,
        onion: part.packet,
        path_key: None,
    };
    let payment = Payment {
        created_index,
        updated_index: None,
        hash: part.hash,
        partid: part.partid,
        groupid: part.groupid,
        status: Status::Pending,
        amount: part.amount,
        sent: part.sent,
        total: part.total,
        destination: part.destination,
        label: args.text("label"),
        bolt11: args.text("bolt11"),
        description: args.text("description"),
        created_at: now(),
        completed_at: None,
        preimage: None,
        secrets: part.secrets,
        route: part.route,
        channel: channel.number,
        failure: None,
    };
    channels::order(channel, turn, &offer);
    let caller = caller.clone();
    turn.install(move |node| {
        node.payments.insert(payment);
        node.payments.tell_when_stored(created_index, caller);
    });
    turn.at(Instant::now() + STORE_AFTER, Event::Htlc(HtlcEvent::StorePayment(created_index)));
    Answer::Later
}

/// What `sendpay` says of a part that is under way.
pub fn pending_result(payment: &Payment) -> Value {
    let mut out = to_json(payment);
    put(&mut out, "message", Some("Monitor status with listpays or waitsendpay"));
    out
}

/// Which part, or which attempt: a number that a row can hold.
pub fn index(args: &Args, name: &'static str) -> Result<u64, RpcError> {
    let n = args.number(name).unwrap_or(0);
    if i64::try_from(n).is_err() {
        return Err(RpcError::params(format!("{name}: {n} is above {}", i64::MAX)));
    }
    Ok(n)
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
