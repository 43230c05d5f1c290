//! The confirmed transactions of one close, and which outputs each of them spent.
//!
//! Only what spends an output of the commitment, or of a transaction that did, is indexed: whatever
//! else a stranger puts into such a transaction costs nothing later.

use primitives::*;
use std::collections::HashMap;
use std::fmt;

/// A transaction in a block.
#[derive(Debug)]
pub(crate) struct ConfirmedTx {
    pub(crate) transaction: Transaction,
    pub(crate) txid: Txid,
    pub(crate) height: BlockHeight,
}

/// How an output was spent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spend<'a> {
    pub(crate) by: &'a ConfirmedTx,
    /// Its index in the spending transaction.
    pub(crate) input: usize,
}

/// Blocks that do not follow each other: the master's bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfOrder {
    height: BlockHeight,
    tip: BlockHeight,
}
impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} where the tip is {}", self.height, self.tip)
    }
}
impl std::error::Error for OutOfOrder {}

/// The chain above the commitment.
#[derive(Debug)]
pub(crate) struct Chain {
    commitment: Txid,
    /// Where the commitment is.
    base: BlockHeight,
    pub(crate) tip: BlockHeight,
    seen: Vec<ConfirmedTx>,
    /// By outpoint: which of `seen`, and which of its inputs.
    spent: HashMap<OutPoint, (usize, usize)>,
    /// Where each of `seen` is.
    known: HashMap<Txid, usize>,
}

impl Chain {
    pub(crate) fn new(commitment: Txid, base: BlockHeight) -> Self {
        let (spent, known) = (HashMap::new(), HashMap::new());
        Self { commitment, base, tip: base, seen: Vec::new(), spent, known }
    }

    /// A transaction at this height, which is the tip or comes after it.
    pub(crate) fn joins(
        &mut self,
        transaction: Transaction,
        height: BlockHeight,
    ) -> Result<(), OutOfOrder> {
        self.reaches(height)?;
        let (at, txid) = (self.seen.len(), transaction.compute_txid());
        for (input, spends) in transaction.input.iter().enumerate() {
            let from = spends.previous_output;
            if from.txid == self.commitment || self.known.contains_key(&from.txid) {
                self.spent.insert(from, (at, input));
            }
        }
        self.known.insert(txid, at);
        self.seen.push(ConfirmedTx { transaction, txid, height });
        Ok(())
    }

    /// The tip is here now.
    pub(crate) fn reaches(&mut self, height: BlockHeight) -> Result<(), OutOfOrder> {
        if height < self.tip {
            return Err(OutOfOrder { height, tip: self.tip });
        }
        self.tip = height;
        Ok(())
    }

    /// Blocks of this height and above are gone.
    pub(crate) fn leaves(&mut self, height: BlockHeight) -> Result<(), OutOfOrder> {
        if height <= self.base {
            return Err(OutOfOrder { height, tip: self.base });
        }
        let stays = self.seen.partition_point(|seen| seen.height < height);
        self.seen.truncate(stays);
        self.spent.retain(|_, (at, _)| *at < stays);
        self.known.retain(|_, at| *at < stays);
        self.tip = self.tip.min(BlockHeight(height.0.saturating_sub(1)));
        Ok(())
    }

    /// The transaction that spent this output.
    pub(crate) fn spend_of(&self, outpoint: &OutPoint) -> Option<Spend<'_>> {
        let (at, input) = self.spent.get(outpoint)?;
        Some(Spend { by: self.seen.get(*at)?, input: *input })
    }

    /// Are there `blocks` on top of this height?
    pub(crate) fn is_buried(&self, height: BlockHeight, blocks: u32) -> bool {
        self.tip >= height + CltvDelta(blocks)
    }
}
