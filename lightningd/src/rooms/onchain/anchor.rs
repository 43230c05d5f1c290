//! The anchor bump (CPFP) of a channel that was failed: a child on our anchor pays for the
//! commitment, ours or the peer's, until one of them is in a block. BOLT 3, "to_local_anchor
//! Output". Here: which commitment, what is at stake, and by when.

use super::attempt::{Attempt, Kind, TRIES};
use super::commitments::{Bumpable, bumpable};
use super::fees::{MAX_SHARE, Rates, Stake};
use super::request::{Calm, Request, What};
use super::{fees, store};
use crate::kernel::turn::Turn;
use crate::rooms::channels::Channel;
use crate::rooms::channels::state::State;
use crate::rooms::onchain::Scope;
use crate::sys::fatal::Stop;
use bitcoin::{Transaction, Txid};
use channel::HTLC_RETURN_MARGIN;
use primitives::*;
use wire::channel_data::{Htlc, LiveHtlc, Removal, StagedRemoval};

/// So many blocks a commitment has, where that costs nobody anything.
const COMMITMENT_GRACE_BLOCKS: u32 = 6;

/// Our commitment was broadcast: an anchor bump follows where it pays too little. The fee-bump
/// start height survives a restart, under the funding's outpoint.
pub fn commitment_published(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    tx: &Transaction,
) -> Result<(), Stop> {
    if node.onchain.published.contains_key(&number) {
        return Ok(());
    }
    let funding = tx.input.first().map(|i| i.previous_output);
    let known = node.onchain.given_up.get(&number).zip(funding).and_then(|(all, f)| all.get(&f));
    let first = known.map_or(node.chain.height(), |g| g.first);
    if let Some(funding) = funding {
        store::set_claim_start(turn.db, number, &funding, first)?;
    }
    let copy = tx.clone();
    turn.install(node, move |onchain| {
        onchain.published.entry(number).or_insert((copy, first));
    });
    Ok(())
}

/// A channel whose commitment waits to be in a block.
pub(super) struct Unconfirmed<'a> {
    pub channel: &'a Channel,
    /// Our commitment, signed and sent.
    pub ours: &'a Transaction,
    /// Its anchor bump under way.
    pub before: Option<&'a Attempt>,
    /// The commitments that may stand in a mempool.
    pub all: Vec<Bumpable>,
    /// Which of them is bumped: what stands in the mempool, else what was bumped before, else the
    /// first that needs it.
    pub target: Option<Bumpable>,
    first: BlockHeight,
    at_risk: Vec<AtRisk>,
}

/// An HTLC that is lost if no commitment is in a block in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtRisk {
    amount: Msat,
    needed_by: BlockHeight,
}

impl<'a> Unconfirmed<'a> {
    /// `None` if nothing may be bumped. Before the funding is in a block nothing is spent on it:
    /// whoever opened the channel may never fund it.
    pub fn of(node: &'a Scope, number: ChannelNumber) -> Option<Self> {
        let (ours, first) = node.onchain.published.get(&number)?;
        let channel = node.channels.all.get(&number)?;
        if channel.state != State::AwaitingUnilateral || channel.funding_height.is_none() {
            return None;
        }
        let attempts = node.onchain.attempts.get(&number).map_or(&[][..], Vec::as_slice);
        let before = attempts.iter().find(|a| a.kind == Kind::AnchorBump);
        let first = before.map_or(*first, |a| a.first);
        let at_risk = at_risk(node, channel, first);
        let all = bumpable(node, channel, ours);
        let mut waits = Self { channel, ours, before, all, target: None, first, at_risk };
        waits.target = waits.choose(node).cloned();
        Some(waits)
    }

    fn choose(&self, node: &Scope) -> Option<&Bumpable> {
        let rates = crate::rooms::onchain::rates::rates(node);
        let seen = node.onchain.funding_spends.get(&self.channel.number);
        let is = |txid: Txid| self.all.iter().find(|b| b.txid == txid);
        let bumped = seen.map(Transaction::compute_txid).and_then(is);
        let bumped = bumped.or_else(|| self.before.and_then(bumped_txid).and_then(is));
        let wanted = |b: &Bumpable| fees::wanted(&rates, node.chain.height(), &self.stake(node, b));
        bumped.or_else(|| self.all.iter().find(|b| b.pays_less_than(wanted(b))))
    }

    /// What asks for UTXOs for a child of the target, in place of `before`. `None` if no commitment
    /// needs it, or it pays enough.
    pub fn request(&self, node: &Scope, before: Option<&Attempt>) -> Option<Request> {
        let target = self.target.as_ref()?;
        let (tip, rates) = (node.chain.height(), crate::rooms::onchain::rates::rates(node));
        let stake = self.stake(node, target);
        let wanted = match before {
            Some(a) => fees::next(&rates, tip, &stake, a.feerate, a.height)?,
            None => {
                let wanted = fees::wanted(&rates, tip, &stake);
                // What it pays by itself may be enough.
                target.pays_less_than(wanted).then_some(wanted)?
            }
        };
        let itself = target.fee.0.saturating_mul(1000) / target.weight.max(1);
        let itself = FeeratePerKw(u32::try_from(itself).unwrap_or(u32::MAX));
        // Half of what waits for it, whatever that is, is the most that a bump costs.
        let own = Sat(self.own_output().max(self.worth()).0 / MAX_SHARE);
        let calm = Stake { deadline: None, value: Sat::ZERO, ..stake };
        let tries = node.onchain.unchained.get(&self.channel.number);
        Some(Request {
            number: self.channel.number,
            what: What::Bump { target: target.clone(), first: stake.first },
            worth: self.worth(),
            deadline: self.deadline(),
            before: before.map(|a| a.txid),
            least: fees::clearly_above(itself, rates.floor),
            wanted,
            max_fee: if stake.value > Sat::ZERO { Sat(stake.value.0 / MAX_SHARE) } else { own },
            calm: Some(Calm { wanted: fees::wanted(&rates, tip, &calm), max_fee: own }),
            may_chain: tries.is_none_or(|at| (tip - *at).0 >= TRIES),
            rests: false,
            cost: crate::rooms::onchain::child_cost::cost(target),
        })
    }

    /// What all HTLCs at risk are worth.
    pub fn worth(&self) -> Sat {
        worth_by(&self.at_risk, BlockHeight(u32::MAX))
    }

    /// When the first of them would be late.
    pub fn deadline(&self) -> Option<BlockHeight> {
        self.at_risk.iter().map(|h| h.needed_by).min()
    }

    /// What we have in the commitment beside HTLCs: it waits for the same block as those.
    fn own_output(&self) -> Sat {
        self.channel.live.balance.local.sat_floor()
    }

    fn stake(&self, node: &Scope, target: &Bumpable) -> Stake {
        let weight = crate::rooms::onchain::child_cost::cost(target).weight + target.weight;
        stake(
            &self.at_risk,
            self.first,
            weight,
            node.chain.height(),
            &crate::rooms::onchain::rates::rates(node),
        )
    }
}

fn worth_by(at_risk: &[AtRisk], deadline: BlockHeight) -> Sat {
    let due = at_risk.iter().filter(|h| h.needed_by <= deadline);
    due.map(|h| h.amount).fold(Msat::ZERO, Msat::saturating_add).sat_floor()
}

/// What is lost if the commitment is late, and when that is; commitment and child have this weight.
/// Of several deadlines the one counts that is worth the highest feerate today, with all that is
/// lost by then.
pub(super) fn stake(
    at_risk: &[AtRisk],
    first: BlockHeight,
    weight: u64,
    tip: BlockHeight,
    rates: &Rates<'_>,
) -> Stake {
    // Our own output waits for the same block: what an HTLC is worth bounds what is paid for it,
    // and not that.
    let calm = Stake { first, deadline: None, value: Sat::ZERO, weight };
    let price = |stake: &Stake| fees::wanted(rates, tip, stake);
    let due = at_risk.iter().map(|h| h.needed_by);
    let urgent =
        due.map(|due| Stake { deadline: Some(due), value: worth_by(at_risk, due), ..calm });
    let urgent = urgent.max_by_key(|stake| (price(stake), stake.value));
    urgent.filter(|urgent| price(urgent) >= price(&calm)).unwrap_or(calm)
}

/// From which block on our commitment would be late for this HTLC. After it comes the transaction
/// that takes the HTLC's output.
fn needed_by(htlc: &Htlc, upstream: Option<BlockHeight>, first: BlockHeight) -> BlockHeight {
    match htlc.offered_by {
        // The peer takes it back from its expiry on: half of the time until then is for what takes
        // it before.
        Side::Remote => first + CltvDelta((htlc.expiry - first).0 / 2),
        // Until what it forwards expires nobody but us loses by waiting: a few blocks at least are
        // there, so that not half of it is paid for the next one when the channel was failed
        // because it expired.
        Side::Local => {
            let back = upstream.unwrap_or(htlc.expiry + CltvDelta(HTLC_RETURN_MARGIN));
            htlc.expiry.max(first + CltvDelta(((back - first).0 / 2).min(COMMITMENT_GRACE_BLOCKS)))
        }
    }
}

/// The HTLCs that we lose if no commitment is in a block in time: those with an output on one that
/// may still be, which we offered or have the preimage of.
pub(super) fn at_risk(node: &Scope, channel: &Channel, first: BlockHeight) -> Vec<AtRisk> {
    let upstream = crate::rooms::htlcs::resolve::upstream_expiries(node, channel);
    let upstream = |id| upstream.iter().find(|(of, _)| *of == id).map(|(_, e)| *e);
    let value = channel::Channel::new(channel.live.clone());
    // Rows that make no channel say nothing about outputs: each HTLC counts.
    let has_output = |l: &LiveHtlc| value.as_ref().map_or(true, |v| v.has_valid_output(l));
    let is_ours = |l: &LiveHtlc| match l.htlc.offered_by {
        // Once the peer has shown the preimage nothing is lost by waiting.
        Side::Local => {
            !matches!(l.removed, Some(StagedRemoval { removal: Removal::Fulfilled { .. }, .. }))
        }
        Side::Remote => matches!(channel.decided.get(&l.htlc.id), Some(Removal::Fulfilled { .. })),
    };
    let all = channel.live.htlcs.0.iter().filter(|l| is_ours(l) && has_output(l));
    let at_risk = all.map(|l| AtRisk {
        amount: l.htlc.amount,
        needed_by: needed_by(&l.htlc, upstream(l.htlc.id), first),
    });
    at_risk.collect()
}

/// Which commitment this anchor bump is a child of.
pub(super) fn bumped_txid(bump: &Attempt) -> Option<Txid> {
    bump.claims.first().map(|anchor| anchor.txid)
}
