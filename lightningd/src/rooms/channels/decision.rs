//! How a received HTLC ends: stored once, then told to whoever has its channel.

use super::phase::takes;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::OnchainEvent;
use crate::rooms::channels::change::update;
use crate::rooms::channels::{Channel, Scope, store};
use crate::sys::fatal::Stop;
use channel::phase::Input;
use primitives::*;
use wire::channel_data::{LiveHtlc, Removal};
use wire::daemon::LogLevel;

/// Stores how a received HTLC ends, whatever state its channel is in, and tells its channeld or
/// what resolves it on chain.
pub fn decide(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    id: HtlcId,
    removal: Removal,
) -> Result<(), Stop> {
    store::set_decision(turn.db, number, id, &removal)?;
    let Some(channel) = node.channels.all.get(&number) else {
        log::error!("HTLC {id} of channel {number} was decided after the channel was buried");
        return Ok(());
    };
    takes(channel, Input::SettleHtlc)?;
    if channel.state.is_open() {
        crate::rooms::channels::seed::order_removal(channel, turn, id, &removal);
    } else {
        onchain_decision(turn, channel, id, &removal);
    }
    update(turn, number, move |c| drop(c.decided.insert(id, removal)));
    Ok(())
}

/// BOLT 4, "Onion Decryption": is the onion of this received HTLC one that another HTLC had? Its
/// HMAC stays with the row of the HTLC that had it first, beyond its end and over restarts, until
/// it has expired for good. The same HTLC said again after a reconnect is no other: it has its id.
pub fn is_replayed(turn: &Turn<'_>, number: ChannelNumber, live: &LiveHtlc) -> Result<bool, Stop> {
    let Some(hmac) = live.onion.0.last_chunk::<32>() else { return Ok(false) };
    Ok(store::onions::is_replayed(turn.db, number, live.htlc.id, hmac)?)
}

/// A decision on an HTLC whose channel is on its way to the chain, or there. It is a row, and is in
/// `Channel::decided` once this turn is through: a preimage that comes now can still be used.
fn onchain_decision(turn: &mut Turn<'_>, channel: &Channel, id: HtlcId, removal: &Removal) {
    let what = match removal {
        Removal::Fulfilled { preimage } => {
            turn.also(Event::Onchain(channel.number, OnchainEvent::Decided(id, *preimage)));
            "can be claimed with its preimage"
        }
        Removal::Failed { .. } | Removal::Malformed { .. } => "is left to the peer",
    };
    channel
        .log(LogLevel::Info, &format!("HTLC {id} {what}: the channel is on its way to the chain"));
}
