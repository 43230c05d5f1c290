//! A step of a commitment dance is stored: rows of the channel, of the switch and of payments in
//! one event, before the peer hears of the step.

use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::rooms::channels::{Channel, live, persist};
use crate::rooms::htlcs;
use crate::sys::children::ChildId;
use crate::sys::fatal::Stop;
use wire::channeld::Persist;

/// Stores what channeld asks for, or refuses all of it: each HTLC of ours must be one that was
/// ordered.
pub fn store(
    node: &Node,
    turn: &mut Turn<'_>,
    child: ChildId,
    (channel, ask): (&Channel, Persist),
) -> Result<(), Stop> {
    let sum = persist::check(channel, &ask)?;
    for ours in persist::added_by_us(&ask) {
        htlcs::decide::bind(node, turn, channel, ours)?;
    }
    persist::keep(node, turn, channel, ask, sum)?;
    live::answer::<Persist>(turn, child);
    Ok(())
}
