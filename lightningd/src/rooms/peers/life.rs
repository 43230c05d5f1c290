//! connectd's process and what it listens on, as far as we know.

use crate::sys::backoff::Backoff;
use crate::sys::children::ChildId;
use std::time::{Duration, Instant};
use wire::connectd::Address;

/// Between connectd's second death in a row and the next start; it doubles up to the longest.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);

pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A connectd that lived for so long begins a new series.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(120);

/// connectd's process, as far as we know.
#[derive(Debug)]
pub struct Connectd {
    pub life: Life,
    pub backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It was never started: the Bitcoin backend has not answered yet.
    NotYet,
    Running(ChildId),
    /// It died, and is started again then.
    Down(Instant),
}

/// What the node listens on.
#[derive(Debug, Default)]
pub enum Doors {
    /// No connectd has said yet.
    #[default]
    NotYet,
    /// As this connectd says.
    Open(ChildId, Vec<Address>),
    /// This connectd, not our first, could listen on nothing. How long until we look whether
    /// another could.
    Shut(ChildId, Backoff),
}

impl Default for Connectd {
    fn default() -> Self {
        let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, HEALTHY_AFTER);
        Self { life: Life::NotYet, backoff }
    }
}

impl Connectd {
    /// The process, if there is one.
    pub const fn child(&self) -> Option<ChildId> {
        match self.life {
            Life::Running(child) => Some(child),
            Life::NotYet | Life::Down(_) => None,
        }
    }
    pub fn why_down(&self, now: Instant) -> Option<String> {
        let Life::Down(again) = self.life else { return None };
        Some(format!(
            "connectd died ({} in a row) and no peer can be reached: it is started again in {} seconds",
            self.backoff.failures(),
            again.saturating_duration_since(now).as_millis().div_ceil(1000)
        ))
    }
    #[cfg(test)]
    pub(super) const fn down_until(&self) -> Option<Instant> {
        match self.life {
            Life::Down(at) => Some(at),
            Life::NotYet | Life::Running(_) => None,
        }
    }
    #[cfg(test)]
    pub(super) const fn run(&mut self, child: ChildId) {
        self.life = Life::Running(child);
    }
}
