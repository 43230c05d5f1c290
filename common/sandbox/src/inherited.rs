//! The one descriptor beside its first three that a plugin of ours may begin with: a connection to
//! lightningd's RPC. With it the plugin's box needs no call that connects.

use nix::libc;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The variable by which lightningd tells a plugin of ours the connection's number.
pub const RPC_SOCKET: &str = "FULMEN_RPC_SOCKET";

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The connection, once; no child of this process gets it. `None` where there is none: another
/// lightningd started this process.
#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
pub fn rpc_socket() -> Option<OwnedFd> {
    let number: RawFd = std::env::var(RPC_SOCKET).ok()?.parse().ok()?;
    if number <= 2 || TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: the call changes a flag of a number, and fails where that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return None;
    }
    // SAFETY: it is open, since lightningd left it open for this process, and nothing else here
    // owns it: it is taken once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
