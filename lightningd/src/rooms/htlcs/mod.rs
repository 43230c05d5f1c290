//! The HTLC switch: what becomes of a received HTLC, and what the end of an offered one means.
//!
//! A received HTLC that is irrevocable is decided once: it pays us (`receive`), goes on
//! (`forward`), or fails. The decision is a row before anybody hears of it, and is said again to
//! every daemon that its channel gets. An HTLC that we offered has a key (`key`): when it ends,
//! what it was for hears (`resolve`). The two functions that on-chain resolution calls are
//! [`learned_preimage`] and [`failed_on_chain`].
//!
//! Identity is (channel, direction, id): never a payment hash, never an amount.

pub mod decide;
pub mod early;
pub mod early_ends;
pub mod forward;
pub mod incoming;
pub mod judge;
pub mod receive;
pub mod resolve;
pub mod store;

use crate::kernel::floor::scope;
use onion::Failure;
use primitives::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Instant;
use wire::channel_data::Removal;

/// What the switch remembers beside the rows of channels.
#[derive(Debug, Default)]
pub struct Htlcs {
    /// Parts that wait for the rest. Not stored: a restart decides again.
    sets: BTreeMap<PaymentHash, Set>,
    /// Which parts those are.
    held: HashSet<(ChannelNumber, HtlcId)>,
    /// Under way, by created_index.
    forwards: BTreeMap<u64, Forward>,
    by_incoming: HashSet<(ChannelNumber, HtlcId)>,
    offered: BTreeSet<(ChannelNumber, u64)>,
    /// Failed back before their outgoing HTLC was resolved, by created_index.
    early: BTreeMap<u64, crate::rooms::htlcs::Early>,
    /// What the rows say of outgoing HTLCs, until it was acted on.
    loaded: Vec<Loaded>,
    last_created: Cell<u64>,
    last_updated: Cell<u64>,
    /// What forwards have brought.
    pub fees_collected: Msat,
    /// A node that just started has the tip in a moment: what its peers say again until then is not
    /// failed for that.
    waits_for_tip: bool,
}

scope! {
    /// This room and those below it.
    pub struct Scope { htlcs: Htlcs } on crate::rooms::payments::Scope
}

/// What became of a forward's outgoing HTLC, as its row says at the start.
#[derive(Debug)]
struct Loaded {
    index: u64,
    settled: bool,
    removal: Option<Removal>,
}

#[cfg(test)]
impl Htlcs {
    /// As after a start: what arrives waits for [`Self::let_decide`].
    pub fn hold_decisions(&mut self) {
        self.waits_for_tip = true;
    }
    /// The tip is there.
    pub fn let_decide(&mut self) {
        self.waits_for_tip = false;
    }
}

fn next(counter: &Cell<u64>) -> u64 {
    counter.set(counter.get() + 1);
    counter.get()
}

impl Htlcs {
    /// The forward of this created_index, if it is under way.
    pub fn forward(&self, index: u64) -> Option<&Forward> {
        self.forwards.get(&index)
    }
    fn next_created(&self) -> u64 {
        next(&self.last_created)
    }
    fn next_updated(&self) -> u64 {
        next(&self.last_updated)
    }
    fn is_known(&self, channel: ChannelNumber, id: HtlcId) -> bool {
        self.held.contains(&(channel, id)) || self.by_incoming.contains(&(channel, id))
    }
    fn insert(&mut self, forward: Forward) {
        self.remove(forward.index);
        self.by_incoming.insert((forward.incoming, forward.in_id));
        if let Via::Offered(channel) = forward.via {
            self.offered.insert((channel, forward.index));
        }
        self.forwards.insert(forward.index, forward);
    }
    fn set_via(&mut self, index: u64, via: Via) {
        if let Some(forward) = self.remove(index) {
            self.insert(Forward { via, ..forward });
        }
    }
    fn remove(&mut self, index: u64) -> Option<Forward> {
        let gone = self.forwards.remove(&index)?;
        self.by_incoming.remove(&(gone.incoming, gone.in_id));
        if let Via::Offered(channel) = gone.via {
            self.offered.remove(&(channel, index));
        }
        Some(gone)
    }
    /// What this channel's daemon was told to offer, and no row says it did.
    fn offered_over(&self, channel: ChannelNumber) -> impl Iterator<Item = &Forward> {
        let range = (channel, 0)..=(channel, u64::MAX);
        self.offered.range(range).filter_map(|(_, index)| self.forwards.get(index))
    }
}

/// A forward that is under way.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The order in which it was made; also part of its HTLC's key.
    pub index: u64,
    /// Where it came from.
    pub incoming: ChannelNumber,
    /// What that was called.
    pub in_scid: ShortChannelId,
    /// Which of the peer's.
    pub in_id: HtlcId,
    /// What it brought.
    pub in_amount: Msat,
    /// What the channel is called that it goes over; before there is one, what the onion calls it.
    pub out_scid: ShortChannelId,
    /// What goes on.
    pub out_amount: Msat,
    /// Until when.
    pub out_expiry: BlockHeight,
    /// Milliseconds since 1970.
    pub received_ms: u64,
    /// How far it is.
    pub via: Via,
    /// Channels that did not take it.
    pub tried: Vec<ChannelNumber>,
}

/// Where a forward's outgoing HTLC is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Not offered.
    Nowhere,
    /// This channel's daemon was told. No row says so.
    Offered(ChannelNumber),
    /// It is this channel's HTLC of this id.
    Bound(ChannelNumber, HtlcId),
}

/// Whether the commitment in a block has an output for an HTLC that the peer offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceivedOutput {
    /// No commitment of this channel is in a block.
    NotOnChain,
    /// onchaind has not answered yet.
    Undetermined,
    /// It is there, and nothing has spent it.
    Unspent,
    /// There is none: the HTLC was trimmed, or is not in this commitment. Or it is spent.
    Missing,
}

/// What the chain says of HTLCs, as the room above knows it: the flow hands it in.
pub struct OnChain<'a> {
    /// Is the output of this received HTLC there to be claimed?
    pub received: &'a dyn Fn(ChannelNumber, HtlcId) -> ReceivedOutput,
    /// Is this HTLC of ours, whose incoming HTLC expires at that height, unresolved as far as the
    /// chain shows?
    pub is_unresolved: &'a dyn Fn(ChannelNumber, HtlcId, BlockHeight) -> bool,
}

/// One part of a payment to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    channel: ChannelNumber,
    id: HtlcId,
    amount: Msat,
    expiry: BlockHeight,
}

/// Parts that came, of a payment that is not complete.
#[derive(Debug, Clone)]
pub(super) struct Set {
    parts: Vec<Part>,
    total: Msat,
    since: Instant,
}

impl Set {
    /// What its parts bring.
    fn sum(&self) -> Msat {
        self.parts.iter().fold(Msat::ZERO, |sum, part| sum.saturating_add(part.amount))
    }
}

/// A forward that was failed back before its outgoing HTLC was resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Early {
    /// The channel whose close that avoided.
    pub incoming: ChannelNumber,
    /// The channel that has the outgoing HTLC.
    pub outgoing: ChannelNumber,
    /// Of the outgoing HTLC.
    pub amount: Msat,
    /// Was its preimage shown since?
    pub lost: bool,
}

/// How an HTLC of ours ended.
#[derive(Debug, Clone)]
pub(super) enum Removed {
    /// With the preimage.
    Fulfilled(Preimage),
    /// The next node sent this back.
    Failed(Vec<u8>),
    /// The next node could not read the onion.
    Malformed { sha256_of_onion: Sha256Digest, failure_code: u16 },
    /// The chain closed over it.
    OnChain,
    /// It never left.
    Here(Failure),
}

impl From<Removal> for Removed {
    fn from(removal: Removal) -> Self {
        match removal {
            Removal::Fulfilled { preimage } => Self::Fulfilled(preimage),
            Removal::Failed { reason } => Self::Failed(reason),
            Removal::Malformed { sha256_of_onion, failure_code } => {
                Self::Malformed { sha256_of_onion, failure_code }
            }
        }
    }
}

#[cfg(test)]
mod tests;
