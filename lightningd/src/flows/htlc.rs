//! What the switch does across rooms: it decides with what the chain says of its HTLCs.

use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::HtlcEvent;
use crate::node::Node;
use crate::rooms::htlcs::{OnChain, decide};
use crate::rooms::onchain;
use crate::sys::fatal::Stop;
use primitives::{ChannelNumber, HtlcId};

/// Runs `run` with what the rooms of the chain say of HTLCs.
pub fn with_chain<T>(node: &Node, run: impl FnOnce(&OnChain<'_>) -> T) -> T {
    let received = |channel, id| onchain::watch::received_output(node, channel, id);
    let is_unresolved = |channel, id, incoming| onchain::is_unresolved(node, channel, id, incoming);
    run(&OnChain { received: &received, is_unresolved: &is_unresolved })
}

/// A received HTLC is to be decided on.
pub fn decide(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: ChannelNumber,
    id: HtlcId,
) -> Result<(), Stop> {
    with_chain(node, |chain| decide::decide(node, turn, channel, id, chain))
}

/// An event of the switch.
pub fn handle(node: &Node, turn: &mut Turn<'_>, event: HtlcEvent) -> Result<(), Stop> {
    with_chain(node, |chain| decide::handle(node, turn, event, chain))
}
