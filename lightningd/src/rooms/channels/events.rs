//! The events of one channel, each to its hearer; and what a crash left half said.

use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::ChannelEvent;
use crate::rooms::channels::state::Cause;
use crate::rooms::channels::{Scope, closing, fail, live, our_update, strangers, watch};
use crate::sys::fatal::Stop;
use primitives::*;

/// The room's own events.
pub fn handle(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    event: ChannelEvent,
) -> Result<(), Stop> {
    match event {
        ChannelEvent::TellUpdate => match node.channels.all.get(&number) {
            Some(channel) => our_update::tell_peer(node, turn, channel),
            None => Ok(()),
        },
        ChannelEvent::SignFunding => {
            crate::rooms::channels::opening::funding::sign_funding(node, turn, number)
        }
        ChannelEvent::CloseTimeout => closing::timeout(node, turn, number),
        ChannelEvent::Broadcast => fail::broadcast_commitment(node, turn, number),
        ChannelEvent::FundingSeen => strangers::funding_seen(node, turn, number),
        ChannelEvent::ChildGone => live::after_gone(node, turn, number),
    }
}

/// After the load, before peers: what a crash may have left half said of channels.
pub fn resume(node: &Scope, turn: &mut Turn<'_>) -> Result<(), Stop> {
    for channel in node.channels.all.values() {
        let live = &channel.live;
        let busy = !live.htlcs.0.is_empty() || live.commitment != live.revoked;
        if channel.closing_begun && channel.state.is_open() && busy {
            // An older version took HTLCs after a closing was signed. No commitment changes any
            // more: they end on chain.
            let why = "HTLCs were added after a closing transaction was signed";
            fail::fail_channel(node, turn, channel, Cause::Protocol, why)?;
        }
        watch::resume(node, turn, channel)?;
    }
    Ok(())
}
