//! lightningd, the master. Start-up, as a table of contents.

use std::process::ExitCode;

fn main() -> ExitCode {
    lightningd::main()
}
