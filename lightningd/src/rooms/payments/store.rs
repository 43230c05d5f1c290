//! The payments' rows.

use super::{Payment, Payments, RouteHop, Status};
use crate::sys::db::{corrupt, sql};
use crate::sys::fatal::Fatal;
use primitives::*;
use rusqlite::{Connection, params};
use wire::{Long, Wire};

/// A hop, as it is stored: who, and over which channel.
type StoredHop = (NodeId, ShortChannelId);

/// The highest index of any row that ever was.
const LAST_INDEX: &str = "payments_created";

/// All of them.
pub fn load(db: &Connection) -> Result<Payments, Fatal> {
    let mut payments = Payments::default();
    payments
        .last_index
        .set(crate::sys::db::get_var::<i64>(db, LAST_INDEX)?.unwrap_or(0).unsigned_abs());
    let mut statement = db.prepare("SELECT * FROM payments")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number = |n: &str| -> Result<Option<u64>, Fatal> {
            let value: Option<i64> = row.get(n)?;
            value.map(|v| u64::try_from(v).map_err(|e| corrupt("payments", e))).transpose()
        };
        let need =
            |n: &str| number(n)?.ok_or_else(|| corrupt("payments", format!("{n} is missing")));
        let status = match row.get::<_, u8>("status")? {
            0 => Status::Pending,
            1 => Status::Complete,
            2 => Status::Failed,
            other => return Err(corrupt("payments", format!("status {other}"))),
        };
        let secrets = Long::<Secret<32>>::from_bytes(&row.get::<_, Vec<u8>>("secrets")?);
        let route = Long::<StoredHop>::from_bytes(&row.get::<_, Vec<u8>>("route")?)
            .map_err(|e| corrupt("payments", e))?;
        let failure: Option<String> = row.get("failure")?;
        payments.insert(Payment {
            created_index: need("created_index")?,
            updated_index: number("updated_index")?,
            hash: PaymentHash(row.get("payment_hash")?),
            partid: need("partid")?,
            groupid: need("groupid")?,
            status,
            amount: number("amount_msat")?.map(Msat),
            sent: Msat(need("amount_sent_msat")?),
            total: Msat(need("total_msat")?),
            destination: row.get::<_, Option<[u8; 33]>>("destination")?.map(NodeId),
            label: row.get("label")?,
            bolt11: row.get("bolt11")?,
            description: row.get("description")?,
            created_at: need("created_at")?,
            completed_at: number("completed_at")?,
            preimage: row.get::<_, Option<[u8; 32]>>("preimage")?.map(Preimage),
            secrets: secrets.map_err(|e| corrupt("payments", e))?.0,
            route: route.0.into_iter().map(|(node, channel)| RouteHop { node, channel }).collect(),
            channel: ChannelNumber(need("channel")?),
            failure: failure
                .map(|f| serde_json::from_str(&f).map_err(|e| corrupt("payments", e)))
                .transpose()?,
        });
    }
    Ok(payments)
}

pub fn insert(db: &Connection, p: &Payment) -> Result<(), Fatal> {
    let highest =
        crate::sys::db::get_var::<i64>(db, LAST_INDEX)?.unwrap_or(0).max(sql(p.created_index));
    crate::sys::db::set_var(db, LAST_INDEX, &highest)?;
    let route = Long(p.route.iter().map(|h| (h.node, h.channel)).collect::<Vec<_>>());
    db.prepare_cached(
        "INSERT INTO payments (created_index, payment_hash, partid, groupid, status, amount_msat, amount_sent_msat,
            total_msat, destination, label, bolt11, description, created_at, secrets, route, channel)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?
    .execute(params![
        sql(p.created_index),
        p.hash.0,
        sql(p.partid),
        sql(p.groupid),
        p.status as u8,
        p.amount.map(|a| sql(a.0)),
        sql(p.sent.0),
        sql(p.total.0),
        p.destination.map(|d| d.0),
        p.label,
        p.bolt11,
        p.description,
        sql(p.created_at),
        Long(p.secrets.clone()).to_bytes(),
        route.to_bytes(),
        sql(p.channel.0),
    ])?;
    Ok(())
}

pub(super) fn update(db: &Connection, p: &Payment) -> Result<(), Fatal> {
    let failure = p.failure.as_ref().map(crate::rooms::payments::failure::stored);
    db.prepare_cached(
        "UPDATE payments SET updated_index = ?2, status = ?3, preimage = ?4, completed_at = ?5, failure = ?6
         WHERE created_index = ?1",
    )?
    .execute(params![
        sql(p.created_index),
        p.updated_index.map(sql),
        p.status as u8,
        p.preimage.map(|p| p.0),
        p.completed_at.map(sql),
        failure,
    ])?;
    Ok(())
}

pub fn remove(db: &Connection, created_index: u64) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM payments WHERE created_index = ?1")?
        .execute([sql(created_index)])?;
    Ok(())
}
