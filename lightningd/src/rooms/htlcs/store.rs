//! The forwards' rows. The outgoing HTLC of one that is under way is found by its key in `htlcs`,
//! and nowhere else: a key that is there was offered, one that is not was not.

use super::{Htlcs, Loaded};
use crate::rooms::channels::key::{FORWARDS, Origin};
use crate::rooms::htlcs::{Early, Forward, Via};
use crate::sys::db::{corrupt, sql};
use crate::sys::fatal::Fatal;
use primitives::*;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;
use wire::Wire;
use wire::channel_data::Removal;

/// How a forward is. As it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Under way.
    Offered = 0,
    /// The preimage is known.
    Settled = 1,
    /// It never left us.
    LocalFailed = 2,
    /// It came back.
    Failed = 3,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Offered, Self::Settled, Self::LocalFailed, Self::Failed];

    /// CLN's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Settled => "settled",
            Self::LocalFailed => "local_failed",
            Self::Failed => "failed",
        }
    }
}

const CREATED: &str = "forwards_created";
const UPDATED: &str = "forwards_updated";
const FEES: &str = "forward_fees_msat";

/// What is under way, and what became of its outgoing HTLC.
pub fn load(db: &Connection) -> Result<Htlcs, Fatal> {
    let count = |key: &str| -> Result<u64, Fatal> {
        Ok(crate::sys::db::get_var::<i64>(db, key)?.unwrap_or(0).unsigned_abs())
    };
    let mut htlcs = Htlcs { fees_collected: Msat(count(FEES)?), ..Htlcs::default() };
    htlcs.last_created.set(count(CREATED)?);
    htlcs.last_updated.set(count(UPDATED)?);
    let mut statement = db.prepare(&format!(
        "SELECT f.*, h.channel AS h_channel, h.id AS h_id, h.settled AS h_settled, h.removal AS h_removal
         FROM forwards f LEFT JOIN htlcs h ON h.key = f.created_index + {FORWARDS} AND h.key != 0 WHERE f.status = 0
         ORDER BY f.created_index",
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut forward = forward_of(row)?;
        if let Some(channel) = row.get::<_, Option<i64>>("h_channel")? {
            let channel = ChannelNumber(channel.unsigned_abs());
            forward.via = Via::Bound(channel, HtlcId(number(row, "h_id")?));
        }
        let removal: Option<Vec<u8>> = row.get("h_removal")?;
        let removal = removal
            .map(|r| Removal::from_bytes(&r).map_err(|e| corrupt("htlcs", e)))
            .transpose()?;
        let settled = row.get::<_, Option<bool>>("h_settled")?.unwrap_or(false);
        htlcs.loaded.push(Loaded { index: forward.index, settled, removal });
        htlcs.insert(forward);
    }
    htlcs.early = load_early(db)?;
    Ok(htlcs)
}

/// Forwards that were failed back early.
fn load_early(db: &Connection) -> Result<BTreeMap<u64, Early>, Fatal> {
    let mut statement = db.prepare("SELECT * FROM early_failures")?;
    let mut rows = statement.query([])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let early = Early {
            incoming: ChannelNumber(number(row, "in_channel")?),
            outgoing: ChannelNumber(number(row, "out_channel")?),
            amount: Msat(number(row, "msat")?),
            lost: row.get("lost")?,
        };
        found.insert(number(row, "forward")?, early);
    }
    Ok(found)
}

/// A forward was failed back before its outgoing HTLC was resolved, or lost since.
pub(super) fn add_early(db: &Connection, forward: u64, early: &Early) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO early_failures (forward, in_channel, out_channel, msat, lost) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (forward) DO UPDATE SET lost = excluded.lost",
    )?
    .execute(params![
        sql(forward),
        sql(early.incoming.0),
        sql(early.outgoing.0),
        sql(early.amount.0),
        early.lost
    ])?;
    Ok(())
}

/// Its outgoing HTLC failed too.
pub(super) fn remove_early(db: &Connection, forward: u64) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM early_failures WHERE forward = ?1")?.execute([sql(forward)])?;
    Ok(())
}

/// This incoming channel is over.
pub(super) fn remove_early_of(db: &Connection, incoming: ChannelNumber) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM early_failures WHERE in_channel = ?1")?
        .execute([sql(incoming.0)])?;
    Ok(())
}

fn number(row: &Row<'_>, column: &str) -> Result<u64, Fatal> {
    let n: i64 = row.get(column)?;
    u64::try_from(n).map_err(|e| corrupt("forwards", format!("{column}: {e}")))
}

fn forward_of(row: &Row<'_>) -> Result<Forward, Fatal> {
    let scid = |column: &str| -> Result<ShortChannelId, Fatal> {
        Ok(ShortChannelId(row.get::<_, i64>(column)?.cast_unsigned()))
    };
    Ok(Forward {
        index: number(row, "created_index")?,
        incoming: ChannelNumber(number(row, "in_channel")?),
        in_scid: scid("in_scid")?,
        in_id: HtlcId(number(row, "in_id")?),
        in_amount: Msat(number(row, "in_msat")?),
        out_scid: scid("out_scid")?,
        out_amount: Msat(number(row, "out_msat")?),
        out_expiry: BlockHeight(row.get("out_expiry")?),
        received_ms: number(row, "received_ms")?,
        via: Via::Nowhere,
        tried: vec![],
    })
}

/// A new one. `failcode` is of one that goes nowhere.
pub(super) fn insert(
    db: &Connection,
    f: &Forward,
    status: Status,
    failcode: Option<u16>,
) -> Result<(), Fatal> {
    crate::sys::db::set_var(db, CREATED, &sql(f.index))?;
    // What a stranger asked for and we did not do need not even be a number that a row can hold.
    let done = status == Status::Offered;
    db.prepare_cached(
        "INSERT INTO forwards (created_index, in_channel, in_scid, in_id, in_msat, out_scid, out_msat, out_expiry, status,
            received_ms, failcode) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        sql(f.index),
        sql(f.incoming.0),
        f.in_scid.0.cast_signed(),
        sql(f.in_id.0),
        sql(f.in_amount.0),
        f.out_scid.0.cast_signed(),
        done.then(|| sql(f.out_amount.0)),
        done.then_some(f.out_expiry.0),
        status as u8,
        sql(f.received_ms),
        failcode,
    ])?;
    Ok(())
}

/// Its end: where it had gone, and when.
pub(super) fn finish(
    db: &Connection,
    f: &Forward,
    (updated, status, failcode): (u64, Status, Option<u16>),
    resolved_ms: u64,
) -> Result<(), Fatal> {
    crate::sys::db::set_var(db, UPDATED, &sql(updated))?;
    let out_id = match f.via {
        Via::Bound(_, id) => Some(sql(id.0)),
        Via::Offered(_) | Via::Nowhere => None,
    };
    db.prepare_cached(
        "UPDATE forwards SET updated_index = ?2, status = ?3, resolved_ms = ?4, out_scid = ?5, out_id = ?6, failcode = ?7
         WHERE created_index = ?1",
    )?
    .execute(params![
        sql(f.index),
        sql(updated),
        status as u8,
        sql(resolved_ms),
        f.out_scid.0.cast_signed(),
        out_id,
        failcode,
    ])?;
    Ok(())
}

/// One more fee: what all forwards together have brought outlives their rows.
pub(super) fn add_fee(db: &Connection, fee: Msat) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO vars (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = value + excluded.value",
    )?
    .execute(params![FEES, sql(fee.0)])?;
    Ok(())
}

/// A forward's row as `listforwards` shows it.
#[derive(Debug)]
pub struct Listed {
    pub created_index: u64,
    pub updated_index: Option<u64>,
    pub in_scid: ShortChannelId,
    pub in_id: u64,
    pub in_amount: u64,
    pub out_scid: ShortChannelId,
    pub out_id: Option<u64>,
    pub out_amount: Option<u64>,
    pub status: Status,
    pub received_ms: u64,
    pub resolved_ms: Option<u64>,
    pub failcode: Option<u16>,
}

/// Which of them.
#[derive(Debug, Default)]
pub struct Filter {
    pub status: Option<Status>,
    pub in_scid: Option<ShortChannelId>,
    pub out_scid: Option<ShortChannelId>,
    pub by_updated: bool,
    pub start: u64,
    pub limit: Option<u32>,
}

/// Rows, in the order of the index that was asked for.
pub fn list(db: &Connection, filter: &Filter) -> Result<Vec<Listed>, Fatal> {
    let index = if filter.by_updated { "updated_index" } else { "created_index" };
    let mut statement = db.prepare_cached(&format!(
        "SELECT * FROM forwards WHERE {index} >= ?1 AND (?2 IS NULL OR status = ?2) AND (?3 IS NULL OR in_scid = ?3)
            AND (?4 IS NULL OR out_scid = ?4) ORDER BY {index} LIMIT ?5",
    ))?;
    let mut rows = statement.query(params![
        i64::try_from(filter.start).unwrap_or(i64::MAX),
        filter.status.map(|s| s as u8),
        filter.in_scid.map(|s| s.0.cast_signed()),
        filter.out_scid.map(|s| s.0.cast_signed()),
        filter.limit.map_or(-1, i64::from),
    ])?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        let opt = |column: &str| -> Result<Option<u64>, Fatal> {
            Ok(row.get::<_, Option<i64>>(column)?.map(i64::unsigned_abs))
        };
        let status: u8 = row.get("status")?;
        let status = Status::ALL
            .into_iter()
            .find(|s| *s as u8 == status)
            .ok_or_else(|| corrupt("forwards", format!("status {status}")))?;
        list.push(Listed {
            created_index: number(row, "created_index")?,
            updated_index: opt("updated_index")?,
            in_scid: ShortChannelId(row.get::<_, i64>("in_scid")?.cast_unsigned()),
            in_id: number(row, "in_id")?,
            in_amount: number(row, "in_msat")?,
            out_scid: ShortChannelId(row.get::<_, i64>("out_scid")?.cast_unsigned()),
            out_id: opt("out_id")?,
            out_amount: opt("out_msat")?,
            status,
            received_ms: number(row, "received_ms")?,
            resolved_ms: opt("resolved_ms")?,
            failcode: row.get("failcode")?,
        });
    }
    Ok(list)
}

/// Forgets one that ended so. False if there is none.
pub fn remove(
    db: &Connection,
    in_scid: ShortChannelId,
    in_id: u64,
    status: Status,
) -> Result<bool, Fatal> {
    let Ok(in_id) = i64::try_from(in_id) else { return Ok(false) };
    let removed = db
        .prepare_cached(
            "DELETE FROM forwards WHERE in_channel IN (SELECT number FROM channels) AND in_id = ?2 AND in_scid = ?1
                AND status = ?3",
        )?
        .execute(params![in_scid.0.cast_signed(), in_id, status as u8])?;
    Ok(removed > 0)
}

/// What this HTLC of ours was offered for, from its row: that lives as long as the channel does.
pub(super) fn origin(
    db: &Connection,
    channel: ChannelNumber,
    id: HtlcId,
) -> Result<Option<(Origin, PaymentHash)>, Fatal> {
    let found = db
        .prepare_cached(
            "SELECT key, payment_hash FROM htlcs WHERE channel = ?1 AND offered_by = 0 AND id = ?2",
        )?
        .query_row([sql(channel.0), sql(id.0)], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(key, hash)| (Origin::of(key.unsigned_abs()), PaymentHash(hash))))
}
