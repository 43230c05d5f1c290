//! The box that each process of the suite works in: what the kernel still does for it once it has
//! what it needs.
//!
//! Four walls, so that one that a kernel lacks is not the only one: no new privileges, limits,
//! Landlock, and seccomp with a list of what is allowed. A call that is not on the list fails with
//! EPERM, is counted, and is named on stderr once (and again each time that ten times as many were
//! refused): an honest process makes none, so a line means a captured one, or a library that does
//! what it did not do when the list was made.
//!
//! This crate knows no daemon: each process names its [`Sandbox`]. A box never opens again.
#![deny(clippy::indexing_slicing)]

mod boxes;
mod calls;
mod files;
mod filter;
mod inherited;
mod limits;
mod master;
mod refused;

pub use boxes::{Barriers, Calls, Mode, Sandbox};
pub use inherited::{RPC_SOCKET, rpc_socket};
pub use limits::{MASTER_DESCRIPTORS, undumpable};
pub use master::{enter as enter_master, inherit_nothing};

/// A variable and its value for each process that enters a box: each arena of the C library's takes
/// addresses, of which a box has an end.
pub const FEW_ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");
/// A variable that tells a plugin of ours that it enters its box or ends ([`Mode::Required`]).
pub const REQUIRED: &str = "FULMEN_SANDBOX_REQUIRED";

/// Goes in, for good. Says which walls could not be had; with [`Mode::Required`] that is an error.
pub fn enter(which: &Sandbox, mode: Mode, barriers: Barriers) -> Result<Vec<String>, String> {
    enter_with(which, mode, barriers, || {})
}

/// The same, with threads: `start_threads` returns once they run. Only a plugin can have more
/// later. Landlock holds for threads that were started in it, and seccomp for all that there are.
pub fn enter_with(
    which: &Sandbox,
    mode: Mode,
    barriers: Barriers,
    start_threads: impl FnOnce(),
) -> Result<Vec<String>, String> {
    let mut missing = Vec::new();
    let mut note = |what: &str, result: Result<(), String>| {
        missing.extend(result.err().map(|why| format!("{what} ({why})")));
    };
    match which {
        Sandbox::Signer | Sandbox::Resolver | Sandbox::Plugin { .. } => refused::look_before(),
        Sandbox::Leaf | Sandbox::Network => {}
    }
    note("no new privileges", limits::no_new_privileges());
    note("no dumps", undumpable());
    note("limits", limits::set(which, barriers));
    // A path that is not absolute leads nowhere.
    note("leaving the directory", std::env::set_current_dir("/").map_err(|e| e.to_string()));
    note("crashes that end it", refused::let_crashes_end());
    note("landlock", files::restrict(which));
    start_threads();
    note("no more processes", limits::no_more_processes(which));
    note("seccomp", refused::catch().and_then(|()| filter::enter(which, barriers)));
    match mode {
        Mode::Required if !missing.is_empty() => Err(format!(
            "this process cannot enter its sandbox: {}; mend that, or start lightningd with --sandbox=best-effort",
            missing.join(", ")
        )),
        Mode::Required | Mode::BestEffort => Ok(missing),
    }
}

/// Which walls this kernel (or the container around us) does not have.
pub fn lacking() -> Vec<String> {
    let mut lacking = Vec::new();
    if !files::is_there() {
        lacking.push("Landlock".to_owned());
    }
    if !calls::is_there() {
        lacking.push("seccomp".to_owned());
    }
    lacking
}
