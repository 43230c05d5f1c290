//! How long a close may take: what a local `close` asked for, or the limit of a close that the peer
//! began.

use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::rooms::channels::change::update;
use crate::rooms::channels::{Channel, Scope, store, strangers};
use crate::sys::fatal::Stop;
use primitives::{Side, *};
use std::time::{Duration, Instant};

/// BOLT 2, closing_signed: a close that the peer began and does not bring to its end fails the
/// channel. Its time begins once no HTLC is pending: those have deadlines of their own.
pub fn limit_peer_close(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) -> Result<(), Stop> {
    let stalls = channel.state.is_open()
        && is_of_peer(channel)
        && channel.shutdown.remote.is_some()
        && channel.live.htlcs.0.is_empty();
    if !stalls || channel.close_by.is_some() {
        return Ok(());
    }
    let by = Some(crate::sys::json::now() + seconds(node));
    store::set_close_by(turn.db, channel.number, by)?;
    update(turn, channel.number, move |c| c.close_by = by);
    close_in_time(turn, channel.number, by);
    Ok(())
}

/// Is the channel's limit that of a close that the peer began, and none that a local `close` asked
/// for?
pub fn is_of_peer(channel: &Channel) -> bool {
    channel.closer == Some(Side::Remote) && !channel.close_asked
}

/// A local `close` with this `unilateraltimeout`, 0 for a wait without limit. The last one decides,
/// also after a restart. One that says nothing leaves the limit of a close that the peer began as
/// it is.
pub fn asked(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    seconds: Option<u64>,
) -> Result<(), Stop> {
    if seconds.is_none() && is_of_peer(channel) && !strangers::puts_off_close(channel) {
        return limit_peer_close(node, turn, channel);
    }
    let seconds = seconds.unwrap_or(DEFAULT_UNILATERAL_SECONDS);
    let by = (seconds > 0).then(|| crate::sys::json::now() + seconds.min(366 * 86400));
    store::set_close_by(turn.db, channel.number, by)?;
    store::set_close_asked(turn.db, channel.number)?;
    update(turn, channel.number, move |c| {
        c.close_by = by;
        c.close_asked = true;
    });
    close_in_time(turn, channel.number, by);
    Ok(())
}

fn seconds(node: &Scope) -> u64 {
    node.config.options.dev_peer_close_seconds.map_or(DEFAULT_UNILATERAL_SECONDS, u64::from)
}

/// After a start. The peer had no chance to agree while we were away: it gets an hour at least.
pub fn resume_limit(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) {
    let grace = crate::sys::json::now() + seconds(node).min(3600);
    let by = channel.close_by.map(|by| if is_of_peer(channel) { by.max(grace) } else { by });
    close_in_time(turn, channel.number, by);
}

/// The time of a close is over. If HTLCs are pending in one that the peer began, clears its limit,
/// which begins anew after them, and returns `true`.
pub fn begins_after_htlcs(turn: &mut Turn<'_>, channel: &Channel) -> Result<bool, Stop> {
    if !is_of_peer(channel) || channel.live.htlcs.0.is_empty() {
        return Ok(false);
    }
    store::set_close_by(turn.db, channel.number, None)?;
    update(turn, channel.number, |c| c.close_by = None);
    Ok(true)
}

/// CLN's: two days, then alone.
const DEFAULT_UNILATERAL_SECONDS: u64 = 172_800;

/// Looks again when the peer has had all its time.
pub(super) fn close_in_time(turn: &mut Turn<'_>, number: ChannelNumber, by: Option<u64>) {
    if let Some(by) = by {
        let left = Duration::from_secs(by.saturating_sub(crate::sys::json::now()));
        let event = Event::Channel(number, crate::kernel::words::rooms::ChannelEvent::CloseTimeout);
        turn.at(Instant::now() + left, event);
    }
}

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
