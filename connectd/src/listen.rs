//! Accepting connections within bounds: which are accepted, and which connection makes room.

use crate::conn::{Conn, ConnId, Stage};
use crate::duplicates::Opened;
use crate::limits::{
    ACCEPT_QUANTUM, HANDSHAKE_QUANTUM, MANY_UNAUTHENTICATED, MAX_CONNECTIONS, MAX_UNAUTHENTICATED,
};
use crate::link::Link;
use crate::switchboard::Switchboard;
use crate::tokens::{LISTENERS, token_of};
use crate::unauthenticated::{self, Candidate, Shown};
use mio::net::TcpStream;
use mio::{Interest, Token};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use subdaemon::Failure;

impl Switchboard {
    /// From now on connections are accepted.
    pub(crate) fn activate(&mut self) -> Result<(), Failure> {
        if self.active {
            return Ok(());
        }
        self.active = true;
        for (n, listener) in self.listeners.iter_mut().enumerate() {
            let token = Token(LISTENERS + n);
            self.registry
                .register(&mut listener.socket, token, Interest::READABLE)
                .map_err(Failure::internal)?;
        }
        Ok(())
    }

    /// poll reports a connection at this listener.
    pub(crate) fn accept_on(&mut self, listener: usize) {
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.is_ready = true;
        }
    }

    /// Looks at every listener: poll reports no second time a connection that could not be accepted
    /// for want of descriptors.
    pub(crate) fn accept_on_all(&mut self) {
        self.listeners.iter_mut().for_each(|listener| listener.is_ready = true);
    }

    /// Is a connection waiting that we could accept now?
    pub(crate) fn may_accept(&self) -> bool {
        self.active && !self.is_report_queue_full() && self.listeners.iter().any(|l| l.is_ready)
    }

    /// Accepts what waits, a few per turn.
    pub(crate) fn accept(&mut self) -> Result<(), Failure> {
        if !self.may_accept() {
            return Ok(());
        }
        for n in 0..self.listeners.len() {
            for _ in 0..ACCEPT_QUANTUM {
                let Some(listener) = self.listeners.get_mut(n).filter(|l| l.is_ready) else {
                    break;
                };
                match listener.socket.accept() {
                    Ok((stream, from)) => match stream.set_nodelay(true) {
                        Ok(()) => self.welcome(stream, from)?,
                        Err(e) => log::debug!("{from}: {e}"),
                    },
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => listener.is_ready = false,
                    // The stranger left, or the machine is short of something: the others wait
                    // until poll reports this listener again.
                    Err(e) => {
                        log::debug!("accept: {e}");
                        listener.is_ready = e.kind() == io::ErrorKind::ConnectionAborted;
                    }
                }
            }
        }
        Ok(())
    }

    /// A connection was accepted: is there room for it, and which other makes room?
    pub(crate) fn welcome(
        &mut self,
        mut stream: TcpStream,
        from: SocketAddr,
    ) -> Result<(), Failure> {
        if self.unauthenticated.len() >= MAX_UNAUTHENTICATED {
            self.evict(
                &self.unauthenticated_here(),
                "too many connections before their handshake",
            )?;
        }
        if self.is_crowded() && !self.make_room()? {
            log::debug!("{from}: connection not accepted: the limit of connections is reached");
            return Ok(());
        }
        let id = self.new_id();
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(e) = self.registry.register(&mut stream, token_of(id, None), both) {
            log::debug!("{from}: {e}");
            return Ok(());
        }
        let link = Link::listener(self.our_id, self.outside.ephemeral());
        let conn = Conn::new(id, stream, link, from, None, self.times, self.now);
        self.due(conn.since + self.times.handshake);
        self.conns.insert(id, conn);
        self.unauthenticated.insert(id);
        self.wake(id);
        // Its first act may be there: the next one to be let in shall not push it out as one that
        // has shown nothing. If it is over already, its turn finds that out.
        if let Some(conn) = self.conns.get_mut(&id) {
            let _ = conn.read();
        }
        Ok(())
    }

    /// Is there no place for another connection?
    pub(crate) fn is_crowded(&self) -> bool {
        let daemons: usize = self.conns.values().map(|conn| conn.mux.daemons.len()).sum();
        self.conns.len() >= MAX_CONNECTIONS || self.conns.len() + daemons >= self.max_descriptors
    }

    fn unauthenticated_here(&self) -> Vec<Candidate<ConnId, Shown>> {
        let here = self.unauthenticated.iter().filter_map(|id| self.conns.get(id));
        here.map(|c| Candidate { id: c.id, ip: c.address.ip(), rank: c.shown }).collect()
    }

    /// Strangers who wait for a later turn of the loop: there is time for few in each, since each
    /// may cost a Diffie-Hellman, and by then some of a flood's have made room.
    pub(crate) fn unauthenticated_later(&self) -> BTreeSet<ConnId> {
        let waiting = self.ready.iter().filter(|id| self.unauthenticated.contains(id));
        let waiting: Vec<_> = waiting
            .filter_map(|id| self.conns.get(id))
            .map(|c| Candidate { id: c.id, ip: c.address.ip(), rank: c.shown })
            .collect();
        if waiting.len() <= HANDSHAKE_QUANTUM {
            return BTreeSet::new();
        }
        unauthenticated::served_first(&waiting).into_iter().skip(HANDSHAKE_QUANTUM).collect()
    }

    /// Inbound connections without a daemon, of peers without a funded channel. A peer with one is
    /// known by its node id before lightningd has heard of the connection and given it a daemon.
    fn idle_here(&self) -> Vec<Candidate<ConnId, Idle>> {
        let idle = |conn: &Conn| {
            let rank = match &conn.stage {
                Stage::Connecting | Stage::Handshaking => return None,
                Stage::Ending { .. } => Idle::Ending,
                Stage::AwaitsInit(node) | Stage::Running(node)
                    if self.funded_peers.contains(node) =>
                {
                    return None;
                }
                Stage::AwaitsInit(_) => Idle::AwaitsInit,
                Stage::Running(_) => Idle::Running,
            };
            let is_idle = conn.opened() == Opened::ByThem && conn.mux.daemons.is_empty();
            is_idle.then_some(Candidate { id: conn.id, ip: conn.address.ip(), rank })
        };
        let mut all: Vec<_> = self.conns.values().filter_map(idle).collect();
        // So that nothing but what is drawn decides.
        all.sort_unstable_by_key(|c| c.id);
        all
    }

    /// Ends an inbound connection that serves no channel. Unauthenticated ones come after that:
    /// they may be peers with a funded channel in their handshake, and are few; where they are
    /// many, all together or from one address, they come first.
    pub(crate) fn make_room(&mut self) -> Result<bool, Failure> {
        let (strangers, idle) = (self.unauthenticated_here(), self.idle_here());
        let flood = unauthenticated::largest(&strangers);
        let many = strangers.len() > MAX_UNAUTHENTICATED / 2
            || (flood > MANY_UNAUTHENTICATED && flood > unauthenticated::largest(&idle));
        let why = "all places are taken, and nothing was going on here";
        if many || idle.is_empty() { self.evict(&strangers, why) } else { self.evict(&idle, why) }
    }

    fn evict<R: Copy + Ord>(
        &mut self,
        candidates: &[Candidate<ConnId, R>],
        why: &str,
    ) -> Result<bool, Failure> {
        let [a, b, c, d, e, f, g, h, ..] = (self.outside.random)();
        let drawn = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let Some(victim) = unauthenticated::victim(candidates, drawn) else { return Ok(false) };
        self.end(victim.id, why)?;
        Ok(true)
    }
}

/// How far a connection has come whose peer has no channel here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Idle {
    /// A last message is sent, and the connection ends.
    Ending,
    /// Its `init` is awaited.
    AwaitsInit,
    Running,
}
