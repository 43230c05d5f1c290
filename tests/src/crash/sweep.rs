//! The runner: counts a scenario's barriers, then visits each point.

use super::{Aim, Counts, Mode, Scenario, World, put_back};
use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

/// Which points.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What happens to the node.
    pub modes: Vec<Mode>,
    /// This shard of so many.
    pub shard: (usize, usize),
    /// Without the first so many of those.
    pub from: usize,
    /// Every n-th point of the rest.
    pub every: usize,
    /// No more than so many of those, evenly spread.
    pub most: usize,
    /// Where the spread begins.
    pub seed: usize,
    /// Only points whose names contain this.
    pub only: Option<String>,
    /// Points that passed are written here, and not tried again.
    pub state: Option<PathBuf>,
    /// Say each point aloud.
    pub loud: bool,
}

impl Default for Plan {
    /// Everything.
    fn default() -> Self {
        Self {
            modes: Mode::ALL.to_vec(),
            shard: (0, 1),
            from: 0,
            every: 1,
            most: usize::MAX,
            seed: 0,
            only: None,
            state: None,
            loud: true,
        }
    }
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
    /// Points that there are, by the run that nobody disturbed.
    pub exist: usize,
    /// Those of them that were visited, now or in an earlier run of the same state file.
    pub visited: usize,
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

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tried, passed, not_reached, skipped, failed, .. } = self;
        write!(
            f,
            "{tried} points tried, {passed} passed ({not_reached} not reached), {skipped} passed \
             before, {} failed",
            failed.len()
        )
    }
}

/// Visits the points of a scenario that the plan names, in one mode.
///
/// # Panics
/// When the scenario fails although nobody is killed.
pub fn sweep(scenario: &Scenario, mode: Mode, plan: &Plan) -> Tally {
    let begun = Instant::now();
    let mut world = World::new(scenario.target, mode);
    let counts = count(scenario, mode, plan, &mut world);
    let passed = read_state(plan);
    let name_of = |(process, number): &(String, u64)| match mode {
        Mode::HangUp => format!("{}/{}/{process}/{number}", scenario.name, mode.name()),
        Mode::Kill | Mode::Orphans | Mode::PutBack => {
            format!("{}/{process}/{number}", scenario.name)
        }
    };
    let mut tally = Tally::default();
    let mut visited: BTreeSet<String> = passed.clone();
    for (process, number) in points(mode, &counts, plan) {
        let name = name_of(&(process.clone(), number));
        if plan.only.as_ref().is_some_and(|only| !is_named(&name, only)) {
            continue;
        }
        if passed.contains(&name) {
            tally.skipped += 1;
            continue;
        }
        let since = Instant::now();
        tally.tried += 1;
        let run =
            catch_unwind(AssertUnwindSafe(|| visit(scenario, mode, &mut world, &process, number)));
        let verdict = match run {
            Ok(place) => {
                tally.passed += 1;
                tally.not_reached += usize::from(place.is_none());
                note(plan, &name);
                place.unwrap_or_else(|| "not reached".to_owned())
            }
            Err(panic) => {
                let why = message_of(&*panic);
                let place = world.died_at.clone().or_else(|| world.armed_place());
                let kept = world.keep();
                let why = format!("died {place:?}: {why}; see {}", kept.display());
                tally.failed.push(Failed { point: name.clone(), why: why.clone() });
                world = World::new(scenario.target, mode);
                format!("FAILED {why}")
            }
        };
        if plan.loud {
            println!("{name}: {verdict} ({} ms)", since.elapsed().as_millis());
        }
        visited.insert(name);
    }
    let all = points(mode, &counts, &Plan::default());
    tally.exist = all.len();
    tally.visited = all.iter().filter(|point| visited.contains(&name_of(point))).count();
    let seconds = begun.elapsed().as_secs_f64();
    println!("{}, {}: {tally}; {seconds:.0} s; barriers: {counts:?}", scenario.name, mode.name());
    tally
}

/// The message of a panic; empty for a payload that is no text.
fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    panic.downcast_ref::<String>().cloned().or(text).unwrap_or_default()
}

/// How many barriers, or commits, there are. What happens once in a life (the first commit, the
/// first coin) is no part of that.
fn count(scenario: &Scenario, mode: Mode, plan: &Plan, world: &mut World) -> Counts {
    world.aim = match mode {
        Mode::Kill | Mode::Orphans | Mode::HangUp => Aim::Count,
        Mode::PutBack => Aim::Copy,
    };
    (scenario.run)(world);
    if mode == Mode::PutBack {
        // Each point has a line of its own, on which this was the first.
        return Counts::from([(Mode::PutBack.name().to_owned(), world.copies)]);
    }
    if plan.most == usize::MAX {
        (scenario.run)(world);
    }
    world.counts.clone()
}

/// One point. Where it died, if it did.
fn visit(
    scenario: &Scenario,
    mode: Mode,
    world: &mut World,
    process: &str,
    number: u64,
) -> Option<String> {
    match mode {
        Mode::Kill | Mode::Orphans | Mode::HangUp => {
            world.aim = match mode {
                Mode::Orphans => Aim::Kill(MASTER.to_owned(), number),
                Mode::HangUp => Aim::HangUp(process.to_owned(), number),
                Mode::Kill | Mode::PutBack => Aim::Kill(process.to_owned(), number),
            };
            (scenario.run)(world);
            world.died_at.clone()
        }
        Mode::PutBack => {
            // Its channels end: nobody else can live on this line.
            *world = World::new(scenario.target, mode);
            world.aim = Aim::Copy;
            (scenario.run)(world);
            if number > world.copies {
                return None;
            }
            put_back::run(world, number);
            Some(format!("put back to commit {number} of {}", world.copies))
        }
    }
}

const MASTER: &str = "lightningd";

/// Every process and number, those of this shard, every n-th. The shards of a sweep visit all
/// processes.
fn points(mode: Mode, counts: &Counts, plan: &Plan) -> Vec<(String, u64)> {
    let named = counts.iter().filter_map(|(name, count)| match mode {
        Mode::Kill | Mode::PutBack | Mode::HangUp => Some((name.as_str(), *count)),
        Mode::Orphans => (name == MASTER).then_some((Mode::Orphans.name(), *count)),
    });
    let all = named.flat_map(|(name, count)| (1..=count).map(move |n| (name.to_owned(), n)));
    let (shard, of) = plan.shard;
    let mine = all.enumerate().filter(|(at, _)| at % of == shard).map(|(_, point)| point);
    let mine = mine.skip(plan.from).step_by(plan.every.max(1)).collect();
    spread(mine, plan.most, plan.seed)
}

/// Is this text in a point's name? Numbers are whole: 2 is not in 20.
fn is_named(point: &str, text: &str) -> bool {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let is_cut = |at: usize| {
        is_digit(text.chars().last()) && is_digit(point[at + text.len()..].chars().next())
    };
    point.match_indices(text).any(|(at, _)| !is_cut(at))
}

/// So many of these, at equal distances.
fn spread<T>(all: Vec<T>, most: usize, seed: usize) -> Vec<T> {
    let len = all.len();
    if len <= most {
        return all;
    }
    let taken: BTreeSet<usize> = (0..most).map(|n| (n * len / most + seed) % len).collect();
    all.into_iter().enumerate().filter(|(at, _)| taken.contains(at)).map(|(_, p)| p).collect()
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
