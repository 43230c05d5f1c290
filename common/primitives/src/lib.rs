//! The values of the suite: amounts, heights, ids, sides, secrets, networks, features, token
//! buckets; and HKDF.
//!
//! Every crate may use it, and it uses none of them. It does no I/O, asks no clock and no
//! randomness, and knows no byte format: that is `wire`'s.
#![deny(clippy::indexing_slicing)]

mod amount;
mod bucket;
mod chain;
pub mod feature;
mod features;
mod hkdf;
mod ids;
mod network;
mod object_end;
mod secret;
mod side;
mod source;
mod text;

pub use amount::{AmountError, FeeratePerKw, Msat, Sat};
pub use bucket::Bucket;
pub use chain::{BlockHeight, CltvDelta, FeatureBit, ShortChannelId};
pub use features::Features;
pub use hkdf::hkdf;
pub use ids::{
    ChannelId, ChannelNumber, CommitmentNumber, HtlcId, NodeId, PaymentHash, PaymentSecret,
    Preimage, Sha256Digest,
};
pub use network::Network;
pub use object_end::ObjectEnd;
pub use secret::{Secret, SecretBytes, SigningKey};
pub use side::{Side, Sides};
pub use source::Source;
pub use text::{MAX_CUT_TEXT, cut_text};

pub use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
pub use secp256k1::{PublicKey as Point, SecretKey, ecdsa::Signature};
