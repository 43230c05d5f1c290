//! Dialling: one peer, its addresses one after the other, names looked up on the way. A dial ends
//! when the peer is connected, whoever of the two opened the connection, or when every address has
//! failed.

use crate::conn::{Conn, ConnId, Stage};
use crate::dials::{Current, Dial, Lookup};
use crate::limits::{MAX_ADDRESSES, MAX_DIALS, MAX_LOOKUPS, MAX_WAITING_DIALS};
use crate::link::Link;
use crate::switchboard::Switchboard;
use crate::tokens::token_of;
use mio::Interest;
use primitives::NodeId;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use subdaemon::Failure;
use wire::connectd::{Address, ConnectFailed, DialFailure};

impl Switchboard {
    /// The order to dial. While a dial to this peer is under way, its addresses are added to it.
    pub(crate) fn dial(&mut self, node: NodeId, addresses: Vec<Address>) -> Result<(), Failure> {
        if let Some(id) = self.duplicates.connected(&node)
            && self.conns.get(&id).is_some_and(|conn| matches!(conn.stage, Stage::Running(_)))
        {
            // The master was told, or is being told.
            return Ok(());
        }
        let refusal = if node == self.node_id {
            Some("that is our own id")
        } else if node.point().is_none() {
            Some("the id is no valid key")
        } else if self.dials.waiting.len() >= MAX_WAITING_DIALS {
            Some("too many peers are being dialled")
        } else {
            None
        };
        if let Some(why) = refusal {
            let failures = vec![DialFailure { address: node.to_string(), why: why.to_owned() }];
            return self.report(&ConnectFailed { node, failures });
        }
        if let Some(dial) = self.dials.dials.get_mut(&node) {
            for address in addresses {
                if dial.addresses.len() < MAX_ADDRESSES && !dial.addresses.contains(&address) {
                    dial.addresses.push_back(address);
                }
            }
            return Ok(());
        }
        let dial = Dial {
            addresses: addresses.into_iter().take(MAX_ADDRESSES).collect(),
            failures: Vec::new(),
            current: Current::Place,
        };
        let has_place = self.dials.active() < MAX_DIALS;
        self.dials.dials.insert(node, dial);
        if has_place {
            self.try_next(node)
        } else {
            self.dials.waiting.push_back(node);
            Ok(())
        }
    }

    /// Tries this peer's next address, and the next, until one is under way or none is left.
    fn try_next(&mut self, node: NodeId) -> Result<(), Failure> {
        while let Some(dial) = self.dials.dials.get_mut(&node) {
            let Some(address) = dial.addresses.pop_front() else {
                let failures = std::mem::take(&mut dial.failures);
                self.report(&ConnectFailed { node, failures })?;
                self.dial_over(node);
                return Ok(());
            };
            match self.start(node, &address) {
                Ok(current) => {
                    if let Some(dial) = self.dials.dials.get_mut(&node) {
                        dial.current = current;
                    }
                    return Ok(());
                }
                Err(why) => self.note_failure(node, show(&address), why),
            }
        }
        Ok(())
    }

    fn note_failure(&mut self, node: NodeId, address: String, why: String) {
        if let Some(dial) = self.dials.dials.get_mut(&node) {
            log::debug!("{node}: {address}: {why}");
            dial.failures.push(DialFailure { address, why });
        }
    }

    fn start(&mut self, node: NodeId, address: &Address) -> Result<Current, String> {
        match address.host.parse::<IpAddr>() {
            Ok(ip) => self.open(node, SocketAddr::new(ip, address.port)).map(Current::Conn),
            Err(_) => self.look_up(node, address).map(Current::Lookup),
        }
    }

    fn open(&mut self, node: NodeId, at: SocketAddr) -> Result<ConnId, String> {
        let their_id = node.point().ok_or("the id is no valid key")?;
        if self.is_crowded() && !self.make_room().map_err(|e| e.to_string())? {
            return Err("all places for connections are taken".to_owned());
        }
        let failed = |e: std::io::Error| format!("Connection establishment: {e}");
        let mut stream = (self.outside.connect)(at).map_err(failed)?;
        let id = self.new_id();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut stream, token_of(id, None), both).map_err(failed)?;
        let link = Link::dialler(self.our_id, their_id, self.outside.ephemeral());
        let conn = Conn::new(id, stream, link, at, Some(node), self.times, self.now);
        self.due(conn.since + self.times.dial);
        self.conns.insert(id, conn);
        Ok(id)
    }

    fn look_up(&mut self, node: NodeId, address: &Address) -> Result<u64, String> {
        if address.host.ends_with(".onion") {
            return Err("Tor addresses are not supported".to_owned());
        }
        if self.disable_dns {
            return Err("names are not looked up (disable-dns)".to_owned());
        }
        if self.dials.lookups.len() >= MAX_LOOKUPS {
            return Err("too many names are being looked up".to_owned());
        }
        let id = self.new_id();
        let resolver = self.resolver.as_ref().ok_or("there is no resolver process")?;
        if !resolver.ask(id, &address.host) {
            return Err("the resolver process takes no question".to_owned());
        }
        let until = self.now + self.times.lookup;
        self.dials.lookups.insert(id, Lookup { node, address: address.clone(), until });
        self.due(until);
        Ok(id)
    }

    /// Names that were looked up.
    pub(crate) fn answers(&mut self) -> Result<(), Failure> {
        while let Some(resolver) = &mut self.resolver {
            match resolver.answer() {
                Ok(None) => break,
                Ok(Some(answer)) => self.answered(answer.id, answer.addresses)?,
                Err(why) => {
                    log::warn!("{why}: names are no longer looked up");
                    self.resolver = None;
                    for id in self.dials.lookups.keys().copied().collect::<Vec<_>>() {
                        self.answered(id, Err(why.clone()))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn answered(&mut self, id: u64, found: Result<Vec<IpAddr>, String>) -> Result<(), Failure> {
        let Some(Lookup { node, address, .. }) = self.dials.lookups.remove(&id) else {
            return Ok(());
        };
        let Some(dial) = self.dials.dials.get_mut(&node) else { return Ok(()) };
        if dial.current != Current::Lookup(id) {
            return Ok(());
        }
        match found {
            Ok(ips) => {
                for ip in ips.into_iter().rev() {
                    if dial.addresses.len() < MAX_ADDRESSES {
                        let found = Address { host: ip.to_string(), port: address.port };
                        dial.addresses.push_front(found);
                    }
                }
            }
            Err(why) => self.note_failure(node, show(&address), why),
        }
        self.try_next(node)
    }

    /// Names that nobody knows in time.
    pub(crate) fn check_lookup_deadlines(&mut self, now: Instant) -> Result<(), Failure> {
        let late = |lookup: &Lookup| lookup.until <= now;
        let ids: Vec<u64> = {
            let lookups = self.dials.lookups.iter();
            lookups.filter(|(_, lookup)| late(lookup)).map(|(id, _)| *id).collect()
        };
        for id in ids {
            self.answered(id, Err("the name server did not answer".to_owned()))?;
        }
        if let Some(next) = self.dials.lookups.values().map(|lookup| lookup.until).min() {
            self.due(next);
        }
        Ok(())
    }

    /// A connection that we opened is over without ever having been reported. Where the peer has
    /// one of its own under way, it may have dropped ours for it: the dial waits for how that one
    /// fares.
    pub(crate) fn dial_failed(
        &mut self,
        node: NodeId,
        id: ConnId,
        address: String,
        why: &str,
    ) -> Result<(), Failure> {
        let current = self.dials.dials.get(&node).map(|dial| dial.current);
        if current != Some(Current::Conn(id)) {
            return Ok(());
        }
        self.note_failure(node, address, why.to_owned());
        if self.duplicates.has_any(&node) {
            self.dial_crossed(node, id);
            return Ok(());
        }
        self.try_next(node)
    }

    /// Our connection goes in favour of another with this peer: the dial waits for how that one
    /// fares.
    pub(crate) fn dial_crossed(&mut self, node: NodeId, id: ConnId) {
        if let Some(dial) = self.dials.dials.get_mut(&node)
            && dial.current == Current::Conn(id)
        {
            dial.current = Current::Duplicate;
        }
    }

    /// An unreported connection with this peer is over: did a dial wait for it?
    pub(crate) fn duplicate_failed(&mut self, node: NodeId, why: &str) -> Result<(), Failure> {
        let current = self.dials.dials.get(&node).map(|dial| dial.current);
        if current != Some(Current::Duplicate) || self.duplicates.has_any(&node) {
            return Ok(());
        }
        let why = format!("the peer's own connection crossed ours and failed: {why}");
        self.note_failure(node, "inbound".to_owned(), why);
        self.try_next(node)
    }

    /// The peer is connected: what is still under way to it can be dropped, as it cannot know of
    /// it.
    pub(crate) fn dial_succeeded(&mut self, node: NodeId) -> Result<(), Failure> {
        self.dial_over(node);
        let dialled = |conn: &&Conn| {
            conn.dialled == Some(node)
                && matches!(conn.stage, Stage::Connecting | Stage::Handshaking)
        };
        let late: Vec<ConnId> = self.conns.values().filter(dialled).map(|conn| conn.id).collect();
        late.into_iter().try_for_each(|id| self.end(id, "connected meanwhile"))
    }

    fn dial_over(&mut self, node: NodeId) {
        self.dials.dials.remove(&node);
        self.dials.waiting.retain(|other| *other != node);
    }

    /// Starts dials that waited for a place, while there is one.
    pub(crate) fn dial_waiting(&mut self) -> Result<(), Failure> {
        while !self.dials.waiting.is_empty()
            && self.dials.active() < MAX_DIALS
            && let Some(next) = self.dials.waiting.pop_front()
        {
            self.try_next(next)?;
        }
        Ok(())
    }
}

fn show(address: &Address) -> String {
    if address.host.contains(':') {
        format!("[{}]:{}", address.host, address.port)
    } else {
        format!("{}:{}", address.host, address.port)
    }
}
