//! Identifiers on the wire and in the database.

use std::{fmt, str::FromStr};

macro_rules! bytes_id {
    ($(#[$m:meta])* $name:ident, $len:literal) => {
        $(#[$m])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(s: &str) -> Result<Self, String> {
                <[u8; $len] as hex::FromHex>::from_hex(s).map(Self)
                    .map_err(|e| format!("'{s}' is not {} hexadecimal bytes: {e}", $len))
            }
        }
    };
}
bytes_id!(
    /// Which channel a BOLT 2 message is about. BOLT 2, "Definition of channel_id".
    ChannelId, 32
);
bytes_id!(
    /// The SHA256 of the preimage that claims an HTLC.
    PaymentHash, 32
);
bytes_id!(
    /// A SHA256 of something else than a payment.
    Sha256Digest, 32
);
bytes_id!(
    /// A node's id: its compressed public key. Not checked to be a point; parse it where that
    /// matters.
    NodeId, 33
);

impl ChannelId {
    /// BOLT 1: an `error` with this id concerns every channel with the peer.
    pub const ALL: Self = Self([0; 32]);

    /// BOLT 2, "Definition of channel_id": the funding txid, its last two bytes XORed with the
    /// output's index.
    pub fn from_funding(funding: &bitcoin::OutPoint) -> Self {
        let mut id = *AsRef::<[u8; 32]>::as_ref(&funding.txid);
        let [.., high, low] = &mut id;
        *high ^= (funding.vout >> 8) as u8;
        *low ^= funding.vout as u8;
        Self(id)
    }
}

impl From<secp256k1::PublicKey> for NodeId {
    fn from(key: secp256k1::PublicKey) -> Self {
        Self(key.serialize())
    }
}
impl NodeId {
    /// The point this id names, if it is one.
    pub fn point(&self) -> Option<secp256k1::PublicKey> {
        secp256k1::PublicKey::from_slice(&self.0).ok()
    }
}

macro_rules! secret_id {
    ($(#[$m:meta])* $name:ident) => {
        $(#[$m])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; 32]);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(concat!(stringify!($name), "(..)")) }
        }
    };
}
secret_id!(
    /// The preimage that claims an HTLC: its SHA256 is the payment hash. `Debug` hides it.
    Preimage
);
secret_id!(
    /// BOLT 11 `s`: shows that an onion comes from whoever holds the invoice. `Debug` hides it.
    PaymentSecret
);

impl Preimage {
    /// The hash that this opens.
    pub fn hash(&self) -> PaymentHash {
        use bitcoin::hashes::{Hash, sha256};
        PaymentHash(sha256::Hash::hash(&self.0).to_byte_array())
    }
}

macro_rules! counter {
    ($(#[$m:meta])* $name:ident) => {
        $(#[$m])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
    };
}
counter!(
    /// An HTLC's number among those its sender offered in this channel, from 0. With channel and
    /// direction, its identity.
    HtlcId
);
counter!(
    /// The master's number for a channel. It feeds key derivation and is never used twice, deleted
    /// channels included.
    ChannelNumber
);
counter!(
    /// A commitment's number, from 0. At most 2^48 - 1 (BOLT 3, "Per-commitment Secret
    /// Requirements").
    CommitmentNumber
);

impl CommitmentNumber {
    /// The commitment that `open_channel` begins with.
    pub const FIRST: Self = Self(0);
    /// The last there can be.
    pub const LAST: Self = Self((1 << 48) - 1);
    /// The one after it; stays at [`Self::LAST`], which nobody reaches.
    pub fn next(self) -> Self {
        Self((self.0 + 1).min(Self::LAST.0))
    }
    /// The one before it, if this is not the first.
    pub fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_id_is_the_funding_outpoint_folded() {
        let mut txid = [0x11; 32];
        txid[31] = 0xf0;
        let funding =
            bitcoin::OutPoint { txid: bitcoin::hashes::Hash::from_byte_array(txid), vout: 0x0102 };
        let id = ChannelId::from_funding(&funding);
        assert_eq!(id.0[30], 0x11 ^ 0x01);
        assert_eq!(id.0[31], 0xf0 ^ 0x02);
        assert_eq!(id.0[..30], txid[..30]);
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", Preimage([7; 32])), "Preimage(..)");
    }
}
