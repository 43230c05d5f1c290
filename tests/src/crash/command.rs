//! `cargo xtask sweep`: which scenarios and points, and the sum at the end.

use super::{Failed, Mode, Plan, SCENARIOS, Scenario, Tally, sweep};

/// What may be said.
pub const USAGE: &str = "sweep [--mode kill|orphans|put-back|hang-up] [--shard I/N] [--from K] [--every N] [--most N] [--seed N] \
    [--only TEXT] [--state FILE] [--quiet] [SCENARIO..]";

/// Runs what these words name, and says how it went.
pub fn run(words: &[&str]) -> Result<Vec<Failed>, String> {
    let (plan, names) = parse(words).map_err(|why| {
        let known: Vec<&str> = SCENARIOS.iter().map(|s| s.name).collect();
        format!("{why}\n{USAGE}\nscenarios: {}", known.join(" "))
    })?;
    let (mut failed, mut ends) = (Vec::new(), Vec::new());
    let (mut tried, mut passed) = (0, 0);
    let named = |s: &&Scenario| names.is_empty() || names.contains(&s.name);
    for scenario in SCENARIOS.iter().filter(named) {
        for mode in plan.modes.iter().filter(|mode| scenario.has(**mode)) {
            let tally = sweep(scenario, *mode, &plan);
            tried += tally.tried;
            passed += tally.passed;
            ends.push(end_of(scenario, *mode, &tally));
            failed.extend(tally.failed);
        }
    }
    for line in ends {
        println!("{line}");
    }
    println!("{tried} points tried, {passed} passed");
    for failure in &failed {
        println!("FAILED {}: {}", failure.point, failure.why);
    }
    Ok(failed)
}

/// How far a scenario was swept in one mode.
fn end_of(scenario: &Scenario, mode: Mode, tally: &Tally) -> String {
    let Tally { exist, visited, failed, .. } = tally;
    let how = match (visited == exist, failed.len()) {
        (true, 0) => "swept to its end".to_owned(),
        (true, failed) => format!("swept to its end, {failed} failed"),
        (false, failed) => format!("{} left, {failed} failed", exist - visited),
    };
    format!("{}, {}: {visited} of {exist} points visited: {how}", scenario.name, mode.name())
}

fn parse<'a>(words: &[&'a str]) -> Result<(Plan, Vec<&'a str>), String> {
    let mut plan = Plan::default();
    let mut names = Vec::new();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word {
            "--mode" => plan.modes = vec![mode(value()?)?],
            "--from" => plan.from = value()?.parse().map_err(|e| format!("--from: {e}"))?,
            "--most" => plan.most = value()?.parse().map_err(|e| format!("--most: {e}"))?,
            "--seed" => plan.seed = value()?.parse().map_err(|e| format!("--seed: {e}"))?,
            "--shard" => plan.shard = shard(value()?)?,
            "--every" => plan.every = value()?.parse().map_err(|e| format!("--every: {e}"))?,
            "--only" => plan.only = Some(value()?.to_owned()),
            "--state" => plan.state = Some(value()?.into()),
            "--quiet" => plan.loud = false,
            _ if SCENARIOS.iter().any(|s| s.name == word) => names.push(word),
            _ => return Err(format!("'{word}' is no scenario and no option")),
        }
    }
    Ok((plan, names))
}

fn mode(text: &str) -> Result<Mode, String> {
    let found = Mode::ALL.into_iter().find(|m| m.name() == text);
    found.ok_or_else(|| format!("--mode {text}: kill, orphans, put-back or hang-up"))
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let wrong = || format!("--shard {text}: I/N, with I from 0 to N-1");
    let (i, n) = text.split_once('/').ok_or_else(wrong)?;
    let (i, n) = (i.parse().map_err(|_| wrong())?, n.parse().map_err(|_| wrong())?);
    if i < n { Ok((i, n)) } else { Err(wrong()) }
}
