//! Crash sweeps: each process of a node dies, kill -9, at each barrier of a scenario, once. What
//! died is started again, the scenario ends, and everybody has what the protocol says.
//!
//! One point is one process and one number. Points of a scenario share their nodes: each is another
//! payment (or another channel) on the same line, so that it takes less than it takes to start
//! nodes. `sweep` runs all points, in shards and over several runs; `tests/crash.rs` runs some of
//! each scenario.

mod barriers;
mod channels;
pub mod command;
mod fees;
mod forwards;
mod hang_up;
mod mode;
mod onchain;
mod payments;
mod put_back;
mod scenario;
mod sweep;
mod table;
mod world;

pub use barriers::{Barriers, Counts};
pub use mode::Mode;
pub use scenario::Scenario;
pub use sweep::{Failed, Plan, Tally, sweep};
pub use table::SCENARIOS;
pub use world::{Aim, Who, World};
