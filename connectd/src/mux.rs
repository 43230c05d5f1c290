//! The daemons behind one connection: which socket serves which channel, what waits for a socket
//! that is full, and what is held for a channel that nobody serves yet.
//!
//! Back-pressure: while anything waits for a daemon ([`Mux::is_waiting`]) or too much is held
//! ([`Mux::is_full`]), the peer is not read. What a message costs before that is one message.

use crate::limits::{
    MAX_DAEMONS, MAX_HELD_CHANNELS, MAX_HELD_MESSAGES, MAX_ROUTES_PER_DAEMON, PEER_HELD_HIGH,
};
use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use primitives::ChannelId;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;
use subdaemon::barrier;
use wire::Message;
use wire::connectd::{Drained, PEER_RECORD_CONTROL, PEER_RECORD_MESSAGE};

/// A daemon's number within its connection.
pub(crate) type DaemonId = u32;

/// Our end of a peer socket.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) id: DaemonId,
    pub(crate) socket: OwnedFd,
    /// May there be something to read?
    pub(crate) readable: bool,
    /// Was it not read because the peer's queue was full? Then it hears when that is over.
    pub(crate) paused: bool,
    /// Records for a socket that took no more.
    inbox: VecDeque<(u8, Vec<u8>)>,
}

impl Daemon {
    fn send(&mut self, kind: u8, body: &[u8]) -> Result<(), Errno> {
        if !self.inbox.is_empty() || !send_record(&self.socket, kind, body)? {
            self.inbox.push_back((kind, body.to_vec()));
        }
        Ok(())
    }
    fn flush(&mut self) -> Result<(), Errno> {
        while let Some((kind, body)) = self.inbox.front() {
            if !send_record(&self.socket, *kind, body)? {
                break;
            }
            self.inbox.pop_front();
        }
        Ok(())
    }
}

/// One record. False: the socket takes none now.
fn send_record(socket: &OwnedFd, kind: u8, body: &[u8]) -> Result<bool, Errno> {
    // In one piece: the box leaves us no `sendmsg`, which could attach descriptors.
    let record = [std::slice::from_ref(&kind), body].concat();
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    barrier::pass("before a word to a daemon");
    loop {
        match send(socket.as_raw_fd(), &record, flags) {
            Ok(_) => {
                barrier::pass("after a word to a daemon");
                return Ok(true);
            }
            // The kernel's memory is a queue like any other: it will have room.
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// The outcome of handing a message to its daemon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The message is sent to its daemon, or queued.
    Done,
    /// No daemon serves this channel.
    NoDaemon,
}

/// Messages for one channel without a daemon.
#[derive(Debug)]
struct Held {
    messages: VecDeque<Vec<u8>>,
    since: Instant,
}

/// The daemons of one connection.
#[derive(Debug, Default)]
pub(crate) struct Mux {
    pub(crate) daemons: Vec<Daemon>,
    routes: HashMap<ChannelId, DaemonId>,
    held: HashMap<ChannelId, Held>,
    held_bytes: usize,
    held_messages: usize,
    next_daemon: DaemonId,
}

impl Mux {
    /// Passes a message on to whoever serves the channel. A daemon that reads no more serves none.
    pub(crate) fn deliver(&mut self, channel: &ChannelId, message: &[u8]) -> Delivery {
        let Some(id) = self.routes.get(channel).copied() else { return Delivery::NoDaemon };
        let sent = self.daemon(id).map(|d| d.send(PEER_RECORD_MESSAGE, message));
        match sent {
            Some(Ok(())) => Delivery::Done,
            Some(Err(_)) | None => {
                self.unroute(id);
                Delivery::NoDaemon
            }
        }
    }

    /// Passes a message on to everybody.
    pub(crate) fn deliver_to_all(&mut self, message: &[u8]) {
        self.each(|daemon| daemon.send(PEER_RECORD_MESSAGE, message));
    }

    /// Writes what waits for sockets that were full.
    pub(crate) fn flush(&mut self) {
        self.each(Daemon::flush);
    }

    /// The peer's queue is empty again: whoever was not read meanwhile is told so.
    pub(crate) fn drained(&mut self) {
        let word = Drained {}.encode();
        self.each(|daemon| {
            // A daemon that writes and does not read is paused again and again: one word that waits
            // says it all.
            let is_told = daemon.inbox.iter().any(|(kind, _)| *kind == PEER_RECORD_CONTROL);
            if std::mem::take(&mut daemon.paused) && !is_told {
                daemon.send(PEER_RECORD_CONTROL, &word)
            } else {
                Ok(())
            }
        });
    }

    fn each(&mut self, mut f: impl FnMut(&mut Daemon) -> Result<(), Errno>) {
        let dead: Vec<DaemonId> =
            self.daemons.iter_mut().filter_map(|d| f(d).err().map(|_| d.id)).collect();
        dead.into_iter().for_each(|id| self.unroute(id));
    }

    /// Its daemon reads no more. What it said last is still to be read, the error to the peer among
    /// it; then comes its end.
    fn unroute(&mut self, id: DaemonId) {
        self.routes.retain(|_, owner| *owner != id);
        if let Some(daemon) = self.daemon(id) {
            daemon.inbox.clear();
            daemon.readable = true;
        }
    }

    /// Does something wait for a daemon that does not read?
    pub(crate) fn is_waiting(&self) -> bool {
        self.daemons.iter().any(|d| !d.inbox.is_empty())
    }

    /// The daemon of this number.
    pub(crate) fn daemon(&mut self, id: DaemonId) -> Option<&mut Daemon> {
        self.daemons.iter_mut().find(|d| d.id == id)
    }

    /// A new daemon for this channel; what is held for it is its own first. Whoever served the
    /// channel before no longer does.
    pub(crate) fn attach(
        &mut self,
        registry: &Registry,
        token: impl FnOnce(DaemonId) -> Token,
        channel: ChannelId,
        socket: OwnedFd,
    ) -> io::Result<()> {
        if self.daemons.len() >= MAX_DAEMONS {
            return Err(io::Error::other("too many daemons on one connection"));
        }
        if let Some(before) = self.routes.remove(&channel)
            && !self.routes.values().any(|id| *id == before)
        {
            self.detach(registry, before);
        }
        let id = self.next_daemon;
        self.next_daemon += 1;
        let both = Interest::READABLE | Interest::WRITABLE;
        SourceFd(&socket.as_raw_fd()).register(registry, token(id), both)?;
        self.daemons.push(Daemon {
            id,
            socket,
            readable: true,
            paused: false,
            inbox: VecDeque::new(),
        });
        self.serve(id, channel);
        Ok(())
    }

    /// A further channel id for this daemon. `Err`: it has too many, or the id is another's.
    pub(crate) fn also_route(
        &mut self,
        id: DaemonId,
        channel: ChannelId,
    ) -> Result<(), &'static str> {
        match self.routes.get(&channel) {
            Some(owner) if *owner == id => return Ok(()),
            Some(_) => return Err("the channel id is in use"),
            None => {}
        }
        if self.routes.values().filter(|owner| **owner == id).count() >= MAX_ROUTES_PER_DAEMON {
            return Err("too many channel ids");
        }
        self.serve(id, channel);
        Ok(())
    }

    fn serve(&mut self, id: DaemonId, channel: ChannelId) {
        self.routes.insert(channel, id);
        for message in self.release(&channel) {
            self.deliver(&channel, &message);
        }
    }

    /// A daemon serves no channel any more; what it still says is said.
    pub(crate) fn leave(&mut self, id: DaemonId) {
        self.routes.retain(|_, owner| *owner != id);
    }

    /// Takes a daemon off: its end was read, or it misbehaved.
    pub(crate) fn detach(&mut self, registry: &Registry, id: DaemonId) {
        self.routes.retain(|_, owner| *owner != id);
        if let Some(at) = self.daemons.iter().position(|d| d.id == id) {
            let daemon = self.daemons.swap_remove(at);
            // The daemon may share its end with others, so closing ours is not enough to be told no
            // more.
            let _ = SourceFd(&daemon.socket.as_raw_fd()).deregister(registry);
        }
    }

    /// Takes all of them off.
    pub(crate) fn detach_all(&mut self, registry: &Registry) {
        while let Some(id) = self.daemons.first().map(|d| d.id) {
            self.detach(registry, id);
        }
    }

    /// Holds a message for a channel without a daemon. True: the first for this channel.
    pub(crate) fn hold(&mut self, channel: ChannelId, message: Vec<u8>, now: Instant) -> bool {
        self.held_bytes += message.len();
        self.held_messages += 1;
        let mut first = false;
        let held = self.held.entry(channel).or_insert_with(|| {
            first = true;
            Held { messages: VecDeque::new(), since: now }
        });
        held.messages.push_back(message);
        first
    }

    /// Gives up what is held for a channel.
    pub(crate) fn release(&mut self, channel: &ChannelId) -> VecDeque<Vec<u8>> {
        let messages = self.held.remove(channel).map(|held| held.messages).unwrap_or_default();
        self.held_messages -= messages.len();
        self.held_bytes -= messages.iter().map(Vec::len).sum::<usize>();
        messages
    }

    /// Is as much held as may be?
    pub(crate) fn is_full(&self) -> bool {
        self.held_bytes >= PEER_HELD_HIGH
            || self.held_messages >= MAX_HELD_MESSAGES
            || self.held.len() >= MAX_HELD_CHANNELS
    }

    /// For channels without a daemon yet.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The channel that has been waiting longest for a daemon, and since when.
    pub(crate) fn oldest_held(&self) -> Option<(ChannelId, Instant)> {
        self.held.iter().map(|(id, held)| (*id, held.since)).min_by_key(|(_, since)| *since)
    }

    /// Is what is held, and what waits for daemons, within its bounds?
    #[cfg(feature = "fuzzing")]
    pub(crate) fn check(&self) {
        const MESSAGE: usize = 65_535;
        let held = || self.held.values().flat_map(|held| &held.messages);
        assert_eq!(self.held_bytes, held().map(Vec::len).sum::<usize>());
        assert_eq!(self.held_messages, held().count());
        assert!(self.held_bytes <= PEER_HELD_HIGH + MESSAGE);
        assert!(self.held_messages <= MAX_HELD_MESSAGES && self.held.len() <= MAX_HELD_CHANNELS);
        for daemon in &self.daemons {
            // What was held, and a word to all and a Drained after that.
            assert!(daemon.inbox.len() <= MAX_HELD_MESSAGES + 2, "a daemon's queue");
            let routes = self.routes.values().filter(|owner| **owner == daemon.id).count();
            assert!(routes <= MAX_ROUTES_PER_DAEMON);
        }
        assert!(self.routes.values().all(|id| self.daemons.iter().any(|d| d.id == *id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It writes, is paused, and is told each time that it may go on: what it does not read must
    /// not pile up here.
    #[test]
    fn daemon_that_reads_nothing_has_one_drained_waiting() {
        let (ours, _theirs) = subdaemon::peer_pair().unwrap();
        while send_record(&ours, PEER_RECORD_MESSAGE, &[0; 1000]).unwrap() {}
        let poll = mio::Poll::new().unwrap();
        let mut mux = Mux::default();
        mux.attach(poll.registry(), |_| Token(0), ChannelId([1; 32]), ours).unwrap();
        for _ in 0..1000 {
            mux.daemons[0].paused = true;
            mux.drained();
        }
        assert_eq!(mux.daemons[0].inbox.len(), 1);
    }
}
