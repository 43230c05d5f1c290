//! One live channel: what the peer says about it, what the master orders, and the commitment dance
//! between the two.
//!
//! Decide, then do. What follows from a message is decided by the pure verbs of
//! [`channel::Channel`]; then, in the open and in this order: ask hsmd, ask the master, tell the
//! peer. Nothing that binds us is said before the master has it on disk. This daemon knows no
//! secret key, no invoice and no route, opens no file, and is wrong about nothing but its own
//! channel.
//!
//! Where to read on: `live` is the loop; `dance` commits and revokes; `reestablish` begins (again)
//! after a reconnect; `peer` and `orders` hear; `ready`, `shutdown`, `fees` and `onions` each know
//! one subject.
//!
//! //~ Fifth stop of the tour: after openingd, before closingd.
#![deny(clippy::indexing_slicing)]

mod announcement;
mod batch;
mod closing;
mod dance;
mod fees;
mod live;
mod onions;
mod orders;
mod peer;
mod ready;
mod reestablish;
mod shutdown;
#[cfg(test)]
mod tests;

use live::Live;
use std::time::Duration;
use subdaemon::{Child, Failure, Hsm, Orders, Peer};
use wire::channeld::ToChanneld;

/// channeld, from its init to the end of the connection or the hand-over to closingd.
pub fn run(child: Child) -> Result<(), Failure> {
    run_patiently(child, live::REVOCATION_TIMEOUT)
}

/// The same, with another patience for revocations that do not come.
fn run_patiently(mut child: Child, patience: Duration) -> Result<(), Failure> {
    let (order, mut fds) = child.orders.recv_as(ToChanneld::decode_known)?;
    let ToChanneld::ChanneldInit(init) = order else {
        return Err(Failure::internal("the first order is no ChanneldInit"));
    };
    let hsm = Hsm::new(Orders::take_fd(&mut fds, "hsmd client")?);
    let peer = Peer::new(Orders::take_fd(&mut fds, "peer socket")?);
    Live::new(child, hsm, peer, init, patience)?.run()
}
