//! What one does with the tree: `cargo xtask demo`, `test`, `sweep`, `fuzz`, `bitcoind`, `pyln`, `tidy`.
//!
//! Depends on as little as possible: it is built before anything else, on a machine that has only Rust, gcc and python3.

mod aarch64;
mod advisories;
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
mod suites;
mod sweep;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
cargo xtask demo [--keep]   two nodes on a chain of their own open a channel, pay, and close it
cargo xtask test            every test of the tree
cargo xtask test --one NAME [--keep]
                            one black-box test with its output; --keep leaves its folder and prints the path
cargo xtask sweep [WORD..]  kills each process at each of its barriers: hours; HACKING.md says how to do less
cargo xtask fuzz [--seconds N | --minutes N] [--keep] [TARGET..]
                            feeds the fuzz targets, 20 seconds each; --keep adds what was found to their corpora
cargo xtask bitcoind        builds (once) the bitcoind of the tests, and prints where it is
cargo xtask pyln            installs (once) pyln-client for the tests, and prints which python has it
cargo xtask tidy            checks which crate may use which, the floors of lightningd, circles, fences and limits
cargo xtask tidy --strike   takes rows out of xtask/tidy-debts.tsv that are paid
cargo xtask tidy --all      prints every violation, those that are listed there too
cargo xtask tidy --arrows CRATE
                            prints which file of a crate names a definition of which other
cargo xtask tidy --wrap FILE..
                            breaks lines of comments that are too wide
cargo xtask deny            checks what the suite is built from: known flaws, licences, duplicates, sources
cargo xtask deny --refresh DIR
                            makes the rows of known flaws anew from a checkout of RustSec's advisory-db
cargo xtask install PREFIX  builds the suite for use, and copies it to PREFIX/bin and PREFIX/libexec/fulmen
cargo xtask release         builds the executables for others, in target/release: the same bytes wherever the tree lies
cargo xtask reproduce [--all]
                            shows that: builds one of them, or all, in two folders";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["demo"] => demo::run(false),
        ["demo", "--keep"] => demo::run(true),
        ["test"] => test::run(),
        ["test", "--one", name] => test::run_one(name, false),
        ["test", "--one", name, "--keep"] => test::run_one(name, true),
        ["test", rest @ ..] => test::run_some(rest),
        ["sweep", words @ ..] => sweep::run(words),
        ["fuzz", words @ ..] => fuzz::run(words),
        ["bitcoind"] => bitcoind::find_or_build().map(|path| println!("{}", path.display())),
        ["pyln"] => pyln::find_or_install().map(|path| println!("{}", path.display())),
        ["tidy", rest @ ..] => tidy::run(rest),
        ["deny"] => deny::run(),
        ["deny", "--refresh", database] => deny::refresh(database),
        ["release"] => release::run(),
        ["install", prefix] => install::run(prefix),
        ["reproduce"] => release::reproduce(false),
        ["reproduce", "--all"] => release::reproduce(true),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The tree's top.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a step that shows its own output.
fn step(command: &mut Command) -> Result<(), String> {
    let shown = format!(
        "{} {}",
        command.get_program().display(),
        command.get_args().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ")
    );
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(e) => Err(format!("{shown}: {e}")),
    }
}
