//! `cargo xtask test`: everything, with a real bitcoind.

use crate::{bitcoind, cargo, pyln, root, step};

/// Builds what the tests run, then runs them. `rest` goes to `cargo test` (a filter, say).
pub(crate) fn run(rest: &[&str]) -> Result<(), String> {
    let bitcoind = bitcoind::find_or_build()?;
    eprintln!("bitcoind: {}", bitcoind.display());
    // The black-box tests start the suite's executables: they must be there, and be these.
    step(cargo().args(["build", "--locked", "--workspace", "--bins"]))?;
    for (workspace, target) in APART {
        build_apart(workspace, target)?;
    }
    let python = pyln::find_or_install()?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--workspace"]).args(rest);
    step(tests.env("BITCOIND", &bitcoind).env("PYLN_PYTHON", &python))
}

/// What has a workspace of its own, and its folder under `target`: what other people's crates pin cannot stand beside ours.
const APART: &[(&str, &str)] =
    &[("tests/ldk-peer", "target/ldk-peer"), ("tests/clients/rust", "target/clients")];

fn build_apart(workspace: &str, target: &str) -> Result<(), String> {
    let manifest = root().join(workspace).join("Cargo.toml");
    let target = root().join(target);
    let mut build = cargo();
    build.args(["build", "--locked", "--manifest-path"]).arg(manifest);
    step(build.arg("--target-dir").arg(target))
}
