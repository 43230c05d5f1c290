//! Weights of the parts of claims, and the least that an output may have.

use primitives::*;
use wire::onchaind::{Claim, ClaimShape};

/// Weight of a transaction without its inputs, with one output that pays us.
pub const BASE_WEIGHT: u64 = (4 + 4 + 1 + 1) * 4 + 2 + 43 * 4;

/// Weight of the output that pays us.
pub(super) const OUTPUT_WEIGHT: u64 = 43 * 4;

/// Weight of the input that spends a coin of the wallet: at least one pays for what the peer
/// signed.
pub const COIN_WEIGHT: u64 = 41 * 4 + 1 + 1 + 72 + 1 + 33;

/// Weight of one claim's input.
pub fn input_weight(claim: &Claim) -> u64 {
    let paired_output = match &claim.shape {
        ClaimShape::Free {} => 0,
        ClaimShape::Paired { .. } | ClaimShape::Whole { .. } => 43 * 4,
    };
    41 * 4 + u64::from(claim.witness_weight) + paired_output
}

/// Below it our own output is not relayed. (P2TR.)
pub const DUST: Sat = Sat(330);
