//! What a connection's turn is: write what waits, read the peer, read its daemons, write again. And
//! what the peer's messages mean to this process.

use crate::conn::{Conn, ConnId, Stage};
use crate::duplicates::Opened;
use crate::init;
use crate::limits::{MAX_COMPLAINTS, QUANTUM};
use crate::link::LinkStep;
use crate::mux::Delivery;
use crate::pings::Due;
use crate::sort::{Belongs, sort};
use crate::switchboard::Switchboard;
use primitives::{ChannelId, NodeId, Point};
use std::io;
use subdaemon::Failure;
use wire::connectd::{Connected, PeerComplained, Ponged, Spoke};
use wire::{Bytes, Decoded, Message, SetupMessage, Warning};

/// The state of a connection after its turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The connection waits for events.
    Wait,
    /// There is more to do at once, after the others had their turn.
    Again,
    /// The connection is over now.
    Over(String),
}

/// Why reading stops.
pub(crate) enum Stop {
    /// Hang up without a word.
    HangUp(String),
    /// Tell the peer, then hang up.
    Warn(String),
    /// Write the queue, then hang up.
    Finish(String),
    /// Ours: the whole process ends.
    Fatal(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Fatal(failure)
    }
}

impl Switchboard {
    /// A connection's turn.
    pub(crate) fn serve(&mut self, id: ConnId) -> Result<(), Failure> {
        let Some(mut conn) = self.conns.remove(&id) else { return Ok(()) };
        conn.queued = false;
        let then = self.serve_conn(&mut conn);
        self.account(&mut conn);
        match then? {
            Then::Over(why) => self.remove(conn, &why),
            Then::Wait => {
                self.conns.insert(id, conn);
                Ok(())
            }
            Then::Again => {
                self.conns.insert(id, conn);
                self.wake(id);
                Ok(())
            }
        }
    }

    fn serve_conn(&mut self, conn: &mut Conn) -> Result<Then, Failure> {
        if conn.stage == Stage::Connecting {
            match conn.is_established() {
                Ok(true) => {
                    conn.stage = Stage::Handshaking;
                    conn.since = self.now;
                    self.due(conn.since + self.times.handshake);
                }
                Ok(false) => return Ok(Then::Wait),
                Err(e) => return Ok(Then::Over(format!("Connection establishment: {e}"))),
            }
        }
        let mut more = false;
        if let Err(e) = conn.flush(self.now) {
            return Ok(Then::Over(lost(conn, &e)));
        }
        conn.mux.flush();
        match self.read_both(conn, &mut more) {
            Ok(()) => {}
            Err(Stop::Fatal(failure)) => return Err(failure),
            Err(Stop::HangUp(why)) => {
                let _ = conn.flush(self.now);
                return Ok(Then::Over(why));
            }
            Err(Stop::Warn(why)) => {
                // Whatever a daemon was saying, it is not going to be finished.
                conn.batch = None;
                conn.seal(&Warning::new(ChannelId::ALL, &why).encode(), self.now);
                self.finish(conn, why);
            }
            Err(Stop::Finish(why)) => self.finish(conn, why),
        }
        if let Err(e) = conn.flush(self.now) {
            return Ok(Then::Over(lost(conn, &e)));
        }
        if conn.link.out_len() > 0 {
            self.due(conn.took + self.times.stall);
        } else if std::mem::take(&mut conn.throttled) {
            conn.mux.drained();
        }
        if let Stage::Ending { why, .. } = &conn.stage
            && conn.link.out_len() == 0
            && !conn.mux.is_waiting()
        {
            return Ok(Then::Over(why.clone()));
        }
        Ok(if more || self.has_work(conn) { Then::Again } else { Then::Wait })
    }

    /// Peer and daemons, a quantum of each. `more`: there is more to read.
    fn read_both(&mut self, conn: &mut Conn, more: &mut bool) -> Result<(), Stop> {
        *more |= self.read_peer(conn)?;
        *more |= self.read_daemons(conn)?;
        Ok(())
    }

    /// The last write may have made room for what waits: no event will say so.
    fn has_work(&mut self, conn: &Conn) -> bool {
        if matches!(conn.stage, Stage::Ending { .. }) || !conn.has_room() {
            return false;
        }
        let may_speak = |id| conn.batch.is_none_or(|(speaker, _)| speaker == id);
        let eager = conn.mux.daemons.iter().any(|d| d.readable && may_speak(d.id));
        let owed = self.pong_at(conn).is_some_and(|at| at <= self.now);
        let owes = conn.batch.is_none() && owed;
        let too_much = (eager || owes) && self.is_sending_too_much(conn);
        self.stopped.by_sent |= too_much;
        (eager || owes) && !too_much
    }

    /// From here on only what is queued is written.
    pub(crate) fn finish(&mut self, conn: &mut Conn, why: String) {
        let until = self.now + self.times.last_words;
        let (node, reported) = match &conn.stage {
            Stage::AwaitsInit(node) => (*node, false),
            Stage::Running(node) => (*node, true),
            Stage::Connecting | Stage::Handshaking | Stage::Ending { .. } => return,
        };
        log::debug!("{node}: hanging up: {why}");
        conn.stage = Stage::Ending { node, reported, why, until };
        self.due(until);
    }

    /// Are we not listening to this peer for now?
    fn is_deaf(&mut self, conn: &Conn) -> bool {
        let held = self.is_holding_too_much() && conn.mux.held_bytes() > 0;
        let reports = self.is_report_queue_full() && conn.mux.daemons.is_empty();
        self.stopped.by_held |= held;
        self.stopped.by_reports |= reports;
        held || reports || conn.mux.is_waiting() || conn.mux.is_full()
    }

    /// Reads the peer until there is nothing, or its quantum is used up (`true`), or somebody
    /// behind has enough.
    fn read_peer(&mut self, conn: &mut Conn) -> Result<bool, Stop> {
        for _ in 0..QUANTUM {
            self.pay_pongs(conn);
            if matches!(conn.stage, Stage::Ending { .. }) || self.is_deaf(conn) {
                return Ok(false);
            }
            if conn.owes_init && conn.link.is_open() {
                conn.owes_init = false;
                let seen = (conn.opened() == Opened::ByThem).then_some(conn.address);
                conn.seal(&init::ours(&self.features, self.network, seen), self.now);
            }
            let running = matches!(conn.stage, Stage::Running(_));
            match conn.link.step() {
                Err(e) => return Err(Stop::HangUp(format!("Cryptographic handshake: {e}"))),
                Ok(LinkStep::Wait) => {
                    if !conn.readable {
                        return Ok(false);
                    }
                    match conn.read() {
                        Ok(None) => return Ok(false),
                        Ok(Some(0)) => return Err(Stop::HangUp(closed(conn))),
                        Ok(Some(_)) => conn.pings.heard(self.now),
                        Err(e) => return Err(Stop::HangUp(lost(conn, &e))),
                    }
                }
                Ok(LinkStep::Mix(question)) => {
                    let mixed = self.hsm.ask(&question)?;
                    if let Err(e) = conn.link.mixed(mixed) {
                        return Err(Stop::HangUp(format!("Cryptographic handshake: {e}")));
                    }
                }
                Ok(LinkStep::Authenticated(point)) => self.authenticated(conn, point)?,
                Ok(LinkStep::Message(message)) if running => {
                    // The way of nearly every message: no copy, no decoding.
                    if let Belongs::Channel(channel) = sort(message)
                        && conn.mux.deliver(&channel, message) == Delivery::Done
                    {
                        continue;
                    }
                    let message = message.to_vec();
                    self.heard(conn, message)?;
                }
                Ok(LinkStep::Message(message)) => {
                    let message = message.to_vec();
                    self.greeted(conn, &message)?;
                }
            }
        }
        Ok(true)
    }

    /// The handshake has shown who it is: which of the connections with this peer stays?
    fn authenticated(&mut self, conn: &mut Conn, point: Point) -> Result<(), Stop> {
        let node = NodeId::from(point);
        if node == self.node_id {
            return Err(Stop::HangUp("that is ourselves".to_owned()));
        }
        let verdict = self.duplicates.authenticated(node, conn.id, conn.opened(), self.now);
        for old in verdict.close {
            self.dial_crossed(node, old);
            self.end(old, "the peer connected again")?;
        }
        if !verdict.stays {
            self.dial_crossed(node, conn.id);
            return Err(Stop::HangUp("crossed with another connection".to_owned()));
        }
        self.unauthenticated.remove(&conn.id);
        conn.stage = Stage::AwaitsInit(node);
        conn.owes_init = true;
        Ok(())
    }

    /// The first message, which must be `init`. BOLT 1: nothing else comes before it.
    fn greeted(&mut self, conn: &mut Conn, message: &[u8]) -> Result<(), Stop> {
        let Stage::AwaitsInit(node) = conn.stage else {
            return Err(Stop::HangUp("a message out of place".to_owned()));
        };
        let init = match SetupMessage::decode(message) {
            Ok(Decoded::Known(SetupMessage::Init(init))) => init,
            Ok(Decoded::Known(SetupMessage::Error(e))) => {
                return Err(Stop::HangUp(format!("the peer refuses us: {}", e.text())));
            }
            Ok(Decoded::Known(SetupMessage::Warning(w))) => {
                return Err(Stop::HangUp(format!("the peer refuses us: {}", w.text())));
            }
            Ok(_) => return Err(Stop::Warn("the first message must be init".to_owned())),
            Err(e) => return Err(Stop::Warn(format!("bad init: {e}"))),
        };
        let heard = init::judge(&init, &self.features, self.network)
            .map_err(|unwelcome| Stop::Warn(unwelcome.to_string()))?;
        for old in self.duplicates.init_received(node, conn.id) {
            self.end(old, "the peer connected again")?;
        }
        conn.stage = Stage::Running(node);
        self.dial_succeeded(node)?;
        log::debug!("{node}: connected, {:?}, as connection {}", conn.direction(), conn.id);
        self.report(&Connected {
            node,
            connection: conn.id,
            direction: conn.direction(),
            address: conn.address(),
            remote_addr: heard.remote_addr,
            features: heard.features,
        })?;
        self.due(self.now + self.times.ping_idle);
        Ok(())
    }

    /// A message of a connected peer that no daemon took.
    fn heard(&mut self, conn: &mut Conn, message: Vec<u8>) -> Result<(), Stop> {
        let Stage::Running(node) = conn.stage else { return Ok(()) };
        match sort(&message) {
            Belongs::Channel(channel) => self.no_daemon(conn, node, channel, message),
            Belongs::Nobody => Ok(()),
            Belongs::Here | Belongs::AllChannels => self.setup_message(conn, node, &message),
            Belongs::Unknown(number) => Err(Stop::Warn(format!("unknown message {number}"))),
            Belongs::TooShort => Err(Stop::Warn("a message too short for its type".to_owned())),
            Belongs::NoChannel => Err(Stop::Warn("a message about channel 0".to_owned())),
        }
    }

    /// No daemon serves this channel yet: the message is held, and lightningd is told of the first.
    fn no_daemon(
        &mut self,
        conn: &mut Conn,
        node: NodeId,
        channel: ChannelId,
        message: Vec<u8>,
    ) -> Result<(), Stop> {
        // A warning starts nothing. An error may end a channel that has no daemon at the moment.
        if let Ok(Decoded::Known(SetupMessage::Warning(warning))) = SetupMessage::decode(&message) {
            // A peer may warn without limit; our log has a limit.
            conn.complaints = conn.complaints.saturating_add(1);
            if conn.complaints <= MAX_COMPLAINTS {
                log::info!("{node}: warning about channel {channel}: {}", warning.text());
            }
            return Ok(());
        }
        let spoke = Bytes(message.clone());
        if conn.mux.hold(channel, message, self.now) {
            self.due(self.now + self.times.held);
            self.report(&Spoke { node, connection: conn.id, channel, message: spoke })?;
        }
        Ok(())
    }

    fn setup_message(&mut self, conn: &mut Conn, node: NodeId, message: &[u8]) -> Result<(), Stop> {
        let known = match SetupMessage::decode(message) {
            Ok(Decoded::Known(known)) => known,
            Ok(Decoded::UnknownOdd(_) | Decoded::UnknownEven(_)) => return Ok(()),
            Err(e) => return Err(Stop::Warn(e.to_string())),
        };
        match known {
            SetupMessage::Ping(ping) => conn
                .pings
                .on_ping(&ping)
                // Its own words may wait behind ours, and it may not know what is wrong.
                .map_err(|_| Stop::Warn("you ask for more pongs than you read or get".to_owned())),
            SetupMessage::Pong(pong) => {
                if let Some(ask) = conn.pings.on_pong(&pong) {
                    // A pong is a message: number, length, and at most 65531 bytes.
                    let length = u16::try_from(4 + pong.ignored.len()).unwrap_or(u16::MAX);
                    self.report(&Ponged { node, ask, length })?;
                }
                Ok(())
            }
            SetupMessage::Error(error) => {
                conn.mux.deliver_to_all(message);
                self.complain(conn, node, true, error.text())?;
                Err(Stop::Finish(format!("the peer said error: {}", error.text())))
            }
            SetupMessage::Warning(warning) => {
                conn.mux.deliver_to_all(message);
                self.complain(conn, node, false, warning.text())?;
                Ok(())
            }
            SetupMessage::Init(_) => Err(Stop::Warn("a second init".to_owned())),
            SetupMessage::PeerStorage(_) | SetupMessage::PeerStorageRetrieval(_) => Ok(()),
        }
    }

    fn complain(
        &mut self,
        conn: &mut Conn,
        node: NodeId,
        is_error: bool,
        text: String,
    ) -> Result<(), Stop> {
        conn.complaints = conn.complaints.saturating_add(1);
        if conn.complaints > MAX_COMPLAINTS && !is_error {
            return Ok(());
        }
        self.report(&PeerComplained { node, connection: conn.id, is_error, text })?;
        Ok(())
    }

    /// Checks the deadlines of one connection.
    pub(crate) fn check_deadlines_of(&mut self, id: ConnId) -> Result<(), Failure> {
        let now = self.now;
        let (gagged, holding) = (self.is_report_queue_full(), self.is_holding_too_much());
        let times = self.times;
        match self.conns.get(&id).and_then(|conn| self.pong_at(conn)) {
            Some(at) if at > now => self.due(at),
            // The connection waits for a deadline, or for room, of which an event tells.
            Some(_) => self.wake(id),
            None => {}
        }
        let Some(conn) = self.conns.get_mut(&id) else { return Ok(()) };
        let waiting = conn.mux.is_waiting();
        let gagged = gagged && conn.mux.daemons.is_empty();
        let deaf = gagged || holding || waiting || conn.mux.is_full();
        let (deadline, why) = match &conn.stage {
            Stage::Connecting => {
                (conn.since + times.dial, "Connection establishment: timed out".to_owned())
            }
            Stage::Handshaking => {
                (conn.since + times.handshake, "Cryptographic handshake: timed out".to_owned())
            }
            Stage::AwaitsInit(_) => {
                (conn.since + times.handshake, "the peer's init did not come in time".to_owned())
            }
            Stage::Ending { until, why, .. } => (*until, why.clone()),
            Stage::Running(_) => {
                let mut next = match conn.pings.due(now, deaf) {
                    Due::At(at) => at,
                    Due::Ping(ping) => {
                        conn.say(ping, now);
                        now + times.pong
                    }
                    Due::Silent => return self.end(id, "no pong"),
                };
                let mut why = "no pong".to_owned();
                if conn.link.out_len() > 0 && conn.took + times.stall < next {
                    next = conn.took + times.stall;
                    why = "the peer takes nothing".to_owned();
                }
                if let Some((channel, since)) = conn.mux.oldest_held()
                    && since + times.held < next
                {
                    next = since + times.held;
                    why = format!("nobody serves channel {channel}");
                }
                (next, why)
            }
        };
        if waiting || conn.link.out_len() > 0 {
            self.wake(id);
        }
        if deadline > now {
            self.due(deadline);
            Ok(())
        } else {
            self.end(id, &why)
        }
    }
}

/// The connection broke.
fn lost(conn: &Conn, e: &io::Error) -> String {
    match conn.stage {
        Stage::Handshaking => format!("Cryptographic handshake: {e}"),
        Stage::Connecting | Stage::AwaitsInit(_) | Stage::Running(_) | Stage::Ending { .. } => {
            e.to_string()
        }
    }
}

/// The peer's end was read.
fn closed(conn: &Conn) -> String {
    let what = if matches!(conn.stage, Stage::Handshaking) && conn.dialled.is_some() {
        "Cryptographic handshake: peer closed connection (wrong key?)"
    } else {
        "the peer closed the connection"
    };
    what.to_owned()
}
