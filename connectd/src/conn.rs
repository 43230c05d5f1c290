//! One TCP connection, from SYN to the last word.

use crate::duplicates::Opened;
use crate::limits::{self, PEER_OUT_HIGH, Times};
use crate::link::Link;
use crate::mux::Mux;
use crate::pings::Pings;
use crate::unauthenticated::Shown;
use mio::net::TcpStream;
use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, getpeername};
use primitives::{Bucket, NodeId};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Instant;
use wire::connectd::{Address, Direction};

/// A connection's number: new for each, and what the master calls it by.
pub(crate) type ConnId = u64;

/// How far a connection has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Our SYN is out.
    Connecting,
    /// The acts of BOLT 8.
    Handshaking,
    /// We know who it is; its `init` is awaited.
    AwaitsInit(NodeId),
    /// Reported as connected.
    Running(NodeId),
    /// Something is still to be written, then it is over.
    Ending {
        node: NodeId,
        /// Was it reported as connected?
        reported: bool,
        why: String,
        until: Instant,
    },
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) stream: TcpStream,
    pub(crate) link: Link,
    pub(crate) address: SocketAddr,
    /// Whom we dialled, if we did.
    pub(crate) dialled: Option<NodeId>,
    pub(crate) stage: Stage,
    /// When TCP stood; before, when the SYN went out.
    pub(crate) since: Instant,
    pub(crate) mux: Mux,
    pub(crate) pings: Pings,
    /// How far a stranger has come.
    pub(crate) shown: Shown,
    /// Our `init` goes out as soon as the handshake is over.
    pub(crate) owes_init: bool,
    /// May there be something to read?
    pub(crate) readable: bool,
    /// Is it in the loop's queue?
    pub(crate) queued: bool,
    /// How often it complained about no channel in particular.
    pub(crate) complaints: u32,
    /// A daemon whose `start_batch` is not complete, and how many messages that takes: until then
    /// nothing goes between.
    pub(crate) batch: Option<(crate::mux::DaemonId, u16)>,
    /// Messages of connectd itself that wait for the end of a batch.
    pub(crate) after_batch: VecDeque<Vec<u8>>,
    /// The peer's queue was full, and the daemons were not read.
    pub(crate) throttled: bool,
    /// Which daemon is read first next time.
    pub(crate) turn: usize,
    /// When the peer last took a byte, or had nothing to take.
    pub(crate) took: Instant,
    /// Bytes that the master had to say since the peer last had read everything.
    pub(crate) words: usize,
    /// Channels that the peer may yet speak of and nobody serves.
    pub(crate) refusals: Bucket,
    /// This connection's part of the totals over all connections: bytes to send, bytes held.
    pub(crate) counted: (usize, usize),
}

impl Conn {
    /// A connection that is young: since `now`.
    pub(crate) fn new(
        id: ConnId,
        stream: TcpStream,
        link: Link,
        address: SocketAddr,
        dialled: Option<NodeId>,
        times: Times,
        now: Instant,
    ) -> Self {
        Self {
            id,
            stream,
            link,
            address,
            stage: if dialled.is_some() { Stage::Connecting } else { Stage::Handshaking },
            dialled,
            since: now,
            mux: Mux::default(),
            pings: Pings::new(now, times),
            shown: Shown::Nothing,
            owes_init: false,
            readable: true,
            queued: false,
            complaints: 0,
            batch: None,
            after_batch: VecDeque::new(),
            throttled: false,
            turn: 0,
            took: now,
            words: 0,
            refusals: limits::REFUSALS,
            counted: (0, 0),
        }
    }

    pub(crate) const fn opened(&self) -> Opened {
        if self.dialled.is_some() { Opened::ByUs } else { Opened::ByThem }
    }
    pub(crate) const fn direction(&self) -> Direction {
        match self.opened() {
            Opened::ByUs => Direction::Out,
            Opened::ByThem => Direction::In,
        }
    }
    pub(crate) fn address(&self) -> Address {
        let ip = self.address.ip().to_canonical();
        Address { host: ip.to_string(), port: self.address.port() }
    }
    /// The peer's id, once the handshake has proved it.
    pub(crate) const fn node(&self) -> Option<NodeId> {
        match &self.stage {
            Stage::Connecting | Stage::Handshaking => None,
            Stage::AwaitsInit(node) | Stage::Running(node) | Stage::Ending { node, .. } => {
                Some(*node)
            }
        }
    }
    /// For the log.
    pub(crate) fn name(&self) -> String {
        match self.node().or(self.dialled) {
            Some(node) => node.to_string(),
            None => format!("stranger at {}", self.address),
        }
    }

    /// Did our SYN get through? Ok(false): not decided yet.
    pub(crate) fn is_established(&mut self) -> io::Result<bool> {
        if let Some(e) = self.stream.take_error()? {
            return Err(e);
        }
        match getpeername::<SockaddrStorage>(self.stream.as_raw_fd()) {
            Ok(_) => Ok(true),
            Err(Errno::ENOTCONN) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Says something of this process's own, not within a daemon's batch.
    pub(crate) fn say(&mut self, message: Vec<u8>, now: Instant) {
        if self.batch.is_some() {
            self.after_batch.push_back(message);
        } else {
            self.seal(&message, now);
        }
    }
    /// Says something now.
    pub(crate) fn seal(&mut self, message: &[u8], now: Instant) {
        if self.link.out_len() == 0 {
            self.took = now;
        }
        if let Err(e) = self.link.say(message) {
            log::error!("{}: cannot encrypt a message: {e}", self.name());
        }
    }

    /// Is there room for more of the daemons'?
    pub(crate) fn has_room(&self) -> bool {
        self.link.out_len() < PEER_OUT_HIGH
    }

    /// Writes what waits, as far as TCP takes it.
    pub(crate) fn flush(&mut self, now: Instant) -> io::Result<()> {
        while !self.link.out().is_empty() {
            subdaemon::barrier::pass("before a write to the peer");
            match self.stream.write(self.link.out().waiting()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    subdaemon::barrier::pass("after a write to the peer");
                    self.link.out().sent(n);
                    if self.stage == Stage::Handshaking {
                        // To a stranger nothing is said before its act one was good.
                        self.shown = Shown::ActOne;
                    }
                    self.took = now;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.link.out_len() == 0 {
            self.words = 0;
        }
        Ok(())
    }

    /// Reads once. Ok(None): nothing there now; Ok(Some(0)): nothing ever again.
    pub(crate) fn read(&mut self) -> io::Result<Option<usize>> {
        loop {
            let room = self.link.room();
            match self.stream.read(room) {
                Ok(n) => {
                    self.link.filled(n);
                    if n > 0 && self.shown < Shown::ActOne {
                        let whole = self.link.room().is_empty();
                        self.shown = if whole { Shown::WholeAct } else { Shown::Bytes };
                    }
                    return Ok(Some(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}
