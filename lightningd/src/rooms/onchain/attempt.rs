//! A transaction of ours that is to be in a block and is not.

use bitcoin::{Transaction, Txid};
use primitives::{BlockHeight, FeeratePerKw, OutPoint};

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Takes outputs of a close.
    Claim,
    /// Pays for our commitment, through its anchor.
    AnchorBump,
}

impl Kind {
    /// As it is stored.
    pub const fn number(self) -> u8 {
        match self {
            Self::Claim => 0,
            Self::AnchorBump => 1,
        }
    }
    /// The one of this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Claim),
            1 => Some(Self::AnchorBump),
            _ => None,
        }
    }
}

/// It, with what the next attempt must beat.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its id.
    pub txid: Txid,
    /// Signed.
    pub tx: Transaction,
    /// What it is for.
    pub kind: Kind,
    /// Claimed outputs, the first inputs. The other inputs are UTXOs of the wallet that pay the
    /// fee.
    pub claims: Vec<OutPoint>,
    /// What it pays.
    pub feerate: FeeratePerKw,
    /// The tip when the first attempt at these was made.
    pub first: BlockHeight,
    /// The tip when this one was made.
    pub height: BlockHeight,
    /// bitcoind rejected it when it was sent last: another transaction may be in its way.
    pub refused: bool,
    /// Tip when bitcoind accepted it last. Not persisted.
    pub accepted: Option<BlockHeight>,
    /// Height of the first of an unbroken series of mempool rejections, including those of the
    /// transactions that this one replaced. Not persisted.
    pub refused_since: Option<BlockHeight>,
}

/// A transaction that was rejected for so many blocks gives way to claims with less value.
pub(super) const TRIES: u32 = 6;

impl Attempt {
    /// One that was signed just now, at this feerate, with the tip of the first attempt and
    /// today's; `before` is what it replaces.
    pub fn new(
        tx: Transaction,
        kind: Kind,
        claims: Vec<OutPoint>,
        (feerate, first, height): (FeeratePerKw, BlockHeight, BlockHeight),
        before: Option<&Self>,
    ) -> Self {
        let refused_since = before.and_then(Self::was_refused_since);
        let txid = tx.compute_txid();
        let (refused, accepted) = (false, None);
        Self { txid, tx, kind, claims, feerate, first, height, refused, accepted, refused_since }
    }
    /// Was it refused again and again? What is in its way may stay there for ever.
    pub fn is_hopeless(&self, tip: BlockHeight) -> bool {
        self.refused && self.refused_since.is_some_and(|since| (tip - since).0 >= TRIES)
    }
    /// What the one after it inherits.
    pub fn was_refused_since(&self) -> Option<BlockHeight> {
        self.refused_since.filter(|_| self.refused)
    }
}

/// Of an output whose claim was dropped.
#[derive(Debug, Clone, Copy)]
pub struct GivenUp {
    /// The tip when the first attempt at it was made: what it pays rises from there, also when it
    /// is claimed anew.
    pub first: BlockHeight,
    /// Tip at which bitcoind's rejection cost it its UTXOs. It displaces nothing before the next
    /// block.
    pub rests_at: Option<BlockHeight>,
}
