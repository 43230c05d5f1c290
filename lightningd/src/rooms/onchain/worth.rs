//! Which claims pay for themselves.

use crate::rooms::onchain::plan::{Company, company};
use crate::rooms::onchain::weights::{BASE_WEIGHT, COIN_WEIGHT, DUST, OUTPUT_WEIGHT, input_weight};
use primitives::*;
use std::collections::{BTreeMap, BTreeSet};
use wire::onchaind::{Claim, ClaimShape};

/// May any of these be worth its fee at this feerate, the lowest that is ever relayed? Claims that
/// can share a transaction share its overhead.
pub fn any_pays_for_itself(claims: &[Claim], lowest: FeeratePerKw) -> bool {
    let mut groups: BTreeMap<Company, Vec<&Claim>> = BTreeMap::new();
    for claim in claims {
        groups.entry(company(claim, &BTreeSet::new())).or_default().push(claim);
    }
    groups.values().any(|group| {
        let gain = |c: &&Claim| c.amount.saturating_sub(lowest.fee(input_weight(c))).0;
        let gained: u64 = group.iter().map(gain).sum();
        match group.first().map(|c| &c.shape) {
            None => false,
            Some(ClaimShape::Free {}) => {
                Sat(gained) >= lowest.fee(BASE_WEIGHT).saturating_add(DUST)
            }
            Some(ClaimShape::Paired { .. }) => Sat(gained) > lowest.fee(BASE_WEIGHT + COIN_WEIGHT),
            // Its fee was signed long ago. The weight is an estimate from above: a tenth is left
            // for that.
            Some(ClaimShape::Whole { amount, .. }) => group.iter().any(|c| {
                let weight = BASE_WEIGHT - OUTPUT_WEIGHT + input_weight(c);
                c.amount.saturating_sub(*amount).0 * 10 >= lowest.fee(weight).0 * 9
            }),
        }
    })
}
