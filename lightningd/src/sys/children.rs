//! Processes that we start: their numbers, and what a daemon is started with.

use primitives::NodeId;
use serde_json::Value;
use std::os::fd::OwnedFd;

/// Number of a child, new for each: an ask of a killed one can never be taken for its successor's.
pub type ChildId = u64;
/// Which executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Daemon {
    /// Secrets.
    Hsmd,
    /// Connections.
    Connectd,
    /// One negotiation.
    Openingd,
    /// One live channel.
    Channeld,
    /// One closing.
    Closingd,
    /// One channel on chain.
    Onchaind,
}
impl Daemon {
    /// All that exist.
    pub const ALL: [Self; 6] = [
        Self::Hsmd,
        Self::Connectd,
        Self::Openingd,
        Self::Channeld,
        Self::Closingd,
        Self::Onchaind,
    ];
    /// Short name, as the log has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hsmd => "hsmd",
            Self::Connectd => "connectd",
            Self::Openingd => "openingd",
            Self::Channeld => "channeld",
            Self::Closingd => "closingd",
            Self::Onchaind => "onchaind",
        }
    }
    /// May it hand over the peer's socket, the last descriptor that comes with its init?
    pub const fn hands_over(self) -> bool {
        match self {
            Self::Openingd | Self::Channeld => true,
            Self::Hsmd | Self::Connectd | Self::Closingd | Self::Onchaind => false,
        }
    }
    /// Name of the executable.
    pub fn executable(self) -> String {
        format!("lightning_{}", self.name())
    }
}

/// A child that is to be born.
#[derive(Debug)]
pub struct ChildSpec {
    /// Its number.
    pub id: ChildId,
    /// Which executable.
    pub daemon: Daemon,
    /// Its name in the log: `channeld-chan#3`.
    pub source: String,
    /// Whose channel it is.
    pub node: Option<NodeId>,
    /// Its own init, sent after `Start`.
    pub init: Vec<u8>,
    /// What comes attached to that; a peer's socket last.
    pub fds: Vec<OwnedFd>,
}

/// Number of a plugin's life.
pub type PluginId = u64;
/// What a plugin wrote.
pub type PluginMessage = Value;
