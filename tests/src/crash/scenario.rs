//! What a sweep runs again and again.

use super::mode::Mode;
use super::world::{Who, World};

/// What is run again and again, with a death at another place each time.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// As points are called.
    pub name: &'static str,
    /// Whose processes die.
    pub target: Who,
    /// Once through it, with everything that must hold at its end.
    pub run: fn(&mut World),
}

impl Scenario {
    /// Has it anything to do with this? What happens on chain needs no connection.
    pub fn has(&self, mode: Mode) -> bool {
        let on_chain = ["ours-", "theirs-", "forward-out-", "forward-in-", "penalty"];
        mode != Mode::HangUp || !on_chain.iter().any(|name| self.name.starts_with(name))
    }
}
