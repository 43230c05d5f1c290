//! BOLT 8: the three acts that make two strangers sure of each other, and the ciphers that follow.
//!
//! ```text
//!   Initiator::start ──act one──►  Responder::act_one ──► asks HKDF(ck, ECDH(node key, point))
//!                    ◄──act two──       ResponderAsks::answer
//!   Initiator::act_two ──► asks HKDF(ck, ECDH(node key, point))
//!   InitiatorAsks::answer ──act three──►  ResponderWaits::act_three
//!   Transport                                    Transport
//! ```
//!
//! The node's secret never enters this crate. Where the protocol needs a Diffie-Hellman with it,
//! the machine stops as a value that has the question ([`wire::hsm::MixEcdh`]: point and chaining
//! key); whoever holds the secret mixes the two and answers with both new keys. The 32 shared bytes
//! themselves are not needed, and would open onions. Ephemeral keys come in as values as well:
//! nothing here draws randomness, reads a clock or touches a socket.
#![deny(clippy::indexing_slicing)]

mod handshake;
mod symmetric;
mod transport;

pub use handshake::{
    ACT_ONE_LEN, ACT_THREE_LEN, ACT_TWO_LEN, Act, HandshakeError, Initiator, InitiatorAsks,
    Responder, ResponderAsks, ResponderWaits,
};
pub use symmetric::mix;
pub use transport::{
    HEADER_LEN, MAX_MESSAGE, OpenError, Opener, Sealer, TAG_LEN, TooLong, Transport, sealed_len,
};

#[cfg(test)]
mod vectors;
