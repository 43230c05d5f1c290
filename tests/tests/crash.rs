//! Crash sweeps. Here some points of each scenario, the same in each run; `cargo xtask sweep`
//! visits them all.

use tests::crash::{Aim, Mode, Plan, SCENARIOS, World, command, sweep};

/// Words of `cargo xtask sweep`.
const WORDS: &str = "FULMEN_SWEEP";
/// Where the spread of points begins.
const SEED: usize = 20;

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
fn whoever_dies_in_a_payment_it_ends_in_full_or_not_at_all() {
    some(12, Mode::Kill, &["pay-sent", "pay-received", "forward-fulfilled", "forward-failed"]);
}

#[test]
fn whoever_dies_in_an_opening_or_a_fee_update_nobody_loses_a_coin() {
    some(8, Mode::Kill, &["open-opener", "open-accepter", "fee-opener", "fee-accepter"]);
}

#[test]
fn whoever_dies_in_a_close_both_end_it_together() {
    some(10, Mode::Kill, &["close-closer", "close-closee"]);
    some(4, Mode::Kill, &["close-again-closer", "close-again-closee"]);
}

#[test]
fn close_is_agreed_wherever_the_peer_hangs_up() {
    some(12, Mode::HangUp, &["close-closer", "close-closee"]);
    some(3, Mode::HangUp, &["pay-sent", "forward-fulfilled", "open-opener", "fee-accepter"]);
}

#[test]
fn whoever_dies_after_our_commitment_is_published_each_htlc_goes_where_it_belongs() {
    some(3, Mode::Kill, &["ours-before", "ours-during", "ours-after"]);
    some(1, Mode::Kill, &["ours-never"]);
}

#[test]
fn whoever_dies_after_the_peers_commitment_is_published_each_htlc_goes_where_it_belongs() {
    some(3, Mode::Kill, &["theirs-before", "theirs-during", "theirs-after"]);
    some(1, Mode::Kill, &["theirs-never"]);
}

#[test]
fn a_forwarder_that_dies_while_one_of_its_channels_is_on_chain_settles_with_the_other() {
    some(4, Mode::Kill, &["forward-out-taken", "forward-in-taken"]);
    some(1, Mode::Kill, &["forward-out-timeout"]);
    some(1, Mode::Orphans, &["forward-out-taken", "forward-in-taken"]);
}

#[test]
fn whoever_dies_a_revoked_commitment_costs_its_owner_everything() {
    some(6, Mode::Kill, &["penalty"]);
}

#[test]
fn a_master_that_dies_before_its_children_loses_nothing() {
    let names =
        ["pay-sent", "forward-fulfilled", "open-opener", "close-closer", "fee-opener", "penalty"];
    some(4, Mode::Orphans, &names);
    some(1, Mode::Orphans, &["ours-during", "theirs-after"]);
}

#[test]
fn a_database_that_was_put_back_gives_nothing_away() {
    some(2, Mode::PutBack, &["pay-received", "forward-fulfilled", "open-opener", "penalty"]);
    some(1, Mode::PutBack, &["close-closer", "fee-opener", "ours-during", "theirs-before"]);
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
