//! Settings that differ between a node and a test.

use std::time::Duration;

/// How patient openingd is, and whether it is sandboxed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Go into the box before anything is read.
    pub sandbox: bool,
    /// How long a peer may think about a message of ours.
    pub patience: Duration,
    /// How long a peer may take to build its funding: people sign by hand.
    pub funding_patience: Duration,
}

impl Default for Settings {
    /// A node's.
    fn default() -> Self {
        Self {
            sandbox: true,
            patience: Duration::from_secs(600),
            funding_patience: Duration::from_secs(3600),
        }
    }
}
