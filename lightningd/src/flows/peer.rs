//! What connectd says: connections begin and end, messages come for channels; and which peers are
//! dialled again.

use crate::kernel::turn::Turn;
use crate::kernel::waiting::answer_all;
use crate::kernel::waits::For;
use crate::kernel::words::event::Event;
use crate::kernel::words::news::News;
use crate::node::Node;
use crate::rooms::channels;
use crate::rooms::peers::line::{order, refuse, tell};
use crate::rooms::peers::view::pong;
use crate::rooms::peers::{connectd, connections};
use crate::sys::fatal::Stop;
use crate::sys::log::said;
use primitives::{ChannelId, ChannelNumber, NodeId};
use std::time::Instant;
use wire::connectd::{Connected, Disconnect, FromConnectd, PeerComplained};
use wire::daemon::LogLevel;

/// connectd said something.
pub fn heard(node: &Node, turn: &mut Turn<'_>, said: FromConnectd) -> Result<(), Stop> {
    match said {
        // `flows::children` took log lines before.
        FromConnectd::Log(_) | FromConnectd::Status(_) | FromConnectd::CustomMessage(_) => Ok(()),
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
            connections::dial_failed(node, turn, &f);
            redial_later(node, turn, f.node);
            Ok(())
        }
        FromConnectd::Disconnected(d) => {
            disconnected(node, turn, (d.node, d.connection), &d.why);
            Ok(())
        }
        FromConnectd::Spoke(s) => channels::spoke::spoke(node, turn, s),
        FromConnectd::Ponged(p) => {
            let result = Ok(pong(p.length));
            answer_all(node, turn, |f| *f == For::Pong(p.ask), &result);
            Ok(())
        }
        FromConnectd::PeerComplained(c) => complained(node, turn, &c),
    }
}

/// A peer has a new connection: its channels want daemons, and callers waited for it.
fn connected(node: &Node, turn: &mut Turn<'_>, c: Connected) -> Result<(), Stop> {
    let (peer, number) = (c.node, c.connection);
    let news = News::Connected { peer, direction: c.direction, address: c.address.clone() };
    let result = connections::begin(node, turn, c)?;
    turn.tell(news);
    turn.also(Event::PeerConnected(peer, number));
    connections::answer_connected(node, turn, peer, result);
    Ok(())
}

/// A connection is over: a peer with channels is dialled again.
fn disconnected(node: &Node, turn: &mut Turn<'_>, connection: (NodeId, u64), why: &str) {
    let peer = connection.0;
    let has_channels = node.channels.count_with(peer) > 0;
    if connections::end(node, turn, connection, why, has_channels) {
        redial_later(node, turn, peer);
    }
}

fn complained(node: &Node, turn: &mut Turn<'_>, c: &PeerComplained) -> Result<(), Stop> {
    let kind = if c.is_error { "error" } else { "warning" };
    let text = format!("the peer sends {kind}: {}", c.text);
    said(LogLevel::Unusual, Some(c.node), "connectd", &text);
    if c.is_error { channels::live::peer_erred(node, turn, c.node, &c.text) } else { Ok(()) }
}

fn redial_later(node: &Node, turn: &mut Turn<'_>, peer: NodeId) {
    if node.channels.wants_connection(peer) {
        connections::redial_later(node, turn, peer);
    }
}

/// The time to dial a peer again has come.
pub fn reconnect(node: &Node, turn: &mut Turn<'_>, peer: NodeId, at: Instant) {
    if connections::redial_due(node, turn, peer, at) && node.channels.wants_connection(peer) {
        connections::dial_known(node, turn, peer);
    }
}

/// Peers may come, and those with channels are dialled. Before the first of them connectd knows
/// whose connections never make room.
pub fn activate(node: &Node, turn: &mut Turn<'_>) {
    tell_funded(node, turn);
    connectd::activate(node, turn);
    for peer in node.channels.peers_to_reconnect() {
        if node.channels.wants_connection(peer) {
            connections::dial_known(node, turn, peer);
        }
    }
}

/// connectd is told which peers have funded channels.
pub fn tell_funded(node: &Node, turn: &mut Turn<'_>) {
    connectd::tell_friends(node, turn, node.channels.funded_peers());
}

/// The pause after connectd's death is over.
pub fn start_connectd(node: &Node, turn: &mut Turn<'_>, at: Instant) -> Result<(), Stop> {
    if connectd::start_again(node, turn, at)? && node.chain.caught_up {
        turn.then(Event::ActivateConnectd);
    }
    Ok(())
}

/// connectd is gone, or could not be started: every connection is over, and so is what waits for
/// one.
pub fn connectd_gone(node: &Node, turn: &mut Turn<'_>, now: Instant) {
    for connection in node.peers.connections() {
        disconnected(node, turn, connection, "connectd died");
    }
    connectd::gone(node, turn, now);
}

/// What this peer wanted was taken back: it hears so, and connectd waits for no daemon.
pub fn refused(
    node: &Node,
    turn: &mut Turn<'_>,
    peer: NodeId,
    connection: u64,
    channel: Option<ChannelId>,
) {
    // An error would end a channel that lives: that one is better tried again on another
    // connection.
    match channel.filter(|channel| node.channels.by_id(peer, *channel).is_none()) {
        Some(channel) => {
            refuse(node, turn, peer, connection, channel);
            tell(node, turn, peer, &wire::Error::new(channel, "internal error"));
        }
        None => order(node, turn, &Disconnect { node: peer, connection }, vec![]),
    }
}

/// The rows of a channel are gone: hsmd hears so, and a peer without another channel leaves nothing
/// behind.
pub fn channel_forgotten(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: ChannelNumber,
    peer: NodeId,
) -> Result<(), Stop> {
    if node.channels.count_with(peer) == 0 {
        connections::has_no_channel(turn, peer);
    }
    Ok(turn.hsm.ask(&wire::hsm::ForgetChannel { peer, channel })?)
}
