//! `lightning_hsmd`: everything is in the library.

use nix::sys::prctl::set_dumpable;
use std::process::ExitCode;
use subdaemon::{Sandbox, enter_sandbox};

fn main() -> ExitCode {
    subdaemon::main("lightning_hsmd", |child| {
        // Neither a debugger nor a core file gets to see what is in here.
        if let Err(e) = set_dumpable(false) {
            log::info!("this process can be dumped: {e}");
        }
        // The secret file is the one thing that needs the file system.
        hsmd::run(child, || enter_sandbox(Sandbox::Leaf))
    })
}
