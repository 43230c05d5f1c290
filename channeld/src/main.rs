//! `lightning_channeld`: everything is in the library.

use std::process::ExitCode;
use subdaemon::{Sandbox, enter_sandbox};

fn main() -> ExitCode {
    subdaemon::main("lightning_channeld", |child| {
        // Its sockets come with its init: it opens nothing itself.
        enter_sandbox(&Sandbox::Leaf, child.sandbox)?;
        channeld::run(child)
    })
}
