//! A daemon's line to the master: born with it, ends with it.

use crate::barrier;
use crate::failure::Failure;
use crate::frame::{Conn, Frame, OutQueue};
use crate::logger;
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use wire::daemon::{LogLevel, Start, Status};
use wire::{Malformed, Message, Request, Wire};
use zeroize::Zeroize;

/// What a daemon is born with.
#[derive(Debug)]
pub struct Child {
    /// The master's orders; the daemon's own init comes first.
    pub orders: Orders,
    /// Reports and asks.
    pub master: Master,
    /// `--developer`.
    pub developer: bool,
    /// What it is to do where the kernel has not all of its box: for [`enter_sandbox`].
    pub sandbox: sandbox::Mode,
}

/// The downward socket. Orders wait in the kernel until the daemon has time.
#[derive(Debug)]
pub struct Orders(Conn);

/// The upward socket: reports, asks and their answers. Cloned only for the log.
#[derive(Debug, Clone)]
pub struct Master(Arc<Mutex<Line>>);

/// The upward socket and, for a daemon that must not wait for the master to read, what waits in its stead.
#[derive(Debug)]
struct Line {
    conn: Conn,
    queue: Option<OutQueue>,
    /// The master's lock, which is free only when all of its children are gone: a master that starts after a crash waits for it.
    _alive: Option<OwnedFd>,
}

impl Line {
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

/// A daemon's `main`: `--version`, birth, `run`, and the last word to the master.
pub fn main(name: &'static str, run: impl FnOnce(Child) -> Result<(), Failure>) -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("--version") => {
            println!("{:016x}", wire::VERSION);
            return ExitCode::SUCCESS;
        }
        Some(_) => {
            eprintln!("{name} is started by lightningd, not by hand");
            return ExitCode::from(3);
        }
        None => {}
    }
    if let Err(e) = sandbox::undumpable() {
        eprintln!("{name}: its memory can be read by others of this user: {e}");
    }
    // Orphans would hold channels open that nobody answers for.
    if nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).is_err() {
        eprintln!("{name}: cannot ask to die with lightningd");
        return ExitCode::FAILURE;
    }
    let child = match Child::from_stdin() {
        Ok(child) => child,
        Err(e) => {
            eprintln!("{name}: {e}");
            return ExitCode::from(10);
        }
    };
    let master = child.master.clone();
    match run(child) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If the master is gone too there is nobody left to hear it.
            let _ = master.report(&failure.report());
            ExitCode::FAILURE
        }
    }
}

/// Goes into a box, for good: once it has what it needs, and before anything that a stranger made is read.
pub fn enter_sandbox(which: &sandbox::Box, mode: sandbox::Mode) -> Result<(), Failure> {
    enter_sandbox_with(which, mode, || {})
}

/// The same, with the threads that `beget` gives birth to: see [`sandbox::enter_with`].
pub fn enter_sandbox_with(
    which: &sandbox::Box,
    mode: sandbox::Mode,
    beget: impl FnOnce(),
) -> Result<(), Failure> {
    let barriers = if barrier::is_on() { sandbox::Barriers::On } else { sandbox::Barriers::Off };
    let missing = sandbox::enter_with(which, mode, barriers, beget).map_err(Failure::Internal)?;
    if missing.is_empty() {
        log::debug!("sandboxed");
    } else {
        log::info!("sandboxed, but without: {}", missing.join(", "));
    }
    Ok(())
}

impl Child {
    fn from_stdin() -> Result<Self, Failure> {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(Failure::internal)?;
        let (child, level) = Self::begin(stdin)?;
        if let Some(path) = std::env::var_os(barrier::VARIABLE).filter(|_| child.developer) {
            let path = std::path::PathBuf::from(path);
            barrier::begin(&path).map_err(Failure::internal)?;
            if barrier::outlives_master(&path) {
                nix::sys::prctl::set_pdeathsig(None).map_err(Failure::internal)?;
            }
        }
        logger::install(child.master.clone(), level);
        Ok(child)
    }

    /// Reads `Start` from the downward socket.
    pub(crate) fn begin(downward: OwnedFd) -> Result<(Self, LogLevel), Failure> {
        let mut orders = Orders(Conn::new(downward));
        let Frame { body, mut fds } = orders.recv()?;
        let start = body
            .get(2..)
            .filter(|_| body.starts_with(&Start::NUMBER.to_be_bytes()))
            .ok_or_else(|| Failure::internal("the first frame is not Start"))
            .and_then(|rest| Start::take_body(rest).map_err(Failure::internal))?;
        if start.version != wire::VERSION {
            return Err(Failure::internal(format!(
                "lightningd speaks version {:016x} of the suite's messages and this daemon {:016x}: install both from one build",
                start.version,
                wire::VERSION
            )));
        }
        let upward = take_fd(&mut fds, "upward socket")?;
        let line = Line { conn: Conn::new(upward), queue: None, _alive: fds.pop_front() };
        let master = Master(Arc::new(Mutex::new(line)));
        let sandbox = match start.sandbox_required {
            true => sandbox::Mode::Required,
            false => sandbox::Mode::BestEffort,
        };
        Ok((Self { orders, master, developer: start.developer, sandbox }, start.log_level))
    }
}

/// The next descriptor of a frame, or a complaint that names what it should have been.
pub(crate) fn take_fd(fds: &mut VecDeque<OwnedFd>, what: &str) -> Result<OwnedFd, Failure> {
    fds.pop_front().ok_or_else(|| Failure::internal(format!("no descriptor for the {what}")))
}

impl Orders {
    /// Waits for the next order. The master's end is ours too.
    pub fn recv(&mut self) -> Result<Frame, Failure> {
        let frame = self.0.recv().map_err(gone)?;
        barrier::pass("after an order");
        Ok(frame)
    }
    /// The next order, of this set.
    pub fn recv_as<T>(
        &mut self,
        decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<(T, VecDeque<OwnedFd>), Failure> {
        let frame = self.recv()?;
        Ok((decode(&frame.body).map_err(Failure::internal)?, frame.fds))
    }
    /// For a daemon with a loop of its own: from now on [`Orders::try_recv`] does not wait.
    pub fn never_wait(&self) -> Result<(), Failure> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(self.0.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map(|_| ())
            .map_err(Failure::internal)
    }
    /// The next order if one is there. `None`: not before the descriptor is readable again.
    pub fn try_recv(&mut self) -> Result<Option<Frame>, Failure> {
        match self.0.recv() {
            Ok(frame) => {
                barrier::pass("after an order");
                Ok(Some(frame))
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(gone(e)),
        }
    }
    /// Is an order there, or on its way?
    pub fn is_ready(&self) -> Result<bool, Failure> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(ready) => Ok(self.has_buffered() || ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(self.has_buffered()),
            Err(e) => Err(Failure::internal(format!("poll: {e}"))),
        }
    }
    /// Is an order read already?
    pub fn has_buffered(&self) -> bool {
        self.0.has_buffered()
    }
    /// A descriptor that came with an order.
    pub fn take_fd(fds: &mut VecDeque<OwnedFd>, what: &str) -> Result<OwnedFd, Failure> {
        take_fd(fds, what)
    }
}
impl AsFd for Orders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Master {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().expect("no daemon panics while it holds its line to the master: panics abort")
    }

    /// Says something that needs no answer.
    pub fn report<M: Message>(&self, message: &M) -> Result<(), Failure> {
        self.line().say(&message.encode()).map_err(gone)
    }

    /// For a daemon with a loop of its own that asks nothing: from now on reports, log lines among them, wait here for a
    /// slow master. The daemon flushes, and bounds them by [`Master::waiting`].
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

    /// The last report: with it the peer's socket goes to the next daemon, from the copy that the master kept. It is moved, so
    /// nothing can be sent on it after.
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

fn gone(e: std::io::Error) -> Failure {
    Failure::Cancelled(format!("lightningd is gone: {e}"))
}
