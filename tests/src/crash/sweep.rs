//! The runner: counts a scenario's barriers, then visits each point.

use super::{Aim, Counts, Scenario, World};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

/// Which points.
#[derive(Debug, Clone)]
pub struct Plan {
    /// This shard of so many.
    pub shard: (usize, usize),
    /// Every n-th point of those.
    pub every: usize,
    /// Only points whose names contain this.
    pub only: Option<String>,
    /// Points that passed are written here, and not tried again.
    pub state: Option<PathBuf>,
    /// Say each point aloud.
    pub loud: bool,
}

/// A point that did not pass.
#[derive(Debug)]
pub struct Failed {
    /// Scenario, process and number.
    pub point: String,
    /// What did not hold.
    pub why: String,
}

/// How a sweep went.
#[derive(Debug, Default)]
pub struct Tally {
    /// Points that were run.
    pub tried: usize,
    /// Those at whose end everything held.
    pub passed: usize,
    /// Those that passed without their death: that run had fewer barriers.
    pub not_reached: usize,
    /// Those that passed in an earlier run.
    pub skipped: usize,
    /// The rest.
    pub failed: Vec<Failed>,
}

/// Visits the points of a scenario that the plan names.
///
/// # Panics
/// When the scenario fails although nobody is killed.
pub fn sweep(scenario: &Scenario, plan: &Plan) -> Tally {
    let begun = Instant::now();
    let mut world = fresh(scenario);
    // What happens once in a life (the first commit, the first coin) is no part of what is counted.
    let mut counts = Counts::new();
    for _ in 0..2 {
        world.aim = Aim::Count;
        (scenario.run)(&mut world);
        counts = world.counted();
    }
    let passed = read_state(plan);
    let mut tally = Tally::default();
    for (process, number) in points(&counts, plan) {
        let name = format!("{}/{process}/{number}", scenario.name);
        if plan.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        if passed.contains(&name) {
            tally.skipped += 1;
            continue;
        }
        let since = Instant::now();
        tally.tried += 1;
        world.aim = Aim::Kill(process, number);
        let run = catch_unwind(AssertUnwindSafe(|| (scenario.run)(&mut world)));
        let verdict = match run {
            Ok(()) => {
                tally.passed += 1;
                tally.not_reached += usize::from(world.died_at.is_none());
                note(plan, &name);
                world.died_at.clone().unwrap_or_else(|| "not reached".to_owned())
            }
            Err(panic) => {
                let why = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                    .unwrap_or_default();
                let place = world.died_at.clone().or_else(|| world.armed_place());
                let kept = world.keep();
                let why = format!("died {place:?}: {why}; see {}", kept.display());
                tally.failed.push(Failed { point: name.clone(), why: why.clone() });
                world = fresh(scenario);
                format!("FAILED {why}")
            }
        };
        if plan.loud {
            println!("{name}: {verdict} ({} ms)", since.elapsed().as_millis());
        }
    }
    println!(
        "{}: {} points tried, {} passed ({} without a death), {} passed before, {} failed; {:.0} s; barriers: {counts:?}",
        scenario.name,
        tally.tried,
        tally.passed,
        tally.not_reached,
        tally.skipped,
        tally.failed.len(),
        begun.elapsed().as_secs_f64(),
    );
    tally
}

fn fresh(scenario: &Scenario) -> World {
    let mut world = World::new(scenario.options);
    world.target = scenario.target;
    world
}

/// Every process and number, those of this shard, every n-th. The shards of a sweep visit all processes.
fn points(counts: &Counts, plan: &Plan) -> Vec<(String, u64)> {
    let all = counts.iter().flat_map(|(name, count)| (1..=*count).map(move |n| (name.clone(), n)));
    let (shard, of) = plan.shard;
    all.enumerate()
        .filter(|(at, _)| at % of == shard)
        .map(|(_, point)| point)
        .step_by(plan.every.max(1))
        .collect()
}

fn read_state(plan: &Plan) -> BTreeSet<String> {
    let Some(path) = &plan.state else { return BTreeSet::new() };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn note(plan: &Plan, name: &str) {
    if let Some(path) = &plan.state {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(file, "{name}").unwrap();
    }
}
