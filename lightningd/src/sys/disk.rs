//! Room on the disk: how much is left, what is done with little, and how the node outlives having
//! none.
//!
//! Before there is none the node stops promising: it hears no daemon that asks to have something
//! stored for a peer, and refuses requests that want a row; it goes on with the chain, with claims
//! and with what only reads. Should the disk be full all the same, an own reserve is given back,
//! and lightningd begins anew from what is on disk, as after a crash.

use crate::sys::fatal::Fatal;
use crate::sys::options::Config;
use nix::fcntl::posix_fallocate;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// In the network's directory: room for the chain's rows when there is no other. Given back when it
/// is needed.
const RESERVE_FILE: &str = "lightningd-reserve";
const RESERVE: u64 = 32 << 20;
/// Beside it, for a moment: whether there is room.
const TRIED_FILE: &str = "lightningd-room";
/// So much is waited for before lightningd begins anew.
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

/// What follows from so many free bytes of a disk. A little more than what led to it is needed to
/// leave a state.
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

/// Where lightningd's own files are, and how much fits there.
#[derive(Debug, Clone)]
pub struct Room {
    /// Where the database is, and what lies beside the secret.
    dirs: [PathBuf; 2],
    /// A test's: the free bytes stand in this file.
    pretended: Option<PathBuf>,
}

impl Room {
    /// For this database, and the current directory.
    pub fn new(config: &Config, database: &Path) -> Self {
        let pretended = config.options.dev_free_space_file.clone();
        Self { dirs: [directory_of(database), ".".into()], pretended }
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

    /// Enough to begin anew with? It is tried, not asked for: no file system says how much a quota
    /// leaves.
    pub fn is_enough(&self) -> bool {
        self.dirs.iter().all(|dir| {
            self.free(dir).is_some_and(|(free, _)| free >= BEGIN_WITH)
                && takes(dir, BEGIN_WITH).is_ok()
        })
    }

    /// Did the node fail for want of room?
    pub fn is_full(&self, why: &Fatal) -> bool {
        is_full(why, || self.dirs.iter().try_for_each(|dir| takes(dir, BEGIN_WITH)))
    }

    fn reserve_file(&self) -> PathBuf {
        let [database, _] = &self.dirs;
        database.join(RESERVE_FILE)
    }
    /// Has the database room for what must be written now.
    pub fn give_back_reserve(&self) {
        match std::fs::remove_file(self.reserve_file()) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                log::error!("{}: the reserve cannot be given back: {e}", RESERVE_FILE);
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_path_buf(),
        Some(_) | None => ".".into(),
    }
}

/// Does so much fit there, for this process?
fn takes(dir: &Path, bytes: u64) -> std::io::Result<()> {
    let path = dir.join(TRIED_FILE);
    let taken = take_room(&path, bytes);
    let removed = std::fs::remove_file(&path);
    taken.and(removed)
}

/// Where the text leaves it open it is tried whether there is room.
fn is_full(why: &Fatal, tried: impl FnOnce() -> std::io::Result<()>) -> bool {
    let lacks_room =
        |e: std::io::Error| matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    FULL.iter().any(|text| why.0.contains(text))
        || why.0.contains(UNCLEAR) && tried().is_err_and(lacks_room)
}

/// What is looked at, and what it was like.
#[derive(Debug)]
pub struct Disk {
    ours: Room,
    /// Where the log's files are.
    logs: Vec<PathBuf>,
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
    /// For this room, and the log's files.
    pub fn new(ours: Room, logs: &[String]) -> Self {
        let logs = logs.iter().filter(|path| *path != "-");
        let wait = if ours.pretended.is_some() { Duration::ZERO } else { RESERVE_AFTER };
        let space = Space::Ample;
        Self {
            logs: logs.map(|path| directory_of(Path::new(path))).collect(),
            ours,
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
            let known = dirs.iter().filter_map(|dir| self.ours.free(dir));
            known.map(|(free, total)| (judge(before, free, total), free)).max_by_key(|(s, _)| *s)
        };
        let (ours, logs) = (judged(&self.ours.dirs, before.0), judged(&self.logs, before.1));
        if let Some((space, _)) = ours {
            self.database = space;
        }
        let full = logs.is_some_and(|(space, _)| space == Space::Exhausted);
        self.log = if full { Space::Exhausted } else { self.database };
        crate::sys::log::write_only_broken(self.log == Space::Exhausted);
        if let Some((space, free)) = ours {
            say(before.0, space, free);
        }
        if self.database == Space::Ample && !self.reserve && now >= self.reserve_from {
            self.reserve_from = now + RESERVE_AFTER;
            self.keep_reserve();
        }
        before != (self.database, self.log)
    }

    /// Takes room that only we give back.
    fn keep_reserve(&mut self) {
        let path = self.ours.reserve_file();
        match take_room(&path, RESERVE) {
            Ok(()) => self.reserve = true,
            Err(e) => {
                self.ours.give_back_reserve();
                if !std::mem::replace(&mut self.warned, true) {
                    log::warn!("{}: no room can be kept for a full disk: {e}", path.display());
                }
            }
        }
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

/// Makes the file as long as that, on the disk.
fn take_room(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut options = File::options();
    // Not to append: the C library refuses to fill such a file itself, where the file system
    // cannot.
    options.create(true).write(true).truncate(false).mode(0o600);
    let file = options.custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.blocks() * 512 < bytes {
        posix_fallocate(&file, 0, bytes.cast_signed())?;
    }
    Ok(())
}

/// What a caller hears whose request would have something stored, or promised.
pub const NO_ROOM: &str =
    "the disk is full: nothing is stored, sent or promised until there is room";

/// Texts of SQLite's and of the system's for a disk without room.
const FULL: [&str; 3] =
    ["database or disk is full", "No space left on device", "Disk quota exceeded"];
/// What SQLite says where a quota is used up, or a file beside the database cannot grow. It says so
/// of a broken disk, too.
const UNCLEAR: &str = "disk I/O error";

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
    fn disk_full_is_recognised_in_sqlite_and_system_errors() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.pragma_update(None, "max_page_count", 2).unwrap();
        let many = "CREATE TABLE t (a); INSERT INTO t VALUES (randomblob(100000))";
        let why: Fatal = db.execute_batch(many).unwrap_err().into();
        assert!(is_full(&why, || Ok(())), "{why}");
        let fails = |errno| Err(std::io::Error::from_raw_os_error(errno));
        let full = std::io::Error::from_raw_os_error(nix::libc::ENOSPC);
        assert!(is_full(&Fatal(format!("lightningd-revocations: {full}")), || Ok(())));
        let io = Fatal("the database failed: disk I/O error".to_owned());
        // SQLite says the same of a quota, of which the file system's figures say nothing.
        assert!(is_full(&io, || fails(nix::libc::EDQUOT)));
        assert!(is_full(&io, || fails(nix::libc::ENOSPC)));
        assert!(!is_full(&io, || fails(nix::libc::EIO)));
        assert!(!is_full(&io, || Ok(())));
        let locked = Fatal("the database failed: database is locked".to_owned());
        assert!(!is_full(&locked, || fails(nix::libc::ENOSPC)));
    }

    #[test]
    fn room_that_nobody_knows_of_is_not_enough() {
        let dir = std::env::temp_dir().join(format!("fulmen-room-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let here = Room { dirs: [dir.clone(), dir.clone()], pretended: None };
        assert!(here.is_enough(), "a machine for tests has some");
        assert!(std::fs::read_dir(&dir).unwrap().next().is_none(), "nothing is left of the trial");
        let pretended = |text: &str| {
            std::fs::write(dir.join("free"), text).unwrap();
            Room { pretended: Some(dir.join("free")), ..here.clone() }.is_enough()
        };
        assert!(pretended(&BEGIN_WITH.to_string()) && !pretended("8000000") && !pretended("?"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(!here.is_enough());
    }
}
