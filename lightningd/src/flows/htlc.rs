//! What the switch does across rooms: it decides with what the chain says of its HTLCs.

use crate::flows::hooks;
use crate::flows::hooks::htlc_accepted;
use crate::kernel::plugins::hooks::close;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::hooks::{HookPoint, Verdict};
use crate::kernel::words::rooms::HtlcEvent;
use crate::node::Node;
use crate::rooms::htlcs::decide::Due;
use crate::rooms::htlcs::{OnChain, decide, receive};
use crate::rooms::onchain;
use crate::sys::fatal::Stop;
use primitives::{ChannelNumber, HtlcId, Side};

/// Runs `run` with what the rooms of the chain say of HTLCs.
pub fn with_chain<T>(node: &Node, run: impl FnOnce(&OnChain<'_>) -> T) -> T {
    let received = |channel, id| onchain::watch::received_output(node, channel, id);
    let is_unresolved = |channel, id, incoming| onchain::is_unresolved(node, channel, id, incoming);
    run(&OnChain { received: &received, is_unresolved: &is_unresolved })
}

/// A received HTLC is to be decided on: by plugins first, if its payload can be read.
pub fn decide(node: &Node, turn: &mut Turn<'_>, channel: ChannelNumber, id: HtlcId) {
    let point = HookPoint::HtlcAccepted(channel, id);
    match decide::due(node, channel, id) {
        None => {}
        Some(Due::Payload) => hooks::ask(node, turn, point),
        // There is nothing to ask about.
        Some(Due::Unreadable) => turn.also(Event::Decided(htlc_accepted::go_on(point, None))),
    }
}

/// Plugins have decided, or there was none to ask.
pub fn decided(node: &Node, turn: &mut Turn<'_>, verdict: Verdict) -> Result<(), Stop> {
    let Verdict::HtlcAccepted(channel, id, verdict) = verdict;
    with_chain(node, |chain| decide::decide(node, turn, (channel, id), &verdict, chain))
}

/// A block joined the chain: an HTLC that plugins hold and that cannot wait any longer is failed
/// back, before the peer closes the channel for it.
pub fn end_held(node: &Node, turn: &mut Turn<'_>) {
    for point in node.plugins.open_hooks.keys() {
        let HookPoint::HtlcAccepted(number, id) = *point;
        let live = node.channels.all.get(&number).and_then(|c| c.htlc(Side::Remote, id));
        let Some(live) = live.filter(|l| receive::is_late(node, l.htlc.expiry)) else { continue };
        log::warn!(
            "failing HTLC {id} of channel {number}, which a plugin holds: it expires at {}",
            live.htlc.expiry
        );
        close(node, turn, *point);
        turn.also(Event::Decided(htlc_accepted::default(*point)));
    }
}

/// An event of the switch.
pub fn handle(node: &Node, turn: &mut Turn<'_>, event: HtlcEvent) -> Result<(), Stop> {
    with_chain(node, |chain| decide::handle(node, turn, event, chain))
}
