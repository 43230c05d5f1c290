//! The fee allocator: which UTXOs of the wallet pay for which claim or anchor bump, over all
//! channels at once. Pure.
//!
//! A request is a transaction that cannot pay its own fee: HTLC transactions that the peer signed
//! (option_anchors), and the child of a commitment. [`allocate`] serves all requests of a block, by
//! these rules:
//!
//! 1. The request with the highest value at risk chooses first, then the one with the earlier
//!    deadline. One whose predecessor was rejected by bitcoind comes last.
//! 2. Free confirmed UTXOs pay, as few as it takes; a replacement keeps the UTXOs of its
//!    predecessor.
//! 3. If they cannot pay the wanted feerate, UTXOs are taken from transactions in the mempool with
//!    less value at risk, the lowest first. The value at risk of all that is displaced stays below
//!    that of the request.
//! 4. A transaction due within [`DUE_NOW_BLOCKS`] is not displaced in favour of a request with more
//!    time.
//! 5. A replacement pays for everything it replaces, its own predecessor included. (BIP 125 rules 3
//!    and 4, and bitcoind's rule that its feerate is above each of theirs.)
//! 6. The first anchor bump of a commitment spends an unconfirmed anchor, so it displaces nothing
//!    that is in the mempool. (BIP 125 rule 2.) It may spend the unconfirmed change of such a
//!    transaction instead, and then pays for that one as well. Where that one should pay more, the
//!    bump is raised in its place, at the expense of both; if that cannot be had, that one is
//!    raised and the bump made anew with its new change.
//! 7. A transaction that bitcoind rejects gives way, at no price, from the next block on, to a new
//!    request with at least as much value at risk; if it is due sooner than that request, only
//!    after a second try at a higher fee. After six blocks of rejections it gives way to any
//!    request. It displaces nothing in the block in which it gave way.
//! 8. A request never costs more than its share of the value at risk; at the relay floor, than all
//!    of it.
//! 9. If the wanted feerate cannot be had, the highest one is paid that can, if it is relayed. A
//!    batch of claims is split first.
//! 10. What was displaced is a request again, in the same block.

pub mod fund;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use crate::rooms::onchain::cost::{Unbuilt, Utxo};
use crate::rooms::onchain::request::{Again, Request, Standing, What};
use bitcoin::Txid;
use primitives::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A transaction due within this many blocks is not displaced in favour of one that is due later.
pub(super) const DUE_NOW_BLOCKS: u32 = 3;

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
        /// The request, or a half of its batch.
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
        /// The request as it was asked.
        request: Request,
        /// So much is missing of confirmed UTXOs.
        missing: Sat,
    },
}

/// Gives UTXOs to requests, by the rules of this file. A standing transaction of which no verdict
/// speaks is kept as it is.
pub fn allocate(world: &World, requests: Vec<Request>) -> Vec<Verdict> {
    let index = world.standing.iter().enumerate().map(|(at, s)| (s.txid, at)).collect();
    let mut allocator = Allocator {
        world,
        index,
        queue: BTreeMap::new(),
        asked: 0,
        used: BTreeSet::new(),
        gone: BTreeSet::new(),
        verdicts: Vec::new(),
    };
    requests.into_iter().for_each(|request| allocator.ask(request));
    while let Some((_, request)) = allocator.queue.pop_first() {
        allocator.serve(request);
    }
    allocator.verdicts
}

/// Was the predecessor rejected; value; deadline; is there a predecessor; which request it is.
type Turn = (bool, Reverse<Sat>, BlockHeight, bool, usize);

struct Allocator<'a> {
    world: &'a World,
    /// Places of the standing transactions.
    index: BTreeMap<Txid, usize>,
    queue: BTreeMap<Turn, Request>,
    /// Requests so far.
    asked: usize,
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
    fn ask(&mut self, request: Request) {
        let before = self.standing(request.before);
        let deadline = request.deadline.unwrap_or(BlockHeight(u32::MAX));
        let is_refused = before.is_some_and(|s| s.refused);
        let turn = (is_refused, Reverse(request.worth), deadline, before.is_some(), self.asked);
        self.asked += 1;
        self.queue.insert(turn, request);
    }

    fn serve(&mut self, request: Request) {
        let Some(children) = self.children(request.before) else { return };
        // One that bitcoind does not say to have helps nobody.
        let tip = self.world.tip;
        let is_there = |s: &Standing| !s.refused && (s.accepted || s.made >= tip);
        let counts = |s: &&&Standing| is_there(s) && s.worth > Sat(0);
        if let Some(last) = children.iter().rfind(counts)
            && self.raise_in_place(&request, last)
        {
            return;
        }
        let funded = self.fund(&request);
        let is_enough = funded.as_ref().is_ok_and(|f| f.feerate >= request.wanted);
        if !is_enough && request.before.is_some() && self.raise_half(&request) {
            return;
        }
        match funded {
            Ok(funded) => self.give(request, funded),
            // Rule 9.
            Err(_) if request.before.is_none() && request.batch() > 1 => {
                request.halves(self.world.floor).into_iter().for_each(|half| self.ask(half));
            }
            Err(Unbuilt::Short(missing)) => self.verdicts.push(Verdict::Wait { request, missing }),
            Err(Unbuilt::Dear | Unbuilt::Worthless) => {}
        }
    }

    /// Rule 9: a batch under way that cannot be raised as wanted is split, if its more valuable
    /// half can. `false` if not.
    fn raise_half(&mut self, request: &Request) -> bool {
        if request.batch() < 2 {
            return false;
        }
        let mut halves = request.halves(self.world.floor).into_iter();
        let Some(first) = halves.next() else { return false };
        let first = Request { before: request.before, ..first };
        match self.fund(&first) {
            Ok(funded) if funded.feerate >= first.wanted => {
                self.give(first, funded);
                halves.for_each(|half| self.ask(half));
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// Rule 6: the anchor bump that spends the change of this request's predecessor pays what the
    /// request asks for. `false` if it cannot.
    fn raise_in_place(&mut self, request: &Request, child: &'a Standing) -> bool {
        // One attempt a block.
        if child.feerate >= request.wanted || child.made >= self.world.tip {
            return true;
        }
        let queued = self.queue.iter().find(|(_, r)| r.before == Some(child.txid));
        let (turn, base) = match (queued, &child.again) {
            (Some((turn, base)), _) => (Some(*turn), base.clone()),
            (None, Again::Ask(base)) => (None, base.clone()),
            (None, Again::Unneeded) => return false,
            // It stays as it is if more is at risk with it, unless this is now or never.
            (None, Again::Unsigned) => {
                return child.worth > request.worth && !self.is_due_before(request, child);
            }
        };
        let paid = self.standing(request.before).map_or(Sat(0), |s| s.fee);
        let both = Request {
            before: Some(child.txid),
            wanted: base.wanted.max(request.wanted),
            max_fee: base.max_fee.saturating_add(request.max_fee.saturating_sub(paid)),
            ..base
        };
        match self.fund(&both) {
            Ok(funded) if funded.feerate >= request.wanted => {
                turn.into_iter().for_each(|turn| drop(self.queue.remove(&turn)));
                self.give(both, funded);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn give(&mut self, request: Request, funded: Funded) {
        let Funded { utxos, fee, feerate, displaces } = funded;
        self.used.extend(utxos.iter().map(|u| u.coin.outpoint));
        self.gone.extend(request.before);
        for txid in &displaces {
            self.gone.insert(*txid);
            self.queue.retain(|_, r| r.before != Some(*txid));
            // Rule 10.
            let Some(lost) = self.standing(Some(*txid)) else { continue };
            if let Again::Ask(again) = lost.again.clone() {
                self.ask(Request { rests: lost.refused, ..again });
            }
        }
        self.verdicts.push(Verdict::Build { request, utxos, feerate, fee, displaces });
    }

    fn standing(&self, txid: Option<Txid>) -> Option<&'a Standing> {
        self.index.get(&txid?).and_then(|at| self.world.standing.get(*at))
    }

    /// What spends its change, and what spends the change of that. `None` if its change was given
    /// away in this block.
    fn children(&self, of: Option<Txid>) -> Option<Vec<&'a Standing>> {
        self.standing(of).map_or(Some(vec![]), |of| Some(self.family(of)?.split_off(1)))
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

    /// This transaction and all that spend its change. `None` if its change was given away in this
    /// block.
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

    /// Is this request due within [`DUE_NOW_BLOCKS`], and that transaction later?
    fn is_due_before(&self, request: &Request, other: &Standing) -> bool {
        let left = |due: BlockHeight| (due - self.world.tip).0;
        let Some(due) = request.deadline.filter(|due| left(*due) <= DUE_NOW_BLOCKS) else {
            return false;
        };
        other.deadline.is_none_or(|other| other > due && left(other) > DUE_NOW_BLOCKS)
    }

    /// Does it spend an anchor that no transaction in the mempool spends?
    fn is_first_bump(&self, request: &Request) -> bool {
        match request.what {
            What::Claims(_) => false,
            What::Bump { .. } => self.standing(request.before).is_none_or(|s| !s.accepted),
        }
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
