//! Hooks: the points at which plugins decide, and what they decide. One row of each enum for each
//! hook, so that no point can come back with the verdict of another hook.

use primitives::{ChannelNumber, HtlcId, Preimage};

/// A step at which plugins decide, with just enough to go on. A point is asked about once at a
/// time, so it identifies the call. Nothing of it is stored: after a restart the step is reached
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookPoint {
    /// `htlc_accepted`: this received HTLC is irrevocable, and its onion was read.
    HtlcAccepted(ChannelNumber, HtlcId),
}

/// How a hook point ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What becomes of a received HTLC.
    HtlcAccepted(ChannelNumber, HtlcId, HtlcVerdict),
}

/// What becomes of a received HTLC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HtlcVerdict {
    /// As without plugins, but with this onion payload (without its length) where a plugin replaced
    /// it.
    Continue { payload: Option<Vec<u8>> },
    /// It fails with this failure message: BOLT 4's code and data.
    Fail(Vec<u8>),
    /// It fails with this error onion, which is passed back as it is.
    FailOnion(Vec<u8>),
    /// It is fulfilled, if this opens it.
    Resolve(Preimage),
}
