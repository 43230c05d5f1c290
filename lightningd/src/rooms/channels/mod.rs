//! Channels: what each is, what state it is in, and which child has it. One child per channel at a time.

pub mod budgets;
pub mod closing;
pub mod deadline;
pub mod decision;
pub mod error_to_peer;
#[cfg(test)]
mod evil_tests;
pub mod fail;
pub mod forget;
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
pub mod state;
pub mod store;
pub mod strangers;
pub mod terms;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), allow(dead_code))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
pub mod testing;
pub mod view;
pub mod watch;
pub mod watermark;
pub mod witness;

use crate::kernel::words::rooms::ChannelEvent;
use crate::rooms::channels::state::State;

use crate::kernel::turn::Turn;
use crate::kernel::words::outgoing::Outgoing;
use crate::node::Node;
use crate::sys::children::ChildId;
use crate::sys::fatal::Stop;
use bitcoin::{ScriptBuf, Transaction, Txid};
use channel::phase::{Input, Rule, rule};
use primitives::*;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;
use wire::channel_data::*;
use wire::channeld::PeeledHtlc;
use wire::connectd::Spoke;
use wire::{Error, Message};

/// Which child has a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// None: no connection, or nothing to do.
    Nobody,
    /// channeld, over this connection.
    Channeld(ChildId),
    /// closingd.
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

/// A channel.
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
    /// Lowest id that an HTLC of the peer can have which was not stored when our `shutdown` was first sent. HTLCs from this id on are
    /// failed. `None`: not sent yet.
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
    /// A local `close` set `close_by`; `None` then means that it waits without limit. Otherwise it is the limit of a close that the
    /// peer began.
    pub close_asked: bool,
    /// What `close` said that its transaction may pay.
    pub close_feerange: Option<crate::rooms::channels::terms::FeerateRange>,
    /// What closes it, once both signed that.
    pub close_tx: Option<Transaction>,
    /// What spent the funding.
    pub spend: Option<(Txid, BlockHeight)>,
    /// CLN's word for why it is as it is: unknown, local, user, remote, protocol, onchain.
    pub cause: String,
    /// For people and programs: the evidence.
    pub reason: String,
    /// The peer proved that our data is old: never broadcast.
    pub lost_state: bool,
    /// Nobody knows whether our rows are old: nothing is published before the peer has shown where we are.
    pub unproven: bool,
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
    /// The last connection on which the peer spoke of it while no daemon of that connection was there.
    pub spoken_on: Option<u64>,
    /// The connection on which the peer said `shutdown` before its funding was seen: nothing more is said of the channel there.
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
    pub own_policy: policy::OwnPolicy,
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
    /// CLN's word.
    pub cause: String,
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
    told: HashMap<ChannelNumber, error_to_peer::Told>,
    by_funding: HashMap<OutPoint, ChannelNumber>,
    /// Short ids and aliases that channels had or have: whoever looks here checks what it finds.
    by_name: HashMap<ShortChannelId, ChannelNumber>,
    by_peer: HashMap<NodeId, Vec<ChannelNumber>>,
    /// What peers may still cause.
    budgets: budgets::Budgets,
    /// Peers with funded channels that connected too often: on this connection their daemons come later.
    delayed: BTreeMap<NodeId, u64>,
    /// Reserved numbers.
    numbers: numbers::Numbers,
    /// The highest created_index of any HTLC.
    last_htlc: Cell<u64>,
}

impl Channel {
    /// What we call it: its short id, and before there is one our alias.
    pub fn name(&self) -> ShortChannelId {
        self.scid.unwrap_or(self.alias_local)
    }
    /// May it be named so in an onion? BOLT 2, "Defined Channel Types": where option_scid_alias was agreed on, the real short
    /// id is not to be shown by use.
    fn is_called(&self, name: ShortChannelId) -> bool {
        let secret = self.live.params.channel_type.offers(feature::SCID_ALIAS);
        self.alias_local == name || (!secret && self.scid == Some(name))
    }
    /// Is its funding as deep as it had to be? Until then whoever made it may spend its coins on something else: what comes over
    /// the channel is worth nothing yet, and what goes over it could be lost sight of. One that was ready is so once its
    /// funding's block left the chain.
    pub fn is_founded(&self, tip: BlockHeight) -> bool {
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
        self.state.wants_peer() || self.begs()
    }
    /// Our data is old, and only the peer can close: it is asked to on every connection, until it does.
    pub fn begs(&self) -> bool {
        self.lost_state && self.state == State::AwaitingUnilateral
    }
    /// Has the peer heard on this connection what there is to say? A closing was agreed on, or its close is put off.
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

/// Changes a channel's value once the rows are there.
pub fn update(
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    change: impl FnOnce(&mut Channel) + 'static,
) {
    turn.install(move |node| node.channels.change(number, change));
}

/// Sends an order to the channel's child, if it is channeld.
pub fn order<M: Message>(channel: &Channel, turn: &mut Turn<'_>, message: &M) {
    if let Owner::Channeld(child) = channel.owner {
        turn.say(Outgoing::Order { child, body: message.encode(), fds: vec![] });
    }
}

/// Moves a channel to another state, with the reason, on disk and in memory.
pub fn set_state(
    channel: &Channel,
    turn: &mut Turn<'_>,
    new: State,
    cause: &str,
    message: &str,
) -> Result<(), Stop> {
    if channel.state == new {
        return Ok(());
    }
    if !channel.state.may_become(new) {
        channel.log(
            wire::daemon::LogLevel::Debug,
            &format!("it stays {}, and is not {} again", channel.state.name(), new.name()),
        );
        return Ok(());
    }
    let change = StateChange {
        timestamp: crate::sys::log::iso_time(std::time::SystemTime::now()),
        old: channel.state,
        new,
        cause: cause.to_owned(),
        message: message.to_owned(),
    };
    channel.log(
        wire::daemon::LogLevel::Info,
        &format!("State changed from {} to {}", channel.state.name(), new.name()),
    );
    store::set_state(turn.db, channel.number, new, cause, message)?;
    store::add_state_change(turn.db, channel.number, &change)?;
    update(turn, channel.number, move |c| {
        c.state = new;
        c.cause.clone_from(&change.cause);
        c.reason.clone_from(&change.message);
        c.changes.push(change);
        // What a daemon said of another state is no longer so. onchaind says once what it tracks.
        if !matches!(new, State::Onchain | State::Closed) {
            c.status = (String::new(), None);
        }
    });
    Ok(())
}

/// Our rows of this channel are old, or may be: nothing of ours is ever published.
pub fn lose_state(channel: &Channel, turn: &mut Turn<'_>) -> Result<(), Stop> {
    store::set_lost_state(turn.db, channel.number)?;
    update(turn, channel.number, |c| c.lost_state = true);
    Ok(())
}

/// The room's own events.
pub fn handle(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    event: ChannelEvent,
) -> Result<(), Stop> {
    match event {
        ChannelEvent::TellUpdate => match node.channels.all.get(&number) {
            Some(channel) => our_update::tell_peer(node, turn, channel),
            None => Ok(()),
        },
        ChannelEvent::SignFunding => {
            crate::rooms::channels::opening::funding::sign_funding(node, turn, number)
        }
        ChannelEvent::CloseTimeout => closing::timeout(node, turn, number),
        ChannelEvent::Broadcast => fail::broadcast_commitment(node, turn, number),
        ChannelEvent::FundingSeen => strangers::funding_seen(node, turn, number),
        ChannelEvent::ChildGone => live::after_gone(node, turn, number),
    }
}

/// After the load, before peers: what a crash may have left half said of channels.
pub fn resume(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    for channel in node.channels.all.values() {
        let live = &channel.live;
        let busy = !live.htlcs.0.is_empty() || live.commitment != live.revoked;
        if channel.closing_begun && channel.state.is_open() && busy {
            // An older version took HTLCs after a closing was signed. No commitment changes any more: they end on chain.
            let why = "HTLCs were added after a closing transaction was signed";
            fail::fail_channel(node, turn, channel, "protocol", why)?;
        }
        watch::resume(node, turn, channel)?;
    }
    Ok(())
}

/// New fee estimates: channeld of each channel hears what they mean.
pub fn fees_changed(node: &Node, turn: &mut Turn<'_>) {
    for channel in node.channels.all.values() {
        let fees = live::fee_policy(node, channel);
        order(channel, turn, &wire::channeld::FeesChanged { fees });
    }
}

/// A message came for a channel id that nobody serves.
pub fn spoke(node: &Node, turn: &mut Turn<'_>, s: Spoke) -> Result<(), Stop> {
    let number = s.message.0.first_chunk::<2>().map(|n| u16::from_be_bytes(*n));
    if number == Some(wire::OpenChannel::NUMBER) {
        return opening::begin::proposed(node, turn, &s);
    }
    let known = node.channels.by_id(s.node, s.channel);
    match known {
        Some(channel) if channel.begs() && channel.served_connection == Some(s.connection) => {
            refuse(node, turn, &s, live::PLEASE_CLOSE);
            Ok(())
        }
        Some(channel) if channel.owner == Owner::Nobody && channel.is_done_on(s.connection) => {
            crate::rooms::peers::line::refuse(node, turn, s.node, s.connection, s.channel);
            Ok(())
        }
        Some(channel) if channel.wants_peer() && channel.owner == Owner::Nobody => {
            strangers::start_for_peer(node, turn, channel)
        }
        // Its daemon is about to be there: what came is held for it.
        Some(channel) if channel.wants_peer() => {
            update(turn, channel.number, move |c| c.spoken_on = Some(s.connection));
            Ok(())
        }
        Some(channel) => {
            error_to_peer::spoke(node, turn, channel, &s);
            Ok(())
        }
        None => {
            let (peer, now) = (s.node, Instant::now());
            // Ids are free: whoever heard of many that they are unknown hears no more.
            let hears = node.channels.budgets.may_hear_of_unknown(peer, now);
            if error_to_peer::is_complaint(&s.message.0) || !hears {
                crate::rooms::peers::line::refuse(node, turn, peer, s.connection, s.channel);
            } else {
                refuse(node, turn, &s, "unknown channel");
                turn.install(move |node| node.channels.budgets.hears_of_unknown(peer, now));
            }
            Ok(())
        }
    }
}

fn refuse(node: &Node, turn: &mut Turn<'_>, s: &Spoke, why: &str) {
    crate::rooms::peers::line::refuse(node, turn, s.node, s.connection, s.channel);
    crate::rooms::peers::line::tell(node, turn, s.node, &Error::new(s.channel, why));
}

/// A new alias: random, so that it says nothing, and not in use.
pub fn new_alias(node: &Node) -> ShortChannelId {
    loop {
        let alias = ShortChannelId(u64::from_be_bytes(subdaemon::random()));
        let taken = |c: &Channel| c.alias_local == alias || c.scid == Some(alias);
        if !node.channels.all.values().any(taken) {
            return alias;
        }
    }
}
