//! Who we are connected to, and connectd, which does the connecting.

pub mod address;
pub mod connectd;
#[cfg(test)]
mod connectd_tests;
pub mod dialled;
#[cfg(test)]
mod evil_tests;
pub mod line;
pub mod store;
pub mod view;

use crate::kernel::turn::{Stop, Turn};
use crate::kernel::waits::For;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::ChannelEvent;
use crate::node::Node;
use crate::rooms::peers::line::{dial, order, refuse, tell};
use crate::sys::form::{RpcError, code};
use address::MAX_HOST;
use connectd::{Connectd, Doors};
use dialled::Dialled;
use primitives::{ChannelId, ChannelNumber, Features, NodeId};
use serde_json::json;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use wire::connectd::*;
use wire::daemon::LogLevel;

/// Between two dials of a peer with channels: it doubles from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Connections at a time. connectd has at most 1500: more are not true.
const MAX_CONNECTIONS: usize = 2000;

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
    redial: Option<Instant>,
}

/// Everybody.
#[derive(Debug, Default)]
pub struct Peers {
    /// By id.
    pub all: BTreeMap<NodeId, Peer>,
    connectd: Connectd,
    dialled: Dialled,
    doors: Doors,
    /// What connectd was told last of peers with funded channels.
    friends: BTreeSet<NodeId>,
    next_ask: Cell<u64>,
}

impl Peers {
    /// The live connection with this peer.
    pub fn connection(&self, peer: NodeId) -> Option<&Connection> {
        self.all.get(&peer).and_then(|p| p.connection.as_ref())
    }
    pub fn next_ask(&self) -> u64 {
        self.next_ask.set(self.next_ask.get() + 1);
        self.next_ask.get()
    }
}

/// connectd said something.
pub fn heard(node: &Node, turn: &mut Turn<'_>, said: FromConnectd) -> Result<(), Stop> {
    match said {
        FromConnectd::Log(_) | FromConnectd::Status(_) => Ok(()),
        FromConnectd::Failed(f) => {
            crate::sys::log::said(
                LogLevel::Broken,
                None,
                "connectd",
                &format!("failed: {}", f.text),
            );
            Ok(())
        }
        FromConnectd::Listening(l) => connectd::listening(node, turn, l),
        FromConnectd::Connected(c) => connected(node, turn, c),
        FromConnectd::ConnectFailed(f) => {
            connect_failed(node, turn, &f);
            Ok(())
        }
        FromConnectd::Disconnected(d) => disconnected(node, turn, d.node, d.connection, &d.why),
        FromConnectd::Spoke(s) => crate::rooms::channels::spoke(node, turn, s),
        FromConnectd::Ponged(p) => {
            let result = Ok(json!({"totlen": p.length}));
            crate::kernel::waiting::answer_all(node, turn, |f| *f == For::Pong(p.ask), &result);
            Ok(())
        }
        FromConnectd::PeerComplained(c) => {
            let kind = if c.is_error { "error" } else { "warning" };
            crate::sys::log::said(
                LogLevel::Unusual,
                Some(c.node),
                "connectd",
                &format!("the peer sends {kind}: {}", c.text),
            );
            if c.is_error {
                crate::rooms::channels::live::peer_erred(node, turn, c.node, &c.text)
            } else {
                Ok(())
            }
        }
        FromConnectd::CustomMessage(_) => Ok(()),
    }
}

/// May there be such a connection? connectd may be captured: what it makes up shall fill neither memory nor rows.
fn may_be_there(node: &Node, c: &Connected) -> Result<(), Stop> {
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

fn connected(node: &Node, turn: &mut Turn<'_>, mut c: Connected) -> Result<(), Stop> {
    may_be_there(node, &c)?;
    // As connectd does, which may be captured.
    c.features = c.features.kept();
    let id = c.node;
    crate::sys::log::said(
        LogLevel::Debug,
        Some(id),
        "connectd",
        &format!(
            "connected {} {}:{}",
            if c.direction == Direction::Out { "to" } else { "from" },
            c.address.host,
            c.address.port
        ),
    );
    let outgoing = c.direction == Direction::Out && node.peers.dialled.may_reach(id, &c.address);
    if outgoing {
        store::put(turn.db, id, &c.address)?;
    }
    let result = Ok(crate::rooms::peers::view::connect_result(id, &c));
    // A new connection means that the one before is over.
    let before = |f: &For| matches!(f, For::Disconnect(p, n) if *p == id && *n != c.connection);
    crate::kernel::waiting::answer_all(node, turn, before, &Ok(json!({})));
    let number = c.connection;
    let connection = Connection {
        number,
        since: Instant::now(),
        direction: c.direction,
        address: c.address.clone(),
        remote_addr: c.remote_addr,
        features: c.features,
    };
    turn.install(move |node| {
        if outgoing {
            node.peers.dialled.end(id);
        }
        let peer = node.peers.all.entry(id).or_default();
        peer.connection = Some(connection);
        peer.backoff = None;
        if outgoing {
            peer.address = Some(c.address);
        }
    });
    turn.also(Event::Channel(ChannelNumber(0), ChannelEvent::PeerConnected(id, number)));
    crate::kernel::waiting::answer_all(node, turn, |f| *f == For::Connect(id), &result);
    crate::kernel::waiting::fund_now(node, turn, id);
    Ok(())
}

/// Does this wait for a connection with this peer?
pub fn waits_for(what: &For, peer: NodeId) -> bool {
    matches!(what, For::Connect(p) | For::Fund(p, _) if *p == peer)
}

fn connect_failed(node: &Node, turn: &mut Turn<'_>, f: &ConnectFailed) {
    let all: Vec<_> = f.failures.iter().map(|f| format!("{}: {}", f.address, f.why)).collect();
    let text = format!("All addresses failed: {}", all.join("; "));
    crate::sys::log::said(LogLevel::Debug, Some(f.node), "connectd", &text);
    let error = Err(RpcError::new(code::CONNECT_ALL_ADDRESSES_FAILED, text));
    crate::kernel::waiting::answer_all(node, turn, |w| waits_for(w, f.node), &error);
    let peer = f.node;
    turn.install(move |node| node.peers.dialled.end(peer));
    schedule_reconnect(node, turn, f.node);
}

fn disconnected(
    node: &Node,
    turn: &mut Turn<'_>,
    peer: NodeId,
    number: u64,
    why: &str,
) -> Result<(), Stop> {
    let over = |f: &For| *f == For::Disconnect(peer, number);
    crate::kernel::waiting::answer_all(node, turn, over, &Ok(json!({})));
    if node.peers.connection(peer).is_none_or(|c| c.number != number) {
        return Ok(());
    }
    crate::sys::log::said(LogLevel::Debug, Some(peer), "connectd", &format!("disconnected: {why}"));
    turn.install(move |node| {
        let strange = node.channels.count_with(peer) == 0;
        if let Some(p) = node.peers.all.get_mut(&peer) {
            p.connection = None;
            // Whoever comes under a new name each time leaves nothing behind.
            if strange && p.address.is_none() {
                node.peers.all.remove(&peer);
            }
        }
    });
    let gone =
        Err(RpcError::new(code::CONNECT_DISCONNECTED_DURING, format!("disconnected: {why}")));
    crate::kernel::waiting::answer_all(node, turn, |f| waits_for(f, peer), &gone);
    schedule_reconnect(node, turn, peer);
    Ok(())
}

/// A peer with channels is dialled again, each time later.
fn schedule_reconnect(node: &Node, turn: &mut Turn<'_>, peer: NodeId) {
    if node.shutting_down
        || node.config.flag("dev-no-reconnect")
        || !node.channels.wants_connection(peer)
    {
        return;
    }
    let Some(known) = node.peers.all.get(&peer).filter(|p| p.address.is_some()) else { return };
    let wait = known.backoff.unwrap_or(FIRST_RETRY);
    let next = (wait * 2).min(LAST_RETRY);
    let at = Instant::now() + wait;
    if known.redial.is_some_and(|before| before <= at) {
        return;
    }
    turn.install(move |node| {
        if let Some(p) = node.peers.all.get_mut(&peer) {
            p.backoff = Some(next);
            p.redial = Some(at);
        }
    });
    turn.at(at, Event::Reconnect(peer, at));
}

/// The time to dial a peer again has come.
pub fn reconnect(node: &Node, turn: &mut Turn<'_>, peer: NodeId, at: Instant) -> Result<(), Stop> {
    if node.peers.all.get(&peer).is_none_or(|p| p.redial != Some(at)) {
        return Ok(());
    }
    turn.install(move |node| {
        if let Some(p) = node.peers.all.get_mut(&peer) {
            p.redial = None;
        }
    });
    dial_again(node, turn, peer);
    Ok(())
}

/// Dials a peer with channels, if there is still a reason to.
fn dial_again(node: &Node, turn: &mut Turn<'_>, peer: NodeId) {
    if node.peers.connection(peer).is_some()
        || !node.channels.wants_connection(peer)
        || node.config.flag("offline")
        || node.peers.connectd.child().is_none()
    {
        return;
    }
    if let Some(address) = node.peers.all.get(&peer).and_then(|p| p.address.clone()) {
        dial(node, turn, peer, vec![address]);
    }
}

/// What this peer wanted was taken back: it hears so, and connectd waits for no daemon.
pub fn refused(
    node: &Node,
    turn: &mut Turn<'_>,
    peer: NodeId,
    connection: u64,
    channel: Option<ChannelId>,
) {
    // An error would end a channel that lives: that one is better tried again on another connection.
    match channel.filter(|channel| node.channels.by_id(peer, *channel).is_none()) {
        Some(channel) => {
            refuse(node, turn, peer, connection, channel);
            tell(node, turn, peer, &wire::Error::new(channel, "internal error"));
        }
        None => order(node, turn, &Disconnect { node: peer, connection }, vec![]),
    }
}
