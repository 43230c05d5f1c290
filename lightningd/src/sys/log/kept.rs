//! The last lines, in memory, for `getlog`. UNUSUAL and BROKEN lines have queues of their own, so
//! that no number of debug lines pushes them out; those that lightningd wrote have one, so that no
//! captured subdaemon or plugin does.

use crate::sys::log::line_of::{Line, Speaker};
use std::collections::VecDeque;
use wire::daemon::LogLevel;

const KIB: usize = 1024;
/// Bytes of lines below UNUSUAL.
const MAX_QUIET: usize = 2048 * KIB;
/// Bytes of UNUSUAL and BROKEN lines of lightningd; as many of all others.
const MAX_LOUD: usize = 512 * KIB;
/// Bytes of all of them.
pub(super) const MAX_BYTES: usize = MAX_QUIET + 2 * MAX_LOUD;
/// What a line takes beside its text and source.
const OVERHEAD: usize = 64;

/// The last lines that were said.
#[derive(Debug, Default)]
pub(super) struct Kept {
    quiet: Queue,
    of_lightningd: Queue,
    of_others: Queue,
    /// The next line's number: the order in time.
    next: u64,
    /// Lines that were pushed out.
    skipped: usize,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<(u64, Line)>,
    bytes: usize,
}

const fn size(line: &Line) -> usize {
    line.text.len() + line.source.len() + OVERHEAD
}

impl Queue {
    /// Returns how many lines were pushed out.
    fn push(&mut self, number: u64, line: Line, max: usize) -> usize {
        self.bytes += size(&line);
        self.lines.push_back((number, line));
        let mut pushed_out = 0;
        while self.bytes > max {
            let Some((_, gone)) = self.lines.pop_front() else { break };
            self.bytes -= size(&gone);
            pushed_out += 1;
        }
        pushed_out
    }
}

impl Kept {
    /// Keeps a line, and pushes the oldest of its queue out where there is no room.
    pub(super) fn push(&mut self, speaker: Speaker, line: Line) {
        let number = self.next;
        self.next += 1;
        let (queue, max) = match (line.level, speaker) {
            (LogLevel::Io, _) => return,
            (LogLevel::Trace | LogLevel::Debug | LogLevel::Info, _) => (&mut self.quiet, MAX_QUIET),
            (LogLevel::Unusual | LogLevel::Broken, Speaker::Lightningd) => {
                (&mut self.of_lightningd, MAX_LOUD)
            }
            (LogLevel::Unusual | LogLevel::Broken, Speaker::Daemon | Speaker::Plugin) => {
                (&mut self.of_others, MAX_LOUD)
            }
        };
        self.skipped += queue.push(number, line, max);
    }

    fn queues(&self) -> [&Queue; 3] {
        [&self.quiet, &self.of_lightningd, &self.of_others]
    }
    pub(super) fn bytes(&self) -> usize {
        self.queues().iter().map(|queue| queue.bytes).sum()
    }
    /// The lines at this level and above, in the order in which they were said, and how many others
    /// there were.
    pub(super) fn at_least(&self, least: LogLevel) -> (Vec<Line>, usize) {
        let all = self.queues().into_iter().flat_map(|queue| &queue.lines);
        let mut lines: Vec<_> = all.filter(|(_, line)| line.level >= least).collect();
        lines.sort_unstable_by_key(|(number, _)| *number);
        let kept: usize = self.queues().iter().map(|queue| queue.lines.len()).sum();
        let skipped = self.skipped + kept - lines.len();
        (lines.into_iter().map(|(_, line)| line.clone()).collect(), skipped)
    }
}
