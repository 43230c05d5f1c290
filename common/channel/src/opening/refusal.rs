//! Why a channel is not opened: each reason names what was said and what it was held against.

use primitives::*;
use std::fmt;

/// No refusal is longer as text, in bytes, whatever the peer sent: it goes into an `error`, the log
/// and a report.
pub const MAX_TEXT: usize = 1000;
/// Bytes of a script that a refusal shows. A script of a known form has at most 83.
const MAX_SCRIPT_SHOWN: usize = 100;

/// Why a proposal, its answer, or a later message of an opening is refused. Said to the peer as it
/// is: it holds nothing but the peer's own words and the terms that it may know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named for what the sentences say")]
pub enum Refusal {
    /// Another chain.
    Chain { chain_hash: [u8; 32], network: Network },
    /// A message with another channel's id.
    OtherId { field: &'static str, got: ChannelId, expected: ChannelId },
    /// The id that means all channels.
    NoId { field: &'static str },
    /// BOLT 2: where dual funding was negotiated nobody opens in the old way.
    DualFund,
    /// Less than may be.
    TooSmall { field: &'static str, got: u64, minimum: u64, which_is: &'static str },
    /// More than may be.
    TooLarge { field: &'static str, got: u64, maximum: u64, which_is: &'static str },
    /// BOLT 2: open_channel and accept_channel must have one.
    NoChannelType,
    /// One that we cannot, or may not, have.
    ChannelType { channel_type: Features, why: &'static str },
    /// Not the one that was proposed.
    OtherChannelType { channel_type: Features, proposed: Features },
    /// A script of no known form.
    Script { script: ScriptBuf },
    /// The opener cannot pay for its own commitment.
    Unaffordable { has: Msat, fee: Sat, anchors: Sat },
    /// Neither side would have more than a reserve.
    NothingAboveReserve { opener: Msat, accepter: Msat, reserve: Sat },
    /// After reserves and fee nothing is left that would be worth it.
    Capacity { capacity: Sat, minimum: Sat },
    /// A funding of no transaction, or of the channel id that the negotiation had.
    Funding { funding: OutPoint, why: &'static str },
    /// The agreed parameters make no channel.
    Unbuildable(crate::Unbuildable),
    /// A signature that does not hold. BOLT 1: with the transaction that it should be for.
    Signature { message: &'static str, transaction: String },
    /// A message out of turn.
    OutOfTurn { message: String, awaited: &'static str },
    /// Bytes that are no message.
    Malformed(wire::Malformed),
    /// BOLT 1: an unknown even number.
    UnknownEven(u16),
    /// Nothing came.
    Silence { awaited: &'static str, seconds: u64 },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain { chain_hash, network } => {
                f.write_str("chain_hash ")?;
                chain_hash.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
                write!(f, " is not that of {network}")
            }
            Self::OtherId { field, got, expected } => write!(f, "{field} {got} is not {expected}"),
            Self::NoId { field } => write!(f, "{field} is zero, which means all channels"),
            Self::DualFund => f.write_str(
                "open_channel where option_dual_fund was negotiated: open_channel2 opens here",
            ),
            Self::TooSmall { field, got, minimum, which_is } => {
                write!(f, "{field} {got} is below {minimum}, {which_is}")
            }
            Self::TooLarge { field, got, maximum, which_is } => {
                write!(f, "{field} {got} is above {maximum}, {which_is}")
            }
            Self::NoChannelType => f.write_str("there is no channel_type"),
            Self::ChannelType { channel_type, why } => {
                write!(f, "channel_type {channel_type:?} is not suitable: {why}")
            }
            Self::OtherChannelType { channel_type, proposed } => {
                write!(f, "channel_type {channel_type:?} is not {proposed:?}, which was proposed")
            }
            Self::Script { script } => show_script(script, f),
            Self::Unaffordable { has, fee, anchors } => {
                write!(f, "the opener's {has} cannot pay a fee of {fee} and {anchors} of anchors")
            }
            Self::NothingAboveReserve { opener, accepter, reserve } => write!(
                f,
                "neither the opener's {opener} nor the accepter's {accepter} is above channel_reserve_satoshis {reserve}"
            ),
            Self::Capacity { capacity, minimum } => {
                write!(f, "a usable capacity of {capacity} is below {minimum}")
            }
            Self::Funding { funding, why } => {
                write!(f, "funding output {}:{}: {why}", funding.txid, funding.vout)
            }
            Self::Unbuildable(why) => why.fmt(f),
            Self::Signature { message, transaction } => {
                write!(f, "the signature of {message} does not hold for {transaction}")
            }
            Self::OutOfTurn { message, awaited } => {
                write!(f, "{message} came where {awaited} is awaited")
            }
            Self::Malformed(why) => why.fmt(f),
            Self::UnknownEven(number) => write!(f, "message {number} is unknown here and even"),
            Self::Silence { awaited, seconds } => {
                write!(f, "no {awaited} within {seconds} seconds")
            }
        }
    }
}
impl std::error::Error for Refusal {}

fn show_script(script: &ScriptBuf, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let shown = script.as_bytes().get(..MAX_SCRIPT_SHOWN).unwrap_or(script.as_bytes());
    f.write_str("upfront_shutdown_script ")?;
    shown.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
    if shown.len() < script.len() {
        write!(f, "... ({} bytes)", script.len())?;
    }
    f.write_str(" is of no form that was negotiated")
}

impl From<crate::Unbuildable> for Refusal {
    fn from(why: crate::Unbuildable) -> Self {
        Self::Unbuildable(why)
    }
}
