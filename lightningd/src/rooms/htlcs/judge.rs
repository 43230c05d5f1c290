//! May this HTLC go on, and over which channel? Pure: everything it takes to know comes in as a
//! value.
//!
//! Every failure is one of BOLT 4's, "Failure Messages", with its data. Two things in there leave a
//! choice:
//!
//! * `channel_update` inside a failure: optional, and its receivers are warned of being
//!   fingerprinted by it. We never put one in: its length is zero, which is what a node that
//!   provides none is to say.
//! * where several failures fit, the first of BOLT 4's list should be taken. Whatever makes a
//!   channel of ours unusable is passing (`temporary_channel_failure`) or lasting
//!   (`permanent_channel_failure`), and both stand before `channel_disabled`: that one is never
//!   ours.

use crate::rooms::channels::terms::Policy;
use onion::{Failure, ForwardPayload};
use primitives::*;

/// Whether a channel takes HTLCs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// It does.
    Now,
    /// Not now: the peer is away, or the channel is not ready.
    Later,
    /// Never again: it is closing.
    NoMore,
}

/// A channel that leads to the next node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Ours alone.
    pub number: ChannelNumber,
    /// Does it take HTLCs?
    pub takes: Takes,
    /// What it wants.
    pub policy: Policy,
    /// What it wanted a short time ago: payers may not know better yet.
    pub before: Option<Policy>,
}

/// What is the same for every channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Our tip, if it can be believed to be the chain's.
    pub tip: Option<BlockHeight>,
    /// Blocks that must lie between the two expiries.
    pub delta: CltvDelta,
    /// Blocks that an HTLC may last from now.
    pub max_locktime: CltvDelta,
}

/// An outgoing HTLC must live for longer than this, or we could not fail its channel in time.
pub const SOON: CltvDelta = CltvDelta(2);

/// The received HTLC, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// What it brings.
    pub amount: Msat,
    /// When it can be taken back.
    pub expiry: BlockHeight,
}

/// The channel to offer it over, or what its sender is told. `ways` are the channels to the node
/// that the onion names, the one that it names first. BOLT 4, "Non-strict Forwarding": any of them
/// will do whose policy is met.
pub fn judge(
    incoming: Incoming,
    wanted: &ForwardPayload,
    now: &Now,
    ways: &[Way],
) -> Result<ChannelNumber, Failure> {
    let Some(tip) = now.tip else {
        // Without the tip nobody can tell how much time is left.
        return Err(Failure::TemporaryNodeFailure);
    };
    let mut named = None;
    for way in ways {
        let failure = match over(incoming, wanted, now, tip, way) {
            Ok(()) => return Ok(way.number),
            Err(failure) => failure,
        };
        named.get_or_insert(failure);
    }
    Err(named.unwrap_or(Failure::UnknownNextPeer))
}

/// One channel: the first thing that is in the way, in the order of BOLT 4's list.
fn over(
    incoming: Incoming,
    wanted: &ForwardPayload,
    now: &Now,
    tip: BlockHeight,
    way: &Way,
) -> Result<(), Failure> {
    match way.takes {
        Takes::Now => {}
        Takes::Later => return Err(temporary()),
        Takes::NoMore => return Err(Failure::PermanentChannelFailure),
    }
    let current = meets(incoming, wanted, &way.policy);
    if current.is_err() && way.before.is_none_or(|p| meets(incoming, wanted, &p).is_err()) {
        return current;
    }
    let out = wanted.cltv_expiry;
    // BOLT 4: cltv_expiry - cltv_expiry_delta >= outgoing_cltv_value. In more bits: it may be
    // anything.
    if u64::from(incoming.expiry.0) < u64::from(out.0) + u64::from(now.delta.0) {
        return Err(Failure::IncorrectCltvExpiry { cltv_expiry: out, channel_update: vec![] });
    }
    if out <= tip + SOON {
        return Err(Failure::ExpiryTooSoon { channel_update: vec![] });
    }
    if out > tip + now.max_locktime {
        return Err(Failure::ExpiryTooFar);
    }
    Ok(())
}

/// Amounts and fee.
fn meets(incoming: Incoming, wanted: &ForwardPayload, policy: &Policy) -> Result<(), Failure> {
    let out = wanted.amount;
    if out > policy.htlc_max {
        // BOLT 4 has no word for it; BOLT 7's htlc_maximum_msat bounds what the channel handles.
        return Err(temporary());
    }
    // BOLT 2, update_add_htlc: there is none of nothing.
    if out < policy.htlc_min || out == Msat::ZERO {
        return Err(Failure::AmountBelowMinimum { htlc: out, channel_update: vec![] });
    }
    let paid = incoming.amount.checked_sub(out);
    match (paid, policy.fee(out)) {
        (Some(paid), Some(fee)) if paid >= fee => Ok(()),
        _ => Err(Failure::FeeInsufficient { htlc: incoming.amount, channel_update: vec![] }),
    }
}

/// It may work later, or with another HTLC.
pub const fn temporary() -> Failure {
    Failure::TemporaryChannelFailure { channel_update: Vec::new() }
}

#[cfg(test)]
mod tests;
