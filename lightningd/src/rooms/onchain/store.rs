//! The rows of channels on chain: what the chain showed of them, and what of ours is under way.

use super::attempt::{Attempt, GivenUp, Kind};
use super::{Case, Onchain, Seen};
use crate::sys::db::{corrupt, sql};
use crate::sys::fatal::Fatal;
use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Txid};
use primitives::*;
use rusqlite::{Connection, params};
use wire::channel_data::Htlc;

fn number(stored: i64) -> Result<ChannelNumber, Fatal> {
    u64::try_from(stored).map(ChannelNumber).map_err(|e| corrupt("onchain", e))
}
fn transaction(raw: &[u8]) -> Result<Transaction, Fatal> {
    bitcoin::consensus::deserialize(raw).map_err(|e| corrupt("onchain_txs", e))
}

/// What was known before the restart.
pub fn load(db: &Connection) -> Result<Onchain, Fatal> {
    let mut room = Onchain::default();
    let mut statement = db.prepare(
        "SELECT channel, level, height, raw FROM onchain_txs ORDER BY channel, level > 0, height, position",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let channel = number(row.get(0)?)?;
        let tx = transaction(&row.get::<_, Vec<u8>>(3)?)?;
        let seen = Seen::new(tx, BlockHeight(row.get(2)?), row.get(1)?);
        match (room.cases.get_mut(&channel), seen.level) {
            (None, 0) => drop(room.cases.insert(channel, Case::new(seen))),
            (Some(case), 1..) => case.later.push(seen),
            (None, _) => {
                return Err(corrupt("onchain_txs", "what follows a spend that is not there"));
            }
            (Some(_), 0) => return Err(corrupt("onchain_txs", "two spends of one funding")),
        }
    }
    let mut statement = db.prepare("SELECT channel, sweep_index, evidence FROM onchain")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let channel = number(row.get(0)?)?;
        if let Some(index) = row.get::<_, Option<u32>>(1)? {
            if index > crate::rooms::wallet::MAX_INDEX {
                return Err(corrupt("onchain", format!("address index {index}")));
            }
            room.sweep_index.insert(channel, index);
        }
        if let Some(text) = row.get::<_, Option<String>>(2)? {
            let parsed = serde_json::from_str(&text).map_err(|e| corrupt("onchain", e))?;
            room.evidence.insert(channel, parsed);
        }
    }
    load_attempts(db, &mut room)?;
    load_claim_starts(db, &mut room)?;
    room.watch_all();
    Ok(room)
}

fn load_attempts(db: &Connection, room: &mut Onchain) -> Result<(), Fatal> {
    let mut statement =
        db.prepare("SELECT channel, kind, raw, feerate, first_height, height, claims FROM claims")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let channel = number(row.get(0)?)?;
        let kind: u8 = row.get(1)?;
        let tx = transaction(&row.get::<_, Vec<u8>>(2)?)?;
        let claims: usize = row.get::<_, u32>(6)? as usize;
        let attempt = Attempt {
            txid: tx.compute_txid(),
            kind: Kind::from_number(kind)
                .ok_or_else(|| corrupt("claims", format!("kind {kind}")))?,
            claims: tx.input.iter().take(claims).map(|i| i.previous_output).collect(),
            feerate: FeeratePerKw(row.get(3)?),
            first: BlockHeight(row.get(4)?),
            height: BlockHeight(row.get(5)?),
            refused: false,
            accepted: None,
            refused_since: None,
            tx,
        };
        room.attempts.entry(channel).or_default().push(attempt);
    }
    Ok(())
}

fn load_claim_starts(db: &Connection, room: &mut Onchain) -> Result<(), Fatal> {
    let mut statement = db.prepare("SELECT channel, txid, vout, first_height FROM claim_starts")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let channel = number(row.get(0)?)?;
        let txid = Txid::from_byte_array(row.get(1)?);
        let outpoint = OutPoint { txid, vout: row.get(2)? };
        let given_up = GivenUp { first: BlockHeight(row.get(3)?), rests_at: None };
        room.given_up.entry(channel).or_default().insert(outpoint, given_up);
    }
    Ok(())
}

/// Fee-bump start height of an output whose claim was given up, or of a funding whose commitment
/// was published.
pub(super) fn set_claim_start(
    db: &Connection,
    channel: ChannelNumber,
    outpoint: &OutPoint,
    first: BlockHeight,
) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO claim_starts (channel, txid, vout, first_height) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![sql(channel.0), outpoint.txid.to_byte_array(), outpoint.vout, first.0])?;
    Ok(())
}

/// This output is claimed again, or can be claimed no more.
pub(super) fn remove_claim_start(db: &Connection, outpoint: &OutPoint) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM claim_starts WHERE txid = ?1 AND vout = ?2")?
        .execute(params![outpoint.txid.to_byte_array(), outpoint.vout])?;
    Ok(())
}

/// The channel's end is over, or its block left the chain.
pub(super) fn remove_claim_starts_of(db: &Connection, channel: ChannelNumber) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM claim_starts WHERE channel = ?1")?.execute([sql(channel.0)])?;
    Ok(())
}

pub(super) fn add_seen(
    db: &Connection,
    channel: ChannelNumber,
    seen: &Seen,
    position: usize,
) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO onchain_txs (channel, txid, level, height, position, raw) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (channel, txid) DO UPDATE SET height = excluded.height, position = excluded.position",
    )?
    .execute(params![
        sql(channel.0),
        seen.txid.to_byte_array(),
        seen.level,
        seen.height.0,
        sql(position as u64),
        bitcoin::consensus::serialize(&seen.tx),
    ])?;
    Ok(())
}

/// Blocks of this height and above are not there any more.
pub(super) fn remove_seen_from(db: &Connection, height: BlockHeight) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM onchain_txs WHERE height >= ?1")?.execute([height.0])?;
    Ok(())
}

pub(super) fn remove_seen_of(db: &Connection, channel: ChannelNumber) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM onchain_txs WHERE channel = ?1")?.execute([sql(channel.0)])?;
    Ok(())
}

pub(super) fn set_sweep_index(
    db: &Connection,
    channel: ChannelNumber,
    index: u32,
) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO onchain (channel, sweep_index) VALUES (?1, ?2)
         ON CONFLICT (channel) DO UPDATE SET sweep_index = excluded.sweep_index",
    )?
    .execute(params![sql(channel.0), index])?;
    Ok(())
}

pub(super) fn set_evidence(
    db: &Connection,
    channel: ChannelNumber,
    evidence: &serde_json::Value,
) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO onchain (channel, evidence) VALUES (?1, ?2)
         ON CONFLICT (channel) DO UPDATE SET evidence = excluded.evidence",
    )?
    .execute(params![sql(channel.0), evidence.to_string()])?;
    Ok(())
}

pub(super) fn add_attempt(
    db: &Connection,
    channel: ChannelNumber,
    attempt: &Attempt,
) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO claims (txid, channel, kind, raw, feerate, first_height, height, claims)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        attempt.txid.to_byte_array(),
        sql(channel.0),
        attempt.kind.number(),
        bitcoin::consensus::serialize(&attempt.tx),
        attempt.feerate.0,
        attempt.first.0,
        attempt.height.0,
        sql(attempt.claims.len() as u64),
    ])?;
    Ok(())
}

pub(super) fn remove_attempt(db: &Connection, txid: Txid) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM claims WHERE txid = ?1")?.execute([txid.to_byte_array()])?;
    Ok(())
}

/// Every HTLC that the peer's commitment of this number may contain, settled or not: a penalty
/// needs them all.
pub(super) fn htlcs_in_remote(
    db: &Connection,
    channel: ChannelNumber,
    commitment: CommitmentNumber,
) -> Result<Vec<Htlc>, Fatal> {
    let mut statement = db.prepare_cached(
        "SELECT offered_by, id, amount_msat, payment_hash, expiry FROM htlcs
         WHERE channel = ?1 AND in_remote_from <= ?2 AND (in_remote_until IS NULL OR in_remote_until > ?2)",
    )?;
    let mut rows = statement.query(params![sql(channel.0), sql(commitment.0)])?;
    let mut htlcs = Vec::new();
    while let Some(row) = rows.next()? {
        let positive = |n: i64| u64::try_from(n).map_err(|e| corrupt("htlcs", e));
        htlcs.push(Htlc {
            offered_by: if row.get::<_, u8>(0)? == 0 { Side::Local } else { Side::Remote },
            id: HtlcId(positive(row.get(1)?)?),
            amount: Msat(positive(row.get(2)?)?),
            payment_hash: PaymentHash(row.get(3)?),
            expiry: BlockHeight(row.get(4)?),
        });
    }
    Ok(htlcs)
}
