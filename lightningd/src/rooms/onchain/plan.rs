//! Which transactions should be under way, given what can be claimed and what is under way already.
//! Pure.

use super::attempt::{Attempt, Kind};
use super::fees;
use super::fees::{Rates, Stake};
use crate::rooms::onchain::weights::{BASE_WEIGHT, COIN_WEIGHT, input_weight};
use bitcoin::Txid;
use primitives::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use wire::onchaind::{Claim, ClaimShape};

/// Claims in one transaction. Ours stay far below what is relayed (400,000 weight units).
const MAX_FREE: usize = 100;
/// Each of these brings an output of its own.
const MAX_PAIRED: usize = 50;

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// This one can never be in a block any more, or should not: its coins are free again.
    Drop(Txid),
    /// Make this one.
    Make(Make),
}

/// A transaction to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Make {
    /// What it takes.
    pub claims: Vec<Claim>,
    /// What it pays.
    pub feerate: FeeratePerKw,
    /// The tip at the first attempt.
    pub first: BlockHeight,
    /// What it takes the place of.
    pub replaces: Option<Txid>,
}

impl Make {
    /// What is lost without it.
    pub fn worth(&self) -> Sat {
        Sat(self.claims.iter().map(|c| c.amount.0).sum())
    }
    /// From this block on it may be too late for one of them.
    pub fn deadline(&self) -> Option<BlockHeight> {
        self.claims.iter().filter_map(|c| c.deadline).min()
    }
}

fn stake(claims: &[&Claim], first: BlockHeight) -> Stake {
    let is_paid = claims.iter().any(|c| matches!(c.shape, ClaimShape::Paired { .. }));
    let coin = if is_paid { COIN_WEIGHT } else { 0 };
    Stake {
        first,
        deadline: claims.iter().filter_map(|c| c.deadline).min(),
        value: Sat(claims.iter().map(|c| c.amount.0).sum()),
        weight: BASE_WEIGHT + coin + claims.iter().map(|c| input_weight(c)).sum::<u64>(),
    }
}

/// What may share a transaction: only what nobody else can touch, or what is valid from the same
/// block on. Where another can take an output first, what shares its transaction would wait with
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Company {
    /// No other party can spend it, at any time.
    Safe,
    /// Contested, from this block on.
    Contested(u32),
    /// The peer signed its part, with this lock time.
    Paired(u32),
    /// On its own, because it must be.
    Alone(OutPoint),
}

pub fn company(claim: &Claim, alone: &BTreeSet<OutPoint>) -> Company {
    match &claim.shape {
        ClaimShape::Whole { .. } => Company::Alone(claim.outpoint),
        ClaimShape::Free {} | ClaimShape::Paired { .. } if alone.contains(&claim.outpoint) => {
            Company::Alone(claim.outpoint)
        }
        ClaimShape::Paired { .. } => Company::Paired(claim.lock_time),
        ClaimShape::Free {} if claim.deadline.is_none() && claim.lock_time == 0 => Company::Safe,
        ClaimShape::Free {} => Company::Contested(claim.lock_time),
    }
}

/// Is taking it worth more than it costs? With a deadline the lowest price counts: it is worth a
/// try.
pub fn is_worth_it(claim: &Claim, rates: &Rates<'_>, tip: BlockHeight) -> bool {
    match &claim.shape {
        ClaimShape::Free {} => {
            let rate = match claim.deadline {
                None => fees::wanted(rates, tip, &stake(&[claim], tip)),
                Some(_) => rates.floor,
            };
            claim.amount > rate.fee(input_weight(claim))
        }
        ClaimShape::Paired { amount, .. } => *amount > rates.floor.fee(input_weight(claim)),
        ClaimShape::Whole { .. } => true,
    }
}

/// What is remembered of outputs that no attempt claims now.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// Tip at the first attempt, where it gave its UTXOs to another or lost one.
    pub began: BTreeMap<OutPoint, BlockHeight>,
    /// Outputs that share no transaction: a batch with them could not be signed.
    pub alone: BTreeSet<OutPoint>,
}

/// What to do now.
pub fn plan(
    claims: &[Claim],
    attempts: &[Attempt],
    past: Past,
    tip: BlockHeight,
    rates: &Rates<'_>,
) -> Vec<Step> {
    let all: BTreeMap<OutPoint, &Claim> = claims.iter().map(|c| (c.outpoint, c)).collect();
    let Past { mut began, alone: mut lone } = past;
    let (mut steps, mut covered) = (Vec::new(), BTreeSet::new());
    // What was claimed before keeps its age: whoever takes one input of a batch in each block does
    // not make the rest cheaper.
    for attempt in attempts.iter().filter(|a| a.kind == Kind::Claim) {
        let found: Vec<&Claim> =
            attempt.claims.iter().filter_map(|o| all.get(o).copied()).collect();
        if found.len() < attempt.claims.len() {
            // One of its inputs is spent: the rest is claimed anew below.
            steps.push(Step::Drop(attempt.txid));
            began.extend(attempt.claims.iter().map(|o| (*o, attempt.first)));
        } else if attempt.refused && found.len() > 1 {
            // Something is in the way of one of them: the others shall not wait for it.
            steps.push(Step::Drop(attempt.txid));
            began.extend(attempt.claims.iter().map(|o| (*o, attempt.first)));
            lone.extend(attempt.claims.iter().copied());
        } else {
            covered.extend(attempt.claims.iter().copied());
            steps.extend(again(attempt, &found, tip, rates).map(Step::Make));
        }
    }
    let mut groups: BTreeMap<Company, Vec<&Claim>> = BTreeMap::new();
    for claim in claims {
        // A transaction that is made now can be in the next block at the earliest.
        let ready = claim.ready.0 <= tip.0.saturating_add(1);
        if ready && !covered.contains(&claim.outpoint) && is_worth_it(claim, rates, tip) {
            groups.entry(company(claim, &lone)).or_default().push(claim);
        }
    }
    for (company, mut group) in groups {
        group.sort_by_key(|c| Reverse(c.amount));
        let most = if matches!(company, Company::Paired(_)) { MAX_PAIRED } else { MAX_FREE };
        for part in group.chunks(most) {
            let first = part.iter().filter_map(|c| began.get(&c.outpoint)).min();
            let first = first.copied().unwrap_or(tip);
            steps.push(Step::Make(anew(part, first, tip, rates)));
        }
    }
    steps
}

/// These claims of an attempt that gave its UTXOs to another, anew: at the price of their age.
pub fn anew(claims: &[&Claim], first: BlockHeight, tip: BlockHeight, rates: &Rates<'_>) -> Make {
    let feerate = fees::wanted(rates, tip, &stake(claims, first));
    Make { claims: claims.iter().map(|c| (*c).clone()).collect(), feerate, first, replaces: None }
}

/// The attempt that should take the place of this one, if any should.
fn again(
    attempt: &Attempt,
    claims: &[&Claim],
    tip: BlockHeight,
    rates: &Rates<'_>,
) -> Option<Make> {
    if claims.iter().any(|c| matches!(c.shape, ClaimShape::Whole { .. })) {
        return None;
    }
    let stake = stake(claims, attempt.first);
    let next = fees::next(rates, tip, &stake, attempt.feerate, attempt.height);
    let forced = (attempt.refused && tip > attempt.height).then(|| {
        let most = stake.value.0 / fees::MAX_SHARE * 1000 / stake.weight;
        let more = fees::clearly_above(attempt.feerate, rates.floor);
        FeeratePerKw(more.0.min(u32::try_from(most).unwrap_or(u32::MAX)).max(attempt.feerate.0))
    });
    Some(Make {
        claims: claims.iter().map(|c| (*c).clone()).collect(),
        feerate: next.max(forced)?,
        first: attempt.first,
        replaces: Some(attempt.txid),
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
