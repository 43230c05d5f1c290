//! Attempts and their rows: kept, given up, answered by bitcoind.

use super::attempt::{Attempt, GivenUp, Kind};
use super::store;
use crate::kernel::turn::Turn;
use crate::rooms::onchain::Scope;
use crate::rooms::{chain, wallet};
use crate::sys::fatal::Stop;
use primitives::*;
use std::collections::BTreeSet;
use wire::onchaind::Claim;

/// This one is given up: what it spent of the wallet's is free again, unless it is in a block.
pub(super) fn drop_attempt(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    attempt: &Attempt,
) -> Result<(), Stop> {
    let txid = attempt.txid;
    chain::store::give_up(turn.db, txid)?;
    wallet::spend::unspend(node, turn, txid)?;
    store::remove_attempt(turn.db, txid)?;
    let is_bump = attempt.kind == Kind::AnchorBump;
    turn.install(node, move |onchain| {
        if let Some(all) = onchain.attempts.get_mut(&number) {
            all.retain(|a| a.txid != txid);
        }
        if is_bump {
            // They spend its UTXOs.
            onchain.alternative_bumps.remove(&number);
        }
    });
    Ok(())
}

/// This one is given up, and what it was to take is not: that keeps its age until it is claimed
/// anew. Where it `rests`, another one has its coins for a block at least.
pub(super) fn give_up(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    attempt: &Attempt,
    rests: bool,
) -> Result<(), Stop> {
    drop_attempt(node, turn, number, attempt)?;
    if attempt.kind == Kind::Claim {
        let rests_at = rests.then_some(node.chain.height());
        let (claims, given_up) =
            (attempt.claims.clone(), GivenUp { first: attempt.first, rests_at });
        if node.onchain.cases.contains_key(&number) {
            for outpoint in &claims {
                store::set_claim_start(turn.db, number, outpoint, attempt.first)?;
            }
        }
        turn.install(node, move |onchain| {
            if onchain.cases.contains_key(&number) {
                let all = onchain.given_up.entry(number).or_default();
                all.extend(claims.iter().map(|o| (*o, given_up)));
            }
        });
    }
    Ok(())
}

/// What can be claimed no more is not remembered.
pub(super) fn forget_others(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    claims: &[Claim],
) -> Result<(), Stop> {
    if let Some(given_up) = node.onchain.given_up.get(&number) {
        let known: BTreeSet<OutPoint> = claims.iter().map(|c| c.outpoint).collect();
        for outpoint in given_up.keys().filter(|o| !known.contains(o)) {
            store::remove_claim_start(turn.db, outpoint)?;
        }
        turn.install(node, move |onchain| {
            if let Some(all) = onchain.given_up.get_mut(&number) {
                all.retain(|o, _| known.contains(o));
            }
        });
    }
    Ok(())
}

/// A new attempt: its row, its coins, its place.
pub(super) fn keep(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    attempt: Attempt,
) -> Result<(), Stop> {
    wallet::spend::spend(node, turn, &attempt.tx)?;
    store::add_attempt(turn.db, number, &attempt)?;
    for outpoint in &attempt.claims {
        store::remove_claim_start(turn.db, outpoint)?;
    }
    turn.install(node, move |onchain| {
        if let Some(all) = onchain.given_up.get_mut(&number) {
            all.retain(|o, _| !attempt.claims.contains(o));
        }
        onchain.attempts.entry(number).or_default().push(attempt);
    });
    Ok(())
}
