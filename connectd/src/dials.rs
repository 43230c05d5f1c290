//! Dials under way, and what each waits for.

use crate::conn::ConnId;
#[cfg(feature = "fuzzing")]
use crate::limits::{MAX_ADDRESSES, MAX_DIALS, MAX_LOOKUPS, MAX_WAITING_DIALS};
use primitives::NodeId;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;
use wire::connectd::{Address, DialFailure};

/// Every dial.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    pub(crate) dials: HashMap<NodeId, Dial>,
    /// Dials without a place yet.
    pub(crate) waiting: VecDeque<NodeId>,
    pub(crate) lookups: HashMap<u64, Lookup>,
}

#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) addresses: VecDeque<Address>,
    pub(crate) failures: Vec<DialFailure>,
    pub(crate) current: Current,
}

/// The event that a dial waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Current {
    /// A place among [`MAX_DIALS`].
    Place,
    /// A name.
    Lookup(u64),
    /// A connection.
    Conn(ConnId),
    /// The peer's own connection, which crossed ours and was preferred.
    Duplicate,
}

#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) node: NodeId,
    pub(crate) address: Address,
    pub(crate) until: Instant,
}

impl Dials {
    pub(crate) fn active(&self) -> usize {
        self.dials.values().filter(|dial| dial.current != Current::Place).count()
    }

    /// Are dials within their bounds?
    #[cfg(feature = "fuzzing")]
    pub(crate) fn check(&self) {
        assert!(self.active() <= MAX_DIALS && self.waiting.len() <= MAX_WAITING_DIALS);
        assert!(self.lookups.len() <= MAX_LOOKUPS);
        assert!(self.dials.values().all(|dial| dial.addresses.len() <= MAX_ADDRESSES));
        assert!(self.waiting.iter().all(|node| self.dials.contains_key(node)));
    }
}
