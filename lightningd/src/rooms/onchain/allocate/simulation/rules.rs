//! What must hold in every block of the simulation: bitcoind takes each transaction, and who has
//! most at risk is served.

use super::*;
use crate::rooms::onchain::allocate::fund::MAX_ANCESTORS;

/// BIP 125: what replaces others pays more than they together, at a higher feerate, and spends no
/// unconfirmed output that none of them spends (rule 2).
fn pays_for_its_place(
    request: &Request,
    utxos: &[Utxo],
    (fee, weight): (Sat, u64),
    conflicts: &[InMempool],
) -> Checked {
    if conflicts.is_empty() {
        return Ok(());
    }
    let paid: u64 = conflicts.iter().map(|c| c.standing.fee.0).sum();
    prop_assert!(fee.0 >= paid + FLOOR.fee(weight).0, "{fee} replaces {paid}");
    for conflict in conflicts.iter().map(|c| &c.standing) {
        prop_assert!(fee.0 * conflict.weight > conflict.fee.0 * weight, "its feerate falls");
    }
    let of = request.number.0 as usize;
    let known: Vec<OutPoint> = conflicts.iter().flat_map(|c| c.inputs.clone()).collect();
    let is_first_bump =
        request.commitment_is_unconfirmed() && !conflicts.iter().any(|c| c.of == of);
    prop_assert!(!is_first_bump, "a first bump replaces");
    for utxo in utxos.iter().filter(|u| u.made_by.is_some()) {
        prop_assert!(known.contains(&utxo.coin.outpoint), "new unconfirmed input");
    }
    Ok(())
}

impl Play {
    /// What a transaction conflicts with, and what spends the change of that.
    fn conflicts(&self, of: usize, inputs: &[OutPoint]) -> Vec<InMempool> {
        let is_hit = |m: &InMempool| m.of == of || m.inputs.iter().any(|i| inputs.contains(i));
        let there = self.mempool.iter().filter(|m| !m.standing.refused);
        let mut conflicts: Vec<InMempool> = there.clone().filter(|m| is_hit(m)).cloned().collect();
        loop {
            let spends = |m: &&InMempool| {
                let of_one = |c: &InMempool| {
                    c.change.as_ref().is_some_and(|u| m.inputs.contains(&u.coin.outpoint))
                };
                conflicts.iter().any(of_one)
                    && !conflicts.iter().any(|c| c.standing.txid == m.standing.txid)
            };
            let Some(more) = there.clone().find(spends).cloned() else { return conflicts };
            conflicts.push(more);
        }
    }

    /// bitcoind takes it, or the test fails.
    pub(super) fn relay(
        &mut self,
        world: &World,
        before: &[InMempool],
        verdict: &Verdict,
    ) -> Checked {
        let Verdict::Build { request, utxos, feerate, fee, displaces } = verdict else {
            return Ok(());
        };
        let of = request.number.0 as usize;
        let inputs: Vec<OutPoint> = utxos.iter().map(|u| u.coin.outpoint).collect();
        let conflicts = self.conflicts(of, &inputs);
        let gone: BTreeSet<Txid> = displaces.iter().copied().chain(request.before).collect();
        for conflict in &conflicts {
            // One made in this block was given up before it was sent, and its UTXOs may not be
            // given away again.
            prop_assert!(
                before.iter().any(|m| m.standing.txid == conflict.standing.txid),
                "a UTXO pays for two"
            );
            prop_assert!(
                gone.contains(&conflict.standing.txid),
                "{} is replaced unseen",
                conflict.standing.txid
            );
        }
        let weight = request.cost.weight_with(utxos);
        pays_for_its_place(request, utxos, (*fee, weight), &conflicts)?;
        if let Some(raised) = conflicts.iter().find(|c| c.of == of) {
            prop_assert!(*feerate > raised.standing.feerate, "its price falls");
        }
        // A bump that is raised in place of what it is chained to costs both their shares.
        let maker = utxos.iter().filter_map(|u| u.made_by).map(|p| p.txid);
        let makers: Vec<Txid> = maker.collect();
        let chained = self.mempool.iter().filter(|m| makers.contains(&m.standing.txid));
        let worth = request.worth.0 + chained.map(|m| m.standing.worth.0).sum::<u64>();
        let most = if *feerate > FLOOR { worth / 2 } else { worth };
        prop_assert!(fee.0 <= most, "{fee} for {}", request.worth);
        let have: u64 = request.cost.have.0 + utxos.iter().map(|u| u.coin.amount.0).sum::<u64>();
        prop_assert!(have >= fee.0);
        self.mempool.retain(|m| !gone.contains(&m.standing.txid));
        for m in &self.mempool {
            prop_assert!(!m.inputs.iter().any(|i| inputs.contains(i)), "a UTXO pays for two");
        }
        for utxo in utxos {
            let maker = utxo.made_by.map(|p| p.txid);
            let is_there = self.confirmed.contains_key(&utxo.coin.outpoint)
                || self.mempool.iter().any(|m| Some(m.standing.txid) == maker);
            prop_assert!(is_there, "{} is not there", utxo.coin.outpoint);
            let holders = self.holders.entry(utxo.coin.outpoint).or_default();
            if holders.last() != Some(&of) {
                holders.push(of);
            }
        }
        self.add(world, request, (inputs, *fee, *feerate), have, weight);
        Ok(())
    }

    /// What should pay more does, by itself or by what spends its change, if it is worth that.
    pub(super) fn no_maker_is_frozen(&self, rates: &Rates<'_>) -> Checked {
        for m in self.mempool.iter().filter(|m| !m.standing.refused && !self.done.contains(&m.of)) {
            let s = &m.standing;
            let Some(wanted) =
                fees::next(rates, BlockHeight(self.tip), &self.stake(m.of), s.feerate, s.made)
            else {
                continue;
            };
            let mut family = vec![m];
            let mut at = 0;
            while let Some(of) = family.get(at) {
                let txid = of.standing.txid;
                family.extend(self.mempool.iter().filter(|c| self.makers(c).any(|p| p == txid)));
                at += 1;
            }
            let served = family
                .iter()
                .skip(1)
                .any(|c| c.standing.feerate >= wanted || c.standing.made == BlockHeight(self.tip));
            if family.len() == 1 || served {
                continue;
            }
            let utxos: Vec<Utxo> =
                m.inputs.iter().filter_map(|i| self.confirmed.get(i).cloned()).collect();
            let cost = self.cost(m.of);
            let weight = cost.weight_with(&utxos);
            let paid: u64 = family.iter().map(|f| f.standing.fee.0).sum();
            let above =
                family.iter().map(|f| f.standing.own_rate() * weight / 1000 + 1).max().unwrap();
            let Ok(fee) = cost.fee(&utxos, wanted, FLOOR) else { continue };
            let price = fee.0.max(paid + FLOOR.fee(weight).0).max(above) * 5 / 4;
            let have: u64 = utxos.iter().map(|u| u.coin.amount.0).sum();
            let is_payable = price <= self.at_risk[m.of].worth / 2 && price + DUST.0 <= have;
            prop_assert!(
                !is_payable,
                "at {}: {:?} stays at {}, {wanted} wanted",
                self.tip,
                self.at_risk[m.of],
                s.feerate
            );
        }
        Ok(())
    }

    /// No UTXO goes from one to another and back.
    pub(super) fn no_ping_pong(&self) -> Checked {
        for (outpoint, holders) in &self.holders {
            let known: BTreeSet<&usize> = holders.iter().collect();
            prop_assert_eq!(known.len(), holders.len(), "{} goes to {:?}", outpoint, holders);
        }
        Ok(())
    }

    /// None waits while one with less at risk has UTXOs that could save it.
    pub(super) fn most_valuable_is_served(&self) -> Checked {
        for of in self.open() {
            let it = &self.at_risk[of];
            let is_waiting = !self.mempool.iter().any(|m| m.of == of)
                && it.commitment.is_none_or(|_| self.target(of).pays_less_than(FLOOR));
            for holder in self.mempool.iter().filter(|_| is_waiting) {
                let less = &self.at_risk[holder.of];
                let due = (FIRST + less.due).abs_diff(self.tip) <= DUE_NOW_BLOCKS
                    && it.due > less.due
                    && FIRST + it.due > self.tip + DUE_NOW_BLOCKS;
                if less.worth < it.worth && !due {
                    prop_assert!(
                        !self.could_save(of, holder),
                        "at {}: {it:?} waits for {less:?}",
                        self.tip
                    );
                }
            }
        }
        Ok(())
    }

    /// By the rules of the mempool, with what this one holds and nothing else.
    fn could_save(&self, of: usize, holder: &InMempool) -> bool {
        let (cost, most) = (self.cost(of), self.at_risk[of].worth / 2);
        let is_spent = |u: &Utxo| self.mempool.iter().any(|m| m.inputs.contains(&u.coin.outpoint));
        if self.at_risk[of].commitment.is_some() {
            let Some(change) = holder.change.clone().filter(|u| !is_spent(u)) else { return false };
            let parent = self.parent(holder);
            let change = Utxo { made_by: Some(parent), ..change };
            // A quarter above the relay floor, so that rounding is nobody's fault.
            let fee = cost.fee(&[change], FeeratePerKw(320), FLOOR);
            return parent.transactions < MAX_ANCESTORS && fee.is_ok_and(|fee| fee.0 <= most);
        }
        if holder.change.as_ref().is_some_and(is_spent) {
            return false;
        }
        let utxos: Vec<Utxo> =
            holder.inputs.iter().filter_map(|i| self.confirmed.get(i).cloned()).collect();
        let s = &holder.standing;
        let rate = clearly_above(clearly_above(s.feerate, FLOOR), FLOOR);
        let weight = cost.weight_with(&utxos);
        let price = (s.fee.0 + FLOOR.fee(weight).0).max(s.own_rate() * weight / 1000 + 1) * 5 / 4;
        let have: u64 = utxos.iter().map(|u| u.coin.amount.0).sum();
        let fee = cost.fee(&utxos, rate, FLOOR);
        fee.is_ok_and(|fee| fee.0.max(price) <= most && fee.0.max(price) + DUST.0 <= have)
    }
}
