//! Channels on chain: what spent their fundings, what followed, and taking what is ours.
//!
//! The chain's facts are rows (which transactions, in which blocks). onchaind says what follows from them, whole and anew
//! each time; this room turns its claims into transactions, with fees that rise towards deadlines, and never forgets a
//! transaction of ours before it is in a block or has become impossible. What is watched follows from the rows alone, by one
//! rule: every output of the commitment, and what spends one of those has at the same index.

pub mod allocate;
pub mod anchor;
pub mod attempt;
pub mod attempts;
pub mod child;
pub mod claims;
pub mod commitments;
pub mod cost;
pub mod fees;
pub mod plan;
pub mod report;
pub mod request;
pub mod requests;
pub mod send;
pub mod store;
#[cfg(test)]
mod tests;
pub mod unjudged;
pub mod watch;

use crate::kernel::words::rooms::OnchainEvent;
use crate::rooms::chain::BURIED;
use crate::rooms::onchain::watch::ask_mempool;

use crate::kernel::children::Role;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::HtlcEvent;
use crate::node::Node;
use crate::rooms::channels::state::State;
use crate::rooms::channels::{Channel, live};
use crate::rooms::{channels, htlcs};
use crate::sys::children::{ChildId, ChildSpec, Daemon};
use crate::sys::fatal::Stop;
use crate::sys::hsm::{ASK_AGAIN, NoPoint};
use attempt::{Attempt, GivenUp};
use bitcoin::{Transaction, Txid};
use primitives::*;
use report::has_our_htlcs;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};
use wire::channel_data::Removal;
use wire::daemon::LogLevel;
use wire::onchaind::*;
use wire::{Long, Message};

/// So long after the close nobody waits any more for fees to fall below what an output has: two weeks.
const WORTHLESS_AFTER: u32 = 2016;
/// So long onchaind may take to say what follows from a block, before nobody waits for it.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(60);
/// onchaind is born again after it died, at most this much later.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A transaction of a channel's end, in a block.
#[derive(Debug, Clone)]
pub struct Seen {
    /// It.
    pub tx: Transaction,
    /// Its id.
    pub txid: Txid,
    /// Its block.
    pub height: BlockHeight,
    /// 0: spends the funding; 1: spends an output of that; 2: spends an output of one of those.
    pub level: u8,
}

impl Seen {
    pub(crate) fn new(tx: Transaction, height: BlockHeight, level: u8) -> Self {
        Self { txid: tx.compute_txid(), tx, height, level }
    }
}

/// A channel whose funding was spent by a commitment.
#[derive(Debug)]
pub struct Case {
    /// Its onchaind.
    pub child: Option<ChildId>,
    /// What spent the funding.
    pub spend: Seen,
    /// What followed, in the order of the chain.
    pub later: Vec<Seen>,
    /// What follows from it.
    pub resolution: Option<Resolution>,
    /// Times that its onchaind died in this life of ours.
    deaths: u32,
    /// Resolutions that it may still send: one after its birth, and one for each order. Each costs signatures and rows.
    resolutions_due: u32,
    /// When the newest block was there to be told to its onchaind.
    told: Instant,
    /// The newest block that an onchaind of it has heeded.
    heeded: Option<BlockHeight>,
}

impl Case {
    pub(crate) fn new(spend: Seen) -> Self {
        Self {
            child: None,
            spend,
            later: Vec::new(),
            resolution: None,
            deaths: 0,
            resolutions_due: 1,
            told: Instant::now(),
            heeded: None,
        }
    }
}

impl Case {
    /// What spent the funding, then what followed.
    pub fn txs(&self) -> impl Iterator<Item = &Seen> {
        std::iter::once(&self.spend).chain(&self.later)
    }
    /// The one of this id, if it is in a block.
    pub fn seen(&self, txid: Txid) -> Option<&Seen> {
        self.txs().find(|seen| seen.txid == txid)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Onchain {
    /// By channel.
    pub cases: BTreeMap<ChannelNumber, Case>,
    /// Outputs whose spends matter: of which channel, and how far from its funding the transaction is that has them.
    watched: HashMap<OutPoint, (ChannelNumber, u8)>,
    /// Where the next question after the mempool's spends begins.
    next_asked: usize,
    /// What the mempool had since the last block: each onchaind hears of it once.
    shown: BTreeSet<(ChannelNumber, Txid)>,
    /// Transactions of ours under way.
    pub attempts: BTreeMap<ChannelNumber, Vec<Attempt>>,
    /// Start heights of outputs that no transaction of ours claims now, and of fundings with a published commitment. Rows.
    given_up: BTreeMap<ChannelNumber, BTreeMap<OutPoint, GivenUp>>,
    /// Our broadcast, unconfirmed commitments, with the tip at their first broadcast.
    published: BTreeMap<ChannelNumber, (Transaction, BlockHeight)>,
    /// For each of those, what the backend's mempool has that spends the funding, since it was asked last.
    funding_spends: BTreeMap<ChannelNumber, Transaction>,
    /// Anchor bumps of the other commitments of these channels, signed, with the UTXOs of the one that is an attempt.
    alternative_bumps: BTreeMap<ChannelNumber, Vec<Attempt>>,
    /// Outputs whose claim, alone in its transaction, bitcoind rejected last: heights of the first and the last of an unbroken series of
    /// rejections.
    rejections: BTreeMap<ChannelNumber, BTreeMap<OutPoint, (BlockHeight, BlockHeight)>>,
    /// Claims that hsmd did not sign with others. Each is in a transaction of its own.
    unsigned: BTreeSet<OutPoint>,
    /// What hsmd did not sign even alone, with the tip: tried again some blocks later.
    unsignable: BTreeMap<OutPoint, BlockHeight>,
    /// Transactions of each channel that hsmd did not sign at this tip.
    refusals: BTreeMap<ChannelNumber, (BlockHeight, u32)>,
    /// Tip when bitcoind rejected this channel's anchor bump that spent unconfirmed change.
    unchained: BTreeMap<ChannelNumber, BlockHeight>,
    /// Has something changed since fees were allocated last?
    fees_are_due: bool,
    /// Tip when all anchor bumps were sent last.
    bumps_sent: Option<BlockHeight>,
    /// The address that a channel's claims pay.
    sweep_index: BTreeMap<ChannelNumber, u32>,
    /// What ended each channel: for programs.
    pub evidence: BTreeMap<ChannelNumber, Value>,
}

impl Onchain {
    /// Transactions under way, of all channels.
    fn all_attempts(&self) -> impl Iterator<Item = (ChannelNumber, &Attempt)> {
        self.attempts.iter().flat_map(|(number, all)| all.iter().map(|a| (*number, a)))
    }
    /// The one of this id.
    fn attempt(&self, txid: Txid) -> Option<(ChannelNumber, &Attempt)> {
        self.all_attempts().find(|(_, a)| a.txid == txid)
    }
}

/// Claims and anchor bumps under way: the wallet spends no unconfirmed change of theirs.
pub fn attempts_under_way(node: &Node) -> BTreeSet<Txid> {
    node.onchain.all_attempts().map(|(_, attempt)| attempt.txid).collect()
}

/// Which channel this transaction is a claim of, if it is one that is under way.
pub fn attempt_of(node: &Node, txid: Txid) -> Option<ChannelNumber> {
    node.onchain.attempt(txid).map(|(number, _)| number)
}

/// Is this HTLC of ours, whose incoming HTLC is about to expire at `incoming`, unresolved as far as the chain shows? Where its channel is on
/// chain onchaind says so, once it has heeded the newest block, which may have the preimage, or has had [`ANSWER_TIME`] for that. With less
/// than three blocks left an onchaind that does not say so is not believed.
pub fn is_unresolved(
    node: &Node,
    number: ChannelNumber,
    id: HtlcId,
    incoming: BlockHeight,
) -> bool {
    let Some(case) = node.onchain.cases.get(&number) else { return true };
    let is_near = (incoming - node.chain.height()).0 < channel::FAIL_BACK_BLOCKS;
    let has_heeded = case.heeded.is_some_and(|tip| tip >= node.chain.height());
    let has_answered = has_heeded || case.told.elapsed() >= ANSWER_TIME;
    let is_overdue = case.resolution.as_ref().is_some_and(|r| r.overdue.0.contains(&id));
    has_answered && (is_near || is_overdue)
}

/// The room's events.
pub fn handle(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    event: OnchainEvent,
) -> Result<(), Stop> {
    match event {
        OnchainEvent::Begin => begin(node, turn, number),
        // What is under way keeps its coins.
        OnchainEvent::Left(txid) if attempt_of(node, txid).is_some() => Ok(()),
        OnchainEvent::Left(txid) => crate::rooms::wallet::spend::unspend(node, turn, txid),
        OnchainEvent::GiveUp => drop_all(node, turn, number),
        OnchainEvent::Bury => bury(node, turn, number),
        OnchainEvent::CommitmentSent(tx) => anchor::commitment_published(node, turn, number, &tx),
        OnchainEvent::Decided(id, preimage) => {
            // Its onchaind claims with it.
            order(node, turn, number, &OnchainPreimage { id, preimage });
            Ok(())
        }
        OnchainEvent::ChannelForgotten => forget(node, turn, number),
    }
}

/// After the load: every case gets its onchaind.
pub fn resume(node: &Node, turn: &mut Turn<'_>) {
    for number in node.onchain.cases.keys() {
        turn.also(Event::Onchain(*number, OnchainEvent::Begin));
    }
}

/// Looks at HTLCs that are about to expire again, once an onchaind has had its time to answer to what it was told now.
fn check_expiring_later(turn: &mut Turn<'_>, told: Instant) {
    let late = told + ANSWER_TIME + Duration::from_secs(1);
    turn.at(late, Event::Htlc(HtlcEvent::CheckExpiring));
}

/// Our tip is the backend's: what was not done while we were behind is done now, and does not wait for the next block. Deadlines of
/// live channels do: their peers have had no chance to come back.
pub fn caught_up(node: &Node, turn: &mut Turn<'_>) {
    check_expiring_later(turn, Instant::now());
    for (number, case) in &node.onchain.cases {
        let known = case.resolution.as_ref().is_some_and(|r| has_our_htlcs(&r.close));
        if let Some(channel) = node.channels.all.get(number).filter(|_| known) {
            htlcs::decide::decide_received(turn, channel);
        }
    }
    allocate_fees(turn);
}

/// A block was taken in by every room.
pub fn new_tip(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    for (number, case) in &node.onchain.cases {
        if is_over(case, height) {
            // After this event: what the switch failed back with the same block has ended.
            turn.also(Event::Onchain(*number, OnchainEvent::Bury));
        }
    }
    if node.chain.caught_up {
        allocate_fees(turn);
        turn.install(|node| node.onchain.shown.clear());
        ask_mempool(node, turn);
    }
    Ok(())
}

/// Something that fees depend on has changed: they are allocated anew at the end of this turn, once for all channels.
pub fn allocate_fees(turn: &mut Turn<'_>) {
    turn.install(|node| node.onchain.fees_are_due = true);
    turn.last(Event::AllocateFees);
}

/// Looks what is to be sent, and what pays for it. While our tip is behind the backend's nothing is: what a block would show is not
/// known yet.
pub fn fees_due(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    if !node.onchain.fees_are_due || !node.chain.caught_up {
        return Ok(());
    }
    turn.install(|node| node.onchain.fees_are_due = false);
    send::advance(node, turn)
}

/// A commitment that can never confirm needs no anchor bump.
pub fn forget(node: &Node, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    store::remove_claim_starts_of(turn.db, number)?;
    turn.install(move |node| drop(node.onchain.published.remove(&number)));
    drop_all(node, turn, number)
}

fn drop_all(node: &Node, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    for attempt in node.onchain.attempts.get(&number).into_iter().flatten() {
        attempts::drop_attempt(node, turn, number, attempt)?;
    }
    Ok(())
}

/// Is nothing left to be done, and everything that was done buried? What is left when it would never pay for itself is no
/// reason to remember a channel for ever.
fn is_over(case: &Case, height: BlockHeight) -> bool {
    let Some(resolution) = &case.resolution else { return false };
    match resolution.settled {
        Some(settled) => (height - settled).0 + 1 >= BURIED,
        None => {
            // At the lowest feerate ever relayed: a market or a mempool minimum that is high today says nothing of tomorrow.
            (height - case.spend.height).0 >= WORTHLESS_AFTER
                && !resolution.claims.0.is_empty()
                && !plan::any_pays_for_itself(&resolution.claims.0, FeeratePerKw::FLOOR)
        }
    }
}

fn begin(node: &Node, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    let (Some(case), Some(channel)) =
        (node.onchain.cases.get(&number), node.channels.all.get(&number))
    else {
        return Ok(());
    };
    if case.child.is_some() {
        return Ok(());
    }
    if channel.owner != channels::Owner::Nobody {
        // Its channeld was told to end. What it asked before counts, and belongs to what onchaind must know.
        let soon = Instant::now() + Duration::from_millis(20);
        turn.at(soon, Event::Onchain(number, OnchainEvent::Begin));
        return Ok(());
    }
    let Some(init) = init(node, turn, channel, case)? else {
        turn.at(Instant::now() + ASK_AGAIN, Event::Onchain(number, OnchainEvent::Begin));
        return Ok(());
    };
    let child = node.supervisor.next_id();
    turn.say(Outgoing::Spawn(ChildSpec {
        id: child,
        daemon: Daemon::Onchaind,
        source: format!("onchaind-chan#{number}"),
        node: Some(channel.peer),
        init: init.encode(),
        fds: vec![],
    }));
    turn.install(move |node| {
        node.supervisor.assign(child, Role::Onchain(number));
        if let Some(case) = node.onchain.cases.get_mut(&number) {
            case.child = Some(child);
            case.resolutions_due = 1;
        }
    });
    Ok(())
}

/// Everything that onchaind must know. It is told the rest as it happens. `None`: hsmd could not be asked now.
fn init(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    case: &Case,
) -> Result<Option<OnchaindInit>, Stop> {
    let constants = channel::Constants::new(channel.live.params.clone()).map_err(|e| {
        Stop::refused(format!("the rows of channel {} make no channel: {e}", channel.number))
    })?;
    let found = channel::commitment::number_in(&constants, &case.spend.tx);
    let number = found.unwrap_or(CommitmentNumber::LAST);
    let newest = channel.live.commitment.local;
    // Also where it is of no use here: from now on hsmd knows the channel that it is to sign for.
    let asked = if number <= newest { number } else { newest };
    let seed = live::hsm_seed(channel);
    let point = match turn.hsm.commitment_point(channel.peer, channel.number, seed, asked)? {
        Ok(point) => Some(point),
        Err(NoPoint::Later) => return Ok(None),
        Err(NoPoint::Refused(why)) => {
            // What is in a commitment of the peer's can be taken all the same.
            channel.log(LogLevel::Broken, &format!("hsmd does not believe our rows: {why}"));
            None
        }
    };
    let revoked_htlcs = if number < channel.live.revoked.remote {
        store::htlcs_in_remote(turn.db, channel.number, number)?
    } else {
        vec![]
    };
    let preimages = channel.decided.iter().filter_map(|(id, removal)| match removal {
        Removal::Fulfilled { preimage } => Some((*id, *preimage)),
        Removal::Failed { .. } | Removal::Malformed { .. } => None,
    });
    let mined = |s: &Seen| Mined { transaction: s.tx.clone(), height: s.height };
    Ok(Some(OnchaindInit {
        peer: channel.peer,
        channel: channel.number,
        state: channel.live.clone(),
        number,
        local_point: point.filter(|_| number <= newest),
        revoked_htlcs: Long(revoked_htlcs),
        upstream: Long(htlcs::resolve::upstream_expiries(node, channel)),
        preimages: Long(preimages.collect()),
        spend: mined(&case.spend),
        later: Long(case.later.iter().map(mined).collect()),
        height: node.chain.height(),
    }))
}

fn order<M: Message>(node: &Node, turn: &mut Turn<'_>, number: ChannelNumber, message: &M) {
    if let Some(child) = node.onchain.cases.get(&number).and_then(|c| c.child) {
        turn.say(Outgoing::Order { child, body: message.encode(), fds: vec![] });
        turn.install(move |node| {
            if let Some(case) = node.onchain.cases.get_mut(&number) {
                case.resolutions_due = case.resolutions_due.saturating_add(1);
            }
        });
    }
}

/// onchaind is gone. It keeps nothing: another one takes its place.
pub fn gone(node: &Node, turn: &mut Turn<'_>, child: ChildId, number: ChannelNumber) {
    let Some(case) = node.onchain.cases.get(&number).filter(|c| c.child == Some(child)) else {
        return;
    };
    let pause = Duration::from_millis(100 << case.deaths.min(12)).min(LONGEST_PAUSE);
    log::error!("onchaind of channel {number} is gone: another one takes its place in {pause:?}");
    turn.at(Instant::now() + pause, Event::Onchain(number, OnchainEvent::Begin));
    turn.install(move |node| {
        if let Some(case) = node.onchain.cases.get_mut(&number) {
            case.child = None;
            case.heeded = None;
            case.deaths += 1;
        }
    });
}

/// Everything was resolved a hundred blocks ago.
fn bury(node: &Node, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    let (Some(channel), Some(case)) =
        (node.channels.all.get(&number), node.onchain.cases.get(&number))
    else {
        return Ok(());
    };
    // The rest was worth too little to be claimed, or onchaind has lied: whatever was offered for it shall not wait for ever.
    for live in channel.live.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Local) {
        htlcs::resolve::failed_on_chain(node, turn, number, live.htlc.id)?;
    }
    let text = format!("everything that followed {} is buried", case.spend.txid);
    end_case(node, turn, number, &text)?;
    channels::watch::close_for_good(channel, turn, &text)
}

/// The case is over, by burial or because its block left the chain.
pub fn end_case(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    why: &str,
) -> Result<(), Stop> {
    if let Some(child) = node.onchain.cases.get(&number).and_then(|c| c.child) {
        turn.say(Outgoing::Kill { child, why: why.to_owned() });
    }
    store::remove_seen_of(turn.db, number)?;
    store::remove_claim_starts_of(turn.db, number)?;
    let case = node.onchain.cases.get(&number);
    let ended: BTreeSet<Txid> =
        case.into_iter().flat_map(|case| case.txs().map(|seen| seen.txid)).collect();
    // After this event: the wallet has just heard of the same block.
    turn.also(Event::Onchain(number, OnchainEvent::GiveUp));
    turn.install(move |node| {
        node.onchain.cases.remove(&number);
        node.onchain.given_up.remove(&number);
        node.onchain.rejections.remove(&number);
        node.onchain.refusals.remove(&number);
        node.onchain.unsigned.retain(|o| !ended.contains(&o.txid));
        node.onchain.unsignable.retain(|o, _| !ended.contains(&o.txid));
        node.onchain.unchained.remove(&number);
        node.onchain.watched.retain(|_, (of, _)| *of != number);
    });
    Ok(())
}

/// Is this channel's end still being worked on? Then fees may be needed.
pub fn any_open(node: &Node) -> bool {
    !node.onchain.published.is_empty()
        || node.onchain.cases.values().any(|c| {
            c.resolution.as_ref().is_none_or(|r| r.settled.is_none() && !r.claims.0.is_empty())
        })
        || node.channels.all.values().any(|c| c.state == State::AwaitingUnilateral)
}
