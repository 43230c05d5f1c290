//! Invoices: what a payee asks for, as a string that a person can scan. BOLT 11.
//!
//! Pure: reads strings, writes strings. It holds no key: encoding ends at what is [to be
//! signed](Unsigned), and goes on with the signature that hsmd made. It asks no clock: whether an
//! invoice has expired is the caller's question. What it reads comes from strangers; nothing here
//! panics on it, and every length is checked before it is believed.
#![deny(clippy::indexing_slicing)]

mod amount;
mod decode;
mod encode;
mod fives;
mod terms;

pub use decode::{Invoice, InvoiceError};
pub use encode::{EncodeError, Unsigned, signing_hash};
pub use fives::MAX_LEN;
pub use terms::{
    Currency, DEFAULT_EXPIRY_SECONDS, DEFAULT_MIN_FINAL_CLTV, Description, Fallback, RouteHint,
    Terms, UnknownField,
};

#[cfg(test)]
mod tests;
