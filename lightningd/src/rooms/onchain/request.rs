//! What the fee allocator decides about: requests for UTXOs, and the transactions that have some.

use super::commitments::Bumpable;
use super::cost::Cost;
use super::plan::Make;
use bitcoin::Txid;
use primitives::*;
use std::cmp::Reverse;
use wire::onchaind::Claim;

/// What a request is for.
#[derive(Debug, Clone)]
pub enum What {
    /// HTLC transactions that the peer signed.
    Claims(Make),
    /// The child of a commitment.
    Bump {
        /// Of which.
        target: Bumpable,
        /// Tip at the first attempt.
        first: BlockHeight,
    },
}

/// What an anchor bump may cost when no HTLC is at risk.
#[derive(Debug, Clone, Copy)]
pub struct Calm {
    /// The feerate wanted.
    pub wanted: FeeratePerKw,
    /// In satoshi.
    pub max_fee: Sat,
}

/// A transaction that wants UTXOs for its fee.
#[derive(Debug, Clone)]
pub struct Request {
    /// Of which channel it is.
    pub number: ChannelNumber,
    /// What it is for.
    pub what: What,
    /// What is lost without it.
    pub worth: Sat,
    /// From this block on it may be too late.
    pub deadline: Option<BlockHeight>,
    /// The standing transaction that it takes the place of.
    pub before: Option<Txid>,
    /// Below this feerate it is not built. (Not for a replacement, which must beat its
    /// predecessor.)
    pub least: FeeratePerKw,
    /// What it should pay.
    pub wanted: FeeratePerKw,
    /// Maximum fee at a feerate above the relay floor; at the floor, twice this.
    pub max_fee: Sat,
    /// Bounds if no HTLC counts: used with free UTXOs only, if they allow more than the deadline
    /// does. `None` for claims.
    pub calm: Option<Calm>,
    /// May it spend the unconfirmed change of another transaction? (Anchor bumps only.)
    pub may_chain: bool,
    /// Was it displaced in this block after a rejection? Then it displaces nothing.
    pub rests: bool,
    /// What it needs.
    pub cost: Cost,
}

impl Request {
    /// Claims of one batch.
    pub fn claims(number: ChannelNumber, make: Make, floor: FeeratePerKw) -> Self {
        let (worth, deadline) = (make.worth(), make.deadline());
        let least = if make.claims.len() > 1 { make.feerate } else { floor.min(make.feerate) };
        Self {
            number,
            worth,
            deadline,
            before: make.replaces,
            least,
            wanted: make.feerate,
            max_fee: Sat(worth.0 / super::fees::MAX_SHARE),
            calm: None,
            may_chain: false,
            rests: false,
            cost: super::claims::cost(&make.claims),
            what: What::Claims(make),
        }
    }

    /// How many claims share the transaction. A bump stands alone.
    pub const fn batch(&self) -> usize {
        match &self.what {
            What::Claims(make) => make.claims.len(),
            What::Bump { .. } => 1,
        }
    }

    /// What it spends that UTXOs of the wallet pay for.
    pub fn outpoints(&self) -> impl Iterator<Item = OutPoint> {
        let (claims, anchor) = match &self.what {
            What::Claims(make) => (make.claims.as_slice(), None),
            What::Bump { target, .. } => ([].as_slice(), Some(target.anchor)),
        };
        claims.iter().map(|c| c.outpoint).chain(anchor)
    }

    /// The more valuable half of a batch, and the other.
    pub fn halves(&self, floor: FeeratePerKw) -> Vec<Self> {
        let What::Claims(make) = &self.what else { return vec![] };
        let mut claims = make.claims.clone();
        claims.sort_by_key(|c| Reverse(c.amount));
        let halves = claims.chunks(claims.len().div_ceil(2));
        let half = |half: &[Claim]| {
            let make = Make { claims: half.to_vec(), replaces: None, ..make.clone() };
            Self { rests: self.rests, ..Self::claims(self.number, make, floor) }
        };
        halves.map(half).collect()
    }
}

/// A claim or anchor bump of ours that was sent and is in no block.
#[derive(Debug, Clone)]
pub struct Standing {
    pub txid: Txid,
    /// What is lost without it.
    pub worth: Sat,
    /// From this block on it may be too late.
    pub deadline: Option<BlockHeight>,
    /// What it pays.
    pub fee: Sat,
    /// In weight units.
    pub weight: u64,
    /// Its feerate, together with what it pays for.
    pub feerate: FeeratePerKw,
    /// Tip at the first attempt.
    pub first: BlockHeight,
    /// Tip when it was made.
    pub made: BlockHeight,
    /// Did bitcoind reject it when it was sent last?
    pub refused: bool,
    /// Did bitcoind accept it since the block before this one?
    pub accepted: bool,
    /// Was it rejected for six blocks running?
    pub hopeless: bool,
    /// What asks for UTXOs anew if these are given to another.
    pub again: Again,
}

/// What follows for a transaction that loses its UTXOs.
#[derive(Debug, Clone)]
pub enum Again {
    /// It is asked for anew.
    Ask(Request),
    /// Nothing needs it any more.
    Unneeded,
    /// It would be asked for, and hsmd has refused it lately.
    Unsigned,
}

impl Standing {
    /// Its feerate without what it pays for, rounded up: bitcoind compares this one.
    pub fn own_rate(&self) -> u64 {
        self.fee.0.saturating_mul(1000).div_ceil(self.weight.max(1))
    }
}
