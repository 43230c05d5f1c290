//! Children begin and end.

use crate::kernel::children::{Role, source};
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::{Life, Scope, Supervisor};
use crate::sys::children::{ChildId, ChildSpec};
use crate::sys::form::Caller;
use primitives::NodeId;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long a child may take to end that has said its last word.
const TO_END: Duration = Duration::from_secs(3);

/// A child has said its last word. It ends by itself; one that is captured, and does not, is
/// killed.
pub fn ends(turn: &mut Turn<'_>, child: ChildId) {
    turn.at(Instant::now() + TO_END, Event::Overdue(child));
}

/// The node ends, and this caller hears so last.
pub fn shut_down(node: &Scope, turn: &mut Turn<'_>, caller: Option<Caller>) {
    turn.install(node, |life: &mut Life| life.shutting_down = true);
    turn.say(Outgoing::ShutDown(caller));
}

/// A child is gone, or what it still says does not count.
pub fn forget(node: &Scope, turn: &mut Turn<'_>, child: ChildId) {
    turn.install(node, move |supervisor: &mut Supervisor| supervisor.forget(child));
}

/// A child of this number begins with this role: its process is started once the turn is committed.
/// `peer`: whose channel it is.
pub fn birth(
    node: &Scope,
    turn: &mut Turn<'_>,
    (id, role): (ChildId, Role),
    peer: Option<NodeId>,
    init: Vec<u8>,
    fds: Vec<OwnedFd>,
) {
    let (daemon, source) = (role.daemon(), source(role));
    turn.say(Outgoing::Spawn(ChildSpec { id, daemon, source, node: peer, init, fds }));
    turn.install(node, move |supervisor: &mut Supervisor| supervisor.assign(id, role));
}
