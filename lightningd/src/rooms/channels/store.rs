//! The channels' rows: writing them. Reading is in [`load`](mod@load).

pub mod list;
pub mod load;
pub mod numbers;
pub mod onions;
pub mod policies;

use crate::rooms::channels::state::{Cause, State};
use crate::rooms::channels::{Channel, StateChange, Totals};
use crate::sys::db::sql;
use crate::sys::fatal::Fatal;
use bitcoin::Txid;
use bitcoin::hashes::Hash;
use primitives::*;
use rusqlite::{Connection, params};
use std::cell::Cell;
use wire::Wire;
use wire::channel_data::*;
use wire::channeld::PeeledHtlc;

const fn side_number(side: Side) -> u8 {
    match side {
        Side::Local => 0,
        Side::Remote => 1,
    }
}
/// Short ids and aliases use all 64 bits: they are stored as the signed number of the same bits.
const fn bits(scid: ShortChannelId) -> i64 {
    scid.0.cast_signed()
}

/// The highest created_index of any HTLC that ever was.
const LAST_HTLC: &str = "htlcs_created";

/// A new channel's rows.
pub(super) fn insert(db: &Connection, c: &Channel) -> Result<(), Fatal> {
    let p = &c.live.params;
    db.prepare_cached(
        "INSERT INTO channels (number, peer, channel_id, state, opener, announce, funding_txid, funding_vout, amount_sat,
            push_msat, channel_type, terms, basepoints, minimum_depth, initial_feerate, local_msat, remote_msat,
            next_local_id, next_remote_id, local_commitment, remote_commitment, local_revoked, remote_revoked, remote_point,
            remote_next_point, local_signatures, fees, last_sent, alias_local, upfront_local, upfront_remote, funding_tx,
            first_height, cause, reason, withheld, min_to_us_msat, max_to_us_msat)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
            ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38)",
    )?
    .execute(params![
        sql(c.number.0),
        c.peer.0,
        c.id.0,
        c.state.number(),
        side_number(p.opener),
        c.announce,
        p.funding.txid.to_byte_array(),
        p.funding.vout,
        sql(p.amount.0),
        sql(p.push.0),
        p.channel_type.to_bytes(),
        p.terms.to_bytes(),
        p.basepoints.to_bytes(),
        c.minimum_depth,
        c.initial_feerate.0,
        sql(c.live.balance.local.0),
        sql(c.live.balance.remote.0),
        sql(c.live.next_htlc_id.local.0),
        sql(c.live.next_htlc_id.remote.0),
        sql(c.live.commitment.local.0),
        sql(c.live.commitment.remote.0),
        sql(c.live.revoked.local.0),
        sql(c.live.revoked.remote.0),
        c.live.remote_point.to_bytes(),
        c.live.remote_next_point.map(|p| p.to_bytes()),
        c.live.local_signatures.to_bytes(),
        c.live.fees.to_bytes(),
        c.live.last_sent.number(),
        bits(c.alias_local),
        c.upfront.local.as_ref().map(|s| s.as_bytes()),
        c.upfront.remote.as_ref().map(|s| s.as_bytes()),
        c.funding_tx.as_ref().map(bitcoin::consensus::serialize),
        c.first_height.0,
        c.cause.name(),
        c.reason,
        c.withheld,
        sql(c.to_us_range.0.0),
        sql(c.to_us_range.1.0),
    ])?;
    Ok(())
}

/// One step of the commitment dance.
pub(super) fn apply(
    db: &Connection,
    channel: ChannelNumber,
    change: &ChannelChange,
    last_htlc: &Cell<u64>,
) -> Result<(), Fatal> {
    let n = sql(channel.0);
    db.prepare_cached(
        "UPDATE channels SET local_msat = ?2, remote_msat = ?3, next_local_id = ?4, next_remote_id = ?5,
            local_commitment = ?6, remote_commitment = ?7, local_revoked = ?8, remote_revoked = ?9, remote_point = ?10,
            remote_next_point = ?11, last_sent = ?12 WHERE number = ?1",
    )?
    .execute(params![
        n,
        sql(change.balance.local.0),
        sql(change.balance.remote.0),
        sql(change.next_htlc_id.local.0),
        sql(change.next_htlc_id.remote.0),
        sql(change.commitment.local.0),
        sql(change.commitment.remote.0),
        sql(change.revoked.local.0),
        sql(change.revoked.remote.0),
        change.remote_point.to_bytes(),
        change.remote_next_point.map(|p| p.to_bytes()),
        change.last_sent.number(),
    ])?;
    if let Some(signatures) = &change.local_signatures {
        db.prepare_cached("UPDATE channels SET local_signatures = ?2 WHERE number = ?1")?
            .execute(params![n, signatures.to_bytes()])?;
    }
    if let Some(fees) = &change.fees {
        db.prepare_cached("UPDATE channels SET fees = ?2 WHERE number = ?1")?
            .execute(params![n, fees.to_bytes()])?;
    }
    for secret in &change.remote_secrets.0 {
        // BOLT 3: each secret takes the place of the one with as many trailing zeroes.
        let slot = secret.index.trailing_zeros().min(48);
        db.prepare_cached(
            "INSERT INTO remote_secrets (channel, slot, commitment_index, secret) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (channel, slot) DO UPDATE SET commitment_index = excluded.commitment_index, secret = excluded.secret",
        )?
        .execute(params![n, slot, sql(secret.index), secret.secret.expose()])?;
    }
    apply_htlcs(db, n, change, last_htlc)
}

/// `index`: its `created_index` in `listhtlcs`.
fn insert_htlc(db: &Connection, n: i64, l: &LiveHtlc, index: u64) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO htlcs (channel, offered_by, id, amount_msat, payment_hash, expiry, key, added, in_remote_from,
            in_remote_until, onion, path_key, removal, removed, created_index)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(params![
        n,
        side_number(l.htlc.offered_by),
        sql(l.htlc.id.0),
        sql(l.htlc.amount.0),
        l.htlc.payment_hash.0,
        l.htlc.expiry.0,
        sql(l.key),
        l.added.number(),
        l.in_remote_from.map(|c| sql(c.0)),
        l.in_remote_until.map(|c| sql(c.0)),
        l.onion.0.as_slice(),
        l.path_key.map(|p| p.to_bytes()),
        l.removed.as_ref().map(|r| r.removal.to_bytes()),
        l.removed.as_ref().map(|r| r.stage.number()),
        sql(index),
    ])?;
    Ok(())
}

fn apply_htlcs(
    db: &Connection,
    n: i64,
    change: &ChannelChange,
    last_htlc: &Cell<u64>,
) -> Result<(), Fatal> {
    for added in &change.added.0 {
        last_htlc.set(last_htlc.get() + 1);
        insert_htlc(db, n, added, last_htlc.get())?;
    }
    if !change.added.0.is_empty() {
        crate::sys::db::set_var(db, LAST_HTLC, &sql(last_htlc.get()))?;
    }
    for m in &change.moved.0 {
        db.prepare_cached(
            "UPDATE htlcs SET added = ?4, removal = ?5, removed = ?6, in_remote_from = ?7, in_remote_until = ?8
             WHERE channel = ?1 AND offered_by = ?2 AND id = ?3",
        )?
        .execute(params![
            n,
            side_number(m.offered_by),
            sql(m.id.0),
            m.added.number(),
            m.removed.as_ref().map(|r| r.removal.to_bytes()),
            m.removed.as_ref().map(|r| r.stage.number()),
            m.in_remote_from.map(|c| sql(c.0)),
            m.in_remote_until.map(|c| sql(c.0)),
        ])?;
    }
    for (offered_by, id) in &change.settled.0 {
        // The row stays as long as a penalty may need it; what only its life needed goes.
        db.prepare_cached(
            "UPDATE htlcs SET settled = 1, onion = NULL, path_key = NULL, peeled = NULL, decision = NULL,
                removal = CASE WHEN offered_by = 0 AND substr(removal, 1, 1) = x'00' THEN removal END
             WHERE channel = ?1 AND offered_by = ?2 AND id = ?3",
        )?
        .execute(params![n, side_number(*offered_by), sql(id.0)])?;
    }
    Ok(())
}

/// What this HTLC of ours was for has its end: the row keeps what a penalty needs.
pub fn forget_removal(db: &Connection, channel: ChannelNumber, id: HtlcId) -> Result<(), Fatal> {
    db.prepare_cached(
        "UPDATE htlcs SET removal = NULL WHERE channel = ?1 AND offered_by = 0 AND id = ?2 AND settled = 1",
    )?
    .execute(params![sql(channel.0), sql(id.0)])?;
    Ok(())
}

pub(super) fn set_peeled(
    db: &Connection,
    channel: ChannelNumber,
    peeled: &PeeledHtlc,
) -> Result<(), Fatal> {
    db.prepare_cached(
        "UPDATE htlcs SET peeled = ?3 WHERE channel = ?1 AND offered_by = 1 AND id = ?2",
    )?
    .execute(params![sql(channel.0), sql(peeled.id.0), peeled.to_bytes()])?;
    Ok(())
}

/// What was decided on a received HTLC: from now on nothing else can be.
pub(super) fn set_decision(
    db: &Connection,
    channel: ChannelNumber,
    id: HtlcId,
    decision: &Removal,
) -> Result<(), Fatal> {
    db.prepare_cached(
        "UPDATE htlcs SET decision = ?3 WHERE channel = ?1 AND offered_by = 1 AND id = ?2",
    )?
    .execute(params![sql(channel.0), sql(id.0), decision.to_bytes()])?;
    Ok(())
}

/// Sets one column of a channel.
fn set(
    db: &Connection,
    channel: ChannelNumber,
    column: &'static str,
    value: &dyn rusqlite::ToSql,
) -> Result<(), Fatal> {
    db.prepare_cached(&format!("UPDATE channels SET {column} = ?2 WHERE number = ?1"))?
        .execute(params![sql(channel.0), value])?;
    Ok(())
}

pub(super) fn set_state(
    db: &Connection,
    channel: ChannelNumber,
    state: State,
    cause: Cause,
    reason: &str,
) -> Result<(), Fatal> {
    set(db, channel, "state", &state.number())?;
    set(db, channel, "cause", &cause.name())?;
    set(db, channel, "reason", &reason)
}
pub(super) fn add_state_change(
    db: &Connection,
    channel: ChannelNumber,
    c: &StateChange,
) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO state_changes (channel, timestamp, old_state, new_state, cause, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![sql(channel.0), c.timestamp, c.old.number(), c.new.number(), c.cause.name(), c.message])?;
    Ok(())
}
pub(super) fn set_lost_state(db: &Connection, channel: ChannelNumber) -> Result<(), Fatal> {
    set(db, channel, "lost_state", &true)
}
pub(super) fn set_ready(db: &Connection, channel: ChannelNumber) -> Result<(), Fatal> {
    set(db, channel, "ready_local", &true)
}
pub(super) fn set_peer_ready(
    db: &Connection,
    channel: ChannelNumber,
    alias: Option<ShortChannelId>,
    next_point: Point,
) -> Result<(), Fatal> {
    set(db, channel, "ready_remote", &true)?;
    if let Some(alias) = alias {
        set(db, channel, "alias_remote", &bits(alias))?;
    }
    db.prepare_cached(
        "UPDATE channels SET remote_next_point = coalesce(remote_next_point, ?2) WHERE number = ?1",
    )?
    .execute(params![sql(channel.0), next_point.to_bytes()])?;
    Ok(())
}
pub(super) fn set_shutdown(
    db: &Connection,
    channel: ChannelNumber,
    by: Side,
    script: &ScriptBuf,
) -> Result<(), Fatal> {
    let column = match by {
        Side::Local => "shutdown_local",
        Side::Remote => "shutdown_remote",
    };
    set(db, channel, column, &script.as_bytes())
}
/// Our `shutdown` is about to be said for the first time: the peer's HTLCs from this id on come
/// after it.
pub(super) fn set_shutdown_at(
    db: &Connection,
    channel: ChannelNumber,
    at: HtlcId,
) -> Result<(), Fatal> {
    set(db, channel, "shutdown_at", &sql(at.0))
}
/// A closing transaction is about to be signed, or `lightningd-revocations` says that one was.
pub(super) fn set_closing_begun(db: &Connection, channel: ChannelNumber) -> Result<(), Fatal> {
    set(db, channel, "closing_begun", &true)
}
pub(super) fn set_closer(db: &Connection, channel: ChannelNumber, by: Side) -> Result<(), Fatal> {
    set(db, channel, "closer", &side_number(by))
}
pub(super) fn set_announcement(
    db: &Connection,
    channel: ChannelNumber,
    bytes: &[u8],
) -> Result<(), Fatal> {
    set(db, channel, "announcement_remote", &bytes)
}
pub(super) fn set_last_stable(
    db: &Connection,
    channel: ChannelNumber,
    at: u64,
) -> Result<(), Fatal> {
    set(db, channel, "last_stable", &sql(at))
}
pub fn set_funding_tx(
    db: &Connection,
    channel: ChannelNumber,
    tx: &Transaction,
) -> Result<(), Fatal> {
    set(db, channel, "funding_tx", &bitcoin::consensus::serialize(tx))
}
pub(super) fn set_funding_height(
    db: &Connection,
    channel: ChannelNumber,
    at: Option<(BlockHeight, ShortChannelId)>,
) -> Result<(), Fatal> {
    set(db, channel, "funding_height", &at.map(|(h, _)| h.0))?;
    if at.is_some() {
        set(db, channel, "was_in_block", &true)?;
    }
    set(db, channel, "scid", &at.map(|(_, s)| bits(s)))
}
pub(super) fn set_first_height(
    db: &Connection,
    channel: ChannelNumber,
    at: BlockHeight,
) -> Result<(), Fatal> {
    set(db, channel, "first_height", &at.0)
}
pub(super) fn set_close_by(
    db: &Connection,
    channel: ChannelNumber,
    by: Option<u64>,
) -> Result<(), Fatal> {
    set(db, channel, "close_by", &by.map(sql))
}
/// A local `close` says how long it waits.
pub(super) fn set_close_asked(db: &Connection, channel: ChannelNumber) -> Result<(), Fatal> {
    set(db, channel, "close_asked", &true)
}
pub(super) fn set_close_feerange(
    db: &Connection,
    channel: ChannelNumber,
    range: crate::rooms::channels::terms::FeerateRange,
) -> Result<(), Fatal> {
    set(db, channel, "close_min_per_kw", &range.min.0)?;
    set(db, channel, "close_max_per_kw", &range.max.0)
}
pub(super) fn set_close_tx(
    db: &Connection,
    channel: ChannelNumber,
    tx: &Transaction,
) -> Result<(), Fatal> {
    set(db, channel, "close_tx", &bitcoin::consensus::serialize(tx))
}
/// Closing transactions kept per channel. A peer, or a captured closingd, chooses how many it
/// proposes.
const MAX_CLOSE_OFFERS: u32 = 20;
/// Closings that either side signed, for whoever looks into the database: nothing depends on them.
pub(super) fn add_close_offer(
    db: &Connection,
    channel: ChannelNumber,
    state: &[u8],
) -> Result<(), Fatal> {
    db.prepare_cached(
        "DELETE FROM close_offers WHERE channel = ?1
         AND (SELECT count(*) FROM close_offers WHERE channel = ?1) >= ?2",
    )?
    .execute(params![sql(channel.0), MAX_CLOSE_OFFERS])?;
    db.prepare_cached(
        "INSERT INTO close_offers (channel, state) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?
    .execute(params![sql(channel.0), state])?;
    Ok(())
}
pub(super) fn set_spend(
    db: &Connection,
    channel: ChannelNumber,
    spend: Option<(Txid, BlockHeight)>,
) -> Result<(), Fatal> {
    set(db, channel, "spend_txid", &spend.map(|(t, _)| t.to_byte_array()))?;
    set(db, channel, "spend_height", &spend.map(|(_, h)| h.0))
}
pub(super) fn set_totals(
    db: &Connection,
    channel: ChannelNumber,
    t: &Totals,
    range: (Msat, Msat),
) -> Result<(), Fatal> {
    db.prepare_cached(
        "UPDATE channels SET in_offered = ?2, in_offered_msat = ?3, in_fulfilled = ?4, in_fulfilled_msat = ?5,
            out_offered = ?6, out_offered_msat = ?7, out_fulfilled = ?8, out_fulfilled_msat = ?9, min_to_us_msat = ?10,
            max_to_us_msat = ?11 WHERE number = ?1",
    )?
    .execute(params![
        sql(channel.0),
        sql(t.in_offered.0),
        sql(t.in_offered.1.0),
        sql(t.in_fulfilled.0),
        sql(t.in_fulfilled.1.0),
        sql(t.out_offered.0),
        sql(t.out_offered.1.0),
        sql(t.out_fulfilled.0),
        sql(t.out_fulfilled.1.0),
        sql(range.0.0),
        sql(range.1.0),
    ])?;
    Ok(())
}
/// A channel that came to nothing: its funding never confirmed.
pub(super) fn forget(db: &Connection, channel: ChannelNumber) -> Result<(), Fatal> {
    db.prepare_cached("DELETE FROM channels WHERE number = ?1")?.execute([sql(channel.0)])?;
    Ok(())
}
