//! What a node's database costs: bytes of revoked state, and the start with a thousand channels.

use rusqlite::Connection;
use std::path::Path;
use std::time::Instant;
use tests::Node;

const CHANNELS: u32 = 1000;
/// Settled HTLCs that each of them brings along.
const HTLCS_EACH: u32 = 100;

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).expect("a stopped node's database opens");
    db.pragma_update(None, "foreign_keys", false).expect("a pragma");
    db
}

/// Bytes of the file after everything that is free was given back.
fn vacuumed(db: &Connection) -> f64 {
    db.execute_batch("PRAGMA journal_mode = DELETE; VACUUM;").expect("a vacuum");
    let pages: i64 = db.pragma_query_value(None, "page_count", |r| r.get(0)).expect("a count");
    let size: i64 = db.pragma_query_value(None, "page_size", |r| r.get(0)).expect("a size");
    (pages * size) as f64
}

fn count(db: &Connection, sql: &str) -> f64 {
    db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a count") as f64
}

/// What everything that a penalty needs takes, by what the file loses with it. The node must be
/// stopped.
pub fn revoked_state(node: &Node) {
    let copy = node.network_dir().join("copy.sqlite3");
    std::fs::copy(node.network_dir().join("lightningd.sqlite3"), &copy).expect("a copy");
    let db = open(&copy);
    let whole = vacuumed(&db);
    let htlcs = count(&db, "SELECT count(*) FROM htlcs WHERE settled = 1");
    let commitments = count(&db, "SELECT sum(remote_revoked) FROM channels");
    db.execute("DELETE FROM htlcs WHERE settled = 1", []).expect("a delete");
    let without_htlcs = vacuumed(&db);
    db.execute("DELETE FROM remote_secrets", []).expect("a delete");
    let without_both = vacuumed(&db);
    println!(
        "  revoked state on disk: {:.1} bytes an HTLC (of {htlcs}), {:.3} bytes a commitment (of {commitments})",
        (whole - without_htlcs) / htlcs.max(1.0),
        (without_htlcs - without_both) / commitments.max(1.0)
    );
    drop(db);
    std::fs::remove_file(&copy).expect("the copy is ours");
}

/// Columns of a table, with some of them replaced.
fn columns(db: &Connection, table: &str, replaced: &[(&str, &str)]) -> String {
    let mut statement = db.prepare(&format!("PRAGMA table_info({table})")).expect("a table");
    let names = statement.query_map([], |row| row.get::<_, String>(1)).expect("its columns");
    let names: Vec<String> = names.map(|n| n.expect("a name")).collect();
    let value = |n: &String| {
        replaced.iter().find(|(r, _)| r == n).map_or_else(|| n.clone(), |(_, v)| (*v).to_owned())
    };
    names.iter().map(value).collect::<Vec<_>>().join(", ")
}

/// Puts a thousand copies of the node's one channel into its database, and starts it with them.
/// Their peer must be gone.
pub fn thousand_channels(node: &Node) {
    let db = open(&node.network_dir().join("lightningd.sqlite3"));
    let channels = columns(
        &db,
        "channels",
        &[
            ("number", "?1"),
            ("channel_id", "randomblob(32)"),
            ("funding_txid", "randomblob(32)"),
            ("alias_local", "random()"),
            ("scid", "random()"),
        ],
    );
    let htlcs = columns(
        &db,
        "htlcs",
        &[("channel", "?1"), ("key", "0"), ("created_index", "created_index + 10000000 * ?1")],
    );
    let secrets = columns(&db, "remote_secrets", &[("channel", "?1")]);
    db.execute_batch("BEGIN").expect("a transaction");
    let source = count(&db, "SELECT min(number) FROM channels") as i64;
    for n in 0..CHANNELS {
        let number = 1_000_000 + i64::from(n);
        for sql in [
            format!("INSERT INTO channels SELECT {channels} FROM channels WHERE number = ?2"),
            format!(
                "INSERT INTO htlcs SELECT {htlcs} FROM htlcs WHERE channel = ?2 AND settled = 1 LIMIT {HTLCS_EACH}"
            ),
            format!(
                "INSERT INTO remote_secrets SELECT {secrets} FROM remote_secrets WHERE channel = ?2"
            ),
        ] {
            db.execute(&sql, [number, source]).expect("a copy of rows");
        }
    }
    db.execute_batch("COMMIT").expect("a commit");
    drop(db);
    let begun = Instant::now();
    node.start_again();
    let info = node.rpc("getinfo", &serde_json::json!({}));
    let took = begun.elapsed();
    let number = |name: &str| info[name].as_u64().unwrap_or_default();
    println!(
        "  start with {CHANNELS} channels: getinfo after {:.0} ms ({} active, {} inactive)",
        took.as_secs_f64() * 1000.0,
        number("num_active_channels"),
        number("num_inactive_channels"),
    );
    crate::measure::memory("with a thousand channels", node);
}
