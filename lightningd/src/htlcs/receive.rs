//! Payments to us: parts are held until they make up an invoice. BOLT 4, "Basic Multi-Part Payments".

use super::resolve::{fail, settle};
use super::{HtlcEvent, Htlcs};
use crate::channels::Channel;
use crate::events::Event;
use crate::invoices;
use crate::node::Node;
use crate::turn::{Stop, Turn};
use channel::phase::Input;
use onion::{Failure, FinalPayload};
use primitives::*;
use std::time::{Duration, Instant};
use wire::channel_data::{LiveHtlc, Removal};
use wire::channeld::Peeled;
use wire::daemon::LogLevel;
use wire::hsm::OnionKeys;

/// BOLT 4, "Basic Multi-Part Payments": parts wait for the rest for at least a minute.
const SET_TIMEOUT: Duration = Duration::from_secs(70);
/// Sets that are incomplete at once. A part beyond them is failed, and may come again.
const MAX_SETS: usize = 10_000;

/// One part of a payment to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    channel: ChannelNumber,
    id: HtlcId,
    amount: Msat,
}

/// Parts that came, of a payment that is not complete.
#[derive(Debug, Clone)]
pub(super) struct Set {
    parts: Vec<Part>,
    total: Msat,
    since: Instant,
}

/// A part of a payment to us. BOLT 4, "Payload for the Last Node", "Failure Messages".
pub(super) fn receive(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    live: &LiveHtlc,
    wanted: &FinalPayload,
    keys: &OnionKeys,
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
    if !channel.lets(Input::AcceptHtlc, id) {
        // BOLT 2, shutdown: what came after ours goes nowhere; and what no transaction will carry pays nothing.
        return fail(node, turn, channel, live, keys, &Failure::PermanentChannelFailure);
    }
    if !node.trusts_tip() || !channel.is_founded(node.chain.height()) {
        // Without a tip that is one we cannot tell whether there is time to claim it, and without the funding there is nothing to claim.
        let failure = Failure::TemporaryNodeFailure;
        return fail(node, turn, channel, live, keys, &failure);
    }
    let accepted = invoices::accepts(node, htlc, wanted, height);
    if let Err(why) = accepted {
        channel.log(LogLevel::Debug, &format!("HTLC {id} pays no invoice of ours: {why}"));
        return fail(node, turn, channel, live, keys, &unknown);
    }
    join_set(node, turn, channel, live, wanted.total, keys)
}

fn join_set(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    live: &LiveHtlc,
    total: Msat,
    keys: &OnionKeys,
) -> Result<(), Stop> {
    let hash = live.htlc.payment_hash;
    let part = Part { channel: channel.number, id: live.htlc.id, amount: live.htlc.amount };
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
    let sum = Msat(set.parts.iter().map(|p| p.amount.0).sum());
    // A part whose channel's funding left the chain since is worth nothing: it comes back, or the time is up.
    let tip = node.chain.height();
    let is_there = |p: &Part| {
        let channel = node.channels.all.get(&p.channel);
        channel.is_some_and(|c| c.is_founded(tip) && c.lets(Input::AcceptHtlc, p.id))
    };
    if sum < set.total || !set.parts.iter().all(is_there) {
        turn.install(move |node| {
            node.htlcs.held.insert((part.channel, part.id));
            node.htlcs.sets.insert(hash, set);
        });
        return Ok(());
    }
    let preimage = invoices::paid(node, turn, hash, sum)?;
    for part in &set.parts {
        settle(node, turn, part.channel, part.id, Removal::Fulfilled { preimage })?;
    }
    turn.install(move |node| node.htlcs.forget_set(hash));
    Ok(())
}

/// BOLT 4: parts whose rest did not come are failed with mpp_timeout.
pub(super) fn set_timeout(
    node: &Node,
    turn: &mut Turn<'_>,
    hash: PaymentHash,
    since: Instant,
) -> Result<(), Stop> {
    let Some(set) = node.htlcs.sets.get(&hash).filter(|s| s.since == since) else { return Ok(()) };
    for part in &set.parts {
        let Some(channel) = node.channels.all.get(&part.channel) else { continue };
        let peeled = channel.peeled.get(&part.id).map(|p| &p.peeled);
        if let (Some(Peeled::Payload { keys, .. }), Some(live)) =
            (peeled, channel.htlc(Side::Remote, part.id))
        {
            fail(node, turn, channel, live, keys, &Failure::MppTimeout)?;
        }
    }
    turn.install(move |node| node.htlcs.forget_set(hash));
    Ok(())
}

impl Htlcs {
    /// A set that is complete, or has waited long enough.
    fn forget_set(&mut self, hash: PaymentHash) {
        for part in self.sets.remove(&hash).into_iter().flat_map(|s| s.parts) {
            self.held.remove(&(part.channel, part.id));
        }
    }
}
