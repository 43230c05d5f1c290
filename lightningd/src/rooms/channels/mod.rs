//! Channels: what each is, what state it is in, and which child has it. One child per channel at a
//! time.

pub mod budgets;
pub mod change;
pub mod closers;
pub mod closing;
pub mod deadline;
pub mod decision;
pub mod error_to_peer;
pub mod events;
#[cfg(test)]
mod evil_tests;
pub mod fail;
pub mod forget;
mod fresh;
pub mod index;
pub mod key;
pub mod live;
pub mod numbers;
pub mod opening;
pub mod our_update;
pub mod persist;
pub mod phase;
#[cfg(test)]
mod phase_tests;
pub mod policy;
pub mod reserved;
pub mod revocations;
pub mod scripts;
pub mod seed;
pub mod setchannel;
pub mod spoke;
pub mod start;
pub mod state;
pub mod store;
pub mod strangers;
pub mod terms;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "fuzz targets use a part of it"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests and fuzz targets alone")]
pub mod testing;
pub mod view;
pub mod watch;

use crate::kernel::floor::scope;
use crate::kernel::words::rooms::ChannelEvent;
use crate::rooms::channels::state::{Cause, State, StateTrust};

use crate::sys::children::ChildId;
use bitcoin::{ScriptBuf, Transaction, Txid};
use channel::phase::{Input, Rule, rule};
use primitives::*;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use wire::channel_data::*;
use wire::channeld::PeeledHtlc;

/// Which child has a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// None: no connection, or nothing to do.
    Nobody,
    /// channeld, over this connection.
    Channeld(ChildId),
    /// The fee of the mutual close is negotiated, or was.
    Closingd(ChildId),
}

impl Owner {
    /// The child, if there is one.
    pub const fn child(self) -> Option<ChildId> {
        match self {
            Self::Nobody => None,
            Self::Channeld(c) | Self::Closingd(c) => Some(c),
        }
    }
}

/// Counts for listpeerchannels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// HTLCs of the peer.
    pub in_offered: (u64, Msat),
    /// Those that were fulfilled.
    pub in_fulfilled: (u64, Msat),
    /// HTLCs of ours.
    pub out_offered: (u64, Msat),
    /// Those that were fulfilled.
    pub out_fulfilled: (u64, Msat),
}

/// What lightningd knows of a channel that is not closed, and its daemon.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Ours alone; feeds key derivation.
    pub number: ChannelNumber,
    /// With whom.
    pub peer: NodeId,
    /// What both call it.
    pub id: ChannelId,
    /// How far its life is.
    pub state: State,
    /// What commitments depend on.
    pub live: ChannelState,
    /// To be announced?
    pub announce: bool,
    /// Confirmations before `channel_ready`.
    pub minimum_depth: u32,
    /// What its first commitment paid.
    pub initial_feerate: FeeratePerKw,
    /// What we call it before (or instead of) its short id.
    pub alias_local: ShortChannelId,
    /// What the peer calls it.
    pub alias_remote: Option<ShortChannelId>,
    /// Where its funding is.
    pub scid: Option<ShortChannelId>,
    /// Did each side send `channel_ready`?
    pub ready: Sides<bool>,
    /// Scripts in the `shutdown`s.
    pub shutdown: Sides<Option<ScriptBuf>>,
    /// Lowest id that an HTLC of the peer can have which was not stored when our `shutdown` was
    /// first sent. HTLCs from this id on are failed. `None`: not sent yet.
    pub shutdown_at: Option<HtlcId>,
    /// closingd stored a closing transaction once: the peer may hold our signature on it.
    pub closing_begun: bool,
    /// Scripts fixed at the opening.
    pub upfront: Sides<Option<ScriptBuf>>,
    /// The peer's announcement_signatures, as they came.
    pub announcement_remote: Option<Vec<u8>>,
    /// The funding transaction, if we made it.
    pub funding_tx: Option<Transaction>,
    /// Its block.
    pub funding_height: Option<BlockHeight>,
    /// Its funding was in a block once, which may have left the chain.
    pub was_in_block: bool,
    /// Our tip when the channel was made.
    pub first_height: BlockHeight,
    /// Who began to close it.
    pub closer: Option<Side>,
    /// Until when the peer has time to agree to a close, in seconds since 1970; then we go alone.
    pub close_by: Option<u64>,
    /// A local `close` set `close_by`; `None` then means that it waits without limit. Otherwise it
    /// is the limit of a close that the peer began.
    pub close_asked: bool,
    /// What `close` said that its transaction may pay.
    pub close_feerange: Option<crate::rooms::channels::terms::FeerateRange>,
    /// What closes it, once both signed that.
    pub close_tx: Option<Transaction>,
    /// What spent the funding.
    pub spend: Option<(Txid, BlockHeight)>,
    /// Why it is in its state.
    pub cause: Cause,
    /// For people and programs: the evidence.
    pub reason: String,
    /// Whether our rows of it are the newest: what of ours may be published depends on it.
    pub trust: StateTrust,
    /// The funding is not ours to broadcast.
    pub withheld: bool,
    /// The least and the most we had.
    pub to_us_range: (Msat, Msat),
    /// Counts.
    pub totals: Totals,
    /// Payloads of received HTLCs that are not settled.
    pub peeled: BTreeMap<HtlcId, PeeledHtlc>,
    /// What was decided on received HTLCs.
    pub decided: BTreeMap<HtlcId, Removal>,
    /// Which child has it.
    pub owner: Owner,
    /// The connection that its last daemon served.
    pub served_connection: Option<u64>,
    /// The last connection on which the peer spoke of it while no daemon of that connection was
    /// there.
    pub spoken_on: Option<u64>,
    /// The connection on which the peer said `shutdown` before its funding was seen: nothing more
    /// is said of the channel there.
    pub put_off_on: Option<u64>,
    /// channel_reestablish is through on this connection.
    pub reestablished: bool,
    /// What its daemon is doing.
    pub status: (String, Option<String>),
    /// How it got here.
    pub changes: Vec<StateChange>,
    /// When it was last alive and well.
    pub last_stable: Option<u64>,
    /// What `setchannel` said.
    pub own_policy: crate::rooms::channels::terms::OwnPolicy,
}

/// One change of state.
#[derive(Debug, Clone)]
pub struct StateChange {
    /// ISO 8601.
    pub timestamp: String,
    /// From.
    pub old: State,
    /// To.
    pub new: State,
    /// What caused it.
    pub cause: Cause,
    /// Why.
    pub message: String,
}

/// All channels and attempts at them.
#[derive(Debug, Default)]
pub struct Channels {
    /// Alive, closing, or not yet buried.
    pub all: BTreeMap<ChannelNumber, Channel>,
    /// Buried.
    pub closed: BTreeMap<ChannelNumber, Channel>,
    /// Attempts.
    pub openings: BTreeMap<ChannelNumber, opening::Opening>,
    /// Who waits for `fundchannel` to broadcast.
    pub funders: BTreeMap<ChannelNumber, crate::sys::form::Caller>,
    /// Who waits for `fundchannel_cancel`.
    pub cancellers: Vec<(ChannelNumber, crate::sys::form::Caller)>,
    /// Failed and closed channels whose peer heard so.
    told: HashMap<ChannelNumber, crate::rooms::channels::ToldError>,
    by_funding: HashMap<OutPoint, ChannelNumber>,
    /// Short ids and aliases that channels had or have: whoever looks here checks what it finds.
    by_name: HashMap<ShortChannelId, ChannelNumber>,
    by_peer: HashMap<NodeId, Vec<ChannelNumber>>,
    /// What peers may still cause.
    budgets: budgets::Budgets,
    /// Peers with funded channels that connected too often: on this connection their daemons come
    /// later.
    delayed: BTreeMap<NodeId, u64>,
    /// Reserved numbers.
    numbers: crate::rooms::channels::reserved::Numbers,
    /// The highest created_index of any HTLC.
    last_htlc: Cell<u64>,
}

scope! {
    /// This room and those below it.
    pub struct Scope { channels: Channels } on crate::rooms::peers::Scope
}

impl Channel {
    /// What we call it: its short id, and before there is one our alias.
    pub fn name(&self) -> ShortChannelId {
        self.scid.unwrap_or(self.alias_local)
    }
    /// May it be named so in an onion? BOLT 2, "Defined Channel Types": where option_scid_alias was
    /// agreed on, the real short id is not to be shown by use.
    fn is_called(&self, name: ShortChannelId) -> bool {
        let secret = self.live.params.channel_type.offers(feature::SCID_ALIAS);
        self.alias_local == name || (!secret && self.scid == Some(name))
    }
    /// Is its funding as deep as it had to be? Until then whoever made it may spend its coins on
    /// something else: what comes over the channel is worth nothing yet, and what goes over it
    /// could be lost sight of. One that was ready is so once its funding's block left the chain.
    pub fn has_min_depth(&self, tip: BlockHeight) -> bool {
        let depth = self.funding_height.map_or(0, |h| (tip - h).0 + 1);
        self.minimum_depth == 0 || depth >= self.minimum_depth
    }
    /// Was its funding in a block, and is in none?
    fn lacks_funding(&self) -> bool {
        self.funding_height.is_none() && self.state != State::AwaitingLockin
    }
    /// The live HTLC of this id that this side offered.
    pub fn htlc(&self, offered_by: Side, id: HtlcId) -> Option<&LiveHtlc> {
        live_htlc(&self.live, offered_by, id)
    }
    /// Who opened it.
    pub const fn opener(&self) -> Side {
        self.live.params.opener
    }
    /// What it is for the log.
    pub fn source(&self) -> String {
        format!("chan#{}", self.number)
    }
    /// Says something in the log, under the peer's name.
    pub fn log(&self, level: wire::daemon::LogLevel, text: &str) {
        crate::sys::log::line(level, Some(self.peer), &self.source(), text);
    }
    /// The same for words of its daemon.
    pub fn log_said(&self, level: wire::daemon::LogLevel, text: &str) {
        crate::sys::log::said(level, Some(self.peer), &self.source(), text);
    }
    /// Is a daemon of ours to talk to the peer about it?
    pub fn wants_peer(&self) -> bool {
        self.state.wants_peer() || self.asks_peer_to_close()
    }
    /// Our data is old, and only the peer can close: it is asked to on every connection, until it
    /// does.
    pub fn asks_peer_to_close(&self) -> bool {
        self.trust == StateTrust::Lost && self.state == State::AwaitingUnilateral
    }
    /// Has the peer heard on this connection what there is to say? A closing was agreed on, or its
    /// close is put off.
    pub fn is_done_on(&self, connection: u64) -> bool {
        let is_over = self.state == State::ClosingComplete;
        is_over && self.served_connection == Some(connection) || self.put_off_on == Some(connection)
    }
    /// Can it carry payments now?
    pub fn is_usable(&self) -> bool {
        rule(self.phase(), Input::ForwardOver) == Rule::Taken
            && self.reestablished
            && matches!(self.owner, Owner::Channeld(_))
    }
}

fn live_htlc(live: &ChannelState, offered_by: Side, id: HtlcId) -> Option<&LiveHtlc> {
    // In order: ours first, each side's by id.
    let htlcs = &live.htlcs.0;
    let at = htlcs.binary_search_by_key(&(offered_by, id), |l| (l.htlc.offered_by, l.htlc.id));
    at.ok().and_then(|at| htlcs.get(at))
}

/// The connection on which the peer heard that a channel failed, and how many messages about it
/// came since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldError {
    connection: u64,
    heard: u8,
}

/// What a peer hears of a channel whose data we lost.
pub const PLEASE_CLOSE: &str = "we lost data: please close this channel";
