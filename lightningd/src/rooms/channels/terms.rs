//! Terms of a channel that others agree on with us: what its forwards pay, and what its close may
//! cost.

use primitives::*;

/// What a channel wants of those who forward over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For each HTLC.
    pub fee_base: Msat,
    /// Of what leaves, in millionths.
    pub fee_ppm: u32,
    /// The smallest that leaves.
    pub htlc_min: Msat,
    /// The largest that leaves.
    pub htlc_max: Msat,
}
impl Policy {
    /// The fee for this much. BOLT 7, "HTLC Fees". `None` is more than there is.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        let proportional = u128::from(amount.0) * u128::from(self.fee_ppm) / 1_000_000;
        u64::try_from(u128::from(self.fee_base.0) + proportional).ok().map(Msat)
    }
}

/// The lowest and the highest feerate that `close` was told to agree to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeerateRange {
    /// The lowest.
    pub min: FeeratePerKw,
    /// The highest.
    pub max: FeeratePerKw,
}

/// What `setchannel` said of one channel. What it did not say follows the options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnPolicy {
    /// For each HTLC.
    pub fee_base: Option<Msat>,
    /// In millionths.
    pub fee_ppm: Option<u32>,
    /// The smallest that leaves.
    pub htlc_min: Option<Msat>,
    /// The largest that leaves.
    pub htlc_max: Option<Msat>,
    /// Bear any feerate of the peer's.
    pub ignore_fee_limits: Option<bool>,
    /// What held before, and until when it is good enough, in seconds since 1970.
    pub before: Option<(Policy, u64)>,
}
