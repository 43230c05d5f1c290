//! The one process with secrets. It reads (or first makes) `hsm_secret`, derives every key from it
//! as Core Lightning does, and answers its clients' questions: each by the right written in its row
//! of `wire::hsm`.
//!
//! It is a judge, not a stamp: it signs descriptions, builds each transaction itself, and keeps for
//! every channel what may never be undone (`judge`). It waits for nobody, stores nothing but the
//! secret file, and never answers half a question.
//!
//! //~ Second stop of the tour: after lightningd's start-up, before connectd.
#![deny(clippy::indexing_slicing)]

mod answer;
mod arriving;
mod blinding;
mod channel;
mod channel_keys;
mod claims;
mod clients;
mod derive;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod judge;
mod messages;
mod refusal;
mod secret_file;
mod wallet;

pub use clients::run;

#[cfg(test)]
mod cln_vectors;
#[cfg(test)]
mod tests;
