//! The chain room's rows: headers, and transactions of ours.

use super::{Chain, KEPT_HEADERS};
use crate::rooms::chain::Header;
use crate::sys::db::corrupt;
use crate::sys::fatal::Fatal;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction, Txid};
use primitives::BlockHeight;
use rusqlite::{Connection, OptionalExtension, params};

const READ_FROM: &str = "read_from";

/// What was known before the restart.
pub fn load(db: &Connection) -> Result<Chain, Fatal> {
    let mut chain = Chain::default();
    chain.prepend(headers_below(db, BlockHeight(u32::MAX))?);
    let mut statement =
        db.prepare("SELECT txid, untaken FROM transactions WHERE untaken IS NOT NULL")?;
    let rows = statement
        .query_map([], |row| Ok((Txid::from_byte_array(row.get(0)?), row.get::<_, u32>(1)?)))?;
    chain.never_accepted = rows.collect::<Result<_, _>>()?;
    Ok(chain)
}

/// So many sendings of a stored transaction have no answer, and each other one was refused. `None`:
/// bitcoind may have it.
pub fn set_never_accepted(
    db: &Connection,
    txid: Txid,
    under_way: Option<u32>,
) -> Result<(), Fatal> {
    db.prepare_cached("UPDATE transactions SET untaken = ?2 WHERE txid = ?1")?
        .execute(params![txid.to_byte_array(), under_way])?;
    Ok(())
}

/// It is about to be sent once more.
pub fn count_sending(db: &Connection, txid: Txid) -> Result<(), Fatal> {
    db.prepare_cached(
        "UPDATE transactions SET untaken = untaken + 1 WHERE txid = ?1 AND untaken IS NOT NULL",
    )?
    .execute([txid.to_byte_array()])?;
    Ok(())
}

/// The last [`KEPT_HEADERS`] below this height, the highest first.
pub fn headers_below(db: &Connection, height: BlockHeight) -> Result<Vec<Header>, Fatal> {
    let mut statement = db.prepare_cached(
        "SELECT height, hash, time FROM blocks WHERE height < ?1 ORDER BY height DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![height.0, KEPT_HEADERS as u32], |row| {
        Ok((BlockHeight(row.get(0)?), BlockHash::from_byte_array(row.get(1)?), row.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Our block at this height, of all that were ever read.
pub fn hash_at(db: &Connection, height: u32) -> Result<Option<BlockHash>, Fatal> {
    let found = db
        .prepare_cached("SELECT hash FROM blocks WHERE height = ?1")?
        .query_row([height], |row| row.get(0))
        .optional()?;
    Ok(found.map(BlockHash::from_byte_array))
}

/// The block to go on with where there is no header at all: every block below it is without meaning
/// to us.
pub(super) fn read_from(db: &Connection) -> Result<Option<BlockHeight>, Fatal> {
    Ok(crate::sys::db::get_var(db, READ_FROM)?.map(BlockHeight))
}
pub fn set_read_from(db: &Connection, height: BlockHeight) -> Result<(), Fatal> {
    crate::sys::db::set_var(db, READ_FROM, &height.0)
}

/// The highest block below this height that has a transaction of ours.
pub fn confirmed_below(db: &Connection, height: BlockHeight) -> Result<Option<BlockHeight>, Fatal> {
    let found: Option<u32> = db
        .prepare_cached("SELECT max(height) FROM transactions WHERE height < ?1")?
        .query_row([height.0], |row| row.get(0))?;
    Ok(found.map(BlockHeight))
}

pub fn add_block(
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
    Ok(())
}

pub fn remove_block(db: &Connection, height: BlockHeight) -> Result<(), Fatal> {
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
            crate::sys::db::sql(index as u64)
        ])?;
    Ok(())
}

/// Those that are to be in a block and are not.
pub fn unconfirmed(db: &Connection) -> Result<Vec<Transaction>, Fatal> {
    let mut statement =
        db.prepare_cached("SELECT raw FROM transactions WHERE broadcast = 1 AND height IS NULL")?;
    let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    let mut all = Vec::new();
    for raw in rows {
        match bitcoin::consensus::deserialize(&raw?) {
            Ok(tx) => all.push(tx),
            // The others are sent all the same, and the chain is watched on.
            Err(e) => log::error!("a row of transactions is damaged and not sent: {e}"),
        }
    }
    Ok(all)
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

/// What spends this output and is in no block is forgotten: nobody will ever want to hear of it
/// again.
pub fn forget_spends(db: &Connection, of: primitives::OutPoint) -> Result<(), Fatal> {
    let mut forget =
        db.prepare_cached("DELETE FROM transactions WHERE txid = ?1 AND height IS NULL")?;
    for tx in unconfirmed(db)? {
        if tx.input.iter().any(|i| i.previous_output == of) {
            forget.execute([tx.compute_txid().to_byte_array()])?;
        }
    }
    Ok(())
}

/// A row of `listtransactions`: raw, height, index.
pub(super) type TransactionRow = (Transaction, Option<u32>, Option<u32>);

/// All of them.
pub fn all_transactions(db: &Connection) -> Result<Vec<TransactionRow>, Fatal> {
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
