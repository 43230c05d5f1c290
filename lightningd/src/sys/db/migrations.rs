//! The schema, as numbered steps that are only ever appended to. `user_version` is how many were
//! taken.

use crate::sys::fatal::Fatal;
use rusqlite::Connection;
use std::path::Path;

/// Step n makes version n+1 of version n. Never change one that was released: append.
const STEPS: &[&str] = &[
    "
CREATE TABLE vars (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE peers (
    node_id BLOB PRIMARY KEY,
    host TEXT NOT NULL,
    port INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE blocks (
    height INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    prev_hash BLOB NOT NULL
) STRICT;

CREATE TABLE outputs (
    txid BLOB NOT NULL,
    vout INTEGER NOT NULL,
    amount_sat INTEGER NOT NULL,
    script BLOB NOT NULL,
    key_index INTEGER NOT NULL,
    is_coinbase INTEGER NOT NULL,
    confirmed_height INTEGER,
    spent_txid BLOB,
    spent_height INTEGER,
    reserved_until INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (txid, vout)
) STRICT, WITHOUT ROWID;
CREATE INDEX outputs_by_spender ON outputs (spent_txid) WHERE spent_txid IS NOT NULL;

CREATE TABLE transactions (
    txid BLOB PRIMARY KEY,
    raw BLOB NOT NULL,
    height INTEGER,
    tx_index INTEGER,
    broadcast INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE channels (
    number INTEGER PRIMARY KEY,
    peer BLOB NOT NULL,
    channel_id BLOB NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    opener INTEGER NOT NULL,
    closer INTEGER,
    announce INTEGER NOT NULL,
    funding_txid BLOB NOT NULL,
    funding_vout INTEGER NOT NULL,
    amount_sat INTEGER NOT NULL,
    push_msat INTEGER NOT NULL,
    channel_type BLOB NOT NULL,
    terms BLOB NOT NULL,
    basepoints BLOB NOT NULL,
    minimum_depth INTEGER NOT NULL,
    initial_feerate INTEGER NOT NULL,
    local_msat INTEGER NOT NULL,
    remote_msat INTEGER NOT NULL,
    next_local_id INTEGER NOT NULL,
    next_remote_id INTEGER NOT NULL,
    local_commitment INTEGER NOT NULL,
    remote_commitment INTEGER NOT NULL,
    local_revoked INTEGER NOT NULL,
    remote_revoked INTEGER NOT NULL,
    remote_point BLOB NOT NULL,
    remote_next_point BLOB,
    local_signatures BLOB NOT NULL,
    fees BLOB NOT NULL,
    last_sent INTEGER NOT NULL,
    alias_local INTEGER NOT NULL,
    alias_remote INTEGER,
    scid INTEGER,
    ready_local INTEGER NOT NULL DEFAULT 0,
    ready_remote INTEGER NOT NULL DEFAULT 0,
    shutdown_local BLOB,
    shutdown_remote BLOB,
    upfront_local BLOB,
    upfront_remote BLOB,
    announcement_remote BLOB,
    funding_tx BLOB,
    funding_height INTEGER,
    first_height INTEGER NOT NULL,
    close_tx BLOB,
    spend_txid BLOB,
    spend_height INTEGER,
    cause TEXT NOT NULL,
    reason TEXT NOT NULL,
    lost_state INTEGER NOT NULL DEFAULT 0,
    withheld INTEGER NOT NULL DEFAULT 0,
    min_to_us_msat INTEGER NOT NULL,
    max_to_us_msat INTEGER NOT NULL,
    in_offered INTEGER NOT NULL DEFAULT 0,
    in_offered_msat INTEGER NOT NULL DEFAULT 0,
    in_fulfilled INTEGER NOT NULL DEFAULT 0,
    in_fulfilled_msat INTEGER NOT NULL DEFAULT 0,
    out_offered INTEGER NOT NULL DEFAULT 0,
    out_offered_msat INTEGER NOT NULL DEFAULT 0,
    out_fulfilled INTEGER NOT NULL DEFAULT 0,
    out_fulfilled_msat INTEGER NOT NULL DEFAULT 0,
    last_stable INTEGER
) STRICT;
CREATE UNIQUE INDEX channels_by_funding ON channels (funding_txid, funding_vout);

CREATE TABLE state_changes (
    channel INTEGER NOT NULL REFERENCES channels (number) ON DELETE CASCADE,
    timestamp TEXT NOT NULL,
    old_state INTEGER NOT NULL,
    new_state INTEGER NOT NULL,
    cause TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;
CREATE INDEX state_changes_by_channel ON state_changes (channel);

CREATE TABLE close_offers (
    channel INTEGER NOT NULL REFERENCES channels (number) ON DELETE CASCADE,
    state BLOB NOT NULL,
    PRIMARY KEY (channel, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE htlcs (
    channel INTEGER NOT NULL REFERENCES channels (number) ON DELETE CASCADE,
    offered_by INTEGER NOT NULL,
    id INTEGER NOT NULL,
    amount_msat INTEGER NOT NULL,
    payment_hash BLOB NOT NULL,
    expiry INTEGER NOT NULL,
    key INTEGER NOT NULL,
    added INTEGER NOT NULL,
    removal BLOB,
    removed INTEGER,
    in_remote_from INTEGER,
    in_remote_until INTEGER,
    settled INTEGER NOT NULL DEFAULT 0,
    onion BLOB,
    path_key BLOB,
    peeled BLOB,
    decision BLOB,
    PRIMARY KEY (channel, offered_by, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX htlcs_by_key ON htlcs (key) WHERE key != 0;

CREATE TABLE remote_secrets (
    channel INTEGER NOT NULL REFERENCES channels (number) ON DELETE CASCADE,
    slot INTEGER NOT NULL,
    commitment_index INTEGER NOT NULL,
    secret BLOB NOT NULL,
    PRIMARY KEY (channel, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE onchain (
    channel INTEGER PRIMARY KEY REFERENCES channels (number) ON DELETE CASCADE,
    sweep_index INTEGER,
    evidence TEXT
) STRICT;

CREATE TABLE onchain_txs (
    channel INTEGER NOT NULL REFERENCES channels (number) ON DELETE CASCADE,
    txid BLOB NOT NULL,
    level INTEGER NOT NULL,
    height INTEGER NOT NULL,
    position INTEGER NOT NULL,
    raw BLOB NOT NULL,
    PRIMARY KEY (channel, txid)
) STRICT, WITHOUT ROWID;
CREATE INDEX onchain_txs_by_height ON onchain_txs (height);

CREATE TABLE claims (
    txid BLOB PRIMARY KEY,
    channel INTEGER NOT NULL REFERENCES channels (number) ON DELETE CASCADE,
    kind INTEGER NOT NULL,
    raw BLOB NOT NULL,
    feerate INTEGER NOT NULL,
    first_height INTEGER NOT NULL,
    height INTEGER NOT NULL,
    claims INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_by_channel ON claims (channel);

CREATE TABLE invoices (
    created_index INTEGER PRIMARY KEY,
    updated_index INTEGER,
    label TEXT NOT NULL UNIQUE,
    payment_hash BLOB NOT NULL UNIQUE,
    preimage BLOB NOT NULL,
    payment_secret BLOB NOT NULL,
    amount_msat INTEGER,
    description TEXT,
    bolt11 TEXT NOT NULL,
    min_final_cltv INTEGER NOT NULL,
    state INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    pay_index INTEGER UNIQUE,
    received_msat INTEGER,
    paid_at INTEGER
) STRICT;

CREATE TABLE payments (
    created_index INTEGER PRIMARY KEY,
    updated_index INTEGER,
    payment_hash BLOB NOT NULL,
    partid INTEGER NOT NULL,
    groupid INTEGER NOT NULL,
    status INTEGER NOT NULL,
    amount_msat INTEGER,
    amount_sent_msat INTEGER NOT NULL,
    total_msat INTEGER NOT NULL,
    destination BLOB,
    label TEXT,
    bolt11 TEXT,
    description TEXT,
    created_at INTEGER NOT NULL,
    completed_at INTEGER,
    preimage BLOB,
    secrets BLOB NOT NULL,
    route BLOB NOT NULL,
    channel INTEGER NOT NULL,
    failure TEXT,
    erroronion BLOB,
    UNIQUE (payment_hash, groupid, partid)
) STRICT;
",
    "
CREATE TABLE forwards (
    created_index INTEGER PRIMARY KEY,
    updated_index INTEGER,
    in_channel INTEGER NOT NULL,
    in_scid INTEGER NOT NULL,
    in_id INTEGER NOT NULL,
    in_msat INTEGER NOT NULL,
    out_scid INTEGER NOT NULL,
    out_id INTEGER,
    out_msat INTEGER,
    out_expiry INTEGER,
    status INTEGER NOT NULL,
    failcode INTEGER,
    received_ms INTEGER NOT NULL,
    resolved_ms INTEGER,
    UNIQUE (in_channel, in_id)
) STRICT;
CREATE UNIQUE INDEX forwards_by_update ON forwards (updated_index) WHERE updated_index IS NOT NULL;
CREATE INDEX forwards_under_way ON forwards (created_index) WHERE status = 0;

CREATE TABLE channel_policies (
    channel INTEGER PRIMARY KEY REFERENCES channels (number) ON DELETE CASCADE,
    fee_base_msat INTEGER,
    fee_ppm INTEGER,
    htlc_min_msat INTEGER,
    htlc_max_msat INTEGER,
    ignore_fee_limits INTEGER,
    before_fee_base_msat INTEGER,
    before_fee_ppm INTEGER,
    before_htlc_min_msat INTEGER,
    before_htlc_max_msat INTEGER,
    before_until INTEGER
) STRICT;

ALTER TABLE htlcs ADD COLUMN created_index INTEGER;
UPDATE htlcs SET created_index = n FROM
    (SELECT channel AS c, offered_by AS o, id AS i, row_number() OVER (ORDER BY channel, offered_by, id) AS n FROM htlcs)
    WHERE channel = c AND offered_by = o AND id = i;
INSERT INTO vars (key, value) SELECT 'htlcs_created', count(*) FROM htlcs;
CREATE UNIQUE INDEX htlcs_by_creation ON htlcs (created_index) WHERE created_index IS NOT NULL;
",
    "
ALTER TABLE channels ADD COLUMN close_by INTEGER;
",
    "
ALTER TABLE channels ADD COLUMN close_min_per_kw INTEGER;
ALTER TABLE channels ADD COLUMN close_max_per_kw INTEGER;
",
    "
ALTER TABLE blocks ADD COLUMN time INTEGER;
",
    "
ALTER TABLE channels ADD COLUMN shutdown_at INTEGER;
ALTER TABLE channels ADD COLUMN closing_begun INTEGER NOT NULL DEFAULT 0;
UPDATE channels SET closing_begun = 1 WHERE state = 6 OR number IN (SELECT channel FROM close_offers);
",
    "
CREATE TABLE early_failures (
    forward INTEGER PRIMARY KEY,
    in_channel INTEGER NOT NULL,
    out_channel INTEGER NOT NULL,
    msat INTEGER NOT NULL,
    lost INTEGER NOT NULL
) STRICT;
",
    "
ALTER TABLE transactions ADD COLUMN untaken INTEGER;
",
    "
ALTER TABLE htlcs ADD COLUMN onion_hmac BLOB;
UPDATE htlcs SET onion_hmac = substr(onion, 1335, 32) WHERE offered_by = 1 AND onion IS NOT NULL;
CREATE INDEX htlcs_by_onion ON htlcs (onion_hmac) WHERE onion_hmac IS NOT NULL;
",
    "
CREATE TABLE claim_starts (
    channel INTEGER NOT NULL,
    txid BLOB NOT NULL,
    vout INTEGER NOT NULL,
    first_height INTEGER NOT NULL,
    PRIMARY KEY (txid, vout)
) STRICT, WITHOUT ROWID;
",
    "
CREATE INDEX htlcs_by_onion_expiry ON htlcs (expiry) WHERE onion_hmac IS NOT NULL;
",
    "
ALTER TABLE channels ADD COLUMN close_asked INTEGER NOT NULL DEFAULT 0;
",
    "
ALTER TABLE channels ADD COLUMN was_in_block INTEGER NOT NULL DEFAULT 0;
UPDATE channels SET was_in_block = 1 WHERE funding_height IS NOT NULL OR ready_local = 1;
",
];

/// Brings the database to this program's version, each step in a transaction of its own.
pub(super) fn run(db: &Connection, path: &Path) -> Result<(), Fatal> {
    let shown = path.display();
    let mine = |e: rusqlite::Error| Fatal(format!("{shown}: {e}"));
    let version: i64 =
        db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(mine)?;
    let version = usize::try_from(version)
        .map_err(|_| Fatal(format!("{shown}: version {version} is none that ever was")))?;
    if version > STEPS.len() {
        return Err(Fatal(format!(
            "{shown}: this database is of version {version}, made by a newer lightningd; this one knows {} at most. \
             Install the newer lightningd again: a database never goes back",
            STEPS.len()
        )));
    }
    for (step, sql) in STEPS.iter().enumerate().skip(version) {
        db.execute_batch(&format!(
            "BEGIN EXCLUSIVE; {sql}; PRAGMA user_version = {}; COMMIT;",
            step + 1
        ))
        .map_err(mine)?;
    }
    Ok(())
}
