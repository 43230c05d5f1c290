//! RPC callers that wait for something: what for, and until when.

use crate::kernel::turn::{Stop, Turn};
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::WaitId;
use crate::node::Node;
use crate::sys::form::{Caller, ConnId, RpcError, RpcRequest, code};
use primitives::{BlockHeight, ChannelNumber, NodeId, PaymentHash};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

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
struct Wait {
    caller: Caller,
    what: For,
    until: Option<Instant>,
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub struct Waits {
    all: BTreeMap<WaitId, Wait>,
    /// Those that do not wait for ever: no longer in here than their wait.
    due: BTreeSet<(Instant, WaitId)>,
    next: Cell<WaitId>,
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
    fn insert(&mut self, id: WaitId, wait: Wait) {
        self.due.extend(wait.until.map(|at| (at, id)));
        self.all.insert(id, wait);
    }
    fn remove(&mut self, id: WaitId) {
        let gone = self.all.remove(&id);
        if let Some(at) = gone.and_then(|w| w.until) {
            self.due.remove(&(at, id));
        }
    }
}

/// From now on this caller waits, at most so many seconds.
pub fn add(
    node: &Node,
    turn: &mut Turn<'_>,
    caller: &Caller,
    what: For,
    timeout_seconds: Option<u64>,
) {
    let id = node.waits.next.get();
    node.waits.next.set(id + 1);
    // A year is as good as forever, and fits every clock.
    let seconds = timeout_seconds.map(|s| Duration::from_secs(s.min(366 * 86400)));
    let until = seconds.map(|s| Instant::now() + s);
    let wait = Wait { caller: caller.clone(), what, until };
    turn.install(move |node| node.waits.insert(id, wait));
}

/// Everybody who waits for something like this gets this, and waits no longer.
pub fn answer_all(
    node: &Node,
    turn: &mut Turn<'_>,
    matches: impl Fn(&For) -> bool,
    result: &Result<Value, RpcError>,
) {
    for (id, wait) in node.waits.all.iter().filter(|(_, w)| matches(&w.what)) {
        turn.reply(wait.caller.clone(), result.clone());
        let id = *id;
        turn.install(move |node| node.waits.remove(id));
    }
}

/// This peer is connected: whoever waited for that to fund a channel begins.
pub fn fund_now(node: &Node, turn: &mut Turn<'_>, peer: NodeId) {
    for (id, Wait { caller, what, .. }) in &node.waits.all {
        let For::Fund(to, params) = what else { continue };
        if *to != peer {
            continue;
        }
        let id = *id;
        turn.install(move |node| node.waits.remove(id));
        let (method, params, raw) = ("fundchannel".to_owned(), params.clone(), String::new());
        turn.also(Event::Rpc(caller.clone(), RpcRequest { method, params, raw }));
    }
}

/// A new tip.
pub fn height_is(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) {
    let result = Ok(json!({"blockheight": height.0}));
    answer_all(node, turn, |f| matches!(f, For::Height(h) if *h <= height.0), &result);
}

/// Somebody waited long enough. It may have been answered in this very round.
pub fn timed_out(node: &Node, turn: &mut Turn<'_>, id: WaitId) -> Result<(), Stop> {
    let Some(Wait { caller, what, .. }) = node.waits.all.get(&id) else { return Ok(()) };
    let error = match what {
        For::Height(h) => {
            RpcError::new(code::WAIT_TIMEOUT, format!("Timed out while waiting for block {h}"))
        }
        For::Invoice(label) => match node.invoices.by_label(label) {
            Some(invoice) => crate::api::rpc::invoices::expired(invoice),
            None => RpcError::new(code::LIGHTNINGD, "the invoice is gone"),
        },
        For::AnyInvoice(_) => RpcError::new(
            code::INVOICE_WAIT_TIMED_OUT,
            "Timed out while waiting for invoice to be paid",
        ),
        For::Payment(..) => RpcError::new(code::PAY_IN_PROGRESS, "Timed out while waiting"),
        For::Connect(_) | For::Fund(..) => {
            RpcError::new(code::CONNECT_ALL_ADDRESSES_FAILED, "Timed out while connecting")
        }
        For::Disconnect(..) => RpcError::new(code::LIGHTNINGD, "Timed out while disconnecting"),
        For::Pong(_) => RpcError::new(code::LIGHTNINGD, "Timed out while waiting for the pong"),
        For::Close(_) => RpcError::new(code::LIGHTNINGD, "Timed out: the channel is still closing"),
    };
    turn.reply(caller.clone(), Err(error));
    turn.install(move |node| node.waits.remove(id));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
