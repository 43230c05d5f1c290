//! The chain as the backend tells it: tip, reorgs, fee estimates, broadcasting.
//!
//! One question is under way at a time; the answer decides on the next. Blocks are handled one a
//! turn, in order, each with all it means to the other rooms.

pub mod answers;
pub mod ask;
pub mod broadcast;
pub mod estimates;
pub mod feerates;
pub mod headers;
pub mod stale;
pub mod store;

use crate::kernel::floor::scope;
use crate::rooms::chain::estimates::Estimates;
use bitcoin::{BlockHash, Txid};
use primitives::BlockHeight;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// Headers in memory: what a reorganisation needs beyond them is read from the database.
pub const KEPT_HEADERS: usize = 144;

/// What the backend said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Blocks it has.
    pub blocks: u32,
    /// Headers it has.
    pub headers: u32,
    /// Is it in its initial download?
    pub syncing: bool,
}

/// What we know of the chain.
#[derive(Debug, Default)]
pub struct Chain {
    /// The last headers, oldest first. The last one is our tip.
    pub headers: VecDeque<(BlockHeight, BlockHash)>,
    /// When those were made, as they say themselves, in seconds since 1970. Unknown for those that
    /// an older version kept.
    pub times: BTreeMap<BlockHeight, u32>,
    /// When the log last heard that the tip is old.
    stale_since: Option<Instant>,
    /// What the backend said last.
    pub backend: Option<Backend>,
    /// Fee estimates, once there are some.
    pub fees: Option<Estimates>,
    /// When they were asked for last.
    fees_asked: Option<Instant>,
    /// Funding transactions of ours that bitcoind never accepted, so that nobody else can have
    /// them. The number is that of sendings without an answer; also 1 where a process died before
    /// the answer. As the rows say (`untaken`).
    pub never_accepted: BTreeMap<Txid, u32>,
    /// True where the first block of all was read in this life of the process, as far back as
    /// `rescan` says.
    pub began_here: bool,
    /// True once our tip was the backend's.
    pub caught_up: bool,
    /// True once the RPC socket is open and the children are at work.
    pub serving: bool,
}

scope! {
    /// This room and those below it.
    pub struct Scope { chain: Chain } on crate::kernel::Scope
}

impl Chain {
    /// Our tip's height; zero before there is one.
    pub fn height(&self) -> BlockHeight {
        self.headers.back().map_or(BlockHeight(0), |(h, _)| *h)
    }
    /// Older headers, the highest first.
    pub fn prepend(&mut self, older: Vec<crate::rooms::chain::Header>) {
        for (height, hash, time) in older {
            self.headers.push_front((height, hash));
            self.times.extend(time.map(|time| (height, time)));
        }
    }
    /// Is it certain that no bitcoind ever took this transaction of ours, and that none is about
    /// to?
    pub fn nobody_has(&self, txid: Txid) -> bool {
        self.never_accepted.get(&txid) == Some(&0)
    }
    /// Is our tip the backend's, and the backend in sync as far as it knows? Whether that tip is
    /// believed is another question:
    /// [`Node::trusts_tip`].
    pub fn is_synced(&self) -> bool {
        self.caught_up && self.backend.as_ref().is_some_and(|b| !b.syncing)
    }
}

/// A stored header: its height, its hash, and when it was made.
pub(super) type Header = (BlockHeight, BlockHash, Option<u32>);
