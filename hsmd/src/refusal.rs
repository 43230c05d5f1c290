//! Why hsmd will not do what it is asked.

use channel::phase::{ChannelPhase, Input, why_refused};
use primitives::*;
use std::fmt;

/// Why hsmd will not do it. Each is a bug of the one who asks, or worse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A question about a channel from a client that has none.
    NoChannel,
    /// The channel's parameters were never told.
    NoParams,
    /// They are others than those told before.
    OtherParams,
    /// Our basepoints in them are not ours.
    NotOurBasepoints,
    /// They, or the state, make no transaction.
    Unbuildable(String),
    /// The state is of the other side.
    WrongSide,
    /// Not the point that this commitment has.
    WrongPoint { number: CommitmentNumber },
    /// The remote revoked this number already.
    RemoteRevoked { number: CommitmentNumber, revoked: CommitmentNumber },
    /// The remote has not revoked the one two before.
    RemoteTooEarly { number: CommitmentNumber, revoked: CommitmentNumber },
    /// Numbers do not leap.
    Leap { number: CommitmentNumber, last: Option<CommitmentNumber> },
    /// A point too far ahead.
    TooFar { number: CommitmentNumber },
    /// This one of ours was revoked.
    LocalRevoked { number: CommitmentNumber, revoked: CommitmentNumber },
    /// No valid successor of it was shown.
    NoSuccessor { number: CommitmentNumber, shown: Option<CommitmentNumber> },
    /// It, or one before it, was signed for broadcast.
    Broadcast { number: CommitmentNumber, broadcast: CommitmentNumber },
    /// The channel is in a phase in which this is never asked.
    Phase { input: Input, phase: ChannelPhase },
    /// Before the channel is stored only its first commitment is signed, once.
    NotTheFirst { number: CommitmentNumber },
    /// A seed that contradicts itself.
    BadSeed(&'static str),
    /// A refusal because of a closing.
    Closing(ClosingRefusal),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChannel => f.write_str("this client has no channel"),
            Self::NoParams => f.write_str("the channel's parameters are not known"),
            Self::OtherParams => {
                f.write_str("the channel's parameters are others than those known")
            }
            Self::NotOurBasepoints => f.write_str("the local basepoints are not ours"),
            Self::Unbuildable(why) => f.write_str(why),
            Self::WrongSide => f.write_str("the state is of the other side"),
            Self::WrongPoint { number } => write!(f, "commitment {number} has another point"),
            Self::RemoteRevoked { number, revoked } => {
                write!(f, "the peer's commitment {number} is revoked, as all before {revoked}")
            }
            Self::RemoteTooEarly { number, revoked } => {
                write!(
                    f,
                    "the peer's commitment {number} while only those before {revoked} are revoked"
                )
            }
            Self::Leap { number, last: Some(last) } => {
                write!(f, "commitment {number} after {last}")
            }
            Self::Leap { number, last: None } => write!(f, "commitment {number} as the first"),
            Self::TooFar { number } => {
                write!(f, "the point of commitment {number} is not needed yet")
            }
            Self::LocalRevoked { number, revoked } => {
                write!(f, "our commitment {number} is revoked, as all before {revoked}")
            }
            Self::NoSuccessor { number, shown: Some(shown) } => {
                write!(
                    f,
                    "commitment {number} cannot be revoked: {shown} is the newest that was shown"
                )
            }
            Self::NoSuccessor { number, shown: None } => {
                write!(f, "commitment {number} cannot be revoked: none was shown")
            }
            Self::Broadcast { number, broadcast } => {
                write!(
                    f,
                    "commitment {number} cannot be revoked: {broadcast} was signed for broadcast"
                )
            }
            Self::Phase { input, phase } => {
                write!(f, "{input:?} {}", why_refused(*phase, *input))
            }
            Self::NotTheFirst { number } => {
                write!(
                    f,
                    "commitment {number} before the channel is stored: only the first, as it was agreed, once"
                )
            }
            Self::Closing(why) => why.fmt(f),
            Self::BadSeed(why) => write!(f, "a seed that contradicts itself: {why}"),
        }
    }
}

/// Why hsmd signs no such closing, or no such commitment after one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClosingRefusal {
    /// The master did not say where a closing pays us.
    NoTerms,
    /// Not where the master said.
    Script,
    /// Less than the last state owed us.
    Floor { pays: Msat, owed: Msat },
    /// More than the master would pay.
    Fee { fee: Sat, maximum: Sat },
    /// HTLCs are under way in the last state.
    Htlcs,
    /// A closing was signed, or may have been: no other balances, and no HTLC.
    Commitment { number: CommitmentNumber, pays: Msat, owed: Option<Msat>, htlcs: usize },
    /// A closing was signed, or may have been: no new secret.
    Secret { number: CommitmentNumber, revoked: CommitmentNumber },
}

impl fmt::Display for ClosingRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTerms => f.write_str("no terms of a closing are known"),
            Self::Script => f.write_str("a closing that pays us elsewhere"),
            Self::Floor { pays, owed } => {
                write!(f, "a closing that pays us {pays} of {owed}")
            }
            Self::Fee { fee, maximum } => {
                write!(f, "a closing fee of {fee}, of at most {maximum}")
            }
            Self::Htlcs => f.write_str("a closing while HTLCs are under way"),
            Self::Commitment { number, pays, owed, htlcs } => {
                let owed = owed.map_or_else(|| "what is not known".to_owned(), |o| o.to_string());
                write!(
                    f,
                    "commitment {number} has other balances than the closing: it pays us {pays} of {owed}, with {htlcs} HTLCs"
                )
            }
            Self::Secret { number, revoked } => {
                write!(
                    f,
                    "commitment {number} cannot be revoked after the closing negotiation began: only those below {revoked} are"
                )
            }
        }
    }
}

impl From<ClosingRefusal> for Refusal {
    fn from(why: ClosingRefusal) -> Self {
        Self::Closing(why)
    }
}

/// Why a client is closed.
pub(crate) type Bad = String;

impl From<Refusal> for Bad {
    fn from(why: Refusal) -> Self {
        why.to_string()
    }
}
