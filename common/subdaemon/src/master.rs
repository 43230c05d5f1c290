//! A daemon's line to the master: reports, asks and their answers.

use crate::barrier;
use crate::failure::Failure;
use crate::frame::{Conn, OutQueue};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use wire::daemon::Status;
use wire::{Message, Request, Wire};
use zeroize::Zeroize;

/// The upward socket: reports, asks and their answers. Cloned only for the log.
#[derive(Debug, Clone)]
pub struct Master(Arc<Mutex<Upward>>);

/// The upward socket and, for a daemon that must not wait for the master to read, what waits in its
/// stead.
#[derive(Debug)]
struct Upward {
    conn: Conn,
    queue: Option<OutQueue>,
    /// The master's lock, which is free only when all of its children are gone: a master that
    /// starts after a crash waits for it.
    _alive: Option<OwnedFd>,
}

impl Upward {
    fn send(&mut self, body: &[u8]) -> std::io::Result<()> {
        match &mut self.queue {
            None => self.conn.send(body, &[]),
            Some(queue) => {
                queue.push(body, Vec::new());
                queue.flush(self.conn.as_fd()).map(|_| ())
            }
        }
    }
    /// The same with a barrier before and after, but for the log: what it says changes nothing.
    fn say(&mut self, body: &[u8]) -> std::io::Result<()> {
        if is_log(body) {
            return self.send(body);
        }
        barrier::pass("before a report");
        self.send(body)?;
        barrier::pass("after a report");
        Ok(())
    }
}

impl Master {
    /// `alive`: the master's lock, held as long as this process has a line to it.
    pub(crate) fn new(upward: OwnedFd, alive: Option<OwnedFd>) -> Self {
        let line = Upward { conn: Conn::new(upward), queue: None, _alive: alive };
        Self(Arc::new(Mutex::new(line)))
    }

    fn line(&self) -> MutexGuard<'_, Upward> {
        self.0.lock().expect("no daemon panics while it holds its line to the master: panics abort")
    }

    /// Says something that needs no answer.
    pub fn report<M: Message>(&self, message: &M) -> Result<(), Failure> {
        self.line().say(&message.encode()).map_err(gone)
    }

    /// For a daemon with a loop of its own that asks nothing: from now on reports, log lines among
    /// them, wait here for a slow master. The daemon flushes, and bounds them by
    /// [`Master::waiting`].
    pub fn never_wait(&self) {
        self.line().queue.get_or_insert_with(OutQueue::default);
    }
    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&self) -> Result<(), Failure> {
        let line = &mut *self.line();
        match &mut line.queue {
            None => Ok(()),
            Some(queue) => queue.flush(line.conn.as_fd()).map(|_| ()).map_err(gone),
        }
    }
    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        self.line().queue.as_ref().map_or(0, OutQueue::bytes)
    }
    /// The socket, for a loop that waits until it can be written.
    pub fn raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.line().conn.as_fd())
    }

    /// The last report: with it the peer's socket goes to the next daemon, from the copy that the
    /// master kept. It is moved, so nothing can be sent on it after.
    pub fn hand_over<M: Message>(&self, message: &M, peer: OwnedFd) -> Result<(), Failure> {
        barrier::pass("before the handover");
        self.line().conn.send_kept(&message.encode()).map_err(gone)?;
        barrier::pass("after the handover");
        drop(peer);
        Ok(())
    }

    /// Asks, and waits. An answer means that what was asked is on disk.
    pub fn ask<R: Request>(&self, question: &R) -> Result<R::Answer, Failure> {
        let mut line = self.line();
        let mut body = R::NUMBER.to_be_bytes().to_vec();
        question.put(&mut body);
        barrier::pass("before an ask");
        let sent = line.conn.send(&body, &[]);
        // Keys of onions and revoked secrets pass here.
        body.zeroize();
        sent.map_err(gone)?;
        barrier::pass("after an ask");
        let mut frame = line.conn.recv().map_err(gone)?;
        barrier::pass("after the master's answer");
        let answer = take_answer::<R>(&frame.body);
        frame.body.zeroize();
        answer
    }

    /// One line on what this daemon is doing. `lasting`: until the next state.
    pub fn status(&self, lasting: Option<&str>, passing: Option<&str>) -> Result<(), Failure> {
        self.report(&Status {
            lasting: lasting.map(str::to_owned),
            passing: passing.map(str::to_owned),
        })
    }
}

/// Is this frame a line for the log?
pub fn is_log(body: &[u8]) -> bool {
    body.starts_with(&wire::daemon::Log::NUMBER.to_be_bytes())
}

pub(crate) fn take_answer<R: Request>(body: &[u8]) -> Result<R::Answer, Failure> {
    let rest = body.strip_prefix(&R::NUMBER.to_be_bytes()).ok_or_else(|| {
        Failure::internal(format!("an answer to something else than {}", R::NAME))
    })?;
    R::Answer::from_bytes(rest)
        .map_err(|e| Failure::internal(format!("the answer to {}: {e}", R::NAME)))
}

pub(crate) fn gone(e: std::io::Error) -> Failure {
    Failure::Cancelled(format!("lightningd is gone: {e}"))
}
