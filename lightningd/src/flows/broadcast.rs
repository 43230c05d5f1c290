//! Transactions of all rooms on their way to a block: sent with each block, given up once they are
//! impossible, and what each sending came to.

use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::BroadcastFor;
use crate::node::Node;
use crate::rooms::chain::broadcast::{Verdict, judged, send};
use crate::rooms::chain::store;
use crate::rooms::{channels, onchain, wallet};
use crate::sys::fatal::Stop;
use crate::sys::form::{Caller, RpcError, code};
use bitcoin::{OutPoint, Transaction, Txid};
use channel::IRREVOCABLE_DEPTH;
use serde_json::Value;
use std::collections::BTreeSet;

/// Sends everything that should be in a block and is not. What another transaction made impossible
/// is given up once that one is buried.
pub fn rebroadcast(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    let all = store::unconfirmed(turn.db)?;
    let dead = double_spent(node, &all);
    for txid in &dead {
        log::info!(
            "{txid} is sent no more: what it spends was spent {IRREVOCABLE_DEPTH} blocks ago"
        );
        store::give_up(turn.db, *txid)?;
    }
    for tx in all.iter().filter(|tx| !dead.contains(&tx.compute_txid())) {
        store::count_sending(turn.db, tx.compute_txid())?;
        let claim = onchain::attempt_of(node, tx.compute_txid());
        let why = claim.map_or(BroadcastFor::Nobody, BroadcastFor::Attempt);
        send(node, turn, tx, why);
    }
    Ok(())
}

/// Which of these spend a UTXO of the wallet that another transaction spent so many blocks ago that
/// no reorganisation brings it back, or an output of such a one.
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
                        s.txid != txid
                            && s.height.is_some_and(|h| (tip - h).0 + 1 >= IRREVOCABLE_DEPTH)
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

/// The backend answered to a sending: whoever it was for hears what became of it.
pub fn answered(
    node: &Node,
    turn: &mut Turn<'_>,
    txid: Txid,
    why: BroadcastFor,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let verdict = judged(node, turn, txid, result)?;
    match why {
        BroadcastFor::Nobody => {
            if let Verdict::Refused(e) | Verdict::Unknown(e) = verdict {
                log::debug!("transaction {txid} was not taken: {e}");
            }
        }
        BroadcastFor::Withdrawal(caller, sent) => {
            withdrawal_sent(node, turn, txid, (caller, sent), verdict)?;
        }
        BroadcastFor::Funding(number) => {
            let refused = refusal(verdict);
            channels::opening::funding::funding_sent(node, turn, number, refused)?;
        }
        BroadcastFor::Commitment(number) => {
            if let Some(e) = refusal(verdict) {
                log::info!("the commitment {txid} of channel {number} was not taken: {e}");
                onchain::allocate_fees(turn);
            }
            channels::fail::commitment_sent(node, turn, number);
        }
        BroadcastFor::Attempt(number) => match verdict {
            // It is sent again with the next block, and nothing is in its way as far as anybody
            // knows.
            Verdict::Unknown(e) => log::info!("nobody knows whether claim {txid} was taken: {e}"),
            Verdict::Taken => onchain::answered::answered(node, turn, number, txid, None)?,
            Verdict::Refused(e) => {
                onchain::answered::answered(node, turn, number, txid, Some(&e))?;
            }
        },
        BroadcastFor::Closing(number) => {
            if let Some(e) = refusal(verdict) {
                log::warn!(
                    "the closing of channel {number} was not taken: {e}; it is sent again with every block"
                );
            }
        }
    }
    Ok(())
}

/// Why a transaction was not taken, as far as anybody knows.
fn refusal(verdict: Verdict) -> Option<String> {
    match verdict {
        Verdict::Taken => None,
        Verdict::Refused(why) | Verdict::Unknown(why) => Some(why),
    }
}

/// `withdraw`: a refused transaction is no more, and its inputs are spendable again.
fn withdrawal_sent(
    node: &Node,
    turn: &mut Turn<'_>,
    txid: Txid,
    (caller, sent): (Caller, Value),
    verdict: Verdict,
) -> Result<(), Stop> {
    let result = match verdict {
        Verdict::Taken => Ok(sent),
        Verdict::Refused(e) => {
            store::give_up(turn.db, txid)?;
            wallet::spend::unspend(node, turn, txid)?;
            Err(RpcError::new(code::LIGHTNINGD, format!("the transaction was refused: {e}")))
        }
        Verdict::Unknown(e) => {
            // It is sent again with every block, and its UTXOs stay spent.
            let message = format!(
                "nobody knows whether the transaction was taken ({e}): it is sent again with every block, do not repeat it"
            );
            Err(RpcError { code: code::LIGHTNINGD, message, data: Some(sent) })
        }
    };
    turn.reply(caller, result);
    Ok(())
}
