//! Crash sweeps. CI visits some points of each scenario; `cargo xtask sweep` visits them all.

use tests::crash::command;

/// Words of `cargo xtask sweep`.
const WORDS: &str = "FULMEN_SWEEP";

#[test]
#[ignore = "takes as long as it takes: cargo xtask sweep"]
fn every_point_that_was_asked_for() {
    let words = std::env::var(WORDS).unwrap_or_default();
    let words: Vec<&str> = words.split_whitespace().collect();
    match command::run(&words) {
        Ok(failed) => assert!(failed.is_empty(), "{} points failed", failed.len()),
        Err(why) => panic!("{why}"),
    }
}
