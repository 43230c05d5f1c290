//! Attempts and their rows: kept, given up, answered by bitcoind.

use super::attempt::{Attempt, GivenUp, Kind, TRIES};
use super::{child, store};
use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::rooms::{chain, wallet};
use crate::sys::fatal::Stop;
use bitcoin::Txid;
use primitives::*;
use std::collections::BTreeSet;
use wire::onchaind::Claim;

/// This one is given up: what it spent of the wallet's is free again, unless it is in a block.
pub(super) fn drop_attempt(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    attempt: &Attempt,
) -> Result<(), Stop> {
    let txid = attempt.txid;
    chain::store::give_up(turn.db, txid)?;
    wallet::spend::unspend(node, turn, txid)?;
    store::remove_attempt(turn.db, txid)?;
    let is_bump = attempt.kind == Kind::AnchorBump;
    turn.install(move |node| {
        if let Some(all) = node.onchain.attempts.get_mut(&number) {
            all.retain(|a| a.txid != txid);
        }
        if is_bump {
            // They spend its UTXOs.
            node.onchain.alternative_bumps.remove(&number);
        }
    });
    Ok(())
}

/// This one is given up, and what it was to take is not: that keeps its age until it is claimed anew. Where it `rests`, another
/// one has its coins for a block at least.
pub(super) fn give_up(
    node: &Node,
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
        turn.install(move |node| {
            if node.onchain.cases.contains_key(&number) {
                let all = node.onchain.given_up.entry(number).or_default();
                all.extend(claims.iter().map(|o| (*o, given_up)));
            }
        });
    }
    Ok(())
}

/// What can be claimed no more is not remembered.
pub(super) fn forget_others(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    claims: &[Claim],
) -> Result<(), Stop> {
    if let Some(given_up) = node.onchain.given_up.get(&number) {
        let known: BTreeSet<OutPoint> = claims.iter().map(|c| c.outpoint).collect();
        for outpoint in given_up.keys().filter(|o| !known.contains(o)) {
            store::remove_claim_start(turn.db, outpoint)?;
        }
        turn.install(move |node| {
            if let Some(all) = node.onchain.given_up.get_mut(&number) {
                all.retain(|o, _| known.contains(o));
            }
        });
    }
    Ok(())
}

/// A new attempt: its row, its coins, its place.
pub(super) fn keep(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    attempt: Attempt,
) -> Result<(), Stop> {
    wallet::spend::spend(node, turn, &attempt.tx)?;
    store::add_attempt(turn.db, number, &attempt)?;
    for outpoint in &attempt.claims {
        store::remove_claim_start(turn.db, outpoint)?;
    }
    turn.install(move |node| {
        if let Some(all) = node.onchain.given_up.get_mut(&number) {
            all.retain(|o, _| !attempt.claims.contains(o));
        }
        node.onchain.attempts.entry(number).or_default().push(attempt);
    });
    Ok(())
}

/// bitcoind accepted an attempt, or rejected it.
pub fn answered(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    txid: Txid,
    refused: Option<&str>,
) -> Result<(), Stop> {
    let known = node.onchain.attempts.get(&number).and_then(|a| a.iter().find(|a| a.txid == txid));
    let Some(attempt) = known else {
        return child::alternative_answered(node, turn, number, txid, refused.is_some());
    };
    if let Some(why) = refused {
        let what = match attempt.kind {
            Kind::Claim => "claim",
            Kind::AnchorBump => "anchor bump",
        };
        log::info!("bitcoind rejected {what} {txid} of channel {number}: {why}");
    }
    let (now, tip) = (refused.is_some(), node.chain.height());
    // Also where its claim was withdrawn meanwhile and said again.
    let rejections = node.onchain.rejections.get(&number);
    let alone = match attempt.claims.as_slice() {
        [one] if attempt.kind == Kind::Claim => Some(*one),
        _ => None,
    };
    let earlier = rejections.zip(alone).and_then(|(all, one)| all.get(&one).copied());
    let is_recent = |(_, last): &(BlockHeight, BlockHeight)| (tip - *last).0 <= 2 * TRIES;
    let earlier = earlier.filter(is_recent).map(|(since, _)| since);
    let since = now.then(|| attempt.refused_since.or(earlier).unwrap_or(tip));
    let accepted = (!now).then_some(tip);
    let claims = attempt.claims.clone();
    turn.install(move |node| {
        match (alone, since) {
            (Some(one), Some(since)) if node.onchain.cases.contains_key(&number) => {
                let rejections = node.onchain.rejections.entry(number).or_default();
                rejections.insert(one, (since, tip));
            }
            (_, None) => {
                if let Some(rejections) = node.onchain.rejections.get_mut(&number) {
                    rejections.retain(|outpoint, _| !claims.contains(outpoint));
                }
            }
            (_, Some(_)) => {}
        }
        for a in node.onchain.attempts.get_mut(&number).into_iter().flatten() {
            if a.txid == txid {
                (a.refused, a.refused_since, a.accepted) = (now, since, accepted);
            }
        }
    });
    if now && !attempt.refused {
        super::allocate_fees(turn);
    }
    Ok(())
}
