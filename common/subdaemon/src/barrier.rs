//! Numbered barriers: the moments at which a test may have a process die, kill -9, as if the
//! machine had no mercy, or stop while something happens around it.
//!
//! Each process of a suite that runs with `--developer --dev-barriers=DIR` counts in a file of its
//! own there, named like its source in the log, and goes on where its predecessor of that name was.
//! A test writes into the file the number at which the process ends or stops. Without --developer
//! nobody ever calls [`begin`], and a barrier is one look at an empty cell.

use nix::sys::signal::{Signal, kill};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

/// By this variable the master tells a child where it counts.
pub const VARIABLE: &str = "FULMEN_BARRIERS";
/// Where in the file the count is: the process writes it, in native order.
pub const COUNT_AT: u64 = 0;
/// Where the number is at which to die: the test writes it. Zero: never.
pub const DEATH_AT: u64 = 8;
/// Added to that number, the process stops (SIGSTOP) instead, until the test lets it go on.
pub const STOP: u64 = 1 << 63;
/// Where the id of the process is that died or stopped.
pub const PID_AT: u64 = 16;
/// From here on, what was about to happen, or had just happened, at the death or stop.
pub const PLACE_AT: u64 = 24;

/// While this file is beside those in which a node counts, its daemons do not die with the master:
/// they live until they notice, as on a machine that is slow to kill.
pub const ORPHANS: &str = "orphans";

struct Barriers {
    file: File,
    count: Mutex<u64>,
}

static HERE: OnceLock<Barriers> = OnceLock::new();

/// From now on this process counts in this file. For --developer only.
pub fn begin(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    let count = Mutex::new(read(&file, COUNT_AT));
    let _ = HERE.set(Barriers { file, count });
    Ok(())
}

/// Does this process, which counts there, outlive lightningd?
pub fn outlives_master(path: &Path) -> bool {
    path.with_file_name(ORPHANS).exists()
}

/// One barrier. `place` says which, for whoever looks into a death.
pub fn pass(place: &'static str) {
    if let Some(barriers) = HERE.get() {
        barriers.pass(place);
    }
}

/// Does this process count?
pub fn is_on() -> bool {
    HERE.get().is_some()
}

fn read(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => u64::from_ne_bytes(bytes),
        // Nobody has written there.
        Err(_) => 0,
    }
}

impl Barriers {
    fn pass(&self, place: &'static str) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        // A count that was not written is one that a test does not see: it has nothing else to do
        // with the node.
        let _ = self.file.write_all_at(&count.to_ne_bytes(), COUNT_AT);
        let at = read(&self.file, DEATH_AT);
        if at & !STOP == *count {
            let me = nix::unistd::Pid::this();
            let _ = self.file.write_all_at(&i64::from(me.as_raw()).to_ne_bytes(), PID_AT);
            let _ = self.file.write_all_at(place.as_bytes(), PLACE_AT);
            let _ = kill(me, if at & STOP == 0 { Signal::SIGKILL } else { Signal::SIGSTOP });
        }
    }
}
