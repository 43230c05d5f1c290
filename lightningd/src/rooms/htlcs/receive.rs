//! Payments to us: parts are held until they make up an invoice. BOLT 4, "Basic Multi-Part
//! Payments".

use super::resolve::{fail, settle};
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::HtlcEvent;
use crate::rooms::channels::{Channel, policy};
use crate::rooms::htlcs::{Htlcs, OnChain, Part, ReceivedOutput, Scope, Set};
use crate::rooms::invoices;
use crate::sys::fatal::Stop;
use channel::phase::Input;
use onion::{Failure, FinalPayload};
use primitives::*;
use std::time::{Duration, Instant};
use wire::channel_data::{Htlc, LiveHtlc, Removal};
use wire::channeld::Peeled;
use wire::daemon::LogLevel;
use wire::hsm::OnionKeys;

/// BOLT 4, "Basic Multi-Part Payments": parts wait for the rest for at least a minute.
const SET_TIMEOUT: Duration = Duration::from_secs(70);
/// Sets that are incomplete at once. A part beyond them is failed, and may come again.
const MAX_SETS: usize = 10_000;

/// A part of a payment to us. BOLT 4, "Payload for the Last Node", "Failure Messages".
pub(super) fn receive(
    node: &Scope,
    turn: &mut Turn<'_>,
    (channel, live): (&Channel, &LiveHtlc),
    wanted: &FinalPayload,
    keys: &OnionKeys,
    chain: &OnChain<'_>,
) -> Result<(), Stop> {
    let (htlc, id) = (&live.htlc, live.htlc.id);
    let height = node.chain.height();
    let unknown = Failure::IncorrectOrUnknownPaymentDetails { htlc: htlc.amount, height };
    if htlc.amount < wanted.amount {
        let failure = Failure::FinalIncorrectHtlcAmount { incoming: htlc.amount };
        return fail(node, turn, channel, live, keys, &failure);
    }
    if htlc.expiry < wanted.cltv_expiry {
        let failure = Failure::FinalIncorrectCltvExpiry { cltv_expiry: htlc.expiry };
        return fail(node, turn, channel, live, keys, &failure);
    }
    match may_pay(channel, id, chain) {
        Some(true) => {}
        // BOLT 2, shutdown: an HTLC added after ours is failed; so is one that the commitment on
        // chain may not contain.
        Some(false) => {
            return fail(node, turn, channel, live, keys, &Failure::PermanentChannelFailure);
        }
        // It is decided on once onchaind has answered.
        None => return Ok(()),
    }
    if !node.trusts_tip() || !channel.has_min_depth(node.chain.height()) {
        // Without a tip that is one we cannot tell whether there is time to claim it, and without
        // the funding there is nothing to claim.
        let failure = Failure::TemporaryNodeFailure;
        return fail(node, turn, channel, live, keys, &failure);
    }
    let accepted = invoices::settle::accepts(node, htlc, wanted, height);
    if let Err(why) = accepted {
        channel.log(LogLevel::Debug, &format!("HTLC {id} pays no invoice of ours: {why}"));
        return fail(node, turn, channel, live, keys, &unknown);
    }
    // BOLT 2, "cltv_expiry_delta Selection": an HTLC whose fulfillment deadline is past must be
    // failed.
    if is_late(node, htlc.expiry) {
        let text = format!("HTLC {id} (cltv {}) comes too late at block {height}", htlc.expiry);
        channel.log(LogLevel::Unusual, &text);
        return fail(node, turn, channel, live, keys, &unknown);
    }
    join_set(node, turn, (channel, live), wanted.total, keys, chain)
}

/// A plugin has the preimage of a received HTLC. The rules for a payment to us hold: the HTLC can
/// be claimed, and in time.
pub fn resolve(
    node: &Scope,
    turn: &mut Turn<'_>,
    (channel, live): (&Channel, &LiveHtlc),
    keys: &OnionKeys,
    preimage: Preimage,
    chain: &OnChain<'_>,
) -> Result<(), Stop> {
    let (htlc, id) = (&live.htlc, live.htlc.id);
    let failure = match may_pay(channel, id, chain) {
        // onchaind has yet to answer: the plugin is asked again then.
        None => return Ok(()),
        Some(false) => Failure::PermanentChannelFailure,
        Some(true) if preimage.hash() != htlc.payment_hash => {
            let text = format!("failing HTLC {id}: a plugin's payment_key does not open it");
            channel.log(LogLevel::Broken, &text);
            Failure::TemporaryNodeFailure
        }
        Some(true) if !node.trusts_tip() || !channel.has_min_depth(node.chain.height()) => {
            Failure::TemporaryNodeFailure
        }
        Some(true) if is_late(node, htlc.expiry) => {
            let text =
                format!("failing HTLC {id} (cltv {}): a plugin's payment_key is late", htlc.expiry);
            channel.log(LogLevel::Unusual, &text);
            Failure::TemporaryNodeFailure
        }
        Some(true) => {
            return settle(node, turn, channel.number, id, Removal::Fulfilled { preimage });
        }
    };
    fail(node, turn, channel, live, keys, &failure)
}

/// Can this received HTLC be claimed, as far as the channel's phase and the chain tell? `None`:
/// onchaind has yet to say what is in the commitment that confirmed.
fn may_pay(channel: &Channel, id: HtlcId, chain: &OnChain<'_>) -> Option<bool> {
    match (chain.received)(channel.number, id) {
        ReceivedOutput::NotOnChain => Some(channel.lets(Input::AcceptHtlc, id)),
        ReceivedOutput::Undetermined => {
            (!channel.lets_with(Input::AcceptHtlc, id, || true)).then_some(false)
        }
        ReceivedOutput::Unspent => Some(channel.lets_with(Input::AcceptHtlc, id, || true)),
        ReceivedOutput::Missing => Some(channel.lets_with(Input::AcceptHtlc, id, || false)),
    }
}

/// Is it too late to fulfil a received HTLC of this expiry?
pub fn is_late(node: &Scope, expiry: BlockHeight) -> bool {
    expiry <= node.chain.height() + policy::fulfilment_margin(node)
}

fn join_set(
    node: &Scope,
    turn: &mut Turn<'_>,
    (channel, live): (&Channel, &LiveHtlc),
    total: Msat,
    keys: &OnionKeys,
    chain: &OnChain<'_>,
) -> Result<(), Stop> {
    let hash = live.htlc.payment_hash;
    let Htlc { id, amount, expiry, .. } = live.htlc;
    let part = Part { channel: channel.number, id, amount, expiry };
    let mut set = match node.htlcs.sets.get(&hash) {
        // BOLT 4: all parts say the same total.
        Some(set) if set.total != total => {
            let unknown = Failure::IncorrectOrUnknownPaymentDetails {
                htlc: part.amount,
                height: node.chain.height(),
            };
            return fail(node, turn, channel, live, keys, &unknown);
        }
        Some(set) => set.clone(),
        None if node.htlcs.sets.len() >= MAX_SETS => {
            return fail(node, turn, channel, live, keys, &Failure::TemporaryNodeFailure);
        }
        None => {
            let since = Instant::now();
            if part.amount < total {
                turn.at(since + SET_TIMEOUT, Event::Htlc(HtlcEvent::SetTimeout(hash, since)));
            }
            Set { parts: vec![], total, since }
        }
    };
    set.parts.push(part);
    if is_complete(node, &set, chain) {
        return complete(node, turn, hash, &set);
    }
    turn.install(node, move |htlcs| htlcs.hold_set(hash, set));
    Ok(())
}

/// Is the whole payment there, and can each part be fulfilled now? A part whose channel's funding
/// left the chain since is worth nothing: it comes back, or the time is up.
fn is_complete(node: &Scope, set: &Set, chain: &OnChain<'_>) -> bool {
    let tip = node.chain.height();
    let is_there = |p: &Part| {
        let channel = node.channels.all.get(&p.channel);
        let takes =
            channel.is_some_and(|c| c.has_min_depth(tip) && may_pay(c, p.id, chain) == Some(true));
        takes && !is_late(node, p.expiry)
    };
    set.sum() >= set.total && node.trusts_tip() && set.parts.iter().all(is_there)
}

fn complete(node: &Scope, turn: &mut Turn<'_>, hash: PaymentHash, set: &Set) -> Result<(), Stop> {
    let preimage = invoices::settle::paid(node, turn, hash, set.sum())?;
    for part in &set.parts {
        settle(node, turn, part.channel, part.id, Removal::Fulfilled { preimage })?;
    }
    turn.install(node, move |htlcs| htlcs.forget_set(hash));
    Ok(())
}

/// A block was taken in. Parts that cannot wait any longer go back, before their channels' peers
/// close for them; and a payment may be complete now that a funding is there again.
pub fn new_tip(node: &Scope, turn: &mut Turn<'_>, chain: &OnChain<'_>) -> Result<(), Stop> {
    for (hash, set) in &node.htlcs.sets {
        let hash = *hash;
        let (late, parts): (Vec<_>, Vec<_>) =
            set.parts.iter().copied().partition(|p| is_late(node, p.expiry));
        let set = Set { parts, ..*set };
        for part in &late {
            time_out(node, turn, part)?;
        }
        if !set.parts.is_empty() && is_complete(node, &set, chain) {
            // An event of its own: should its invoice be gone, the block counts all the same.
            turn.also(Event::Htlc(HtlcEvent::SetComplete(hash)));
        }
        if !late.is_empty() {
            turn.install(node, move |htlcs| {
                htlcs.forget_set(hash);
                htlcs.hold_set(hash, set);
            });
        }
    }
    Ok(())
}

/// Every part of a payment is there, and can be fulfilled.
pub(super) fn set_complete(
    node: &Scope,
    turn: &mut Turn<'_>,
    hash: PaymentHash,
    chain: &OnChain<'_>,
) -> Result<(), Stop> {
    match node.htlcs.sets.get(&hash) {
        Some(set) if is_complete(node, set, chain) => complete(node, turn, hash, set),
        Some(_) | None => Ok(()),
    }
}

/// BOLT 4: parts whose rest did not come are failed with mpp_timeout.
pub(super) fn set_timeout(
    node: &Scope,
    turn: &mut Turn<'_>,
    hash: PaymentHash,
    since: Instant,
) -> Result<(), Stop> {
    let Some(set) = node.htlcs.sets.get(&hash).filter(|s| s.since == since) else { return Ok(()) };
    for part in &set.parts {
        time_out(node, turn, part)?;
    }
    turn.install(node, move |htlcs| htlcs.forget_set(hash));
    Ok(())
}

fn time_out(node: &Scope, turn: &mut Turn<'_>, part: &Part) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&part.channel) else { return Ok(()) };
    let peeled = channel.peeled.get(&part.id).map(|p| &p.peeled);
    let live = channel.htlc(Side::Remote, part.id);
    let (Some(Peeled::Payload { keys, .. }), Some(live)) = (peeled, live) else { return Ok(()) };
    fail(node, turn, channel, live, keys, &Failure::MppTimeout)
}

impl Htlcs {
    /// Parts that wait, if there are any.
    fn hold_set(&mut self, hash: PaymentHash, set: Set) {
        if !set.parts.is_empty() {
            self.held.extend(set.parts.iter().map(|part| (part.channel, part.id)));
            self.sets.insert(hash, set);
        }
    }
    /// A set that is complete, or has waited long enough.
    fn forget_set(&mut self, hash: PaymentHash) {
        for part in self.sets.remove(&hash).into_iter().flat_map(|s| s.parts) {
            self.held.remove(&(part.channel, part.id));
        }
    }
}
