//! A tip that is too old to be the chain's: the backend is cut off, or somebody feeds it blocks
//! slowly (time dilation), so that deadlines pass which nobody here sees. What protects money that
//! is at stake goes on; nothing new is put at stake.

use crate::kernel::turn::Turn;
use crate::rooms::chain::Scope;
use primitives::Network;
use std::time::{Duration, Instant};

/// The age of a tip, by its header, from which on it is not believed. Honest blocks are ten minutes
/// apart on average: three hours without one come once in a thousand years, and a miner may set a
/// header's time back by about one hour more. In that time a chain that is withheld grows by 24
/// blocks, fewer than the 34 between the two expiries of a forward.
const TOO_OLD: Duration = Duration::from_secs(4 * 3600);
/// The log hears of it again after this.
const SAID_EVERY: Duration = Duration::from_secs(3600);

impl Scope {
    /// How old our tip is, if it is older than one should be. On regtest blocks come when somebody
    /// wants one, and only a developer's option makes them old.
    pub fn stale_tip(&self) -> Option<Duration> {
        let default = (self.network != Network::Regtest).then_some(TOO_OLD);
        let given = self.config.options.dev_stale_tip;
        let limit = given.map(|seconds| Duration::from_secs(seconds.into())).or(default)?;
        let made = *self.chain.times.get(&self.chain.height())?;
        let age = Duration::from_secs(crate::sys::json::now().saturating_sub(made.into()));
        (age > limit).then_some(age)
    }
    /// Is our view of the chain good enough to put money at stake by it?
    pub fn trusts_tip(&self) -> bool {
        self.chain.is_synced() && self.stale_tip().is_none()
    }
    /// For people: what is wrong with the tip.
    pub fn stale_warning(&self) -> Option<String> {
        let age = self.stale_tip()?.as_secs();
        Some(format!(
            "Bitcoind's newest block is from {}h{:02}m ago: it is cut off from the network, or blocks are withheld from it, or this \
             machine's clock is wrong. Nothing new is received, forwarded or opened until newer blocks come.",
            age / 3600,
            age / 60 % 60
        ))
    }
}

/// With every look at the backend: the log hears when the tip becomes old, again while it stays so,
/// and when that is over. True if the tip is believed.
pub fn look(node: &Scope, turn: &mut Turn<'_>) -> bool {
    let now = Instant::now();
    match (node.stale_warning(), node.chain.stale_since) {
        (Some(text), said) if said.is_none_or(|at| now.duration_since(at) >= SAID_EVERY) => {
            log::error!("{text}");
            turn.install(node, move |chain| chain.stale_since = Some(now));
            false
        }
        (Some(_), Some(_) | None) => false,
        (None, Some(_)) => {
            log::info!("bitcoind has a new block again: {}", node.chain.height());
            turn.install(node, |chain| chain.stale_since = None);
            true
        }
        (None, None) => true,
    }
}
