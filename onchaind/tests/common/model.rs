//! A chain with an adversary: it chooses what is mined when, what the peer takes, what is
//! reorganised away and when the resolver is born again. We are only as fast as we said that we
//! must be.

use super::dice::{Dice, HASHES, number_of};
use super::table::taking;
use super::*;
use bitcoin::Transaction;
use onchaind::Resolver;
use std::collections::{HashMap, HashSet};

/// What became of an HTLC that we offered, as the master keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Learned,
    Failed,
}

pub struct Model {
    pub world: World,
    made: Made,
    revoked: bool,
    dice: Dice,
    init: OnchaindInit,
    resolver: Resolver,
    /// By height, from the block after the commitment's on.
    blocks: Vec<Vec<Transaction>>,
    ours: HashSet<Txid>,
    outcomes: HashMap<HtlcId, Outcome>,
    /// When the master gave a preimage.
    given: HashMap<HtlcId, u32>,
    /// What the peer could know.
    peer_knows: HashSet<u64>,
    /// At most so many reorganisations, so that it ends.
    reorgs: u64,
    /// The peer takes what it can, at once.
    strikes: bool,
    /// How many blocks there were at most.
    most: usize,
}

impl Model {
    pub fn new(mut world: World, made: Made, mut dice: Dice) -> Self {
        let number = made.state.number;
        let revoked =
            made.state.side == Side::Remote && number < world.ours.storable().revoked.remote;
        let mut init = world.init(&made);
        let offered = init.state.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Local);
        for live in offered {
            if dice.one_in(2) {
                let upstream = BlockHeight(live.htlc.expiry.0 + dice.below(40) as u32);
                init.upstream.0.push((live.htlc.id, upstream));
            }
        }
        let resolver = Resolver::new(init.clone()).unwrap();
        let peer_knows = (0..HASHES).filter(|_| !dice.one_in(3)).collect();
        let reorgs = dice.below(4);
        let mut model = Self {
            world,
            made,
            revoked,
            dice,
            init,
            resolver,
            blocks: vec![],
            ours: HashSet::new(),
            outcomes: HashMap::new(),
            given: HashMap::new(),
            peer_knows,
            reorgs,
            strikes: false,
            most: 0,
        };
        model.master_hears();
        model
    }

    fn tip(&self) -> u32 {
        HEIGHT.0 + self.blocks.len() as u32
    }

    /// To the end: everything is settled, and everybody has what is theirs.
    pub fn plays(&mut self) {
        while self.resolver.resolution().settled.is_none()
            || !self.resolver.resolution().claims.0.is_empty()
        {
            assert!(self.tip() < 400, "it does not end: {:?}", self.resolver.resolution());
            self.step();
        }
        // Whatever could still come is part of the end.
        for _ in 0..8 {
            self.mine(vec![]);
        }
        self.judge();
    }

    /// Blocks come and go, and with the last of them the commitment: the chain has another one
    /// then, which counts too.
    pub fn swaps(&mut self, other: Made) {
        self.init.upstream.0.clear();
        self.resolver = Resolver::new(self.init.clone()).unwrap();
        for _ in 0..self.dice.below(6) {
            self.step();
        }
        self.blocks.clear();
        self.most = 6;
        let preimages = self.init.preimages.clone();
        self.init = self.world.init(&other);
        self.init.preimages = preimages;
        let number = other.state.number;
        self.revoked = other.state.side == Side::Remote && number < self.init.state.revoked.remote;
        self.made = other;
        self.resolver = Resolver::new(self.init.clone()).unwrap();
        self.strikes = true;
        self.master_hears();
    }

    fn failures(&self) -> usize {
        self.outcomes.values().filter(|o| **o == Outcome::Failed).count()
    }

    fn step(&mut self) {
        if self.dice.one_in(4) {
            self.master_gives();
        }
        if self.dice.one_in(8) {
            self.is_born_again();
        }
        if self.dice.one_in(6) {
            self.somebody_broadcasts();
        }
        if self.reorgs > 0 && !self.blocks.is_empty() && self.dice.one_in(8) {
            self.reorgs -= 1;
            let depth = 1 + self.dice.below(6);
            self.reorganise(depth);
        }
        let height = self.tip() + 1;
        let mut wanted = self.peers_moves(height);
        let behind = if self.strikes { wanted.len() as u64 } else { 0 };
        for tx in self.our_moves(height) {
            let at = behind + self.dice.below(wanted.len() as u64 + 1 - behind);
            wanted.insert(at as usize, tx);
        }
        self.strikes = false;
        let failures = self.failures();
        self.mine(wanted);
        // The best moment to undo what it failed for.
        if self.failures() > failures && self.reorgs > 0 && self.dice.one_in(2) {
            self.reorgs -= 1;
            self.reorganise(6);
            self.strikes = true;
        }
    }

    /// The next block, with those of these that are valid in it.
    fn mine(&mut self, wanted: Vec<Transaction>) {
        let height = self.tip() + 1;
        self.blocks.push(vec![]);
        self.most = self.most.max(self.blocks.len());
        for tx in wanted {
            if self.is_valid(&tx, height) {
                self.note_taken(&tx);
                self.blocks.last_mut().unwrap().push(tx);
            }
        }
        let transactions = self.blocks.last().unwrap().clone();
        let height = BlockHeight(height);
        for transaction in transactions.clone() {
            self.init.later.0.push(Mined { transaction, height });
        }
        self.init.height = height;
        self.resolver.block(OnchainBlock { height, transactions: Long(transactions) }).unwrap();
        self.master_hears();
    }

    fn reorganise(&mut self, depth: u64) {
        // Never more than six below the longest that there was.
        let keep =
            self.blocks.len().saturating_sub(depth as usize).max(self.most.saturating_sub(6));
        if keep >= self.blocks.len() {
            return;
        }
        self.blocks.truncate(keep);
        let height = BlockHeight(HEIGHT.0 + keep as u32 + 1);
        self.init.later.0.retain(|mined| mined.height < height);
        self.init.height = BlockHeight(height.0 - 1);
        self.resolver.reorg(&OnchainReorg { height }).unwrap();
        self.master_hears();
    }

    /// A restart, from what the master has stored.
    fn is_born_again(&mut self) {
        let before = self.resolver.resolution();
        self.resolver = Resolver::new(self.init.clone()).unwrap();
        let after = self.resolver.resolution();
        assert_eq!(after.outputs, before.outputs);
        assert_eq!(after.claims, before.claims);
        // It may have forgotten what only a block that is gone, or none, has shown.
        assert!(after.learned.0.iter().all(|l| before.learned.0.contains(l)));
    }

    /// A transaction of the peer's is seen in no block.
    fn somebody_broadcasts(&mut self) {
        let height = self.tip() + 1;
        if let Some(transaction) = self.peers_moves(height).pop() {
            self.resolver.unconfirmed(&OnchainUnconfirmed { transaction });
            self.master_hears();
        }
    }

    /// The master learns what opens one that the peer offered.
    fn master_gives(&mut self) {
        let of = self.init.state.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Remote);
        let ids: Vec<_> =
            of.map(|l| (l.htlc.id, number_of(l.htlc.payment_hash), l.htlc.expiry)).collect();
        if ids.is_empty() {
            return;
        }
        let (id, n, expiry) = self.dice.pick(&ids);
        // It may come late; but who is settled is settled.
        if self.tip() > expiry.0 || self.given.contains_key(&id) {
            return;
        }
        self.given.insert(id, self.tip());
        self.init.preimages.0.push((id, preimage(n)));
        self.resolver.preimage(&OnchainPreimage { id, preimage: preimage(n) });
    }

    fn master_hears(&mut self) {
        let now = self.resolver.resolution();
        let learned: HashSet<_> = now.learned.0.iter().map(|(id, _)| *id).collect();
        assert!(now.failed.0.iter().all(|id| !learned.contains(id)), "one or the other: {now:?}");
        for (id, preimage) in &now.learned.0 {
            let live = self.world.ours.htlc(Side::Local, *id).unwrap();
            assert_eq!(preimage.hash(), live.htlc.payment_hash);
            self.outcomes.entry(*id).or_insert(Outcome::Learned);
        }
        for id in &now.failed.0 {
            self.outcomes.entry(*id).or_insert(Outcome::Failed);
        }
    }

    /// The HTLC outputs of the commitment, each with the HTLC.
    fn htlc_outputs(&self) -> Vec<(OutPoint, Htlc)> {
        let txid = self.made.built.tx.compute_txid();
        let at = |vout: usize| OutPoint { txid, vout: vout as u32 };
        self.made.built.htlcs.iter().map(|h| (at(h.index), h.htlc.clone())).collect()
    }

    fn spender(&self, outpoint: &OutPoint) -> Option<(&Transaction, usize, u32)> {
        self.blocks.iter().enumerate().find_map(|(n, block)| {
            block.iter().find_map(|tx| {
                let at = tx.input.iter().position(|i| i.previous_output == *outpoint)?;
                Some((tx, at, HEIGHT.0 + n as u32 + 1))
            })
        })
    }
    fn height_of(&self, txid: Txid) -> Option<u32> {
        if txid == self.made.built.tx.compute_txid() {
            return Some(HEIGHT.0);
        }
        self.blocks.iter().enumerate().find_map(|(n, block)| {
            let here = block.iter().any(|tx| tx.compute_txid() == txid);
            here.then_some(HEIGHT.0 + n as u32 + 1)
        })
    }

    /// Unspent, and final: BIP 68 and lock times. What scripts say was executed when it was signed.
    fn is_valid(&self, tx: &Transaction, height: u32) -> bool {
        if tx.lock_time.to_consensus_u32() >= height {
            return false;
        }
        tx.input.iter().all(|input| {
            let at = input.previous_output;
            let foreign = [[7; 32], [8; 32]].contains(AsRef::<[u8; 32]>::as_ref(&at.txid));
            if foreign {
                return true;
            }
            let Some(from) = self.height_of(at.txid) else { return false };
            let wait = if input.sequence.0 >> 31 == 1 { 0 } else { input.sequence.0 & 0xffff };
            self.spender(&at).is_none() && from + wait <= height
        })
    }

    /// The peer takes HTLCs that we offered: there must be as many that did not fail.
    fn note_taken(&self, tx: &Transaction) {
        if self.revoked || self.ours.contains(&tx.compute_txid()) {
            return;
        }
        let outputs = self.htlc_outputs();
        let of = |outpoint: &OutPoint| {
            outputs.iter().find(|(o, h)| o == outpoint && h.offered_by == Side::Local)
        };
        for (_, taken) in tx.input.iter().filter_map(|i| of(&i.previous_output)) {
            let alike = |h: &Htlc| {
                h.payment_hash == taken.payment_hash
                    && h.amount.sat_floor() == taken.amount.sat_floor()
            };
            let before = outputs.iter().filter(|(o, h)| {
                h.offered_by == Side::Local
                    && alike(h)
                    && self
                        .spender(o)
                        .is_some_and(|(tx, ..)| !self.ours.contains(&tx.compute_txid()))
            });
            let open = self.world.ours.htlcs().filter(|l| {
                l.htlc.offered_by == Side::Local
                    && alike(&l.htlc)
                    && self.outcomes.get(&l.htlc.id) != Some(&Outcome::Failed)
            });
            let (open, before) = (open.count(), before.count());
            assert!(open > before, "the peer took {taken:?}, which had failed upstream");
        }
    }

    /// What the peer may and will do in this block.
    fn peers_moves(&mut self, height: u32) -> Vec<Transaction> {
        let mut moves = vec![];
        for (outpoint, htlc) in self.htlc_outputs() {
            let n = number_of(htlc.payment_hash);
            let (by, id) = (htlc.offered_by, htlc.id);
            if by == Side::Local && !self.peer_knows.contains(&n) {
                continue;
            }
            let spent = self.spender(&outpoint).map(|(tx, at, _)| (tx.clone(), at));
            match spent {
                None if self.strikes || self.dice.one_in(6) => {
                    moves.push(match self.made.state.side {
                        Side::Local => self.world.peer_takes(&self.made, by, id, n),
                        Side::Remote => {
                            let aggregated = self.world.anchors && self.dice.one_in(2);
                            self.world.peers_htlc_txs(&self.made, &[(by, id, n)], aggregated)
                        }
                    })
                }
                // Its second stage, once it waited long enough.
                Some((tx, at)) if self.made.state.side == Side::Remote => {
                    let txid = tx.compute_txid();
                    if !self.ours.contains(&txid) {
                        let (vout, out) = (at as u32, tx.output[at].clone());
                        let at = OutPoint { txid, vout };
                        moves.push(self.world.peer_takes_delayed(&self.made, at, &out));
                    }
                }
                Some(_) | None => {}
            }
        }
        if self.made.state.side == Side::Remote
            && let Some(vout) = self.made.built.to_local
        {
            let at = OutPoint { txid: self.made.built.tx.compute_txid(), vout: vout as u32 };
            let out = self.made.built.tx.output[vout].clone();
            moves.push(self.world.peer_takes_delayed(&self.made, at, &out));
        }
        moves.retain(|tx| self.is_valid(tx, height));
        moves
    }

    /// What of ours is in this block: whatever must be, and some of the rest.
    fn our_moves(&mut self, height: u32) -> Vec<Transaction> {
        let claims = self.resolver.resolution().claims.0;
        let (mut moves, mut together) = (vec![], vec![]);
        for claim in claims {
            assert!(claim.ready.0 > HEIGHT.0, "nothing is in the past: {claim:?}");
            if claim.ready.0 > height {
                // No sooner than it says.
                let mut early = taking(&[&claim], false);
                early.input[0].sequence.0 = claim.sequence;
                assert!(!self.is_valid(&early, height), "ready before it says so: {claim:?}");
                continue;
            }
            let last = claim.deadline.is_some_and(|d| d.0 <= height + 1);
            if last || self.dice.one_in(15) {
                moves.push(self.taken(&[&claim]));
            } else if self.dice.one_in(6) {
                together.push(claim);
            }
        }
        // Some in one: all that are free, or pairs of one lock time.
        while let Some(first) = together.first() {
            let whole = matches!(first.shape, ClaimShape::Whole { .. });
            let free = matches!(first.shape, ClaimShape::Free {});
            let lock_time = first.lock_time;
            let (now, rest): (Vec<_>, Vec<_>) = together.into_iter().partition(|c| {
                !whole
                    && matches!(c.shape, ClaimShape::Free {}) == free
                    && c.lock_time == lock_time
                    && !matches!(c.shape, ClaimShape::Whole { .. })
            });
            if now.is_empty() {
                let (first, others) = rest.split_first().unwrap();
                moves.push(self.taken(&[first]));
                together = others.to_vec();
            } else {
                moves.push(self.taken(&now.iter().collect::<Vec<_>>()));
                together = rest;
            }
        }
        moves
    }

    fn taken(&mut self, claims: &[&Claim]) -> Transaction {
        let whole = claims.iter().any(|c| matches!(c.shape, ClaimShape::Whole { .. }));
        let aggregated = !whole && self.dice.one_in(3);
        let tx = match self.world.keys {
            Keys::Plain => taking(claims, aggregated),
            Keys::Hsmd(_) => self.world.take(claims, aggregated),
        };
        self.ours.insert(tx.compute_txid());
        tx
    }

    /// At the end: did each output go where the protocol says?
    fn judge(&self) {
        let built = &self.made.built;
        let txid = built.tx.compute_txid();
        let at = |vout: usize| OutPoint { txid, vout: vout as u32 };
        let ours = |outpoint: OutPoint| matches!(self.taker(outpoint), Some((true, _)));
        let (own, other) = match built.side {
            Side::Local => (built.to_local, built.to_remote),
            Side::Remote => (built.to_remote, built.to_local),
        };
        if let Some(own) = own {
            assert!(ours(at(own)), "our own output");
        }
        if let Some(other) = other
            && self.revoked
        {
            assert!(ours(at(other)), "a penalty");
        }
        for (outpoint, htlc) in self.htlc_outputs() {
            self.judge_htlc(outpoint, &htlc);
        }
        // Each has come to one end.
        for live in self.world.ours.htlcs().filter(|l| l.htlc.offered_by == Side::Local) {
            if live.added != Stage::PendingOnReceiver {
                assert!(self.outcomes.contains_key(&live.htlc.id), "{live:?} has no end");
            }
        }
    }

    /// Who spends this output: us or not, and which output of the spending transaction has its
    /// index.
    fn taker(&self, outpoint: OutPoint) -> Option<(bool, OutPoint)> {
        self.spender(&outpoint).map(|(tx, at, _)| {
            let txid = tx.compute_txid();
            (self.ours.contains(&txid), OutPoint { txid, vout: at as u32 })
        })
    }

    fn judge_htlc(&self, outpoint: OutPoint, htlc: &Htlc) {
        let taken = self.taker(outpoint);
        let ours = |outpoint: OutPoint| matches!(self.taker(outpoint), Some((true, _)));
        match (&taken, self.made.built.side) {
            // Our second stage, or theirs where it is ours.
            (Some((true, second)), Side::Local) => assert!(ours(*second), "{htlc:?}"),
            (Some((false, second)), Side::Remote) if self.revoked => {
                assert!(ours(*second), "a penalty on {htlc:?}");
            }
            _ => {}
        }
        if self.revoked {
            assert!(taken.is_some());
            return;
        }
        let ours = matches!(taken, Some((true, _)));
        match htlc.offered_by {
            Side::Local => {
                assert!(taken.is_some(), "an HTLC that we offered is not left there");
                if !ours {
                    assert_eq!(self.outcomes.get(&htlc.id), Some(&Outcome::Learned));
                }
            }
            Side::Remote => {
                let known = self.init.state.htlcs.0.iter().any(|l| {
                    (l.htlc.offered_by, l.htlc.id) == (Side::Remote, htlc.id)
                        && l.removed
                            .as_ref()
                            .is_some_and(|r| matches!(r.removal, Removal::Fulfilled { .. }))
                });
                let given = self.given.get(&htlc.id).is_some_and(|t| t + 2 <= htlc.expiry.0);
                // One whose preimage we had in time.
                if known || given {
                    assert!(ours, "{htlc:?} was ours to take");
                }
            }
        }
    }
}
