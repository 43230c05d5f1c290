//! Which channel numbers were ever reserved under the node's secret: the row.
//! `lightningd-revocations` says it too, for a database that was put back.

use crate::sys::db::{get_var, set_var, sql};
use crate::sys::fatal::Fatal;
use primitives::ChannelNumber;
use rusqlite::Connection;

/// Numbers below this one may have been given to a channel.
const NEXT_NUMBER: &str = "next_channel_number";

/// A secret that was made just now has no numbers behind it: they begin at 1.
pub fn begin_numbers(db: &Connection) -> Result<(), Fatal> {
    set_var(db, NEXT_NUMBER, &1)
}

/// Whatever was given after the rows were written is not given again. Where nobody knows, numbers
/// go on at the time of day.
pub fn raise_numbers(db: &Connection, last: Option<ChannelNumber>) -> Result<Option<u64>, Fatal> {
    let stored: Option<i64> = get_var(db, NEXT_NUMBER)?;
    // A database that never gave one knows where to begin.
    let Some(stored) = stored.map(i64::unsigned_abs).filter(|n| *n > 1 || last.is_some()) else {
        return Ok(None);
    };
    let least = last.map_or_else(milliseconds, |l| l.0.saturating_add(1));
    if stored >= least {
        return Ok(None);
    }
    set_var(db, NEXT_NUMBER, &sql(least))?;
    Ok(Some(least))
}

fn milliseconds() -> u64 {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX >> 1)
}

/// Reserves so many numbers and returns the first: never one that was used before under this
/// secret, deleted channels and lost databases included.
pub fn reserve_numbers(db: &Connection, count: u64) -> Result<ChannelNumber, Fatal> {
    let stored: Option<i64> = get_var(db, NEXT_NUMBER)?;
    let first = match stored {
        Some(n) => n.unsigned_abs(),
        // A database that is new under an old secret begins where no counter has been: at the
        // milliseconds since 1970.
        None => milliseconds(),
    };
    set_var(db, NEXT_NUMBER, &sql(first.saturating_add(count)))?;
    Ok(ChannelNumber(first))
}
