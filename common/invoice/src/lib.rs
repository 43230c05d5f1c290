//! Invoices: what a payee asks for, as a string that a person can scan. BOLT 11.
//!
//! Pure: reads strings, writes strings. It holds no key: encoding ends at what is [to be signed](Unsigned), and goes on
//! with the signature that hsmd made. It asks no clock: whether an invoice has expired is the caller's question.
//! What it reads comes from strangers; nothing here panics on it, and every length is checked before it is believed.
#![deny(clippy::indexing_slicing)]

mod amount;
mod decode;
mod encode;
mod fives;
mod terms;

pub use decode::{Invoice, InvoiceError};
pub use encode::{EncodeError, Unsigned, signing_hash};
pub use terms::{Currency, Description, Fallback, RouteHint, Terms, UnknownField};

/// The longest string that is read as an invoice: several times what fits a QR code, and what fields a payment's onion
/// could use.
pub const MAX_LEN: usize = 16 * 1024;

/// How long an invoice is good for if it does not say. BOLT 11, "Tagged Fields", `x`.
pub const DEFAULT_EXPIRY_SECONDS: u64 = 3600;
/// The last HTLC's least expiry delta if the invoice does not say. BOLT 11, "Tagged Fields", `c`.
pub const DEFAULT_MIN_FINAL_CLTV: primitives::CltvDelta = primitives::CltvDelta(18);

#[cfg(test)]
mod tests;
