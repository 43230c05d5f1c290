//! The processes and their sockets.

use crate::sys::children::{ChildId, ChildSpec};
use crate::sys::executables::Executables;
use crate::sys::lock::ChildrenLock;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use primitives::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};
use subdaemon::{Filled, Flushed, Frame, FrameBuffer, OutQueue};
use wire::Message;
use wire::daemon::{LogLevel, Start};

/// What may wait for one child: beyond it, it is not reading and is ended.
const MAX_QUEUED: usize = 64 * 1024 * 1024;
/// What is read of one child in one round, so that none starves the others.
const MAX_READ_PER_ROUND: usize = 1024 * 1024;
/// How long to wait where too many descriptors are on their way to their readers.
const RETRY_IN_FLIGHT: Duration = Duration::from_millis(100);
/// Lines of stderr beyond this many bytes a round are cut: a child in panic must not fill the log.
const MAX_STDERR: usize = 16 * 1024;

struct Process {
    pid: Pid,
    source: String,
    node: Option<NodeId>,
    down: OwnedFd,
    down_queue: OutQueue,
    up: OwnedFd,
    up_buffer: FrameBuffer,
    up_queue: OutQueue,
    stderr: Option<ChildStderr>,
    /// Everything it said was read.
    ended: bool,
    exited: bool,
    /// By us.
    killed: bool,
}

impl Process {
    /// Nobody reads any more. Descriptors that wait are closed: who holds the other end of one of
    /// them would wait for ever.
    fn drop_queues(&mut self) {
        self.up_queue = OutQueue::default();
        self.down_queue = OutQueue::default();
    }
}

/// Every live child.
pub struct Nursery {
    children: BTreeMap<ChildId, Process>,
    common: Common,
    /// When those are written to again whose frames have descriptors while too many are on their
    /// way.
    retry: Option<(Instant, BTreeSet<ChildId>)>,
}

/// What is so for every child.
#[derive(Debug)]
pub struct Common {
    /// What it need not say.
    pub level: LogLevel,
    /// `--developer`.
    pub developer: bool,
    /// Whether it may do without a part of its box.
    pub sandbox: sandbox::Mode,
    /// Each has a lock of its own: a lightningd that comes after waits for it.
    pub lock: ChildrenLock,
    /// Each counts its barriers in this directory.
    pub barriers: Option<PathBuf>,
}

/// What reading a child brought.
#[derive(Debug)]
pub enum ChildHeard {
    /// It said this.
    Frame(Frame),
    /// It will say nothing more.
    Gone,
}

/// Tokens of children: each has two sockets and a stderr.
const TOKENS_PER_CHILD: usize = 3;

impl Common {
    /// The first words to a child.
    fn start(&self) -> Start {
        Start {
            version: wire::VERSION,
            log_level: self.level,
            developer: self.developer,
            sandbox_required: self.sandbox == sandbox::Mode::Required,
        }
    }
}

impl Nursery {
    /// None yet.
    pub const fn new(common: Common) -> Self {
        Self { children: BTreeMap::new(), common, retry: None }
    }

    fn token(id: ChildId, which: usize, base: usize) -> Token {
        Token(
            base + usize::try_from(id).expect("child numbers fit the machine's words")
                * TOKENS_PER_CHILD
                + which,
        )
    }
    /// Whose token is this?
    pub fn child_of(token: Token, base: usize) -> ChildId {
        ((token.0 - base) / TOKENS_PER_CHILD) as ChildId
    }

    /// How this child is started: without an environment, in a process group of its own so that it
    /// ends with whatever it has started.
    fn command(&self, at: &Executables, spec: &ChildSpec) -> Command {
        let mut command = Command::new(at.path(spec.daemon));
        subdaemon::unblock_signals(&mut command);
        command.env_clear().envs([sandbox::FEW_ARENAS]);
        let barriers = self.common.barriers.as_deref();
        crate::sys::barriers::tell_child(&mut command, barriers, &spec.source);
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Gives birth. `Err` says why not, and leaves nothing behind: the machine may lack processes,
    /// descriptors or memory, or the executable may be missing for the moment. What that means the
    /// caller decides.
    pub fn spawn(
        &mut self,
        spec: ChildSpec,
        at: &Executables,
        registry: &Registry,
        base: usize,
    ) -> Result<(), String> {
        let failed =
            |what: &str, e: &dyn std::fmt::Display| format!("{}: {what}: {e}", spec.source);
        let mut up_buffer = FrameBuffer::default();
        if let Some(peer) = spec.fds.last().filter(|_| spec.daemon.hands_over()) {
            up_buffer.keep(peer.try_clone().map_err(|e| failed("no descriptor", &e))?);
        }
        let (down, down_child) = subdaemon::stream_pair().map_err(|e| failed("no socket", &e))?;
        let (up, up_child) = subdaemon::stream_pair().map_err(|e| failed("no socket", &e))?;
        set_nonblocking(&up).map_err(|e| failed("fcntl", &e))?;
        let lock = self.common.lock.for_child().map_err(|e| failed("no lock", &e))?;
        let mut process = self
            .command(at, &spec)
            .stdin(Stdio::from(down_child))
            .spawn()
            .map_err(|e| failed("cannot be started", &e))?;
        let pid = Pid::from_raw(i32::try_from(process.id()).expect("process ids are below 2^31"));
        let stderr = process.stderr.take();
        if let Err(e) = watch(&up, stderr.as_ref(), registry, |n| Self::token(spec.id, n, base)) {
            // Nobody would hear it. Both fail only where it is gone already.
            let _ = process.kill().and_then(|()| process.wait());
            return Err(failed("poll", &e));
        }
        let mut down_queue = OutQueue::default();
        down_queue.push(&self.common.start().encode(), vec![up_child, OwnedFd::from(lock)]);
        down_queue.push(&spec.init, spec.fds);
        let process = Process {
            pid,
            source: spec.source,
            node: spec.node,
            down,
            down_queue,
            up,
            up_buffer,
            up_queue: OutQueue::default(),
            stderr,
            ended: false,
            exited: false,
            killed: false,
        };
        self.children.insert(spec.id, process);
        self.flush(spec.id, registry, base);
        Ok(())
    }

    /// Queues an order (down) or an answer (up), and writes what goes.
    pub fn send(
        &mut self,
        id: ChildId,
        answer: bool,
        body: &[u8],
        fds: Vec<OwnedFd>,
        registry: &Registry,
        base: usize,
    ) {
        let Some(process) = self.children.get_mut(&id).filter(|p| !p.ended) else { return };
        let queue = if answer { &mut process.up_queue } else { &mut process.down_queue };
        queue.push(body, fds);
        if queue.bytes() > MAX_QUEUED {
            let source = process.source.clone();
            self.kill(
                id,
                &format!("{source} does not read: more than {MAX_QUEUED} bytes wait for it"),
            );
            return;
        }
        self.flush(id, registry, base);
    }

    /// Writes what goes. A socket that takes no more is watched until it does.
    pub fn flush(&mut self, id: ChildId, registry: &Registry, base: usize) {
        let Some(process) = self.children.get_mut(&id) else { return };
        let up = process.up_queue.flush(process.up.as_fd());
        let down = process.down_queue.flush(process.down.as_fd());
        if up.is_err() || down.is_err() {
            // The child is dead: its upward socket says so when it is read.
            process.drop_queues();
        }
        if matches!(up, Ok(Flushed::Full)) {
            let fd = process.up.as_raw_fd();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let watched =
                registry.reregister(&mut SourceFd(&fd), Self::token(id, 0, base), interest);
            note_poll(watched, &process.source);
        }
        if matches!(down, Ok(Flushed::Full)) {
            let fd = process.down.as_raw_fd();
            let token = Self::token(id, 1, base);
            let watched = registry
                .reregister(&mut SourceFd(&fd), token, Interest::WRITABLE)
                .or_else(|_| registry.register(&mut SourceFd(&fd), token, Interest::WRITABLE));
            note_poll(watched, &process.source);
        }
        if [up, down].iter().any(|flushed| matches!(flushed, Ok(Flushed::InFlight))) {
            // The socket can be written, so that poll would say so at once, again and again.
            let source = &process.source;
            let (_, waiting) = self.retry.get_or_insert_with(|| {
                log::warn!("{source} waits: too many descriptors of this user are on their way");
                (Instant::now() + RETRY_IN_FLIGHT, BTreeSet::new())
            });
            waiting.insert(id);
        }
    }

    /// When [`Nursery::retry`] has something to do.
    pub fn next_retry(&self) -> Option<Instant> {
        self.retry.as_ref().map(|(at, _)| *at)
    }
    /// Writes to those that waited for others' descriptors to arrive.
    pub fn retry(&mut self, now: Instant, registry: &Registry, base: usize) {
        if self.next_retry().is_some_and(|at| at <= now) {
            for id in self.retry.take().into_iter().flat_map(|(_, waiting)| waiting) {
                self.flush(id, registry, base);
            }
        }
    }

    /// Reads what a child said, up to a bound. True: there may be more.
    pub fn read(
        &mut self,
        id: ChildId,
        token: Token,
        base: usize,
        heard: &mut Vec<ChildHeard>,
    ) -> bool {
        let Some(process) = self.children.get_mut(&id) else { return false };
        if token == Self::token(id, 2, base) {
            return read_stderr(process);
        }
        if process.ended {
            return false;
        }
        let mut read = 0;
        loop {
            match process.up_buffer.next_frame() {
                Ok(Some(frame)) => {
                    read += frame.body.len() + 5;
                    heard.push(ChildHeard::Frame(frame));
                    continue;
                }
                Ok(None) if read > MAX_READ_PER_ROUND => return true,
                Ok(None) => {}
                Err(e) => {
                    crate::sys::log::line(
                        LogLevel::Broken,
                        process.node,
                        &process.source,
                        &e.to_string(),
                    );
                    end(process, heard);
                    return false;
                }
            }
            match process.up_buffer.fill(process.up.as_fd()) {
                Ok(Filled::Some) => {}
                Ok(Filled::WouldBlock) => return false,
                Ok(Filled::Eof) | Err(_) => {
                    end(process, heard);
                    return false;
                }
            }
        }
    }

    /// Ends a child. What it said before is still read; `Gone` follows.
    pub fn kill(&mut self, id: ChildId, why: &str) {
        // One that was waited for has no number any more: its number may be somebody else's.
        if let Some(process) = self.children.get_mut(&id).filter(|p| !p.exited) {
            process.killed = true;
            crate::sys::log::line(
                LogLevel::Debug,
                process.node,
                &process.source,
                &format!("ended: {why}"),
            );
            if let Err(e) = killpg(process.pid, Signal::SIGKILL) {
                log::debug!("kill {}: {e}", process.source);
            }
        }
    }

    /// Is it dead, or about to be?
    pub fn is_ending(&self, id: ChildId) -> bool {
        self.children.get(&id).is_none_or(|p| p.killed || p.exited)
    }

    /// Takes leave of the dead: SIGCHLD came.
    pub fn reap(&mut self) {
        for process in self.children.values_mut().filter(|p| !p.exited) {
            match waitpid(process.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {}
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    process.exited = true;
                    crate::sys::log::line(
                        LogLevel::Debug,
                        process.node,
                        &process.source,
                        &format!("killed by {signal}"),
                    );
                }
                Ok(_) | Err(_) => process.exited = true,
            }
        }
        self.children.retain(|_, p| !(p.exited && p.ended));
    }

    /// At the end of the node: every child goes, and is waited for.
    pub fn end_all(&mut self) {
        for process in self.children.values_mut().filter(|p| !p.exited) {
            if killpg(process.pid, Signal::SIGKILL).is_ok() && waitpid(process.pid, None).is_ok() {
                process.exited = true;
            }
        }
        self.children.clear();
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// Kills a child that is no longer read and waits for its exit. Otherwise a child that sent an
/// undecodable frame, or closed its socket and kept running, would still hold its hsmd and peer
/// sockets while its successor runs.
fn end(process: &mut Process, heard: &mut Vec<ChildHeard>) {
    if !process.exited {
        // It fails only where the process is gone already.
        let _ = killpg(process.pid, Signal::SIGKILL);
        // Killed, it dies without asking anybody: this takes no longer than the kernel does.
        match waitpid(process.pid, None) {
            Ok(_) | Err(Errno::ECHILD) => process.exited = true,
            Err(e) => log::error!(
                "waitpid for {} (pid {}): {e}; it may still run: kill it",
                process.source,
                process.pid
            ),
        }
    }
    process.ended = true;
    process.drop_queues();
    // With a copy of the peer's socket that was not handed over.
    process.up_buffer = FrameBuffer::default();
    heard.push(ChildHeard::Gone);
}

/// Has poll watch what a child says: its reports and its stderr.
fn watch(
    up: &OwnedFd,
    stderr: Option<&ChildStderr>,
    registry: &Registry,
    token: impl Fn(usize) -> Token,
) -> std::io::Result<()> {
    registry.register(&mut SourceFd(&up.as_raw_fd()), token(0), Interest::READABLE)?;
    let Some(err) = stderr else { return Ok(()) };
    set_nonblocking(err)?;
    registry.register(&mut SourceFd(&err.as_raw_fd()), token(2), Interest::READABLE)
}

fn note_poll(result: std::io::Result<()>, source: &str) {
    if let Err(e) = result {
        log::error!("poll for {source}: {e}");
    }
}

/// True: there may be more.
fn read_stderr(process: &mut Process) -> bool {
    let Some(stderr) = &mut process.stderr else { return false };
    let mut text = vec![0; MAX_STDERR];
    match stderr.read(&mut text) {
        Ok(0) => {
            process.stderr = None;
            false
        }
        Ok(n) => {
            let said = String::from_utf8_lossy(text.get(..n).unwrap_or_default()).into_owned();
            crate::sys::log::said(
                LogLevel::Broken,
                process.node,
                &process.source,
                &format!("stderr: {}", said.trim_end()),
            );
            n == MAX_STDERR
        }
        Err(_) => false,
    }
}

/// Sets O_NONBLOCK.
pub fn set_nonblocking(fd: impl AsFd) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_truncate(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
#[path = "nursery_tests.rs"]
mod tests;
