//! RPC callers that wait for something: what for, and until when.

use crate::kernel::words::rooms::WaitId;
use crate::sys::form::{Caller, ConnId};
use primitives::{ChannelNumber, NodeId, PaymentHash};
use serde_json::Value;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What a caller waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum For {
    /// This height.
    Height(u32),
    /// This invoice to be paid or to expire.
    Invoice(String),
    /// Any invoice paid after this pay_index.
    AnyInvoice(u64),
    /// This part of a payment to end.
    Payment(PaymentHash, u64, u64),
    /// A connection with this peer.
    Connect(NodeId),
    /// A connection with this peer, for a `fundchannel` with these parameters.
    Fund(NodeId, Value),
    /// The end of this connection with this peer.
    Disconnect(NodeId, u64),
    /// The pong to this ask.
    Pong(u64),
    /// This channel to be closed.
    Close(ChannelNumber),
}

/// One who waits.
#[derive(Debug)]
pub struct Wait {
    pub caller: Caller,
    pub what: For,
    pub until: Option<Instant>,
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub struct Waits {
    pub all: BTreeMap<WaitId, Wait>,
    /// Those that do not wait for ever: no longer in here than their wait.
    due: BTreeSet<(Instant, WaitId)>,
    pub next: Cell<WaitId>,
}

impl Waits {
    /// Is anybody waiting for this?
    pub fn any(&self, matches: impl Fn(&For) -> bool) -> bool {
        self.all.values().any(|w| matches(&w.what))
    }
    /// A client is gone: it waits for nothing any more.
    pub fn forget(&mut self, conn: ConnId) {
        let theirs = self.all.iter().filter(|(_, w)| w.caller.conn == conn);
        for id in theirs.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.remove(id);
        }
    }
    /// When the first of them has waited long enough.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
    /// Those that have waited long enough by now.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = WaitId> {
        self.due.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }
    pub fn insert(&mut self, id: WaitId, wait: Wait) {
        self.due.extend(wait.until.map(|at| (at, id)));
        self.all.insert(id, wait);
    }
    pub fn remove(&mut self, id: WaitId) {
        let gone = self.all.remove(&id);
        if let Some(at) = gone.and_then(|w| w.until) {
            self.due.remove(&(at, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn wait(conn: ConnId, until: Option<Instant>) -> Wait {
        let caller = Caller { conn, id: "1".to_owned(), filter: None, notify: false };
        Wait { caller, what: For::Height(7), until }
    }

    #[test]
    fn a_wait_that_is_over_leaves_nothing_behind() {
        let mut waits = Waits::default();
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        for id in 0..1000 {
            waits.insert(id, wait(id % 2, (id % 3 > 0).then_some(now + second * (id as u32))));
        }
        assert_eq!(waits.next_due(), Some(now + second));
        assert_eq!(waits.due(now + second * 4).collect::<Vec<_>>(), [1, 2, 4]);
        waits.remove(1);
        assert_eq!(waits.next_due(), Some(now + second * 2));
        waits.forget(0);
        assert!(waits.due.iter().all(|(_, id)| id % 2 == 1));
        waits.forget(1);
        assert!(waits.all.is_empty() && waits.due.is_empty());
    }
}
