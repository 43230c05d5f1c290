//! The peers' rows: where each was last reached.

use super::{Peer, Peers};
use crate::sys::fatal::Fatal;
use primitives::NodeId;
use rusqlite::{Connection, params};
use wire::connectd::Address;

/// Everybody we have dialled.
pub fn load(db: &Connection) -> Result<Peers, Fatal> {
    let mut peers = Peers::default();
    let mut statement = db.prepare("SELECT node_id, host, port FROM peers")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let address = Address { host: row.get(1)?, port: row.get(2)? };
        peers.all.insert(NodeId(row.get(0)?), Peer { address: Some(address), ..Peer::default() });
    }
    Ok(peers)
}

pub fn put(db: &Connection, node: NodeId, address: &Address) -> Result<(), Fatal> {
    db.prepare_cached(
        "INSERT INTO peers (node_id, host, port) VALUES (?1, ?2, ?3)
         ON CONFLICT (node_id) DO UPDATE SET host = excluded.host, port = excluded.port",
    )?
    .execute(params![node.0, address.host, address.port])?;
    Ok(())
}
