//! A block joins our chain, or leaves it: each room hears of it once, in this order, in one event.

use crate::flows::broadcast::rebroadcast;
use crate::flows::htlc::{end_held, with_chain};
use crate::kernel::turn::Turn;
use crate::kernel::waiting;
use crate::kernel::words::event::Event;
use crate::node::Node;
use crate::rooms::chain::headers;
use crate::rooms::{channels, htlcs, onchain, wallet};
use crate::sys::fatal::Stop;
use bitcoin::Block;
use primitives::BlockHeight;

/// A block joins our chain.
pub fn joins(
    node: &Node,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    headers::add(node, turn, height, block)?;
    wallet::blocks::joined(node, turn, height, block)?;
    channels::watch::joined(node, turn, height, block)?;
    // Before what follows from the end of a channel.
    turn.also(Event::NewTip(height));
    onchain::watch::joined(node, turn, height, block)?;
    if node.chain.caught_up {
        rebroadcast(node, turn)?;
    }
    waiting::height_is(node, turn, height);
    log::debug!("block {height}: {}", block.block_hash());
    Ok(())
}

/// Every room has taken the block in: it is our tip.
pub fn is_tip(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    for (number, id) in channels::watch::new_tip(node, turn, height)? {
        htlcs::resolve::failed_on_chain(node, turn, number, id)?;
    }
    end_held(node, turn);
    with_chain(node, |chain| htlcs::decide::new_tip(node, turn, chain))?;
    onchain::events::new_tip(node, turn, height)
}

/// Our tip leaves our chain.
pub fn leaves(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    forget(node, turn, height)?;
    wallet::rescan::start_over(node, turn);
    headers::remove_tip(node, turn);
    Ok(())
}

/// What was in the block of this height is in none.
pub fn forget(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    headers::forget(turn, height)?;
    wallet::blocks::left(node, turn, height)?;
    let is_case = |number| node.onchain.cases.contains_key(&number);
    channels::watch::left(node, turn, height, is_case)?;
    onchain::watch::left(node, turn, height)
}
