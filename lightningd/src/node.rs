//! The top of the stairs: every room.

use crate::kernel::floor::scope;
use crate::rooms::onchain;

scope! {
    /// All rooms. For flows, api and what is above them: no room takes it, and it has no room of
    /// its own to change.
    pub struct Node {} on onchain::Scope
}
