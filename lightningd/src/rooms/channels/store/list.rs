//! HTLCs as rows have them, those that are over included: for `listhtlcs`.

use crate::sys::db::{corrupt, sql};
use crate::sys::fatal::Fatal;
use primitives::*;
use rusqlite::{Connection, params};
use wire::channel_data::{Htlc, Stage};

/// One row.
#[derive(Debug)]
pub struct ListedHtlc {
    /// Whose.
    pub channel: ChannelNumber,
    /// The order in which it was made.
    pub created_index: u64,
    /// What it is.
    pub htlc: Htlc,
    /// How far its addition and its removal have come.
    pub state: (Stage, Option<Stage>),
}

/// A page of them, of one channel or of all.
pub fn list_htlcs(
    db: &Connection,
    of: Option<ChannelNumber>,
    start: u64,
    limit: Option<u32>,
) -> Result<Vec<ListedHtlc>, Fatal> {
    let mut statement = db.prepare_cached(
        "SELECT channel, offered_by, id, amount_msat, payment_hash, expiry, added, removed, settled, created_index
         FROM htlcs WHERE created_index >= ?1 AND (?2 IS NULL OR channel = ?2) ORDER BY created_index LIMIT ?3",
    )?;
    let mut rows = statement.query(params![
        i64::try_from(start).unwrap_or(i64::MAX),
        of.map(|n| sql(n.0)),
        limit.map_or(-1, i64::from),
    ])?;
    let mut list = Vec::new();
    let stage = |n: u8| Stage::from_number(n).ok_or_else(|| corrupt("htlcs", "unknown stage"));
    while let Some(row) = rows.next()? {
        let number = |at: usize| row.get::<_, i64>(at).map(i64::unsigned_abs);
        let removed = match (row.get::<_, bool>(8)?, row.get::<_, Option<u8>>(7)?) {
            (true, _) => Some(Stage::Irrevocable),
            (false, removed) => removed.map(stage).transpose()?,
        };
        list.push(ListedHtlc {
            channel: ChannelNumber(number(0)?),
            created_index: number(9)?,
            htlc: Htlc {
                offered_by: if row.get(1)? { Side::Remote } else { Side::Local },
                id: HtlcId(number(2)?),
                amount: Msat(number(3)?),
                payment_hash: PaymentHash(row.get(4)?),
                expiry: BlockHeight(row.get(5)?),
            },
            state: (stage(row.get(6)?)?, removed),
        });
    }
    Ok(list)
}
