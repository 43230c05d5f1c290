//! Who gets which UTXO, whatever comes: few UTXOs, many claims of several channels, a market that
//! moves, rejections.

use super::*;
use crate::rooms::onchain::allocate::DUE_NOW_BLOCKS;
use crate::rooms::onchain::answered::answered;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A claim of the world: which channel, which output, when it is too late.
#[derive(Debug, Clone)]
struct Its {
    channel: u64,
    vout: u32,
    deadline: u32,
}

#[derive(Debug, Clone)]
struct Scene {
    claims: Vec<Its>,
    utxos: Vec<u64>,
    /// What a block's transactions pay at least, block by block; and whether bitcoind rejects what
    /// is sent.
    blocks: Vec<(u32, bool)>,
}

fn scene() -> impl Strategy<Value = Scene> {
    let its = (1..=3u64, 0..10u32, 103..150u32);
    let its = its.prop_map(|(channel, vout, deadline)| Its { channel, vout, deadline });
    let claims = proptest::collection::vec(its, 1..7).prop_map(|all| {
        let mut known = BTreeSet::new();
        all.into_iter().filter(|c| known.insert((c.channel, c.vout))).collect()
    });
    let utxos = proptest::collection::vec(prop_oneof![600..3_000u64, 20_000..600_000u64], 1..3);
    let market = prop_oneof![Just(253u32), 253..20_000u32, Just(100_000_000u32)];
    // Half of the scenes have no rejection: after one, less can be said of fees and of who is
    // served.
    let blocks = prop_oneof![Just(0.0), Just(0.1)].prop_flat_map(move |rejects| {
        let block = (market.clone(), proptest::bool::weighted(rejects));
        proptest::collection::vec(block, 30..60)
    });
    (claims, utxos, blocks).prop_map(|(claims, utxos, blocks)| Scene { claims, utxos, blocks })
}

/// All that is under way: of which channel, and what.
fn all(rig: &Rig) -> Vec<(ChannelNumber, Attempt)> {
    let all = rig.node.onchain.attempts.iter();
    all.flat_map(|(n, all)| all.iter().map(|a| (*n, a.clone()))).collect()
}
fn worth_of(attempt: &Attempt) -> u64 {
    attempt.claims.iter().map(|o| AMOUNTS[o.vout as usize]).sum()
}
fn utxos_of(attempt: &Attempt) -> BTreeSet<OutPoint> {
    attempt.tx.input[attempt.claims.len()..].iter().map(|i| i.previous_output).collect()
}
fn fee_of(rig: &Rig, attempt: &Attempt) -> u64 {
    let outputs: u64 = attempt.tx.output.iter().map(|o| o.value.to_sat()).sum();
    let utxos = utxos_of(attempt);
    worth_of(attempt) + utxos.iter().map(|o| rig.node.wallet.outputs[o].amount.0).sum::<u64>()
        - outputs
}

struct Play {
    rig: Rig,
    /// By claimed output.
    deadlines: BTreeMap<OutPoint, u32>,
    /// For each UTXO, who had it block by block: the claimed outputs.
    holders: BTreeMap<OutPoint, Vec<Vec<OutPoint>>>,
    was_refused: bool,
}

impl Play {
    fn new(name: &str, scene: &Scene) -> Self {
        let mut rig = Rig::new(name, &[(1, 1), (2, 2), (3, 3)]);
        for (n, amount) in scene.utxos.iter().enumerate() {
            coin(&mut rig, 100 + n as u8, *amount);
        }
        let mut deadlines = BTreeMap::new();
        for channel in 1..=3 {
            let its = scene.claims.iter().filter(|c| c.channel == channel);
            let claims: Vec<Claim> = its
                .map(|c| {
                    let claim = paired_of(&rig, ChannelNumber(channel), c.vout, c.deadline);
                    deadlines.insert(claim.outpoint, c.deadline);
                    // Another lock time for each: none shares a transaction.
                    Claim { lock_time: c.vout, ..claim }
                })
                .collect();
            if !claims.is_empty() {
                closed(&mut rig, ChannelNumber(channel), claims);
            }
        }
        Self { rig, deadlines, holders: BTreeMap::new(), was_refused: false }
    }

    fn block(&mut self, height: u32, market: u32, rejects: bool) -> Result<(), TestCaseError> {
        let before = all(&self.rig);
        let pays = |a: &Attempt| fee_of(&self.rig, a) * 1000 / 950 >= u64::from(market);
        let mined: Vec<_> =
            before.iter().filter(|(_, a)| pays(a)).map(|(_, a)| a.clone()).collect();
        mine(&mut self.rig, height, mined.iter().map(|a| a.tx.clone()).collect());
        if rejects {
            for (number, attempt) in all(&self.rig) {
                let txid = attempt.txid;
                self.rig.turn(move |node, turn| {
                    answered(node, turn, number, txid, Some("insufficient fee"))
                });
            }
            self.was_refused = true;
        } else {
            for (number, attempt) in all(&self.rig) {
                let txid = attempt.txid;
                self.rig.turn(move |node, turn| answered(node, turn, number, txid, None));
            }
        }
        self.no_utxo_twice()?;
        self.replacements_pay(&before, &mined)?;
        self.no_ping_pong(height)?;
        if !self.was_refused {
            self.most_valuable_first(height)?;
        }
        Ok(())
    }

    fn no_utxo_twice(&self) -> Result<(), TestCaseError> {
        let mut used = BTreeSet::new();
        for (_, attempt) in all(&self.rig) {
            for utxo in utxos_of(&attempt) {
                prop_assert!(used.insert(utxo), "{utxo} pays for two");
                prop_assert_eq!(spent_by(&self.rig, &utxo), Some(attempt.txid));
            }
        }
        Ok(())
    }

    /// What takes the place of transactions pays for all of them, and at a higher feerate. (BIP
    /// 125.)
    fn replacements_pay(
        &self,
        before: &[(ChannelNumber, Attempt)],
        mined: &[Attempt],
    ) -> Result<(), TestCaseError> {
        for (_, now) in all(&self.rig) {
            if before.iter().any(|(_, a)| a.txid == now.txid) {
                continue;
            }
            let replaced = before.iter().map(|(_, a)| a).filter(|a| {
                let shares = !utxos_of(a).is_disjoint(&utxos_of(&now)) || a.claims == now.claims;
                shares && !mined.iter().any(|m| m.txid == a.txid) && !a.refused
            });
            let replaced: Vec<&Attempt> = replaced.collect();
            // One whose UTXOs another one took is replaced by that one, and this is a new one.
            let is_conflict = |a: &&&Attempt| !utxos_of(a).is_disjoint(&utxos_of(&now));
            let conflicts: Vec<&&Attempt> = replaced.iter().filter(is_conflict).collect();
            let paid: u64 = conflicts.iter().map(|a| fee_of(&self.rig, a)).sum();
            if !conflicts.is_empty() && !self.was_refused {
                let relay = now.tx.weight().to_wu() * 253 / 1000;
                prop_assert!(
                    fee_of(&self.rig, &now) >= paid + relay,
                    "{} pays {} and replaces {paid}",
                    now.txid,
                    fee_of(&self.rig, &now)
                );
            }
            // Monotone: the same claim with the same UTXOs pays more than before.
            for a in replaced.iter().filter(|a| a.claims == now.claims) {
                if utxos_of(a).is_subset(&utxos_of(&now)) {
                    prop_assert!(now.feerate >= a.feerate, "{} after {}", now.feerate, a.feerate);
                }
            }
        }
        Ok(())
    }

    /// No UTXO goes from one claim to another and back while nothing is confirmed.
    fn no_ping_pong(&mut self, height: u32) -> Result<(), TestCaseError> {
        for (_, attempt) in all(&self.rig) {
            for utxo in utxos_of(&attempt) {
                let holders = self.holders.entry(utxo).or_default();
                if holders.last() != Some(&attempt.claims) {
                    holders.push(attempt.claims.clone());
                }
                if let [.., first, _, third] = holders.as_slice()
                    && !self.was_refused
                {
                    prop_assert_ne!(first, third, "{} at {}", utxo, height);
                }
            }
        }
        Ok(())
    }

    /// No claim waits while one that is worth less holds UTXOs that would pay for it.
    fn most_valuable_first(&self, height: u32) -> Result<(), TestCaseError> {
        let under_way = all(&self.rig);
        let floor = 253;
        for (outpoint, deadline) in &self.deadlines {
            let case = self.rig.node.onchain.cases.values().find(|c| c.spend.txid == outpoint.txid);
            let spent = |c: &Case| {
                let mut inputs = c.later.iter().flat_map(|s| &s.tx.input);
                inputs.any(|i| i.previous_output == *outpoint)
            };
            if case.is_none_or(spent) || under_way.iter().any(|(_, a)| a.claims.contains(outpoint))
            {
                continue;
            }
            let worth = AMOUNTS[outpoint.vout as usize];
            for (_, holder) in &under_way {
                let due = self.deadlines[&holder.claims[0]];
                let keeps = due.abs_diff(height) <= DUE_NOW_BLOCKS && *deadline > due;
                let has: u64 =
                    utxos_of(holder).iter().map(|o| self.rig.node.wallet.outputs[o].amount.0).sum();
                // What it must pay: for the other one, and for its own relay, a quarter above its
                // feerate.
                let price = (fee_of(&self.rig, holder) * 5 / 4 + floor) * 3 / 2 + floor;
                let is_better = worth_of(holder) < worth && !keeps;
                prop_assert!(
                    !is_better || price > worth / 2 || price + 400 > has,
                    "at {height}: {outpoint} of {worth} waits, and {} of {} (fee {}) has {has}",
                    holder.txid,
                    worth_of(holder),
                    fee_of(&self.rig, holder),
                );
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn allocation_serves_the_most_valuable_claims_and_never_swings(scene in scene()) {
        let mut play = Play::new("allocation", &scene);
        for (n, (market, rejects)) in scene.blocks.iter().enumerate() {
            play.block(101 + n as u32, *market, *rejects)?;
        }
    }
}
