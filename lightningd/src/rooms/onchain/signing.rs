//! hsmd signs claims and anchor bumps; which it is asked for, and where they pay to.

use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::BroadcastFor;
use crate::rooms::chain::broadcast::broadcast;
use crate::rooms::channels::Channel;
use crate::rooms::onchain::anchor::Unconfirmed;
use crate::rooms::onchain::attempt::TRIES;
use crate::rooms::onchain::claims::Unsigned;
use crate::rooms::onchain::{Scope, store};
use crate::rooms::wallet;
use crate::sys::fatal::Stop;
use bitcoin::Transaction;
use primitives::*;
use std::collections::BTreeMap;
use wire::Long;
use wire::daemon::LogLevel;
use wire::hsm::{Completed, SignWallet};

/// hsmd's refusals for one channel in one block, after which nothing more of it is asked for before
/// the next block: each costs an allocation.
const MAX_REFUSALS: u32 = 8;

/// Channels whose commitment waits to be in a block.
pub(super) type Waiting<'a> = BTreeMap<ChannelNumber, Unconfirmed<'a>>;

/// Has hsmd refused none of these lately, and not too much of this channel in this block?
pub(super) fn may_be_signed(
    node: &Scope,
    number: ChannelNumber,
    mut outpoints: impl Iterator<Item = OutPoint>,
) -> bool {
    let tip = node.chain.height();
    let is_too_much = |(at, many): &(BlockHeight, u32)| *at == tip && *many >= MAX_REFUSALS;
    let is_recent = |at: &BlockHeight| (tip - *at).0 < TRIES;
    !node.onchain.refusals.get(&number).is_some_and(is_too_much)
        && !outpoints.any(|o| node.onchain.unsignable.get(&o).is_some_and(is_recent))
}

/// `None` if hsmd refuses, which is logged with `what`.
pub(super) fn sign(
    turn: &mut Turn<'_>,
    channel: &Channel,
    unsigned: Unsigned,
    what: impl FnOnce() -> String,
) -> Result<Option<Transaction>, Stop> {
    let question = SignWallet {
        transaction: unsigned.tx,
        inputs: Long(unsigned.inputs),
        spent: Long(unsigned.spent),
    };
    match turn.hsm.complete(&question)? {
        Completed::Ready { transaction } => Ok(Some(transaction)),
        Completed::Refused { why } => {
            channel.log(LogLevel::Broken, &format!("hsmd does not sign {}: {why}", what()));
            Ok(None)
        }
    }
}

/// The one address that a channel's claims pay: chosen once.
pub(super) fn sweep_script(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
) -> Result<ScriptBuf, Stop> {
    if let Some(index) = node.onchain.sweep_index.get(&number) {
        return Ok(node.wallet.script(*index, wallet::AddressKind::Taproot));
    }
    // Within one turn it may be asked for twice: the second index takes the first one's place, and
    // both are ours.
    let index = wallet::spend::next_index(node, turn)?;
    store::set_sweep_index(turn.db, number, index)?;
    turn.install(node, move |onchain| {
        onchain.sweep_index.insert(number, index);
    });
    Ok(node.wallet.script(index, wallet::AddressKind::Taproot))
}

/// A transaction that was in a block and is not: sent again, whoever made it.
pub(super) fn again(node: &Scope, turn: &mut Turn<'_>, tx: &Transaction) -> Result<(), Stop> {
    broadcast(node, turn, tx, BroadcastFor::Nobody)
}
