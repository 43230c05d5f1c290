//! How a lightningd knows that the children of the one before are gone.
//!
//! One that is left after a crash may still be about to sign, or to say something to a peer: two
//! daemons of one channel would know different truths. So each child holds a lock on one file, and
//! a new lightningd waits until it can have the file for itself. Each lock is its child's own: a
//! captured child that gives it back, or keeps it, does so for itself alone.

use crate::sys::fatal::Fatal;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long old children may take before anybody hears of it.
const OLD_CHILDREN_WARN_AFTER: Duration = Duration::from_millis(200);
/// How often it is said again.
const WARN_AGAIN: Duration = Duration::from_secs(10);
/// How often it is looked whether they are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Beside the file: locked by the one lightningd that there is, whatever its pid file is called.
const MASTER: &str = "lightningd.lock";

/// The file, and lightningd's own locks.
#[derive(Debug)]
pub struct ChildrenLock {
    path: PathBuf,
    /// One that no other lightningd has, and one like its children's.
    _ours: [File; 2],
}

impl ChildrenLock {
    /// Waits for the children of the lightningd before, and names them if that takes long.
    pub fn after_old_children(path: &Path) -> Result<Self, Fatal> {
        let failed = |e: io::Error| Fatal(format!("{}: {e}", path.display()));
        let alone = open(&path.with_file_name(MASTER)).map_err(failed)?;
        alone.try_lock().map_err(|e| {
            let dir = path.parent().unwrap_or(path).display();
            Fatal(format!("another lightningd runs in {dir} ({e})"))
        })?;
        let file = open(path).map_err(failed)?;
        let (mut waited, mut say_at) = (Duration::ZERO, OLD_CHILDREN_WARN_AFTER);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            if waited >= say_at {
                log::warn!(
                    "daemons of the lightningd before are still there: waiting until they are gone"
                );
                say_at = waited + WARN_AGAIN;
            }
            std::thread::sleep(LOOK_AGAIN);
            waited += LOOK_AGAIN;
        }
        // From alone to shared. The other lock keeps every other lightningd out meanwhile.
        file.unlock().and_then(|()| file.lock_shared()).map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), _ours: [alone, file] })
    }

    /// A lock for one child, to be held while it lives.
    pub fn for_child(&self) -> io::Result<File> {
        let file = open(&self.path)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(file),
            Err(TryLockError::Error(e)) => Err(e),
            Err(TryLockError::WouldBlock) => Err(io::Error::other("another lightningd locked it")),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    crate::sys::files::open_ours(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_lock_is_its_own() {
        let dir = std::env::temp_dir().join(format!("fulmen-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("children.lock");
        let lock = ChildrenLock::after_old_children(&path).unwrap();
        let [captured, other] = [lock.for_child().unwrap(), lock.for_child().unwrap()];
        drop(lock);
        let next = open(&path).unwrap();
        captured.unlock().unwrap();
        assert!(next.try_lock().is_err(), "the other child still has its own");
        drop(other);
        assert!(next.try_lock().is_ok(), "the captured one holds up nobody any more");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
