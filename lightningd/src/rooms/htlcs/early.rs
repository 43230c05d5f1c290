//! Forwards that are failed back before their outgoing HTLC is resolved.
//!
//! An incoming HTLC that is still there when it expires costs its channel: the peer force-closes.
//! So a few blocks before, its forward is failed back if less could be lost by that than the close
//! costs, whether or not the outgoing HTLC has an output on chain. If the outgoing HTLC's preimage
//! is shown afterwards, its amount is lost. What may be lost, and was, is a row, and counts against
//! later ones of the same incoming channel: together they stay below the cost of one close.
//!
//! A forward that is worth more waits: its incoming HTLC can be claimed with the preimage even
//! after the peer's close.

use super::store;
use crate::kernel::turn::Turn;
use crate::rooms::chain::Backend;
use crate::rooms::chain::feerates::Use;
use crate::rooms::channels::Channel;
use crate::rooms::htlcs::incoming::incoming;
use crate::rooms::htlcs::resolve::end;
use crate::rooms::htlcs::{Early, Forward, OnChain, Removed, Scope, Via};
use crate::sys::fatal::Stop;
use channel::FAIL_BACK_BLOCKS;
use primitives::*;
use std::collections::BTreeMap;
use wire::daemon::LogLevel;

/// Weight units that a force-close for one HTLC puts on chain: the commitment with that output
/// (1124 + 172, BOLT 3, "Fee Calculation"), a child on its anchor (600), the HTLC transaction
/// (706), the spends of its output and of to_local (600), and another channel's funding (620). The
/// channel's other HTLCs are left out: its peer chooses their number.
const CLOSE_WEIGHT: u64 = 3_800;

/// Fails back each forward whose incoming HTLC is about to expire, as far as that is cheaper than a
/// close.
pub(super) fn check(node: &Scope, turn: &mut Turn<'_>, chain: &OnChain<'_>) -> Result<(), Stop> {
    let height = node.chain.height().0;
    let is_behind = |backend: &Backend| backend.syncing || backend.blocks > height;
    let is_behind = node.chain.backend.as_ref().is_some_and(is_behind);
    if !node.chain.caught_up || is_behind || node.stale_tip().is_some() {
        // The preimage may be in a block that was not read yet, or that bitcoind has yet to fetch.
        log::debug!("nothing is failed back early at block {height}: newer blocks are to come");
        return Ok(());
    }
    for (number, mut forwards) in overdue(node, chain) {
        let Some(channel) = node.channels.all.get(&number) else { continue };
        forwards.sort_by_key(|(forward, _)| (forward.out_amount, forward.index));
        let (cost, mut at_stake) = (close_cost(node), at_stake(node, number));
        for (forward, expiry) in forwards {
            let sum = at_stake.saturating_add(forward.out_amount);
            if sum < cost {
                at_stake = sum;
                fail_back(node, turn, channel, (forward, expiry), cost)?;
            } else {
                let text = format!(
                    "HTLC {} (cltv {expiry}) may cost this channel: forward {} of {} is not resolved, and failing it back would put {sum} at \
                     stake, a close costs {cost}",
                    forward.in_id, forward.index, forward.out_amount
                );
                channel.log(LogLevel::Unusual, &text);
            }
        }
    }
    Ok(())
}

/// Forwards whose outgoing HTLC is not resolved, and their incoming HTLC's expiry, which is near.
/// By incoming channel.
fn overdue<'a>(
    node: &'a Scope,
    chain: &OnChain<'_>,
) -> BTreeMap<ChannelNumber, Vec<(&'a Forward, BlockHeight)>> {
    let tip = node.chain.height();
    let near = tip + CltvDelta(FAIL_BACK_BLOCKS);
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for forward in node.htlcs.forwards.values() {
        let Via::Bound(outgoing, id) = forward.via else { continue };
        let Some(received) = incoming(node, forward) else { continue };
        let expiry = received.live.htlc.expiry;
        // A channel that is closing already loses nothing more by its HTLCs' expiries; and with a
        // short `cltv-delta` the outgoing HTLC may be as good as new.
        if expiry <= near
            && forward.out_expiry <= tip
            && received.channel.state.is_open()
            && (chain.is_unresolved)(outgoing, id, expiry)
        {
            found.entry(forward.incoming).or_default().push((forward, expiry));
        }
    }
    found
}

/// What a force-close of any channel costs at today's feerate.
fn close_cost(node: &Scope) -> Msat {
    let floor = node.feerate_floor();
    let rate = node.feerate(Use::UnilateralClose).map_or(floor, |rate| rate.max(floor));
    rate.fee(CLOSE_WEIGHT).msat()
}

/// What may be lost, or was, by earlier decisions in favour of this incoming channel.
fn at_stake(node: &Scope, incoming: ChannelNumber) -> Msat {
    let counts = |e: &&Early| {
        e.incoming == incoming && (e.lost || node.channels.all.contains_key(&e.outgoing))
    };
    let amounts = node.htlcs.early.values().filter(counts).map(|e| e.amount);
    amounts.fold(Msat::ZERO, Msat::saturating_add)
}

fn fail_back(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    (forward, expiry): (&Forward, BlockHeight),
    cost: Msat,
) -> Result<(), Stop> {
    let Via::Bound(outgoing, id) = forward.via else { return Ok(()) };
    let text = format!(
        "failing HTLC {} (cltv {expiry}) back: HTLC {id} of channel {outgoing} that it pays for ({}) is not resolved, and a close costs {cost}",
        forward.in_id, forward.out_amount
    );
    channel.log(LogLevel::Unusual, &text);
    let (index, incoming, amount) = (forward.index, forward.incoming, forward.out_amount);
    let early = Early { incoming, outgoing, amount, lost: false };
    store::add_early(turn.db, index, &early)?;
    turn.install(node, move |htlcs| _ = htlcs.early.insert(index, early));
    end(node, turn, forward, Removed::OnChain)
}
