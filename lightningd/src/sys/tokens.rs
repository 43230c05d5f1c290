//! Which descriptor of the loop is whose: tokens of mio's poll.

use mio::Token;

pub const SIGNALS: Token = Token(0);
pub(crate) const LISTENER: Token = Token(1);
/// Where the tokens of each kind of source begin.
pub(crate) const RPC_BASE: usize = 1 << 32;
pub const CHILD_BASE: usize = 1 << 40;
pub const PLUGIN_BASE: usize = 1 << 48;
