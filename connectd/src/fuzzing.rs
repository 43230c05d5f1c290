//! Entry points for fuzz/: the switchboard over sockets whose other ends a rig holds, at the times
//! that the rig says. And what holds of it after every turn.

use crate::conn::{Conn, Stage};
use crate::duplicates::Opened;
use crate::limits::{
    MAX_CONNECTIONS, MAX_DAEMONS, MAX_LINGERING, MAX_PINGS, MAX_UNAUTHENTICATED, MAX_WORDS,
    PEER_IN_MAX, PEER_OUT_MAX, READ_CHUNK, REPORTS_HIGH,
};
use crate::switchboard::{Outside, Switchboard};
use crate::{Settings, prepare};
use mio::Events;
use mio::net::TcpStream;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use subdaemon::{Child, Failure};

/// At this port nobody listens.
pub const REFUSED: u16 = 1;

thread_local! {
    /// The other ends of connections that were dialled, and where to.
    static DIALLED: RefCell<Vec<(SocketAddr, OwnedFd)>> = const { RefCell::new(Vec::new()) };
    /// How many times randomness was drawn.
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// The same for every run of the same input.
const RIG: Outside = Outside { connect, random };

fn connect(at: SocketAddr) -> io::Result<TcpStream> {
    if at.port() == REFUSED {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let (ours, theirs) = subdaemon::stream_pair()?;
    DIALLED.with_borrow_mut(|all| all.push((at, theirs)));
    stream(ours)
}

fn random() -> [u8; 32] {
    let mut drawn = DRAWN.get() + 1;
    DRAWN.set(drawn);
    std::array::from_fn(|_| {
        // One step of a linear generator for each byte: nobody guesses against us here.
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (drawn >> 56) as u8
    })
}

fn stream(socket: OwnedFd) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}

/// A connectd whose loop the rig turns.
pub struct Board {
    board: Switchboard,
    events: Events,
}

impl Board {
    /// `child` has its init waiting. `max_descriptors` and `max_out`: see [`Settings`].
    ///
    /// # Errors
    /// Where the init cannot be read.
    pub fn new(child: Child, max_descriptors: usize, max_out: usize) -> Result<Self, Failure> {
        DIALLED.take();
        DRAWN.set(0);
        let settings = Settings {
            resolver: None,
            sandbox: false,
            max_descriptors,
            max_out,
            ..Settings::default()
        };
        let mut board = prepare(child, &settings)?;
        board.outside = RIG;
        Ok(Self { board, events: Events::with_capacity(256) })
    }

    /// The time of the last turn.
    pub const fn now(&self) -> Instant {
        self.board.now
    }

    /// A connection from there, where the loop would accept it.
    ///
    /// # Errors
    /// As [`crate::run`].
    pub fn welcome(&mut self, socket: OwnedFd, from: SocketAddr) -> Result<(), Failure> {
        if !self.board.active || self.board.is_report_queue_full() {
            return Ok(());
        }
        let stream = stream(socket).map_err(Failure::internal)?;
        self.board.welcome(stream, from)
    }

    /// The other ends of what was dialled since this was asked last.
    pub fn dialled(&self) -> Vec<(SocketAddr, OwnedFd)> {
        DIALLED.take()
    }

    /// One turn of the loop. True: there is nothing left to do before an event or a deadline.
    ///
    /// # Errors
    /// As [`crate::run`].
    pub fn turn(&mut self, now: Instant) -> Result<bool, Failure> {
        self.board.wait(&mut self.events, Duration::ZERO)?;
        self.board.turn(&self.events, now)?;
        Ok(self.board.is_idle())
    }

    /// Is everything bounded, and do the tables agree?
    ///
    /// # Panics
    /// Where they do not.
    pub fn check(&self) {
        let board = &self.board;
        assert!(board.unauthenticated.len() <= MAX_UNAUTHENTICATED);
        assert!(board.conns.len() <= MAX_CONNECTIONS);
        assert!(board.lingering.len() <= MAX_LINGERING);
        assert!(board.ready.len() <= 2 * MAX_CONNECTIONS, "the queue of the loop grows");
        let conns = || board.conns.values();
        assert_eq!(board.total_out, conns().map(|c| c.counted.0).sum::<usize>());
        assert_eq!(board.total_held, conns().map(|c| c.counted.1).sum::<usize>());
        // What peers with a daemon may report while nobody else is read.
        let more = conns().map(|c| if c.mux.daemons.is_empty() { 1 } else { 128 }).sum::<usize>();
        assert!(board.master.waiting() <= REPORTS_HIGH + more * 70_000, "reports wait");
        for conn in conns() {
            check(conn);
            let stands =
                matches!(conn.stage, Stage::Handshaking) && conn.opened() == Opened::ByThem;
            assert_eq!(stands, board.unauthenticated.contains(&conn.id), "{:?}", conn.stage);
        }
        assert!(board.unauthenticated.iter().all(|id| board.conns.contains_key(id)));
        let known = conns().filter_map(|c| Some((c.node()?, c.id)));
        board.duplicates.check(known.collect());
        board.dials.check();
    }
}

/// What this process may have to say itself: the master's words and one more, its pings and ours. A
/// message has 65,535 bytes at most.
const OWN_WORDS: usize = MAX_WORDS + 65_535 * (1 + MAX_PINGS + 1);

fn check(conn: &Conn) {
    assert!(conn.link.out_len() <= PEER_OUT_MAX + OWN_WORDS, "the peer's queue");
    let most = if conn.link.is_open() { 2 * PEER_IN_MAX + READ_CHUNK } else { 128 };
    assert!(conn.link.incoming_capacity() <= most, "bytes from the peer");
    assert!(conn.mux.daemons.len() <= MAX_DAEMONS);
    let later: usize = conn.after_batch.iter().map(Vec::len).sum();
    assert!(later <= OWN_WORDS, "behind a batch");
    conn.mux.check();
    conn.pings.check();
}
