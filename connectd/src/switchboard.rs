//! The loop and what it holds. Each turn: what poll found is noted on the connections it concerns,
//! then every connection with something to do is served once, a quantum at most, so that none
//! starves the others.

use crate::conn::{Conn, ConnId, Stage};
use crate::dials::Dials;
use crate::duplicates::DuplicateConnections;
use crate::limits::{MAX_CONNECTIONS, MAX_LINGERING, REPORTS_HIGH, TOTAL_HELD_MAX, Times};
use crate::listeners::Listener;
use crate::resolver::Resolver;
use crate::tokens::{CONNECTIONS, LISTENERS, LOW_ID, ORDERS, REPORTS, RESOLVER, source_of};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Poll, Registry, Token};
use primitives::{Bucket, Features, Network, NodeId, Point, SecretKey};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use subdaemon::{Failure, Hsm, Master, Orders};
use wire::Message;
use wire::connectd::Disconnected;

/// Deadlines are looked at no oftener than this.
const GRAIN: Duration = Duration::from_millis(20);
/// And at least this often.
const SCAN: Duration = Duration::from_secs(60);

/// The limits over all connections that stopped one of them.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Stopped {
    /// Too much held for daemons to come.
    pub(crate) by_held: bool,
    /// Too much that waits for peers.
    pub(crate) by_sent: bool,
    /// Too much that waits for the master.
    pub(crate) by_reports: bool,
}

/// Functions of the machine that a test replaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outside {
    /// Begins a connection with this address.
    pub(crate) connect: fn(SocketAddr) -> io::Result<TcpStream>,
    /// Unpredictable bytes.
    pub(crate) random: fn() -> [u8; 32],
}

impl Outside {
    /// TCP, and the kernel's randomness.
    pub(crate) const MACHINE: Self = Self { connect: connect_tcp, random: subdaemon::random::<32> };

    /// A key for one handshake.
    pub(crate) fn ephemeral(&self) -> SecretKey {
        loop {
            // All but one in 2^128 of the numbers are keys.
            if let Ok(key) = SecretKey::from_slice(&(self.random)()) {
                return key;
            }
        }
    }
}

fn connect_tcp(at: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Everything connectd knows.
pub(crate) struct Switchboard {
    /// Functions of the machine; a test has others.
    pub(crate) outside: Outside,
    /// The time of this turn.
    pub(crate) now: Instant,
    pub(crate) node_id: NodeId,
    pub(crate) our_id: Point,
    pub(crate) network: Network,
    pub(crate) features: Features,
    pub(crate) disable_dns: bool,
    pub(crate) times: Times,
    pub(crate) poll: Poll,
    pub(crate) registry: Registry,
    pub(crate) orders: Orders,
    pub(crate) master: Master,
    pub(crate) hsm: Hsm,
    pub(crate) resolver: Option<Resolver>,
    pub(crate) listeners: Vec<Listener>,
    /// Were we told to let peers in?
    pub(crate) active: bool,
    /// Connections and daemons' sockets that there may be.
    pub(crate) max_descriptors: usize,
    pub(crate) conns: HashMap<ConnId, Conn>,
    pub(crate) next_id: ConnId,
    /// Peers with funded channels.
    pub(crate) funded_peers: BTreeSet<NodeId>,
    /// Inbound connections that have not shown who they are.
    pub(crate) unauthenticated: BTreeSet<ConnId>,
    /// Connections that are over, read until the peer has read our last words.
    pub(crate) lingering: BTreeMap<ConnId, (TcpStream, Instant)>,
    pub(crate) duplicates: DuplicateConnections<ConnId>,
    pub(crate) dials: Dials,
    /// Connections with something to do.
    pub(crate) ready: VecDeque<ConnId>,
    pub(crate) next_scan: Instant,
    /// Bytes held for daemons to come, over all peers.
    pub(crate) total_held: usize,
    /// Bytes that wait for peers, over all of them.
    pub(crate) total_out: usize,
    /// Pongs for peers without a daemon: one token is a kibibyte.
    pub(crate) idle_pongs: Bucket,
    /// Which bounds over all connections stopped one of them? Then all are looked at once there is
    /// room.
    pub(crate) stopped: Stopped,
    /// How much may wait for all peers together.
    pub(crate) max_out: usize,
    /// The connection that was woken first when there was room last.
    pub(crate) first_resumed: ConnId,
    /// Room for one record of a daemon, kept.
    pub(crate) record: Vec<u8>,
}

impl Switchboard {
    /// Until the master is gone.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(256);
        // Orders that came right behind the init were read with it.
        self.take_orders()?;
        loop {
            let left = self.next_scan.saturating_duration_since(Instant::now());
            self.wait(&mut events, if self.is_idle() { left } else { Duration::ZERO })?;
            self.turn(&events, Instant::now())?;
        }
    }

    /// Is nothing left to do before an event, or the next deadline?
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty() && !self.may_accept()
    }

    /// Gathers events for so long at most.
    pub(crate) fn wait(&mut self, events: &mut Events, most: Duration) -> Result<(), Failure> {
        match self.poll.poll(events, Some(most)) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            polled => polled.map_err(Failure::internal),
        }
    }

    /// One turn of the loop, at this time.
    pub(crate) fn turn(&mut self, events: &Events, now: Instant) -> Result<(), Failure> {
        self.now = now;
        let mut orders = false;
        for event in events {
            match event.token() {
                ORDERS => orders = true,
                REPORTS => {}
                RESOLVER => self.answers()?,
                Token(n) if n < CONNECTIONS => self.accept_on(n - LISTENERS),
                token => self.note(token, event),
            }
        }
        if orders {
            self.take_orders()?;
        }
        self.accept()?;
        let later = self.unauthenticated_later();
        for _ in 0..self.ready.len() {
            match self.ready.pop_front() {
                Some(id) if later.contains(&id) => self.ready.push_back(id),
                Some(id) => self.serve(id)?,
                None => {}
            }
        }
        self.dial_waiting()?;
        if now >= self.next_scan {
            self.check_deadlines()?;
        }
        self.master.flush()?;
        self.resume_throttled();
        Ok(())
    }

    /// Marks what an event says.
    fn note(&mut self, token: Token, event: &Event) {
        let (low, daemon) = source_of(token);
        // The high bits are the same for all connections of this process.
        let id = self.next_id & !LOW_ID | low;
        if let Some(daemon) = daemon {
            let Some(conn) = self.conns.get_mut(&id) else { return };
            if let Some(daemon) = conn.mux.daemon(daemon)
                && (event.is_readable() || event.is_read_closed() || event.is_error())
            {
                daemon.readable = true;
            }
            self.wake(id);
        } else if let Some(conn) = self.conns.get_mut(&id) {
            conn.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            self.wake(id);
        } else {
            self.linger_on(id);
        }
    }

    /// This connection has something to do.
    pub(crate) fn wake(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id)
            && !std::mem::replace(&mut conn.queued, true)
        {
            self.ready.push_back(id);
        }
    }

    /// A number for something new.
    pub(crate) const fn new_id(&mut self) -> ConnId {
        self.next_id += 1;
        self.next_id
    }

    /// Something is due then.
    pub(crate) fn due(&mut self, at: Instant) {
        self.next_scan = self.next_scan.min(at);
    }

    /// Tells the master.
    pub(crate) fn report<M: Message>(&self, message: &M) -> Result<(), Failure> {
        self.master.report(message)
    }

    /// True while more than [`REPORTS_HIGH`] bytes of reports wait for lightningd. Then only peers
    /// with an attached subdaemon are read.
    pub(crate) fn is_report_queue_full(&self) -> bool {
        self.master.waiting() > REPORTS_HIGH
    }

    /// Too much held over all, too much waiting for peers over all.
    pub(crate) const fn is_holding_too_much(&self) -> bool {
        self.total_held >= TOTAL_HELD_MAX
    }
    /// Is it this connection's fault, too, that too much waits for peers?
    pub(crate) fn is_sending_too_much(&self, conn: &Conn) -> bool {
        self.total_out >= self.max_out && conn.link.out_len() >= self.max_out / MAX_CONNECTIONS
    }

    /// Brings the totals up to date with what this connection has waiting now.
    pub(crate) fn account(&mut self, conn: &mut Conn) {
        let now = (conn.link.out_len(), conn.mux.held_bytes());
        let before = std::mem::replace(&mut conn.counted, now);
        self.total_out = self.total_out - before.0 + now.0;
        self.total_held = self.total_held - before.1 + now.1;
    }

    /// Wakes all connections once a bound over all of them, which stopped one, is no longer
    /// reached.
    fn resume_throttled(&mut self) {
        let Stopped { by_held, by_sent, by_reports } = self.stopped;
        let held = by_held && !self.is_holding_too_much();
        let sent = by_sent && self.total_out < self.max_out;
        let reports = by_reports && !self.is_report_queue_full();
        if held || sent || reports {
            self.stopped = Stopped {
                by_held: by_held && !held,
                by_sent: by_sent && !sent,
                by_reports: by_reports && !reports,
            };
            let mut all: Vec<ConnId> = self.conns.keys().copied().collect();
            all.sort_unstable();
            // The connection that was first last time, and may have used up the room, is last now.
            let first = all.partition_point(|id| *id <= self.first_resumed);
            all.rotate_left(first);
            self.first_resumed = all.first().copied().unwrap_or_default();
            all.into_iter().for_each(|id| self.wake(id));
        }
    }

    /// The end of a connection that is in the table.
    pub(crate) fn end(&mut self, id: ConnId, why: &str) -> Result<(), Failure> {
        match self.conns.remove(&id) {
            Some(conn) => self.remove(conn, why),
            None => Ok(()),
        }
    }

    /// The end of a connection that was taken out of the table: everybody who should know is told.
    pub(crate) fn remove(&mut self, mut conn: Conn, why: &str) -> Result<(), Failure> {
        conn.mux.detach_all(&self.registry);
        self.unauthenticated.remove(&conn.id);
        self.total_out -= conn.counted.0;
        self.total_held -= conn.counted.1;
        log::debug!("{}: connection {} ends: {why}", conn.name(), conn.id);
        let reported = match &conn.stage {
            Stage::Connecting | Stage::Handshaking | Stage::AwaitsInit(_) => false,
            Stage::Running(_) => true,
            Stage::Ending { reported, .. } => *reported,
        };
        if let Some(node) = conn.node() {
            self.duplicates.gone(node, conn.id);
            if reported {
                self.report(&Disconnected { node, connection: conn.id, why: why.to_owned() })?;
            }
        }
        let (node, dialled) = (conn.node(), conn.dialled);
        let (id, address) = (conn.id, conn.address);
        if matches!(conn.stage, Stage::Ending { .. }) {
            self.linger(conn);
        } else {
            let _ = self.registry.deregister(&mut conn.stream);
        }
        if !reported {
            if let Some(node) = dialled {
                self.dial_failed(node, id, address.to_string(), why)?;
            }
            if let Some(node) = node {
                self.duplicate_failed(node, why)?;
            }
        }
        Ok(())
    }

    /// Closing with bytes unread would reset the connection, and the peer might never read what we
    /// said last.
    fn linger(&mut self, mut conn: Conn) {
        let closed = conn.stream.shutdown(std::net::Shutdown::Write);
        let until = self.now + self.times.last_words;
        if closed.is_ok() && conn.link.out_len() == 0 {
            if self.lingering.len() >= MAX_LINGERING
                && let Some((_, (mut stream, _))) = self.lingering.pop_first()
            {
                let _ = self.registry.deregister(&mut stream);
            }
            let id = conn.id;
            self.lingering.insert(id, (conn.stream, until));
            self.due(until);
            self.linger_on(id);
        } else {
            let _ = self.registry.deregister(&mut conn.stream);
        }
    }

    /// Reads and forgets.
    fn linger_on(&mut self, id: ConnId) {
        let Some((stream, _)) = self.lingering.get_mut(&id) else { return };
        let mut nothing = [0; 4096];
        // A peer that goes on sending is not listened to for ever: a mebibyte at a time is more
        // than it had under way.
        for _ in 0..256 {
            match stream.read(&mut nothing) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        if let Some((mut stream, _)) = self.lingering.remove(&id) {
            let _ = self.registry.deregister(&mut stream);
        }
    }

    /// Checks the deadlines of every connection, and when to look again.
    fn check_deadlines(&mut self) -> Result<(), Failure> {
        let now = self.now;
        self.next_scan = now + SCAN;
        while let Some(entry) = self.lingering.first_entry()
            && entry.get().1 <= now
        {
            let (mut stream, _) = entry.remove();
            let _ = self.registry.deregister(&mut stream);
        }
        if let Some((_, (_, until))) = self.lingering.first_key_value() {
            self.next_scan = self.next_scan.min(*until);
        }
        self.check_lookup_deadlines(now)?;
        self.accept_on_all();
        let mut all: Vec<ConnId> = self.conns.keys().copied().collect();
        all.sort_unstable();
        for id in all {
            self.check_deadlines_of(id)?;
        }
        self.next_scan = self.next_scan.max(now + GRAIN);
        Ok(())
    }
}
