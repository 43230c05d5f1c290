//! Old blocks are looked at once more, after a database was put back.

use crate::kernel::plugins::backend::Question;
use crate::kernel::plugins::calls::call_backend;
use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::Purpose;
use crate::rooms::chain::ask::{poll, poll_later, rescan_height};
use crate::rooms::chain::{Chain, answers};
use crate::rooms::wallet::blocks::arrived;
use crate::rooms::wallet::spend::{put, watch_up_to};
use crate::rooms::wallet::{Output, Rescan, Scope, Spend};
use crate::sys::fatal::Stop;
use crate::sys::form::RpcError;
use bitcoin::Block;
use primitives::{BlockHeight, OutPoint};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An old block is looked at once more: what it spends of the wallet's is spent, and what it brings
/// that nobody knew of is found. It is no coin before [`take_found`]: what spent it may be in one
/// of the next blocks.
pub fn look_again(
    node: &Scope,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let (mut spent, mut gone) = (BTreeMap::new(), Vec::new());
    let mut found: BTreeMap<OutPoint, Output> = BTreeMap::new();
    for (index, tx) in block.txdata.iter().enumerate() {
        let mut ours = false;
        for from in tx.input.iter().map(|input| input.previous_output) {
            if found.remove(&from).is_some() || node.wallet.found.contains_key(&from) {
                gone.push(from);
                ours = true;
            } else if let Some(known) = node.wallet.outputs.get(&from) {
                let spend = Spend { txid: tx.compute_txid(), height: Some(height) };
                spent.insert(from, Output { spent: Some(spend), ..known.clone() });
                ours = true;
            }
        }
        for (vout, out) in tx.output.iter().enumerate() {
            let Some(key_index) = node.wallet.index_of(&out.script_pubkey) else { continue };
            let outpoint = OutPoint { txid: tx.compute_txid(), vout: vout as u32 };
            if !node.wallet.outputs.contains_key(&outpoint) {
                found.insert(
                    outpoint,
                    arrived(turn.db, (outpoint, out), tx.is_coinbase(), key_index, height)?,
                );
                ours = true;
            }
        }
        if ours {
            crate::rooms::chain::store::confirmed(turn.db, tx, height, index)?;
        }
    }
    watch_up_to(node, turn, &found)?;
    put(node, turn, spent)?;
    if !gone.is_empty() || !found.is_empty() {
        turn.install(node, move |wallet| {
            wallet.found.extend(found);
            for from in gone {
                wallet.found.remove(&from);
            }
        });
    }
    Ok(())
}

/// Every block was looked at: what was found and is spent by none is a coin.
pub fn take_found(node: &Scope, turn: &mut Turn<'_>) -> Result<(), Stop> {
    let found = node.wallet.found.clone();
    for (outpoint, output) in &found {
        log::info!("{} was found at {outpoint}", output.amount);
    }
    turn.install(node, |wallet| wallet.found.clear());
    put(node, turn, found)
}

/// So long blocks are read again without a look at the tip.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// So often the backend may be unable to give a block. It has tried for a while each time.
const MAX_FAILURES: u32 = 5;

/// Our tip is the backend's: is there time for an old block? False: nothing is left to read.
pub fn go_on(node: &Scope, turn: &mut Turn<'_>) -> Result<bool, Stop> {
    let next = match node.wallet.rescan {
        Rescan::Done => return Ok(false),
        Rescan::ToBegin => begin(node),
        going @ Rescan::Next(..) => going,
    };
    let since = Instant::now();
    turn.install(node, move |wallet| wallet.rescan = next);
    match next {
        Rescan::Next(height, _) if height > node.chain.height() => {
            log::info!("blocks up to {} were looked at once more", node.chain.height());
            turn.install(node, |wallet| wallet.rescan = Rescan::Done);
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

fn begin(node: &Scope) -> Rescan {
    // Whoever did not ask for it keeps a fast start.
    let asked = node.config.options.rescan.is_given && !node.chain.began_here;
    let blocks = node.chain.backend.as_ref().map_or(0, |b| b.blocks);
    let (from, to) = (rescan_height(node, blocks), node.chain.height());
    if !asked || from > to {
        return Rescan::Done;
    }
    log::info!("looking for the wallet's coins in blocks {from} to {to} once more (--rescan)");
    Rescan::Next(from, 0)
}

/// A block left the chain: what was found may have been in it, or what spent something.
pub fn start_over(node: &Scope, turn: &mut Turn<'_>) {
    if matches!(node.wallet.rescan, Rescan::Next(..)) {
        turn.install(node, |wallet| {
            wallet.rescan = Rescan::ToBegin;
            wallet.found.clear();
        });
    }
}

fn ask(node: &Scope, turn: &mut Turn<'_>, height: BlockHeight, since: Instant) {
    let purpose = Purpose::Again(height, since);
    call_backend(node, turn, &Question::Block(height), purpose);
}

/// The backend gave an old block.
pub fn answered(
    node: &Scope,
    turn: &mut Turn<'_>,
    (height, since): (BlockHeight, Instant),
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let read = result.map_err(|e| e.message).and_then(|a| answers::block(&a, height));
    let failed = match node.wallet.rescan {
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
            turn.install(node, move |wallet| wallet.rescan = Rescan::Next(height, failed + 1));
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
    turn.install(node, move |wallet| wallet.rescan = Rescan::Next(next, 0));
    if since.elapsed() < LOOK_AFTER && next <= node.chain.height() {
        ask(node, turn, next, since);
    } else {
        poll(node, turn);
    }
    Ok(())
}

/// A backend that was pruned has no old blocks, and everything else must go on.
fn give_up(node: &Scope, turn: &mut Turn<'_>, height: BlockHeight, why: &str) -> Result<(), Stop> {
    log::warn!(
        "block {height} cannot be looked at once more: {why}. Coins of the wallet's that were not seen before stay unseen (--rescan)"
    );
    turn.install(node, |wallet| {
        wallet.rescan = Rescan::Done;
        wallet.found.clear();
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
