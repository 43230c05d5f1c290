//! The law of BOLT 2, "Channel Establishment v1": [`judge`] is what one message may say,
//! [`agreement`] what both come to.
//!
//! openingd negotiates by it. lightningd asks it whether a proposal is worth an openingd.

pub mod agreement;
pub mod judge;
mod refusal;

pub use refusal::{MAX_TEXT, Refusal};
