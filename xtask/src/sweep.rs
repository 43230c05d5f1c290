//! `cargo xtask sweep`: kills every process at every barrier. HACKING.md says what that is.

use crate::{bitcoind, cargo, step};

/// Builds what dies, then runs the points that `words` name; all of them without.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let bitcoind = bitcoind::find_or_build()?;
    step(cargo().args(["build", "--workspace", "--bins"]))?;
    let mut sweep = cargo();
    sweep.args(["test", "-p", "tests", "--test", "crash", "--"]);
    sweep.args(["--ignored", "--exact", "every_point_that_was_asked_for", "--nocapture"]);
    let words = words.join(" ");
    step(sweep.env("BITCOIND", &bitcoind).env("RUST_BACKTRACE", "0").env("FULMEN_SWEEP", words))
}
