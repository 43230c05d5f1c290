//! Why a step is refused: the peer violated a BOLT, or our own limits forbid it.
#![allow(missing_docs, reason = "the fields are named for what the sentences say")]

use primitives::*;
use std::fmt;
use wire::channel_data::Stage;

/// The peer broke the law. Each names what was said and what was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerFault {
    /// An HTLC of nothing, or of less than we take.
    AmountTooSmall { amount: Msat, minimum: Msat },
    /// One HTLC more than we take.
    TooManyHtlcs { count: usize, maximum: u16 },
    /// More in flight than we let be.
    TooMuchInFlight { in_flight: Msat, maximum: Msat },
    /// An expiry that is a time, not a height.
    Expiry { expiry: BlockHeight },
    /// Ids count up by one.
    HtlcId { id: HtlcId, expected: HtlcId },
    /// The sender's balance would fall below its reserve and the fees that it pays.
    Unaffordable { amount: Msat, left: Msat, needed: Sat },
    /// A removal of an HTLC that we did not offer.
    NoSuchHtlc { id: HtlcId },
    /// A removal before the HTLC was irrevocable.
    TooEarly { id: HtlcId, stage: Stage },
    /// A second removal.
    AlreadyRemoved { id: HtlcId },
    /// A preimage of another hash.
    Preimage { id: HtlcId, payment_hash: PaymentHash },
    /// A malformed onion without the bit that says so.
    NotBadOnion { id: HtlcId, failure_code: u16 },
    /// A feerate from the side that does not pay.
    FeeNotYours,
    /// A feerate out of bounds.
    FeeOutOfBounds { feerate: FeeratePerKw, min: FeeratePerKw, max: FeeratePerKw },
    /// A feerate that it cannot pay.
    FeeUnaffordable { feerate: FeeratePerKw, balance: Msat, needed: Sat },
    /// A feerate at which trimmed HTLCs come to too much.
    FeeDustExposure { feerate: FeeratePerKw, dust: Msat, maximum: Msat },
    /// A commitment in which too much is trimmed.
    DustExposure { dust: Msat, maximum: Msat },
    /// A second commitment_signed that changes nothing, in a row.
    EmptyCommitment { number: CommitmentNumber },
    /// A commitment_signed before we revoked the one before.
    CommitmentTooEarly { number: CommitmentNumber },
    /// Not one signature for each HTLC output.
    SignatureCount { got: usize, expected: usize },
    /// The opener cannot even pay for the anchors.
    Overspent { balance: Msat, needed: Sat },
    /// Nothing was to be revoked.
    RevocationUnasked { number: CommitmentNumber },
    /// Not the secret of the point that we had.
    WrongSecret { number: CommitmentNumber },
    /// A secret that is not of the same chain as those before.
    NotOfTheChain { number: CommitmentNumber },
    /// Numbers in channel_reestablish that nothing explains.
    Reestablish { what: &'static str, got: u64, expected: u64 },
    /// The secret in channel_reestablish is not the one we sent.
    ReestablishSecret { number: CommitmentNumber },
}

impl PeerFault {
    /// Where the law stands.
    pub const fn law(&self) -> &'static str {
        match self {
            Self::AmountTooSmall { .. }
            | Self::TooManyHtlcs { .. }
            | Self::TooMuchInFlight { .. }
            | Self::Expiry { .. }
            | Self::HtlcId { .. }
            | Self::Unaffordable { .. } => "BOLT 2, update_add_htlc",
            Self::NoSuchHtlc { .. }
            | Self::TooEarly { .. }
            | Self::AlreadyRemoved { .. }
            | Self::Preimage { .. }
            | Self::NotBadOnion { .. } => "BOLT 2, removing an HTLC",
            Self::FeeNotYours
            | Self::FeeOutOfBounds { .. }
            | Self::FeeUnaffordable { .. }
            | Self::FeeDustExposure { .. } => "BOLT 2, update_fee",
            Self::DustExposure { .. } => "BOLT 2, max_dust_htlc_exposure_msat",
            Self::EmptyCommitment { .. }
            | Self::CommitmentTooEarly { .. }
            | Self::SignatureCount { .. }
            | Self::Overspent { .. } => "BOLT 2, commitment_signed",
            Self::RevocationUnasked { .. }
            | Self::WrongSecret { .. }
            | Self::NotOfTheChain { .. } => "BOLT 2, revoke_and_ack",
            Self::Reestablish { .. } | Self::ReestablishSecret { .. } => {
                "BOLT 2, channel_reestablish"
            }
        }
    }
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_of_htlc(f)?;
        self.fmt_of_commitment(f)
    }
}

impl PeerFault {
    fn fmt_of_htlc(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AmountTooSmall { amount, minimum } => {
                write!(f, "an HTLC of {amount}, of at least {minimum}")
            }
            Self::TooManyHtlcs { count, maximum } => {
                write!(f, "{count} HTLCs, of at most {maximum}")
            }
            Self::TooMuchInFlight { in_flight, maximum } => {
                write!(f, "{in_flight} in flight, of at most {maximum}")
            }
            Self::Expiry { expiry } => write!(f, "cltv_expiry {expiry} is not below 500000000"),
            Self::HtlcId { id, expected } => write!(f, "HTLC id {id} where {expected} is next"),
            Self::Unaffordable { amount, left, needed } => {
                write!(
                    f,
                    "an HTLC of {amount} would leave {left} where reserve and fees need {needed}"
                )
            }
            Self::NoSuchHtlc { id } => write!(f, "there is no HTLC {id} to remove"),
            Self::TooEarly { id, stage } => write!(f, "HTLC {id} is removed at stage {stage:?}"),
            Self::AlreadyRemoved { id } => write!(f, "HTLC {id} is removed twice"),
            Self::Preimage { id, payment_hash } => {
                write!(f, "the preimage for HTLC {id} does not hash to {payment_hash}")
            }
            Self::NotBadOnion { id, failure_code } => {
                write!(f, "failure code {failure_code:#06x} for HTLC {id} has no BADONION bit")
            }
            Self::FeeNotYours
            | Self::FeeOutOfBounds { .. }
            | Self::FeeUnaffordable { .. }
            | Self::FeeDustExposure { .. }
            | Self::DustExposure { .. }
            | Self::EmptyCommitment { .. }
            | Self::CommitmentTooEarly { .. }
            | Self::SignatureCount { .. }
            | Self::Overspent { .. }
            | Self::RevocationUnasked { .. }
            | Self::WrongSecret { .. }
            | Self::NotOfTheChain { .. }
            | Self::Reestablish { .. }
            | Self::ReestablishSecret { .. } => Ok(()),
        }
    }

    /// The other half: fees, commitments, revocations, reestablishment.
    fn fmt_of_commitment(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FeeNotYours => f.write_str("update_fee from the side that does not pay the fee"),
            Self::FeeOutOfBounds { feerate, min, max } => {
                write!(f, "update_fee {feerate}, of {min} to {max}")
            }
            Self::FeeUnaffordable { feerate, balance, needed } => {
                write!(f, "update_fee {feerate} needs {needed} with the reserve, of {balance}")
            }
            Self::FeeDustExposure { feerate, dust, maximum } => {
                write!(f, "update_fee {feerate} would leave {dust} to miners, of at most {maximum}")
            }
            Self::DustExposure { dust, maximum } => {
                write!(f, "a commitment would leave {dust} to miners, of at most {maximum}")
            }
            Self::EmptyCommitment { number } => {
                write!(f, "commitment {number} changes nothing, as the one before")
            }
            Self::CommitmentTooEarly { number } => {
                write!(f, "commitment {number} is signed while the revocation before is on its way")
            }
            Self::SignatureCount { got, expected } => {
                write!(f, "{got} HTLC signatures for {expected} HTLC outputs")
            }
            Self::Overspent { balance, needed } => {
                write!(f, "the opener has {balance} where anchors need {needed}")
            }
            Self::RevocationUnasked { number } => {
                write!(f, "commitment {number} is revoked while none after it is signed")
            }
            Self::WrongSecret { number } => {
                write!(f, "the secret for commitment {number} is not that of its point")
            }
            Self::NotOfTheChain { number } => {
                write!(f, "the secret for commitment {number} is not of the chain of those before")
            }
            Self::Reestablish { what, got, expected } => {
                write!(f, "{what} is {got} where {expected} is possible")
            }
            Self::ReestablishSecret { number } => {
                write!(f, "your_last_per_commitment_secret is not the one for commitment {number}")
            }
            Self::AmountTooSmall { .. }
            | Self::TooManyHtlcs { .. }
            | Self::TooMuchInFlight { .. }
            | Self::Expiry { .. }
            | Self::HtlcId { .. }
            | Self::Unaffordable { .. }
            | Self::NoSuchHtlc { .. }
            | Self::TooEarly { .. }
            | Self::AlreadyRemoved { .. }
            | Self::Preimage { .. }
            | Self::NotBadOnion { .. } => Ok(()),
        }
    }
}
impl std::error::Error for PeerFault {}

/// We may not remove this HTLC (now).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalRefusal {
    /// The peer offers no HTLC of this id: never did, or it is settled. After a restart that is no
    /// mistake.
    Unknown { id: HtlcId },
    /// Not irrevocable yet.
    TooEarly { id: HtlcId, stage: Stage },
    /// A removal is on its way. Said again after a restart; a second time changes nothing.
    Already { id: HtlcId },
    /// The preimage is another's.
    Preimage { id: HtlcId, payment_hash: PaymentHash },
}
impl fmt::Display for RemovalRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { id } => write!(f, "there is no HTLC {id} to remove"),
            Self::TooEarly { id, stage } => write!(f, "HTLC {id} is at stage {stage:?}"),
            Self::Already { id } => write!(f, "HTLC {id} is being removed"),
            Self::Preimage { id, payment_hash } => {
                write!(f, "the preimage for HTLC {id} does not hash to {payment_hash}")
            }
        }
    }
}
impl std::error::Error for RemovalRefusal {}

/// We may not change the feerate so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeeRefusal {
    /// The peer pays, the peer decides.
    NotOpener,
    /// The feerate is in force already.
    Unchanged { feerate: FeeratePerKw },
    /// We could not pay it and keep our reserve.
    Unaffordable { feerate: FeeratePerKw, balance: Msat, needed: Sat },
    /// Trimmed HTLCs would come to too much.
    DustExposure { dust: Msat, maximum: Msat },
}
impl fmt::Display for FeeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpener => f.write_str("the peer opened the channel and sets its feerate"),
            Self::Unchanged { feerate } => write!(f, "the feerate is {feerate} already"),
            Self::Unaffordable { feerate, balance, needed } => {
                write!(f, "{feerate} needs {needed} with the reserve, of {balance}")
            }
            Self::DustExposure { dust, maximum } => {
                write!(f, "{dust} would go to miners, of at most {maximum}")
            }
        }
    }
}
impl std::error::Error for FeeRefusal {}

/// We may not sign or revoke (now).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitRefusal {
    /// No update to commit. BOLT 2: then no commitment_signed is sent.
    NothingToCommit,
    /// The peer has not revoked the one before.
    AwaitingRevocation,
    /// The peer has not told its next point: `channel_ready` has not come.
    NoPoint,
    /// Nothing of ours is to be revoked.
    NothingToRevoke,
    /// Numbers end here.
    LastNumber,
}
impl fmt::Display for CommitRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingToCommit => "there is no update to commit",
            Self::AwaitingRevocation => "the peer has not revoked its last commitment",
            Self::NoPoint => "the peer has not told its next commitment point",
            Self::NothingToRevoke => "there is no commitment to revoke",
            Self::LastNumber => "this channel has no commitment numbers left",
        })
    }
}
impl std::error::Error for CommitRefusal {}
