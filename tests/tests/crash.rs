//! Crash sweeps. CI visits some points of each scenario; `cargo xtask sweep` visits them all.

use tests::crash::{Aim, Mode, SCENARIOS, World, command};

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

#[test]
fn an_opener_that_dies_before_it_has_our_signature_may_try_again_and_again() {
    let scenario = SCENARIOS.iter().find(|s| s.name == "open-opener").unwrap();
    let mut world = World::new(scenario.target, Mode::Kill);
    (scenario.run)(&mut world);
    let (openingd, barriers) =
        world.counts.iter().find(|(name, _)| name.starts_with("openingd")).unwrap();
    // More often than a peer may have channels that wait for their funding.
    world.aim = Aim::Kill(openingd.clone(), *barriers - 1);
    for _ in 0..6 {
        (scenario.run)(&mut world);
        assert!(world.died_at.is_some());
    }
}
