//! bitcoind accepted or rejected a claim or an anchor bump.

use crate::kernel::turn::Turn;
use crate::rooms::onchain::attempt::{Kind, TRIES};
use crate::rooms::onchain::{Scope, child};
use crate::sys::fatal::Stop;
use bitcoin::Txid;
use primitives::*;

/// bitcoind accepted an attempt, or rejected it.
pub fn answered(
    node: &Scope,
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
    turn.install(node, move |onchain| {
        match (alone, since) {
            (Some(one), Some(since)) if onchain.cases.contains_key(&number) => {
                let rejections = onchain.rejections.entry(number).or_default();
                rejections.insert(one, (since, tip));
            }
            (_, None) => {
                if let Some(rejections) = onchain.rejections.get_mut(&number) {
                    rejections.retain(|outpoint, _| !claims.contains(outpoint));
                }
            }
            (_, Some(_)) => {}
        }
        for a in onchain.attempts.get_mut(&number).into_iter().flatten() {
            if a.txid == txid {
                (a.refused, a.refused_since, a.accepted) = (now, since, accepted);
            }
        }
    });
    if now && !attempt.refused {
        crate::rooms::onchain::allocate_fees(turn);
    }
    Ok(())
}
