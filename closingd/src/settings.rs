//! Settings that differ between a node and a test.

use std::time::Duration;

/// How patient closingd is, and whether it is sandboxed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Go into the box before anything is read.
    pub sandbox: bool,
    /// How long a peer may think about a fee.
    pub patience: Duration,
    /// How long to be there for late messages once all is agreed.
    pub linger: Duration,
}

impl Default for Settings {
    /// A node's.
    fn default() -> Self {
        Self { sandbox: true, patience: Duration::from_secs(600), linger: Duration::from_secs(60) }
    }
}
