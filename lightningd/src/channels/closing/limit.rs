//! How long a close may take that the peer began.

use super::{DEFAULT_UNILATERAL_SECONDS, close_in_time};
use crate::channels::{Channel, store, update};
use crate::node::Node;
use crate::turn::{Stop, Turn};
use primitives::Side;

/// BOLT 2, closing_signed: a close that the peer began and does not bring to its end fails the channel. Its time begins once no
/// HTLC is pending: those have deadlines of their own.
pub fn limit_peer_close(node: &Node, turn: &mut Turn<'_>, channel: &Channel) -> Result<(), Stop> {
    let stalls = channel.state.is_open()
        && channel.closer == Some(Side::Remote)
        && channel.shutdown.remote.is_some()
        && channel.live.htlcs.0.is_empty();
    if !stalls || channel.close_by.is_some() {
        return Ok(());
    }
    let default = DEFAULT_UNILATERAL_SECONDS as u32;
    let seconds = if node.config.developer() {
        node.config.u32_or("dev-peer-close-seconds", default)
    } else {
        default
    };
    let by = Some(crate::json::now() + u64::from(seconds));
    store::set_close_by(turn.db, channel.number, by)?;
    update(turn, channel.number, move |c| c.close_by = by);
    close_in_time(turn, channel.number, by);
    Ok(())
}
