//! One block on, or one block off: everything it means, in one turn.

use crate::kernel::turn::{Stop, Turn};
use crate::node::Node;
use crate::rooms::chain::{KEPT_HEADERS, store};
use bitcoin::Block;
use primitives::BlockHeight;

/// A block joins our chain.
pub fn connect(
    node: &Node,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let hash = block.block_hash();
    store::add_block(turn.db, height, hash, &block.header)?;
    let time = block.header.time;
    crate::rooms::wallet::connect(node, turn, height, block)?;
    crate::rooms::channels::watch::connect(node, turn, height, block)?;
    crate::rooms::onchain::watch::connect(node, turn, height, block)?;
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
    crate::kernel::waits::height_is(node, turn, height);
    log::debug!("block {height}: {hash}");
    Ok(())
}

/// Our tip leaves it.
pub fn disconnect(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    leave(node, turn, height)?;
    crate::rooms::chain::rescan::start_over(node, turn);
    turn.install(|node| {
        if let Some((gone, _)) = node.chain.headers.pop_back() {
            node.chain.times.remove(&gone);
        }
    });
    Ok(())
}

/// What was in the block of this height is in none.
pub fn leave(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    store::remove_block(turn.db, height)?;
    crate::rooms::wallet::disconnect(node, turn, height)?;
    crate::rooms::channels::watch::disconnect(node, turn, height)?;
    crate::rooms::onchain::watch::disconnect(node, turn, height)
}
