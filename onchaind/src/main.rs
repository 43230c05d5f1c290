//! The onchaind executable.

use onchaind::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    subdaemon::main("lightning_onchaind", |child| onchaind::run(child, &Settings::default()))
}
