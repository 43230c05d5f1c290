//! The log: CLN's line format, to stdout or files, by level and subsystem; the last lines kept for
//! `getlog`.
//!
//! A process has one log, so this room is the one thing here that is global.

pub mod budget;
pub mod kept;
pub mod line_of;

use crate::sys::log::line_of::{Line, Speaker};
use budget::{Budgets, LeftOut, Said};
use kept::Kept;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use primitives::{NodeId, cut_text};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use wire::daemon::LogLevel;

/// Lines of one text: a report of a panic has a few.
const MAX_LINES: usize = 32;

/// One `log-level`: a level, for sources that contain a word.
#[derive(Debug, Clone)]
struct Filter {
    level: LogLevel,
    subsystem: Option<String>,
}

struct State {
    begun: Instant,
    prefix: String,
    timestamps: bool,
    filters: Vec<Filter>,
    paths: Vec<String>,
    files: Vec<Option<File>>,
    kept: Kept,
    budgets: Budgets,
    only_broken: bool,
    /// Lines that were not written since stdout was full.
    unread: u64,
}

static LOG: OnceLock<Mutex<State>> = OnceLock::new();

fn state() -> std::sync::MutexGuard<'static, State> {
    let log = LOG.get_or_init(|| {
        Mutex::new(State {
            begun: Instant::now(),
            prefix: String::new(),
            timestamps: true,
            filters: vec![Filter { level: LogLevel::Info, subsystem: None }],
            paths: vec!["-".to_owned()],
            files: vec![None],
            kept: Kept::default(),
            budgets: Budgets::new(),
            only_broken: false,
            unread: 0,
        })
    });
    log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The word for a level, as files and `getlog` have it.
pub const fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Io => "io",
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Unusual => "unusual",
        LogLevel::Broken => "broken",
    }
}

/// The level of a word.
pub fn level(word_: &str) -> Option<LogLevel> {
    LogLevel::ALL.iter().copied().find(|l| word(*l) == word_)
}

/// From the options: where to, how loud, with which prefix.
pub fn configure(
    prefix: &str,
    timestamps: bool,
    levels: &[String],
    files: &[String],
) -> Result<(), String> {
    let mut log = state();
    log.prefix = prefix.to_owned();
    log.timestamps = timestamps;
    if !levels.is_empty() {
        log.filters = levels.iter().map(|l| filter(l)).collect::<Result<_, _>>()?;
        if log.filters.iter().all(|f| f.subsystem.is_some()) {
            log.filters.push(Filter { level: LogLevel::Info, subsystem: None });
        }
    }
    if !files.is_empty() {
        log.paths = files.to_vec();
    }
    reopen(&mut log)?;
    drop(log);
    let quiet = log::set_logger(&FACADE).is_err();
    log::set_max_level(log::LevelFilter::Trace);
    if quiet {
        log::debug!("the log was configured twice");
    }
    Ok(())
}

fn filter(text: &str) -> Result<Filter, String> {
    let (word, subsystem) = text.split_once(':').map_or((text, None), |(w, s)| (w, Some(s)));
    let level = level(word).ok_or_else(|| {
        format!("log-level: '{word}' is none of io, trace, debug, info, unusual, broken")
    })?;
    Ok(Filter { level, subsystem: subsystem.filter(|s| !s.is_empty()).map(str::to_owned) })
}

fn reopen(log: &mut State) -> Result<(), String> {
    log.files = log
        .paths
        .iter()
        .map(|path| match path.as_str() {
            "-" => Ok(None),
            path => crate::sys::files::open_ours(Path::new(path))
                .map(Some)
                .map_err(|e| format!("log-file {path}: {e}")),
        })
        .collect::<Result<_, _>>()?;
    Ok(())
}

/// SIGHUP: the files were moved away.
pub fn reopen_files() {
    let result = reopen(&mut state());
    if let Err(e) = result {
        line(LogLevel::Unusual, None, "lightningd", &e);
    }
}

/// The lowest level that anybody wants to see: what children need not send.
pub fn least_level() -> LogLevel {
    state().filters.iter().map(|f| f.level).min().unwrap_or(LogLevel::Info).min(LogLevel::Debug)
}

/// Writes a line of lightningd's own.
pub fn line(level: LogLevel, node: Option<NodeId>, source: &str, text: &str) {
    line_of(Speaker::Lightningd, level, node, source, text);
}

/// Writes a line that another process said, or that it can have lightningd write as often as it
/// likes.
pub fn line_of(speaker: Speaker, level: LogLevel, node: Option<NodeId>, source: &str, text: &str) {
    say(&mut state(), speaker, level, node, source, text);
}

/// These peers have funded channels with us: their limits are higher than strangers'.
pub fn set_friends(friends: BTreeSet<NodeId>) {
    state().budgets.set_friends(friends);
}

/// With little disk space left only BROKEN lines are written.
pub fn write_only_broken(only: bool) {
    state().only_broken = only;
}

/// From time to time: says how many lines were dropped of sources that were above their limits.
pub fn sum_up() {
    let mut log = state();
    for left_out in log.budgets.sum_up(Instant::now()) {
        say_left_out(&mut log, left_out);
    }
}

fn say(
    log: &mut State,
    speaker: Speaker,
    level: LogLevel,
    node: Option<NodeId>,
    source: &str,
    text: &str,
) {
    let mut lines = text.lines();
    for part in lines.by_ref().take(MAX_LINES) {
        let part = cut_text(part);
        say_line(log, speaker, level, node, source, &part);
    }
    let rest = lines.count();
    if rest > 0 {
        say_line(log, speaker, level, node, source, &format!("... ({rest} lines more)"));
    }
}

/// One line, if it is within its limits.
fn say_line(
    log: &mut State,
    speaker: Speaker,
    level: LogLevel,
    node: Option<NodeId>,
    source: &str,
    text: &str,
) {
    let wanted = is_wanted(&log.filters, level, node, source);
    let said = Said { speaker, level, node, source, len: text.len() + OVERHEAD, wanted };
    match log.budgets.spend(said, Instant::now()) {
        Ok(None) => {}
        Ok(Some(left_out)) => say_left_out(log, left_out),
        Err(()) => return,
    }
    put(log, speaker, level, node, source, text);
}

/// What a line takes beside its text: the time, the level, who says it about whom.
const OVERHEAD: usize = 120;

/// Kept with the lines of the process that it counts, so that a flood's summaries push out nothing
/// of lightningd's.
fn say_left_out(log: &mut State, left_out: LeftOut) {
    let LeftOut { speaker, node, text } = left_out;
    put(log, speaker, LogLevel::Unusual, node, "lightningd", &text);
}

fn put(
    log: &mut State,
    speaker: Speaker,
    level: LogLevel,
    node: Option<NodeId>,
    source: &str,
    text: &str,
) {
    if cfg!(feature = "fuzzing") {
        // Hours of it would fill the disk.
        return;
    }
    if is_wanted(&log.filters, level, node, source)
        && (!log.only_broken || level == LogLevel::Broken)
    {
        let formatted = format_line(log, level, node, source, text);
        write_out(log, &formatted);
    }
    let at = log.begun.elapsed();
    let line = Line { at, level, node, source: source.to_owned(), text: text.to_owned() };
    log.kept.push(speaker, line);
}

/// Does any filter want this? A filter's subsystem is a part of the source, or of the peer's id.
fn is_wanted(filters: &[Filter], level: LogLevel, node: Option<NodeId>, source: &str) -> bool {
    filters.iter().any(|f| {
        level >= f.level
            && f.subsystem.as_ref().is_none_or(|s| {
                source.contains(s.as_str())
                    || node.is_some_and(|n| n.to_string().contains(s.as_str()))
            })
    })
}

fn write_out(log: &mut State, formatted: &str) {
    let unread = &mut log.unread;
    for file in &mut log.files {
        let written = match file {
            None => write_to_stdout(unread, formatted),
            Some(file) => file.write_all(formatted.as_bytes()),
        };
        // A full disk must not take the node down, and there is no log to say so in.
        drop(written);
    }
}

/// Writes a line to stdout if it has room now: a reader that is slow, or stopped, must not stop the
/// node. Lines dropped are counted.
fn write_to_stdout(unread: &mut u64, formatted: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if !takes_a_line(stdout.as_fd()) {
        *unread += 1;
        return Ok(());
    }
    if *unread > 0 {
        let lost = std::mem::take(unread);
        stdout.write_all(format!("... {lost} lines dropped: stdout was full\n").as_bytes())?;
        if !takes_a_line(stdout.as_fd()) {
            *unread += 1;
            return Ok(());
        }
    }
    stdout.write_all(formatted.as_bytes())
}

/// A pipe that can be written to has room for a page, a line is shorter than that.
fn takes_a_line(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    // An error or an end is for the write to find.
    poll(&mut fds, PollTimeout::ZERO) != Ok(0)
}

fn format_line(
    log: &State,
    level: LogLevel,
    node: Option<NodeId>,
    source: &str,
    text: &str,
) -> String {
    let name = match level {
        LogLevel::Io => "IO     ",
        LogLevel::Trace => "TRACE  ",
        LogLevel::Debug => "DEBUG  ",
        LogLevel::Info => "INFO   ",
        LogLevel::Unusual => "UNUSUAL",
        LogLevel::Broken => "**BROKEN**",
    };
    let time =
        if log.timestamps { format!("{} ", iso_time(SystemTime::now())) } else { String::new() };
    let node = node.map(|n| format!("{n}-")).unwrap_or_default();
    format!("{}{time}{name} {node}{source}: {text}\n", log.prefix)
}

/// `2026-11-21T08:00:00.000Z`.
pub fn iso_time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86400, since.as_secs() % 86400);
    let (year, month, day) = civil(days as i64);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", since.subsec_millis())
}

/// Days since 1970 as a date of the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// For `getlog`: what is kept at this level and above, and how many lines are not.
pub fn kept(least: LogLevel) -> (Vec<Line>, usize, usize) {
    let log = state();
    let (lines, skipped) = log.kept.at_least(least);
    (lines, skipped, log.kept.bytes())
}

/// Bytes that `getlog` keeps at most.
pub const fn max_bytes() -> usize {
    kept::MAX_BYTES
}

/// Seconds since 1970 when this process began to log.
pub fn created_at() -> f64 {
    let begun = state().begun;
    (SystemTime::now() - begun.elapsed())
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// The subsystem of a log target such as `lightningd::rooms::channels::watch`: `channels`, whatever
/// the floor. A flow speaks under the name of the room that it is about: operators filter by that.
fn subsystem(target: &str) -> &str {
    let mut parts = target.split("::").skip(1);
    let is_floor =
        |part: &&str| matches!(*part, "sys" | "kernel" | "rooms" | "flows" | "api" | "rpc");
    match parts.find(|part| !is_floor(part)) {
        None | Some("start") => "lightningd",
        Some("backend" | "begin" | "block" | "broadcast") => "chain",
        Some("peer") => "peers",
        Some("commitment") => "channels",
        Some("htlc") => "htlcs",
        Some("hooks" | "plugins") => "plugin_host",
        Some(name) => name,
    }
}

struct Facade;
static FACADE: Facade = Facade;
impl log::Log for Facade {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("mio") {
            return;
        }
        let source = subsystem(record.target());
        line(subdaemon::level_of(record.level()), None, source, &record.args().to_string());
    }
    fn flush(&self) {}
}

/// A child's words, which count with what children say: it may repeat them.
pub fn said(level: LogLevel, peer: Option<primitives::NodeId>, source: &str, text: &str) {
    crate::sys::log::line_of(Speaker::Daemon, level, peer, source, text);
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
