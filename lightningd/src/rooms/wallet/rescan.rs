//! Old blocks are looked at once more, after a database was put back.

use crate::kernel::turn::{Stop, Turn};
use crate::node::Node;
use crate::rooms::wallet::blocks::arrived;
use crate::rooms::wallet::spend::{put, watch_up_to};
use crate::rooms::wallet::{Output, Spend};
use bitcoin::Block;
use primitives::{BlockHeight, OutPoint};
use std::collections::BTreeMap;

/// An old block is looked at once more: what it spends of the wallet's is spent, and what it brings that nobody knew of is found. It
/// is no coin before [`take_found`]: what spent it may be in one of the next blocks.
pub fn look_again(
    node: &Node,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let (mut spent, mut gone) = (BTreeMap::new(), Vec::new());
    let mut found: BTreeMap<OutPoint, Output> = BTreeMap::new();
    for (index, tx) in block.txdata.iter().enumerate() {
        let mut ours = false;
        for from in tx.input.iter().map(|input| input.previous_output) {
            if found.remove(&from).is_some() || node.chain.found.contains_key(&from) {
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
        turn.install(move |node| {
            node.chain.found.extend(found);
            for from in gone {
                node.chain.found.remove(&from);
            }
        });
    }
    Ok(())
}

/// Every block was looked at: what was found and is spent by none is a coin.
pub fn take_found(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    let found = node.chain.found.clone();
    for (outpoint, output) in &found {
        log::info!("{} was found at {outpoint}", output.amount);
    }
    turn.install(|node| node.chain.found.clear());
    put(node, turn, found)
}
