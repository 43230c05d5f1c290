//! The harness of every daemon: start, frames, descriptors on the move, asking, telling the peer,
//! the log, the sandbox.
//!
//! A daemon is a `run(Child) -> Result<(), Failure>`; [`main`] is everything around it. This crate
//! knows no channel and no key. With `sandbox` it is the one crate with `unsafe`, for what the
//! kernel hands us as a number: each use says why it holds.
#![deny(clippy::indexing_slicing)]

pub mod barrier;
mod child;
mod descriptors;
mod failure;
mod frame;
mod hsm;
mod logger;
mod master;
pub mod memory;
mod peer;
mod tcp;
pub mod testing;
mod wait;

pub use child::{Child, Orders, enter_sandbox, enter_sandbox_with, main};
pub use failure::Failure;
pub use frame::{Conn, Filled, Flushed, Frame, FrameBuffer, FrameError, OutQueue, send_frame};
pub use hsm::{Hsm, answer_frame, fits_hsmd};
pub use logger::level_of;
pub use master::{Master, is_log};
pub use peer::{Peer, PeerRecord, recv_record, send_record};
pub use sandbox::{FEW_ARENAS, Mode as SandboxMode, Sandbox};
pub use tcp::{bind_tcp, defer_accept};
pub use wait::{Ready, wait};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::io;
use std::os::fd::OwnedFd;

/// Two ends of a stream between processes of the suite, both CLOEXEC.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Two ends of a peer socket (one record, one message), both CLOEXEC.
pub fn peer_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Has a process begin with no signal blocked: a child inherits its parent's mask, and a master
/// that reads its signals from a descriptor blocks them for itself alone.
#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
pub fn unblock_signals(command: &mut std::process::Command) {
    use nix::sys::signal::SigSet;
    use std::os::unix::process::CommandExt;
    // Safety: between fork and exec this makes one system call, pthread_sigmask, which is
    // async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?));
    }
}

/// `N` bytes of the kernel's randomness.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel has randomness once the system is up");
    bytes
}
