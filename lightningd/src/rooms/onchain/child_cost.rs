//! What the child of a commitment costs: a CPFP of it over its anchor.

use crate::rooms::onchain::commitments::Bumpable;
use crate::rooms::onchain::cost::{Cost, Parent};

/// Weight of the child without UTXOs: the anchor's input and one output to us.
pub const CHILD_WEIGHT: u64 =
    crate::rooms::onchain::weights::BASE_WEIGHT + 41 * 4 + 1 + 1 + 73 + 1 + 40;

/// What the child of this commitment needs from UTXOs.
pub(super) fn cost(parent: &Bumpable) -> Cost {
    let Bumpable { txid, weight, fee, .. } = *parent;
    Cost {
        weight: CHILD_WEIGHT,
        have: channel::ANCHOR,
        parent: Some(Parent { txid, weight, fee, transactions: 1 }),
        needs_output: true,
    }
}
