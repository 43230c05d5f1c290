//! The events of a channel on chain, each to its hearer; the tip; and when fees are allocated.

use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::OnchainEvent;
use crate::rooms::htlcs;
use crate::rooms::onchain::cases::{begin, bury, drop_all, forget, is_over};
use crate::rooms::onchain::report::has_our_htlcs;
use crate::rooms::onchain::watch::ask_mempool;
use crate::rooms::onchain::{
    Scope, allocate_fees, anchor, attempt_of, check_expiring_later, order, send,
};
use crate::sys::fatal::Stop;
use primitives::*;
use std::time::Instant;
use wire::onchaind::*;

/// The room's events.
pub fn handle(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    event: OnchainEvent,
) -> Result<(), Stop> {
    match event {
        OnchainEvent::Begin => begin(node, turn, number),
        // What is under way keeps its coins.
        OnchainEvent::Left(txid) if attempt_of(node, txid).is_some() => Ok(()),
        OnchainEvent::Left(txid) => crate::rooms::wallet::spend::unspend(node, turn, txid),
        OnchainEvent::GiveUp => drop_all(node, turn, number),
        OnchainEvent::Bury => bury(node, turn, number),
        OnchainEvent::CommitmentSent(tx) => anchor::commitment_published(node, turn, number, &tx),
        OnchainEvent::Decided(id, preimage) => {
            // Its onchaind claims with it.
            order(node, turn, number, &OnchainPreimage { id, preimage });
            Ok(())
        }
        OnchainEvent::ChannelForgotten => forget(node, turn, number),
    }
}

/// Our tip is the backend's: what was not done while we were behind is done now, and does not wait
/// for the next block. Deadlines of live channels do: their peers have had no chance to come back.
pub fn caught_up(node: &Scope, turn: &mut Turn<'_>) {
    check_expiring_later(turn, Instant::now());
    for (number, case) in &node.onchain.cases {
        let known = case.resolution.as_ref().is_some_and(|r| has_our_htlcs(&r.close));
        if let Some(channel) = node.channels.all.get(number).filter(|_| known) {
            htlcs::decide::decide_received(turn, channel);
        }
    }
    allocate_fees(turn);
}

/// A block was taken in by every room.
pub fn new_tip(node: &Scope, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    for (number, case) in &node.onchain.cases {
        if is_over(case, height) {
            // After this event: what the switch failed back with the same block has ended.
            turn.also(Event::Onchain(*number, OnchainEvent::Bury));
        }
    }
    if node.chain.caught_up {
        allocate_fees(turn);
        turn.install(node, |onchain| onchain.shown.clear());
        ask_mempool(node, turn);
    }
    Ok(())
}

/// Looks what is to be sent, and what pays for it. While our tip is behind the backend's nothing
/// is: what a block would show is not known yet.
pub fn fees_due(node: &Scope, turn: &mut Turn<'_>) -> Result<(), Stop> {
    if !node.onchain.fees_are_due || !node.chain.caught_up {
        return Ok(());
    }
    turn.install(node, |onchain| onchain.fees_are_due = false);
    send::advance(node, turn)
}
