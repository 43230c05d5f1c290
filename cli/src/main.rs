//! `lightning-cli`. See the library.

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os().skip(1))
}
