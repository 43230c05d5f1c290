//! The headers of our chain: rows, and the last of them in memory.

use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::rooms::chain::{KEPT_HEADERS, store};
use crate::sys::fatal::Stop;
use bitcoin::Block;
use primitives::BlockHeight;

/// A block is our tip from now on: its row at once, its value at the end of the event.
pub fn add(
    node: &Node,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let (hash, time) = (block.block_hash(), block.header.time);
    store::add_block(turn.db, height, hash, &block.header)?;
    let _ = node;
    turn.install(move |node| {
        node.chain.headers.push_back((height, hash));
        node.chain.times.insert(height, time);
        while node.chain.headers.len() > KEPT_HEADERS {
            if let Some((gone, _)) = node.chain.headers.pop_front() {
                node.chain.times.remove(&gone);
            }
        }
    });
    Ok(())
}

/// The row of the block of this height goes.
pub fn forget(turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    Ok(store::remove_block(turn.db, height)?)
}

/// The block before our tip is our tip.
pub fn remove_tip(node: &Node, turn: &mut Turn<'_>) {
    let _ = node;
    turn.install(|node| {
        if let Some((gone, _)) = node.chain.headers.pop_back() {
            node.chain.times.remove(&gone);
        }
    });
}
