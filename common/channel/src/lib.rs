//! The channel itself, as BOLT 2 and BOLT 3 define it: who may say what, what follows from it, and
//! which transactions that makes.
//!
//! Pure: no file, no socket, no clock, no randomness. It holds no secret key of ours; hsmd signs
//! with the same builders that judge here what can be afforded.
#![deny(clippy::indexing_slicing)]

mod change;
mod channel;
pub mod closing;
mod commit;
pub mod commitment;
mod constants;
pub mod cores;
mod exposure;
mod fault;
pub mod keys;
mod limits;
pub mod opening;
pub mod phase;
mod reestablish;
pub mod scripts;
pub mod shutdown;
pub mod stage;
mod update;

pub use change::{apply, apply_to, diff};
pub use channel::Channel;
pub use commit::Irrevocable;
pub use constants::{
    ANCHOR, Constants, EXPIRY_LIMIT, FAIL_BACK_BLOCKS, FORGET_UNFUNDED_BLOCKS, Format,
    HTLC_RETURN_MARGIN, IRREVOCABLE_DEPTH, MAX_HTLCS, MAX_TO_SELF_DELAY, RESERVE_PART, Unbuildable,
};
pub use fault::{CommitRefusal, FeeRefusal, PeerFault, RemovalRefusal};
pub use reestablish::{OurNumbers, Reestablished, Resend, Update};
pub use update::{BADONION, MAX_REASON};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
