//! The wallet's rows.

use super::{MAX_INDEX, Output, Spend};
use crate::sys::db::{corrupt, get_var, set_var, sql};
use crate::sys::fatal::Fatal;
use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, Txid};
use primitives::{BlockHeight, OutPoint, Sat};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;

const LAST_INDEX: &str = "wallet_last_index";

/// The last address index issued, and every output. Whoever reserved one was an attempt of the life
/// before: none is reserved now.
pub fn load(db: &Connection) -> Result<(u32, BTreeMap<OutPoint, Output>), Fatal> {
    db.execute("UPDATE outputs SET reserved_until = 0 WHERE reserved_until != 0", [])?;
    let index = |table: &str, stored: u32| {
        let far = || corrupt(table, format!("address index {stored}, of at most {MAX_INDEX}"));
        if stored <= MAX_INDEX { Ok(stored) } else { Err(far()) }
    };
    let last = index("vars", get_var::<u32>(db, LAST_INDEX)?.unwrap_or(0))?;
    let mut statement = db.prepare(
        "SELECT txid, vout, amount_sat, script, key_index, is_coinbase, confirmed_height, spent_txid, spent_height,
                reserved_until FROM outputs",
    )?;
    let mut rows = statement.query([])?;
    let mut outputs = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let txid = Txid::from_byte_array(row.get(0)?);
        let spent_txid: Option<[u8; 32]> = row.get(7)?;
        let spent_height: Option<u32> = row.get(8)?;
        let amount: u64 = row.get::<_, i64>(2)?.try_into().map_err(|e| corrupt("outputs", e))?;
        let output = Output {
            amount: Sat(amount),
            script: ScriptBuf::from_bytes(row.get(3)?),
            key_index: index("outputs", row.get(4)?)?,
            coinbase: row.get(5)?,
            confirmed: row.get::<_, Option<u32>>(6)?.map(BlockHeight),
            spent: spent_txid.map(|t| Spend {
                txid: Txid::from_byte_array(t),
                height: spent_height.map(BlockHeight),
            }),
            reserved_until: BlockHeight(row.get(9)?),
        };
        outputs.insert(OutPoint { txid, vout: row.get(1)? }, output);
    }
    Ok((last, outputs))
}

pub(super) fn set_last_index(db: &Connection, index: u32) -> Result<(), Fatal> {
    set_var(db, LAST_INDEX, &index)
}

pub(super) fn put(db: &Connection, outpoint: &OutPoint, output: &Output) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO outputs (txid, vout, amount_sat, script, key_index, is_coinbase, confirmed_height, spent_txid,
                              spent_height, reserved_until)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (txid, vout) DO UPDATE SET confirmed_height = excluded.confirmed_height,
            spent_txid = excluded.spent_txid, spent_height = excluded.spent_height, reserved_until = excluded.reserved_until",
    )?
    .execute(params![
        outpoint.txid.to_byte_array(),
        outpoint.vout,
        sql(output.amount.0),
        output.script.as_bytes(),
        output.key_index,
        output.coinbase,
        output.confirmed.map(|h| h.0),
        output.spent.map(|s| s.txid.to_byte_array()),
        output.spent.and_then(|s| s.height).map(|h| h.0),
        output.reserved_until.0,
    ])?;
    Ok(())
}

/// The unconfirmed transaction of this id spends nothing any more.
pub(super) fn release(db: &Connection, txid: Txid) -> Result<(), Fatal> {
    db.prepare_cached(
        "UPDATE outputs SET spent_txid = NULL, reserved_until = 0 WHERE spent_txid = ?1 AND spent_height IS NULL",
    )?
    .execute([txid.to_byte_array()])?;
    Ok(())
}

pub(super) fn remove(db: &Connection, outpoint: &OutPoint) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM outputs WHERE txid = ?1 AND vout = ?2")?
        .execute(params![outpoint.txid.to_byte_array(), outpoint.vout])?;
    Ok(())
}
