//! lightningd: the master of the suite. It holds the truth (SQLite), the view of the chain, JSON-RPC and plugins, and it
//! spawns the daemons that do the rest. It never sees a secret and never speaks to a peer itself.
//!
//! Rooms are folders: `mod.rs` has a room's state and events, `store.rs` its SQL and nobody else's, `rpc.rs` its methods.
//! On top: [`start`] (start-up as a table of contents), `node` (the struct of rooms), `turn`, `event_loop`, `events`.
#![deny(clippy::indexing_slicing)]

mod again;
mod backoff;
#[cfg(test)]
mod bad_input;
mod barriers;
mod chain;
mod channels;
mod children;
mod db;
mod disk;
mod dispatch;
mod event_loop;
mod events;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hsm;
mod htlcs;
mod invoices;
mod json;
mod log;
mod node;
mod objects;
mod onchain;
mod options;
mod passphrase;
mod payments;
mod peers;
mod plugin_host;
mod rpc;
mod rpc_server;
mod sandbox;
mod start;
mod supervisor;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), allow(dead_code))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod testing;
mod turn;
mod waits;
mod wallet;

pub use start::main;
