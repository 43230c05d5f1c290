//! `fundchannel_cancel` of a channel that both have signed: only while nobody can have its funding.

use crate::kernel::turn::Turn;
use crate::rooms::channels::Scope;
use crate::rooms::channels::opening::CANCELLED;
use crate::rooms::channels::view::cancelled;
use crate::rooms::{chain, wallet};
use crate::sys::fatal::Stop;
use crate::sys::form::{Caller, RpcError, code};
use primitives::*;
use serde_json::Value;

pub const BROADCAST: &str = "Cannot cancel: the funding transaction has been broadcast";

/// As far as we know ourselves: both have signed, and whoever holds the funding may publish it at
/// any time. One of ours is held by nobody else where bitcoind refused it each time.
pub fn may_cancel(node: &Scope, channel: &crate::rooms::channels::Channel) -> bool {
    let ours = channel.funding_tx.as_ref();
    channel.funding_height.is_none() && ours.is_none_or(|t| node.chain.nobody_has(t.compute_txid()))
}

/// bitcoind said whether it knows the funding of a channel that is to be cancelled.
pub fn funding_seen(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    caller: &Caller,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let unsafe_now = |text: String| Err(RpcError::new(code::FUNDING_CANCEL_NOT_SAFE, text));
    let gone = RpcError::new(code::FUNDING_NOTHING_TO_CANCEL, "No channel funding in progress.");
    let seen = result
        .map_err(|e| e.message)
        .and_then(|answer| crate::rooms::chain::answers::is_unspent(&answer));
    let answer = match (node.channels.all.get(&number), seen) {
        (None, _) => Err(gone),
        (Some(_), Err(why)) => unsafe_now(format!(
            "Cannot cancel: bitcoind does not say whether the funding transaction was broadcast: {why}"
        )),
        (Some(c), Ok(seen)) if seen || !may_cancel(node, c) => unsafe_now(BROADCAST.to_owned()),
        (Some(c), Ok(_)) => {
            crate::rooms::peers::line::tell(node, turn, c.peer, &wire::Error::new(c.id, CANCELLED));
            crate::rooms::channels::forget::forget(
                node,
                turn,
                c,
                "cancelled before its funding was broadcast",
            )?;
            if let Some(tx) = &c.funding_tx {
                let txid = tx.compute_txid();
                crate::rooms::chain::store::give_up(turn.db, txid)?;
                wallet::spend::unspend(node, turn, txid)?;
                chain::broadcast::taken(turn, txid)?;
            }
            Ok(cancelled())
        }
    };
    turn.reply(caller.clone(), answer);
    Ok(())
}
