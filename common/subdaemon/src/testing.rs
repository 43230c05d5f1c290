//! For the daemons' own tests: a scripted master at the other end of a [`Child`].

use crate::child::Child;
use crate::frame::{Conn, Frame};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use wire::daemon::{LogLevel, Start};
use wire::{Message, Request};

/// Plays lightningd: orders down, reports and asks up.
#[derive(Debug)]
pub struct ScriptedMaster {
    down: Conn,
    up: Conn,
}

impl ScriptedMaster {
    /// A master and a child that it just started.
    ///
    /// # Panics
    /// Where the machine has no socket left: this is for tests.
    pub fn new() -> (Self, Child) {
        let (down, down_child) = crate::stream_pair().expect("a test has sockets");
        let (up, up_child) = crate::stream_pair().expect("a test has sockets");
        let down = Conn::new(down);
        let start = Start {
            version: wire::VERSION,
            log_level: LogLevel::Debug,
            developer: true,
            sandbox_required: true,
        };
        down.send(&start.encode(), &[up_child.as_fd()]).expect("the child's socket is open");
        let (child, _) = Child::begin(down_child).expect("Start was just sent");
        (Self { down, up: Conn::new(up) }, child)
    }
    /// Gives an order; descriptors are moved.
    ///
    /// # Panics
    /// If the child is gone.
    pub fn order<M: Message>(&self, message: &M, fds: Vec<OwnedFd>) {
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.down.send(&message.encode(), &borrowed).expect("the child listens");
    }
    /// As [`Self::order`], and keeps a copy of the last descriptor: the child may hand it over.
    ///
    /// # Panics
    /// If the child is gone, or the machine has no descriptor left.
    pub fn order_and_keep<M: Message>(&mut self, message: &M, fds: Vec<OwnedFd>) {
        if let Some(last) = fds.last() {
            self.up.keep(last.try_clone().expect("a test has descriptors"));
        }
        self.order(message, fds);
    }
    /// Both sockets, downward and upward, for a master that listens in a thread of its own.
    pub fn into_sockets(self) -> (Conn, Conn) {
        (self.down, self.up)
    }
    /// The next frame the child sends up, or `None` once it is gone. Log lines and statuses are
    /// skipped.
    pub fn heard(&mut self) -> Option<Frame> {
        loop {
            let frame = self.up.recv().ok()?;
            let number = frame.body.first_chunk::<2>().map(|n| u16::from_be_bytes(*n));
            if number != Some(wire::daemon::Log::NUMBER)
                && number != Some(wire::daemon::Status::NUMBER)
            {
                return Some(frame);
            }
        }
    }
    /// Answers the ask that was heard last.
    ///
    /// # Panics
    /// If the child is gone.
    pub fn answer<R: Request>(&self, answer: &R::Answer) {
        self.up.send(&crate::answer_frame::<R>(answer), &[]).expect("the child waits");
    }
}

/// Starts a daemon's executable as lightningd does, in its box: with its sockets, downward and
/// upward.
///
/// # Panics
/// If it cannot be started: this is for tests.
pub fn start(executable: &mut Command) -> (std::process::Child, Conn, Conn) {
    let (down, stdin) = crate::stream_pair().expect("a test has sockets");
    let (up, its_up) = crate::stream_pair().expect("a test has sockets");
    let executable = executable.stdin(Stdio::from(stdin)).stdout(Stdio::null());
    let child = executable.spawn().expect("the executable is there");
    let down = Conn::new(down);
    let start = Start {
        version: wire::VERSION,
        log_level: LogLevel::Debug,
        developer: false,
        sandbox_required: true,
    };
    down.send(&start.encode(), &[its_up.as_fd()]).expect("the child's socket is open");
    // The command would keep the child's end of the socket open.
    executable.stdin(Stdio::null());
    (child, down, Conn::new(up))
}
