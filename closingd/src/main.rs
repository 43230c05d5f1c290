//! The closingd executable.

use closingd::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    subdaemon::main("lightning_closingd", |child| closingd::run(child, &Settings::default()))
}
