//! The connectd executable, and with `--resolver` its helper that looks up names.

use connectd::{Settings, resolver};
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(resolver::ARGUMENT) {
        return resolver::serve();
    }
    subdaemon::main("lightning_connectd", |child| connectd::run(child, &Settings::default()))
}
