//! `cargo xtask test`: everything, with a real bitcoind.

use crate::shell::{cargo, step};
use crate::suites::{self, Environment, Suite};
use crate::{apart, bitcoind, pyln};
use std::time::Instant;

/// Which tests to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// Run one black-box test, with its output
    #[arg(long, value_name = "NAME")]
    one: Option<String>,
    /// Leave the folder of that test, and print its path
    #[arg(long, requires = "one")]
    keep: bool,
    /// What `cargo test` understands instead: a filter, `-p CRATE`, ..
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, conflicts_with = "one")]
    cargo: Vec<String>,
}

/// `Err` if a test failed.
pub(crate) fn run(asked: &Asked) -> Result<(), String> {
    match &asked.one {
        Some(name) => run_one(name, asked.keep),
        None if asked.cargo.is_empty() => run_all(),
        None => run_some(&asked.cargo),
    }
}

/// Every test of the tree, with a real bitcoind.
fn run_all() -> Result<(), String> {
    let begun = Instant::now();
    let env = prepare()?;
    let suites = suites::build()?;
    let report = suites::run_all(&suites, &env, apart::build)?;
    step(cargo().args(["test", "--doc", "--locked", "--workspace"]))?;
    if report.print(begun.elapsed()) { Ok(()) } else { Err("tests failed".to_owned()) }
}

/// What `cargo test` runs of `rest`, with everything built that tests start.
fn run_some(rest: &[String]) -> Result<(), String> {
    let env = prepare()?;
    apart::build()?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--workspace"]).args(rest);
    step(tests.env("BITCOIND", &env.bitcoind).env("PYLN_PYTHON", &env.python))
}

/// `test --one NAME [--keep]`: one black-box test, with what it writes as it goes; `keep` leaves
/// its folder, whose path it prints.
fn run_one(name: &str, keep: bool) -> Result<(), String> {
    let env = prepare()?;
    apart::build()?;
    let found = find(&suites::build()?, name)?;
    let (suite, test) = match found.as_slice() {
        [one] => one,
        [] => return Err(format!("no black-box test is named {name}")),
        many => {
            let names: Vec<String> = many.iter().map(|(s, t)| format!("{}::{t}", s.name)).collect();
            return Err(format!("{name} is the name of {}: {}", many.len(), names.join(", ")));
        }
    };
    let mut command = suite.command();
    command.args([test.as_str(), "--exact", "--nocapture"]);
    if keep {
        command.env("FULMEN_TEST_KEEP", "1");
    }
    step(command.env("BITCOIND", &env.bitcoind).env("PYLN_PYTHON", &env.python))
}

/// Black-box tests of this name: whole, or with its suite before it, or the end of its path.
fn find(suites: &[Suite], name: &str) -> Result<Vec<(Suite, String)>, String> {
    let mut found = Vec::new();
    for suite in suites.iter().filter(|s| s.black_box) {
        for test in suite.tests()? {
            let whole = format!("{}::{test}", suite.name);
            if whole == name || test == name || whole.ends_with(&format!("::{name}")) {
                found.push((suite.clone(), test));
            }
        }
    }
    Ok(found)
}

/// Builds what the tests start: the suite's executables must be there, and be these.
fn prepare() -> Result<Environment, String> {
    let bitcoind = bitcoind::find_or_build()?;
    eprintln!("bitcoind: {}", bitcoind.display());
    step(cargo().args(["build", "--locked", "--workspace", "--bins"]))?;
    Ok(Environment { bitcoind, python: pyln::find_or_install()? })
}
