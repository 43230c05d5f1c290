//! `cargo xtask test`: everything, with a real bitcoind.

use crate::{bitcoind, cargo, root, step};

/// Builds what the tests run, then runs them. `rest` goes to `cargo test` (a filter, say).
pub(crate) fn run(rest: &[&str]) -> Result<(), String> {
    let bitcoind = bitcoind::find_or_build()?;
    eprintln!("bitcoind: {}", bitcoind.display());
    // The black-box tests start the suite's executables: they must be there, and be these.
    step(cargo().args(["build", "--workspace", "--bins"]))?;
    build_ldk_peer()?;
    step(cargo().args(["test", "--workspace"]).args(rest).env("BITCOIND", &bitcoind))
}

/// The foreign peer has a workspace of its own: its SQLite cannot stand beside ours.
fn build_ldk_peer() -> Result<(), String> {
    let manifest = root().join("tests/ldk-peer/Cargo.toml");
    if !manifest.is_file() {
        return Ok(());
    }
    step(
        cargo()
            .args(["build", "--locked", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(root().join("target/ldk-peer")),
    )
}
