//! Onions: how a payment's route is wrapped for each hop alone, and how a failure finds its way
//! back. BOLT 4.
//!
//! Pure: session keys come in as values, and so do the keys that hsmd derives from the node key.
//! This crate never sees the node key, keeps no state, opens no socket and asks no clock and no
//! randomness. What it reads comes from strangers: every length is checked before it is believed,
//! and nothing here panics on what was read.
#![deny(clippy::indexing_slicing)]

mod build;
mod error_packet;
mod failure;
mod keys;
mod packet;
mod payload;

pub use build::{BuildError, Built, Hop, build};
pub use error_packet::{MAX_HOPS, Unwrapped, begin_error, unwrap_error, wrap_error};
pub use failure::Failure;
pub use keys::{OriginKeys, blind_ephemeral, onion_keys, shared_secret};
pub use packet::{ONION_OVERHEAD, Peeled, ephemeral, peel, sha256_of_onion};
pub use payload::{BlindedPayload, FinalPayload, ForwardPayload, Payload, PayloadError, tlv};

/// Bytes of routing information in an onion that `update_add_htlc` carries. BOLT 4, "Packet
/// Structure".
pub const ROUTING_INFO_LEN: usize = 1300;

#[cfg(test)]
mod tests;
