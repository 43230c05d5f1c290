//! The allocator over many blocks, against a mempool with bitcoind's rules: few UTXOs, claims and anchor bumps of several channels, a
//! market that moves.

use super::tests::{FLOOR, paired, txid, utxo};
use super::*;
use crate::chain::feerates::Estimates;
use crate::onchain::child;
use crate::onchain::claims::{Coin, DUST};
use crate::onchain::commitments::Bumpable;
use crate::onchain::cost::Cost;
use crate::onchain::fees::{self, Rates, Stake};
use crate::onchain::plan::Make;
use bitcoin::hashes::{Hash, sha256d};
use proptest::prelude::*;
use std::collections::BTreeMap;

const FIRST: u32 = 100;

/// An HTLC, or a commitment with HTLCs, that is lost if no transaction of ours is in a block by its deadline.
#[derive(Debug, Clone)]
struct AtRisk {
    worth: u64,
    /// Blocks from the first one.
    appears: u32,
    due: u32,
    /// Weight and fee of the commitment that the bump is for. `None`: an HTLC's claim.
    commitment: Option<(u64, u64)>,
}

#[derive(Debug, Clone)]
struct Scene {
    at_risk: Vec<AtRisk>,
    utxos: Vec<u64>,
    /// What a transaction of each block pays at least.
    market: Vec<u32>,
}

fn scene() -> impl Strategy<Value = Scene> {
    let commitment = proptest::option::of((700..9_000u64, 0..2_000u64));
    let worth = prop_oneof![1_000..30_000u64, 30_000..3_000_000u64];
    let at_risk =
        (worth, 0..30u32, 4..50u32, commitment).prop_map(|(worth, appears, time, commitment)| {
            AtRisk { worth, appears, due: appears + time, commitment }
        });
    let utxos = proptest::collection::vec(prop_oneof![500..3_000u64, 20_000..600_000u64], 1..4);
    let market = prop_oneof![Just(253u32), 253..20_000u32, Just(100_000_000u32)];
    (proptest::collection::vec(at_risk, 1..7), utxos, proptest::collection::vec(market, 40..70))
        .prop_map(|(at_risk, utxos, market)| Scene { at_risk, utxos, market })
}

/// One of ours in the mempool.
#[derive(Debug, Clone)]
struct InMempool {
    of: usize,
    standing: Standing,
    inputs: Vec<OutPoint>,
    change: Option<Utxo>,
}

struct Play {
    at_risk: Vec<AtRisk>,
    tip: u32,
    confirmed: BTreeMap<OutPoint, Utxo>,
    mempool: Vec<InMempool>,
    done: BTreeSet<usize>,
    first: BTreeMap<usize, u32>,
    /// Of each UTXO, whose transactions spent it, in order.
    holders: BTreeMap<OutPoint, Vec<usize>>,
    made: u32,
}

type Checked = Result<(), TestCaseError>;

impl Play {
    fn new(scene: &Scene) -> Self {
        let utxos = scene.utxos.iter().enumerate().map(|(n, amount)| utxo(100 + n as u8, *amount));
        Self {
            at_risk: scene.at_risk.clone(),
            tip: FIRST,
            confirmed: utxos.map(|u| (u.coin.outpoint, u)).collect(),
            mempool: vec![],
            done: BTreeSet::new(),
            first: BTreeMap::new(),
            holders: BTreeMap::new(),
            made: 0,
        }
    }

    fn block(&mut self, market: u32) -> Checked {
        self.mine(market);
        self.tip += 1;
        let estimates =
            Estimates { floor: FLOOR, by_blocks: vec![(2, FeeratePerKw(market.min(50_000)))] };
        let rates = Rates { floor: FLOOR, estimates: Some(&estimates), forced: None };
        let world = self.world(&rates);
        let requests = self.requests(&rates);
        let verdicts = allocate(&world, requests);
        let before = self.mempool.clone();
        for verdict in &verdicts {
            self.relay(&world, &before, verdict)?;
        }
        self.no_ping_pong()?;
        self.most_valuable_is_served()
    }

    /// What pays this feerate is in a block, with its unconfirmed parents.
    fn mine(&mut self, market: u32) {
        loop {
            let pays = |m: &&InMempool| m.standing.feerate.0 >= market;
            let Some(found) = self.mempool.iter().find(pays).cloned() else { return };
            let parents = |m: &InMempool| {
                let of = |p: &&InMempool| {
                    p.change.as_ref().is_some_and(|c| m.inputs.contains(&c.coin.outpoint))
                };
                self.mempool.iter().find(of).cloned()
            };
            let mut next = found;
            while let Some(parent) = parents(&next) {
                next = parent;
            }
            self.mempool.retain(|m| m.standing.txid != next.standing.txid);
            self.done.insert(next.of);
            for input in &next.inputs {
                self.confirmed.remove(input);
            }
            if let Some(change) = next.change {
                let confirmed = Utxo { made_by: None, held_by: None, ..change };
                self.confirmed.insert(confirmed.coin.outpoint, confirmed);
            }
        }
    }

    fn cost(&self, of: usize) -> Cost {
        match self.at_risk[of].commitment {
            None => claims_of(of, &self.at_risk[of]).cost,
            Some(_) => child::cost(&self.target(of)),
        }
    }
    fn target(&self, of: usize) -> Bumpable {
        let (weight, fee) = self.at_risk[of].commitment.expect("an anchor bump");
        let txid = txid(of as u8);
        let anchor = OutPoint { txid, vout: 0 };
        Bumpable { txid, anchor, fee: Sat(fee), weight, owner: Side::Local }
    }
    fn stake(&self, of: usize) -> Stake {
        let it = &self.at_risk[of];
        let cost = self.cost(of);
        Stake {
            first: BlockHeight(*self.first.get(&of).unwrap_or(&self.tip)),
            deadline: Some(BlockHeight(FIRST + it.due)),
            value: Sat(it.worth),
            weight: cost.weight + 230 + cost.parent.map_or(0, |p| p.weight),
        }
    }
    fn request(&self, of: usize, wanted: FeeratePerKw, before: Option<Txid>) -> Request {
        let (it, stake) = (&self.at_risk[of], self.stake(of));
        let what = match it.commitment {
            None => claims_of(of, it).what,
            Some(_) => What::Bump { target: self.target(of), first: stake.first },
        };
        Request {
            number: ChannelNumber(of as u64),
            what,
            worth: Sat(it.worth),
            deadline: stake.deadline,
            before,
            least: FLOOR.min(wanted),
            wanted,
            max_fee: Sat(it.worth / 2),
            calm: None,
            rests: false,
            cost: self.cost(of),
        }
    }

    fn open(&self) -> impl Iterator<Item = usize> + '_ {
        let is_open =
            |of: &usize| FIRST + self.at_risk[*of].appears <= self.tip && !self.done.contains(of);
        (0..self.at_risk.len()).filter(is_open)
    }

    fn requests(&mut self, rates: &Rates<'_>) -> Vec<Request> {
        let tip = BlockHeight(self.tip);
        let open: Vec<usize> = self.open().collect();
        let mut requests = Vec::new();
        for of in open {
            self.first.entry(of).or_insert(self.tip);
            let before = self.mempool.iter().find(|m| m.of == of).map(|m| &m.standing);
            let wanted = match before {
                Some(s) => fees::next(rates, tip, &self.stake(of), s.feerate, s.made),
                None => {
                    let wanted = fees::wanted(rates, tip, &self.stake(of));
                    let needs = self.at_risk[of]
                        .commitment
                        .is_none_or(|_| self.target(of).pays_less_than(wanted));
                    needs.then_some(wanted)
                }
            };
            requests.extend(wanted.map(|w| self.request(of, w, before.map(|s| s.txid))));
        }
        requests
    }

    fn parent(&self, of: &InMempool) -> Parent {
        let s = &of.standing;
        let mut sum = Parent { txid: s.txid, weight: s.weight, fee: s.fee, transactions: 1 };
        let commitment = self.at_risk[of.of].commitment.map(|(w, f)| (w, Sat(f), 1));
        let makers = self
            .mempool
            .iter()
            .filter(|m| m.change.as_ref().is_some_and(|c| of.inputs.contains(&c.coin.outpoint)));
        let makers = makers.map(|m| self.parent(m)).map(|p| (p.weight, p.fee, p.transactions));
        for (weight, fee, transactions) in commitment.into_iter().chain(makers) {
            sum.weight += weight;
            sum.fee = sum.fee.saturating_add(fee);
            sum.transactions += transactions;
        }
        sum
    }

    fn world(&self, rates: &Rates<'_>) -> World {
        let holder = |o: &OutPoint| {
            let found = self.mempool.iter().find(|m| m.inputs.contains(o));
            found.map(|m| m.standing.txid)
        };
        let confirmed = self.confirmed.values().cloned();
        let change = self
            .mempool
            .iter()
            .filter_map(|m| Some(Utxo { made_by: Some(self.parent(m)), ..m.change.clone()? }));
        let all = confirmed.chain(change);
        let mut utxos: Vec<Utxo> =
            all.map(|u| Utxo { held_by: holder(&u.coin.outpoint), ..u }).collect();
        utxos.sort_by_key(|u| u.coin.amount);
        let again = |m: &InMempool| {
            let wanted = fees::wanted(rates, BlockHeight(self.tip), &self.stake(m.of));
            Standing { again: Some(self.request(m.of, wanted, None)), ..m.standing.clone() }
        };
        let standing = self.mempool.iter().map(again).collect();
        World { tip: BlockHeight(self.tip), floor: FLOOR, utxos, standing }
    }

    /// bitcoind takes it, or the test fails.
    fn relay(&mut self, world: &World, before: &[InMempool], verdict: &Verdict) -> Checked {
        let Verdict::Build { request, utxos, feerate, fee, displaces } = verdict else {
            return Ok(());
        };
        let of = request.number.0 as usize;
        let inputs: Vec<OutPoint> = utxos.iter().map(|u| u.coin.outpoint).collect();
        // What it conflicts with, and what spends the change of that.
        let mut conflicts: Vec<InMempool> = Vec::new();
        let is_hit = |m: &InMempool| m.of == of || m.inputs.iter().any(|i| inputs.contains(i));
        conflicts.extend(self.mempool.iter().filter(|m| is_hit(m)).cloned());
        loop {
            let spends = |m: &&InMempool| {
                let of_one = |c: &InMempool| {
                    c.change.as_ref().is_some_and(|u| m.inputs.contains(&u.coin.outpoint))
                };
                conflicts.iter().any(of_one)
                    && !conflicts.iter().any(|c| c.standing.txid == m.standing.txid)
            };
            let Some(more) = self.mempool.iter().find(spends).cloned() else { break };
            conflicts.push(more);
        }
        let gone: BTreeSet<Txid> = displaces.iter().copied().chain(request.before).collect();
        for conflict in &conflicts {
            // One made in this block was given up before it was sent, and its UTXOs may not be given away again.
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
        if !conflicts.is_empty() {
            let paid: u64 = conflicts.iter().map(|c| c.standing.fee.0).sum();
            prop_assert!(fee.0 >= paid + FLOOR.fee(weight).0, "{fee} replaces {paid}");
            for conflict in conflicts.iter().map(|c| &c.standing) {
                prop_assert!(
                    fee.0 * conflict.weight > conflict.fee.0 * weight,
                    "its feerate falls"
                );
            }
            // BIP 125, rule 2.
            let known: Vec<OutPoint> = conflicts.iter().flat_map(|c| c.inputs.clone()).collect();
            let is_first_bump =
                request.commitment_is_unconfirmed() && !conflicts.iter().any(|c| c.of == of);
            prop_assert!(!is_first_bump, "a first bump replaces");
            let unconfirmed = utxos.iter().filter(|u| u.made_by.is_some());
            for utxo in unconfirmed {
                prop_assert!(known.contains(&utxo.coin.outpoint), "new unconfirmed input");
            }
        }
        if let Some(raised) = conflicts.iter().find(|c| c.of == of) {
            prop_assert!(*feerate > raised.standing.feerate, "its price falls");
        }
        let most = if *feerate > FLOOR { request.worth.0 / 2 } else { request.worth.0 };
        prop_assert!(fee.0 <= most, "{fee} for {}", request.worth);
        let have: u64 = request.cost.have.0 + utxos.iter().map(|u| u.coin.amount.0).sum::<u64>();
        prop_assert!(have >= fee.0);
        self.mempool.retain(|m| !gone.contains(&m.standing.txid));
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

    fn add(
        &mut self,
        world: &World,
        request: &Request,
        (inputs, fee, feerate): (Vec<OutPoint>, Sat, FeeratePerKw),
        have: u64,
        weight: u64,
    ) {
        self.made += 1;
        let txid = Txid::from_raw_hash(sha256d::Hash::hash(&self.made.to_be_bytes()));
        let change = Some(have - fee.0).filter(|left| *left >= DUST.0).map(|left| Utxo {
            coin: Coin {
                outpoint: OutPoint { txid, vout: 1 },
                amount: Sat(left),
                ..utxo(1, 1).coin
            },
            held_by: None,
            made_by: None,
        });
        let of = request.number.0 as usize;
        let standing = Standing {
            txid,
            worth: request.worth,
            deadline: request.deadline,
            fee,
            weight,
            feerate,
            first: BlockHeight(self.first[&of]),
            made: world.tip,
            refused: false,
            hopeless: false,
            again: None,
        };
        self.mempool.push(InMempool { of, standing, inputs, change });
    }

    /// No UTXO goes from one to another and back.
    fn no_ping_pong(&self) -> Checked {
        for (outpoint, holders) in &self.holders {
            let known: BTreeSet<&usize> = holders.iter().collect();
            prop_assert_eq!(known.len(), holders.len(), "{} goes to {:?}", outpoint, holders);
        }
        Ok(())
    }

    /// None waits while one with less at risk has UTXOs that could save it.
    fn most_valuable_is_served(&self) -> Checked {
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

impl Request {
    fn commitment_is_unconfirmed(&self) -> bool {
        matches!(self.what, What::Bump { .. })
    }
}

fn claims_of(of: usize, it: &AtRisk) -> Request {
    let claim = paired(of as u8, it.worth, FIRST + it.due);
    let make =
        Make { claims: vec![claim], feerate: FLOOR, first: BlockHeight(FIRST), replaces: None };
    Request::claims(ChannelNumber(of as u64), make, FLOOR)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// No higher-valued claim waits while a lower-valued one holds UTXOs that would save it; no UTXO goes to and fro; fees only rise;
    /// bitcoind takes every replacement.
    #[test]
    fn allocation_saves_the_most_valuable_and_bitcoind_takes_it(scene in scene()) {
        let mut play = Play::new(&scene);
        for market in &scene.market {
            play.block(*market)?;
        }
    }
}
