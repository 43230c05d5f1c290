//! How parts of payments end, each as its HTLC does.

use crate::kernel::turn::Turn;
use crate::kernel::waits::For;
use crate::rooms::channels::Channel;
use crate::rooms::payments::{Payment, Scope, Status, failure, store};
use crate::sys::fatal::Stop;
use crate::sys::json::now;
use onion::{Failure, unwrap_error};
use primitives::*;
use wire::channel_data::LiveHtlc;
use wire::channeld::OfferRefusal;

pub fn pending(node: &Scope, key: u64) -> Option<&Payment> {
    node.payments.all.get(&key).filter(|p| p.status == Status::Pending)
}

/// Makes a part a row, if it is none yet: its HTLC is about to be said, or it ends, or it has
/// waited for long enough.
pub fn keep(node: &Scope, turn: &mut Turn<'_>, key: u64) -> Result<(), Stop> {
    let Some(callers) = node.payments.unstored.get(&key) else { return Ok(()) };
    let Some(payment) = node.payments.all.get(&key) else { return Ok(()) };
    store::insert(turn.db, payment)?;
    for caller in callers {
        turn.reply(caller.clone(), Ok(crate::rooms::payments::view::pending_result(payment)));
    }
    turn.install(node, move |payments| drop(payments.unstored.remove(&key)));
    Ok(())
}

/// Its HTLC is about to be stored: it becomes a row too. A daemon that was not told to offer it, or
/// not so, is not believed.
pub fn bind(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    key: u64,
    live: &LiveHtlc,
) -> Result<(), Stop> {
    let known = pending(node, key).is_some_and(|p| {
        p.channel == channel.number
            && p.sent == live.htlc.amount
            && p.hash == live.htlc.payment_hash
    });
    if !known || is_bound(channel, key) {
        return Err(Stop::refused(format!(
            "channeld offered HTLC {} for payment {key}, which was not to be offered so",
            live.htlc.id
        )));
    }
    // A peer that holds a revocation back makes it wait for as long as it likes.
    let tip = node.chain.height();
    if live.htlc.expiry <= tip {
        return Err(Stop::refused(format!(
            "channeld offered HTLC {} for payment {key} too late: it expired at {}, and the tip is {tip}",
            live.htlc.id, live.htlc.expiry
        )));
    }
    keep(node, turn, key)
}

/// Has an HTLC of this channel this key?
fn is_bound(channel: &Channel, key: u64) -> bool {
    channel.live.htlcs.0.iter().any(|l| l.htlc.offered_by == Side::Local && l.key == key)
}

/// Stores an end and tells whoever waits.
fn finish(node: &Scope, turn: &mut Turn<'_>, mut payment: Payment) -> Result<(), Stop> {
    keep(node, turn, payment.created_index)?;
    payment.updated_index = Some(crate::sys::db::next_index(turn.db, "payments_updated")?);
    payment.completed_at = (payment.status == Status::Complete).then(now);
    store::update(turn.db, &payment)?;
    let result = crate::rooms::payments::view::wait_result(&payment);
    let (hash, partid, groupid) = (payment.hash, payment.partid, payment.groupid);
    crate::kernel::waiting::answer_all(
        node,
        turn,
        |f| *f == For::Payment(hash, partid, groupid),
        &result,
    );
    turn.install(node, move |payments| payments.insert(payment));
    Ok(())
}

/// The preimage is known. A second time changes nothing.
pub fn fulfilled(
    node: &Scope,
    turn: &mut Turn<'_>,
    key: u64,
    preimage: Preimage,
) -> Result<(), Stop> {
    let Some(payment) = pending(node, key) else { return Ok(()) };
    finish(
        node,
        turn,
        Payment { status: Status::Complete, preimage: Some(preimage), ..payment.clone() },
    )
}

/// An error came back, and the HTLC is gone for good.
pub fn failed(node: &Scope, turn: &mut Turn<'_>, key: u64, reason: &[u8]) -> Result<(), Stop> {
    let Some(payment) = pending(node, key) else { return Ok(()) };
    let failure = match unwrap_error(&payment.secrets, reason) {
        Some(unwrapped) => {
            failure::from_hop(node, payment, unwrapped.hop, &unwrapped.failure, &unwrapped.raw)
        }
        None => failure::unreadable(payment, reason),
    };
    finish(
        node,
        turn,
        Payment { status: Status::Failed, failure: Some(failure), ..payment.clone() },
    )
}

/// The first hop could not read the onion.
pub fn malformed(
    node: &Scope,
    turn: &mut Turn<'_>,
    key: u64,
    sha: Sha256Digest,
    failure_code: u16,
) -> Result<(), Stop> {
    let Some(payment) = pending(node, key) else { return Ok(()) };
    let failure = Failure::from_malformed(failure_code, sha)
        .unwrap_or(Failure::Other { code: failure_code, data: vec![] });
    let failure = failure::from_hop(node, payment, 0, &failure, &failure.to_bytes());
    finish(
        node,
        turn,
        Payment { status: Status::Failed, failure: Some(failure), ..payment.clone() },
    )
}

/// The chain ended its HTLC, and nobody showed the preimage. A second time changes nothing.
pub fn failed_on_chain(node: &Scope, turn: &mut Turn<'_>, key: u64) -> Result<(), Stop> {
    let Some(payment) = pending(node, key) else { return Ok(()) };
    let failure = Failure::PermanentChannelFailure;
    let why = "the channel was closed on chain, and the HTLC timed out";
    let failure = failure::local(node, payment, &failure, why);
    finish(
        node,
        turn,
        Payment { status: Status::Failed, failure: Some(failure), ..payment.clone() },
    )
}

/// It was never offered: a failure of our own, before the first hop.
fn fail_here(node: &Scope, turn: &mut Turn<'_>, payment: &Payment, why: &str) -> Result<(), Stop> {
    let failure = Failure::TemporaryChannelFailure { channel_update: vec![] };
    let failure = failure::local(node, payment, &failure, why);
    finish(
        node,
        turn,
        Payment { status: Status::Failed, failure: Some(failure), ..payment.clone() },
    )
}

/// channeld did not offer it. One that has is not believed: whoever pays would pay again.
pub fn refused(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: ChannelNumber,
    key: u64,
    why: &OfferRefusal,
) -> Result<(), Stop> {
    let Some(payment) = pending(node, key).filter(|p| p.channel == channel) else { return Ok(()) };
    if node.channels.all.get(&channel).is_some_and(|c| is_bound(c, key)) {
        let text = format!("channel {channel} refused payment {key}, which it has offered");
        return Err(Stop::refused(text));
    }
    let text = match why {
        OfferRefusal::Unaffordable { spendable } => {
            format!("the channel can send {spendable} now, and {} is wanted", payment.sent)
        }
        OfferRefusal::BelowMinimum { minimum } => {
            format!("the peer takes {minimum} and more, and {} is wanted", payment.sent)
        }
        OfferRefusal::AboveMaxInFlight { maximum } => {
            format!("the peer lets {maximum} be in flight at most")
        }
        OfferRefusal::TooManyHtlcs { maximum } => {
            format!("the channel has its {maximum} HTLCs already")
        }
        OfferRefusal::DustExposure { maximum } => {
            format!("trimmed HTLCs would come to more than {maximum}")
        }
        OfferRefusal::Closing => "the channel is closing".to_owned(),
        OfferRefusal::NotReady => "the channel is not ready".to_owned(),
        OfferRefusal::BadExpiry => "the expiry is out of bounds".to_owned(),
    };
    fail_here(node, turn, payment, &text)
}

/// Offers that no commitment took are lost with their channeld, or with a restart: they never were.
pub fn fail_unbound(
    node: &Scope,
    turn: &mut Turn<'_>,
    only: Option<ChannelNumber>,
) -> Result<(), Stop> {
    let mut lost = Vec::new();
    for payment in node.payments.pending.iter().filter_map(|key| node.payments.all.get(key)) {
        if only.is_some_and(|n| n != payment.channel) {
            continue;
        }
        // Of a channel that is closed, too: what became of its HTLCs is not known by that.
        let channels = &node.channels;
        let its = channels.all.get(&payment.channel).or(channels.closed.get(&payment.channel));
        let is_it =
            |l: &LiveHtlc| l.htlc.offered_by == Side::Local && l.key == payment.created_index;
        let bound = its.is_some_and(|c| c.live.htlcs.0.iter().any(is_it));
        if !bound {
            lost.push(payment);
        }
    }
    for payment in lost {
        fail_here(node, turn, payment, "the channel was lost before the HTLC was offered")?;
    }
    Ok(())
}

/// An ended part is deleted.
pub fn remove(node: &Scope, turn: &mut Turn<'_>, created_index: u64) -> Result<(), Stop> {
    store::remove(turn.db, created_index)?;
    turn.install(node, move |payments| payments.remove(created_index));
    Ok(())
}
