//! Crash sweeps: each process of a node dies, kill -9, at each barrier of a scenario, once. What died is started again, the
//! scenario ends, and everybody has what the protocol says.
//!
//! One point is one process and one number. Points of a scenario share their nodes: each is another payment (or another
//! channel) on the same line, so that it takes less than it takes to start nodes. `sweep` runs all points, in shards and over
//! several runs; `tests/crash.rs` runs some of each scenario.

mod barriers;
mod channels;
pub mod command;
mod fees;
mod forwards;
mod hang_up;
mod onchain;
mod payments;
mod put_back;
mod sweep;
mod world;

pub use barriers::{Barriers, Counts};
pub use sweep::{Failed, Plan, Tally, sweep};
pub use world::{Aim, Who, World};

/// What happens to the node under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each process dies at each of its barriers. Its children die with the master.
    Kill,
    /// The master dies at each of its barriers, and its children live until they notice. The next master waits for them.
    Orphans,
    /// After the scenario's end the database is what it was at each of its commits: as somebody does who restores a backup.
    PutBack,
    /// Nobody dies: each process stops at each of its barriers, the node's peers hang up, and it goes on.
    HangUp,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Orphans, Self::PutBack, Self::HangUp];
    /// As it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Orphans => "orphans",
            Self::PutBack => "put-back",
            Self::HangUp => "hang-up",
        }
    }
}

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

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "pay-sent", target: Who::L1, run: payments::fulfilled },
    Scenario { name: "pay-received", target: Who::L3, run: payments::fulfilled },
    Scenario { name: "forward-fulfilled", target: Who::L2, run: payments::fulfilled },
    Scenario { name: "forward-failed", target: Who::L2, run: payments::failed },
    Scenario { name: "open-opener", target: Who::L1, run: channels::opened },
    Scenario { name: "open-accepter", target: Who::L2, run: channels::opened },
    Scenario { name: "close-closer", target: Who::L1, run: channels::closed },
    Scenario { name: "close-closee", target: Who::L2, run: channels::closed },
    Scenario { name: "close-again-closer", target: Who::L1, run: channels::closed_again },
    Scenario { name: "close-again-closee", target: Who::L2, run: channels::closed_again },
    Scenario { name: "fee-opener", target: Who::L1, run: fees::updated },
    Scenario { name: "fee-accepter", target: Who::L2, run: fees::updated },
    Scenario { name: "ours-before", target: Who::L1, run: onchain::before },
    Scenario { name: "ours-during", target: Who::L1, run: onchain::during },
    Scenario { name: "ours-after", target: Who::L1, run: onchain::after },
    Scenario { name: "ours-never", target: Who::L1, run: onchain::never },
    Scenario { name: "theirs-before", target: Who::L1, run: onchain::peer_before },
    Scenario { name: "theirs-during", target: Who::L1, run: onchain::peer_during },
    Scenario { name: "theirs-after", target: Who::L1, run: onchain::peer_after },
    Scenario { name: "theirs-never", target: Who::L1, run: onchain::peer_never },
    Scenario { name: "forward-out-taken", target: Who::L2, run: forwards::out_taken },
    Scenario { name: "forward-out-timeout", target: Who::L2, run: forwards::out_timeout },
    Scenario { name: "forward-in-taken", target: Who::L2, run: forwards::in_taken },
    Scenario { name: "penalty", target: Who::L2, run: onchain::penalty },
];
