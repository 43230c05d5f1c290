//! Connections begin and end, dials fail and are repeated: the rows, the values, and the callers
//! that waited.

use crate::kernel::turn::Turn;
use crate::kernel::waiting::{answer_all, fund_now};
use crate::kernel::waits::For;
use crate::kernel::words::event::Event;
use crate::rooms::peers::address::MAX_HOST;
use crate::rooms::peers::line::dial;
use crate::rooms::peers::view::{connect_result, disconnected as disconnected_result};
use crate::rooms::peers::{Connection, Scope, store};
use crate::sys::fatal::Stop;
use crate::sys::form::{RpcError, code};
use crate::sys::log::said;
use primitives::NodeId;
use serde_json::Value;
use std::time::{Duration, Instant};
use wire::connectd::{ConnectFailed, Connected, Direction};
use wire::daemon::LogLevel;

/// Between two dials of a peer with channels: it doubles from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Connections at a time. connectd has at most 1500: more are not true.
pub const MAX_CONNECTIONS: usize = 2000;

/// `Err` unless there may be such a connection. connectd may be captured: what it makes up shall
/// fill neither memory nor rows.
fn may_be_there(node: &Scope, c: &Connected) -> Result<(), Stop> {
    if c.node.point().is_none() || c.node == node.id {
        return Err(Stop::refused(format!("{} is no peer's id", c.node)));
    }
    let hosts = std::iter::once(&c.address).chain(&c.remote_addr).map(|a| a.host.len());
    if hosts.max().is_some_and(|longest| longest > MAX_HOST) {
        return Err(Stop::refused(format!("its host has more than {MAX_HOST} bytes")));
    }
    let others = node.peers.all.iter().filter(|(id, p)| p.connection.is_some() && **id != c.node);
    if others.count() >= MAX_CONNECTIONS {
        return Err(Stop::refused(format!("there are {MAX_CONNECTIONS} connections already")));
    }
    Ok(())
}

/// A peer has a new connection. Returns what `connect` answers.
pub fn begin(node: &Scope, turn: &mut Turn<'_>, mut c: Connected) -> Result<Value, Stop> {
    may_be_there(node, &c)?;
    // As connectd does, which may be captured.
    c.features = c.features.kept();
    let (id, number) = (c.node, c.connection);
    let way = if c.direction == Direction::Out { "to" } else { "from" };
    let text = format!("connected {way} {}:{}", c.address.host, c.address.port);
    said(LogLevel::Debug, Some(id), "connectd", &text);
    let outgoing = c.direction == Direction::Out && node.peers.dialled.may_reach(id, &c.address);
    if outgoing {
        store::put(turn.db, id, &c.address)?;
    }
    let result = connect_result(id, &c);
    // A new connection means that the one before is over.
    let before = |f: &For| matches!(f, For::Disconnect(p, n) if *p == id && *n != number);
    answer_all(node, turn, before, &Ok(disconnected_result()));
    let connection = Connection {
        number,
        since: Instant::now(),
        direction: c.direction,
        address: c.address.clone(),
        remote_addr: c.remote_addr,
        features: c.features,
    };
    turn.install(node, move |peers| {
        if outgoing {
            peers.dialled.end(id);
        }
        let peer = peers.all.entry(id).or_default();
        peer.connection = Some(connection);
        peer.backoff = None;
        if outgoing {
            peer.address = Some(c.address);
        }
    });
    Ok(result)
}

/// Callers of `connect` and `fundchannel` that waited for this peer go on.
pub fn answer_connected(node: &Scope, turn: &mut Turn<'_>, peer: NodeId, result: Value) {
    answer_all(node, turn, |f| *f == For::Connect(peer), &Ok(result));
    fund_now(node, turn, peer);
}

/// Does this wait for a connection with this peer?
pub fn waits_for(what: &For, peer: NodeId) -> bool {
    matches!(what, For::Connect(p) | For::Fund(p, _) if *p == peer)
}

/// connectd reached a peer at none of the addresses that it was told.
pub fn dial_failed(node: &Scope, turn: &mut Turn<'_>, f: &ConnectFailed) {
    let all: Vec<_> = f.failures.iter().map(|f| format!("{}: {}", f.address, f.why)).collect();
    let text = format!("All addresses failed: {}", all.join("; "));
    said(LogLevel::Debug, Some(f.node), "connectd", &text);
    let error = Err(RpcError::new(code::CONNECT_ALL_ADDRESSES_FAILED, text));
    answer_all(node, turn, |w| waits_for(w, f.node), &error);
    let peer = f.node;
    turn.install(node, move |peers| peers.dialled.end(peer));
}

/// A connection is over. True if it was the one that the peer has. `has_channels`: the peer is
/// remembered even without an address.
pub fn end(
    node: &Scope,
    turn: &mut Turn<'_>,
    (peer, number): (NodeId, u64),
    why: &str,
    has_channels: bool,
) -> bool {
    answer_all(node, turn, |f| *f == For::Disconnect(peer, number), &Ok(disconnected_result()));
    if node.peers.connection(peer).is_none_or(|c| c.number != number) {
        return false;
    }
    said(LogLevel::Debug, Some(peer), "connectd", &format!("disconnected: {why}"));
    turn.install(node, move |peers| {
        if let Some(p) = peers.all.get_mut(&peer) {
            p.connection = None;
        }
        if !has_channels {
            peers.forget_stranger(peer);
        }
    });
    let text = format!("disconnected: {why}");
    let gone = Err(RpcError::new(code::CONNECT_DISCONNECTED_DURING, text));
    answer_all(node, turn, |f| waits_for(f, peer), &gone);
    true
}

/// The last channel with this peer is forgotten.
pub fn has_no_channel(turn: &mut Turn<'_>, peer: NodeId) {
    turn.install_as::<Scope, _>(move |peers| peers.forget_stranger(peer));
}

/// A peer with channels is dialled again, each time later.
pub fn redial_later(node: &Scope, turn: &mut Turn<'_>, peer: NodeId) {
    if node.life.shutting_down || node.config.options.dev_no_reconnect {
        return;
    }
    let Some(known) = node.peers.all.get(&peer).filter(|p| p.address.is_some()) else { return };
    let wait = known.backoff.unwrap_or(FIRST_RETRY);
    let next = (wait * 2).min(LAST_RETRY);
    let at = Instant::now() + wait;
    if known.redial.is_some_and(|before| before <= at) {
        return;
    }
    turn.install(node, move |peers| {
        if let Some(p) = peers.all.get_mut(&peer) {
            p.backoff = Some(next);
            p.redial = Some(at);
        }
    });
    turn.at(at, Event::Reconnect(peer, at));
}

/// The time to dial a peer again has come. False if another time was set meanwhile.
pub fn redial_due(node: &Scope, turn: &mut Turn<'_>, peer: NodeId, at: Instant) -> bool {
    if node.peers.all.get(&peer).is_none_or(|p| p.redial != Some(at)) {
        return false;
    }
    turn.install(node, move |peers| {
        if let Some(p) = peers.all.get_mut(&peer) {
            p.redial = None;
        }
    });
    true
}

/// Dials a peer where it was reached last, if it is not connected and connectd is there.
pub fn dial_known(node: &Scope, turn: &mut Turn<'_>, peer: NodeId) {
    let is_connected = node.peers.connection(peer).is_some();
    if is_connected || node.config.options.offline || !node.peers.has_connectd() {
        return;
    }
    if let Some(address) = node.peers.all.get(&peer).and_then(|p| p.address.clone()) {
        dial(node, turn, peer, vec![address]);
    }
}
