//! What becomes of forwards that were failed back early: their outgoing HTLC ends after all, or
//! their channel.

use crate::kernel::turn::Turn;
use crate::rooms::htlcs::{Early, Removed, Scope, store};
use crate::sys::fatal::Stop;
use primitives::*;

/// The outgoing HTLC of a forward that has its end already was resolved, perhaps not for the first
/// time.
pub(super) fn resolved(
    node: &Scope,
    turn: &mut Turn<'_>,
    index: u64,
    how: &Removed,
) -> Result<(), Stop> {
    let Some(early) = node.htlcs.early.get(&index).filter(|e| !e.lost) else { return Ok(()) };
    match how {
        Removed::Fulfilled(_) => {
            log::warn!(
                "lost {}: the peer of channel {} showed the preimage of forward {index} after that was failed back to keep channel {} open",
                early.amount,
                early.outgoing,
                early.incoming
            );
            let early = Early { lost: true, ..*early };
            store::add_early(turn.db, index, &early)?;
            turn.install(node, move |htlcs| _ = htlcs.early.insert(index, early));
        }
        Removed::Failed(_) | Removed::Malformed { .. } | Removed::OnChain | Removed::Here(_) => {
            store::remove_early(turn.db, index)?;
            turn.install(node, move |htlcs| _ = htlcs.early.remove(&index));
        }
    }
    Ok(())
}

/// A channel is over: what was failed back to keep it open counts no more.
pub fn forget(turn: &mut Turn<'_>, incoming: ChannelNumber) -> Result<(), Stop> {
    store::remove_early_of(turn.db, incoming)?;
    turn.install_as::<Scope, _>(move |htlcs| {
        htlcs.early.retain(|_, early| early.incoming != incoming)
    });
    Ok(())
}
