//! `lightning_hsmd`: everything is in the library.

use std::process::ExitCode;
use subdaemon::{Sandbox, enter_sandbox_with, memory};

fn main() -> ExitCode {
    subdaemon::main("lightning_hsmd", |child| {
        // No secret goes to swap.
        memory::lock();
        // The secret file is the one thing that needs the file system.
        let mode = child.sandbox;
        hsmd::run(child, || enter_sandbox_with(&Sandbox::Signer, mode, channel::cores::begin))
    })
}
