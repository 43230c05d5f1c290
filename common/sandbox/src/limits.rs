//! Limits that the kernel keeps without a list.

use crate::{Barriers, Box};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

/// A child that passes descriptors needs this many: those in flight count against it.
const MAX_FDS: u64 = 4096;
/// Addresses: each thread takes some hundred megabytes of them without using any.
const MAX_ADDRESSES: u64 = 4 << 30;
/// What a test's file of barriers may become.
const MAX_BARRIER_FILE: u64 = 4096;

pub(crate) fn no_new_privileges() -> Result<(), String> {
    nix::sys::prctl::set_no_new_privs().map_err(|e| e.to_string())
}

/// Neither a debugger nor a core file gets to see this process: /proc gives its memory to root alone.
pub fn undumpable() -> Result<(), String> {
    nix::sys::prctl::set_dumpable(false).map_err(|e| e.to_string())?;
    lower(Resource::RLIMIT_CORE, 0)
}

#[allow(unsafe_code)]
pub(crate) fn set(which: &Box, barriers: Barriers) -> Result<(), String> {
    // A write to a file fails: stderr may be one.
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.map_err(|e| e.to_string())?;
    lower(Resource::RLIMIT_NOFILE, MAX_FDS)?;
    lower(Resource::RLIMIT_AS, MAX_ADDRESSES)?;
    match barriers {
        Barriers::Off => lower(Resource::RLIMIT_FSIZE, 0)?,
        Barriers::On => lower(Resource::RLIMIT_FSIZE, MAX_BARRIER_FILE)?,
    }
    match which {
        // Neither a process nor a thread more. (The kernel counts those of a user, not of a process.)
        Box::Leaf | Box::Network => lower(Resource::RLIMIT_NPROC, 0),
        Box::Threads | Box::Resolver | Box::Plugin { .. } => Ok(()),
    }
}

/// Both limits, so that nothing raises the one to the other again.
fn lower(which: Resource, to: u64) -> Result<(), String> {
    let (_, hard) = getrlimit(which).map_err(|e| format!("{which:?}: {e}"))?;
    let to = hard.min(to);
    setrlimit(which, to, to).map_err(|e| format!("{which:?}: {e}"))
}
