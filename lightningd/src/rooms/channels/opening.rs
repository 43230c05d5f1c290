//! Attempts at channels, each with its openingd. Until the one turn that inserts the channel
//! nothing is permanent.

pub mod agreed;
pub mod begin;
pub mod cancel;
pub mod funding;
pub mod heard;
pub mod psbt;

use crate::rooms::wallet::coins::Funded;
use crate::sys::children::ChildId;
use crate::sys::form::Caller;
use primitives::*;
use wire::openingd::*;

/// CLN's word for it: to the peer, and to whoever asked for it.
pub const CANCELLED: &str = "Channel open canceled by RPC(fundchannel_cancel)";

/// How far an attempt is.
#[derive(Debug, Clone)]
pub enum Attempt {
    /// `fundchannel`: the coins are reserved; what pays the channel waits for its script.
    Funding { caller: Caller, funded: Funded },
    /// The same, accepted: openingd exchanges signatures.
    FundingSigned { caller: Caller, funded: Funded },
    /// `fundchannel_start`: the peer has to accept.
    Start { caller: Caller },
    /// The same, accepted: somebody builds the funding.
    StartAccepted { funding_script: ScriptBuf },
    /// `fundchannel_complete`: openingd exchanges signatures.
    Completing { caller: Caller, withhold: bool, funding: OutPoint, funding_script: ScriptBuf },
    /// The peer opens.
    Theirs,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Its number, which the channel will have.
    pub number: ChannelNumber,
    /// With whom.
    pub peer: NodeId,
    /// Under which id, until it has its final one.
    pub temporary: ChannelId,
    /// Its openingd.
    pub child: ChildId,
    /// How much.
    pub amount: Sat,
    /// Given to the peer at once.
    pub push: Msat,
    /// How far.
    pub attempt: Attempt,
    /// The script that every closing will pay us at, where one was asked for and the peer holds us
    /// to it.
    pub close_to: Option<ScriptBuf>,
    /// What the accepter waits for: the peer, once it has said so, or we.
    pub minimum_depth: u32,
    /// What its openingd was told: whatever comes of it is held against that.
    pub told: Told,
}

/// The bounds within which openingd may agree to a channel.
#[derive(Debug, Clone)]
pub struct Told {
    /// Our terms, and what we bear of the peer's.
    pub policy: OpeningPolicy,
    /// What both sides offered in `init`.
    pub features: Sides<Features>,
    /// What we proposed; `None` where the peer proposes.
    pub proposed: Option<Proposed>,
}

/// What we propose, and the peer can only take or leave.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// Of the first commitments.
    pub feerate: FeeratePerKw,
    /// To be announced?
    pub announce: bool,
    /// BOLT 2, "Defined Channel Types".
    pub channel_type: Features,
}

impl Opening {
    /// Does the peer open?
    pub fn is_theirs(&self) -> bool {
        match self.attempt {
            Attempt::Theirs => true,
            Attempt::Funding { .. }
            | Attempt::FundingSigned { .. }
            | Attempt::Start { .. }
            | Attempt::StartAccepted { .. }
            | Attempt::Completing { .. } => false,
        }
    }
    fn coins(&self) -> Option<&Funded> {
        match &self.attempt {
            Attempt::Funding { funded, .. } | Attempt::FundingSigned { funded, .. } => Some(funded),
            Attempt::Start { .. }
            | Attempt::StartAccepted { .. }
            | Attempt::Completing { .. }
            | Attempt::Theirs => None,
        }
    }
    fn caller(&self) -> Option<&Caller> {
        match &self.attempt {
            Attempt::Funding { caller, .. }
            | Attempt::FundingSigned { caller, .. }
            | Attempt::Start { caller }
            | Attempt::Completing { caller, .. } => Some(caller),
            Attempt::StartAccepted { .. } | Attempt::Theirs => None,
        }
    }
}
