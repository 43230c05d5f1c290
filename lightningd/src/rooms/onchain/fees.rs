//! What a claim should pay: more from block to block towards its deadline, and never less than
//! before.

use crate::rooms::chain::estimates::Estimates;
use primitives::{BlockHeight, FeeratePerKw, Sat};

/// A claim may cost this share of what is at stake at most, even at its deadline: one half.
pub(super) const MAX_SHARE: u64 = 2;
/// Without a deadline an attempt has this many blocks before the next one pays more.
const BLOCKS_BEFORE_RAISE: u32 = 12;
/// Where the deadline had passed before the first attempt: blocks until all is paid that it should
/// cost.
const MISSED: u32 = 6;
/// Without a deadline: an estimate for so many blocks.
const NO_HURRY: u32 = 12;

/// What the market is like.
#[derive(Debug, Clone, Copy)]
pub struct Rates<'a> {
    /// The least that is relayed.
    pub floor: FeeratePerKw,
    /// The backend's estimates, if there are some.
    pub estimates: Option<&'a Estimates>,
    /// What `force-feerates` puts in their place: with a deadline, and without.
    pub forced: Option<(FeeratePerKw, FeeratePerKw)>,
}

impl Rates<'_> {
    fn within(&self, blocks: u32) -> FeeratePerKw {
        let found = self.estimates.and_then(|e| e.within(blocks));
        let found = self.forced.map(|(hurried, _)| hurried).or(found);
        found.unwrap_or(self.floor).max(self.floor)
    }
}

/// What is to be in a block, by when, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Stake {
    /// The tip when the first attempt was made.
    pub first: BlockHeight,
    /// The block from which on it may be too late.
    pub deadline: Option<BlockHeight>,
    /// What is lost then.
    pub value: Sat,
    /// Weight of the transaction, in weight units.
    pub weight: u64,
}

/// The feerate that this stake is worth at this tip. For a given stake and market it only rises
/// with the tip.
pub fn wanted(rates: &Rates<'_>, tip: BlockHeight, stake: &Stake) -> FeeratePerKw {
    let Some(deadline) = stake.deadline else {
        let forced = rates.forced.map(|(_, calm)| calm.max(rates.floor));
        return forced.unwrap_or_else(|| rates.within(NO_HURRY));
    };
    let remaining = (deadline - tip).0;
    let market = rates.within((remaining / 2).clamp(2, NO_HURRY));
    let most = u128::from(stake.value.0 / MAX_SHARE) * 1000 / u128::from(stake.weight.max(1));
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    if most <= market.0 {
        // The market asks for more than it should cost: that much, if it is relayed.
        return FeeratePerKw(most).max(rates.floor);
    }
    // From the market's price at the first attempt to all that it should cost at the deadline, by
    // the fourth power of the time that is gone: cheap while there is time, and nothing held back
    // when there is none. One that had passed by then cannot be met: all of it at once would buy
    // nothing.
    let window = if deadline > stake.first { (deadline - stake.first).0 } else { MISSED };
    let window = u128::from(window);
    let gone = u128::from((tip - stake.first).0).min(window);
    let extra = u128::from(most - market.0) * gone.pow(4) / window.pow(4);
    FeeratePerKw(market.0 + u32::try_from(extra).unwrap_or(u32::MAX - market.0))
}

/// What a replacement must pay at least: clearly more, or nobody relays it. (BIP 125, rules 3 and
/// 4.)
pub fn clearly_above(before: FeeratePerKw, floor: FeeratePerKw) -> FeeratePerKw {
    FeeratePerKw(before.0.saturating_add((before.0 / 4).max(floor.0)))
}

/// What the next attempt after one at `before` (made at `made`) should pay, if there should be
/// another one now.
pub fn next(
    rates: &Rates<'_>,
    tip: BlockHeight,
    stake: &Stake,
    before: FeeratePerKw,
    made: BlockHeight,
) -> Option<FeeratePerKw> {
    if tip <= made {
        return None;
    }
    let least = clearly_above(before, rates.floor);
    let now = wanted(rates, tip, stake);
    let stuck = stake.deadline.is_none() && (tip - made).0 >= BLOCKS_BEFORE_RAISE && now >= before;
    (now >= least || stuck).then(|| now.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimates() -> Estimates {
        Estimates {
            floor: FeeratePerKw(253),
            by_blocks: vec![(2, FeeratePerKw(5000)), (12, FeeratePerKw(1000))],
        }
    }
    fn stake(deadline: Option<u32>) -> Stake {
        Stake {
            first: BlockHeight(100),
            deadline: deadline.map(BlockHeight),
            value: Sat(1_000_000),
            weight: 1000,
        }
    }

    #[test]
    fn claim_fee_ramps_from_market_rate_to_half_of_the_stake() {
        let estimates = estimates();
        let rates = Rates { floor: FeeratePerKw(253), estimates: Some(&estimates), forced: None };
        let at = |tip| wanted(&rates, BlockHeight(tip), &stake(Some(200)));
        assert_eq!(at(100), FeeratePerKw(1000));
        assert_eq!(at(200), FeeratePerKw(500_000));
        assert_eq!(at(300), FeeratePerKw(500_000), "and no more after it");
        assert!((100..300).all(|tip| at(tip) <= at(tip + 1)), "it never falls");
        assert_eq!(wanted(&rates, BlockHeight(150), &stake(None)), FeeratePerKw(1000));
    }

    #[test]
    fn claim_fee_is_at_most_half_its_value_or_the_relay_floor() {
        let estimates = estimates();
        let rates = Rates { floor: FeeratePerKw(253), estimates: Some(&estimates), forced: None };
        let poor = Stake { value: Sat(1000), ..stake(Some(110)) };
        assert_eq!(wanted(&rates, BlockHeight(100), &poor), FeeratePerKw(500));
        let poorest = Stake { value: Sat(10), ..poor };
        assert_eq!(wanted(&rates, BlockHeight(105), &poorest), FeeratePerKw(253));
    }

    #[test]
    fn claim_fee_past_deadline_does_not_jump_to_half_at_once() {
        let estimates = estimates();
        let rates = Rates { floor: FeeratePerKw(253), estimates: Some(&estimates), forced: None };
        // As after a day without power.
        let at = |tip| wanted(&rates, BlockHeight(tip), &stake(Some(20)));
        assert_eq!(at(100), FeeratePerKw(5000));
        assert!(at(101) < FeeratePerKw(6000), "{}", at(101));
        assert!((100..110).all(|tip| at(tip) <= at(tip + 1)), "it never falls");
        assert_eq!(at(106), FeeratePerKw(500_000));
    }

    #[test]
    fn the_next_attempt_beats_the_one_before_or_is_not_made() {
        let estimates = estimates();
        let rates = Rates { floor: FeeratePerKw(253), estimates: Some(&estimates), forced: None };
        let s = stake(Some(200));
        let (mut rate, mut made, mut attempts) = (FeeratePerKw(1000), BlockHeight(100), 0);
        for tip in 100..=200 {
            if let Some(next) = next(&rates, BlockHeight(tip), &s, rate, made) {
                assert!(next.0 >= rate.0 + rate.0 / 4 && next.0 >= rate.0 + 253);
                (rate, made, attempts) = (next, BlockHeight(tip), attempts + 1);
            }
        }
        assert!(rate >= FeeratePerKw(400_000), "{rate}");
        assert!(attempts < 40, "{attempts} attempts");
        assert_eq!(next(&rates, made, &s, FeeratePerKw(1), made), None, "one attempt a block");
        let easy = stake(None);
        assert_eq!(
            next(&rates, BlockHeight(105), &easy, FeeratePerKw(1000), BlockHeight(100)),
            None
        );
        assert!(
            next(&rates, BlockHeight(112), &easy, FeeratePerKw(1000), BlockHeight(100)).is_some()
        );
    }
}
