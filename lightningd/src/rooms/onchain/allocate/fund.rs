//! UTXOs for one request, at a price at which bitcoind takes it.

use super::{Allocator, Candidate, Funded, Terms, is_due_sooner};
use crate::rooms::onchain::cost::{Parent, Unbuilt, Utxo, with_utxos};
use crate::rooms::onchain::fees::{MAX_SHARE, clearly_above};
use crate::rooms::onchain::request::{Request, Standing};
use primitives::*;
use std::collections::BTreeSet;

/// How often the price of a replacement is computed again: a higher feerate may take other UTXOs,
/// which change what is replaced.
const ROUNDS: usize = 8;
/// Unconfirmed ancestors of one transaction: mempools take 25 at most, themselves included.
pub(super) const MAX_ANCESTORS: u32 = 12;
/// Weight units of those: mempools take 404,000 at most.
const MAX_ANCESTOR_WEIGHT: u64 = 380_000;

impl Allocator<'_> {
    /// The best that can be had for this request.
    pub(super) fn fund(&self, request: &Request) -> Result<Funded, Unbuilt> {
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

    /// With free UTXOs, those of the predecessor and those of these, at a price at which it
    /// replaces what it displaces.
    fn pay_with(
        &self,
        request: &Request,
        mut terms: Terms,
        others: &[Candidate<'_>],
    ) -> Result<Funded, Unbuilt> {
        let own = self.children(request.before).unwrap_or_default();
        let (all, kept) = self.utxos(request, others, &own);
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
            let weight = request.cost.weight_with(&found.utxos);
            let (rate, fee) = self.price(request, &hit, &own, weight);
            if found.feerate >= rate && found.fee >= fee {
                let all = hit.iter().flat_map(|c| &c.family).chain(&own).map(|s| s.txid);
                let mut known = BTreeSet::new();
                found.displaces = all.filter(|txid| known.insert(*txid)).collect();
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

    /// The least feerate and fee at which a transaction of this weight replaces its predecessor,
    /// the children of that, and what it hits. What bitcoind does not have has no price.
    fn price(
        &self,
        request: &Request,
        hit: &[&Candidate<'_>],
        own: &[&Standing],
        weight: u64,
    ) -> (FeeratePerKw, Sat) {
        let floor = self.world.floor;
        let others = hit.iter().filter(|c| !c.is_free).flat_map(|c| c.family.iter().copied());
        let rate = others.clone().map(|s| clearly_above(s.feerate, floor)).max();
        let before = self.standing(request.before).filter(|s| !s.hopeless);
        let own = own.iter().copied().filter(|s| !s.refused);
        let mut known = BTreeSet::new();
        let replaced = before.into_iter().chain(own).chain(others);
        let replaced: Vec<&Standing> = replaced.filter(|s| known.insert(s.txid)).collect();
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
    fn utxos(
        &self,
        request: &Request,
        others: &[Candidate<'_>],
        own: &[&Standing],
    ) -> (Vec<Utxo>, usize) {
        let is_kept = |u: &Utxo| u.held_by.is_some() && u.held_by == request.before;
        let is_free = |u: &&Utxo| {
            let is_gone = |by| {
                self.gone.contains(&by)
                    || own.iter().any(|s| s.txid == by)
                    || others.iter().any(|c| c.holds(u))
            };
            u.made_by.is_none() && u.held_by.is_none_or(is_gone)
        };
        let unused = self.world.utxos.iter().filter(|u| !self.used.contains(&u.coin.outpoint));
        let (kept, rest): (Vec<&Utxo>, Vec<&Utxo>) = unused.partition(|u| is_kept(u));
        let many = kept.len();
        (kept.into_iter().chain(rest.into_iter().filter(is_free)).cloned().collect(), many)
    }

    /// Rule 6: a first anchor bump with the change of a transaction in the mempool that is worth
    /// less.
    fn chained(&self, request: &Request, terms: Terms) -> Option<Funded> {
        let is_first = self.standing(request.before).is_none_or(|s| s.refused);
        if !request.may_chain || !is_first || request.deadline.is_none() {
            return None;
        }
        let tip = self.world.tip;
        let own = request.cost.weight + request.cost.parent.map_or(0, |p| p.weight);
        let may_have = |maker: Parent| {
            let of = self.standing(Some(maker.txid)).filter(|_| !self.gone.contains(&maker.txid));
            let is_less = |s: &Standing| s.worth < request.worth && !is_due_sooner(s, request, tip);
            of.is_some_and(|s| !s.refused && is_less(s))
                && maker.transactions < MAX_ANCESTORS
                && maker.weight + own < MAX_ANCESTOR_WEIGHT
        };
        let anew = Request { before: None, ..request.clone() };
        let (free, _) = self.utxos(&anew, &[], &[]);
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

    /// The highest feerate of these terms that these UTXOs pay, the first `kept` of them in any
    /// case.
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
