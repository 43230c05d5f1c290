//! The fee allocator: which UTXOs of the wallet pay for which claim or anchor bump, over all channels at once. Pure.
//!
//! A request is a transaction that cannot pay its own fee: HTLC transactions that the peer signed (option_anchors), and the child of a
//! commitment. [`allocate`] serves all requests of a block, by these rules:
//!
//! 1. The request with the highest value at risk chooses first, then the one with the earlier deadline. One whose predecessor was
//!    rejected by bitcoind comes last.
//! 2. Free confirmed UTXOs pay, as few as it takes; a replacement keeps the UTXOs of its predecessor.
//! 3. If they cannot pay the wanted feerate, UTXOs are taken from transactions in the mempool with less value at risk, the lowest first.
//!    The value at risk of all that is displaced stays below that of the request.
//! 4. A transaction due within [`DUE_NOW_BLOCKS`] is not displaced in favour of a request with more time.
//! 5. A replacement pays for everything it replaces, its own predecessor included. (BIP 125 rules 3 and 4, and bitcoind's rule that
//!    its feerate is above each of theirs.)
//! 6. The first anchor bump of a commitment spends an unconfirmed anchor, so it displaces nothing that is in the mempool. (BIP 125
//!    rule 2.) It may spend the unconfirmed change of such a transaction instead, and then pays for that one as well; until the bump is
//!    in a block, that one is not raised, and it is displaced only together with the bump, by a request with more value at risk than both.
//! 7. A transaction that bitcoind rejects gives way, at no price, from the next block on, to a new request with at least as much value
//!    at risk; if it is due sooner than that request, only after a second try at a higher fee. After six blocks of rejections it gives way
//!    to any request. It displaces nothing in the block in which it gave way.
//! 8. A request never costs more than its share of the value at risk; at the relay floor, than all of it.
//! 9. If the wanted feerate cannot be had, the highest one is paid that can, if it is relayed. A batch of claims is split first.
//! 10. What was displaced is a request again, in the same block.

use super::claims::Unbuilt;
use super::cost::{Parent, Utxo, with_utxos};
use super::fees::{MAX_SHARE, clearly_above};
use super::request::{Request, Standing, What};
use bitcoin::Txid;
use primitives::*;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// How often the price of a replacement is computed again: a higher feerate may take other UTXOs, which change what is replaced.
const ROUNDS: usize = 8;
/// A transaction due within this many blocks is not displaced in favour of one that is due later.
pub(super) const DUE_NOW_BLOCKS: u32 = 3;
/// Unconfirmed ancestors of one transaction: mempools take 25 at most, themselves included.
const MAX_ANCESTORS: u32 = 12;

/// All that the allocator knows beside the requests.
#[derive(Debug, Clone)]
pub struct World {
    /// The newest block.
    pub tip: BlockHeight,
    /// The least that is relayed.
    pub floor: FeeratePerKw,
    /// Sorted by amount, the smallest first: large ones are kept for other purposes.
    pub utxos: Vec<Utxo>,
    /// What is under way with UTXOs.
    pub standing: Vec<Standing>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// Build it with these UTXOs.
    Build {
        /// It, or a part of it.
        request: Request,
        /// The wallet's inputs.
        utxos: Vec<Utxo>,
        /// With what it pays for.
        feerate: FeeratePerKw,
        /// What it pays.
        fee: Sat,
        /// The standing transactions that lose UTXOs to it. Its predecessor is not among them.
        displaces: Vec<Txid>,
    },
    /// Nothing can be built.
    Wait {
        /// It.
        request: Request,
        /// So much is missing of confirmed UTXOs.
        missing: Sat,
    },
}

/// Gives UTXOs to requests, by the rules of this file. A standing transaction of which no verdict speaks is kept as it is.
pub fn allocate(world: &World, requests: Vec<Request>) -> Vec<Verdict> {
    let mut allocator = Allocator {
        world,
        queue: requests,
        used: BTreeSet::new(),
        gone: BTreeSet::new(),
        verdicts: Vec::new(),
    };
    while let Some(request) = allocator.next() {
        allocator.serve(request);
    }
    allocator.verdicts
}

struct Allocator<'a> {
    world: &'a World,
    queue: Vec<Request>,
    /// UTXOs that a verdict gave away.
    used: BTreeSet<OutPoint>,
    /// Standing transactions that a verdict displaces or replaces.
    gone: BTreeSet<Txid>,
    verdicts: Vec<Verdict>,
}

/// UTXOs for a request.
struct Funded {
    utxos: Vec<Utxo>,
    fee: Sat,
    feerate: FeeratePerKw,
    displaces: Vec<Txid>,
}

/// What a request may pay, for one of its two reasons.
#[derive(Clone, Copy)]
struct Terms {
    least: FeeratePerKw,
    wanted: FeeratePerKw,
    max_fee: Sat,
}

/// A standing transaction whose UTXOs a request may have.
struct Candidate<'a> {
    /// It, and the anchor bumps that its change pays for.
    family: Vec<&'a Standing>,
    /// What is lost with them.
    worth: Sat,
    /// bitcoind does not have it: it costs nothing to replace.
    is_free: bool,
}

impl Candidate<'_> {
    fn holds(&self, utxo: &Utxo) -> bool {
        self.family.iter().any(|s| utxo.held_by == Some(s.txid))
    }
}

impl<'a> Allocator<'a> {
    /// Rule 1.
    fn next(&mut self) -> Option<Request> {
        let key = |r: &Request| {
            let before = self.standing(r.before);
            let deadline = r.deadline.unwrap_or(BlockHeight(u32::MAX));
            (before.is_some_and(|s| s.refused), Reverse(r.worth), deadline, before.is_some())
        };
        let (at, _) = self.queue.iter().enumerate().min_by_key(|(at, r)| (key(r), *at))?;
        Some(self.queue.remove(at))
    }

    fn serve(&mut self, request: Request) {
        if request.before.is_some_and(|b| self.pays_for_another(b)) {
            return;
        }
        match self.fund(&request) {
            Ok(funded) => self.give(request, funded),
            // Rule 9.
            Err(_) if request.before.is_none() && request.batch() > 1 => {
                self.queue.extend(request.halves(self.world.floor));
            }
            Err(Unbuilt::Short(missing)) => self.verdicts.push(Verdict::Wait { request, missing }),
            Err(Unbuilt::Dear | Unbuilt::Worthless) => {}
        }
    }

    fn give(&mut self, request: Request, funded: Funded) {
        let Funded { utxos, fee, feerate, displaces } = funded;
        self.used.extend(utxos.iter().map(|u| u.coin.outpoint));
        self.gone.extend(request.before);
        for txid in &displaces {
            self.gone.insert(*txid);
            self.queue.retain(|r| r.before != Some(*txid));
            // Rule 10.
            let Some(lost) = self.standing(Some(*txid)) else { continue };
            let again = lost.again.clone();
            self.queue.extend(again.map(|again| Request { rests: lost.refused, ..again }));
        }
        self.verdicts.push(Verdict::Build { request, utxos, feerate, fee, displaces });
    }

    fn standing(&self, txid: Option<Txid>) -> Option<&'a Standing> {
        self.world.standing.iter().find(|s| Some(s.txid) == txid)
    }

    /// Does its change pay for an anchor bump, whose or which is given it now?
    fn pays_for_another(&self, txid: Txid) -> bool {
        let is_gone = |by| self.gone.contains(&by);
        let is_spent = |u: &Utxo| {
            self.used.contains(&u.coin.outpoint) || u.held_by.is_some_and(|by| !is_gone(by))
        };
        self.world.utxos.iter().any(|u| u.is_change_of(txid) && is_spent(u))
    }

    /// The best that can be had for this request.
    fn fund(&self, request: &Request) -> Result<Funded, Unbuilt> {
        let floor = self.world.floor;
        let least = match self.standing(request.before) {
            Some(before) => clearly_above(before.feerate, floor),
            None => request.least.min(request.wanted),
        };
        let least = least.max(floor);
        let terms = Terms { least, wanted: request.wanted, max_fee: request.max_fee };
        let mut best = self.pay(request, terms);
        if !best.as_ref().is_ok_and(|f| f.feerate >= request.wanted)
            && let Some(chained) = self.chained(request, terms)
            && !best.as_ref().is_ok_and(|f| f.feerate >= chained.feerate)
        {
            best = Ok(chained);
        }
        let Some(calm) = request.calm else { return best };
        let wanted = calm.wanted.min(request.wanted);
        let is_better = match &best {
            Ok(paid) => paid.feerate < wanted,
            Err(Unbuilt::Dear) => true,
            Err(Unbuilt::Short(_) | Unbuilt::Worthless) => false,
        };
        if !is_better || wanted < least {
            return best;
        }
        // Nothing is lost without it: it displaces nothing.
        self.pay_with(request, Terms { wanted, max_fee: calm.max_fee, ..terms }, &[]).or(best)
    }

    /// Rules 2, 3 and 5.
    fn pay(&self, request: &Request, terms: Terms) -> Result<Funded, Unbuilt> {
        let mut best = self.pay_with(request, terms, &[]);
        let is_enough = |f: &Funded| f.feerate >= terms.wanted;
        if best.as_ref().is_ok_and(is_enough) {
            return best;
        }
        let others = self.candidates(request);
        // Of one transaction alone, then of more and more: as few and as cheap ones as it takes.
        let singles = others.iter().map(std::slice::from_ref);
        let groups = (1..).map(|n| 1usize << n).map(|many| others.get(..many).unwrap_or(&others));
        let groups = groups.take(others.len().next_power_of_two().ilog2() as usize);
        for some in singles.chain(groups) {
            let above = best.as_ref().map(|b| clearly_above(b.feerate, FeeratePerKw(0)));
            let least = above.unwrap_or(terms.least).max(terms.least);
            if let Ok(found) = self.pay_with(request, Terms { least, ..terms }, some) {
                let enough = is_enough(&found);
                best = Ok(found);
                if enough {
                    break;
                }
            }
        }
        best
    }

    /// With free UTXOs, those of the predecessor and those of these, at a price at which it replaces what it displaces.
    fn pay_with(
        &self,
        request: &Request,
        mut terms: Terms,
        others: &[Candidate<'_>],
    ) -> Result<Funded, Unbuilt> {
        let (all, kept) = self.utxos(request, others);
        for round in 0..ROUNDS {
            terms.wanted = terms.wanted.max(terms.least);
            let found = self.highest(request, terms, &all, kept);
            // After the first round UTXOs are missing for the price of a replacement only.
            let mut found = found.map_err(|why| if round == 0 { why } else { Unbuilt::Dear })?;
            let hit = others.iter().filter(|c| found.utxos.iter().any(|u| c.holds(u)));
            let hit: Vec<&Candidate<'_>> = hit.collect();
            let lost: u64 = hit.iter().map(|c| c.worth.0).sum();
            if lost > 0 && lost >= request.worth.0 {
                return Err(Unbuilt::Dear);
            }
            let (rate, fee) = self.price(request, &hit, request.cost.weight_with(&found.utxos));
            if found.feerate >= rate && found.fee >= fee {
                found.displaces = hit.iter().flat_map(|c| &c.family).map(|s| s.txid).collect();
                return Ok(found);
            }
            let scaled = u64::from(found.feerate.0).saturating_mul(fee.0) / found.fee.0.max(1) + 1;
            let scaled = FeeratePerKw(u32::try_from(scaled).unwrap_or(u32::MAX));
            terms.least = terms.least.max(rate);
            if found.fee < fee {
                terms.least = terms.least.max(scaled);
            }
        }
        Err(Unbuilt::Dear)
    }

    /// The least feerate and fee at which a transaction of this weight replaces its predecessor and these. What bitcoind does not have
    /// has no price.
    fn price(&self, request: &Request, hit: &[&Candidate<'_>], weight: u64) -> (FeeratePerKw, Sat) {
        let floor = self.world.floor;
        let others = hit.iter().filter(|c| !c.is_free).flat_map(|c| c.family.iter().copied());
        let rate = others.clone().map(|s| clearly_above(s.feerate, floor)).max();
        let before = self.standing(request.before).filter(|s| !s.hopeless);
        let replaced: Vec<&Standing> = before.into_iter().chain(others).collect();
        if replaced.is_empty() {
            return (FeeratePerKw(0), Sat(0));
        }
        // BIP 125, rules 3 and 4.
        let paid = replaced.iter().map(|s| s.fee.0).fold(floor.fee(weight).0, u64::saturating_add);
        let above = |s: &&Standing| s.own_rate().saturating_mul(weight) / 1000 + 1;
        let above = replaced.iter().map(above).max().unwrap_or(0);
        (rate.unwrap_or(FeeratePerKw(0)), Sat(paid.max(above)))
    }

    /// UTXOs that may pay, those of the predecessor first; and how many those are.
    fn utxos(&self, request: &Request, others: &[Candidate<'_>]) -> (Vec<Utxo>, usize) {
        let is_kept = |u: &Utxo| u.held_by.is_some() && u.held_by == request.before;
        let is_free = |u: &&Utxo| {
            let is_gone = |by| self.gone.contains(&by) || others.iter().any(|c| c.holds(u));
            u.made_by.is_none() && u.held_by.is_none_or(is_gone)
        };
        let unused = self.world.utxos.iter().filter(|u| !self.used.contains(&u.coin.outpoint));
        let (kept, rest): (Vec<&Utxo>, Vec<&Utxo>) = unused.partition(|u| is_kept(u));
        let many = kept.len();
        (kept.into_iter().chain(rest.into_iter().filter(is_free)).cloned().collect(), many)
    }

    /// Rules 3, 4, 6 and 7: whose UTXOs this request may have, the cheapest to displace first.
    fn candidates(&self, request: &Request) -> Vec<Candidate<'a>> {
        if request.rests || request.worth == Sat(0) {
            return vec![];
        }
        let tip = self.world.tip;
        let is_there = |s: &&Standing| {
            Some(s.txid) != request.before
                && !self.gone.contains(&s.txid)
                && !(request.batch() > 1 && s.made >= tip)
        };
        let may_replace = |s: &&Standing| s.refused || !self.is_first_bump(request);
        let is_free =
            |s: &&Standing| s.hopeless || (request.before.is_none() && gives_way(s, request, tip));
        let candidate = |s: &'a Standing| {
            let family = self.family(s)?;
            let counted = family.iter().filter(|s| !is_free(s));
            let worth = Sat(counted.map(|s| s.worth.0).sum());
            let is_free = is_free(&s) && family.len() == 1;
            let keeps = |s: &&Standing| is_due_sooner(s, request, tip);
            let may = is_free || (worth < request.worth && !family.iter().any(keeps));
            (may && family.iter().all(may_replace)).then_some(Candidate { family, worth, is_free })
        };
        let all = self.world.standing.iter().filter(is_there);
        let mut all: Vec<Candidate<'_>> = all.filter_map(candidate).collect();
        all.sort_by_key(|c| (!c.is_free, c.worth));
        all
    }

    /// This transaction and all that spend its change. `None` if its change was given away in this block.
    fn family(&self, of: &'a Standing) -> Option<Vec<&'a Standing>> {
        let mut family = vec![of];
        let mut at = 0;
        while let Some(parent) = family.get(at) {
            let txid = parent.txid;
            for change in self.world.utxos.iter().filter(|u| u.is_change_of(txid)) {
                if self.used.contains(&change.coin.outpoint) {
                    return None;
                }
                family
                    .extend(self.standing(change.held_by).filter(|s| !self.gone.contains(&s.txid)));
            }
            at += 1;
        }
        Some(family)
    }

    /// Does it spend an anchor that no transaction in the mempool spends?
    fn is_first_bump(&self, request: &Request) -> bool {
        match request.what {
            What::Claims(_) => false,
            What::Bump { .. } => self.standing(request.before).is_none_or(|s| s.refused),
        }
    }

    /// Rule 6: a first anchor bump with the change of a transaction in the mempool that is worth less.
    fn chained(&self, request: &Request, terms: Terms) -> Option<Funded> {
        if !self.is_first_bump(request) || request.deadline.is_none() {
            return None;
        }
        let may_have = |maker: Parent| {
            let of = self.standing(Some(maker.txid)).filter(|_| !self.gone.contains(&maker.txid));
            of.is_some_and(|s| !s.refused && s.worth < request.worth)
                && maker.transactions < MAX_ANCESTORS
        };
        let anew = Request { before: None, ..request.clone() };
        let (free, _) = self.utxos(&anew, &[]);
        let fund = |change: &Utxo| {
            let all: Vec<Utxo> = std::iter::once(change).chain(&free).cloned().collect();
            self.highest(&anew, Terms { wanted: terms.wanted.max(terms.least), ..terms }, &all, 1)
                .ok()
        };
        let is_unused = |u: &&Utxo| u.held_by.is_none() && !self.used.contains(&u.coin.outpoint);
        let change = self.world.utxos.iter().filter(is_unused);
        let change = change.filter(|u| u.made_by.is_some_and(may_have));
        change.filter_map(fund).max_by_key(|f| f.feerate)
    }

    /// The highest feerate of these terms that these UTXOs pay, the first `kept` of them in any case.
    fn highest(
        &self,
        request: &Request,
        terms: Terms,
        all: &[Utxo],
        kept: usize,
    ) -> Result<Funded, Unbuilt> {
        let at = |rate: u32| self.at_rate(request, terms.max_fee, all, kept, FeeratePerKw(rate));
        let why = match at(terms.wanted.0) {
            Ok(found) => return Ok(found),
            Err(why) => why,
        };
        let mut best = at(terms.least.0).map_err(|_| why)?;
        // `low` can be paid, `high` cannot.
        let (mut low, mut high) = (terms.least.0, terms.wanted.0);
        while high.saturating_sub(low) > low / 64 + 1 {
            let middle = low + (high - low) / 2;
            match at(middle) {
                Ok(found) => (best, low) = (found, middle),
                Err(_) => high = middle,
            }
        }
        Ok(best)
    }

    /// Rule 8.
    fn at_rate(
        &self,
        request: &Request,
        max_fee: Sat,
        all: &[Utxo],
        kept: usize,
        feerate: FeeratePerKw,
    ) -> Result<Funded, Unbuilt> {
        let floor = self.world.floor;
        let fee = |utxos: &[Utxo]| request.cost.fee(utxos, feerate, floor);
        let (fee, utxos) = with_utxos(all, kept, feerate, fee)?;
        let most = if feerate > floor { max_fee.0 } else { max_fee.0.saturating_mul(MAX_SHARE) };
        if fee.0 > most {
            return Err(Unbuilt::Dear);
        }
        Ok(Funded { utxos, fee, feerate, displaces: vec![] })
    }
}

/// Rule 4. A few blocks after its deadline that says nothing any more.
fn is_due_sooner(standing: &Standing, request: &Request, tip: BlockHeight) -> bool {
    let Some(due) = standing.deadline else { return false };
    let is_due = (due - tip).0 <= DUE_NOW_BLOCKS && (tip - due).0 <= DUE_NOW_BLOCKS;
    let has_time = |d: BlockHeight| d > due && (d - tip).0 > DUE_NOW_BLOCKS;
    is_due && !standing.hopeless && request.deadline.is_none_or(has_time)
}

/// Rule 7. One that is due before the request has a second try at a higher price first.
fn gives_way(standing: &Standing, request: &Request, tip: BlockHeight) -> bool {
    let is_sooner = |due| request.deadline.is_none_or(|d| due < d);
    let has_tried = if standing.worth > request.worth {
        standing.hopeless
    } else {
        !standing.deadline.is_some_and(is_sooner) || standing.first < standing.made
    };
    standing.refused && standing.made < tip && has_tried
}

#[cfg(test)]
#[path = "allocate_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "allocate_simulation.rs"]
mod simulation;
