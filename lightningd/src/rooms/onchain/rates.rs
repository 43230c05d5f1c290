//! The feerates that claims go by.

use crate::rooms::onchain::Scope;
use crate::rooms::onchain::fees::Rates;

/// CLN's places in `force-feerates`.
const DELAYED_TO_US: usize = 3;

const HTLC_RESOLUTION: usize = 4;

/// What the market is like, for claims.
pub fn rates(node: &Scope) -> Rates<'_> {
    let forced = node.forced(HTLC_RESOLUTION).zip(node.forced(DELAYED_TO_US));
    Rates { floor: node.feerate_floor(), estimates: node.chain.fees.as_ref(), forced }
}
