//! Forwards: a received HTLC that goes on over another channel.
//!
//! The row of a forward is there before its HTLC is offered, and the offer carries its key. The row
//! of the outgoing HTLC binds that key, once. Until then nothing was said to anybody: a refusal, a
//! death of that channel's daemon or a restart lets the switch look for another channel to the same
//! peer, or fail it. Once it is bound only its own end decides.

use super::judge::{Now, Takes, Way};
use super::store::Status;
use super::{judge, resolve, store};
use crate::kernel::turn::Turn;
use crate::kernel::words::outgoing::Outgoing;
use crate::rooms::channels;
use crate::rooms::channels::key::Origin;
use crate::rooms::channels::{Channel, policy};
use crate::rooms::htlcs::Removed;
use crate::rooms::htlcs::Scope;
use crate::rooms::htlcs::incoming::Received;
use crate::rooms::htlcs::incoming::incoming;
pub use crate::rooms::htlcs::{Forward, Via};
use crate::sys::fatal::Stop;
use channel::phase::{Input, takes_htlcs_yet, why_refused};
use onion::{Failure, ForwardPayload, Payload};
use primitives::*;
use wire::OnionPacket;
use wire::channel_data::LiveHtlc;
use wire::channeld::{Offer, OfferRefusal, Peeled};
use wire::daemon::LogLevel;
use wire::hsm::OnionKeys;

/// A received HTLC whose onion names another channel.
pub(super) fn begin(
    node: &Scope,
    turn: &mut Turn<'_>,
    (channel, live): (&Channel, &LiveHtlc),
    wanted: &ForwardPayload,
    next: &OnionPacket,
    keys: &OnionKeys,
) -> Result<(), Stop> {
    let mut forward = Forward {
        index: node.htlcs.next_created(),
        incoming: channel.number,
        in_scid: channel.name(),
        in_id: live.htlc.id,
        in_amount: live.htlc.amount,
        out_scid: wanted.short_channel_id,
        out_amount: wanted.amount,
        out_expiry: wanted.cltv_expiry,
        received_ms: crate::sys::json::now_ms(),
        via: Via::Nowhere,
        tried: vec![],
    };
    match find_way(node, channel, live, wanted, &[]) {
        Ok(out) => {
            forward.out_scid = out.name();
            store::insert(turn.db, &forward, Status::Offered, None)?;
            offer(turn, forward, live, out, next);
            Ok(())
        }
        Err(failure) => {
            store::insert(turn.db, &forward, Status::LocalFailed, Some(failure.code()))?;
            resolve::fail(node, turn, channel, live, keys, &failure)
        }
    }
}

/// The channel to offer it over now, of those that were not tried.
fn find_way<'a>(
    node: &'a Scope,
    incoming: &Channel,
    live: &LiveHtlc,
    wanted: &ForwardPayload,
    tried: &[ChannelNumber],
) -> Result<&'a Channel, Failure> {
    if !incoming.lets(Input::ForwardFrom, live.htlc.id) {
        // BOLT 2, shutdown: an HTLC added after ours is not routed. Nor is a forward started for a
        // channel that failed.
        return Err(Failure::PermanentChannelFailure);
    }
    if !incoming.has_min_depth(node.chain.height()) {
        return Err(Failure::TemporaryNodeFailure);
    }
    let Some(named) = node.channels.named(wanted.short_channel_id) else {
        return Err(Failure::UnknownNextPeer);
    };
    let others = node.channels.with(named.peer).filter(|c| c.number != named.number);
    let ways: Vec<Way> = std::iter::once(named)
        .chain(others)
        .filter(|c| !tried.contains(&c.number))
        .map(|c| way(node, c))
        .collect();
    let now = Now {
        tip: node.trusts_tip().then(|| node.chain.height()),
        delta: node.cltv_delta(),
        max_locktime: node.max_locktime(),
    };
    let it = judge::Incoming { amount: live.htlc.amount, expiry: live.htlc.expiry };
    let number = judge::judge(it, wanted, &now, &ways)?;
    node.channels.all.get(&number).ok_or(Failure::UnknownNextPeer)
}

fn way(node: &Scope, channel: &Channel) -> Way {
    let takes = if channel.is_usable() && channel.has_min_depth(node.chain.height()) {
        Takes::Now
    } else if takes_htlcs_yet(channel.phase()) {
        Takes::Later
    } else {
        Takes::NoMore
    };
    Way {
        number: channel.number,
        takes,
        policy: policy::of(node, channel),
        before: policy::before(channel, crate::sys::json::now()),
    }
}

/// Tells the channel's daemon, once this turn is on disk.
fn offer(
    turn: &mut Turn<'_>,
    mut forward: Forward,
    live: &LiveHtlc,
    out: &Channel,
    next: &OnionPacket,
) {
    let offer = Offer {
        key: Origin::Forward(forward.index).key(),
        amount: forward.out_amount,
        payment_hash: live.htlc.payment_hash,
        expiry: forward.out_expiry,
        onion: next.clone(),
        path_key: None,
    };
    channels::change::order(out, turn, &offer);
    forward.out_scid = out.name();
    forward.via = Via::Offered(out.number);
    turn.install_as::<Scope, _>(move |htlcs| htlcs.insert(forward));
}

/// The outgoing HTLC is about to be stored: from here on only its own end decides. A daemon that
/// was not told to offer it, or not so, is not believed.
pub(super) fn bind(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: ChannelNumber,
    index: u64,
    live: &LiveHtlc,
) -> Result<(), Stop> {
    let known = node.htlcs.forwards.get(&index).filter(|f| {
        f.via == Via::Offered(channel)
            && f.out_amount == live.htlc.amount
            && f.out_expiry == live.htlc.expiry
    });
    let same_hash = |f: &&Forward| {
        incoming(node, f).is_none_or(|i| i.live.htlc.payment_hash == live.htlc.payment_hash)
    };
    let Some(forward) = known.filter(same_hash) else {
        return Err(Stop::refused(format!(
            "channeld offered HTLC {} for forward {index}, which was not to be offered so",
            live.htlc.id
        )));
    };
    let in_time = if node.trusts_tip() { still(node, forward) } else { Err(NO_TIP.to_owned()) };
    if let Err(why) = in_time {
        return Err(Stop::refused(format!(
            "channeld offered HTLC {} for forward {index} too late: {why}",
            live.htlc.id
        )));
    }
    let id = live.htlc.id;
    turn.install(node, move |htlcs| htlcs.set_via(index, Via::Bound(channel, id)));
    Ok(())
}

const NO_TIP: &str = "without the chain's tip nobody knows how much time is left";

/// May a forward that waited for its commitment still go out? A peer that holds the revocation back
/// makes it wait for as long as it likes; with what it was judged by gone, the next node takes its
/// money, and whoever it came from has taken theirs back. Less strict than the judge: it is not yet
/// late for as long as it has not expired, since our channel is failed by that expiry whenever the
/// HTLC came. Nobody can have a daemon killed by forwards that were timed for the next block.
fn still(node: &Scope, forward: &Forward) -> Result<(), String> {
    let Some(Received { channel, live, .. }) = incoming(node, forward) else {
        return Err("the HTLC that it came from is gone".to_owned());
    };
    if live.removed.is_some() || channel.decided.contains_key(&forward.in_id) {
        return Err("the HTLC that it came from is decided on".to_owned());
    }
    if !channel.lets(Input::ForwardFrom, forward.in_id) {
        let why = why_refused(channel.phase(), Input::ForwardFrom);
        return Err(format!("the HTLC that it came from cannot be forwarded {why}"));
    }
    let tip = node.chain.height();
    if !channel.has_min_depth(tip) {
        return Err("the funding of the channel that it came from left the chain".to_owned());
    }
    if forward.out_expiry <= tip {
        return Err(format!("it expired at {}, and the tip is {tip}", forward.out_expiry));
    }
    Ok(())
}

/// A block was taken in: a forward that waits, and may not go out any more, goes back while there
/// is time for that. Only the end of the daemon that was told says for sure that it is not offered;
/// what it asked before that, [`bind`] refuses.
pub(super) fn new_tip(node: &Scope, turn: &mut Turn<'_>) {
    let mut told = None;
    // In the order of their channels: each daemon hears it once.
    for (number, index) in &node.htlcs.offered {
        let Some(forward) = node.htlcs.forwards.get(index) else { continue };
        let child = node.channels.all.get(number).and_then(|c| c.owner.child());
        if told != Some(number)
            && let (Err(why), Some(child)) = (still(node, forward), child)
        {
            let why = format!("forward {index} waits for its commitment, and cannot: {why}");
            turn.say(Outgoing::Kill { child, why });
            told = Some(number);
        }
    }
}

/// channeld did not offer it.
pub(super) fn refused(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: ChannelNumber,
    index: u64,
    why: &OfferRefusal,
) -> Result<(), Stop> {
    let offered = node.htlcs.forwards.get(&index).filter(|f| f.via == Via::Offered(channel));
    let Some(forward) = offered else {
        return Err(Stop::refused(format!(
            "channel {channel} refused forward {index}, which it was not to offer"
        )));
    };
    let failure = match why {
        OfferRefusal::Closing => Failure::PermanentChannelFailure,
        OfferRefusal::BadExpiry => Failure::ExpiryTooSoon { channel_update: vec![] },
        OfferRefusal::BelowMinimum { .. } => {
            Failure::AmountBelowMinimum { htlc: forward.out_amount, channel_update: vec![] }
        }
        OfferRefusal::Unaffordable { .. }
        | OfferRefusal::AboveMaxInFlight { .. }
        | OfferRefusal::TooManyHtlcs { .. }
        | OfferRefusal::DustExposure { .. }
        | OfferRefusal::NotReady => judge::temporary(),
    };
    log::debug!("forward {index} over channel {channel} was refused: {why:?}");
    elsewhere(node, turn, forward, Some(channel), failure)
}

/// A channel's daemon is gone, or everything is new: what it was told to offer, and no row says it
/// did, was never offered.
pub(super) fn lost(
    node: &Scope,
    turn: &mut Turn<'_>,
    only: Option<ChannelNumber>,
) -> Result<(), Stop> {
    let unbound: Vec<&Forward> = match only {
        Some(channel) => node.htlcs.offered_over(channel).collect(),
        None => {
            let bound = |f: &&Forward| matches!(f.via, Via::Bound(..));
            node.htlcs.forwards.values().filter(|f| !bound(f)).collect()
        }
    };
    for forward in unbound {
        elsewhere(node, turn, forward, only, judge::temporary())?;
    }
    Ok(())
}

/// Another channel to the same peer, or back with this failure.
fn elsewhere(
    node: &Scope,
    turn: &mut Turn<'_>,
    forward: &Forward,
    not: Option<ChannelNumber>,
    failure: Failure,
) -> Result<(), Stop> {
    let mut forward = forward.clone();
    forward.tried.extend(not);
    forward.via = Via::Nowhere;
    let Some(Received { channel, live, peeled: Some(Peeled::Payload { payload, next, .. }) }) =
        incoming(node, &forward)
    else {
        log::error!("forward {} has lost the HTLC that it came from", forward.index);
        return resolve::end(node, turn, &forward, Removed::Here(failure));
    };
    let wanted = Payload::parse(&payload.0, next.is_none(), live.path_key.is_some());
    if let (Ok(Payload::Forward(wanted)), Some(next)) = (wanted, next)
        && let Ok(out) = find_way(node, channel, live, &wanted, &forward.tried)
    {
        channel.log(LogLevel::Debug, &format!("HTLC {} goes over {}", live.htlc.id, out.name()));
        offer(turn, forward, live, out, next);
        return Ok(());
    }
    resolve::end(node, turn, &forward, Removed::Here(failure))
}
