//! What the fee allocator is told of the node: the wallet's UTXOs, and what is under way with them.

use super::allocate::World;
use super::anchor::Unconfirmed;
use super::attempt::{Attempt, Kind};
use super::cost::{Parent, Utxo};
use super::request::{Again, Request, Standing};
use super::{Case, anchor, plan};
use crate::rooms::onchain::Scope;
use crate::rooms::onchain::cost::Coin;
use crate::rooms::onchain::signing::Waiting;
use crate::rooms::wallet;
use bitcoin::Txid;
use primitives::*;
use std::collections::{BTreeMap, BTreeSet};
use wire::onchaind::Claim;

/// Transactions of one chain of unconfirmed ones that are looked at. The allocator makes none that
/// is longer.
const MAX_CHAIN: u32 = 25;

/// All that is under way and not among `freed`, and the UTXOs that it has or could have.
pub(super) fn world(node: &Scope, waiting: &Waiting<'_>, freed: &BTreeSet<Txid>) -> World {
    let with_utxos = node.onchain.all_attempts().filter(|(_, a)| a.tx.input.len() > a.claims.len());
    let there: Vec<_> = with_utxos.filter(|(_, a)| !freed.contains(&a.txid)).collect();
    let makers: BTreeMap<Txid, Parent> =
        there.iter().map(|(n, a)| (a.txid, parent(node, waiting, (*n, a), MAX_CHAIN))).collect();
    let mut utxos: Vec<Utxo> = node
        .wallet
        .outputs
        .iter()
        .filter_map(|(outpoint, output)| utxo(node, *outpoint, output, &makers, freed))
        .collect();
    utxos.sort_by_key(|u| u.coin.amount);
    World {
        tip: node.chain.height(),
        floor: node.feerate_floor(),
        utxos,
        standing: there.into_iter().map(|(n, a)| standing(node, waiting, n, a)).collect(),
    }
}

/// `None` if it cannot pay a fee: something else spends it, or keeps it, or made it.
fn utxo(
    node: &Scope,
    outpoint: OutPoint,
    output: &wallet::Output,
    makers: &BTreeMap<Txid, Parent>,
    freed: &BTreeSet<Txid>,
) -> Option<Utxo> {
    let tip = node.chain.height();
    let held_by = match output.spent {
        None => None,
        Some(spend) if spend.height.is_some() => return None,
        Some(spend) if freed.contains(&spend.txid) => None,
        Some(spend) if makers.contains_key(&spend.txid) => Some(spend.txid),
        Some(_) => return None,
    };
    if held_by.is_none() && (output.is_reserved(tip) || !output.is_mature(tip)) {
        return None;
    }
    let made_by = match output.confirmed {
        Some(_) => None,
        None => Some(*makers.get(&outpoint.txid)?),
    };
    Some(Utxo { coin: coin(outpoint, output), held_by, made_by })
}

fn coin(outpoint: OutPoint, output: &wallet::Output) -> Coin {
    let (amount, script, key_index) = (output.amount, output.script.clone(), output.key_index);
    Coin { outpoint, amount, script, key_index }
}

/// The UTXOs that this one spends.
pub(super) fn utxos_of(node: &Scope, waiting: &Waiting<'_>, attempt: &Attempt) -> Vec<Utxo> {
    let utxos = inputs_of(attempt).filter_map(|outpoint| {
        let output = node.wallet.outputs.get(&outpoint)?;
        let maker = node.onchain.attempt(outpoint.txid).filter(|_| output.confirmed.is_none());
        let made_by = maker.map(|maker| parent(node, waiting, maker, MAX_CHAIN));
        Some(Utxo { coin: coin(outpoint, output), held_by: Some(attempt.txid), made_by })
    });
    utxos.collect()
}

/// The inputs that pay its fee.
fn inputs_of(attempt: &Attempt) -> impl Iterator<Item = OutPoint> {
    attempt.tx.input.iter().skip(attempt.claims.len()).map(|i| i.previous_output)
}

/// This attempt with its unconfirmed ancestors.
fn parent(
    node: &Scope,
    waiting: &Waiting<'_>,
    (number, attempt): (ChannelNumber, &Attempt),
    most: u32,
) -> Parent {
    let mut sum = Parent {
        txid: attempt.txid,
        weight: attempt.tx.weight().to_wu(),
        fee: fee_of(node, number, attempt),
        transactions: 1,
    };
    let mut add = |parent: Parent| {
        sum.weight += parent.weight;
        sum.fee = sum.fee.saturating_add(parent.fee);
        sum.transactions += parent.transactions;
    };
    if attempt.kind == Kind::AnchorBump {
        let bumped = |w: &Unconfirmed<'_>| {
            let of = w.all.iter().find(|b| Some(b.txid) == anchor::bumped_txid(attempt))?;
            crate::rooms::onchain::child_cost::cost(of).parent
        };
        waiting.get(&number).and_then(bumped).into_iter().for_each(&mut add);
    }
    let is_unconfirmed =
        |o: &OutPoint| node.wallet.outputs.get(o).is_some_and(|o| o.confirmed.is_none());
    for outpoint in inputs_of(attempt).filter(is_unconfirmed) {
        if most > 0
            && let Some(maker) = node.onchain.attempt(outpoint.txid)
        {
            add(parent(node, waiting, maker, most - 1));
        }
    }
    sum
}

fn standing(
    node: &Scope,
    waiting: &Waiting<'_>,
    number: ChannelNumber,
    attempt: &Attempt,
) -> Standing {
    let tip = node.chain.height();
    let case = node.onchain.cases.get(&number);
    let (worth, deadline, again) = match (attempt.kind, case) {
        // What it is about, and by when, its onchaind has not said yet: as if it were due now.
        (Kind::Claim, Some(case)) if case.resolution.is_none() => {
            (claimed(case, attempt), Some(tip), None)
        }
        (Kind::Claim, Some(case)) => {
            let claims: Vec<&Claim> = claims_of(case, attempt).collect();
            let deadline = claims.iter().filter_map(|c| c.deadline).min();
            let make =
                plan::anew(&claims, attempt.first, tip, &crate::rooms::onchain::rates::rates(node));
            let again = Request::claims(number, make, node.feerate_floor());
            (claimed(case, attempt), deadline, (!claims.is_empty()).then_some(again))
        }
        (Kind::AnchorBump, None) => match waiting.get(&number) {
            Some(waits) => {
                let again = waits.request(node, None);
                (waits.worth(), waits.deadline(), again)
            }
            None => (Sat(0), None, None),
        },
        // What it was to bump is in a block without it; or its channel is gone.
        (Kind::AnchorBump, Some(_)) | (Kind::Claim, None) => (Sat(0), None, None),
    };
    let again = match again {
        None => Again::Unneeded,
        Some(r) if crate::rooms::onchain::signing::may_be_signed(node, r.number, r.outpoints()) => {
            Again::Ask(r)
        }
        Some(_) => Again::Unsigned,
    };
    Standing {
        txid: attempt.txid,
        worth,
        deadline,
        fee: fee_of(node, number, attempt),
        weight: attempt.tx.weight().to_wu(),
        feerate: attempt.feerate,
        first: attempt.first,
        made: attempt.height,
        refused: attempt.refused,
        accepted: attempt.accepted.is_some_and(|at| tip.0 <= at.0.saturating_add(1)),
        hopeless: attempt.is_hopeless(tip),
        again,
    }
}

fn claims_of<'a>(case: &'a Case, attempt: &'a Attempt) -> impl Iterator<Item = &'a Claim> {
    let claims = case.resolution.iter().flat_map(|r| &r.claims.0);
    claims.filter(|c| attempt.claims.contains(&c.outpoint))
}

/// What is in the outputs that it claims.
fn claimed(case: &Case, attempt: &Attempt) -> Sat {
    let amount = |outpoint: &OutPoint| {
        let seen = case.seen(outpoint.txid)?;
        seen.tx.output.get(outpoint.vout as usize).map(|o| o.value.to_sat())
    };
    Sat(attempt.claims.iter().filter_map(amount).sum())
}

/// What it pays, without what it pays for.
fn fee_of(node: &Scope, number: ChannelNumber, attempt: &Attempt) -> Sat {
    let claimed = match attempt.kind {
        Kind::AnchorBump => channel::ANCHOR,
        Kind::Claim => node.onchain.cases.get(&number).map_or(Sat(0), |c| claimed(c, attempt)),
    };
    let utxos = inputs_of(attempt).filter_map(|o| node.wallet.outputs.get(&o));
    let inputs = claimed.0 + utxos.map(|o| o.amount.0).sum::<u64>();
    let outputs: u64 = attempt.tx.output.iter().map(|o| o.value.to_sat()).sum();
    Sat(inputs.saturating_sub(outputs))
}

/// Does it spend the change of a transaction that is in no block?
pub(super) fn is_chained(node: &Scope, attempt: &Attempt) -> bool {
    let output = |o: OutPoint| node.wallet.outputs.get(&o);
    inputs_of(attempt).any(|o| output(o).is_some_and(|o| o.confirmed.is_none()))
}

/// Can it be in no block any more, because of a UTXO? Another transaction spends that, or it is
/// change of one that bitcoind rejected or that was given up.
pub(super) fn has_lost_a_utxo(node: &Scope, attempt: &Attempt, freed: &BTreeSet<Txid>) -> bool {
    let spends = |o: &OutPoint| node.wallet.outputs.get(o).and_then(|o| o.spent);
    let mut inputs = attempt.tx.input.iter().map(|i| i.previous_output);
    // An attempt that was given up may be in a block all the same.
    let is_taken = inputs.any(|o| spends(&o).is_some_and(|s| s.txid != attempt.txid));
    let is_missing = |o: OutPoint| match node.wallet.outputs.get(&o) {
        Some(output) if output.confirmed.is_some() => false,
        Some(_) => {
            let maker = node.onchain.attempt(o.txid);
            maker.is_some_and(|(_, m)| m.refused || freed.contains(&m.txid))
        }
        None => true,
    };
    is_taken || inputs_of(attempt).any(is_missing)
}
