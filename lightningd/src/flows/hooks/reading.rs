//! What a plugin's answer to a hook call says.

use crate::kernel::words::hooks::Verdict;

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    /// The next plugin decides, on the question with this change.
    Continue(Option<Vec<u8>>),
    /// This plugin decides.
    Decided(Verdict),
    /// It cannot be read, for this reason.
    Nonsense(String),
}
