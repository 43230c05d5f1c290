//! Who we are connected to, and connectd, which does the connecting.

pub mod address;
pub mod connectd;
#[cfg(test)]
mod connectd_tests;
pub mod connections;
pub mod dialled;
#[cfg(test)]
mod evil_tests;
pub mod life;
pub mod line;
pub mod store;
pub mod view;

use crate::kernel::floor::scope;
use crate::rooms::peers::life::{Connectd, Doors};
use dialled::Dialled;
use primitives::{Features, NodeId};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use wire::connectd::*;

/// A connection that exchanged `init`.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its number. No connectd gives one again that another gave before.
    pub number: u64,
    /// Since when we know of it.
    pub since: Instant,
    /// Who dialled.
    pub direction: Direction,
    /// Where it goes.
    pub address: Address,
    /// Where the peer says it sees us.
    pub remote_addr: Option<Address>,
    /// What the peer can do.
    pub features: Features,
}

/// A peer that we know something about.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The connection, while there is one.
    pub connection: Option<Connection>,
    /// Where it was last reached by us.
    pub address: Option<Address>,
    /// How long to wait before the next dial.
    pub backoff: Option<Duration>,
    /// When it is dialled again: there is never more than one such time.
    pub redial: Option<Instant>,
}

/// Everybody.
#[derive(Debug, Default)]
pub struct Peers {
    /// By id.
    pub all: BTreeMap<NodeId, Peer>,
    pub connectd: Connectd,
    pub dialled: Dialled,
    doors: Doors,
    /// What connectd was told last of peers with funded channels.
    friends: BTreeSet<NodeId>,
    next_ask: Cell<u64>,
}

scope! {
    /// This room and those below it.
    pub struct Scope { peers: Peers } on crate::rooms::wallet::Scope
}

impl Peers {
    /// Every live connection: its peer and its number.
    pub fn connections(&self) -> Vec<(NodeId, u64)> {
        let live = |(id, p): (&NodeId, &Peer)| p.connection.as_ref().map(|c| (*id, c.number));
        self.all.iter().filter_map(live).collect()
    }
    /// Is there a connectd?
    pub fn has_connectd(&self) -> bool {
        self.connectd.child().is_some()
    }
    /// Forgets a peer without channels, unless it is connected or its address is a row: whoever
    /// comes under a new name each time leaves nothing behind.
    pub fn forget_stranger(&mut self, peer: NodeId) {
        if self.all.get(&peer).is_some_and(|p| p.connection.is_none() && p.address.is_none()) {
            self.all.remove(&peer);
        }
    }
    /// The live connection with this peer.
    pub fn connection(&self, peer: NodeId) -> Option<&Connection> {
        self.all.get(&peer).and_then(|p| p.connection.as_ref())
    }
    pub fn next_ask(&self) -> u64 {
        self.next_ask.set(self.next_ask.get() + 1);
        self.next_ask.get()
    }
}
