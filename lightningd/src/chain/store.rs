//! The chain room's rows: headers, and transactions of ours.

use super::{Chain, KEPT_HEADERS};
use crate::db::corrupt;
use crate::turn::Fatal;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction, Txid};
use primitives::BlockHeight;
use rusqlite::{Connection, params};

/// What was known before the restart.
pub fn load(db: &Connection) -> Result<Chain, Fatal> {
    let mut statement = db.prepare("SELECT height, hash, time FROM blocks ORDER BY height")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, u32>(0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, Option<u32>>(2)?))
    })?;
    let mut chain = Chain::default();
    for row in rows {
        let (height, hash, time) = row?;
        chain.times.extend(time.map(|time| (BlockHeight(height), time)));
        chain.headers.push_back((BlockHeight(height), BlockHash::from_byte_array(hash)));
    }
    Ok(chain)
}

pub(super) fn add_block(
    db: &Connection,
    height: BlockHeight,
    hash: BlockHash,
    header: &bitcoin::block::Header,
) -> Result<(), Fatal> {
    let prev = header.prev_blockhash.to_byte_array();
    db.prepare_cached(
        "INSERT INTO blocks (height, hash, prev_hash, time) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![height.0, hash.to_byte_array(), prev, header.time])?;
    db.prepare_cached("DELETE FROM blocks WHERE height <= ?1")?
        .execute([i64::from(height.0) - KEPT_HEADERS as i64])?;
    Ok(())
}

pub(super) fn remove_block(db: &Connection, height: BlockHeight) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM blocks WHERE height = ?1")?.execute([height.0])?;
    db.prepare_cached("UPDATE transactions SET height = NULL, tx_index = NULL WHERE height = ?1")?
        .execute([height.0])?;
    Ok(())
}

/// Keeps a transaction of ours; `broadcast`: until it is in a block.
pub(super) fn add_transaction(
    db: &Connection,
    tx: &Transaction,
    broadcast: bool,
) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO transactions (txid, raw, broadcast) VALUES (?1, ?2, ?3)
         ON CONFLICT (txid) DO UPDATE SET raw = excluded.raw, broadcast = max(broadcast, excluded.broadcast)",
    )?
    .execute(params![tx.compute_txid().to_byte_array(), bitcoin::consensus::serialize(tx), broadcast])?;
    Ok(())
}

/// A transaction that matters to us is in a block.
pub fn confirmed(
    db: &Connection,
    tx: &Transaction,
    height: BlockHeight,
    index: usize,
) -> Result<(), Fatal> {
    add_transaction(db, tx, false)?;
    db.prepare_cached("UPDATE transactions SET height = ?2, tx_index = ?3 WHERE txid = ?1")?
        .execute(params![
            tx.compute_txid().to_byte_array(),
            height.0,
            crate::db::sql(index as u64)
        ])?;
    Ok(())
}

/// Those that are to be in a block and are not.
pub(super) fn unconfirmed(db: &Connection) -> Result<Vec<Transaction>, Fatal> {
    let mut statement =
        db.prepare_cached("SELECT raw FROM transactions WHERE broadcast = 1 AND height IS NULL")?;
    let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|raw| bitcoin::consensus::deserialize(&raw?).map_err(|e| corrupt("transactions", e)))
        .collect()
}

/// Which of those spends this output, if one does.
pub fn sent_to_spend(db: &Connection, of: primitives::OutPoint) -> Result<Option<Txid>, Fatal> {
    let spends = |tx: &Transaction| tx.input.iter().any(|i| i.previous_output == of);
    Ok(unconfirmed(db)?.into_iter().find(spends).map(|tx| tx.compute_txid()))
}

/// This one, if it matters to us and is in no block.
pub fn on_its_way(db: &Connection, txid: Txid) -> Result<Option<Transaction>, Fatal> {
    let mut statement =
        db.prepare_cached("SELECT raw FROM transactions WHERE txid = ?1 AND height IS NULL")?;
    let mut rows = statement.query([txid.to_byte_array()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let raw: Vec<u8> = row.get(0)?;
    bitcoin::consensus::deserialize(&raw).map(Some).map_err(|e| corrupt("transactions", e))
}

/// No more broadcasting of this one.
pub fn give_up(db: &Connection, txid: Txid) -> Result<(), Fatal> {
    db.prepare_cached("UPDATE transactions SET broadcast = 0 WHERE txid = ?1")?
        .execute([txid.to_byte_array()])?;
    Ok(())
}

/// No more broadcasting of anything that spends this output: it will never be there.
pub fn give_up_spends(db: &Connection, of: primitives::OutPoint) -> Result<(), Fatal> {
    for tx in unconfirmed(db)? {
        if tx.input.iter().any(|i| i.previous_output == of) {
            give_up(db, tx.compute_txid())?;
        }
    }
    Ok(())
}

/// A row of `listtransactions`: raw, height, index.
pub(super) type TransactionRow = (Transaction, Option<u32>, Option<u32>);

/// All of them.
pub(super) fn all_transactions(db: &Connection) -> Result<Vec<TransactionRow>, Fatal> {
    let mut statement = db.prepare_cached(
        "SELECT raw, height, tx_index FROM transactions ORDER BY height IS NULL, height, tx_index",
    )?;
    let rows =
        statement.query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?)))?;
    rows.map(|row| {
        let (raw, height, index) = row?;
        let tx = bitcoin::consensus::deserialize(&raw).map_err(|e| corrupt("transactions", e))?;
        Ok((tx, height, index))
    })
    .collect()
}
