//! Channels on chain: what spent their fundings, what followed, and taking what is ours.
//!
//! The chain's facts are rows (which transactions, in which blocks). onchaind says what follows
//! from them, whole and anew each time; this room turns its claims into transactions, with fees
//! that rise towards deadlines, and never forgets a transaction of ours before it is in a block or
//! has become impossible. What is watched follows from the rows alone, by one rule: every output of
//! the commitment, and what spends one of those has at the same index.

pub mod allocate;
pub mod anchor;
pub mod answered;
pub mod attempt;
pub mod attempts;
pub mod cases;
pub mod child;
pub mod child_cost;
pub mod claims;
pub mod commitments;
pub mod cost;
pub mod events;
pub mod fees;
pub mod plan;
pub mod rates;
pub mod report;
pub mod request;
pub mod requests;
pub mod send;
pub mod signing;
pub mod store;
#[cfg(test)]
mod tests;
pub mod unjudged;
pub mod watch;
pub mod weights;
pub mod worth;

use crate::kernel::floor::scope;

use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::HtlcEvent;
use crate::rooms::channels::state::State;
use crate::sys::children::ChildId;
use attempt::{Attempt, GivenUp};
use bitcoin::{Transaction, Txid};
use primitives::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};
use wire::Message;
use wire::onchaind::*;

/// So long onchaind may take to say what follows from a block, before nobody waits for it.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(60);

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
    /// Resolutions that it may still send: one after its birth, and one for each order. Each costs
    /// signatures and rows.
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
    /// Outputs whose spends matter: of which channel, and how far from its funding the transaction
    /// is that has them.
    watched: HashMap<OutPoint, (ChannelNumber, u8)>,
    /// Where the next question after the mempool's spends begins.
    next_asked: usize,
    /// What the mempool had since the last block: each onchaind hears of it once.
    shown: BTreeSet<(ChannelNumber, Txid)>,
    /// Transactions of ours under way.
    pub attempts: BTreeMap<ChannelNumber, Vec<Attempt>>,
    /// Start heights of outputs that no transaction of ours claims now, and of fundings with a
    /// published commitment. Rows.
    given_up: BTreeMap<ChannelNumber, BTreeMap<OutPoint, GivenUp>>,
    /// Our broadcast, unconfirmed commitments, with the tip at their first broadcast.
    published: BTreeMap<ChannelNumber, (Transaction, BlockHeight)>,
    /// For each of those, what the backend's mempool has that spends the funding, since it was
    /// asked last.
    funding_spends: BTreeMap<ChannelNumber, Transaction>,
    /// Anchor bumps of the other commitments of these channels, signed, with the UTXOs of the one
    /// that is an attempt.
    alternative_bumps: BTreeMap<ChannelNumber, Vec<Attempt>>,
    /// Outputs whose claim, alone in its transaction, bitcoind rejected last: heights of the first
    /// and the last of an unbroken series of rejections.
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

scope! {
    /// This room and those below it.
    pub struct Scope { onchain: Onchain } on crate::rooms::htlcs::Scope
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
pub fn attempts_under_way(node: &Scope) -> BTreeSet<Txid> {
    node.onchain.all_attempts().map(|(_, attempt)| attempt.txid).collect()
}

/// Which channel this transaction is a claim of, if it is one that is under way.
pub fn attempt_of(node: &Scope, txid: Txid) -> Option<ChannelNumber> {
    node.onchain.attempt(txid).map(|(number, _)| number)
}

/// Is this HTLC of ours, whose incoming HTLC is about to expire at `incoming`, unresolved as far as
/// the chain shows? Where its channel is on chain onchaind says so, once it has heeded the newest
/// block, which may have the preimage, or has had [`ANSWER_TIME`] for that. With less than three
/// blocks left an onchaind that does not say so is not believed.
pub fn is_unresolved(
    node: &Scope,
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

/// Looks at HTLCs that are about to expire again, once an onchaind has had its time to answer to
/// what it was told now.
fn check_expiring_later(turn: &mut Turn<'_>, told: Instant) {
    let late = told + ANSWER_TIME + Duration::from_secs(1);
    turn.at(late, Event::Htlc(HtlcEvent::CheckExpiring));
}

/// Something that fees depend on has changed: they are allocated anew at the end of this turn, once
/// for all channels.
pub fn allocate_fees(turn: &mut Turn<'_>) {
    turn.install_as::<Scope, _>(|onchain| onchain.fees_are_due = true);
    turn.last(Event::AllocateFees);
}

fn order<M: Message>(node: &Scope, turn: &mut Turn<'_>, number: ChannelNumber, message: &M) {
    if let Some(child) = node.onchain.cases.get(&number).and_then(|c| c.child) {
        turn.say(Outgoing::Order { child, body: message.encode(), fds: vec![] });
        turn.install(node, move |onchain| {
            if let Some(case) = onchain.cases.get_mut(&number) {
                case.resolutions_due = case.resolutions_due.saturating_add(1);
            }
        });
    }
}

/// Is this channel's end still being worked on? Then fees may be needed.
pub fn any_open(node: &Scope) -> bool {
    !node.onchain.published.is_empty()
        || node.onchain.cases.values().any(|c| {
            c.resolution.as_ref().is_none_or(|r| r.settled.is_none() && !r.claims.0.is_empty())
        })
        || node.channels.all.values().any(|c| c.state == State::AwaitingUnilateral)
}
