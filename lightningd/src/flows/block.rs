//! One block on, or one block off: everything it means, in one turn.

use crate::kernel::turn::{Stop, Turn};
use crate::node::Node;
use crate::rooms::chain::{KEPT_HEADERS, store};
use bitcoin::Block;
use primitives::BlockHeight;

/// A block joins our chain.
pub fn joins(
    node: &Node,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let hash = block.block_hash();
    store::add_block(turn.db, height, hash, &block.header)?;
    let time = block.header.time;
    crate::rooms::wallet::blocks::joined(node, turn, height, block)?;
    crate::rooms::channels::watch::joined(node, turn, height, block)?;
    crate::rooms::onchain::watch::joined(node, turn, height, block)?;
    turn.install(move |node| {
        node.chain.headers.push_back((height, hash));
        node.chain.times.insert(height, time);
        while node.chain.headers.len() > KEPT_HEADERS {
            if let Some((gone, _)) = node.chain.headers.pop_front() {
                node.chain.times.remove(&gone);
            }
        }
    });
    if node.chain.caught_up {
        crate::rooms::chain::broadcast::rebroadcast(node, turn)?;
    }
    crate::kernel::waiting::height_is(node, turn, height);
    log::debug!("block {height}: {hash}");
    Ok(())
}

/// Our tip leaves it.
pub fn leaves(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    forget(node, turn, height)?;
    crate::rooms::chain::rescan::start_over(node, turn);
    turn.install(|node| {
        if let Some((gone, _)) = node.chain.headers.pop_back() {
            node.chain.times.remove(&gone);
        }
    });
    Ok(())
}

/// What was in the block of this height is in none.
pub fn forget(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    store::remove_block(turn.db, height)?;
    crate::rooms::wallet::blocks::left(node, turn, height)?;
    crate::rooms::channels::watch::left(node, turn, height)?;
    crate::rooms::onchain::watch::left(node, turn, height)
}
