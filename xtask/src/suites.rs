//! The tests of the tree, as executables that cargo builds: unit tests run crate by crate; each
//! black-box test runs in a process of its own, several at once, since it mostly waits for blocks
//! and daemons.

use crate::shell::cargo;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Black-box tests that keep both cores busy: each runs while no other does.
const ALONE: [&str; 1] = ["packages::"];
/// Suites whose tests take longest: they begin first, so that none is left running by itself at the
/// end.
const LONGEST: [&str; 5] = ["crash", "onchain_fees", "adversary", "foreign", "onchain"];
/// Suites that start what has a workspace of its own: LDK's node, and CLN's clients.
const APART: [&str; 2] = ["foreign", "clients"];
/// Ports that the tests of one worker may listen on; a worker runs one test at a time.
const PORTS: usize = 1500;

/// An executable with tests.
#[derive(Debug, Clone)]
pub(crate) struct Suite {
    /// Its crate.
    pub package: String,
    /// Its name in the crate.
    pub name: String,
    path: PathBuf,
    /// Where cargo runs it: the crate's folder.
    folder: PathBuf,
    /// Is it a suite of black-box tests?
    pub black_box: bool,
}

/// A test that ran.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    /// `suite::test`, or the suite where it ran as a whole.
    pub name: String,
    pub seconds: f64,
    pub passed: usize,
    pub failed: usize,
    output: String,
}

/// What every test process hears.
#[derive(Debug)]
pub(crate) struct Environment {
    pub bitcoind: PathBuf,
    pub python: PathBuf,
}

/// Builds every test, and says where each executable is.
pub(crate) fn build() -> Result<Vec<Suite>, String> {
    let out = cargo()
        .args(["test", "--no-run", "--locked", "--workspace", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo test --no-run: {e}"))?;
    if !out.status.success() {
        return Err(format!("cargo test --no-run: {}", out.status));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let suites = text.lines().filter_map(|l| suite(&serde_json::from_str(l).ok()?)).collect();
    Ok(suites)
}

fn suite(message: &serde_json::Value) -> Option<Suite> {
    let path = PathBuf::from(message["executable"].as_str()?);
    if message["profile"]["test"] != true {
        return None;
    }
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let package = folder.file_name()?.to_string_lossy().into_owned();
    let name = message["target"]["name"].as_str()?.to_owned();
    let is_test = message["target"]["kind"][0] == "test";
    let black_box = is_test && package == "tests";
    Some(Suite { package, name, path, folder, black_box })
}

impl Suite {
    /// The names of its tests.
    pub(crate) fn tests(&self) -> Result<Vec<String>, String> {
        let out = self.command().args(["--list", "--format", "terse"]).output();
        let out = out.map_err(|e| format!("{}: {e}", self.path.display()))?;
        let text = String::from_utf8_lossy(&out.stdout);
        Ok(text.lines().filter_map(|l| l.strip_suffix(": test")).map(str::to_owned).collect())
    }

    /// Its executable, where cargo would run it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }

    /// One of its tests, or all (`None`).
    pub(crate) fn run(&self, test: Option<&str>, env: &Environment, worker: usize) -> Ran {
        let begun = Instant::now();
        let mut command = self.command();
        command.env("BITCOIND", &env.bitcoind).env("PYLN_PYTHON", &env.python);
        command.env("FULMEN_TEST_PORTS", (10_000 + worker * PORTS).to_string());
        if let Some(test) = test {
            command.args([test, "--exact"]);
        }
        let (mut output, ended) = match command.output() {
            Ok(out) => {
                let both = [out.stdout, out.stderr].concat();
                (String::from_utf8_lossy(&both).into_owned(), out.status.success())
            }
            Err(e) => (format!("{}: {e}", self.path.display()), false),
        };
        let (passed, mut failed) = totals(&output);
        if !ended && failed == 0 {
            failed = 1;
            output.push_str("\nit ended without a result\n");
        }
        let name = match test {
            Some(test) => format!("{}::{test}", self.name),
            None => format!("{} ({})", self.package, self.name),
        };
        Ran { name, seconds: begun.elapsed().as_secs_f64(), passed, failed, output }
    }
}

/// Sums up libtest's last lines.
fn totals(output: &str) -> (usize, usize) {
    let results = output.lines().filter(|l| l.starts_with("test result:"));
    results.fold((0, 0), |(passed, failed), line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |what: &str| {
            let at = words.iter().position(|w| w.trim_end_matches(';') == what)?;
            words.get(at.checked_sub(1)?)?.parse::<usize>().ok()
        };
        (passed + number("passed").unwrap_or(0), failed + number("failed").unwrap_or(0))
    })
}

/// Everything. Unit tests run suite by suite beside the black-box tests, which wait most of their
/// time, and `apart` builds what the suites of [`APART`] start. A black-box test that fails is run
/// once more, alone.
pub(crate) fn run_all(
    suites: &[Suite],
    env: &Environment,
    apart: impl FnOnce() -> Result<(), String> + Send,
) -> Result<Report, String> {
    let mut report = Report::default();
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for suite in suites.iter().filter(|s| s.black_box) {
        for test in suite.tests()? {
            let is_alone = ALONE.iter().any(|prefix| test.starts_with(prefix));
            if is_alone { &mut alone } else { &mut together }.push((suite, test));
        }
    }
    together.sort_by_key(|(suite, _)| LONGEST.iter().position(|l| *l == suite.name).unwrap_or(9));
    let gate = Gate::default();
    let (built, unit, mut ran) = std::thread::scope(|scope| {
        let built = scope.spawn(|| gate.open_after(apart));
        let unit = scope.spawn(|| unit_tests(suites, env, &report));
        let ran = at_once(&together, env, workers(), &gate, &report);
        (built.join(), unit.join(), ran)
    });
    built.map_err(|_| "the builds apart panicked")??;
    report.unit = unit.map_err(|_| "a unit suite's thread panicked")?;
    ran.extend(at_once(&alone, env, 1, &gate, &report));
    let tests: BTreeMap<String, (&Suite, &str)> = together
        .iter()
        .chain(&alone)
        .map(|(suite, test)| (format!("{}::{test}", suite.name), (*suite, test.as_str())))
        .collect();
    for failed in ran.iter_mut().filter(|r| r.failed > 0) {
        let Some((suite, test)) = tests.get(&failed.name) else { continue };
        let again = suite.run(Some(test), env, 0);
        report.show(&again);
        if again.failed == 0 {
            report.flaky.push(failed.clone());
            *failed = again;
        }
    }
    report.black_box = ran;
    Ok(report)
}

fn unit_tests(suites: &[Suite], env: &Environment, report: &Report) -> Vec<Ran> {
    let run = |suite: &Suite| {
        // Ports that no worker has.
        let ran = suite.run(None, env, workers());
        report.show(&ran);
        ran
    };
    suites.iter().filter(|s| !s.black_box).map(run).collect()
}

/// What tests of [`APART`] wait for.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Opens in any case: a test that misses what was not built says so.
    fn open_after(&self, build: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        let built = build();
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
        built
    }

    fn wait(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.opened.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Three for each core: a black-box test waits most of its time.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let asked = std::env::var("FULMEN_TEST_JOBS").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or(cores * 3).clamp(1, 12)
}

fn at_once(
    tests: &[(&Suite, String)],
    env: &Environment,
    workers: usize,
    gate: &Gate,
    report: &Report,
) -> Vec<Ran> {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (next, all) = (&next, &all);
            scope.spawn(move || {
                while let Some((suite, test)) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if APART.contains(&suite.name.as_str()) {
                        gate.wait();
                    }
                    let ran = suite.run(Some(test), env, worker);
                    report.show(&ran);
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(ran);
                }
            });
        }
    });
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What ran.
#[derive(Debug, Default)]
pub(crate) struct Report {
    unit: Vec<Ran>,
    black_box: Vec<Ran>,
    flaky: Vec<Ran>,
}

impl Report {
    /// A line for each; everything that a failed one wrote.
    fn show(&self, ran: &Ran) {
        let word = if ran.failed == 0 { "ok" } else { "FAILED" };
        println!("test {} ... {word} ({:.1} s, {} tests)", ran.name, ran.seconds, ran.passed);
        if ran.failed > 0 {
            // Indented: its own `test result` is none of the totals.
            for line in ran.output.lines() {
                println!("    {line}");
            }
        }
    }

    /// Seconds for each suite, the ten slowest tests, those that passed only when run again; then
    /// the totals, as libtest writes them. False if a test failed.
    pub(crate) fn print(&self, took: Duration) -> bool {
        let mut suites: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
        for ran in &self.black_box {
            let suite = ran.name.split("::").next().unwrap_or_default();
            let sum = suites.entry(suite).or_default();
            *sum = (sum.0 + ran.seconds, sum.1 + ran.passed);
        }
        println!("\nseconds of each suite (black-box tests run several at once)");
        for ran in &self.unit {
            println!("{:8.1}  {:4} tests  {}", ran.seconds, ran.passed, ran.name);
        }
        for (name, (seconds, tests)) in suites {
            println!("{seconds:8.1}  {tests:4} tests  {name}");
        }
        let mut slowest: Vec<&Ran> = self.black_box.iter().collect();
        slowest.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        println!("\nthe ten slowest tests");
        for ran in slowest.iter().take(10) {
            println!("{:8.1}  {}", ran.seconds, ran.name);
        }
        let all = || self.unit.iter().chain(&self.black_box);
        for ran in all().filter(|r| r.failed > 0) {
            println!("FAILED {}", ran.name);
        }
        for ran in &self.flaky {
            println!("FLAKY {}: it failed, and passed when it ran again alone", ran.name);
        }
        let (passed, failed) = all().fold((0, 0), |(p, f), ran| (p + ran.passed, f + ran.failed));
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!("\nall tests took {:.0} seconds", took.as_secs_f64());
        println!("test result: {word}. {passed} passed; {failed} failed");
        failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_libtests_lines() {
        let output = "running 2 tests\ntest result: FAILED. 12 passed; 3 failed; 0 ignored\n\
                      test result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(totals(output), (13, 3));
        assert_eq!(totals("Segmentation fault"), (0, 0));
    }
}
