//! The headers of our chain: rows, and the last of them in memory.

use crate::kernel::turn::Turn;
use crate::rooms::chain::{KEPT_HEADERS, Scope, store};
use crate::sys::fatal::Stop;
use bitcoin::Block;
use primitives::BlockHeight;

/// A block is our tip from now on: its row at once, its value at the end of the event.
pub fn add(
    node: &Scope,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let (hash, time) = (block.block_hash(), block.header.time);
    store::add_block(turn.db, height, hash, &block.header)?;
    turn.install(node, move |chain| {
        chain.headers.push_back((height, hash));
        chain.times.insert(height, time);
        while chain.headers.len() > KEPT_HEADERS {
            if let Some((gone, _)) = chain.headers.pop_front() {
                chain.times.remove(&gone);
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
pub fn remove_tip(node: &Scope, turn: &mut Turn<'_>) {
    turn.install(node, |chain| {
        if let Some((gone, _)) = chain.headers.pop_back() {
            chain.times.remove(&gone);
        }
    });
}

/// The header at `height`, the lowest in memory, left our chain: older ones are read from the rows.
/// False if there are none, so that nobody knows our height any more.
pub fn read_older(node: &Scope, turn: &mut Turn<'_>, height: BlockHeight) -> Result<bool, Stop> {
    let older = store::headers_below(turn.db, height)?;
    let any = !older.is_empty();
    turn.install(node, move |chain| chain.prepend(older));
    Ok(any)
}
