//! The HTLC switch: what becomes of a received HTLC, and what the end of an offered one means.
//!
//! A received HTLC that is irrevocable is decided once: it pays us (`receive`), goes on (`forward`), or fails. The decision is
//! a row before anybody hears of it, and is said again to every daemon that its channel gets. An HTLC that we offered has a
//! key (`key`): when it ends, what it was for hears (`resolve`). The two functions that on-chain resolution calls are
//! [`learned_preimage`] and [`failed_on_chain`].
//!
//! Identity is (channel, direction, id): never a payment hash, never an amount.

pub mod early;
pub mod forward;
pub mod judge;
pub mod key;
pub mod receive;
pub mod resolve;
pub mod store;

use crate::kernel::words::rooms::HtlcEvent;
use crate::rooms::htlcs::key::Origin;

use crate::kernel::turn::{Stop, Turn};
use crate::kernel::words::event::Event;
use crate::node::Node;
use crate::rooms::channels::Channel;
use crate::rooms::payments;
use forward::{Forward, Via};
use onion::{Failure, Payload, sha256_of_onion};
use primitives::*;
use receive::Set;
use resolve::{Removed, ended, fail, settle};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};
use wire::channel_data::{LiveHtlc, Removal, Stage};
use wire::channeld::Peeled;
use wire::daemon::LogLevel;

/// So long a start may take to find the tip before HTLCs fail for want of it.
const TIP_PATIENCE: Duration = Duration::from_secs(60);

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
    early: BTreeMap<u64, early::Early>,
    /// What the rows say of outgoing HTLCs, until it was acted on.
    loaded: Vec<Loaded>,
    last_created: Cell<u64>,
    last_updated: Cell<u64>,
    /// What forwards have brought.
    pub fees_collected: Msat,
    /// A node that just started has the tip in a moment: what its peers say again until then is not failed for that.
    waits_for_tip: bool,
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

/// After the load, before peers: what a crash may have left half said.
pub fn begin(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    if !node.chain.caught_up {
        turn.install(|node| node.htlcs.waits_for_tip = true);
        turn.at(Instant::now() + TIP_PATIENCE, Event::Htlc(HtlcEvent::DecideAll));
    }
    resolve::begin(node, turn)?;
    forward::lost(node, turn, None)
}

/// We may be at the tip, and it is new enough to be one: HTLCs that came before are decided on.
pub fn tip_found(node: &Node, turn: &mut Turn<'_>) {
    if node.htlcs.waits_for_tip && node.stale_tip().is_none() {
        turn.also(Event::Htlc(HtlcEvent::DecideAll));
    }
}

/// A block was taken in.
pub fn new_tip(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    forward::new_tip(node, turn);
    receive::new_tip(node, turn)?;
    early::check(node, turn)
}

fn decide_all(node: &Node, turn: &mut Turn<'_>) {
    if node.htlcs.waits_for_tip {
        turn.install(|node| node.htlcs.waits_for_tip = false);
        for channel in node.channels.all.values() {
            decide_received(turn, channel);
        }
    }
}

/// Every HTLC that this channel brought is decided on that was not yet, in this life. Also where its commitment is in a block:
/// parts that were held for the rest of their payment are held again, and one whose channel never will be established is as good
/// as any.
pub fn decide_received(turn: &mut Turn<'_>, channel: &Channel) {
    for live in channel.live.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Remote) {
        turn.also(Event::Decide(channel.number, live.htlc.id));
    }
}

/// Decides on a received HTLC that is irrevocable. A second time changes nothing.
pub fn decide(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    id: HtlcId,
) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&number) else { return Ok(()) };
    let found = channel.htlc(Side::Remote, id);
    let Some(live) = found.filter(|l| l.added == Stage::Irrevocable && l.removed.is_none()) else {
        return Ok(());
    };
    let known = channel.decided.contains_key(&id) || node.htlcs.is_known(number, id);
    if known || node.htlcs.waits_for_tip {
        return Ok(());
    }
    let Some(peeled) = channel.peeled.get(&id) else {
        channel.log(
            LogLevel::Broken,
            &format!("HTLC {id} is irrevocable, and its onion was never peeled"),
        );
        return Ok(());
    };
    let (payload, next, keys) = match &peeled.peeled {
        Peeled::Unreadable { sha256_of_onion, failure_code } => {
            let removal = Removal::Malformed {
                sha256_of_onion: *sha256_of_onion,
                failure_code: *failure_code,
            };
            return settle(node, turn, number, id, removal);
        }
        Peeled::Refused { removal: Removal::Fulfilled { .. } } => {
            return Err(Stop::refused(format!("channeld refused HTLC {id} with a preimage")));
        }
        // Its removal may have been signed by nobody before the connection was lost: as a row it is said again.
        Peeled::Refused { removal } => return settle(node, turn, number, id, removal.clone()),
        Peeled::Payload { payload, next, keys } => (payload, next, keys),
    };
    if crate::rooms::channels::decision::is_replayed(turn, number, live)? {
        channel
            .log(LogLevel::Unusual, &format!("failing HTLC {id}: its onion was received before"));
        return fail(node, turn, channel, live, keys, &Failure::TemporaryNodeFailure);
    }
    match (Payload::parse(&payload.0, next.is_none(), live.path_key.is_some()), next) {
        (Err(e), _) => fail(node, turn, channel, live, keys, &e.into()),
        (Ok(Payload::Final(wanted)), _) => {
            receive::receive(node, turn, channel, live, &wanted, keys)
        }
        (Ok(Payload::Forward(wanted)), Some(next)) => {
            forward::begin(node, turn, (channel, live), &wanted, next, keys)
        }
        // The payload was read as a forward because there is a next packet.
        (Ok(Payload::Forward(_)), None) => {
            fail(node, turn, channel, live, keys, &Failure::TemporaryNodeFailure)
        }
        // Blinded paths are not offered by any feature of ours.
        (Ok(Payload::Blinded(_)), _) => {
            let sha = sha256_of_onion(live.onion.0.as_slice());
            fail(node, turn, channel, live, keys, &Failure::InvalidOnionBlinding(sha))
        }
    }
}

/// An HTLC that we offer is about to be stored, under the key that we gave for it: what it is for knows of it, or the daemon
/// is not believed.
pub fn bind(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    live: &LiveHtlc,
) -> Result<(), Stop> {
    match Origin::of(live.key) {
        Origin::Payment(index) => payments::bind(node, turn, channel, index, live),
        Origin::Forward(index) => forward::bind(node, turn, channel.number, index, live),
    }
}

/// The switch's events.
pub fn handle(node: &Node, turn: &mut Turn<'_>, event: HtlcEvent) -> Result<(), Stop> {
    match event {
        HtlcEvent::Refused { channel, key, why } => match Origin::of(key) {
            Origin::Payment(key) => payments::refused(node, turn, channel, key, &why),
            Origin::Forward(index) => forward::refused(node, turn, channel, index, &why),
        },
        HtlcEvent::Fulfilled { channel, id, preimage } => {
            let live = node.channels.all.get(&channel).and_then(|c| c.htlc(Side::Local, id));
            match live {
                // channeld checked it; a captured one is not believed.
                Some(live) if preimage.hash() != live.htlc.payment_hash => Err(Stop::refused(
                    format!("channeld learned a preimage that does not open HTLC {id}"),
                )),
                Some(live) => ended(node, turn, live.key, Removed::Fulfilled(preimage)),
                None => Ok(()),
            }
        }
        HtlcEvent::Settled { channel, htlc } => resolve::settled(node, turn, channel, &htlc),
        HtlcEvent::Lost(channel) => forward::lost(node, turn, Some(channel)),
        HtlcEvent::SetTimeout(hash, since) => receive::set_timeout(node, turn, hash, since),
        HtlcEvent::SetComplete(hash) => receive::set_complete(node, turn, hash),
        HtlcEvent::StorePayment(key) => payments::store(node, turn, key),
        HtlcEvent::DecideAll => {
            decide_all(node, turn);
            Ok(())
        }
        HtlcEvent::CheckExpiring => early::check(node, turn),
    }
}

#[cfg(test)]
mod tests;
