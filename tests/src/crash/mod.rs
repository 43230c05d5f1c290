//! Crash sweeps: each process of a node dies, kill -9, at each barrier of a scenario, once. What died is started again, the
//! scenario ends, and everybody has what the protocol says.
//!
//! One point is one process and one number. Points of a scenario share their nodes: each is another payment (or another
//! channel) on the same line, so that it takes less than it takes to start nodes. `sweep` runs all points, in shards and over
//! several runs; `tests/crash.rs` runs some of each scenario.

mod barriers;
pub mod command;
mod payments;
mod sweep;
mod world;

pub use barriers::{Barriers, Counts};
pub use sweep::{Failed, Plan, Tally, sweep};
pub use world::{Aim, Who, World};

/// What is run again and again, with a death at another place each time.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// As points are called.
    pub name: &'static str,
    /// Whose processes die.
    pub target: Who,
    /// What every node of its world is started with.
    pub options: &'static [&'static str],
    /// Once through it, with everything that must hold at its end.
    pub run: fn(&mut World),
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "pay-sent", target: Who::L1, options: &[], run: payments::fulfilled },
    Scenario { name: "pay-received", target: Who::L3, options: &[], run: payments::fulfilled },
    Scenario { name: "forward-fulfilled", target: Who::L2, options: &[], run: payments::fulfilled },
    Scenario { name: "forward-failed", target: Who::L2, options: &[], run: payments::failed },
];
