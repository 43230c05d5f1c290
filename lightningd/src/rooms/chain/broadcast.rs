//! Sending transactions: each is stored first, and sent again with every block until it is in one.

use crate::kernel::plugins::calls::call_backend;
use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::{BroadcastFor, Purpose};
use crate::node::Node;
use crate::rooms::chain::store;
use crate::sys::fatal::{Fatal, Stop};
use bitcoin::{Transaction, Txid};
use serde_json::json;

/// Stores a transaction, then sends it.
pub fn broadcast(
    node: &Node,
    turn: &mut Turn<'_>,
    tx: &Transaction,
    why: BroadcastFor,
) -> Result<(), Stop> {
    store::add_transaction(turn.db, tx, true)?;
    store::count_sending(turn.db, tx.compute_txid())?;
    send(node, turn, tx, why);
    Ok(())
}

/// The same with one that was signed just now: nobody else has it until bitcoind does not refuse it.
pub fn broadcast_first(
    node: &Node,
    turn: &mut Turn<'_>,
    tx: &Transaction,
    why: BroadcastFor,
) -> Result<(), Stop> {
    store::add_transaction(turn.db, tx, true)?;
    sent_first(turn, tx.compute_txid())?;
    send(node, turn, tx, why);
    Ok(())
}

/// A stored transaction that nobody has is about to be sent.
pub(crate) fn sent_first(turn: &mut Turn<'_>, txid: Txid) -> Result<(), Stop> {
    store::set_untaken(turn.db, txid, Some(1))?;
    // The sending itself is counted with its question.
    turn.install(move |node| _ = node.chain.untaken.insert(txid, 0));
    Ok(())
}

/// Stores a transaction that is to be sent with every block.
pub fn keep(db: &rusqlite::Connection, tx: &Transaction) -> Result<(), Fatal> {
    store::add_transaction(db, tx, true)
}

/// Nothing is known any more of who has this one.
pub fn taken(turn: &mut Turn<'_>, txid: Txid) -> Result<(), Stop> {
    store::set_untaken(turn.db, txid, None)?;
    turn.install(move |node| _ = node.chain.untaken.remove(&txid));
    Ok(())
}

/// Sends a transaction, whether it is stored or not.
pub fn send(node: &Node, turn: &mut Turn<'_>, tx: &Transaction, why: BroadcastFor) {
    let params =
        json!({"tx": bitcoin::consensus::encode::serialize_hex(tx), "allowhighfees": true});
    let txid = tx.compute_txid();
    turn.install(move |node| {
        if let Some(under_way) = node.chain.untaken.get_mut(&txid) {
            *under_way += 1;
        }
    });
    call_backend(node, turn, "sendrawtransaction", &params, Purpose::Broadcast(txid, why));
}
