//! Sending transactions: each is stored first, and sent again with every block until it is in one.

use crate::kernel::plugins::backend::Question;
use crate::kernel::plugins::calls::call_backend;
use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::{BroadcastFor, Purpose};
use crate::rooms::chain::{Scope, store};
use crate::sys::fatal::{Fatal, Stop};
use crate::sys::form::RpcError;
use bitcoin::{Transaction, Txid};
use serde_json::Value;

/// Stores a transaction, then sends it.
pub fn broadcast(
    node: &Scope,
    turn: &mut Turn<'_>,
    tx: &Transaction,
    why: BroadcastFor,
) -> Result<(), Stop> {
    store::add_transaction(turn.db, tx, true)?;
    store::count_sending(turn.db, tx.compute_txid())?;
    send(node, turn, tx, why);
    Ok(())
}

/// The same with one that was signed just now: nobody else has it until bitcoind does not refuse
/// it.
pub fn broadcast_first(
    node: &Scope,
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
    store::set_never_accepted(turn.db, txid, Some(1))?;
    // The sending itself is counted with its question.
    turn.install_as::<Scope, _>(move |chain| _ = chain.never_accepted.insert(txid, 0));
    Ok(())
}

/// Stores a transaction that is to be sent with every block.
pub fn keep(db: &rusqlite::Connection, tx: &Transaction) -> Result<(), Fatal> {
    store::add_transaction(db, tx, true)
}

/// Nothing is known any more of who has this one.
pub fn taken(turn: &mut Turn<'_>, txid: Txid) -> Result<(), Stop> {
    store::set_never_accepted(turn.db, txid, None)?;
    turn.install_as::<Scope, _>(move |chain| _ = chain.never_accepted.remove(&txid));
    Ok(())
}

/// Sends a transaction, whether it is stored or not.
pub fn send(node: &Scope, turn: &mut Turn<'_>, tx: &Transaction, why: BroadcastFor) {
    let txid = tx.compute_txid();
    turn.install(node, move |chain| {
        if let Some(under_way) = chain.never_accepted.get_mut(&txid) {
            *under_way += 1;
        }
    });
    call_backend(node, turn, &Question::Send(tx), Purpose::Broadcast(txid, why));
}

/// What the backend says of a transaction that it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has it.
    Taken,
    /// It refuses it, for this reason.
    Refused(String),
    /// Nobody can tell, for this reason: bitcoind may have accepted and relayed it.
    Unknown(String),
}

/// Reads the backend's answer to a sending. Anything but a refusal means that bitcoind may have the
/// transaction.
pub fn judged(
    node: &Scope,
    turn: &mut Turn<'_>,
    txid: Txid,
    result: Result<Value, RpcError>,
) -> Result<Verdict, Stop> {
    let verdict = match result {
        Ok(a) if a.get("success").and_then(Value::as_bool) == Some(true) => Verdict::Taken,
        Ok(a) => {
            let why = a.get("errmsg").and_then(Value::as_str).unwrap_or("no reason given");
            Verdict::Refused(why.to_owned())
        }
        Err(e) => Verdict::Unknown(e.message),
    };
    if let Some(under_way) = node.chain.never_accepted.get(&txid) {
        let nobody_has = matches!(verdict, Verdict::Refused(_));
        let left = nobody_has.then(|| under_way.saturating_sub(1));
        store::set_never_accepted(turn.db, txid, left)?;
        turn.install(node, move |chain| match left {
            Some(under_way) => _ = chain.never_accepted.insert(txid, under_way),
            None => _ = chain.never_accepted.remove(&txid),
        });
    }
    Ok(verdict)
}
