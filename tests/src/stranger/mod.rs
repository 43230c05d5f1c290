//! A peer that speaks BOLT by hand, so that it can lie: at any step, in any field, in any order.
//!
//! [`Connection`] is the line, [`Stranger`] who is at its other end, [`Draft`] an opening
//! half-way, [`Live`] an open channel. By itself it is honest, and checks what the node says as an
//! honest peer would; tests make it deviate. It forgets nothing:
//! [`Live`] keeps every commitment that was ever signed for it, and signs whatever spends one of
//! them.

mod announcement;
mod connection;
mod keys;
mod live;
mod miner;
mod onions;
mod opening;
mod person;
mod spends;
mod world;

pub use connection::{Connection, Gone};
pub use keys::{Keys, key, sign_anything};
pub use live::{Live, Mine};
pub use miner::{miner_key, miner_script, sign_miner_input};
pub use onions::{Onion, forward_onion, onion_to, raw_onion};
pub use opening::{Draft, Plan, channel_type};
pub use person::Stranger;
pub use spends::Spend;
pub use world::{Call, World};
