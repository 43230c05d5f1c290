//! A line of the log, and who speaks in it.

use primitives::NodeId;
use std::time::Duration;
use wire::daemon::LogLevel;

/// Which process wrote a line. Limits and queues are apart: what one says hides nothing of
/// another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Speaker {
    /// This one.
    Lightningd,
    /// A subdaemon, in its own words: it may be captured.
    Daemon,
    /// `plugin-NAME`: what a plugin logs or writes to its stderr.
    Plugin,
}

/// A line as it is kept.
#[derive(Debug, Clone)]
pub struct Line {
    /// Since the start.
    pub at: Duration,
    /// How loud.
    pub level: LogLevel,
    /// About whom.
    pub node: Option<NodeId>,
    /// Who says it.
    pub source: String,
    /// What.
    pub text: String,
}
