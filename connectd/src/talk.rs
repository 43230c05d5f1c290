//! Reading the daemons of a connection, fairly and within what the peer takes.

use crate::conn::{Conn, Stage};
use crate::limits::QUANTUM;
use crate::mux::DaemonId;
use crate::serve::Stop;
use crate::sort::{batch_of, ends_everything};
use crate::switchboard::Switchboard;
use std::os::fd::AsFd;
use std::time::Instant;
use subdaemon::recv_record;
use wire::connectd::{PEER_RECORD_CONTROL, PEER_RECORD_MESSAGE, PeerControl};

/// The outcome of one record of a daemon.
enum Read {
    /// The next.
    More,
    /// There is none now.
    Nothing,
    /// The daemon is to be taken off.
    Off,
}

impl Switchboard {
    /// Reads every daemon that has something to say. True: somebody has more.
    pub(crate) fn read_daemons(&mut self, conn: &mut Conn) -> Result<bool, Stop> {
        if matches!(conn.stage, Stage::Ending { .. }) {
            return Ok(false);
        }
        let count = conn.mux.daemons.len();
        let first = conn.turn;
        conn.turn = (first + 1) % count.max(1);
        let order: Vec<DaemonId> = (0..count)
            .filter_map(|n| conn.mux.daemons.get((first + n) % count))
            .map(|d| d.id)
            .collect();
        let mut more = false;
        let was_batch = conn.batch.is_some();
        for id in order {
            more |= self.read_daemon(conn, id)?;
        }
        // A batch whose daemon is gone will never be complete.
        if let Some((id, _)) = conn.batch
            && conn.mux.daemon(id).is_none()
        {
            end_batch(conn, self.now);
        }
        // Daemons that waited for the end of a batch are read now.
        Ok(more || (was_batch && conn.batch.is_none()))
    }

    /// Before we hang up: what daemons had said by then. Their sockets may have more to tell than
    /// this turn's events did.
    pub(crate) fn hear_out(&mut self, conn: &mut Conn) {
        for daemon in &mut conn.mux.daemons {
            daemon.readable = true;
        }
        // A daemon that asked us to hang up ends the round for the others, and needs no other
        // answer than this.
        for _ in 0..=conn.mux.daemons.len() {
            if self.read_daemons(conn).is_ok() {
                return;
            }
        }
    }

    fn read_daemon(&mut self, conn: &mut Conn, id: DaemonId) -> Result<bool, Stop> {
        for _ in 0..QUANTUM {
            if conn.batch.is_some_and(|(speaker, _)| speaker != id) {
                // It will be read when the batch is over; what it has to say stays where it is.
                return Ok(false);
            }
            let too_much = self.is_sending_too_much(conn);
            let full = too_much || !conn.has_room();
            let Some(daemon) = conn.mux.daemon(id) else { return Ok(false) };
            if !daemon.readable {
                return Ok(false);
            }
            if full {
                daemon.paused = true;
                conn.throttled = true;
                self.stopped.by_sent |= too_much;
                return Ok(false);
            }
            match self.read_record(conn, id)? {
                Read::More => {}
                Read::Nothing => return Ok(false),
                Read::Off => {
                    conn.mux.detach(&self.registry, id);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn read_record(&mut self, conn: &mut Conn, id: DaemonId) -> Result<Read, Stop> {
        let Some(daemon) = conn.mux.daemon(id) else { return Ok(Read::Nothing) };
        let len = match recv_record(daemon.socket.as_fd(), &mut self.record) {
            Ok(None) => {
                daemon.readable = false;
                return Ok(Read::Nothing);
            }
            Ok(Some(None)) => return Ok(Read::Off),
            Ok(Some(Some(len))) => {
                subdaemon::barrier::pass("after a word of a daemon's");
                len
            }
            Err(e) => {
                log::debug!("{}: a daemon's socket: {e}", conn.name());
                return Ok(Read::Off);
            }
        };
        match self.record.get(..len).and_then(|record| record.split_first()) {
            Some((&PEER_RECORD_MESSAGE, message)) => say_for(conn, id, message, self.now),
            Some((&PEER_RECORD_CONTROL, control)) => {
                let control = PeerControl::decode_known(control);
                self.control(conn, id, control.map_err(|e| e.to_string()))
            }
            _ => {
                log::error!("{}: malformed record from a daemon", conn.name());
                Ok(Read::Off)
            }
        }
    }

    fn control(
        &mut self,
        conn: &mut Conn,
        id: DaemonId,
        control: Result<PeerControl, String>,
    ) -> Result<Read, Stop> {
        let wrong = match control {
            Ok(PeerControl::AlsoRoute(also)) => match conn.mux.also_route(id, also.channel) {
                Ok(()) => return Ok(Read::More),
                // The peer names a channel's funding, and so its id: it may name one that it has
                // already.
                Err(why) => {
                    log::warn!(
                        "{}: cannot route messages of channel {} to a daemon: {why}",
                        conn.name(),
                        also.channel
                    );
                    return Ok(Read::Off);
                }
            },
            Ok(PeerControl::CloseConnection(_)) => {
                return Err(Stop::Finish("a channel's daemon asked for it".to_owned()));
            }
            Ok(PeerControl::Leave(_)) => {
                conn.mux.leave(id);
                return Ok(Read::More);
            }
            Ok(PeerControl::Drained(_)) => "a daemon says Drained".to_owned(),
            Err(why) => why,
        };
        log::error!("{}: closing a daemon's socket: {wrong}", conn.name());
        Ok(Read::Off)
    }
}

/// A daemon's message to the peer.
fn say_for(conn: &mut Conn, id: DaemonId, message: &[u8], now: Instant) -> Result<Read, Stop> {
    conn.seal(message, now);
    match (&mut conn.batch, batch_of(message)) {
        (Some((_, left)), _) => {
            *left = left.saturating_sub(1);
            if *left == 0 {
                end_batch(conn, now);
            }
        }
        (None, Some(size)) if size > 0 => conn.batch = Some((id, size)),
        (None, _) => {}
    }
    // BOLT 1: with an error about every channel the conversation is over.
    if ends_everything(message) {
        return Err(Stop::Finish("we said error to every channel".to_owned()));
    }
    Ok(Read::More)
}

/// Sends the messages that waited for the end of the batch.
fn end_batch(conn: &mut Conn, now: Instant) {
    conn.batch = None;
    while let Some(message) = conn.after_batch.pop_front() {
        conn.seal(&message, now);
    }
}
