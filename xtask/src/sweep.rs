//! `cargo xtask sweep`: kills every process at every barrier. HACKING.md says what that is.

use crate::bitcoind;
use crate::shell::{cargo, step};

/// Builds what dies, then runs the points that `words` name; all of them without.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let bitcoind = bitcoind::find_or_build()?;
    // As they are used, and several times as many points an hour.
    step(cargo().args(["build", "--locked", "--release", "--workspace", "--bins"]))?;
    let mut sweep = cargo();
    sweep.args(["test", "--locked", "--release", "-p", "tests", "--test", "crash", "--"]);
    sweep.args(["--ignored", "--exact", "crash_sweep_of_all_requested_points", "--nocapture"]);
    let words = from_here(words).join(" ");
    step(sweep.env("BITCOIND", &bitcoind).env("RUST_BACKTRACE", "0").env("FULMEN_SWEEP", words))
}

/// A state file is named from where one stands; the tests run elsewhere.
fn from_here(words: &[String]) -> Vec<String> {
    let mut named = false;
    let absolute = |word: &str| std::path::absolute(word).map(|p| p.display().to_string());
    let mut words: Vec<String> = words.to_vec();
    for word in &mut words {
        if named && let Ok(path) = absolute(word) {
            *word = path;
        }
        named = word == "--state";
    }
    words
}
