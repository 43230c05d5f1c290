//! Transactions of all rooms on their way to a block: sent with each block, given up once they are impossible, and what each sending came to.

use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::BroadcastFor;
use crate::node::Node;
use crate::rooms::chain::broadcast::send;
use crate::rooms::chain::{BURIED, store};
use crate::sys::fatal::Stop;
use crate::sys::form::{RpcError, code};
use bitcoin::{OutPoint, Transaction, Txid};
use serde_json::Value;
use std::collections::BTreeSet;

/// Sends everything that should be in a block and is not. What another transaction made impossible is given up once that one is buried.
pub fn rebroadcast(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    let all = store::unconfirmed(turn.db)?;
    let dead = double_spent(node, &all);
    for txid in &dead {
        log::info!("{txid} is sent no more: what it spends was spent {BURIED} blocks ago");
        store::give_up(turn.db, *txid)?;
    }
    for tx in all.iter().filter(|tx| !dead.contains(&tx.compute_txid())) {
        store::count_sending(turn.db, tx.compute_txid())?;
        let claim = crate::rooms::onchain::attempt_of(node, tx.compute_txid());
        let why = claim.map_or(BroadcastFor::Nobody, BroadcastFor::Attempt);
        send(node, turn, tx, why);
    }
    Ok(())
}

/// Which of these spend a UTXO of the wallet that another transaction spent so many blocks ago that no reorganisation brings it back,
/// or an output of such a one.
fn double_spent(node: &Node, all: &[Transaction]) -> BTreeSet<Txid> {
    let tip = node.chain.height();
    let mut dead = BTreeSet::new();
    loop {
        let before = dead.len();
        for tx in all {
            let txid = tx.compute_txid();
            let is_gone = |o: &OutPoint| {
                let spent = node.wallet.outputs.get(o).and_then(|output| output.spent);
                dead.contains(&o.txid)
                    || spent.is_some_and(|s| {
                        s.txid != txid && s.height.is_some_and(|h| (tip - h).0 + 1 >= BURIED)
                    })
            };
            if tx.input.iter().any(|i| is_gone(&i.previous_output)) {
                dead.insert(txid);
            }
        }
        if dead.len() == before {
            return dead;
        }
    }
}

pub(super) fn answered(
    node: &Node,
    turn: &mut Turn<'_>,
    txid: Txid,
    why: BroadcastFor,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let refused = match &result {
        Ok(answer) if answer.get("success").and_then(Value::as_bool) == Some(true) => None,
        Ok(answer) => Some(
            answer.get("errmsg").and_then(Value::as_str).unwrap_or("no reason given").to_owned(),
        ),
        Err(e) => Some(e.message.clone()),
    };
    // Whatever is no refusal means that bitcoind may have it, and once it has all may.
    let nobody_has = refused.is_some() && result.is_ok();
    if let Some(under_way) = node.chain.untaken.get(&txid) {
        let left = nobody_has.then(|| under_way.saturating_sub(1));
        store::set_untaken(turn.db, txid, left)?;
        turn.install(move |node| match left {
            Some(under_way) => _ = node.chain.untaken.insert(txid, under_way),
            None => _ = node.chain.untaken.remove(&txid),
        });
    }
    match (why, refused) {
        (BroadcastFor::Withdrawal(caller, sent), Some(e)) if result.is_err() => {
            // No verdict: bitcoind may have it. It is sent again with every block, and its coins stay spent.
            let text = format!(
                "nobody knows whether the transaction was taken ({e}): it is sent again with every block, do not repeat it"
            );
            turn.reply(
                caller,
                Err(RpcError { code: code::LIGHTNINGD, message: text, data: Some(sent) }),
            );
        }
        // No verdict: it is sent again with the next block, and nothing is in its way as far as anybody knows.
        (BroadcastFor::Attempt(_), Some(e)) if result.is_err() => {
            log::info!("nobody knows whether claim {txid} was taken: {e}");
        }
        (BroadcastFor::Nobody, Some(e)) => log::debug!("transaction {txid} was not taken: {e}"),
        (BroadcastFor::Nobody, None) => {}
        (BroadcastFor::Commitment(number), Some(e)) => {
            log::info!("the commitment {txid} of channel {number} was not taken: {e}");
            crate::rooms::onchain::allocate_fees(turn);
            crate::rooms::channels::fail::commitment_sent(node, turn, number);
        }
        (BroadcastFor::Commitment(number), None) => {
            crate::rooms::channels::fail::commitment_sent(node, turn, number);
        }
        (BroadcastFor::Withdrawal(caller, result), None) => turn.reply(caller, Ok(result)),
        (BroadcastFor::Withdrawal(caller, _), Some(e)) => {
            store::give_up(turn.db, txid)?;
            crate::rooms::wallet::spend::unspend(node, turn, txid)?;
            turn.reply(
                caller,
                Err(RpcError::new(code::LIGHTNINGD, format!("the transaction was refused: {e}"))),
            );
        }
        (BroadcastFor::Funding(number), refused) => {
            crate::rooms::channels::opening::funding::funding_sent(node, turn, number, refused)?
        }
        (BroadcastFor::Attempt(number), refused) => {
            crate::rooms::onchain::attempts::answered(
                node,
                turn,
                number,
                txid,
                refused.as_deref(),
            )?;
        }
        (BroadcastFor::Closing(number), refused) => {
            if let Some(e) = refused {
                log::warn!(
                    "the closing of channel {number} was not taken: {e}; it is sent again with every block"
                );
            }
        }
    }
    Ok(())
}
