//! Failures of a payment, as nodes report them to its origin. BOLT 4, "Failure Messages".

use primitives::{BlockHeight, Msat, Sha256Digest};
use std::fmt;
use wire::{BigSize, Wire, take_slice};

const BADONION: u16 = 0x8000;
const PERM: u16 = 0x4000;
const NODE: u16 = 0x2000;
const UPDATE: u16 = 0x1000;

/// A failure and its data. A code we do not know, or data that does not fit the code, is kept as it
/// came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "a field says no more than BOLT 4's word for it")]
pub enum Failure {
    /// Something passing is wrong with the node.
    TemporaryNodeFailure,
    /// Something lasting is wrong with the node.
    PermanentNodeFailure,
    /// The node wants a feature that the onion lacks.
    RequiredNodeFeatureMissing,
    /// The packet's version is not 0.
    InvalidOnionVersion(Sha256Digest),
    /// The packet was changed, or made for somebody else or another payment.
    InvalidOnionHmac(Sha256Digest),
    /// The packet's key is no point.
    InvalidOnionKey(Sha256Digest),
    /// The channel could not take this HTLC, but may take others.
    TemporaryChannelFailure { channel_update: Vec<u8> },
    /// The channel takes no HTLC any more.
    PermanentChannelFailure,
    /// The channel wants a feature that the onion lacks.
    RequiredChannelFeatureMissing,
    /// No such channel leaves this node.
    UnknownNextPeer,
    /// Below the channel's `htlc_minimum_msat`.
    AmountBelowMinimum { htlc: Msat, channel_update: Vec<u8> },
    /// Less fee than the channel wants.
    FeeInsufficient { htlc: Msat, channel_update: Vec<u8> },
    /// Less delta than the channel wants.
    IncorrectCltvExpiry { cltv_expiry: BlockHeight, channel_update: Vec<u8> },
    /// The HTLC expires too soon to be forwarded safely.
    ExpiryTooSoon { channel_update: Vec<u8> },
    /// The final node knows no such payment, or not with this secret, amount or expiry. It does not
    /// say which.
    IncorrectOrUnknownPaymentDetails { htlc: Msat, height: BlockHeight },
    /// The HTLC expires before what the final onion says.
    FinalIncorrectCltvExpiry { cltv_expiry: BlockHeight },
    /// The HTLC holds less than what the final onion says.
    FinalIncorrectHtlcAmount { incoming: Msat },
    /// The channel is out of order.
    ChannelDisabled { flags: u16, channel_update: Vec<u8> },
    /// The HTLC would be held for too long.
    ExpiryTooFar,
    /// The hop's payload is incomplete or not understood; where known, because of which TLV, and
    /// where that stands.
    InvalidOnionPayload { tlv_type: u64, offset: u16 },
    /// The other parts of the payment did not come in time.
    MppTimeout,
    /// Something is wrong inside a blinded path; nobody says what.
    InvalidOnionBlinding(Sha256Digest),
    /// None of these.
    Other { code: u16, data: Vec<u8> },
}

impl Failure {
    /// The code, flags included.
    pub const fn code(&self) -> u16 {
        match self {
            Self::TemporaryNodeFailure => NODE | 2,
            Self::PermanentNodeFailure => PERM | NODE | 2,
            Self::RequiredNodeFeatureMissing => PERM | NODE | 3,
            Self::InvalidOnionVersion(_) => BADONION | PERM | 4,
            Self::InvalidOnionHmac(_) => BADONION | PERM | 5,
            Self::InvalidOnionKey(_) => BADONION | PERM | 6,
            Self::TemporaryChannelFailure { .. } => UPDATE | 7,
            Self::PermanentChannelFailure => PERM | 8,
            Self::RequiredChannelFeatureMissing => PERM | 9,
            Self::UnknownNextPeer => PERM | 10,
            Self::AmountBelowMinimum { .. } => UPDATE | 11,
            Self::FeeInsufficient { .. } => UPDATE | 12,
            Self::IncorrectCltvExpiry { .. } => UPDATE | 13,
            Self::ExpiryTooSoon { .. } => UPDATE | 14,
            Self::IncorrectOrUnknownPaymentDetails { .. } => PERM | 15,
            Self::FinalIncorrectCltvExpiry { .. } => 18,
            Self::FinalIncorrectHtlcAmount { .. } => 19,
            Self::ChannelDisabled { .. } => UPDATE | 20,
            Self::ExpiryTooFar => 21,
            Self::InvalidOnionPayload { .. } => PERM | 22,
            Self::MppTimeout => 23,
            Self::InvalidOnionBlinding(_) => BADONION | PERM | 24,
            Self::Other { code, .. } => *code,
        }
    }

    /// The node before the one that says so garbled or misdirected the packet: told with
    /// `update_fail_malformed_htlc`.
    pub const fn is_bad_onion(&self) -> bool {
        self.code() & BADONION != 0
    }
    /// Trying again the same way is no use.
    pub const fn is_permanent(&self) -> bool {
        self.code() & PERM != 0
    }

    /// As CLN's RPC calls it, in `failcodename`.
    pub fn name(&self) -> FailureName {
        FailureName(self.code())
    }

    /// The same of a code alone.
    pub const fn name_of(code: u16) -> FailureName {
        FailureName(code)
    }

    /// The failure of an HTLC that came back with `update_fail_malformed_htlc`; `None` where the
    /// code lacks the BADONION flag, for which BOLT 2 demands a warning or an error.
    pub fn from_malformed(code: u16, sha256_of_onion: Sha256Digest) -> Option<Self> {
        if code & BADONION == 0 {
            return None;
        }
        let mut message = code.to_bytes();
        sha256_of_onion.put(&mut message);
        Some(Self::from_bytes(&message))
    }

    /// Code and data.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.code().to_bytes();
        match self {
            Self::TemporaryNodeFailure
            | Self::PermanentNodeFailure
            | Self::RequiredNodeFeatureMissing
            | Self::PermanentChannelFailure
            | Self::RequiredChannelFeatureMissing
            | Self::UnknownNextPeer
            | Self::ExpiryTooFar
            | Self::MppTimeout => {}
            Self::InvalidOnionVersion(hash)
            | Self::InvalidOnionHmac(hash)
            | Self::InvalidOnionKey(hash)
            | Self::InvalidOnionBlinding(hash) => hash.put(&mut out),
            Self::TemporaryChannelFailure { channel_update }
            | Self::ExpiryTooSoon { channel_update } => channel_update.put(&mut out),
            Self::AmountBelowMinimum { htlc, channel_update }
            | Self::FeeInsufficient { htlc, channel_update } => {
                htlc.put(&mut out);
                channel_update.put(&mut out);
            }
            Self::IncorrectCltvExpiry { cltv_expiry, channel_update } => {
                cltv_expiry.put(&mut out);
                channel_update.put(&mut out);
            }
            Self::IncorrectOrUnknownPaymentDetails { htlc, height } => {
                htlc.put(&mut out);
                height.put(&mut out);
            }
            Self::FinalIncorrectCltvExpiry { cltv_expiry } => cltv_expiry.put(&mut out),
            Self::FinalIncorrectHtlcAmount { incoming } => incoming.put(&mut out),
            Self::ChannelDisabled { flags, channel_update } => {
                flags.put(&mut out);
                channel_update.put(&mut out);
            }
            Self::InvalidOnionPayload { tlv_type, offset } => {
                BigSize(*tlv_type).put(&mut out);
                offset.put(&mut out);
            }
            Self::Other { data, .. } => out.extend_from_slice(data),
        }
        out
    }

    /// Reads what a node said. Never fails: what makes no sense is [`Failure::Other`]. Extra bytes
    /// are ignored.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut data = bytes;
        let Ok(code) = u16::take(&mut data) else {
            return Self::Other { code: 0, data: bytes.to_vec() };
        };
        Self::with_data(code, data).unwrap_or_else(|| Self::Other { code, data: data.to_vec() })
    }

    fn with_data(code: u16, mut data: &[u8]) -> Option<Self> {
        let from = &mut data;
        Some(match code {
            0x2002 => Self::TemporaryNodeFailure,
            0x6002 => Self::PermanentNodeFailure,
            0x6003 => Self::RequiredNodeFeatureMissing,
            0xc004 => Self::InvalidOnionVersion(Wire::take(from).ok()?),
            0xc005 => Self::InvalidOnionHmac(Wire::take(from).ok()?),
            0xc006 => Self::InvalidOnionKey(Wire::take(from).ok()?),
            0x1007 => Self::TemporaryChannelFailure { channel_update: take_update(from)? },
            0x4008 => Self::PermanentChannelFailure,
            0x4009 => Self::RequiredChannelFeatureMissing,
            0x400a => Self::UnknownNextPeer,
            0x100b => Self::AmountBelowMinimum {
                htlc: Wire::take(from).ok()?,
                channel_update: take_update(from)?,
            },
            0x100c => Self::FeeInsufficient {
                htlc: Wire::take(from).ok()?,
                channel_update: take_update(from)?,
            },
            0x100d => Self::IncorrectCltvExpiry {
                cltv_expiry: Wire::take(from).ok()?,
                channel_update: take_update(from)?,
            },
            0x100e => Self::ExpiryTooSoon { channel_update: take_update(from)? },
            0x400f => Self::IncorrectOrUnknownPaymentDetails {
                htlc: Wire::take(from).ok()?,
                height: Wire::take(from).ok()?,
            },
            18 => Self::FinalIncorrectCltvExpiry { cltv_expiry: Wire::take(from).ok()? },
            19 => Self::FinalIncorrectHtlcAmount { incoming: Wire::take(from).ok()? },
            0x1014 => Self::ChannelDisabled {
                flags: Wire::take(from).ok()?,
                channel_update: take_update(from)?,
            },
            21 => Self::ExpiryTooFar,
            0x4016 => Self::InvalidOnionPayload {
                tlv_type: BigSize::take(from).ok()?.0,
                offset: Wire::take(from).ok()?,
            },
            23 => Self::MppTimeout,
            0xc018 => Self::InvalidOnionBlinding(Wire::take(from).ok()?),
            _ => return None,
        })
    }
}

fn take_update(from: &mut &[u8]) -> Option<Vec<u8>> {
    let len = u16::take(from).ok()?;
    take_slice(from, len.into()).ok().map(<[u8]>::to_vec)
}

/// A failure code under the name that CLN's RPC gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureName(u16);

impl fmt::Display for FailureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0x2002 => "WIRE_TEMPORARY_NODE_FAILURE",
            0x6002 => "WIRE_PERMANENT_NODE_FAILURE",
            0x6003 => "WIRE_REQUIRED_NODE_FEATURE_MISSING",
            0xc004 => "WIRE_INVALID_ONION_VERSION",
            0xc005 => "WIRE_INVALID_ONION_HMAC",
            0xc006 => "WIRE_INVALID_ONION_KEY",
            0x1007 => "WIRE_TEMPORARY_CHANNEL_FAILURE",
            0x4008 => "WIRE_PERMANENT_CHANNEL_FAILURE",
            0x4009 => "WIRE_REQUIRED_CHANNEL_FEATURE_MISSING",
            0x400a => "WIRE_UNKNOWN_NEXT_PEER",
            0x100b => "WIRE_AMOUNT_BELOW_MINIMUM",
            0x100c => "WIRE_FEE_INSUFFICIENT",
            0x100d => "WIRE_INCORRECT_CLTV_EXPIRY",
            0x100e => "WIRE_EXPIRY_TOO_SOON",
            0x400f => "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS",
            18 => "WIRE_FINAL_INCORRECT_CLTV_EXPIRY",
            19 => "WIRE_FINAL_INCORRECT_HTLC_AMOUNT",
            0x1014 => "WIRE_CHANNEL_DISABLED",
            21 => "WIRE_EXPIRY_TOO_FAR",
            0x4016 => "WIRE_INVALID_ONION_PAYLOAD",
            23 => "WIRE_MPP_TIMEOUT",
            0xc018 => "WIRE_INVALID_ONION_BLINDING",
            other => return write!(f, "INVALID {other}"),
        })
    }
}
