//! What peers that have no funded channel with us may cost: the attempts that they begin, the
//! daemons of channels whose funding nobody has seen, and our words to them.
//!
//! Identities are free. So a limit per peer stops one that floods, and a limit for all strangers
//! bounds what any number of them costs. Beyond each, strangers make room for one another: whoever
//! is new is served, and the oldest of those who wait gives way. A peer with a funded channel has
//! paid for it: it is counted with no stranger, and nothing of its own gives way to one.

use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::ChannelEvent;
use crate::rooms::channels::change::update;
use crate::rooms::channels::state::{State, StateTrust};
use crate::rooms::channels::{Channel, Channels, Owner, Scope};
use crate::rooms::peers::Connection;
use crate::sys::fatal::Stop;
use primitives::{ChannelNumber, Msat, NodeId, Side};
use std::time::{Duration, Instant};
use wire::channeld::Birth;
use wire::daemon::LogLevel;
use wire::{Error, Warning};

/// Channels of one peer that wait for their funding.
pub const MAX_UNFUNDED_PER_PEER: usize = 4;
/// Channels of strangers that wait for their funding. Each is a row and 2.5 kB in memory, 13 MB in
/// all. At the rate of strangers' proposals ([`super::budgets`], two a second) the oldest has
/// waited for 41 minutes before it is evicted: about four blocks, so that a funding that was
/// broadcast has mostly been seen.
const MAX_UNFUNDED: usize = 5000;
/// Those of them that `push_msat` gave us something in: they give way to none.
const MAX_UNFUNDED_WITH_PUSH: usize = 1000;
/// Openings of strangers under way at once: each is a process. Twice the burst of strangers'
/// proposals ([`super::budgets`]), so that the oldest has ten seconds at least before it is
/// evicted: openers that need no person for their funding need one or two.
pub const MAX_ATTEMPTS: usize = 40;
/// Processes of strangers' channels whose funding nobody has seen. A peer that loses its own is
/// hung up on, and may come back.
const MAX_UNFUNDED_DAEMONS: usize = 40;

/// So long after it connected a peer has taken up each channel that it knows.
pub const SILENCE: Duration = Duration::from_secs(10);

impl Channel {
    /// A peer's channel whose funding was never in a block. The peer may have made it up: it costs
    /// a row, and a process only while the peer speaks of it. One whose funding's block left the
    /// chain is real, and none of these.
    pub fn is_unseen(&self) -> bool {
        self.opener() == Side::Remote
            && self.funding_height.is_none()
            && !self.was_in_block
            && self.spend.is_none()
            && !self.ready.local
            && self.trust != StateTrust::Lost
    }
    pub fn has_nothing_of_ours(&self) -> bool {
        // Of a database that may have been put back the rows prove nothing.
        self.live.balance.local == Msat(0)
            && self.live.htlcs.0.is_empty()
            && self.trust == StateTrust::Verified
    }
}

impl Channels {
    /// Has this peer no channel with us that cost anybody anything? One whose funding is in a block
    /// did, and so does one that we open.
    pub fn is_stranger(&self, peer: NodeId) -> bool {
        let is_real = |c: &Channel| c.funding_height.is_some() || c.opener() == Side::Local;
        !self.with(peer).any(|c| is_real(c) && c.state.is_open())
            && !self.openings.values().any(|o| o.peer == peer && !o.is_theirs())
    }
    /// Do the daemons of this peer's channels come later on this connection?
    pub fn is_delayed(&self, peer: NodeId, connection: u64) -> bool {
        self.delayed.get(&peer) == Some(&connection)
    }
    /// Channels of this peer that wait for their funding.
    pub fn unseen_with(&self, peer: NodeId) -> usize {
        self.with(peer).filter(|c| c.is_unseen()).count()
    }
    /// The oldest of this peer's channels that it has forgotten, as it seems: it is connected, and
    /// did not speak of the channel on this connection. BOLT 2, "Message Retransmission": it would
    /// have to, before anything else of that channel. An opener that died before it had our
    /// signature knows no channel; should this one know it all the same, there is nothing of ours
    /// in it.
    ///
    /// It may speak of another channel first: its silence counts once it took up another one,
    /// or [`SILENCE`] has passed.
    pub fn forgotten_by(
        &self,
        peer: NodeId,
        connection: &Connection,
        now: Instant,
    ) -> Option<&Channel> {
        let current = Some(connection.number);
        let took_up = |c: &Channel| c.spoken_on == current || (!c.is_unseen() && c.reestablished);
        let is_silent = now.saturating_duration_since(connection.since) >= SILENCE;
        if !is_silent && !self.with(peer).any(took_up) {
            return None;
        }
        let spoke = |c: &Channel| [c.served_connection, c.spoken_on].contains(&current);
        let idle = |c: &Channel| c.wants_peer() && c.owner == Owner::Nobody && !spoke(c);
        self.with(peer)
            .filter(|c| c.is_unseen() && idle(c) && c.has_nothing_of_ours())
            .min_by_key(|c| c.number)
    }
    /// Was a daemon born on this connection because this peer spoke of another channel, and none
    /// yet for this one?
    fn has_taken_up_another(&self, channel: &Channel, connection: u64) -> bool {
        let current = Some(connection);
        let is_other = |c: &Channel| c.number != channel.number && c.is_unseen();
        let taken_up = |c: &Channel| c.spoken_on == current && c.served_connection == current;
        channel.served_connection != current
            && self.with(channel.peer).any(|c| is_other(c) && taken_up(c))
    }
    fn unseen_of_strangers(&self) -> impl Iterator<Item = &Channel> {
        self.all.values().filter(|c| c.is_unseen() && self.is_stranger(c.peer))
    }
    /// Whose place a further channel of a stranger takes: the oldest that waits for its funding and
    /// has nothing of ours in it.
    fn gives_way(&self) -> Option<ChannelNumber> {
        if self.unseen_of_strangers().count() < MAX_UNFUNDED {
            return None;
        }
        self.unseen_of_strangers().find(|c| c.has_nothing_of_ours()).map(|c| c.number)
    }
    /// Would another channel with `push_msat` be one too many of those that give way to none?
    pub fn has_room_for_push(&self) -> bool {
        let ours = self.unseen_of_strangers().filter(|c| !c.has_nothing_of_ours());
        ours.count() < MAX_UNFUNDED_WITH_PUSH
    }
    /// Whose process makes room for that of another channel whose funding nobody has seen: the one
    /// that was born first. Never that of the peer who asks, since its connection would end.
    fn daemon_gives_way(&self, asks: NodeId) -> Option<&Channel> {
        let served = || self.unseen_of_strangers().filter(|c| c.owner.child().is_some());
        if served().count() < MAX_UNFUNDED_DAEMONS {
            None
        } else {
            served().filter(|c| c.peer != asks).min_by_key(|c| c.owner.child())
        }
    }
}

/// A channel is to be stored: a stranger's takes the place of the oldest of those that wait for
/// their funding, where there are as many as may be. Should that funding confirm all the same, its
/// peer has our signature and closes alone; of ours there is nothing in it.
pub fn make_room(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) -> Result<(), Stop> {
    if !channel.is_unseen() {
        return Ok(());
    }
    if node.channels.unseen_with(channel.peer) >= MAX_UNFUNDED_PER_PEER
        && let Some(connection) = node.peers.connection(channel.peer)
        && let Some(forgotten) =
            node.channels.forgotten_by(channel.peer, connection, Instant::now())
    {
        let why = "its peer did not speak of it any more, and opened another";
        super::forget::forget(node, turn, forgotten, why)?;
        end_oldest_daemon(node, turn, channel.peer);
        return Ok(());
    }
    if !node.channels.is_stranger(channel.peer) {
        return Ok(());
    }
    end_oldest_daemon(node, turn, channel.peer);
    match node.channels.gives_way().and_then(|number| node.channels.all.get(&number)) {
        Some(oldest) => {
            let why = "its funding was not seen, and others wait for theirs";
            crate::rooms::peers::line::tell(node, turn, oldest.peer, &Error::new(oldest.id, why));
            super::forget::forget(node, turn, oldest, why)
        }
        None => Ok(()),
    }
}

/// Room for one more process of a channel whose funding nobody has seen: the oldest of them ends,
/// with its connection. That peer may connect anew; once its funding is seen, its channel counts no
/// more.
fn end_oldest_daemon(node: &Scope, turn: &mut Turn<'_>, asks: NodeId) {
    if let Some(oldest) = node.channels.daemon_gives_way(asks) {
        oldest.log(LogLevel::Debug, "its daemon gives way to another's: hanging up");
        crate::rooms::peers::line::hang_up(node, turn, oldest.peer);
    }
}

/// A peer connected: its channels get their daemons. One with a funded channel that connects again
/// and again gets them later on that connection, so that the smallest channel does not buy a
/// process and a commit with each.
pub fn connected(
    node: &Scope,
    turn: &mut Turn<'_>,
    peer: NodeId,
    connection: u64,
) -> Result<(), Stop> {
    let now = Instant::now();
    let at = node.channels.budgets.friend_at(peer, now);
    if at > now {
        turn.install(node, move |channels| {
            channels.delayed.insert(peer, connection);
        });
        turn.at(at, Event::ServePeer(peer, connection));
        return Ok(());
    }
    turn.install(node, move |channels| {
        channels.delayed.remove(&peer);
    });
    serve(node, turn, peer, now)
}

/// The time is over for which [`connected`] put it off.
pub fn serve_late(
    node: &Scope,
    turn: &mut Turn<'_>,
    peer: NodeId,
    connection: u64,
) -> Result<(), Stop> {
    if !node.channels.is_delayed(peer, connection) {
        return Ok(());
    }
    turn.install(node, move |channels| {
        channels.delayed.remove(&peer);
    });
    if node.peers.connection(peer).is_none_or(|c| c.number != connection) {
        return Ok(());
    }
    serve(node, turn, peer, Instant::now())
}

fn serve(node: &Scope, turn: &mut Turn<'_>, peer: NodeId, now: Instant) -> Result<(), Stop> {
    let Some(connection) = node.peers.connection(peer).map(|c| c.number) else { return Ok(()) };
    let mut starts = false;
    for channel in node.channels.with(peer) {
        if !channel.wants_peer() {
            super::error_to_peer::connected(node, turn, channel);
            continue;
        }
        match channel.owner.child() {
            // Its funding was seen before it was this peer's turn.
            Some(_) if channel.served_connection == Some(connection) => continue,
            // Of the connection before: when it is gone, its successor is started.
            Some(child) => {
                turn.say(Outgoing::Kill { child, why: "the peer connected anew".to_owned() });
            }
            // BOLT 2, "Message Retransmission": both sides send channel_reestablish, and the opener
            // does without waiting for ours. One who never does made the channel up, or waits for
            // its funding as we do (`FundingSeen`).
            None if channel.is_unseen() => continue,
            None => crate::rooms::channels::start::start(node, turn, channel, Birth::Reconnected)?,
        }
        starts = true;
    }
    if starts && !node.channels.is_stranger(peer) {
        turn.install(node, move |channels| channels.budgets.friend_connects(peer, now));
    }
    Ok(())
}

/// The peer spoke of a channel that no daemon serves. The daemons of channels whose funding nobody
/// has seen are bounded, and so are the connections that bear them: on each the first is counted,
/// and those of the peer's other channels follow.
pub fn start_for_peer(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) -> Result<(), Stop> {
    let Some(connection) = node.peers.connection(channel.peer).map(|c| c.number) else {
        return Ok(());
    };
    update(turn, channel.number, move |c| c.spoken_on = Some(connection));
    if node.channels.is_delayed(channel.peer, connection) {
        // What came is held until its daemon is there.
        return Ok(());
    }
    let peer = channel.peer;
    if channel.is_unseen() && node.channels.is_stranger(peer) {
        let now = Instant::now();
        let is_first = !node.channels.has_taken_up_another(channel, connection);
        if is_first && !node.channels.budgets.may_reconnect(peer, now) {
            channel.log(LogLevel::Debug, "its peer comes back too often: hanging up");
            crate::rooms::peers::line::hang_up(node, turn, peer);
            return Ok(());
        }
        if is_first {
            turn.install(node, move |channels| channels.budgets.reconnects(peer, now));
        }
        end_oldest_daemon(node, turn, peer);
    }
    crate::rooms::channels::start::start(node, turn, channel, Birth::Reconnected)
}

/// Does a close of this channel wait until its funding is seen? BOLT 2, shutdown: a peer may say it
/// as soon as it has `funding_signed`. Of a channel that it made up, a closing would cost a script
/// of the wallet, a record that is never given back, and a transaction that is sent with every
/// block and never taken. One that our user asked for begins at once.
pub fn puts_off_close(channel: &Channel) -> bool {
    channel.is_unseen() && channel.closer != Some(Side::Local) && !channel.close_asked
}

/// Such a close began, and nothing of it is stored: the channel is not served again on this
/// connection, whose other channels go on. BOLT 2, "Message Retransmission": the peer says
/// `shutdown` again on its next one, and is answered once the funding is seen.
pub fn put_off_close(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) {
    let why = "shutdown before the funding was seen in a block: say it again after that";
    channel.log(LogLevel::Debug, why);
    crate::rooms::peers::line::tell(node, turn, channel.peer, &Warning::new(channel.id, why));
    let connection = node.peers.connection(channel.peer).map(|c| c.number);
    update(turn, channel.number, move |c| c.put_off_on = connection);
    if let Some(child) = channel.owner.child() {
        turn.say(Outgoing::Kill { child, why: why.to_owned() });
    }
}

/// The funding of a channel is in a block. If its peer is connected and said nothing of the
/// channel, it gets its daemon now; if it failed before, our commitment is good for something now.
/// Whose close was put off is hung up on: it connects anew, and says it again.
pub fn funding_seen(node: &Scope, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&number) else { return Ok(()) };
    if channel.state == State::AwaitingUnilateral && channel.opener() == Side::Remote {
        turn.then(Event::Channel(number, ChannelEvent::Broadcast));
    }
    let connection = node.peers.connection(channel.peer).map(|c| c.number);
    if connection.is_some() && channel.put_off_on == connection {
        crate::rooms::peers::line::hang_up(node, turn, channel.peer);
        return Ok(());
    }
    let is_idle = channel.owner == Owner::Nobody && channel.served_connection != connection;
    if is_idle && channel.wants_peer() {
        crate::rooms::channels::start::start(node, turn, channel, Birth::Reconnected)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "strangers_tests.rs"]
mod tests;
