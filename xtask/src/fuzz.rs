//! `cargo xtask fuzz`: builds the targets of fuzz/ with libFuzzer's instrumentation on stable Rust,
//! and runs them.
//!
//! Each target starts from its corpus in the tree; its findings and new inputs stay under
//! target/fuzz. `--keep` merges those inputs into the corpus of the tree, which stays small.

use crate::release::RUST;
use crate::shell::{self, root, step};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Seconds for each target where nothing else is said.
const SECONDS: u64 = 20;
/// Targets that run at the same time.
const AT_ONCE: usize = 2;
/// The most bytes of one input.
const MAX_LEN: usize = 4096;
/// The most that one target's corpus in the tree has: files, and bytes of all of them.
const CORPUS_FILES: usize = 100;
const CORPUS_BYTES: u64 = 100_000;
/// LLVM's coverage of edges and compares, which libFuzzer reads. Stable Rust has the pass, not an
/// option for it.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Which targets are fed, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Seconds for each target
    #[arg(long, default_value_t = SECONDS, value_name = "N")]
    seconds: u64,
    /// Minutes for each target, instead
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    minutes: Option<u64>,
    /// Add what was found to the targets' corpora in the tree
    #[arg(long)]
    keep: bool,
    /// The targets; all of them without
    targets: Vec<String>,
}

pub(crate) fn run(plan: &Plan) -> Result<(), String> {
    let seconds = plan.minutes.map_or(plan.seconds, |minutes| minutes.saturating_mul(60));
    let program = build()?;
    let all = names(&program)?;
    if let Some(unknown) = plan.targets.iter().find(|name| !all.contains(name)) {
        return Err(format!("no target {unknown}; there are: {}", all.join(" ")));
    }
    let targets = if plan.targets.is_empty() { all } else { plan.targets.clone() };
    println!("{:<24}{:>12}{:>10}{:>8}{:>8}", "target", "executions", "a second", "cov", "ft");
    let (next, findings) = (Mutex::new(targets.iter()), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(targets.len()) {
            scope.spawn(|| {
                while let Some(name) = next.lock().ok().and_then(|mut next| next.next()) {
                    let target = Target::new(&program, name);
                    match target.run(seconds).and_then(|line| {
                        println!("{line}");
                        if plan.keep { target.keep() } else { Ok(()) }
                    }) {
                        Ok(()) => {}
                        Err(why) => findings.lock().map(|mut all| all.push(why)).unwrap_or(()),
                    }
                }
            });
        }
    });
    let findings = findings.into_inner().unwrap_or_default();
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

/// The program with all targets in it.
fn build() -> Result<PathBuf, String> {
    let arch = std::env::consts::ARCH;
    if std::env::consts::OS != "linux" || !["x86_64", "aarch64"].contains(&arch) {
        return Err("the targets run on x86_64 and aarch64 under Linux".to_owned());
    }
    let triple = format!("{arch}-unknown-linux-gnu");
    let folder = root().join("target/fuzz");
    let flags: Vec<&str> = RUST.iter().chain(COVERAGE).copied().collect();
    // `--target` keeps the flags away from build scripts and macros.
    let mut cargo = shell::cargo();
    cargo
        .args(["build", "--quiet", "--locked", "--release", "--manifest-path", "fuzz/Cargo.toml"])
        .args(["--target", &triple, "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    step(&mut cargo)?;
    Ok(folder.join(triple).join("release/fuzz"))
}

/// All targets, as the program names them.
fn names(program: &Path) -> Result<Vec<String>, String> {
    let out = Command::new(program)
        .env("FUZZ_TARGET", "")
        .stderr(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let names: Vec<String> =
        String::from_utf8_lossy(&out.stdout).split_whitespace().map(str::to_owned).collect();
    if names.is_empty() { Err(format!("{} names no target", program.display())) } else { Ok(names) }
}

struct Target<'a> {
    program: &'a Path,
    name: &'a str,
    /// The inputs of the tree.
    corpus: PathBuf,
    /// Its folder under target/fuzz: new inputs, findings, the log.
    scratch: PathBuf,
}

impl<'a> Target<'a> {
    fn new(program: &'a Path, name: &'a str) -> Self {
        let corpus = root().join("fuzz/corpus").join(name);
        let scratch = root().join("target/fuzz/run").join(name);
        Self { program, name, corpus, scratch }
    }
    fn inputs(&self) -> PathBuf {
        self.scratch.join("inputs")
    }
    fn log(&self) -> PathBuf {
        self.scratch.join("log")
    }

    fn libfuzzer(&self) -> Result<Command, String> {
        let log = File::create(self.log()).map_err(|e| at(&self.log(), e))?;
        let mut command = Command::new(self.program);
        command.env("FUZZ_TARGET", self.name).current_dir(&self.scratch);
        command.stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Feeds the target for so long. A row of the table, or `Err` with where the finding is.
    fn run(&self, seconds: u64) -> Result<String, String> {
        let findings = self.scratch.join("findings");
        for folder in [&self.corpus, &self.inputs(), &findings] {
            fs::create_dir_all(folder).map_err(|e| at(folder, e))?;
        }
        let before = files(&findings)?;
        let status = self
            .libfuzzer()?
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={MAX_LEN}"))
            .args(["-len_control=20", "-rss_limit_mb=1024", "-timeout=60", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .args([self.inputs(), self.corpus.clone()])
            .status()
            .map_err(|e| at(self.program, e))?;
        let log = fs::read(self.log()).map_err(|e| at(&self.log(), e))?;
        let log = String::from_utf8_lossy(&log);
        if status.success() {
            return Ok(self.row(&log));
        }
        let found = files(&findings)?.into_keys().find(|file| !before.contains_key(file));
        let program = self.program.display();
        let again = found.map_or_else(String::new, |file| {
            format!("\nagain: FUZZ_TARGET={} {program} {}", self.name, file.display())
        });
        let said: Vec<&str> = log.lines().filter(|l| tells(l)).collect();
        let panics = said.iter().position(|l| l.contains("panicked at"));
        let from = panics.unwrap_or(said.len().saturating_sub(12));
        let shown: Vec<&str> = said.into_iter().skip(from).take(12).collect();
        let (shown, log) = (shown.join("\n"), self.log());
        Err(format!("{}: {status}\n{shown}\nlog: {}{again}", self.name, log.display()))
    }

    /// Executions, a second, and libFuzzer's coverage: edges, and edges with how often and which
    /// compares. Where the target says it: how deep its inputs came.
    fn row(&self, log: &str) -> String {
        let stat = |name: &str| {
            let line = log.lines().rev().find_map(|l| l.strip_prefix("stat::")?.strip_prefix(name));
            line.and_then(|l| l.split_whitespace().next_back()).unwrap_or("?").to_owned()
        };
        let last = log.lines().rev().find(|l| l.contains(" cov: ")).unwrap_or_default();
        let figure = |name: &str| {
            let mut words = last.split_whitespace().skip_while(|w| *w != name);
            words.nth(1).unwrap_or("0").to_owned()
        };
        let (executions, speed) =
            (stat("number_of_executed_units:"), stat("average_exec_per_sec:"));
        let (edges, features) = (figure("cov:"), figure("ft:"));
        let deepest = log.lines().rev().find_map(|l| l.strip_prefix("reached: "));
        let deepest = deepest.map(|l| format!("  {l}")).unwrap_or_default();
        format!("{:<24}{executions:>12}{speed:>10}{edges:>8}{features:>8}{deepest}", self.name)
    }

    /// Replaces the corpus of the tree with a small one that covers what it and the new inputs
    /// cover.
    fn keep(&self) -> Result<(), String> {
        let merged = self.scratch.join("merged");
        let _ = fs::remove_dir_all(&merged);
        fs::create_dir_all(&merged).map_err(|e| at(&merged, e))?;
        let status = self
            .libfuzzer()?
            .args(["-set_cover_merge=1", "-rss_limit_mb=1024", "-timeout=60"])
            .args([&merged, &self.corpus, &self.inputs()])
            .status()
            .map_err(|e| at(self.program, e))?;
        if !status.success() {
            return Err(format!("{}: merging: {status}, see {}", self.name, self.log().display()));
        }
        fs::remove_dir_all(&self.corpus).map_err(|e| at(&self.corpus, e))?;
        fs::create_dir_all(&self.corpus).map_err(|e| at(&self.corpus, e))?;
        let mut by_size: Vec<_> = files(&merged)?.into_iter().collect();
        by_size.sort_by_key(|(_, len)| *len);
        // Of too many, some of every size: the small ones are quick, the large ones are deep.
        let step = by_size.len().div_ceil(CORPUS_FILES).max(1);
        let mut bytes = 0;
        for (file, len) in by_size.into_iter().rev().step_by(step) {
            if bytes + len > CORPUS_BYTES {
                continue;
            }
            bytes += len;
            let kept = self.corpus.join(file.file_name().unwrap_or_default());
            fs::copy(&file, &kept).map_err(|e| at(&kept, e))?;
        }
        Ok(())
    }
}

/// Does this line of libFuzzer's say why it ended?
fn tells(line: &str) -> bool {
    let is_progress = line.starts_with('#') && line.contains("cov:");
    !(is_progress || line.starts_with("INFO:") || line.starts_with("0x"))
}

/// The files of a folder and their lengths.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, u64>, String> {
    let entries = fs::read_dir(folder).map_err(|e| at(folder, e))?;
    let files = entries.map(|entry| {
        let entry = entry?;
        Ok((entry.path(), entry.metadata()?.len()))
    });
    files.collect::<std::io::Result<_>>().map_err(|e| at(folder, e))
}

fn at(path: &Path, e: std::io::Error) -> String {
    format!("{}: {e}", path.display())
}
