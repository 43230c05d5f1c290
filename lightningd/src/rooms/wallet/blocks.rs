//! Blocks join the chain and leave it: what they bring to the wallet, and what they spend.

use crate::kernel::turn::Turn;
use crate::rooms::wallet::spend::{put, unspend};
use crate::rooms::wallet::{Output, Scope, Spend, store};
use crate::sys::fatal::{Fatal, Stop};
use bitcoin::{Block, Txid};
use primitives::{BlockHeight, OutPoint, Sat};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A block joined the chain: what came in and what went out.
pub fn joined(
    node: &Scope,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let mut changed: BTreeMap<OutPoint, Output> = BTreeMap::new();
    for (index, tx) in block.txdata.iter().enumerate() {
        let mut ours = false;
        let mut txid = None;
        for input in &tx.input {
            let spent = input.previous_output;
            let known = changed.get(&spent).or_else(|| node.wallet.outputs.get(&spent)).cloned();
            if let Some(mut output) = known {
                let by = *txid.get_or_insert_with(|| tx.compute_txid());
                output.spent = Some(Spend { txid: by, height: Some(height) });
                changed.insert(spent, output);
                ours = true;
            }
        }
        for (vout, out) in tx.output.iter().enumerate() {
            let Some(key_index) = node.wallet.index_of(&out.script_pubkey) else { continue };
            let by = *txid.get_or_insert_with(|| tx.compute_txid());
            let outpoint = OutPoint { txid: by, vout: vout as u32 };
            let output = match node.wallet.outputs.get(&outpoint) {
                Some(known) => Output { confirmed: Some(height), ..known.clone() },
                None => arrived(turn.db, (outpoint, out), tx.is_coinbase(), key_index, height)?,
            };
            log::info!("{} came in with {outpoint} in block {height}", output.amount);
            changed.insert(outpoint, output);
            ours = true;
        }
        if ours {
            crate::rooms::chain::store::confirmed(turn.db, tx, height, index)?;
        }
    }
    for txid in impossible(node, turn.db, block)? {
        log::info!("{txid} can be in no block any more: what it spent is free again");
        unspend(node, turn, txid)?;
        for output in changed.values_mut().filter(|o| o.spent == Some(Spend { txid, height: None }))
        {
            output.spent = None;
        }
    }
    put(node, turn, changed)
}

/// An output of ours in a block that nobody knew of.
pub fn arrived(
    db: &rusqlite::Connection,
    (outpoint, out): (OutPoint, &bitcoin::TxOut),
    coinbase: bool,
    key_index: u32,
    height: BlockHeight,
) -> Result<Output, Fatal> {
    // It may have been given up, and what spends it not.
    let on_its_way = crate::rooms::chain::store::sent_to_spend(db, outpoint)?;
    Ok(Output {
        amount: Sat(out.value.to_sat()),
        script: out.script_pubkey.clone(),
        key_index,
        coinbase,
        confirmed: Some(height),
        spent: on_its_way.map(|txid| Spend { txid, height: None }),
        reserved_until: BlockHeight(0),
    })
}

/// Which transactions of ours on their way this block made impossible: something in it spends what
/// one of them spends, or what one does that has to come before.
fn impossible(
    node: &Scope,
    db: &rusqlite::Connection,
    block: &Block,
) -> Result<BTreeSet<Txid>, Fatal> {
    let spends = node.wallet.outputs.values().filter_map(|o| o.spent);
    let under_way: BTreeSet<Txid> = spends.filter(|s| s.height.is_none()).map(|s| s.txid).collect();
    let mut needs: HashMap<OutPoint, Vec<(Txid, Txid)>> = HashMap::new();
    for ours in under_way {
        let (mut line, mut known) = (vec![ours], BTreeSet::from([ours]));
        while let Some(txid) = line.pop() {
            let Some(tx) = crate::rooms::chain::store::on_its_way(db, txid)? else { continue };
            for input in tx.input {
                let from = input.previous_output;
                needs.entry(from).or_default().push((txid, ours));
                if known.insert(from.txid) {
                    line.push(from.txid);
                }
            }
        }
    }
    let mut gone = BTreeSet::new();
    for tx in block.txdata.iter().filter(|_| !needs.is_empty()) {
        for found in tx.input.iter().filter_map(|i| needs.get(&i.previous_output)) {
            let by = tx.compute_txid();
            gone.extend(found.iter().filter(|(spender, _)| *spender != by).map(|(_, ours)| *ours));
        }
    }
    Ok(gone)
}

/// A block left the chain.
pub fn left(node: &Scope, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    let mut changed = BTreeMap::new();
    let mut gone = Vec::new();
    for (outpoint, output) in &node.wallet.outputs {
        let spent_here = output.spent.is_some_and(|s| s.height == Some(height));
        if output.confirmed == Some(height) && output.coinbase {
            // A coinbase of a block that is not in the chain never was.
            gone.push(*outpoint);
        } else if output.confirmed == Some(height) || spent_here {
            let mut output = output.clone();
            if output.confirmed == Some(height) {
                output.confirmed = None;
            }
            if spent_here {
                output.spent = output.spent.map(|s| Spend { txid: s.txid, height: None });
            }
            changed.insert(*outpoint, output);
        }
    }
    for outpoint in &gone {
        store::remove(turn.db, outpoint)?;
    }
    turn.install(node, move |wallet| gone.iter().for_each(|o| drop(wallet.outputs.remove(o))));
    put(node, turn, changed)
}

/// The highest block below this height in which an output of the wallet's is, or is spent.
pub fn confirmed_below(node: &Scope, height: BlockHeight) -> Option<BlockHeight> {
    let outputs = node.wallet.outputs.values();
    let heights = outputs.flat_map(|o| [o.confirmed, o.spent.and_then(|s| s.height)]);
    heights.flatten().filter(|h| *h < height).max()
}
