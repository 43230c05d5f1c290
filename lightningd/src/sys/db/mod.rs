//! The database: opened once, by lightningd alone. Each room's `store.rs` holds that room's SQL;
//! this room holds the connection, the version and the migrations.

pub mod migrations;

use crate::sys::fatal::Fatal;
use primitives::{Network, NodeId};
use rusqlite::{Connection, OptionalExtension, params};
use std::path::Path;

/// "Fulm": a database without it is not ours, and is left untouched.
const APPLICATION_ID: i32 = 0x4675_6c6d;

/// Exit code for a database that is of another network or another secret. CLN's.
pub const EXIT_WRONG_DATABASE: u8 = 30;

/// Opens (or makes) the database.
pub fn open(path: &Path) -> Result<Connection, Fatal> {
    let shown = path.display();
    let existed = path.exists();
    let db =
        Connection::open(path).map_err(|e| Fatal(format!("{shown}: cannot be opened: {e}")))?;
    let mine = |e: rusqlite::Error| Fatal(format!("{shown}: {e}"));
    if existed {
        check_ours(&db, path)?;
    }
    db.pragma_update(None, "journal_mode", "WAL").map_err(mine)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(mine)?;
    db.pragma_update(None, "foreign_keys", true).map_err(mine)?;
    db.pragma_update(None, "wal_autocheckpoint", 0).map_err(mine)?;
    db.pragma_update(None, "application_id", APPLICATION_ID).map_err(mine)?;
    db.set_prepared_statement_cache_capacity(256);
    migrations::run(&db, path)?;
    Ok(db)
}

fn check_ours(db: &Connection, path: &Path) -> Result<(), Fatal> {
    let shown = path.display();
    let id: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(|e| {
        Fatal(format!("{shown}: this is no SQLite database ({e}); move it away to start anew"))
    })?;
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|e| Fatal(format!("{shown}: {e}")))?;
    if id != APPLICATION_ID && tables > 0 {
        return Err(Fatal(format!(
            "{shown}: this database is not Fulmen's (its application id is {id:#010x}, not {APPLICATION_ID:#010x}); \
             it was left untouched. Use another --lightning-dir"
        )));
    }
    Ok(())
}

/// Checks that the database belongs to this node on this network; a new one is told.
pub fn check_owner(db: &Connection, network: Network, node: NodeId) -> Result<bool, Fatal> {
    let mut fresh = false;
    for (key, mine) in [("network", network.name().to_owned()), ("node_id", node.to_string())] {
        match get_var::<String>(db, key)? {
            Some(stored) if stored == mine => {}
            Some(stored) => {
                return Err(Fatal(format!(
                    "the database belongs to {key} {stored}, but this node's is {mine}: \
                     put back the hsm_secret or the lightningd.sqlite3 that belong together"
                )));
            }
            None => {
                fresh = true;
                set_var(db, key, &mine)?;
            }
        }
    }
    Ok(fresh)
}

/// A single value, by name.
pub fn get_var<T: rusqlite::types::FromSql>(
    db: &Connection,
    key: &str,
) -> Result<Option<T>, Fatal> {
    Ok(db
        .prepare_cached("SELECT value FROM vars WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?)
}

/// Sets a single value.
pub fn set_var(db: &Connection, key: &str, value: &dyn rusqlite::ToSql) -> Result<(), Fatal> {
    db.prepare_cached("INSERT INTO vars (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")?
        .execute(params![key, value])?;
    Ok(())
}

/// A counter's next value, stored: it never goes back.
pub fn next_index(db: &Connection, key: &str) -> Result<u64, Fatal> {
    let next = get_var::<i64>(db, key)?.unwrap_or(0) + 1;
    set_var(db, key, &next)?;
    Ok(next.unsigned_abs())
}

/// Amounts and indices are below 2^63 everywhere (21 million bitcoin are 2.1e18 msat), so that
/// SQLite's integers hold them.
pub fn sql(value: u64) -> i64 {
    i64::try_from(value).expect("amounts and indices are below 2^63")
}

/// Moves WAL pages into the database, as far as nobody is in the way. Beside the loop, so that a
/// turn is one fsync.
pub fn checkpoint(db: &Connection) {
    let done = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(e) = done {
        log::debug!("checkpoint: {e}");
    }
}

/// A room's row is not what it wrote: the database was changed by somebody else.
pub fn corrupt(table: &str, what: impl std::fmt::Display) -> Fatal {
    Fatal(format!("the database has a row in {table} that this program did not write: {what}"))
}

#[cfg(test)]
mod tests;
