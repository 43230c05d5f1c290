//! The Bitcoin backend answers: what each answer means to the rooms, and which question follows.

use crate::flows;
use crate::flows::broadcast::rebroadcast;
use crate::flows::{begin, peer};
use crate::kernel::plugins::BACKEND_METHODS;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::{ChainEvent, HtlcEvent, Purpose};
use crate::node::Node;
use crate::rooms::chain::answers::ChainInfo;
use crate::rooms::chain::ask::{
    ask_block, ask_fees, backend_ends_below, backend_is, first_height, our_block, outdated, poll,
    poll_later, set_caught_up, set_estimates,
};
use crate::rooms::chain::estimates::Estimates;
use crate::rooms::chain::{Backend, answers, headers, stale, store};
use crate::rooms::{channels, htlcs, onchain, wallet};
use crate::sys::fatal::{Fatal, Stop};
use crate::sys::form::RpcError;
use bitcoin::BlockHash;
use primitives::BlockHeight;
use serde_json::Value;

/// Blocks between progress lines in the log.
const PROGRESS_EVERY: u32 = 1000;

/// A reorganisation of more blocks than this is read like blocks that were missed: what depends on
/// the tip waits until it is there.
const SHALLOW: u32 = 12;

/// The plugins are ready: one of them must be a Bitcoin backend.
pub fn begin(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    if let Some(missing) = BACKEND_METHODS.iter().find(|m| node.plugins.owner_of(m).is_none()) {
        let text =
            format!("no plugin provides {missing}: a Bitcoin backend such as bcli is needed");
        return Err(Fatal(text).into());
    }
    poll(node, turn);
    Ok(())
}

/// An event of our view of the chain.
pub fn handle(node: &Node, turn: &mut Turn<'_>, event: ChainEvent) -> Result<(), Stop> {
    match event {
        ChainEvent::Poll => {
            poll(node, turn);
            Ok(())
        }
        ChainEvent::Forget(below) => forget(node, turn, below),
    }
}

/// The backend answered.
pub fn answered(
    node: &Node,
    turn: &mut Turn<'_>,
    purpose: Purpose,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    match purpose {
        Purpose::ChainInfo => chain_info(node, turn, result),
        Purpose::Block(height) => block(node, turn, height, result),
        Purpose::Again(height, since) => {
            wallet::rescan::answered(node, turn, (height, since), result)
        }
        Purpose::Fees => {
            fees(node, turn, result);
            Ok(())
        }
        Purpose::Broadcast(txid, why) => {
            crate::flows::broadcast::answered(node, turn, txid, why, result)
        }
        Purpose::MempoolSpends => {
            onchain::watch::mempool_has(node, turn, result);
            Ok(())
        }
        Purpose::FundingSeen(number, caller) => {
            channels::opening::cancel::funding_seen(node, turn, number, &caller, result)
        }
    }
}

/// The backend's answer lacks what CLN's contract says it has: nothing can be built on it.
fn malformed(method: &str, what: &str) -> Stop {
    Fatal(format!("the Bitcoin backend's answer to {method} is wrong: {what}")).into()
}

fn chain_info(
    node: &Node,
    turn: &mut Turn<'_>,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let info = match result {
        Ok(info) => info,
        Err(e) => {
            log::warn!("the Bitcoin backend does not answer: {}; asking again", e.message);
            poll_later(node, turn);
            return Ok(());
        }
    };
    let info = ChainInfo::parse(&info).map_err(|e| malformed("getchaininfo", &e))?;
    if info.chain != node.network.bip70_name() {
        return Err(Fatal(format!(
            "the Bitcoin backend is on the chain '{}', this node on '{}' (--network={}): point --bitcoin-rpcport \
             and --bitcoin-datadir at a bitcoind of that chain",
            info.chain,
            node.network.bip70_name(),
            node.network
        ))
        .into());
    }
    let backend = Backend { blocks: info.blocks, headers: info.headers, syncing: info.syncing };
    if !node.chain.serving {
        begin::serve(node, turn)?;
    }
    let ours = our_block(node, turn, backend.blocks)?;
    if let Some(tip) = info.best.and_then(|best| outdated(&node.chain, ours, best)) {
        disconnect(node, turn, tip, backend.blocks)?;
        backend_is(node, turn, backend);
        // Whether the block before is still there is the same question.
        poll(node, turn);
        return Ok(());
    }
    let first = first_height(node, turn, &backend)?;
    if let Some(before) = &node.chain.backend
        && before.syncing != backend.syncing
    {
        log::info!(
            "bitcoind is {}",
            if backend.syncing { "downloading the chain" } else { "in sync with the network" }
        );
    }
    backend_is(node, turn, backend);
    ask_fees(node, turn);
    ask_block(node, turn, first);
    Ok(())
}

/// Our tip is no longer in the chain, which has so many blocks.
fn disconnect(
    node: &Node,
    turn: &mut Turn<'_>,
    (height, hash): (BlockHeight, BlockHash),
    blocks: u32,
) -> Result<(), Stop> {
    log::info!("block {height} ({hash}) is no longer in the chain");
    flows::block::leaves(node, turn, height)?;
    if node.chain.headers.len() <= 1 && !headers::read_older(node, turn, height)? {
        log::warn!(
            "the reorganisation goes deeper than block {height}, the first that is known: blocks are read anew from the oldest that matters on"
        );
        store::set_read_from(turn.db, height)?;
        turn.also(Event::Chain(ChainEvent::Forget(height)));
        set_caught_up(node, turn, false);
    }
    if node.chain.caught_up && blocks.saturating_sub(height.0) >= SHALLOW {
        log::warn!(
            "a deep reorganisation: until its last block is read, nothing new is received, forwarded or opened"
        );
        set_caught_up(node, turn, false);
    }
    Ok(())
}

/// Nobody can tell which blocks below this height are still in the chain: what was in them is found
/// again, or not, from the oldest one of them on. All in one turn, so that a crash loses none of
/// it.
fn forget(node: &Node, turn: &mut Turn<'_>, below: BlockHeight) -> Result<(), Stop> {
    let highest = [
        wallet::blocks::confirmed_below(node, below),
        channels::watch::confirmed_below(node, below),
        onchain::watch::confirmed_below(node, below),
        store::confirmed_below(turn.db, below)?,
    ];
    if let Some(height) = highest.into_iter().flatten().max() {
        store::set_read_from(turn.db, height)?;
        flows::block::forget(node, turn, height)?;
        turn.also(Event::Chain(ChainEvent::Forget(height)));
    }
    Ok(())
}

fn block(
    node: &Node,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let answer = match result {
        Ok(answer) => answer,
        Err(e) => {
            log::warn!("the Bitcoin backend gives no block {height}: {}; asking again", e.message);
            poll_later(node, turn);
            return Ok(());
        }
    };
    let read = answers::block(&answer, height);
    let Some(block) = read.map_err(|e| malformed("getrawblockbyheight", &e))? else {
        return no_block(node, turn, height);
    };
    let tip = node.chain.headers.back().copied();
    if let Some((tip_height, tip_hash)) = tip
        && (block.header.prev_blockhash != tip_hash || height.0 != tip_height.0 + 1)
    {
        let blocks = node.chain.backend.as_ref().map_or(0, |b| b.blocks);
        disconnect(node, turn, (tip_height, tip_hash), blocks)?;
        if node.chain.headers.len() > 1 {
            ask_block(node, turn, tip_height);
        } else {
            // Where to go on is known after this turn.
            poll(node, turn);
        }
        return Ok(());
    }
    flows::block::joins(node, turn, height, &block)?;
    if height.0.is_multiple_of(PROGRESS_EVERY) && !node.chain.caught_up {
        let of = node.chain.backend.as_ref().map_or(0, |b| b.blocks);
        log::info!("caught up to block {height} of {of}");
    }
    ask_block(node, turn, BlockHeight(height.0 + 1));
    Ok(())
}

/// The backend has no block after our tip.
fn no_block(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    if backend_ends_below(node, turn, height) {
        turn.also(Event::Htlc(HtlcEvent::CheckExpiring));
    }
    caught_up(node, turn)?;
    if stale::look(node, turn) {
        htlcs::decide::tip_found(node, turn);
    }
    onchain::watch::ask_mempool(node, turn);
    if !wallet::rescan::go_on(node, turn)? {
        poll_later(node, turn);
    }
    Ok(())
}

/// Our tip is the backend's.
pub(crate) fn caught_up(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    if node.chain.caught_up {
        return Ok(());
    }
    log::info!("in sync with bitcoind at block {}", node.chain.height());
    set_caught_up(node, turn, true);
    onchain::events::caught_up(node, turn);
    htlcs::decide::tip_found(node, turn);
    turn.also(Event::Htlc(HtlcEvent::CheckExpiring));
    peer::activate(node, turn);
    rebroadcast(node, turn)
}

pub fn fees(node: &Node, turn: &mut Turn<'_>, result: Result<Value, RpcError>) {
    let estimates = match result.map(|v| Estimates::parse(&v)) {
        Ok(Ok(estimates)) => estimates,
        Ok(Err(e)) => {
            log::warn!("the Bitcoin backend's fee estimates are unreadable: {e}");
            return;
        }
        Err(e) => {
            log::debug!("no fee estimates: {}", e.message);
            return;
        }
    };
    if set_estimates(node, turn, estimates) {
        // An event of its own: it sees the new estimates.
        turn.also(Event::FeesChanged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::words::outgoing::Outgoing;
    use crate::rooms::channels::seed::fee_policy;
    use crate::testing::Rig;
    use serde_json::json;
    use wire::channeld::ToChanneld;

    #[test]
    fn live_channels_hear_of_new_fee_estimates_at_once() {
        let mut rig = Rig::new("fees-changed", &[(1, 1)]);
        for per_kvb in [10_000, 20_000] {
            let estimates: Vec<Value> =
                [2, 12, 100].map(|n| json!({"blocks": n, "feerate": per_kvb})).to_vec();
            let answer = json!({"feerate_floor": 1_000, "feerates": estimates});
            let mut said = rig.outgoing(Event::Backend(Purpose::Fees, Ok(answer))).into_iter();
            let told = said.find_map(|o| match o {
                Outgoing::Order { body, .. } => match ToChanneld::decode_known(&body).unwrap() {
                    ToChanneld::FeesChanged(f) => Some(f.fees),
                    _ => None,
                },
                _ => None,
            });
            assert_eq!(told, Some(fee_policy(&rig.node, rig.channel(1))), "at {per_kvb}");
        }
    }
}
