//! The barriers of the suite (`--dev-barriers`): which of the master's moments count, and the
//! copies of the database that a test puts back later. What a barrier is, says
//! `subdaemon::barrier`.

use crate::sys::fatal::Fatal;
use crate::sys::options::Config;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::process::Command;
use subdaemon::barrier;

/// While this file is in the directory of the barriers, each commit is followed by a copy of the
/// database.
const COPIES: &str = "copies";

/// Where the suite counts, if it does. The master does from now on.
pub fn begin(config: &Config) -> Result<Option<PathBuf>, Fatal> {
    let Some(dir) = config.options.dev_barriers.clone() else { return Ok(None) };
    let failed = |e: std::io::Error| Fatal(format!("--dev-barriers={}: {e}", dir.display()));
    std::fs::create_dir_all(&dir).map_err(failed)?;
    barrier::begin(&dir.join("lightningd")).map_err(failed)?;
    Ok(Some(dir))
}

/// A child that is to be born hears where it counts.
pub fn tell_child(command: &mut Command, dir: Option<&Path>, source: &str) {
    match dir {
        Some(dir) => command.env(barrier::VARIABLE, dir.join(source)),
        None => command.env_remove(barrier::VARIABLE),
    };
}

/// The barrier after a commit that wrote something, and a copy of what is on the disk if a test
/// wants one.
pub fn committed(config: &Config, db: &Connection) {
    if !barrier::is_on() {
        return;
    }
    if let (Some(dir), Some(file)) = (&config.options.dev_barriers, db.path()) {
        let copies = dir.join(COPIES);
        if copies.is_dir() {
            copy(Path::new(file), &copies);
        }
    }
    barrier::pass("after a commit");
}

/// Another process copies: to close a descriptor of the database here would drop the locks that
/// SQLite has on it.
fn copy(database: &Path, copies: &Path) {
    let number = std::fs::read_dir(copies).map_or(0, Iterator::count);
    let to = copies.join(format!("{number:05}"));
    let wal = PathBuf::from(format!("{}-wal", database.display()));
    let copied = std::fs::create_dir(&to)
        .and_then(|()| Command::new("cp").arg(database).arg(wal).arg(&to).status());
    match copied {
        Ok(status) if status.success() => {}
        Ok(status) => log::warn!("{}: cp ended with {status}", to.display()),
        Err(e) => log::warn!("{}: {e}", to.display()),
    }
}
