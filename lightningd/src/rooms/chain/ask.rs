//! What is asked of the backend, and when. One question is under way at a time.

use crate::kernel::plugins::backend::Question;
use crate::kernel::plugins::calls::call_backend;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::{ChainEvent, Purpose};
use crate::rooms::chain::{Backend, Chain, Estimates, Scope, store};
use crate::sys::fatal::Stop;
use bitcoin::BlockHash;
use primitives::BlockHeight;
use std::time::{Duration, Instant};

/// So long estimates are good enough. Of note only where a developer's node polls more often than
/// that.
const FEES_STAY: Duration = Duration::from_millis(900);

pub fn poll(node: &Scope, turn: &mut Turn<'_>) {
    let question = Question::ChainInfo { last_height: node.chain.height() };
    call_backend(node, turn, &question, Purpose::ChainInfo);
}

pub fn poll_later(node: &Scope, turn: &mut Turn<'_>) {
    let wait = match node.config.options.dev_bitcoind_poll {
        0 => Duration::from_millis(50),
        seconds => Duration::from_secs(seconds.into()),
    };
    turn.at(Instant::now() + wait, Event::Chain(ChainEvent::Poll));
}

/// Each look at the estimates is work for bitcoind, and they do not change twenty times a second.
pub fn ask_fees(node: &Scope, turn: &mut Turn<'_>) {
    let now = Instant::now();
    if node.chain.fees_asked.is_none_or(|at| now.duration_since(at) >= FEES_STAY) {
        turn.install(node, move |chain| chain.fees_asked = Some(now));
        call_backend(node, turn, &Question::Fees, Purpose::Fees);
    }
}

/// Our block at this height.
pub fn our_block(node: &Scope, turn: &Turn<'_>, height: u32) -> Result<Option<BlockHash>, Stop> {
    if BlockHeight(height) > node.chain.height() {
        return Ok(None);
    }
    let known = node.chain.headers.iter().find(|(h, _)| h.0 == height);
    Ok(known.map_or_else(|| store::hash_at(turn.db, height), |(_, hash)| Ok(Some(*hash)))?)
}

/// Our tip, if the backend's chain does not have it: that ends in `best`, where we have `ours`. A
/// backend that is merely behind has not left it.
pub fn outdated(
    chain: &Chain,
    ours: Option<BlockHash>,
    best: BlockHash,
) -> Option<(BlockHeight, BlockHash)> {
    (ours? != best).then(|| chain.headers.back().copied())?
}

pub fn ask_block(node: &Scope, turn: &mut Turn<'_>, height: BlockHeight) {
    call_backend(node, turn, &Question::Block(height), Purpose::Block(height));
}

/// The block after our tip, or for a new node one that lies `rescan` before the backend's tip.
pub fn first_height(
    node: &Scope,
    turn: &mut Turn<'_>,
    backend: &Backend,
) -> Result<BlockHeight, Stop> {
    if let Some((tip, _)) = node.chain.headers.back() {
        if tip.0 > backend.blocks && node.chain.backend.is_none() {
            log::warn!(
                "our chain has {} blocks, bitcoind's {}: waiting for it to catch up",
                tip.0,
                backend.blocks
            );
        }
        return Ok(BlockHeight(tip.0.saturating_add(1)));
    }
    if let Some(height) = store::read_from(turn.db)? {
        return Ok(height);
    }
    turn.install(node, |chain| chain.began_here = true);
    Ok(rescan_height(node, backend.blocks))
}

/// How far `rescan` looks back from a tip.
pub fn rescan_height(node: &Scope, blocks: u32) -> BlockHeight {
    match node.config.options.rescan.value {
        back @ 0.. => BlockHeight(blocks.saturating_sub(back.unsigned_abs())),
        height => BlockHeight(height.unsigned_abs().min(blocks)),
    }
}

/// The node serves from now on.
pub fn serving(node: &Scope, turn: &mut Turn<'_>) {
    turn.install(node, |chain| chain.serving = true);
}

/// What the backend said of itself last.
pub fn backend_is(node: &Scope, turn: &mut Turn<'_>, backend: Backend) {
    turn.install(node, move |chain| chain.backend = Some(backend));
}

/// The backend has no block of this height, whatever it said before. True if it had said so.
pub fn backend_ends_below(node: &Scope, turn: &mut Turn<'_>, height: BlockHeight) -> bool {
    let said_more = node.chain.backend.as_ref().is_some_and(|b| b.blocks >= height.0);
    if said_more {
        turn.install(node, move |chain| {
            if let Some(backend) = &mut chain.backend {
                backend.blocks = height.0.saturating_sub(1);
            }
        });
    }
    said_more
}

/// Is our tip the backend's?
pub fn set_caught_up(node: &Scope, turn: &mut Turn<'_>, caught_up: bool) {
    turn.install(node, move |chain| chain.caught_up = caught_up);
}

/// Fee estimates from now on. False if they are those that there were.
pub fn set_estimates(node: &Scope, turn: &mut Turn<'_>, estimates: Estimates) -> bool {
    let changed = node.chain.fees.as_ref() != Some(&estimates);
    if changed {
        turn.install(node, move |chain| chain.fees = Some(estimates));
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;

    #[test]
    fn tip_is_outdated_if_backend_ends_in_another_known_block() {
        let hash = |n: u8| BlockHash::from_byte_array([n; 32]);
        let headers = (5..=7).map(|n| (BlockHeight(n.into()), hash(n))).collect();
        let chain = Chain { headers, ..Chain::default() };
        let tip = Some((BlockHeight(7), hash(7)));
        for (ours, best, says) in [
            (Some(hash(7)), hash(7), None),
            (Some(hash(7)), hash(99), tip),
            (Some(hash(6)), hash(99), tip),
            // Behind us, and ahead of us or before all that we know.
            (Some(hash(6)), hash(6), None),
            (None, hash(99), None),
        ] {
            assert_eq!(outdated(&chain, ours, best), says, "{ours:?} {best}");
        }
        assert_eq!(outdated(&Chain::default(), None, hash(7)), None);
    }
}
