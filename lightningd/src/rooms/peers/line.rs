//! Orders to connectd: whom to dial, what to say to a peer, which socket serves a channel.

use crate::kernel::turn::Turn;
use crate::kernel::words::outgoing::Outgoing;
use crate::rooms::peers::Scope;
use primitives::{ChannelId, NodeId};
use std::os::fd::OwnedFd;
use wire::connectd::*;
use wire::{Bytes, Message};

pub fn order<M: Message>(node: &Scope, turn: &mut Turn<'_>, message: &M, fds: Vec<OwnedFd>) {
    if let Some(child) = node.peers.connectd.child() {
        turn.say(Outgoing::Order { child, body: message.encode(), fds });
    }
}

/// Has connectd dial this peer.
pub fn dial(node: &Scope, turn: &mut Turn<'_>, peer: NodeId, addresses: Vec<Address>) {
    order(node, turn, &Connect { node: peer, addresses: addresses.clone() }, vec![]);
    turn.install(node, move |peers| peers.dialled.begin(peer, addresses));
}

/// Has connectd serve a channel id of a peer by this socket.
pub fn attach(
    node: &Scope,
    turn: &mut Turn<'_>,
    peer: NodeId,
    connection: u64,
    channel: ChannelId,
    socket: OwnedFd,
) {
    order(node, turn, &Attach { node: peer, connection, channel }, vec![socket]);
}

/// Says something to a peer for a channel that no daemon serves.
pub fn tell<M: Message>(node: &Scope, turn: &mut Turn<'_>, peer: NodeId, message: &M) {
    if let Some(connection) = node.peers.connection(peer) {
        let message = Bytes(message.encode());
        order(node, turn, &Send { node: peer, connection: connection.number, message }, vec![]);
    }
}

/// What waits for this channel id is not wanted.
pub fn refuse(
    node: &Scope,
    turn: &mut Turn<'_>,
    peer: NodeId,
    connection: u64,
    channel: ChannelId,
) {
    order(node, turn, &Refuse { node: peer, connection, channel }, vec![]);
}

/// Closes the connection with a peer.
pub fn hang_up(node: &Scope, turn: &mut Turn<'_>, peer: NodeId) {
    if let Some(connection) = node.peers.connection(peer) {
        order(node, turn, &Disconnect { node: peer, connection: connection.number }, vec![]);
    }
}
