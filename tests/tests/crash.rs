//! Crash sweeps. Here some points of each scenario, the same in each run; `cargo xtask sweep`
//! visits them all.

use tests::crash::{Aim, Mode, Plan, SCENARIOS, World, command, sweep};

/// Words of `cargo xtask sweep`.
const WORDS: &str = "FULMEN_SWEEP";
/// Where the spread of points begins.
const SEED: usize = 20;

/// Every barrier, or the part of them that the environment names.
#[test]
#[ignore = "takes as long as it takes: cargo xtask sweep"]
fn crash_sweep_of_all_requested_points() {
    let words = std::env::var(WORDS).unwrap_or_default();
    let words: Vec<&str> = words.split_whitespace().collect();
    match command::run(&words) {
        Ok(failed) => assert!(failed.is_empty(), "{} points failed", failed.len()),
        Err(why) => panic!("{why}"),
    }
}

/// So many points of each of these scenarios.
fn some(most: usize, mode: Mode, names: &[&str]) {
    let plan = Plan { modes: vec![mode], most, seed: SEED, ..Plan::default() };
    for name in names {
        let scenario = SCENARIOS.iter().find(|s| s.name == *name).expect("it is in the list");
        let tally = sweep(scenario, mode, &plan);
        assert!(tally.failed.is_empty(), "{:#?}", tally.failed);
        assert_eq!(tally.tried, tally.passed);
    }
}

#[test]
fn payment_is_complete_or_failed_after_any_process_crashes() {
    some(12, Mode::Kill, &["pay-sent", "pay-received", "forward-fulfilled", "forward-failed"]);
}

#[test]
fn opening_and_update_fee_lose_no_money_after_any_crash() {
    some(8, Mode::Kill, &["open-opener", "open-accepter", "fee-opener", "fee-accepter"]);
}

#[test]
fn close_completes_on_both_sides_after_any_process_crashes() {
    some(10, Mode::Kill, &["close-closer", "close-closee"]);
    some(4, Mode::Kill, &["close-again-closer", "close-again-closee"]);
}

#[test]
fn close_completes_wherever_the_peer_disconnects() {
    some(12, Mode::HangUp, &["close-closer", "close-closee"]);
    some(3, Mode::HangUp, &["pay-sent", "forward-fulfilled", "open-opener", "fee-accepter"]);
}

#[test]
fn local_commitment_htlcs_resolve_after_any_process_crashes() {
    some(3, Mode::Kill, &["ours-before", "ours-during", "ours-after"]);
    some(1, Mode::Kill, &["ours-never"]);
}

#[test]
fn remote_commitment_htlcs_resolve_after_any_process_crashes() {
    some(3, Mode::Kill, &["theirs-before", "theirs-during", "theirs-after"]);
    some(1, Mode::Kill, &["theirs-never"]);
}

/// The forwarder crashes while one of its two channels is on chain.
#[test]
fn forwarder_settles_upstream_after_a_crash_with_one_onchain() {
    some(4, Mode::Kill, &["forward-out-taken", "forward-in-taken"]);
    some(1, Mode::Kill, &["forward-out-timeout"]);
    some(1, Mode::Orphans, &["forward-out-taken", "forward-in-taken"]);
}

#[test]
fn penalty_takes_all_outputs_after_any_process_crashes() {
    some(6, Mode::Kill, &["penalty"]);
}

#[test]
fn lightningd_that_dies_before_its_subdaemons_loses_nothing() {
    let names =
        ["pay-sent", "forward-fulfilled", "open-opener", "close-closer", "fee-opener", "penalty"];
    some(4, Mode::Orphans, &names);
    some(1, Mode::Orphans, &["ours-during", "theirs-after"]);
}

#[test]
fn restored_old_database_loses_nothing() {
    some(2, Mode::PutBack, &["pay-received", "forward-fulfilled", "open-opener", "penalty"]);
    some(1, Mode::PutBack, &["close-closer", "fee-opener", "ours-during", "theirs-before"]);
}

#[test]
fn opener_that_crashes_before_funding_signed_opens_again() {
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
