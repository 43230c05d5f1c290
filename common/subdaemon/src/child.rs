//! A daemon's start, its `main` and its orders.

use crate::barrier;
use crate::failure::Failure;
use crate::frame::{Conn, Frame};
use crate::logger;
use crate::master::{Master, gone};
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use wire::daemon::{LogLevel, Start};
use wire::{Malformed, Message};

/// The sockets and settings that a daemon starts with.
#[derive(Debug)]
pub struct Child {
    /// The master's orders; the daemon's own init comes first.
    pub orders: Orders,
    /// Reports and asks.
    pub master: Master,
    /// `--developer`.
    pub developer: bool,
    /// Whether it runs where the kernel lacks a part of its sandbox: for [`enter_sandbox`].
    pub sandbox: sandbox::Mode,
}

/// The downward socket. Orders wait in the kernel until the daemon has time.
#[derive(Debug)]
pub struct Orders(Conn);

/// A daemon's `main`: `--version`, start, `run`, and the last report to lightningd.
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

/// Goes into a box, for good: once it has what it needs, and before anything that a stranger made
/// is read.
pub fn enter_sandbox(which: &sandbox::Sandbox, mode: sandbox::Mode) -> Result<(), Failure> {
    enter_sandbox_with(which, mode, || {})
}

/// The same, with the threads that `start_threads` starts: see [`sandbox::enter_with`].
pub fn enter_sandbox_with(
    which: &sandbox::Sandbox,
    mode: sandbox::Mode,
    start_threads: impl FnOnce(),
) -> Result<(), Failure> {
    let barriers = if barrier::is_on() { sandbox::Barriers::On } else { sandbox::Barriers::Off };
    let missing =
        sandbox::enter_with(which, mode, barriers, start_threads).map_err(Failure::Internal)?;
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
        let master = Master::new(upward, fds.pop_front());
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
