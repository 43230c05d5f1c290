//! A spend of a channel's funding whose block left the chain before its onchaind had said whose
//! commitment it is: our rows tell that, so that our newest commitment is published again where
//! that is safe. What its outputs are stays with onchaind.

use super::commitments;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::ChannelEvent;
use crate::rooms::channels;
use crate::rooms::channels::state::StateTrust;
use crate::rooms::channels::{Channel, Owner};
use crate::sys::fatal::Stop;
use bitcoin::Transaction;
use channel::commitment::number_in;
use primitives::*;
use wire::channel_data::CommitmentState;
use wire::daemon::LogLevel;

/// Which commitment transaction a spend of the funding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FundingSpend {
    /// Our newest, or one of the peer's that is not revoked. BOLT 2: two at most.
    Valid,
    /// A revoked one of the peer's; or an old one of ours, which has such a number too.
    Revoked,
    /// Maybe our newest: hsmd did not give its point.
    Unclear,
    /// None that our rows know: our data is older than the channel.
    Unknown,
}

/// Our newest commitment is published once more if the spend that left the chain was a valid
/// commitment.
pub(super) fn left(
    turn: &mut Turn<'_>,
    channel: &Channel,
    spend: &Transaction,
) -> Result<(), Stop> {
    // Rows that make no channel sign nothing.
    let Ok(value) = channel::Channel::new(channel.live.clone()) else { return Ok(()) };
    // Ours is published only once its channeld has ended. Before that hsmd is not asked: the rows
    // may be behind it.
    let may_be_ours = number(&value, spend) == value.commitment().local;
    let point = if may_be_ours && channel.owner == Owner::Nobody {
        let (seed, newest) =
            (crate::rooms::channels::seed::hsm_seed(channel), value.commitment().local);
        turn.hsm.commitment_point(channel.peer, channel.number, seed, newest)?.ok()
    } else {
        None
    };
    match judge(&value, spend, point) {
        // BOLT 5: at the latest when an HTLC expires the channel must be on chain, and the peer's
        // may be too cheap to come again.
        FundingSpend::Valid if channel.trust != StateTrust::Lost => {
            turn.then(Event::Channel(channel.number, ChannelEvent::Broadcast));
        }
        // As after onchaind's answer: ours would pay us less than a revoked one.
        FundingSpend::Valid | FundingSpend::Revoked | FundingSpend::Unclear => {}
        // As after onchaind's answer: ours may be revoked, and must not be published after a
        // restart either.
        FundingSpend::Unknown => {
            let text = format!("{} is a commitment that we do not know", spend.compute_txid());
            channel.log(LogLevel::Broken, &text);
            channels::change::lose_state(channel, turn)?;
        }
    }
    Ok(())
}

/// The number that a spend of the funding shows. One that is no commitment has that of none.
fn number(value: &channel::Channel, spend: &Transaction) -> CommitmentNumber {
    number_in(value.constants(), spend).unwrap_or(CommitmentNumber::LAST)
}

/// Which commitment `spend` is. `local_point`: ours of our newest commitment, if hsmd gave it.
pub(super) fn judge(
    value: &channel::Channel,
    spend: &Transaction,
    local_point: Option<Point>,
) -> FundingSpend {
    let (number, txid) = (number(value, spend), spend.compute_txid());
    let is_spend = |state: &CommitmentState| {
        let built = commitments::transaction(value.constants(), state);
        built.is_some_and(|tx| tx.compute_txid() == txid)
    };
    if value.remote_commitment(number).as_ref().is_some_and(is_spend) {
        return FundingSpend::Valid;
    }
    if number == value.commitment().local {
        match local_point {
            Some(point) if is_spend(&value.local_commitment(point)) => return FundingSpend::Valid,
            Some(_) => {}
            None => return FundingSpend::Unclear,
        }
    }
    if number < value.revoked().remote { FundingSpend::Revoked } else { FundingSpend::Unknown }
}
