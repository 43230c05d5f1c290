//! Callers begin to wait, and are answered when what they wait for is there.

use crate::kernel::turn::Turn;
use crate::kernel::waits::{For, Wait};
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::WaitId;
use crate::kernel::{Scope, Waits};
use crate::sys::form::{Caller, ConnId, RpcError, RpcRequest};
use primitives::{BlockHeight, NodeId};
use serde_json::Value;
use std::time::{Duration, Instant};

/// From now on this caller waits, at most so many seconds.
pub fn add(
    node: &Scope,
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
    turn.install(node, move |waits: &mut Waits| waits.insert(id, wait));
}

/// Everybody who waits for something like this gets this, and waits no longer.
pub fn answer_all(
    node: &Scope,
    turn: &mut Turn<'_>,
    matches: impl Fn(&For) -> bool,
    result: &Result<Value, RpcError>,
) {
    for (id, wait) in node.waits.all.iter().filter(|(_, w)| matches(&w.what)) {
        turn.reply(wait.caller.clone(), result.clone());
        let id = *id;
        turn.install(node, move |waits: &mut Waits| waits.remove(id));
    }
}

/// This peer is connected: whoever waited for that to fund a channel begins.
pub fn fund_now(node: &Scope, turn: &mut Turn<'_>, peer: NodeId) {
    for (id, Wait { caller, what, .. }) in &node.waits.all {
        let For::Fund(to, params) = what else { continue };
        if *to != peer {
            continue;
        }
        let id = *id;
        turn.install(node, move |waits: &mut Waits| waits.remove(id));
        let (method, params, raw) = ("fundchannel".to_owned(), params.clone(), String::new());
        turn.also(Event::Rpc(caller.clone(), RpcRequest { method, params, raw }));
    }
}

/// A new tip.
pub fn height_is(node: &Scope, turn: &mut Turn<'_>, height: BlockHeight) {
    let result = Ok(crate::kernel::view::height(height));
    answer_all(node, turn, |f| matches!(f, For::Height(h) if *h <= height.0), &result);
}

/// A client of the socket hung up: it waits for nothing any more.
pub fn forget(node: &Scope, turn: &mut Turn<'_>, conn: ConnId) {
    turn.install(node, move |waits: &mut Waits| waits.forget(conn));
}

/// This wait is over: its caller was answered.
pub fn end(node: &Scope, turn: &mut Turn<'_>, id: WaitId) {
    turn.install(node, move |waits: &mut Waits| waits.remove(id));
}
