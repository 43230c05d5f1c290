//! Ends: of received HTLCs, which are decided once and stored before anybody hears; and of those
//! that we offered, which decide on what they were for.
//!
//! A preimage counts from the moment that somebody showed it, on the wire or on chain. A failure
//! counts when the outgoing HTLC is gone for good: its removal is irrevocable, or the chain says
//! so. Each end may come more than once; only the first counts.

use super::store;
use super::store::Status;
use crate::kernel::turn::Turn;
use crate::rooms::channels::Channel;
use crate::rooms::channels::key::Origin;
use crate::rooms::htlcs::incoming::incoming;
use crate::rooms::htlcs::{Forward, Removed, Scope, Via};
use crate::rooms::{channels, payments};
use crate::sys::fatal::Stop;
use onion::{Failure, begin_error, sha256_of_onion, wrap_error};
use primitives::*;
use wire::channel_data::{LiveHtlc, Removal, StagedRemoval};
use wire::channeld::Peeled;
use wire::daemon::LogLevel;
use wire::hsm::OnionKeys;

/// BOLT 4: `invalid_onion_blinding`, all that a node inside a blinded path may say.
const INVALID_ONION_BLINDING: u16 = 0xc018;

/// Stores how a received HTLC ends, and tells whoever has its channel.
pub(super) fn settle(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: ChannelNumber,
    id: HtlcId,
    removal: Removal,
) -> Result<(), Stop> {
    channels::decision::decide(node, turn, channel, id, removal)
}

/// Fails a received HTLC with an error that begins here.
pub(super) fn fail(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    live: &LiveHtlc,
    keys: &OnionKeys,
    failure: &Failure,
) -> Result<(), Stop> {
    channel.log(LogLevel::Debug, &format!("HTLC {} fails: {}", live.htlc.id, failure.name()));
    let removal =
        blinded(live).unwrap_or_else(|| Removal::Failed { reason: begin_error(keys, failure) });
    settle(node, turn, channel.number, live.htlc.id, removal)
}

/// BOLT 2: beside a path key nothing may be said of any failure but that there was one.
fn blinded(live: &LiveHtlc) -> Option<Removal> {
    live.path_key.map(|_| Removal::Malformed {
        sha256_of_onion: sha256_of_onion(live.onion.0.as_slice()),
        failure_code: INVALID_ONION_BLINDING,
    })
}

/// An HTLC of ours ended: what it was for hears.
pub(super) fn ended(node: &Scope, turn: &mut Turn<'_>, key: u64, how: Removed) -> Result<(), Stop> {
    match Origin::of(key) {
        Origin::Forward(index) => match node.htlcs.forwards.get(&index) {
            Some(forward) => end(node, turn, forward, how),
            None => crate::rooms::htlcs::early_ends::resolved(node, turn, index, &how),
        },
        Origin::Payment(_) => match how {
            Removed::Fulfilled(preimage) => payments::ends::fulfilled(node, turn, key, preimage),
            Removed::Failed(reason) => payments::ends::failed(node, turn, key, &reason),
            Removed::Malformed { sha256_of_onion, failure_code } => {
                payments::ends::malformed(node, turn, key, sha256_of_onion, failure_code)
            }
            Removed::OnChain => payments::ends::failed_on_chain(node, turn, key),
            Removed::Here(failure) => {
                Err(Stop::refused(format!("payment {key} cannot fail here with {failure:?}")))
            }
        },
    }
}

/// A forward's end: its row, and the decision on the HTLC that it came from.
pub(super) fn end(
    node: &Scope,
    turn: &mut Turn<'_>,
    forward: &Forward,
    how: Removed,
) -> Result<(), Stop> {
    let (status, failcode) = match &how {
        Removed::Fulfilled(_) => (Status::Settled, None),
        Removed::Failed(_) => (Status::Failed, None),
        Removed::Malformed { failure_code, .. } => (Status::Failed, Some(*failure_code)),
        Removed::OnChain => (Status::Failed, Some(Failure::PermanentChannelFailure.code())),
        Removed::Here(failure) => (Status::LocalFailed, Some(failure.code())),
    };
    let updated = node.htlcs.next_updated();
    store::finish(turn.db, forward, (updated, status, failcode), crate::sys::json::now_ms())?;
    if status == Status::Settled {
        let fee = forward.in_amount.saturating_sub(forward.out_amount);
        store::add_fee(turn.db, fee)?;
        turn.install(node, move |htlcs| {
            htlcs.fees_collected = htlcs.fees_collected.saturating_add(fee);
        });
    }
    let index = forward.index;
    turn.install(node, move |htlcs| drop(htlcs.remove(index)));
    log::debug!("forward {index} is {}", status.name());
    let removal = upstream(node, forward, how);
    settle(node, turn, forward.incoming, forward.in_id, removal)
}

/// What the node before us is told.
fn upstream(node: &Scope, forward: &Forward, how: Removed) -> Removal {
    if let Removed::Fulfilled(preimage) = how {
        return Removal::Fulfilled { preimage };
    }
    let received = incoming(node, forward);
    if let Some(removal) = received.as_ref().and_then(|r| blinded(r.live)) {
        return removal;
    }
    let Some(Peeled::Payload { keys, .. }) = received.and_then(|r| r.peeled) else {
        // Its channel is gone from memory: nobody is there to read a reason.
        return Removal::Failed { reason: vec![] };
    };
    let reason = match how {
        // BOLT 4, "Returning Errors": each node on the way back adds its layer.
        Removed::Failed(mut reason) => {
            wrap_error(&keys.ammag, &mut reason);
            reason
        }
        // BOLT 2: what the next node said of its onion goes back as an error of ours.
        Removed::Malformed { sha256_of_onion, failure_code } => {
            let failure = Failure::from_malformed(failure_code, sha256_of_onion);
            begin_error(keys, &failure.unwrap_or(Failure::TemporaryNodeFailure))
        }
        Removed::OnChain => begin_error(keys, &Failure::PermanentChannelFailure),
        Removed::Here(failure) => begin_error(keys, &failure),
        Removed::Fulfilled(preimage) => return Removal::Fulfilled { preimage },
    };
    Removal::Failed { reason }
}

/// An HTLC left its channel for good.
pub(super) fn settled(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    live: &LiveHtlc,
) -> Result<(), Stop> {
    if live.htlc.offered_by == Side::Remote {
        return Ok(());
    }
    match &live.removed {
        Some(StagedRemoval { removal, .. }) => {
            ended(node, turn, live.key, Removed::from(removal.clone()))?;
            Ok(channels::store::forget_removal(turn.db, number, live.htlc.id)?)
        }
        None => Err(Stop::refused(format!(
            "HTLC {} of channel {number} settled without a removal",
            live.htlc.id
        ))),
    }
}

/// For each HTLC of ours in this channel that forwards another: when that other one expires.
pub fn upstream_expiries(node: &Scope, channel: &Channel) -> Vec<(HtlcId, BlockHeight)> {
    let ours = channel.live.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Local);
    let expiry = |l: &LiveHtlc| match Origin::of(l.key) {
        Origin::Forward(index) => {
            let forward = node.htlcs.forwards.get(&index)?;
            Some(incoming(node, forward)?.live.htlc.expiry)
        }
        Origin::Payment(_) => None,
    };
    ours.filter_map(|l| Some((l.htlc.id, expiry(l)?))).collect()
}

/// What this HTLC of ours was offered for: while its channel lives from memory, after that from its
/// row.
fn origin(
    node: &Scope,
    turn: &Turn<'_>,
    channel: ChannelNumber,
    id: HtlcId,
) -> Result<Option<(Origin, PaymentHash)>, Stop> {
    let known = node.channels.all.get(&channel).and_then(|c| c.htlc(Side::Local, id));
    match known {
        Some(live) => Ok(Some((Origin::of(live.key), live.htlc.payment_hash))),
        None => Ok(store::origin(turn.db, channel, id)?),
    }
}

/// Somebody opened an HTLC that *we* offered in `channel` with its preimage, on chain or anywhere
/// else. What it was for is fulfilled at once, in this turn: the payment is complete, or the
/// decision on the received HTLC is stored and ordered. Whatever state the channel is in; a second
/// time, or after a restart, it changes nothing.
pub fn learned_preimage(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: ChannelNumber,
    id: HtlcId,
    preimage: Preimage,
) -> Result<(), Stop> {
    match origin(node, turn, channel, id)? {
        Some((origin, hash)) if preimage.hash() == hash => {
            ended(node, turn, origin.key(), Removed::Fulfilled(preimage))
        }
        Some(_) => {
            log::error!("the preimage learned for HTLC {id} of channel {channel} does not open it");
            Ok(())
        }
        None => {
            log::error!("channel {channel} has no HTLC {id} of ours, and its preimage was learned");
            Ok(())
        }
    }
}

/// The chain ended an HTLC that *we* offered in `channel`, and no preimage is known: it timed out,
/// or the confirmed commitment has no output for it. By BOLT 5 that is the caller's to know, and
/// when. What it was for fails in this turn, upstream with permanent_channel_failure; unless it was
/// fulfilled or failed before. A second time, or after a restart, it changes nothing.
pub fn failed_on_chain(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: ChannelNumber,
    id: HtlcId,
) -> Result<(), Stop> {
    match origin(node, turn, channel, id)? {
        Some((origin, _)) => ended(node, turn, origin.key(), Removed::OnChain),
        None => {
            log::error!("channel {channel} has no HTLC {id} of ours, and the chain ended it");
            Ok(())
        }
    }
}

/// After a restart: forwards whose outgoing HTLC ended in a turn that came to nothing, and those
/// that were never offered.
pub(super) fn begin(node: &Scope, turn: &mut Turn<'_>) -> Result<(), Stop> {
    for loaded in &node.htlcs.loaded {
        let Some(forward) = node.htlcs.forwards.get(&loaded.index) else { continue };
        let how = match (&loaded.removal, loaded.settled) {
            (Some(Removal::Fulfilled { preimage }), _) => Removed::Fulfilled(*preimage),
            (Some(removal), true) => Removed::from(removal.clone()),
            // Gone for good, and the reason with it.
            (None, true) => Removed::Here(Failure::TemporaryNodeFailure),
            (Some(_) | None, false) => continue,
        };
        if let Via::Bound(channel, id) = forward.via {
            log::warn!("HTLC {id} of channel {channel} ended, and its forward had not heard");
        }
        end(node, turn, forward, how)?;
    }
    turn.install(node, |htlcs| htlcs.loaded = vec![]);
    Ok(())
}
