//! Children: what they are, which roles they have, and how they are born, heard, answered and
//! ended.
//!
//! Two halves. [`Supervisor`] is the node's knowledge of who does what, changed by
//! installs. [`Nursery`] holds the processes and sockets; only the loop touches it.

use crate::sys::children::{ChildId, Daemon};
use crate::sys::log::said;
use primitives::ChannelNumber;
use std::cell::Cell;
use std::collections::BTreeMap;
use wire::daemon::Log;

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one and only.
    Hsmd,
    /// The one and only.
    Connectd,
    /// This channel, before it is one.
    Opening(ChannelNumber),
    /// This channel, alive.
    Channel(ChannelNumber),
    /// This channel, closing.
    Closing(ChannelNumber),
    /// This channel, on chain.
    Onchain(ChannelNumber),
}

impl Role {
    /// Which executable it takes.
    pub const fn daemon(self) -> Daemon {
        match self {
            Self::Hsmd => Daemon::Hsmd,
            Self::Connectd => Daemon::Connectd,
            Self::Opening(_) => Daemon::Openingd,
            Self::Channel(_) => Daemon::Channeld,
            Self::Closing(_) => Daemon::Closingd,
            Self::Onchain(_) => Daemon::Onchaind,
        }
    }
}

/// Who does what.
#[derive(Debug, Default)]
pub struct Supervisor {
    next: Cell<ChildId>,
    roles: BTreeMap<ChildId, Role>,
    /// What the machine lacks for the boxes of children, for `getinfo`.
    pub sandbox_warning: Option<String>,
}

impl Supervisor {
    /// A number nobody had. One that a refused event took is simply never used.
    pub fn next_id(&self) -> ChildId {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
    /// What this child is for; `None` once it is over.
    pub fn role(&self, child: ChildId) -> Option<Role> {
        self.roles.get(&child).copied()
    }
    /// A child has this role from now on.
    pub fn assign(&mut self, child: ChildId, role: Role) {
        self.roles.insert(child, role);
    }
    /// It is gone, or what it still says does not count.
    pub fn forget(&mut self, child: ChildId) {
        self.roles.remove(&child);
    }
}

/// A line of a child's, under its name.
pub fn log_line(role: Role, peer: Option<primitives::NodeId>, line: &Log) {
    said(line.level, peer, &source(role), &line.text);
}

pub fn source(role: Role) -> String {
    match role {
        Role::Hsmd => "hsmd".to_owned(),
        Role::Connectd => "connectd".to_owned(),
        Role::Opening(n) => format!("openingd-chan#{n}"),
        Role::Channel(n) => format!("channeld-chan#{n}"),
        Role::Closing(n) => format!("closingd-chan#{n}"),
        Role::Onchain(n) => format!("onchaind-chan#{n}"),
    }
}
