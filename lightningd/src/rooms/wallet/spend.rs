//! Addresses are issued, UTXOs reserved, spent and freed.

use crate::kernel::turn::Turn;
use crate::rooms::wallet::{AddressKind, MAX_INDEX, Output, Scope, Spend, store};
use crate::sys::fatal::{Fatal, Stop};
use bitcoin::{ScriptBuf, Txid};
use primitives::{BlockHeight, OutPoint, Sat};
use std::collections::BTreeMap;

/// Issues the next address index: never issued before. Past [`MAX_INDEX`] that one serves again:
/// what is to be paid to us, be it a claim, needs an address.
pub fn next_index(node: &Scope, turn: &mut Turn<'_>) -> Result<u32, Fatal> {
    let index = (node.wallet.last_index.get() + 1).min(MAX_INDEX);
    node.wallet.last_index.set(index);
    store::set_last_index(turn.db, index)?;
    turn.install(node, |wallet| wallet.watch());
    Ok(index)
}

/// A new script to be paid by: for change, and for closings.
pub fn next_script(
    node: &Scope,
    turn: &mut Turn<'_>,
    kind: AddressKind,
) -> Result<ScriptBuf, Fatal> {
    Ok(node.wallet.script(next_index(node, turn)?, kind))
}

pub fn put(
    node: &Scope,
    turn: &mut Turn<'_>,
    changed: BTreeMap<OutPoint, Output>,
) -> Result<(), Stop> {
    for (outpoint, output) in &changed {
        store::put(turn.db, outpoint, output)?;
    }
    watch_up_to(node, turn, &changed)?;
    turn.install(node, move |wallet| wallet.outputs.extend(changed));
    Ok(())
}

/// The addresses of these count as issued.
pub fn watch_up_to(
    node: &Scope,
    turn: &mut Turn<'_>,
    changed: &BTreeMap<OutPoint, Output>,
) -> Result<(), Stop> {
    // After a restore from a backup coins come to addresses that were issued after it: these are
    // issued no more, and what follows them is watched too.
    let highest = changed.values().map(|o| o.key_index).max().unwrap_or(0);
    if highest > node.wallet.last_index.get() {
        store::set_last_index(turn.db, highest)?;
        turn.install(node, move |wallet| {
            let last = wallet.last_index.get().max(highest);
            wallet.last_index.set(last);
            wallet.watch();
        });
    }
    Ok(())
}

/// A transaction of ours is on its way: its inputs are spent, and what it pays to us is there,
/// unconfirmed.
pub fn spend(node: &Scope, turn: &mut Turn<'_>, tx: &bitcoin::Transaction) -> Result<(), Stop> {
    let txid = tx.compute_txid();
    let mut changed = BTreeMap::new();
    for input in &tx.input {
        if let Some(output) = node.wallet.outputs.get(&input.previous_output) {
            let mut output = output.clone();
            output.spent = Some(Spend { txid, height: None });
            changed.insert(input.previous_output, output);
        }
    }
    for (vout, out) in tx.output.iter().enumerate() {
        if let Some(key_index) = node.wallet.index_of(&out.script_pubkey) {
            let output = Output {
                amount: Sat(out.value.to_sat()),
                script: out.script_pubkey.clone(),
                key_index,
                coinbase: false,
                confirmed: None,
                spent: None,
                reserved_until: BlockHeight(0),
            };
            changed.insert(OutPoint { txid, vout: vout as u32 }, output);
        }
    }
    put(node, turn, changed)
}

/// A transaction of ours will not happen: its inputs are there again, and what it paid to us is
/// not.
pub fn unspend(node: &Scope, turn: &mut Turn<'_>, txid: Txid) -> Result<(), Stop> {
    let of_its_own = |(o, v): &(&OutPoint, &Output)| o.txid == txid && v.confirmed.is_none();
    let gone: Vec<OutPoint> =
        node.wallet.outputs.iter().filter(of_its_own).map(|(o, _)| *o).collect();
    for outpoint in &gone {
        store::remove(turn.db, outpoint)?;
    }
    store::release(turn.db, txid)?;
    turn.install(node, move |wallet| {
        gone.iter().for_each(|o| drop(wallet.outputs.remove(o)));
        for output in wallet.outputs.values_mut() {
            if output.spent == Some(Spend { txid, height: None }) {
                output.spent = None;
                output.reserved_until = BlockHeight(0);
            }
        }
    });
    Ok(())
}

/// Keeps these from being chosen until a height; zero lets them go.
pub fn reserve(
    node: &Scope,
    turn: &mut Turn<'_>,
    outpoints: &[OutPoint],
    until: BlockHeight,
) -> Result<(), Stop> {
    let mut changed = BTreeMap::new();
    for outpoint in outpoints {
        if let Some(output) = node.wallet.outputs.get(outpoint) {
            changed.insert(*outpoint, Output { reserved_until: until, ..output.clone() });
        }
    }
    put(node, turn, changed)
}
