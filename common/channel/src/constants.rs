//! Parameters that never change in a channel: its format, its terms, and values derived from them.

use crate::keys::{funding_script, obscuring_factor};
use crate::scripts::Direction;
use bitcoin::{EcdsaSighashType, ScriptBuf};
use primitives::*;
use std::fmt;
use wire::channel_data::ChannelParams;

/// The amount of each anchor output. BOLT 3.
pub const ANCHOR: Sat = Sat(330);
/// BOLT 2: expiries are heights, not times.
pub const EXPIRY_LIMIT: u32 = 500_000_000;
/// A forwarded HTLC whose incoming expiry is within so many blocks is failed back rather than left
/// for the peer to force-close over. CLN's.
pub const FAIL_BACK_BLOCKS: u32 = 3;
/// Blocks beyond its expiry within which an HTLC of ours that forwards nothing should come back:
/// nobody upstream waits for it.
pub const HTLC_RETURN_MARGIN: u32 = 72;
/// BOLT 5: a transaction with so many confirmations is irrevocable. A channel that a transaction of
/// this depth resolved is forgotten.
pub const IRREVOCABLE_DEPTH: u32 = 100;
/// BOLT 2, funding_signed: the fundee forgets a channel whose funding transaction has not confirmed
/// within so many blocks, two weeks.
pub const FORGET_UNFUNDED_BLOCKS: u32 = 2016;
/// The highest to_self_delay that we accept from a peer, in blocks: so long it can make our own
/// money wait. BOLT 2, open_channel, leaves the limit to us.
pub const MAX_TO_SELF_DELAY: u16 = 2016;
/// BOLT 2: max_accepted_htlcs is at most this, in each direction.
pub const MAX_HTLCS: usize = 483;
/// The reserve that BOLT 2, channel_reserve_satoshis, suggests is the channel's amount divided by
/// this.
pub const RESERVE_PART: u64 = 100;

/// A commitment format, as data. BOLT 2, "Defined Channel Types".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// option_static_remotekey alone.
    StaticRemoteKey,
    /// With option_anchors: HTLC transactions without fee.
    Anchors,
}

impl Format {
    /// The format of a channel type, if we can build it.
    pub fn of(channel_type: &Features) -> Option<Self> {
        // A peer may send 65 kB: no known bit is that far out, and nobody looks at each.
        if channel_type.as_be_bytes().len() > feature::of_channel_types().as_be_bytes().len() {
            return None;
        }
        // These two change nothing about transactions.
        let of_no_matter = [feature::SCID_ALIAS, feature::ZEROCONF];
        let mut rest = channel_type.bits().filter(|bit| !of_no_matter.contains(bit));
        match (rest.next(), rest.next(), rest.next()) {
            (Some(feature::STATIC_REMOTEKEY), None, None) => Some(Self::StaticRemoteKey),
            (Some(feature::STATIC_REMOTEKEY), Some(feature::ANCHORS), None) => Some(Self::Anchors),
            _ => None,
        }
    }
    /// Are there anchors?
    pub const fn has_anchors(self) -> bool {
        matches!(self, Self::Anchors)
    }
    /// Expected weight of a commitment. BOLT 3, "Fee Calculation".
    pub const fn commitment_weight(self, untrimmed: u64) -> u64 {
        172 * untrimmed
            + match self {
                Self::StaticRemoteKey => 724,
                Self::Anchors => 1124,
            }
    }
    /// Expected weight of an HTLC transaction. BOLT 3, "Fee Calculation".
    pub const fn htlc_weight(self, direction: Direction) -> u64 {
        match (self, direction) {
            (Self::StaticRemoteKey, Direction::Offered) => 663,
            (Self::StaticRemoteKey, Direction::Received) => 703,
            (Self::Anchors, Direction::Offered) => 666,
            (Self::Anchors, Direction::Received) => 706,
        }
    }
    /// The fee of an HTLC transaction: 0 with anchors. BOLT 3, "Fee Calculation".
    pub const fn htlc_fee(self, feerate: FeeratePerKw, direction: Direction) -> Sat {
        match self {
            Self::StaticRemoteKey => feerate.fee(self.htlc_weight(direction)),
            Self::Anchors => Sat::ZERO,
        }
    }
    /// The amount of both anchors, which the opener pays.
    pub const fn anchors(self) -> Sat {
        match self {
            Self::StaticRemoteKey => Sat::ZERO,
            Self::Anchors => Sat(2 * ANCHOR.0),
        }
    }
    /// How the other side signs the owner's HTLC transactions. BOLT 5, "Generation of HTLC
    /// Transactions".
    pub const fn htlc_sighash(self) -> EcdsaSighashType {
        match self {
            Self::StaticRemoteKey => EcdsaSighashType::All,
            Self::Anchors => EcdsaSighashType::SinglePlusAnyoneCanPay,
        }
    }
}

/// A description that makes no channel, or no commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unbuildable {
    /// Not a channel type that we can build.
    ChannelType(Features),
    /// The opener gave away more than there is, or there is more than all money.
    Amount {
        /// What is in the channel.
        amount: Sat,
        /// What was given at once.
        push: Msat,
    },
    /// The parts are not the whole.
    Balance {
        /// What is in the channel.
        amount: Msat,
        /// What the parts come to.
        parts: Msat,
    },
    /// Outputs for more than is in the channel: the opener cannot even pay for the anchors.
    Overspent {
        /// What is in the channel.
        amount: Sat,
        /// What the outputs come to.
        outputs: Sat,
    },
    /// More than twice 483.
    TooManyHtlcs(usize),
    /// One of them expires at no height.
    Expiry(BlockHeight),
    /// Numbers end at 2^48 - 1.
    Number(CommitmentNumber),
    /// What is stored contradicts itself.
    State(&'static str),
}
impl fmt::Display for Unbuildable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChannelType(t) => write!(f, "channel type {t:?} is not supported"),
            Self::Amount { amount, push } => {
                write!(f, "a channel of {amount} with {push} given at once")
            }
            Self::Balance { amount, parts } => {
                write!(f, "parts of {parts} in a channel of {amount}")
            }
            Self::Overspent { amount, outputs } => {
                write!(f, "outputs of {outputs} in a channel of {amount}")
            }
            Self::TooManyHtlcs(n) => write!(f, "{n} HTLCs, of at most {}", 2 * MAX_HTLCS),
            Self::Expiry(e) => write!(f, "an HTLC that expires at {e}, not below {EXPIRY_LIMIT}"),
            Self::Number(n) => write!(f, "commitment number {n}"),
            Self::State(what) => f.write_str(what),
        }
    }
}
impl std::error::Error for Unbuildable {}

/// Parameters that never change in a channel, and values derived from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constants {
    /// What was agreed.
    pub params: ChannelParams,
    /// The format that was agreed.
    pub format: Format,
    /// The witness script of the funding output.
    pub funding_script: ScriptBuf,
    /// The value that commitment numbers are XORed with.
    pub obscure: u64,
}

impl Constants {
    /// Checks what a builder relies on. Whether the terms are wise is openingd's to judge.
    pub fn new(params: ChannelParams) -> Result<Self, Unbuildable> {
        let format = Format::of(&params.channel_type)
            .ok_or_else(|| Unbuildable::ChannelType(params.channel_type.clone()))?;
        if params.amount > Sat::MAX_MONEY || params.push > params.amount.msat() {
            return Err(Unbuildable::Amount { amount: params.amount, push: params.push });
        }
        let keys = &params.basepoints;
        let funding_script = funding_script(&keys.local.funding, &keys.remote.funding);
        let obscure = obscuring_factor(&params);
        Ok(Self { params, format, funding_script, obscure })
    }
    /// The script of the funding output.
    pub fn funding_script_pubkey(&self) -> ScriptBuf {
        self.funding_script.to_p2wsh()
    }
    /// The reserve of `side`. BOLT 2, channel_reserve_satoshis: the other side demanded it.
    pub fn reserve(&self, side: Side) -> Sat {
        self.params.terms[!side].reserve
    }
    /// Each side's balance before the first HTLC.
    pub fn first_balance(&self) -> Sides<Msat> {
        Sides::from_fn(|side| {
            if side == self.params.opener {
                self.params.amount.msat().saturating_sub(self.params.push)
            } else {
                self.params.push
            }
        })
    }
    /// Is an HTLC too small for an output in a commitment of `owner`? BOLT 3, "Trimmed Outputs".
    pub fn is_trimmed(
        &self,
        owner: Side,
        feerate: FeeratePerKw,
        offered_by: Side,
        amount: Msat,
    ) -> bool {
        amount.sat_floor() < self.trim_threshold(owner, feerate, offered_by)
    }
    /// The smallest amount that gets an output.
    pub fn trim_threshold(&self, owner: Side, feerate: FeeratePerKw, offered_by: Side) -> Sat {
        let fee = self.format.htlc_fee(feerate, Direction::of(offered_by, owner));
        self.params.terms[owner].dust_limit.saturating_add(fee)
    }
}
