//! What `setchannel` said, as rows.

use crate::rooms::channels::terms::{OwnPolicy, Policy};
use crate::sys::db::{corrupt, sql};
use crate::sys::fatal::Fatal;
use primitives::*;
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(super) fn load(db: &Connection, channel: ChannelNumber) -> Result<OwnPolicy, Fatal> {
    let read = |row: &Row<'_>| {
        let amount = |column: &str| -> rusqlite::Result<Option<Msat>> {
            Ok(row.get::<_, Option<i64>>(column)?.map(|n| Msat(n.unsigned_abs())))
        };
        let before = match (
            amount("before_fee_base_msat")?,
            row.get("before_fee_ppm")?,
            amount("before_htlc_min_msat")?,
            amount("before_htlc_max_msat")?,
            row.get::<_, Option<i64>>("before_until")?,
        ) {
            (Some(fee_base), Some(fee_ppm), Some(htlc_min), Some(htlc_max), Some(until)) => {
                Some((Policy { fee_base, fee_ppm, htlc_min, htlc_max }, until.unsigned_abs()))
            }
            _ => None,
        };
        Ok(OwnPolicy {
            fee_base: amount("fee_base_msat")?,
            fee_ppm: row.get("fee_ppm")?,
            htlc_min: amount("htlc_min_msat")?,
            htlc_max: amount("htlc_max_msat")?,
            ignore_fee_limits: row.get("ignore_fee_limits")?,
            before,
        })
    };
    let found = db
        .prepare_cached("SELECT * FROM channel_policies WHERE channel = ?1")?
        .query_row([sql(channel.0)], read)
        .optional()
        .map_err(|e| corrupt("channel_policies", e))?;
    Ok(found.unwrap_or_default())
}

pub(in crate::rooms::channels) fn set_policy(
    db: &Connection,
    channel: ChannelNumber,
    own: &OwnPolicy,
) -> Result<(), Fatal> {
    let amount = |a: Option<Msat>| a.map(|a| sql(a.0));
    let before = own.before.map(|(policy, _)| policy);
    db.prepare_cached(
        "INSERT OR REPLACE INTO channel_policies (channel, fee_base_msat, fee_ppm, htlc_min_msat, htlc_max_msat,
            ignore_fee_limits, before_fee_base_msat, before_fee_ppm, before_htlc_min_msat, before_htlc_max_msat, before_until)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        sql(channel.0),
        amount(own.fee_base),
        own.fee_ppm,
        amount(own.htlc_min),
        amount(own.htlc_max),
        own.ignore_fee_limits,
        amount(before.map(|p| p.fee_base)),
        before.map(|p| p.fee_ppm),
        amount(before.map(|p| p.htlc_min)),
        amount(before.map(|p| p.htlc_max)),
        own.before.map(|(_, until)| sql(until)),
    ])?;
    Ok(())
}
