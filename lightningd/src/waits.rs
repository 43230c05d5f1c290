//! RPC callers that wait for something: what for, and until when.

use crate::events::Event;
use crate::node::Node;
use crate::rpc::{Caller, ConnId, RpcError, RpcRequest, code};
use crate::turn::{Stop, Turn};
use primitives::{BlockHeight, ChannelNumber, NodeId, PaymentHash};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
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
    /// The pong to this ask.
    Pong(u64),
    /// This channel to be closed.
    Close(ChannelNumber),
}

/// Number of one wait, new for each: clients use the same id again and again.
pub type WaitId = u64;

/// Everybody who waits.
#[derive(Debug, Default)]
pub struct Waits {
    all: BTreeMap<WaitId, (Caller, For)>,
    next: Cell<WaitId>,
}

impl Waits {
    /// Is anybody waiting for this?
    pub fn any(&self, matches: impl Fn(&For) -> bool) -> bool {
        self.all.values().any(|(_, f)| matches(f))
    }
    /// A client is gone: it waits for nothing any more.
    pub fn forget(&mut self, conn: ConnId) {
        self.all.retain(|_, (caller, _)| caller.conn != conn);
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
    let waiting = (caller.clone(), what);
    turn.install(move |node| {
        node.waits.all.insert(id, waiting);
    });
    if let Some(seconds) = timeout_seconds {
        // A year is as good as forever, and fits every clock.
        let until = Instant::now() + Duration::from_secs(seconds.min(366 * 86400));
        turn.at(until, Event::RpcTimeout(id));
    }
}

/// Everybody who waits for something like this gets this, and waits no longer.
pub fn answer_all(
    node: &Node,
    turn: &mut Turn<'_>,
    matches: impl Fn(&For) -> bool,
    result: &Result<Value, RpcError>,
) {
    for (id, (caller, _)) in node.waits.all.iter().filter(|(_, (_, f))| matches(f)) {
        turn.reply(caller.clone(), result.clone());
        let id = *id;
        turn.install(move |node| drop(node.waits.all.remove(&id)));
    }
}

/// This peer is connected: whoever waited for that to fund a channel begins.
pub fn fund_now(node: &Node, turn: &mut Turn<'_>, peer: NodeId) {
    for (id, (caller, what)) in &node.waits.all {
        let For::Fund(to, params) = what else { continue };
        if *to != peer {
            continue;
        }
        let id = *id;
        turn.install(move |node| drop(node.waits.all.remove(&id)));
        let (method, params, raw) = ("fundchannel".to_owned(), params.clone(), String::new());
        turn.also(Event::Rpc(caller.clone(), RpcRequest { method, params, raw }));
    }
}

/// A new tip.
pub fn height_is(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) {
    let result = Ok(json!({"blockheight": height.0}));
    answer_all(node, turn, |f| matches!(f, For::Height(h) if *h <= height.0), &result);
}

/// Somebody waited long enough. It may have been answered since.
pub fn timed_out(node: &Node, turn: &mut Turn<'_>, id: WaitId) -> Result<(), Stop> {
    let Some((caller, what)) = node.waits.all.get(&id) else { return Ok(()) };
    let error = match what {
        For::Height(h) => {
            RpcError::new(code::WAIT_TIMEOUT, format!("Timed out while waiting for block {h}"))
        }
        For::Invoice(label) => match node.invoices.by_label(label) {
            Some(invoice) => crate::invoices::rpc::expired(invoice),
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
        For::Pong(_) => RpcError::new(code::LIGHTNINGD, "Timed out while waiting for the pong"),
        For::Close(_) => RpcError::new(code::LIGHTNINGD, "Timed out: the channel is still closing"),
    };
    turn.reply(caller.clone(), Err(error));
    turn.install(move |node| drop(node.waits.all.remove(&id)));
    Ok(())
}
