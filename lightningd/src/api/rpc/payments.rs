//! `sendpay`, `waitsendpay`, `listsendpays`, `delpay`.

use crate::api::rpc::invoices::{Page, hash_of_string};
use crate::kernel::turn::Turn;
use crate::kernel::waits::For;
use crate::node::Node;
use crate::rooms::payments::offer::{Part, earlier, start};
use crate::rooms::payments::view::{to_json, wait_result};
use crate::rooms::payments::{Payment, RouteHop, Status, ends, route};
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, code};
use primitives::*;
use serde_json::{Value, json};

/// `sendpay route payment_hash [label] [amount_msat] [bolt11] [payment_secret] [partid]
/// [localinvreqid] [groupid] ...`.
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
            crate::kernel::waiting::add(
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
        ends::remove(node, turn, p.created_index)?;
    }
    Ok(Answer::Now(json!({"payments": list})))
}
