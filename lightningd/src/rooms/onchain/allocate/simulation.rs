//! The allocator over many blocks, against a mempool with bitcoind's rules: few UTXOs, claims and
//! anchor bumps of several channels, a market that moves.

use super::tests::{FLOOR, paired, txid, utxo};
pub mod rules;

use super::*;
use crate::rooms::chain::estimates::Estimates;
use crate::rooms::onchain::commitments::Bumpable;
use crate::rooms::onchain::cost::{Coin, Cost, Parent};
use crate::rooms::onchain::fees;
use crate::rooms::onchain::fees::{Rates, Stake, clearly_above};
use crate::rooms::onchain::plan::Make;
use crate::rooms::onchain::weights::DUST;
use bitcoin::hashes::{Hash, sha256d};
use proptest::prelude::*;
use std::collections::BTreeMap;

const FIRST: u32 = 100;

/// An HTLC, or a commitment with HTLCs, that is lost if no transaction of ours is in a block by its
/// deadline.
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
    /// What a transaction of each block pays at least, and what else happens.
    blocks: Vec<(u32, Event)>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    /// This commitment is in a block without our bump.
    Alone(usize),
    /// bitcoind has lost this one of ours, and rejects it once.
    Rejected(usize),
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
    // After a rejection less can be said of who is served: half of the scenes have none.
    let blocks = proptest::bool::ANY.prop_flat_map(move |rejects| {
        let rejected = if rejects { 1 } else { 0 };
        let event = prop_oneof![
            20 => Just(Event::Nothing),
            1 => (0..7usize).prop_map(Event::Alone),
            rejected => (0..7usize).prop_map(Event::Rejected),
        ];
        proptest::collection::vec((market.clone(), event), 40..70)
    });
    (proptest::collection::vec(at_risk, 1..7), utxos, blocks)
        .prop_map(|(at_risk, utxos, blocks)| Scene { at_risk, utxos, blocks })
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
    was_rejected: bool,
    /// Tip when a bump with unconfirmed change was rejected.
    unchained: BTreeMap<usize, u32>,
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
            was_rejected: false,
            unchained: BTreeMap::new(),
        }
    }

    fn block(&mut self, market: u32, event: Event) -> Checked {
        self.mine(market);
        self.tip += 1;
        self.happen(event);
        let estimates =
            Estimates { floor: FLOOR, by_blocks: vec![(2, FeeratePerKw(market.min(50_000)))] };
        let rates = Rates { floor: FLOOR, estimates: Some(&estimates), forced: None };
        // Again as long as a bump is displaced: it may spend the change of what displaced it.
        for _ in 0..3 {
            self.drop_lost();
            let world = self.world(&rates);
            let requests = self.requests(&rates);
            let verdicts = allocate(&world, requests);
            let before = self.mempool.clone();
            for verdict in &verdicts {
                self.relay(&world, &before, verdict)?;
            }
        }
        self.no_maker_is_frozen(&rates)?;
        if self.was_rejected {
            return Ok(());
        }
        self.no_ping_pong()?;
        self.most_valuable_is_served()
    }

    fn happen(&mut self, event: Event) {
        for m in &mut self.mempool {
            (m.standing.refused, m.standing.accepted) = (false, true);
        }
        match event {
            Event::Nothing => {}
            Event::Alone(of) => {
                if self.at_risk.get(of).is_some_and(|it| it.commitment.is_some())
                    && self.open().any(|o| o == of)
                {
                    self.done.insert(of);
                }
            }
            Event::Rejected(of) => {
                let lost = self.mempool.iter().find(|m| m.of == of).map(|m| m.standing.txid);
                let mut lost: BTreeSet<Txid> = lost.into_iter().collect();
                self.was_rejected |= !lost.is_empty();
                for _ in 0..self.mempool.len() {
                    let children: Vec<Txid> = self
                        .mempool
                        .iter()
                        .filter(|m| self.makers(m).any(|p| lost.contains(&p)))
                        .map(|m| m.standing.txid)
                        .collect();
                    lost.extend(children);
                }
                for m in self.mempool.iter_mut().filter(|m| lost.contains(&m.standing.txid)) {
                    (m.standing.refused, m.standing.accepted) = (true, false);
                }
            }
        }
    }

    fn makers<'a>(&'a self, of: &'a InMempool) -> impl Iterator<Item = Txid> + 'a {
        let makers = self
            .mempool
            .iter()
            .filter(|m| m.change.as_ref().is_some_and(|c| of.inputs.contains(&c.coin.outpoint)));
        makers.map(|m| m.standing.txid)
    }

    /// As `send.rs` does: bumps that lost a UTXO, or were rejected with unconfirmed change.
    fn drop_lost(&mut self) {
        loop {
            let is_lost = |m: &&InMempool| {
                let unconfirmed =
                    m.inputs.iter().filter(|i| !self.confirmed.contains_key(i)).count();
                let makers = self.makers(m).count();
                makers < unconfirmed || (unconfirmed > 0 && m.standing.refused)
            };
            let Some(lost) = self.mempool.iter().find(is_lost) else { return };
            let (txid, of, refused) = (lost.standing.txid, lost.of, lost.standing.refused);
            if refused {
                self.unchained.insert(of, self.tip);
            }
            self.mempool.retain(|m| m.standing.txid != txid);
        }
    }

    /// What pays this feerate is in a block, with its unconfirmed parents.
    fn mine(&mut self, market: u32) {
        loop {
            let pays = |m: &&InMempool| m.standing.feerate.0 >= market && !m.standing.refused;
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
            Some(_) => crate::rooms::onchain::child_cost::cost(&self.target(of)),
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
            may_chain: self.unchained.get(&of).is_none_or(|at| self.tip - at >= 6),
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
            if self.done.contains(&m.of) {
                return Standing {
                    worth: Sat(0),
                    deadline: None,
                    again: Again::Unneeded,
                    ..m.standing.clone()
                };
            }
            let wanted = fees::wanted(rates, BlockHeight(self.tip), &self.stake(m.of));
            Standing { again: Again::Ask(self.request(m.of, wanted, None)), ..m.standing.clone() }
        };
        let standing = self.mempool.iter().map(again).collect();
        World { tip: BlockHeight(self.tip), floor: FLOOR, utxos, standing }
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
            accepted: true,
            hopeless: false,
            again: Again::Unneeded,
        };
        self.mempool.push(InMempool { of, standing, inputs, change });
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

    /// No higher-valued claim waits while a lower-valued one holds UTXOs that would save it; no
    /// UTXO goes to and fro; fees only rise; bitcoind takes every replacement.
    #[test]
    fn allocation_saves_the_most_valuable_and_bitcoind_takes_it(scene in scene()) {
        let mut play = Play::new(&scene);
        for (market, event) in &scene.blocks {
            play.block(*market, *event)?;
        }
    }
}
