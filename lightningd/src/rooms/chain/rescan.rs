//! `--rescan` with a database: blocks that were taken in already, or lie before the first one, are looked at once more for
//! coins of the wallet's. After a restore a wallet knows less than the chain.
//!
//! Channels are not touched: what their states followed from stays. New blocks come first: between those that are read again
//! the tip is looked at as often as ever.

use crate::kernel::plugins::calls::call_backend;
use crate::kernel::turn::{Stop, Turn};
use crate::kernel::words::rooms::Purpose;
use crate::node::Node;
use crate::rooms::chain::{Chain, answers, poll, poll_later, rescan_height};
use crate::sys::form::RpcError;
use bitcoin::Block;
use primitives::BlockHeight;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// So long blocks are read again without a look at the tip.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// So often the backend may be unable to give a block. It has tried for a while each time.
const MAX_FAILURES: u32 = 5;

/// How far it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Rescan {
    /// Whether there is something to do is asked once we have caught up.
    #[default]
    ToBegin,
    /// This block is next, up to the tip. So often in a row the backend could not say what is in it.
    Next(BlockHeight, u32),
    /// It was done, or not asked for.
    Done,
}

/// Our tip is the backend's: is there time for an old block? False: nothing is left to read.
pub(super) fn go_on(node: &Node, turn: &mut Turn<'_>) -> Result<bool, Stop> {
    let next = match node.chain.rescan {
        Rescan::Done => return Ok(false),
        Rescan::ToBegin => begin(node),
        going @ Rescan::Next(..) => going,
    };
    let since = Instant::now();
    turn.install(move |node| node.chain.rescan = next);
    match next {
        Rescan::Next(height, _) if height > node.chain.height() => {
            log::info!("blocks up to {} were looked at once more", node.chain.height());
            turn.install(|node| node.chain.rescan = Rescan::Done);
            crate::rooms::wallet::rescan::take_found(node, turn)?;
            Ok(false)
        }
        Rescan::Next(height, _) => {
            ask(node, turn, height, since);
            Ok(true)
        }
        Rescan::ToBegin | Rescan::Done => Ok(false),
    }
}

fn begin(node: &Node) -> Rescan {
    // Whoever did not ask for it keeps a fast start.
    let asked = node.config.text("rescan").is_some() && !node.chain.began_here;
    let blocks = node.chain.backend.as_ref().map_or(0, |b| b.blocks);
    let (from, to) = (rescan_height(node, blocks), node.chain.height());
    if !asked || from > to {
        return Rescan::Done;
    }
    log::info!("looking for the wallet's coins in blocks {from} to {to} once more (--rescan)");
    Rescan::Next(from, 0)
}

/// A block left the chain: what was found may have been in it, or what spent something.
pub fn start_over(node: &Node, turn: &mut Turn<'_>) {
    if matches!(node.chain.rescan, Rescan::Next(..)) {
        turn.install(|node| {
            node.chain.rescan = Rescan::ToBegin;
            node.chain.found.clear();
        });
    }
}

fn ask(node: &Node, turn: &mut Turn<'_>, height: BlockHeight, since: Instant) {
    let purpose = Purpose::Again(height, since);
    call_backend(node, turn, "getrawblockbyheight", &json!({"height": height.0}), purpose);
}

/// The backend gave an old block.
pub(super) fn answered(
    node: &Node,
    turn: &mut Turn<'_>,
    (height, since): (BlockHeight, Instant),
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let read = result.map_err(|e| e.message).and_then(|a| answers::block(&a, height));
    let failed = match node.chain.rescan {
        Rescan::Next(next, failed) if next == height => failed,
        // It starts over.
        Rescan::Next(..) | Rescan::ToBegin | Rescan::Done => {
            poll_later(node, turn);
            return Ok(());
        }
    };
    let block = match read {
        Ok(Some(block)) => block,
        Ok(None) => return give_up(node, turn, height, "the Bitcoin backend does not have it"),
        Err(why) if failed >= MAX_FAILURES => return give_up(node, turn, height, &why),
        Err(why) => {
            log::debug!("block {height} will be asked for again: {why}");
            turn.install(move |node| node.chain.rescan = Rescan::Next(height, failed + 1));
            poll_later(node, turn);
            return Ok(());
        }
    };
    if is_another(&node.chain, height, &block) {
        // What left the chain is seen at the next look, and then this is read again.
        poll_later(node, turn);
        return Ok(());
    }
    crate::rooms::wallet::rescan::look_again(node, turn, height, &block)?;
    let next = BlockHeight(height.0.saturating_add(1));
    turn.install(move |node| node.chain.rescan = Rescan::Next(next, 0));
    if since.elapsed() < LOOK_AFTER && next <= node.chain.height() {
        ask(node, turn, next, since);
    } else {
        poll(node, turn);
    }
    Ok(())
}

/// A backend that was pruned has no old blocks, and everything else must go on.
fn give_up(node: &Node, turn: &mut Turn<'_>, height: BlockHeight, why: &str) -> Result<(), Stop> {
    log::warn!(
        "block {height} cannot be looked at once more: {why}. Coins of the wallet's that were not seen before stay unseen (--rescan)"
    );
    turn.install(|node| {
        node.chain.rescan = Rescan::Done;
        node.chain.found.clear();
    });
    poll_later(node, turn);
    Ok(())
}

/// Is this not the block that we have at this height, or none that comes before what we have?
fn is_another(chain: &Chain, height: BlockHeight, block: &Block) -> bool {
    let at = |h: u32| chain.headers.iter().find(|(known, _)| known.0 == h).map(|(_, hash)| *hash);
    let next_is_known = chain.headers.front().is_some_and(|(first, _)| *first <= height);
    at(height.0).map_or(next_is_known, |hash| hash != block.block_hash())
}
