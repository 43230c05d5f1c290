//! Reading the channels' rows, once, at the start.

use super::{LAST_HTLC, policies};
use crate::rooms::channels::state::{Cause, State, StateTrust};
use crate::rooms::channels::terms::FeerateRange;
use crate::rooms::channels::{Channel, Channels, StateChange, Totals};
use crate::sys::db::{corrupt, sql};
use crate::sys::fatal::Fatal;
use bitcoin::Txid;
use bitcoin::hashes::Hash;
use primitives::*;
use rusqlite::{Connection, Row};
use wire::channel_data::*;
use wire::channeld::PeeledHtlc;
use wire::{Long, OnionPacket, Wire};

/// Every channel, with its HTLCs, secrets and history.
pub fn load(db: &Connection) -> Result<Channels, Fatal> {
    let mut channels = Channels::default();
    let mut statement = db.prepare("SELECT * FROM channels")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut channel = channel_of(row)?;
        load_secrets(db, &mut channel)?;
        load_htlcs(db, &mut channel)?;
        load_changes(db, &mut channel)?;
        channel.own_policy = policies::load(db, channel.number)?;
        channels.insert(channel);
    }
    channels
        .last_htlc
        .set(crate::sys::db::get_var::<i64>(db, LAST_HTLC)?.unwrap_or(0).unsigned_abs());
    Ok(channels)
}

/// What commitments depend on, but for HTLCs and secrets: they have rows of their own.
fn live_of(row: &Row<'_>) -> Result<ChannelState, Fatal> {
    let funding = OutPoint {
        txid: Txid::from_byte_array(row.get("funding_txid")?),
        vout: row.get("funding_vout")?,
    };
    Ok(ChannelState {
        params: ChannelParams {
            opener: side(row, "opener")?,
            funding,
            amount: Sat(number(row, "amount_sat")?),
            push: Msat(number(row, "push_msat")?),
            channel_type: blob(row, "channel_type")?,
            terms: blob(row, "terms")?,
            basepoints: blob(row, "basepoints")?,
        },
        balance: Sides {
            local: Msat(number(row, "local_msat")?),
            remote: Msat(number(row, "remote_msat")?),
        },
        next_htlc_id: Sides {
            local: HtlcId(number(row, "next_local_id")?),
            remote: HtlcId(number(row, "next_remote_id")?),
        },
        htlcs: Long(vec![]),
        fees: blob(row, "fees")?,
        commitment: Sides {
            local: CommitmentNumber(number(row, "local_commitment")?),
            remote: CommitmentNumber(number(row, "remote_commitment")?),
        },
        revoked: Sides {
            local: CommitmentNumber(number(row, "local_revoked")?),
            remote: CommitmentNumber(number(row, "remote_revoked")?),
        },
        remote_point: blob(row, "remote_point")?,
        remote_next_point: opt_blob(row, "remote_next_point")?,
        remote_secrets: Long(vec![]),
        local_signatures: blob(row, "local_signatures")?,
        last_sent: LastSent::from_number(row.get("last_sent")?)
            .ok_or_else(|| corrupt("channels", "unknown last_sent"))?,
    })
}

fn scid(row: &Row<'_>, column: &str) -> Result<Option<ShortChannelId>, Fatal> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|n| ShortChannelId(n.cast_unsigned())))
}

fn count(row: &Row<'_>, name: &str) -> Result<(u64, Msat), Fatal> {
    Ok((number(row, name)?, Msat(number(row, &format!("{name}_msat"))?)))
}

/// What spent the funding, and its block.
fn spend(row: &Row<'_>) -> Result<Option<(Txid, BlockHeight)>, Fatal> {
    let txid: Option<[u8; 32]> = row.get("spend_txid")?;
    let height: Option<u32> = row.get("spend_height")?;
    Ok(txid.map(Txid::from_byte_array).zip(height.map(BlockHeight)))
}

fn tx(row: &Row<'_>, column: &str) -> Result<Option<Transaction>, Fatal> {
    let raw: Option<Vec<u8>> = row.get(column)?;
    raw.map(|r| bitcoin::consensus::deserialize(&r).map_err(|e| corrupt("channels", e))).transpose()
}

fn script(row: &Row<'_>, column: &str) -> Result<Option<ScriptBuf>, Fatal> {
    Ok(row.get::<_, Option<Vec<u8>>>(column)?.map(ScriptBuf::from_bytes))
}

fn channel_of(row: &Row<'_>) -> Result<Channel, Fatal> {
    let state = State::from_number(row.get("state")?)
        .ok_or_else(|| corrupt("channels", "unknown state"))?;
    let closer: Option<bool> = row.get("closer")?;
    let ids = (
        ChannelNumber(number(row, "number")?),
        NodeId(row.get("peer")?),
        ChannelId(row.get("channel_id")?),
    );
    let alias = scid(row, "alias_local")?.ok_or_else(|| corrupt("channels", "no alias"))?;
    Ok(Channel {
        state,
        announce: row.get("announce")?,
        minimum_depth: row.get("minimum_depth")?,
        initial_feerate: FeeratePerKw(row.get("initial_feerate")?),
        alias_remote: scid(row, "alias_remote")?,
        scid: scid(row, "scid")?,
        ready: Sides { local: row.get("ready_local")?, remote: row.get("ready_remote")? },
        shutdown: Sides {
            local: script(row, "shutdown_local")?,
            remote: script(row, "shutdown_remote")?,
        },
        shutdown_at: row.get::<_, Option<i64>>("shutdown_at")?.map(|id| HtlcId(id.unsigned_abs())),
        closing_begun: row.get("closing_begun")?,
        upfront: Sides {
            local: script(row, "upfront_local")?,
            remote: script(row, "upfront_remote")?,
        },
        announcement_remote: row.get("announcement_remote")?,
        funding_tx: tx(row, "funding_tx")?,
        funding_height: row.get::<_, Option<u32>>("funding_height")?.map(BlockHeight),
        was_in_block: row.get("was_in_block")?,
        closer: closer.map(|remote| if remote { Side::Remote } else { Side::Local }),
        close_by: row.get::<_, Option<i64>>("close_by")?.map(i64::unsigned_abs),
        close_asked: row.get("close_asked")?,
        close_feerange: Option::zip(
            row.get::<_, Option<u32>>("close_min_per_kw")?,
            row.get::<_, Option<u32>>("close_max_per_kw")?,
        )
        .map(|(min, max)| FeerateRange { min: FeeratePerKw(min), max: FeeratePerKw(max) }),
        close_tx: tx(row, "close_tx")?,
        spend: spend(row)?,
        cause: cause(&row.get::<_, String>("cause")?)?,
        reason: row.get("reason")?,
        trust: if row.get("lost_state")? { StateTrust::Lost } else { StateTrust::Verified },
        withheld: row.get("withheld")?,
        to_us_range: (Msat(number(row, "min_to_us_msat")?), Msat(number(row, "max_to_us_msat")?)),
        totals: Totals {
            in_offered: count(row, "in_offered")?,
            in_fulfilled: count(row, "in_fulfilled")?,
            out_offered: count(row, "out_offered")?,
            out_fulfilled: count(row, "out_fulfilled")?,
        },
        last_stable: row.get::<_, Option<i64>>("last_stable")?.map(i64::unsigned_abs),
        ..Channel::fresh(ids, live_of(row)?, alias, BlockHeight(row.get("first_height")?))
    })
}

fn load_secrets(db: &Connection, channel: &mut Channel) -> Result<(), Fatal> {
    let mut statement = db.prepare_cached(
        "SELECT commitment_index, secret FROM remote_secrets WHERE channel = ?1 ORDER BY slot",
    )?;
    let mut rows = statement.query([sql(channel.number.0)])?;
    while let Some(row) = rows.next()? {
        let secret = StoredSecret {
            index: row.get::<_, i64>(0)?.unsigned_abs(),
            secret: Secret::new(row.get(1)?),
        };
        channel.live.remote_secrets.0.push(secret);
    }
    Ok(())
}

fn load_htlcs(db: &Connection, channel: &mut Channel) -> Result<(), Fatal> {
    let mut statement = db.prepare_cached(
        "SELECT * FROM htlcs WHERE channel = ?1 AND settled = 0 ORDER BY offered_by, id",
    )?;
    let mut rows = statement.query([sql(channel.number.0)])?;
    while let Some(row) = rows.next()? {
        let removed =
            match (opt_blob::<Removal>(row, "removal")?, row.get::<_, Option<u8>>("removed")?) {
                (Some(removal), Some(stage)) => {
                    let stage = Stage::from_number(stage)
                        .ok_or_else(|| corrupt("htlcs", "unknown stage"))?;
                    Some(StagedRemoval { removal, stage })
                }
                _ => None,
            };
        let commitment = |column: &str| -> Result<Option<CommitmentNumber>, Fatal> {
            Ok(row.get::<_, Option<i64>>(column)?.map(|n| CommitmentNumber(n.unsigned_abs())))
        };
        let id = HtlcId(number(row, "id")?);
        let live = LiveHtlc {
            htlc: Htlc {
                offered_by: side(row, "offered_by")?,
                id,
                amount: Msat(number(row, "amount_msat")?),
                payment_hash: PaymentHash(row.get("payment_hash")?),
                expiry: BlockHeight(row.get("expiry")?),
            },
            onion: opt_blob::<OnionPacket>(row, "onion")?
                .ok_or_else(|| corrupt("htlcs", "a live HTLC without onion"))?,
            path_key: opt_blob(row, "path_key")?,
            key: number(row, "key")?,
            added: Stage::from_number(row.get("added")?)
                .ok_or_else(|| corrupt("htlcs", "unknown stage"))?,
            removed,
            in_remote_from: commitment("in_remote_from")?,
            in_remote_until: commitment("in_remote_until")?,
        };
        if let Some(peeled) = opt_blob::<PeeledHtlc>(row, "peeled")? {
            channel.peeled.insert(id, peeled);
        }
        if let Some(decision) = opt_blob::<Removal>(row, "decision")? {
            channel.decided.insert(id, decision);
        }
        channel.live.htlcs.0.push(live);
    }
    Ok(())
}

fn load_changes(db: &Connection, channel: &mut Channel) -> Result<(), Fatal> {
    let mut statement = db.prepare_cached(
        "SELECT timestamp, old_state, new_state, cause, message FROM state_changes WHERE channel = ?1 ORDER BY rowid",
    )?;
    let mut rows = statement.query([sql(channel.number.0)])?;
    while let Some(row) = rows.next()? {
        let state =
            |n: u8| State::from_number(n).ok_or_else(|| corrupt("state_changes", "unknown state"));
        channel.changes.push(StateChange {
            timestamp: row.get(0)?,
            old: state(row.get(1)?)?,
            new: state(row.get(2)?)?,
            cause: cause(&row.get::<_, String>(3)?)?,
            message: row.get(4)?,
        });
    }
    Ok(())
}

/// A blob column that holds a value of `wire`.
fn blob<T: Wire>(row: &Row<'_>, column: &str) -> Result<T, Fatal> {
    let bytes: Vec<u8> = row.get(column)?;
    T::from_bytes(&bytes).map_err(|e| corrupt("channels or htlcs", format!("{column}: {e}")))
}
fn opt_blob<T: Wire>(row: &Row<'_>, column: &str) -> Result<Option<T>, Fatal> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    bytes
        .map(|b| {
            T::from_bytes(&b).map_err(|e| corrupt("channels or htlcs", format!("{column}: {e}")))
        })
        .transpose()
}
fn number(row: &Row<'_>, column: &str) -> Result<u64, Fatal> {
    let n: i64 = row.get(column)?;
    u64::try_from(n).map_err(|e| corrupt("channels or htlcs", format!("{column}: {e}")))
}
fn cause(word: &str) -> Result<Cause, Fatal> {
    Cause::from_name(word).ok_or_else(|| corrupt("channels or state_changes", "unknown cause"))
}
fn side(row: &Row<'_>, column: &str) -> Result<Side, Fatal> {
    Ok(if row.get::<_, bool>(column)? { Side::Remote } else { Side::Local })
}
