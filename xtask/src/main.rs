//! What one does with the tree: `cargo xtask --help` lists it.
//!
//! It is built before anything else, on a machine that has only Rust, gcc and python3.

mod aarch64;
mod advisories;
mod apart;
mod bitcoind;
mod cache;
mod demo;
mod deny;
mod fuzz;
mod install;
mod packages;
mod pyln;
mod regtest;
mod release;
mod shell;
mod suites;
mod sweep;
mod test;
mod tidy;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Builds, checks and tries out the suite.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Task {
    /// Two nodes on a regtest chain open a channel, pay, and close it
    Demo {
        /// Leave both nodes running, and say how to speak to them
        #[arg(long)]
        keep: bool,
    },
    /// Run every test of the tree, or some of them
    Test(test::Asked),
    /// Kill each process at each of its barriers: takes hours; HACKING.md says how to do less
    Sweep {
        /// The points to try; all of them without
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Feed the fuzz targets
    Fuzz(fuzz::Plan),
    /// Build the bitcoind of the tests (once), and print where it is
    Bitcoind,
    /// Install pyln-client for the tests (once), and print which python has it
    Pyln,
    /// Check dependencies of crates, the floors of lightningd, circles of files, fences and limits
    Tidy(tidy::Asked),
    /// Check what the suite is built from: known flaws, licences, duplicates, sources
    Deny {
        /// Make the rows of known flaws anew from this checkout of RustSec's advisory-db
        #[arg(long, value_name = "DIR")]
        refresh: Option<String>,
    },
    /// Build the suite for use, and copy it to PREFIX/bin, PREFIX/libexec/fulmen and PREFIX/share
    Install {
        /// The folder to install under
        prefix: PathBuf,
    },
    /// Build the executables for others, in target/release: the same bytes wherever the tree lies
    Release,
    /// Build hsmd in two folders, and compare the bytes
    Reproduce {
        /// Build and compare every executable
        #[arg(long)]
        all: bool,
    },
}

fn main() -> ExitCode {
    // RUST_LOG=debug shows the commands that a task runs.
    env_logger::init();
    let result = match Task::parse() {
        Task::Demo { keep } => demo::run(keep),
        Task::Test(asked) => test::run(&asked),
        Task::Sweep { words } => sweep::run(&words),
        Task::Fuzz(plan) => fuzz::run(&plan),
        Task::Bitcoind => bitcoind::find_or_build().map(|path| println!("{}", path.display())),
        Task::Pyln => pyln::find_or_install().map(|path| println!("{}", path.display())),
        Task::Tidy(asked) => tidy::run(&asked),
        Task::Deny { refresh: None } => deny::run(),
        Task::Deny { refresh: Some(database) } => deny::refresh(&database),
        Task::Install { prefix } => install::run(&prefix),
        Task::Release => release::run(),
        Task::Reproduce { all } => release::reproduce(all),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
