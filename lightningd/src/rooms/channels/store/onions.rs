//! HMACs of received onions, in the rows of the HTLCs that had them first. BOLT 4, "Onion
//! Decryption".

use crate::sys::db::sql;
use crate::sys::fatal::Fatal;
use primitives::*;
use rusqlite::{Connection, params};

/// Blocks for which an HMAC stays after its HTLC has expired: more than any reorganisation takes
/// back.
const KEPT_AFTER_EXPIRY: u32 = 144;
/// HMACs that one block forgets at most. The next one goes on.
const FORGOTTEN_PER_BLOCK: u32 = 10_000;

/// Is there another received HTLC, live or settled, whose onion had this HMAC? If there is none,
/// this HTLC is remembered as the one that has. HTLCs without an onion to read are not.
pub fn is_replayed(
    db: &Connection,
    channel: ChannelNumber,
    id: HtlcId,
    hmac: &[u8; 32],
) -> Result<bool, Fatal> {
    let others: i64 = db
        .prepare_cached(
            "SELECT count(*) FROM htlcs WHERE onion_hmac = ?1 AND NOT (channel = ?2 AND id = ?3)",
        )?
        .query_row(params![hmac, sql(channel.0), sql(id.0)], |row| row.get(0))?;
    if others > 0 {
        return Ok(true);
    }
    db.prepare_cached(
        "UPDATE htlcs SET onion_hmac = ?3 WHERE channel = ?1 AND offered_by = 1 AND id = ?2",
    )?
    .execute(params![sql(channel.0), sql(id.0), hmac])?;
    Ok(false)
}

/// BOLT 4, "Onion Decryption": an HMAC may be forgotten once its HTLC has expired: a forward of the
/// same onion would leave with an expiry that is past, and so is refused.
pub fn forget_expired_onions(db: &Connection, tip: BlockHeight) -> Result<(), Fatal> {
    let Some(expired) = tip.0.checked_sub(KEPT_AFTER_EXPIRY) else { return Ok(()) };
    db.prepare_cached(FORGET)?.execute(params![expired, FORGOTTEN_PER_BLOCK])?;
    Ok(())
}

/// Its subquery reads the index `htlcs_by_onion_expiry` and nothing else.
const FORGET: &str = "UPDATE htlcs SET onion_hmac = NULL WHERE (channel, offered_by, id) IN
    (SELECT channel, offered_by, id FROM htlcs WHERE onion_hmac IS NOT NULL AND expiry < ?1 ORDER BY expiry LIMIT ?2)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;

    #[test]
    fn expired_hmacs_are_found_by_their_index() {
        let rig = Rig::new("hmac-index", &[]);
        let mut plan = rig.db.prepare(&format!("EXPLAIN QUERY PLAN {FORGET}")).unwrap();
        let steps = plan.query_map(params![1, 1], |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        assert!(steps.iter().any(|s| s.contains("htlcs_by_onion_expiry")), "{steps:?}");
        assert!(!steps.iter().any(|s| s.starts_with("SCAN htlcs")), "{steps:?}");
    }
}
