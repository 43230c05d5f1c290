//! Up to four HTLCs, each taken by us or by the peer, in every order there is: at each step exactly
//! what is left is claimed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::table::taking;
use common::*;
use onchaind::{DEPTH, Resolver};
use primitives::*;
use std::collections::{BTreeMap, BTreeSet};
use wire::Long;
use wire::onchaind::*;

/// A commitment with four HTLCs: two each way, one pair alike in hash and amount.
struct Four {
    world: World,
    made: Made,
    init: OnchaindInit,
}

#[derive(Clone, Copy, PartialEq)]
enum Whose {
    Ours,
    Theirs,
    Revoked,
}

impl Four {
    fn new(whose: Whose, anchors: bool) -> Self {
        let mut world = World::plain(anchors);
        for by in Side::BOTH {
            for expiry in [103, 102] {
                world.add(by, Msat(40_000_000), 1, expiry).unwrap();
            }
        }
        world.settle();
        let side = if whose == Whose::Ours { Side::Local } else { Side::Remote };
        let made = world.newest(side).clone();
        if whose == Whose::Revoked {
            world.add(Side::Local, Msat(1_000_000), 2, 110).unwrap();
            world.settle();
        }
        let mut init = world.init(&made);
        for id in 0..2 {
            init.preimages.0.push((HtlcId(id), preimage(1)));
        }
        Self { world, made, init }
    }

    fn outpoint(&self, at: usize) -> OutPoint {
        let vout = self.made.built.htlcs[at].index as u32;
        OutPoint { txid: self.made.built.tx.compute_txid(), vout }
    }

    /// What becomes of the second stage of an HTLC that the peer took, or we, is ours in two cases.
    fn has_second(whose: Whose, by_peer: bool) -> bool {
        match whose {
            Whose::Ours => !by_peer,
            Whose::Theirs => false,
            Whose::Revoked => by_peer,
        }
    }

    /// Plays one order: who takes which when. `order[k].0` is the HTLC output, `.1` is true if the
    /// peer takes it. Where one is there for the second time, what its second stage paid is taken.
    fn play(&self, whose: Whose, order: &[(usize, bool)]) {
        let mut resolver = Resolver::new(self.init.clone()).unwrap();
        let mut left: BTreeSet<_> = (0..4).map(|at| self.outpoint(at)).collect();
        let others: BTreeSet<_> = {
            let all = resolver.resolution().claims.0.into_iter().map(|c| c.outpoint);
            all.filter(|o| !left.contains(o)).collect()
        };
        let (mut shown, mut height, mut seconds) = (false, 110, BTreeMap::new());
        for (at, by_peer) in order {
            let htlc = &self.made.built.htlcs[*at].htlc;
            let now = resolver.resolution();
            let again = seconds.remove(at);
            let outpoint = again.unwrap_or(self.outpoint(*at));
            let tx = if *by_peer && again.is_none() {
                match whose {
                    Whose::Ours => self.world.peer_takes(&self.made, htlc.offered_by, htlc.id, 1),
                    Whose::Theirs | Whose::Revoked => {
                        self.world.peers_htlc_tx(&self.made, htlc.offered_by, htlc.id, 1)
                    }
                }
            } else {
                let claim = now.claims.0.iter().find(|c| c.outpoint == outpoint).unwrap();
                taking(&[claim], false)
            };
            left.remove(&outpoint);
            if again.is_none() && Self::has_second(whose, *by_peer) {
                let second = OutPoint { txid: tx.compute_txid(), vout: 0 };
                left.insert(second);
                seconds.insert(*at, second);
            }
            shown |= *by_peer && htlc.offered_by == Side::Local;
            height += 1;
            let transactions = Long(vec![tx]);
            resolver.block(OnchainBlock { height: BlockHeight(height), transactions }).unwrap();
            let now = resolver.resolution();
            let claimed: BTreeSet<_> = now.claims.0.iter().map(|c| c.outpoint).collect();
            assert_eq!(claimed, left.union(&others).copied().collect());
            let learned: Vec<_> = now.learned.0.iter().map(|(id, _)| id.0).collect();
            assert_eq!(learned, if shown { vec![0, 1] } else { vec![] }, "alike in their hash");
            assert!(now.failed.0.iter().all(|id| !learned.contains(&id.0)));
        }
        self.ends(resolver, height);
    }

    /// All that is left is taken, second stages last, and it is over.
    fn ends(&self, mut resolver: Resolver, mut height: u32) {
        loop {
            let claims = resolver.resolution().claims.0;
            if claims.is_empty() {
                break;
            }
            height += 50;
            let transactions = Long(claims.iter().map(|c| taking(&[c], false)).collect());
            resolver.block(OnchainBlock { height: BlockHeight(height), transactions }).unwrap();
        }
        let end = BlockHeight(height + DEPTH);
        resolver.block(OnchainBlock { height: end, transactions: Long(vec![]) }).unwrap();
        let now = resolver.resolution();
        assert_eq!((now.claims.0.len(), now.settled), (0, Some(BlockHeight(height))));
        let ends = now.learned.0.len() + now.failed.0.len();
        assert_eq!(
            ends,
            self.init.state.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Local).count()
        );
    }
}

fn orders(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![vec![]];
    }
    let mut all = vec![];
    for shorter in orders(of - 1) {
        for at in 0..of {
            let mut longer = shorter.clone();
            longer.insert(at, of - 1);
            all.push(longer);
        }
    }
    all
}

#[test]
fn four_htlcs_are_resolved_in_every_order() {
    let orders = orders(4);
    assert_eq!(orders.len(), 24);
    for anchors in [true, false] {
        for whose in [Whose::Ours, Whose::Theirs, Whose::Revoked] {
            let four = Four::new(whose, anchors);
            for order in &orders {
                for takers in 0..16 {
                    let moves: Vec<_> =
                        order.iter().map(|at| (*at, takers >> at & 1 == 1)).collect();
                    for some in 1..=4 {
                        four.play(whose, &moves[..some]);
                    }
                }
            }
        }
    }
}

/// Every order of events, so many of each.
fn interleaved(left: &[usize; 4]) -> Vec<Vec<usize>> {
    if left.iter().all(|n| *n == 0) {
        return vec![vec![]];
    }
    let mut all = vec![];
    for at in (0..4).filter(|at| left[*at] > 0) {
        let mut fewer = *left;
        fewer[at] -= 1;
        for rest in interleaved(&fewer) {
            all.push([vec![at], rest].concat());
        }
    }
    all
}

#[test]
fn four_htlcs_and_second_stages_are_resolved_in_every_order() {
    let mut played = 0;
    for (whose, anchors) in [(Whose::Ours, true), (Whose::Revoked, false)] {
        let four = Four::new(whose, anchors);
        for takers in 0..16 {
            let by_peer = |at: usize| takers >> at & 1 == 1;
            let events =
                [0, 1, 2, 3].map(|at| 1 + usize::from(Four::has_second(whose, by_peer(at))));
            for order in interleaved(&events) {
                let moves: Vec<_> = order.into_iter().map(|at| (at, by_peer(at))).collect();
                four.play(whose, &moves);
                played += 1;
            }
        }
    }
    // The sum of (4 + k)! / 2^k over all choices of k HTLCs with a second stage.
    assert_eq!(played, 2 * (24 + 4 * 60 + 6 * 180 + 4 * 630 + 2520));
}
