//! The node begins to serve: the RPC socket is opened, connectd is started, and what a crash left
//! half said is said.

use crate::kernel::turn::Turn;
use crate::kernel::words::outgoing::Outgoing;
use crate::node::Node;
use crate::rooms::{chain, channels, htlcs, onchain, payments, peers};
use crate::sys::fatal::Stop;
use crate::sys::version::version;

/// The backend is the right one: open for business, though the chain may not be caught up.
pub fn serve(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    turn.say(Outgoing::OpenRpc);
    peers::connectd::begin(node, turn)?;
    resume(node, turn)?;
    chain::ask::serving(node, turn);
    // The line that scripts wait for.
    let [r, g, b] = node.rgb;
    log::info!(
        "Server started with public key {}, alias {} (color #{r:02x}{g:02x}{b:02x}) and lightningd {}",
        node.id,
        node.alias,
        version()
    );
    Ok(())
}

/// After the load, before peers: what a crash may have left half said.
pub fn resume(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    channels::events::resume(node, turn)?;
    onchain::cases::resume(node, turn);
    payments::ends::fail_unbound(node, turn, None)?;
    htlcs::decide::begin(node, turn)
}
