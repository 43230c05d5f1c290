//! The invoices' rows.

use super::{Invoice, Invoices, Paid, Status};
use crate::sys::db::{corrupt, sql};
use crate::sys::fatal::Fatal;
use primitives::*;
use rusqlite::{Connection, params};

/// All of them.
pub fn load(db: &Connection) -> Result<Invoices, Fatal> {
    let mut invoices = Invoices::default();
    let mut statement = db.prepare(
        "SELECT created_index, updated_index, label, payment_hash, preimage, payment_secret, amount_msat, description,
                bolt11, min_final_cltv, state, expires_at, pay_index, received_msat, paid_at FROM invoices",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number = |n: usize| -> Result<Option<u64>, Fatal> {
            let value: Option<i64> = row.get(n)?;
            value.map(|v| u64::try_from(v).map_err(|e| corrupt("invoices", e))).transpose()
        };
        let need = |n: usize| number(n)?.ok_or_else(|| corrupt("invoices", "a number is missing"));
        let paid = match (number(12)?, number(13)?, number(14)?) {
            (Some(index), Some(received), Some(at)) => {
                Some(Paid { index, received: Msat(received), at })
            }
            _ => None,
        };
        let status = match row.get::<_, u8>(10)? {
            0 => Status::Unpaid,
            1 => Status::Paid,
            other => return Err(corrupt("invoices", format!("state {other}"))),
        };
        invoices.insert(Invoice {
            created_index: need(0)?,
            updated_index: number(1)?,
            label: row.get(2)?,
            hash: PaymentHash(row.get(3)?),
            preimage: Preimage(row.get(4)?),
            secret: PaymentSecret(row.get(5)?),
            amount: number(6)?.map(Msat),
            description: row.get(7)?,
            bolt11: row.get(8)?,
            min_final_cltv: CltvDelta(row.get(9)?),
            status,
            expires_at: need(11)?,
            paid,
        });
    }
    Ok(invoices)
}

pub fn insert(db: &Connection, i: &Invoice) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO invoices (created_index, label, payment_hash, preimage, payment_secret, amount_msat, description,
            bolt11, min_final_cltv, state, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        sql(i.created_index),
        i.label,
        i.hash.0,
        i.preimage.0,
        i.secret.0,
        i.amount.map(|a| sql(a.0)),
        i.description,
        i.bolt11,
        i.min_final_cltv.0,
        i.status as u8,
        sql(i.expires_at),
    ])?;
    Ok(())
}

pub fn update(db: &Connection, i: &Invoice) -> Result<(), Fatal> {
    db.prepare_cached(
        "UPDATE invoices SET updated_index = ?2, state = ?3, pay_index = ?4, received_msat = ?5, paid_at = ?6,
            description = ?7 WHERE created_index = ?1",
    )?
    .execute(params![
        sql(i.created_index),
        i.updated_index.map(sql),
        i.status as u8,
        i.paid.map(|p| sql(p.index)),
        i.paid.map(|p| sql(p.received.0)),
        i.paid.map(|p| sql(p.at)),
        i.description,
    ])?;
    Ok(())
}

pub fn remove(db: &Connection, created_index: u64) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM invoices WHERE created_index = ?1")?
        .execute([sql(created_index)])?;
    Ok(())
}
