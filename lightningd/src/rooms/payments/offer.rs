//! A part of a payment begins: what earlier parts of the same hash mean for it, and its offer to
//! channeld.

use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::rooms::channels;
use crate::rooms::channels::key::Origin;
use crate::rooms::payments::view::to_json;
use crate::rooms::payments::{Payment, RouteHop, Scope, Status, store};
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, code};
use crate::sys::json::now;
use primitives::*;
use std::time::{Duration, Instant};
use wire::OnionPacket;
use wire::channeld::Offer;

/// A peer that keeps channeld from committing for this long does not keep the caller waiting
/// longer.
const STORE_AFTER: Duration = Duration::from_secs(1);

/// A payment of this hash succeeded: it is not paid again.
fn succeeded(p: &Payment, amount: Option<Msat>) -> RpcError {
    let asked = amount.map(|a| format!(" (asked: {a})")).unwrap_or_default();
    RpcError {
        code: code::PAY_RHASH_ALREADY_USED,
        message: format!("Already succeeded with amount {}{asked}", p.amount.unwrap_or(p.sent)),
        data: Some(to_json(p)),
    }
}

/// May another part be sent beside this one, which is pending?
fn pending_allows(
    p: &Payment,
    (partid, groupid): (u64, u64),
    total: Option<Msat>,
) -> Result<(), RpcError> {
    if (p.partid, p.groupid) == (partid, groupid) {
        let amount = p.amount.unwrap_or(p.sent);
        let text = format!("Already pending with amount {amount} to another end");
        return Err(RpcError::new(code::PAY_RHASH_ALREADY_USED, text));
    }
    if p.groupid != groupid {
        let text = format!("Payment with groupid={} still in progress", p.groupid);
        return Err(RpcError::new(code::PAY_IN_PROGRESS, text));
    }
    // The payee may take both.
    if (p.partid == 0) != (partid == 0) {
        let kind = if p.partid == 0 { "non-parallel" } else { "parallel" };
        let text = format!("Already have {kind} payment in progress");
        return Err(RpcError::new(code::PAY_IN_PROGRESS, text));
    }
    if let Some(total) = total.filter(|total| *total != p.total) {
        let text = format!("the parts under way make {}, and this one would make {total}", p.total);
        return Err(RpcError::new(code::PAY_RHASH_ALREADY_USED, text));
    }
    Ok(())
}

/// What an earlier part of the same hash means for this one: an answer, or nothing.
pub fn earlier(
    node: &Scope,
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
            Status::Complete => return Err(succeeded(p, amount).into()),
            Status::Pending if same && node.payments.is_unstored(p.created_index) => {
                let (index, caller) = (p.created_index, caller.clone());
                turn.install(node, move |payments| payments.tell_when_stored(index, caller));
                return Ok(Some(Answer::Later));
            }
            Status::Pending if same => return Ok(Some(Answer::Now(to_json(p)))),
            Status::Pending => {
                pending_allows(p, (partid, groupid), total)?;
                pending = pending.saturating_add(p.amount.unwrap_or_default());
            }
            Status::Failed if same_part => replaced.push(p.created_index),
            Status::Failed => {}
        }
    }
    // BOLT 4, "Basic Multi-Part Payments": nothing more is sent once the parts under way make the
    // whole.
    if let Some(total) = total.filter(|total| pending >= *total && pending > Msat::ZERO) {
        let text = format!("Already have {pending} of {total} payments in progress");
        return Err(RpcError::new(code::PAY_IN_PROGRESS, text).into());
    }
    for index in replaced {
        store::remove(turn.db, index)?;
        turn.install(node, move |payments| payments.remove(index));
    }
    Ok(None)
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

/// Offers a part. Its row comes with that of its HTLC, before the peer hears of it: one barrier for
/// both.
pub fn start(
    node: &Scope,
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
    channels::change::order(channel, turn, &offer);
    let caller = caller.clone();
    turn.install(node, move |payments| {
        payments.insert(payment);
        payments.tell_when_stored(created_index, caller);
    });
    turn.at(Instant::now() + STORE_AFTER, Event::StorePayment(created_index));
    Answer::Later
}
