//! A channel's states, with CLN's names and numbers.

/// How far a channel's life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The funding is to confirm, or `channel_ready` to come.
    AwaitingLockin = 2,
    /// Payments.
    Normal = 3,
    /// `shutdown` was said; HTLCs end.
    ShuttingDown = 4,
    /// closingd haggles.
    ClosingSigExchange = 5,
    /// Both signed the closing.
    ClosingComplete = 6,
    /// Our commitment is on its way, or the peer's is awaited.
    AwaitingUnilateral = 7,
    /// Something spent the funding.
    FundingSpendSeen = 8,
    /// And what follows is under way.
    Onchain = 9,
    /// Buried.
    Closed = 10,
}

impl State {
    const ALL: [Self; 9] = [
        Self::AwaitingLockin,
        Self::Normal,
        Self::ShuttingDown,
        Self::ClosingSigExchange,
        Self::ClosingComplete,
        Self::AwaitingUnilateral,
        Self::FundingSpendSeen,
        Self::Onchain,
        Self::Closed,
    ];

    /// CLN's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AwaitingLockin => "CHANNELD_AWAITING_LOCKIN",
            Self::Normal => "CHANNELD_NORMAL",
            Self::ShuttingDown => "CHANNELD_SHUTTING_DOWN",
            Self::ClosingSigExchange => "CLOSINGD_SIGEXCHANGE",
            Self::ClosingComplete => "CLOSINGD_COMPLETE",
            Self::AwaitingUnilateral => "AWAITING_UNILATERAL",
            Self::FundingSpendSeen => "FUNDING_SPEND_SEEN",
            Self::Onchain => "ONCHAIN",
            Self::Closed => "CLOSED",
        }
    }
    /// As it is stored.
    pub const fn number(self) -> u8 {
        self as u8
    }
    /// The one of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.number() == number)
    }
    /// May this state be followed by that one? A channel that was failed or spent does not come
    /// back to life, whatever its daemon asked before it heard.
    pub const fn may_become(self, next: Self) -> bool {
        match next {
            // A channel that shuts down does not come back to life either.
            Self::AwaitingLockin | Self::Normal => {
                matches!(self, Self::AwaitingLockin | Self::Normal)
            }
            Self::ShuttingDown | Self::ClosingSigExchange => self.is_open(),
            Self::ClosingComplete
            | Self::AwaitingUnilateral
            | Self::FundingSpendSeen
            | Self::Onchain
            | Self::Closed => true,
        }
    }
    /// May one of its commitments have been published?
    pub const fn is_unilateral(self) -> bool {
        match self {
            Self::AwaitingUnilateral | Self::FundingSpendSeen | Self::Onchain => true,
            Self::AwaitingLockin
            | Self::Normal
            | Self::ShuttingDown
            | Self::ClosingSigExchange
            | Self::ClosingComplete
            | Self::Closed => false,
        }
    }
    /// Is a daemon of ours to talk to the peer about it?
    pub const fn wants_peer(self) -> bool {
        match self {
            Self::AwaitingLockin
            | Self::Normal
            | Self::ShuttingDown
            | Self::ClosingSigExchange
            // The peer may have died before it knew that both had agreed: it agrees once more.
            | Self::ClosingComplete => true,
            Self::AwaitingUnilateral | Self::FundingSpendSeen | Self::Onchain | Self::Closed => {
                false
            }
        }
    }
    /// Could it still live on, or be closed another way than it is? What ends others has nothing to
    /// end here.
    pub const fn is_open(self) -> bool {
        match self {
            Self::AwaitingLockin | Self::Normal | Self::ShuttingDown | Self::ClosingSigExchange => {
                true
            }
            Self::ClosingComplete
            | Self::AwaitingUnilateral
            | Self::FundingSpendSeen
            | Self::Onchain
            | Self::Closed => false,
        }
    }
}

/// Why a channel is in its state: CLN's words, in `cause` of `listpeerchannels` and in the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A step of its normal life.
    Unknown,
    /// We decided so by ourselves.
    Local,
    /// `close`, or another command of an operator or a plugin.
    User,
    /// The peer: `shutdown`, or `error`.
    Remote,
    /// A rule of BOLT that was broken, or a deadline that passed.
    Protocol,
    /// A transaction in a block.
    Onchain,
}

impl Cause {
    const ALL: [Self; 6] =
        [Self::Unknown, Self::Local, Self::User, Self::Remote, Self::Protocol, Self::Onchain];

    /// CLN's word, which the rows have, too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Local => "local",
            Self::User => "user",
            Self::Remote => "remote",
            Self::Protocol => "protocol",
            Self::Onchain => "onchain",
        }
    }
    /// `None` if CLN has no such word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }
}

/// Are our rows of a channel the newest that the peer knows of? An older commitment of ours is
/// revoked: who publishes it loses everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateTrust {
    /// Nothing speaks against it.
    Verified,
    /// The revocation log has no record of the channel, as after a restore from a backup: nothing
    /// of ours is published before the peer's `channel_reestablish`. Not in the rows.
    Unverified,
    /// The log or the peer proved that the rows are old: nothing of ours is ever published. For
    /// good, and in the rows (`lost_state`).
    Lost,
}
