//! What the peer of a failed or closed channel hears: an `error`, once per connection, and never in
//! answer to one. BOLT 1, "The `error` and `warning` Messages"; BOLT 2, "Message Retransmission".

use super::Channel;
use crate::kernel::turn::Turn;
use crate::rooms::channels::{Scope, ToldError};
use wire::connectd::Spoke;
use wire::{Error, Message, Warning};

/// Messages about one failed channel that a peer may have had under way, or send before it reads
/// our error. Then we hang up.
const MAX_HEARD: u8 = 20;
/// To a peer that speaks of a channel whose end it must have seen. The reason is in our log and
/// lists.
const CLOSED: &str = "the channel is closed";

/// Who knows already that the channel failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Only we.
    ToUs,
    /// The peer: it said so, or our daemon told it.
    ToPeer,
}

/// The channel failed just now: the peer hears why, on the connection that there is, which then
/// ends.
pub fn failed(node: &Scope, turn: &mut Turn<'_>, channel: &Channel, known: Known, why: &str) {
    let Some(connection) = node.peers.connection(channel.peer).map(|c| c.number) else { return };
    match known {
        Known::ToUs => say(node, turn, channel, connection, why),
        Known::ToPeer => remember(turn, channel, ToldError { connection, heard: 0 }),
    }
    hang_up(node, turn, channel);
}

/// bitcoind has answered to our commitment, or we have none to publish: the peer hears that the
/// channel failed, unless it knows. Not before, since it publishes its own commitment then, and the
/// two would race into mempools.
pub fn published(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) {
    let connection = node.peers.connection(channel.peer).map(|c| c.number);
    let told = node.channels.told.get(&channel.number).map(|t| t.connection);
    if channel.state.is_unilateral() && connection.is_some() && told != connection {
        failed(node, turn, channel, Known::ToUs, &channel.reason);
    }
}

/// The peer is back. BOLT 2: the error of a failed channel is sent again.
pub fn connected(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) {
    if channel.state.is_unilateral()
        && channel.close_tx.is_none()
        && let Some(connection) = node.peers.connection(channel.peer)
    {
        say(node, turn, channel, connection.number, CLOSED);
    }
}

/// The peer speaks of a channel that is over.
pub fn spoke(node: &Scope, turn: &mut Turn<'_>, channel: &Channel, s: &Spoke) {
    crate::rooms::peers::line::refuse(node, turn, s.node, s.connection, s.channel);
    let told = node.channels.told.get(&channel.number).copied();
    match told.filter(|t| t.connection == s.connection) {
        // BOLT 1: an error needs no answer. Two nodes that answered each other's would never end.
        None if is_complaint(&s.message.0) => {
            remember(turn, channel, ToldError { connection: s.connection, heard: 1 });
        }
        None => say(node, turn, channel, s.connection, CLOSED),
        Some(told) if told.heard >= MAX_HEARD => hang_up(node, turn, channel),
        Some(told) => remember(turn, channel, ToldError { heard: told.heard + 1, ..told }),
    }
}

/// Is this message an error or a warning?
pub fn is_complaint(message: &[u8]) -> bool {
    let number = message.first_chunk::<2>().map(|n| u16::from_be_bytes(*n));
    number == Some(Error::NUMBER) || number == Some(Warning::NUMBER)
}

fn say(node: &Scope, turn: &mut Turn<'_>, channel: &Channel, connection: u64, why: &str) {
    crate::rooms::peers::line::tell(node, turn, channel.peer, &Error::new(channel.id, why));
    remember(turn, channel, ToldError { connection, heard: 0 });
}

fn remember(turn: &mut Turn<'_>, channel: &Channel, told: ToldError) {
    let number = channel.number;
    turn.install_as::<Scope, _>(move |channels| _ = channels.told.insert(number, told));
}

/// Ends the connection, unless another channel or an opening with this peer needs it.
fn hang_up(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) {
    let other = |c: &Channel| c.number != channel.number && c.wants_peer();
    let needed = node.channels.with(channel.peer).any(other)
        || node.channels.openings.values().any(|o| o.peer == channel.peer);
    if !needed {
        crate::rooms::peers::line::hang_up(node, turn, channel.peer);
    }
}
