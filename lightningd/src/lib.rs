//! lightningd: the master of the suite. It holds the truth (SQLite), the view of the chain,
//! JSON-RPC and plugins, and it spawns the daemons that do the rest. It never sees a secret and
//! never speaks to a peer itself.
//!
//! It stands on floors, from below: [`sys`], [`kernel`], [`rooms`], `node`, [`flows`], [`api`], and
//! on top `dispatch`, `event_loop` and `start`. A file imports from its own floor and those below;
//! ARCHITECTURE.md has the table.
#![deny(clippy::indexing_slicing)]
#![cfg_attr(
    any(test, feature = "fuzzing"),
    allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the words that it is about")
)]

/// Descriptors, processes, files, SQLite, options, the log, JSON. Nothing here knows of channels or
/// events.
mod sys {
    pub mod again;
    pub mod alias;
    pub mod args;
    pub mod backoff;
    pub mod barriers;
    pub mod children;
    pub mod db;
    pub mod disk;
    pub mod executables;
    pub mod fatal;
    pub mod files;
    pub mod form;
    pub mod hsm;
    pub mod json;
    pub mod kennel;
    pub mod listen;
    pub mod lock;
    pub mod log;
    pub mod nursery;
    pub mod objects;
    pub mod options;
    pub mod passphrase;
    pub mod revocation_log;
    pub mod sandbox;
    pub mod saved;
    pub mod socket;
    pub mod stderr;
    pub mod tokens;
    pub mod version;
}
/// What the node knows, kept in rows, and what it does about it. A room calls the rooms below it.
mod rooms {
    #[cfg(test)]
    mod alone;
    pub mod chain;
    pub mod channels;
    pub mod htlcs;
    pub mod invoices;
    pub mod onchain;
    pub mod payments;
    pub mod peers;
    pub mod wallet;
}
/// What happens across rooms, in order.
mod flows {
    pub mod backend;
    pub mod begin;
    pub mod block;
    pub mod broadcast;
    pub mod children;
    pub mod commitment;
    pub mod hooks;
    pub mod htlc;
    pub mod peer;
}
/// What clients see: arguments in, JSON out.
mod api {
    pub mod late;
    pub mod notifications;
    pub mod rpc;
}
#[cfg(test)]
mod bad_input;
mod dispatch;
mod event_loop;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod kernel;
mod node;
mod start;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "fuzz targets use a part of it"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests and fuzz targets alone")]
mod testing;

pub use start::main;
pub use sys::options::command::command;
