//! The funding transaction of a channel of ours: signed, sent, and what bitcoind says of it.

use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::BroadcastFor;
use crate::rooms::chain::broadcast::{broadcast, broadcast_first};
use crate::rooms::channels::change::update;
use crate::rooms::channels::view::funded;
use crate::rooms::channels::{Scope, store};
use crate::rooms::wallet;
use crate::sys::fatal::Stop;
use crate::sys::form::{RpcError, code};
use bitcoin::Transaction;
use primitives::*;
use wire::daemon::LogLevel;

/// Signs the funding of a channel that both have signed the first commitments of, and sends it.
pub fn sign_funding(node: &Scope, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&number) else { return Ok(()) };
    let Some(tx) = &channel.funding_tx else { return Ok(()) };
    if is_signed(tx) {
        return broadcast(node, turn, tx, BroadcastFor::Funding(number));
    }
    let signed = wallet::coins::sign(node, turn, tx)?;
    store::set_funding_tx(turn.db, number, &signed)?;
    let copy = signed.clone();
    update(turn, number, move |c| c.funding_tx = Some(copy));
    broadcast_first(node, turn, &signed, BroadcastFor::Funding(number))
}

fn is_signed(tx: &Transaction) -> bool {
    tx.input.iter().all(|i| !i.witness.is_empty())
}

/// bitcoind took the funding, or did not.
pub fn funding_sent(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    refused: Option<String>,
) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&number) else { return Ok(()) };
    let funder = node.channels.funders.get(&number).cloned();
    turn.install(node, move |channels| drop(channels.funders.remove(&number)));
    match (&refused, &channel.funding_tx) {
        (None, Some(tx)) => {
            channel.log(LogLevel::Info, &format!("funding {} is on its way", tx.compute_txid()));
            if let Some(caller) = funder {
                turn.reply(caller, Ok(funded(channel, tx)));
            }
        }
        (Some(e), _) => {
            // It stays, and its coins with it: it is sent again with every block, until
            // `fundchannel_cancel` takes it back.
            channel.log(LogLevel::Unusual, &format!("the funding was not taken: {e}"));
            if let Some(caller) = funder {
                let text = format!(
                    "Error broadcasting funding transaction: {e}. It is sent again with every block; fundchannel_cancel gives it up"
                );
                turn.reply(caller, Err(RpcError::new(code::FUNDING_BROADCAST_FAIL, text)));
            }
        }
        (None, None) => {}
    }
    Ok(())
}
