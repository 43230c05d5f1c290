//! Room on the disk: how much is left, what is done with little, and how the node outlives having none.
//!
//! Before there is none the node stops promising: it hears no daemon that asks to have something stored for a peer, and refuses
//! requests that want a row; it goes on with the chain, with claims and with what only reads. Should the disk be full all the same, an
//! own reserve is given back, and lightningd begins anew from what is on disk, as after a crash.

use crate::options::Config;
use crate::turn::Fatal;
use nix::fcntl::posix_fallocate;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// In the network's directory: room for the chain's rows when there is no other. Given back when it is needed.
const RESERVE_FILE: &str = "lightningd-reserve";
const RESERVE: u64 = 32 << 20;
/// Without a reserve, so much is waited for before lightningd begins anew.
const BEGIN_WITH: u64 = 8 << 20;
/// How long after a start it is taken, and after it could not be.
const RESERVE_AFTER: Duration = Duration::from_secs(10);
/// The operator hears of it from here on: but never of more than a tenth of the disk.
const SCARCE: u64 = 1 << 30;
/// Nothing is promised from here on: but never while more than a fiftieth of the disk is free.
const EXHAUSTED: u64 = 64 << 20;

/// How much room there is, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Space {
    /// Enough.
    #[default]
    Ample,
    /// The operator should make room.
    Scarce,
    /// Nothing new is promised, and only what is broken is logged.
    Exhausted,
}

/// What follows from so many free bytes of a disk. A little more than what led to it is needed to leave a state.
fn judge(before: Space, free: u64, total: u64) -> Space {
    let scarce = SCARCE.min(total / 10);
    let exhausted = EXHAUSTED.min(total / 50);
    let more = |bytes: u64, than: bool| if than { bytes + bytes / 4 } else { bytes };
    if free < more(exhausted, before == Space::Exhausted) {
        Space::Exhausted
    } else if free < more(scarce, before != Space::Ample) {
        Space::Scarce
    } else {
        Space::Ample
    }
}

/// What is looked at, and what it was like.
#[derive(Debug)]
pub struct Disk {
    /// Where the database is, and what lies beside the secret.
    ours: [PathBuf; 2],
    /// Where the log's files are.
    logs: Vec<PathBuf>,
    /// A test's: the free bytes stand in this file.
    pretended: Option<PathBuf>,
    looked: Option<Instant>,
    database: Space,
    log: Space,
    reserve: bool,
    /// It was said that there is none.
    warned: bool,
    /// No reserve is taken before: a node that is only started and stopped needs none.
    reserve_from: Instant,
}

impl Disk {
    /// For this database, the current directory and the log's files.
    pub fn new(config: &Config, database: &Path) -> Self {
        let logs = config.all("log-file").iter().filter_map(|said| said.value.clone());
        let parent = |path: String| Path::new(&path).parent().map(Path::to_path_buf);
        let logs = logs.filter(|path| path != "-").filter_map(parent);
        let named = |dir: PathBuf| if dir.as_os_str().is_empty() { ".".into() } else { dir };
        let beside = database.parent().map(Path::to_path_buf).unwrap_or_default();
        let (ours, logs) = ([named(beside), ".".into()], logs.map(named).collect());
        let pretended = config.text("dev-free-space-file").map(PathBuf::from);
        let wait = if pretended.is_some() { Duration::ZERO } else { RESERVE_AFTER };
        let space = Space::Ample;
        Self {
            ours,
            logs,
            pretended,
            looked: None,
            database: space,
            log: space,
            reserve: false,
            warned: false,
            reserve_from: Instant::now() + wait,
        }
    }

    /// How it is where the database is.
    pub const fn space(&self) -> Space {
        self.database
    }

    /// Looks if it is time. True: something is different now.
    pub fn look(&mut self, now: Instant) -> bool {
        if self.looked.is_some_and(|at| now < at + LOOK_EVERY) {
            return false;
        }
        self.looked = Some(now);
        let before = (self.database, self.log);
        let judged = |dirs: &[PathBuf], before: Space| {
            let known = dirs.iter().filter_map(|dir| self.free(dir));
            known.map(|(free, total)| (judge(before, free, total), free)).max_by_key(|(s, _)| *s)
        };
        let (ours, logs) = (judged(&self.ours, before.0), judged(&self.logs, before.1));
        if let Some((space, free)) = ours {
            self.database = space;
            say(before.0, space, free);
        }
        let full = logs.is_some_and(|(space, _)| space == Space::Exhausted);
        self.log = if full { Space::Exhausted } else { self.database };
        crate::log::write_only_broken(self.log == Space::Exhausted);
        if self.database == Space::Ample && !self.reserve && now >= self.reserve_from {
            self.reserve_from = now + RESERVE_AFTER;
            self.keep_reserve();
        }
        before != (self.database, self.log)
    }

    /// Takes room that only we give back.
    fn keep_reserve(&mut self) {
        let path = self.reserve_file();
        match take_room(&path) {
            Ok(()) => self.reserve = true,
            Err(e) => {
                self.give_back_reserve();
                if !std::mem::replace(&mut self.warned, true) {
                    log::warn!("{}: no room can be kept for a full disk: {e}", path.display());
                }
            }
        }
    }
    fn reserve_file(&self) -> PathBuf {
        let [database, _] = &self.ours;
        database.join(RESERVE_FILE)
    }
    /// Has the database room for what must be written now. True: there was some to give.
    pub fn give_back_reserve(&self) -> bool {
        let path = self.reserve_file();
        let had = std::fs::metadata(&path).is_ok_and(|m| m.len() > 0);
        std::fs::remove_file(&path).is_ok() && had
    }
    /// Is there room enough to begin anew?
    pub fn has_room(&self) -> bool {
        self.ours.iter().filter_map(|dir| self.free(dir)).all(|(free, _)| free >= BEGIN_WITH)
    }

    /// Free bytes for us, and all. `None`: nobody knows.
    fn free(&self, dir: &Path) -> Option<(u64, u64)> {
        if let Some(file) = &self.pretended {
            let said = std::fs::read_to_string(file).ok()?;
            return Some((said.trim().parse().ok()?, u64::MAX));
        }
        let stat = nix::sys::statvfs::statvfs(dir).ok()?;
        let size = stat.fragment_size() as u64;
        Some((stat.blocks_available() as u64 * size, stat.blocks() as u64 * size))
    }

    /// For `getinfo`.
    pub fn warning(&self) -> Option<&'static str> {
        match self.database {
            Space::Ample => None,
            Space::Scarce => Some("There is little space left on the disk: make room."),
            Space::Exhausted => Some(
                "The disk is full: nothing new is received, sent, forwarded or opened until there is room.",
            ),
        }
    }
}

fn say(before: Space, now: Space, free: u64) {
    let mb = free >> 20;
    match (before, now) {
        (_, Space::Scarce) if before != Space::Scarce => {
            log::warn!("only {mb} MB are left on the disk of the database: make room");
        }
        (Space::Ample | Space::Scarce, Space::Exhausted) => log::error!(
            "only {mb} MB are left on the disk of the database: nothing new is received, sent, forwarded or opened until there is room; \
             the chain is watched on, and of the log only such lines are written"
        ),
        (Space::Exhausted | Space::Scarce, Space::Ample) => {
            log::warn!("there is room on the disk of the database again: {mb} MB");
        }
        (Space::Ample, Space::Ample)
        | (Space::Scarce, Space::Scarce)
        | (Space::Ample | Space::Exhausted, Space::Scarce)
        | (Space::Exhausted, Space::Exhausted) => {}
    }
}

fn take_room(path: &Path) -> Result<(), String> {
    let mut options = File::options();
    // Not to append: the C library refuses to fill such a file itself, where the file system cannot.
    options.create(true).write(true).truncate(false).mode(0o600);
    let file = options.custom_flags(nix::libc::O_NOFOLLOW).open(path).map_err(|e| e.to_string())?;
    let has = file.metadata().map_or(0, |m| m.blocks() * 512);
    if has < RESERVE {
        posix_fallocate(&file, 0, RESERVE.cast_signed()).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// What a caller hears whose request would have something stored, or promised.
pub const NO_ROOM: &str =
    "the disk is full: nothing is stored, sent or promised until there is room";

/// Set for the lightningd that has begun anew.
pub const ANEW: &str = "FULMEN_ANEW";

/// Texts of SQLite's and of the system's for a disk without room.
const FULL: [&str; 3] =
    ["database or disk is full", "No space left on device", "Disk quota exceeded"];
/// What SQLite says where a file beside the database cannot grow. It says so of a broken disk, too.
const UNCLEAR: &str = "disk I/O error";

/// Did the node fail for want of room?
pub fn is_full(why: &Fatal, space: Space) -> bool {
    FULL.iter().any(|text| why.0.contains(text)) || space != Space::Ample && why.0.contains(UNCLEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn space_is_judged_by_what_is_free_and_by_the_size_of_the_disk() {
        use Space::{Ample, Exhausted, Scarce};
        let large = 1 << 40;
        for (before, free, total, now) in [
            (Ample, 2 << 30, large, Ample),
            (Ample, 1023 * MB, large, Scarce),
            (Ample, 63 * MB, large, Exhausted),
            (Ample, 0, large, Exhausted),
            // It takes a little more to leave.
            (Exhausted, 65 * MB, large, Exhausted),
            (Exhausted, 81 * MB, large, Scarce),
            (Scarce, 1100 * MB, large, Scarce),
            (Scarce, 1300 * MB, large, Ample),
            // A small disk is not full for being small.
            (Ample, 40 * MB, 64 * MB, Ample),
            (Ample, 6 * MB, 64 * MB, Scarce),
            (Ample, MB, 64 * MB, Exhausted),
        ] {
            assert_eq!(judge(before, free, total), now, "{before:?} {free} of {total}");
        }
    }

    #[test]
    fn disk_without_room_is_known_by_the_words_of_sqlite_and_of_the_system() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.pragma_update(None, "max_page_count", 2).unwrap();
        let many = "CREATE TABLE t (a); INSERT INTO t VALUES (randomblob(100000))";
        let why: Fatal = db.execute_batch(many).unwrap_err().into();
        assert!(is_full(&why, Space::Ample), "{why}");
        let full = std::io::Error::from_raw_os_error(nix::libc::ENOSPC);
        assert!(is_full(&Fatal(format!("lightningd-revocations: {full}")), Space::Ample));
        let io = Fatal("the database failed: disk I/O error".to_owned());
        assert!(is_full(&io, Space::Exhausted) && !is_full(&io, Space::Ample));
        let locked = Fatal("the database failed: database is locked".to_owned());
        assert!(!is_full(&locked, Space::Exhausted));
    }
}
