//! A database that somebody damaged: real rows in every table, whose columns then hold anything.

use crate::kernel::children::Supervisor;
use crate::rooms::channels::testing as channel;
use crate::start;
use crate::sys::options::Config;
use crate::testing::{Rig, hsmd};
use bitcoin::bip32::{Xpriv, Xpub};
use primitives::*;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use wire::Long;
use wire::channel_data::Stage;
use wire::channeld::Persist;

/// The longest sentence about a row.
const MAX_SENTENCE: usize = 2000;
/// Values that are written in one run, at most.
const MOST: usize = 24;

/// A transaction of one input and one output.
const TX: &str = "02000000010000000000000000000000000000000000000000000000000000000000000000\
    0000000000ffffffff01e803000000000000015100000000";

/// Rows beside those of channels and HTLCs. `TX` is [`TX`].
const ROWS: &str = "
INSERT INTO vars VALUES ('wallet_last_index', 3), ('read_from', 90), ('payments_created', 2), ('network', 'regtest');
INSERT INTO peers VALUES (zeroblob(33), '10.0.0.1', 9735);
INSERT INTO blocks VALUES (99, zeroblob(32), zeroblob(32), 1000), (100, zeroblob(32), zeroblob(32), NULL);
INSERT INTO outputs VALUES
    (zeroblob(32), 0, 100000, zeroblob(22), 1, 0, 90, NULL, NULL, 0),
    (zeroblob(32), 1, 200000, zeroblob(22), 2, 1, NULL, zeroblob(32), 95, 0);
INSERT INTO transactions VALUES (zeroblob(32), x'TX', 90, 1, 1, 1);
INSERT INTO state_changes VALUES (1, '2026-01-01T00:00:00.000Z', 3, 4, 'user', 'a change');
INSERT INTO onchain VALUES (2, 1, '{}');
INSERT INTO onchain_txs VALUES (2, zeroblob(32), 0, 95, 1, x'TX');
INSERT INTO claims VALUES (zeroblob(32), 2, 0, x'TX', 1000, 95, 96, 1);
INSERT INTO close_offers VALUES (1, zeroblob(40));
INSERT INTO remote_secrets VALUES (1, 0, 281474976710655, zeroblob(32));
INSERT INTO claim_starts VALUES (2, zeroblob(32), 0, 95);
INSERT INTO early_failures VALUES (1, 1, 2, 1000, 0);
INSERT INTO invoices VALUES (1, NULL, 'label', zeroblob(32), zeroblob(32), zeroblob(32), 1000, 'text', 'lnbcrt1', 18, 0,
    2000000000, NULL, NULL, NULL);
INSERT INTO payments VALUES (1, NULL, zeroblob(32), 0, 1, 0, 1000, 1001, 1000, NULL, 'label', NULL, NULL, 1700000000, NULL,
    NULL, x'00000000', x'00000000', 1, NULL, NULL);
INSERT INTO forwards VALUES (1, NULL, 1, 7, 0, 1001, 8, NULL, 1000, 200, 0, NULL, 1700000000000, NULL);
INSERT INTO channel_policies VALUES (1, 1, 10, 1, 1000000, 0, 2, 20, 2, 2000000, 5);
";

/// The database, made once.
pub struct Damaged {
    db: Connection,
    /// Each table with its columns.
    tables: Vec<(String, Vec<String>)>,
    xpub: Xpub,
}

/// The schema without what keeps other types and missing values out: a damaged page asks nobody.
fn loose(sql: &str) -> String {
    if !sql.starts_with("CREATE TABLE") {
        return sql.to_owned();
    }
    sql.replace("STRICT, WITHOUT ROWID", "").replace("STRICT", "").replace(" NOT NULL", "")
}

impl Default for Damaged {
    fn default() -> Self {
        Self::new()
    }
}

impl Damaged {
    /// With a few rows in every table.
    ///
    /// # Panics
    /// Where SQLite does not take what our own migrations made.
    pub fn new() -> Self {
        let mut rig = Rig::in_memory(&[(1, 1), (2, 2)], hsmd);
        for number in [1, 2] {
            for (id, by) in [(0, Side::Remote), (0, Side::Local)] {
                let live = &rig.channel(number).live;
                let key = if by == Side::Local { number } else { 0 };
                let hash = Preimage([number as u8; 32]).hash();
                let it =
                    channel::htlc(by, (id, key), (1_000_000, 200), hash, Stage::PendingOnReceiver);
                let changes = vec![channel::adds(live, it)];
                rig.persist(number, &Persist { changes, peeled: Long(vec![]) });
            }
        }
        rig.db.execute_batch(&ROWS.replace("TX", TX)).expect("rows of this version");
        let db = Connection::open_in_memory().expect("memory");
        db.pragma_update(None, "foreign_keys", false).expect("a pragma");
        let mut tables = Vec::new();
        let mut schema = rig
            .db
            .prepare("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
            .expect("a schema");
        let schema = schema
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .expect("a schema")
            .collect::<Result<Vec<(String, String, String)>, _>>()
            .expect("text");
        for (kind, name, sql) in schema {
            db.execute_batch(&loose(&sql)).expect("our own schema");
            if kind == "table" {
                let columns = copy(&rig.db, &db, &name).expect("our own rows");
                tables.push((name, columns));
            }
        }
        let key = Xpriv::new_master(bitcoin::Network::Regtest, &[1; 32]).expect("a key");
        Self { db, tables, xpub: Xpub::from_priv(secp256k1::SECP256K1, &key) }
    }

    /// Overwrites values as these bytes say, and loads every room: a sentence, or a node. Then all
    /// is as before.
    ///
    /// # Panics
    /// Where the sentence is longer than anybody reads.
    pub fn load(&self, mut bytes: &[u8]) {
        self.db.execute_batch("BEGIN").expect("no transaction is open");
        for _ in 0..MOST {
            if self.overwrite(&mut bytes).is_none() {
                break;
            }
        }
        let config = Config::for_network(Network::Regtest);
        let id = channel::peer(9);
        match start::load(config, id, self.xpub, Supervisor::default(), &self.db) {
            Ok(_) => {}
            Err(fatal) => {
                let len = fatal.0.len();
                assert!((1..MAX_SENTENCE).contains(&len), "a sentence of {len} bytes");
            }
        }
        self.db.execute_batch("ROLLBACK").expect("it is open");
    }

    fn overwrite(&self, bytes: &mut &[u8]) -> Option<()> {
        let mut byte = || {
            let (first, rest) = bytes.split_first()?;
            *bytes = rest;
            Some(*first)
        };
        let (table, column, row, kind) = (byte()?, byte()?, byte()?, byte()?);
        let (table, columns) = self.tables.get(usize::from(table) % self.tables.len())?;
        let column = columns.get(usize::from(column) % columns.len())?;
        let mut many = |most: usize| {
            let (taken, rest) = bytes.split_at(most.min(bytes.len()));
            *bytes = rest;
            taken.to_vec()
        };
        let place = format!("rowid = (SELECT rowid FROM {table} LIMIT 1 OFFSET {})", row % 4);
        let value = match kind % 9 {
            0 => Value::Null,
            1 => Value::Integer(i64::from(kind) / 9),
            2 => Value::Integer(-1 - i64::from(kind) / 9),
            3 => {
                let extremes = [i64::MAX, i64::MIN, u32::MAX.into(), 1 << 32, i32::MAX.into()];
                Value::Integer(*extremes.get(usize::from(kind / 9) % extremes.len())?)
            }
            4 => Value::Integer(i64::from_be_bytes(many(8).try_into().ok()?)),
            5 => Value::Text(String::from_utf8_lossy(&many(usize::from(kind))).into_owned()),
            6 => Value::Blob(many(usize::from(kind))),
            7 => {
                let _ = self.db.execute(&format!("DELETE FROM {table} WHERE {place}"), []);
                return Some(());
            }
            // What is there, with a few bytes changed, and perhaps its end cut off.
            _ => {
                let query = format!("SELECT {column} FROM {table} WHERE {place}");
                let there = self.db.query_row(&query, [], |row| row.get::<_, Value>(0)).ok()?;
                let Value::Blob(mut blob) = there else { return Some(()) };
                let at = usize::from(u16::from_be_bytes(many(2).try_into().ok()?));
                let at = at % (blob.len() + 1);
                let new = many(usize::from(kind / 9) % 8);
                let end = (at + new.len()).min(blob.len());
                blob.splice(at..end, new);
                if kind >= 200 {
                    blob.truncate(at);
                }
                Value::Blob(blob)
            }
        };
        // A second row of a key that is unique is no damage that SQLite would show.
        let _ =
            self.db.execute(&format!("UPDATE {table} SET {column} = ?1 WHERE {place}"), [value]);
        Some(())
    }
}

/// A table's rows; its columns.
fn copy(from: &Connection, to: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut all = from.prepare(&format!("SELECT * FROM {table}"))?;
    let columns: Vec<String> = all.column_names().map(str::to_owned).collect();
    let places = vec!["?"; columns.len()].join(", ");
    let mut insert = to.prepare(&format!("INSERT INTO {table} VALUES ({places})"))?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let values = (0..columns.len()).map(|n| row.get(n)).collect::<Result<Vec<Value>, _>>()?;
        insert.execute(params_from_iter(values))?;
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_database_is_whole_before_and_after_damage() {
        let rows = Damaged::new();
        for (table, _) in &rows.tables {
            let count = format!("SELECT count(*) FROM {table}");
            let many: u32 = rows.db.query_row(&count, [], |row| row.get(0)).unwrap();
            assert!(
                many > 0 || ["close_offers", "remote_secrets"].contains(&table.as_str()),
                "{table} has no row"
            );
        }
        let load = || {
            let config = Config::for_network(Network::Regtest);
            start::load(config, channel::peer(9), rows.xpub, Supervisor::default(), &rows.db)
        };
        assert_eq!(load().map(|node| node.channels.all.len()).map_err(|e| e.0), Ok(2));
        rows.load(&[0xff; 200]);
        assert_eq!(load().map(|node| node.channels.all.len()).map_err(|e| e.0), Ok(2));
    }
    /// Every address up to the last is derived at the start: a damaged number must not take hours
    /// of it.
    #[test]
    fn address_index_beyond_the_most_is_refused_at_load() {
        for (statement, table) in [
            ("UPDATE vars SET value = 2147483647 WHERE key = 'wallet_last_index'", "vars"),
            ("UPDATE vars SET value = 1000001 WHERE key = 'wallet_last_index'", "vars"),
            ("UPDATE outputs SET key_index = 2147483648", "outputs"),
            ("UPDATE onchain SET sweep_index = 2147483648", "onchain"),
        ] {
            let rows = Damaged::new();
            rows.db.execute_batch(statement).unwrap();
            let config = Config::for_network(Network::Regtest);
            let id = channel::peer(9);
            let loaded = start::load(config, id, rows.xpub, Supervisor::default(), &rows.db);
            let Err(fatal) = loaded else { panic!("{statement}") };
            assert!(fatal.0.contains(&format!("a row in {table} ")), "{fatal}");
        }
    }
}
