//! Every message of the suite: those of the BOLTs and those between our own processes, as tables.
//!
//! Data that crosses a process border is defined here or below; behaviour lives above. This crate
//! reads and writes bytes that are in memory: it has no sockets, keeps no state, and never panics
//! on what it is given.
#![deny(clippy::indexing_slicing)]

mod bolt1;
mod bolt2;
mod bolt7;
pub mod channel_data;
pub mod channeld;
pub mod closingd;
mod codec;
pub mod connectd;
pub mod daemon;
pub mod hsm;
pub mod onchaind;
pub mod openingd;
#[cfg(test)]
mod sample;
mod tables;
pub mod tlv;

pub use bolt1::*;
pub use bolt2::*;
pub use bolt7::*;
pub use codec::*;
pub use tables::{Decoded, MAX_FRAME, Message, Request, Row};

/// The version that lightningd and a child compare first: a hash over the text of every table of
/// this crate.
pub const VERSION: u64 = {
    let hash = hash_text(0xcbf2_9ce4_8422_2325, include_bytes!("bolt1.rs"));
    let hash = hash_text(hash, include_bytes!("bolt2.rs"));
    let hash = hash_text(hash, include_bytes!("bolt7.rs"));
    let hash = hash_text(hash, include_bytes!("channel_data.rs"));
    let hash = hash_text(hash, include_bytes!("channeld.rs"));
    let hash = hash_text(hash, include_bytes!("closingd.rs"));
    let hash = hash_text(hash, include_bytes!("codec.rs"));
    let hash = hash_text(hash, include_bytes!("connectd.rs"));
    let hash = hash_text(hash, include_bytes!("daemon.rs"));
    let hash = hash_text(hash, include_bytes!("hsm.rs"));
    let hash = hash_text(hash, include_bytes!("onchaind.rs"));
    let hash = hash_text(hash, include_bytes!("openingd.rs"));
    hash_text(hash, include_bytes!("tables.rs"))
};

/// FNV-1a: told apart, not defended.
#[allow(
    clippy::indexing_slicing,
    reason = "const code over our own text: a wrong index does not compile"
)]
const fn hash_text(mut hash: u64, text: &[u8]) -> u64 {
    let mut i = 0;
    while i < text.len() {
        hash = (hash ^ text[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests;
