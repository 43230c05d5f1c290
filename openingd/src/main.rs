//! The openingd executable.

use openingd::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    subdaemon::main("lightning_openingd", |child| openingd::run(child, &Settings::default()))
}
