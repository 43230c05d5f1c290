//! Limits that the kernel keeps without a list.

use crate::boxes::{Barriers, Calls, Sandbox};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

/// A leaf, or a plugin that is started with its connection, has its sockets, and the descriptors of
/// one frame.
const LEAF_DESCRIPTORS: u64 = 32;
/// The resolver's 64 lookups have a few sockets and files each.
const RESOLVER_DESCRIPTORS: u64 = 256;
/// bcli has a connection for each request under way.
const HOSTS_DESCRIPTORS: u64 = 512;
/// A plugin of ours that dials lightningd itself has one for each request.
const CALLER_DESCRIPTORS: u64 = 4096;
/// Peers, or hsmd's clients.
const MAX_DESCRIPTORS: u64 = 4096;
/// What lightningd needs. Who is allowed fewer than are on their way, of all of this user's, can
/// pass none; and those with a call that attaches them, resolver and bcli, can have as many on
/// their way as they are allowed, and one message's.
pub const MASTER_DESCRIPTORS: u64 = 1024;
/// SCM_MAX_FD.
const PER_MESSAGE: u64 = 253;
const _: () = assert!(MASTER_DESCRIPTORS > RESOLVER_DESCRIPTORS + PER_MESSAGE + 256);
const _: () = assert!(MASTER_DESCRIPTORS > HOSTS_DESCRIPTORS + PER_MESSAGE + 256);
/// Addresses: each thread takes some hundred megabytes of them without using any.
const MAX_ADDRESSES: u64 = 4 << 30;
/// The largest size of a test's file of barriers.
const MAX_BARRIER_FILE: u64 = 4096;

pub(crate) fn no_new_privileges() -> Result<(), String> {
    nix::sys::prctl::set_no_new_privs().map_err(|e| e.to_string())
}

/// Neither a debugger nor a core file gets to see this process: /proc gives its memory to root
/// alone.
pub fn undumpable() -> Result<(), String> {
    nix::sys::prctl::set_dumpable(false).map_err(|e| e.to_string())?;
    lower(Resource::RLIMIT_CORE, 0)
}

#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
pub(crate) fn set(which: &Sandbox, barriers: Barriers) -> Result<(), String> {
    // A write to a file fails: stderr may be one.
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.map_err(|e| e.to_string())?;
    let descriptors = match which {
        Sandbox::Leaf | Sandbox::Plugin { calls: Calls::Given, .. } => LEAF_DESCRIPTORS,
        Sandbox::Resolver => RESOLVER_DESCRIPTORS,
        Sandbox::Plugin { calls: Calls::Hosts, .. } => HOSTS_DESCRIPTORS,
        Sandbox::Plugin { calls: Calls::Lightningd, .. } => CALLER_DESCRIPTORS,
        Sandbox::Signer | Sandbox::Network => MAX_DESCRIPTORS,
    };
    lower(Resource::RLIMIT_NOFILE, descriptors)?;
    lower(Resource::RLIMIT_AS, MAX_ADDRESSES)?;
    match barriers {
        Barriers::Off => lower(Resource::RLIMIT_FSIZE, 0),
        Barriers::On => lower(Resource::RLIMIT_FSIZE, MAX_BARRIER_FILE),
    }
}

/// Neither a process nor a thread more. The kernel counts those of a user: a number that bounds one
/// process would stop it as soon as its user has others.
pub(crate) fn no_more_processes(which: &Sandbox) -> Result<(), String> {
    match which {
        Sandbox::Leaf | Sandbox::Signer | Sandbox::Network | Sandbox::Resolver => {
            lower(Resource::RLIMIT_NPROC, 0)
        }
        Sandbox::Plugin { .. } => Ok(()),
    }
}

/// Both limits, so that nothing raises the one to the other again.
fn lower(which: Resource, to: u64) -> Result<(), String> {
    let (_, hard) = getrlimit(which).map_err(|e| format!("{which:?}: {e}"))?;
    let to = hard.min(to);
    setrlimit(which, to, to).map_err(|e| format!("{which:?}: {e}"))
}
