//! What transactions should pay, from the backend's estimates.

use crate::rooms::chain::Scope;
use crate::sys::args::Asked;
use primitives::FeeratePerKw;

/// What a feerate is for, with CLN's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Funding a channel.
    Opening,
    /// Closing one together.
    MutualClose,
    /// A commitment without anchors, alone.
    UnilateralClose,
    /// A commitment with anchors, alone: enough to be relayed, since it can be bumped.
    UnilateralAnchorClose,
    /// A claim with a deadline.
    Penalty,
}

impl Scope {
    /// What `force-feerates` says in this place; the last one stands for all that follow.
    pub fn forced(&self, place: usize) -> Option<FeeratePerKw> {
        let rates = self.config.options.force_feerates.as_ref()?;
        rates.get(place).or(rates.last()).copied()
    }

    /// The least that is relayed.
    pub fn feerate_floor(&self) -> FeeratePerKw {
        self.chain.fees.as_ref().map_or(FeeratePerKw::FLOOR, |f| f.floor)
    }

    /// What to pay for this; `None` before there are estimates.
    pub fn feerate(&self, what: Use) -> Option<FeeratePerKw> {
        let (place, blocks) = match what {
            Use::Opening => (0, 12),
            Use::MutualClose => (1, 100),
            Use::UnilateralClose => (2, 6),
            Use::UnilateralAnchorClose => (2, 12),
            Use::Penalty => (5, 12),
        };
        if let Some(forced) = self.forced(place) {
            return Some(forced.max(FeeratePerKw::FLOOR));
        }
        let estimate = self.chain.fees.as_ref()?.within(blocks)?;
        Some(match what {
            // Ten satoshi per virtual byte carry any commitment into any mempool; anchors do the
            // rest.
            Use::UnilateralAnchorClose => {
                estimate.min(FeeratePerKw(2500)).max(self.feerate_floor())
            }
            Use::Opening | Use::MutualClose | Use::UnilateralClose | Use::Penalty => estimate,
        })
    }

    /// The feerate that was asked for: a number as it is, an estimate never below the least that is
    /// relayed.
    pub fn feerate_asked(&self, asked: Asked) -> Option<FeeratePerKw> {
        let floor = self.feerate_floor();
        let rate = match asked {
            Asked::Fixed(rate) => return Some(rate.max(FeeratePerKw::FLOOR)),
            Asked::Minimum => Some(floor),
            Asked::Within(blocks) => {
                self.forced(0).or_else(|| self.chain.fees.as_ref().and_then(|f| f.within(blocks)))
            }
        };
        rate.map(|r| r.max(floor))
    }

    /// The lowest and the highest that a peer may set for a commitment, with anchors or without.
    /// BOLT 2, update_fee.
    pub fn feerate_bounds(&self, anchors: bool) -> (FeeratePerKw, FeeratePerKw) {
        self.feerate_bounds_or_any(anchors, self.bears_any_feerate())
    }

    /// The same for a channel that may have been told to bear any. With anchors it is enough that
    /// the commitment is relayed: others count on that as we do, and ask for no more.
    pub fn feerate_bounds_or_any(&self, anchors: bool, any: bool) -> (FeeratePerKw, FeeratePerKw) {
        if any {
            return (FeeratePerKw(1), FeeratePerKw(u32::MAX));
        }
        let fees = self.chain.fees.as_ref();
        let low = match fees {
            Some(fees) if anchors => fees.floor,
            Some(fees) => fees.within(100).map_or(fees.floor, |r| FeeratePerKw(r.0 / 2)),
            None => FeeratePerKw::FLOOR,
        };
        let high = fees
            .and_then(|f| f.within(2))
            .map_or(FeeratePerKw(u32::MAX), |r| FeeratePerKw(r.0.saturating_mul(10)));
        (low.max(FeeratePerKw::FLOOR), high.max(FeeratePerKw(5000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::chain::Estimates;
    use serde_json::json;

    #[test]
    fn estimates_are_read_and_never_below_the_floor() {
        let e = Estimates::parse(&json!({"feerate_floor": 1000, "feerates": [
            {"blocks": 6, "feerate": 8000}, {"blocks": 2, "feerate": 20000}, {"blocks": 100, "feerate": 500}]}))
        .unwrap();
        assert_eq!(e.floor, FeeratePerKw(253));
        assert_eq!(e.within(1), Some(FeeratePerKw(5000)));
        assert_eq!(e.within(12), Some(FeeratePerKw(2000)));
        assert_eq!(e.within(1000), Some(FeeratePerKw(253)));
        assert!(Estimates::parse(&json!({"feerates": []})).is_err());
    }

    #[test]
    fn what_we_would_ask_for_ourselves_we_take_from_others() {
        let mut rig = crate::testing::Rig::new("feerate-bounds", &[]);
        rig.node.network = primitives::Network::Bitcoin;
        rig.node.config = crate::sys::options::Config::for_network(rig.node.network);
        let high = json!({"feerate_floor": 1000, "feerates": [
            {"blocks": 2, "feerate": 200_000}, {"blocks": 6, "feerate": 160_000},
            {"blocks": 12, "feerate": 140_000}, {"blocks": 100, "feerate": 120_000}]});
        rig.node.chain.fees = Some(Estimates::parse(&high).unwrap());
        for (what, anchors) in [(Use::UnilateralAnchorClose, true), (Use::UnilateralClose, false)] {
            let (low, high) = rig.node.feerate_bounds(anchors);
            let ours = rig.node.feerate(what).unwrap();
            assert!(low <= ours && ours <= high, "{low} <= {ours} <= {high}");
        }
        assert_eq!(rig.node.feerate_bounds(true).0, FeeratePerKw(253));
        assert_eq!(rig.node.feerate_bounds(false).0, FeeratePerKw(15_000));
    }

    #[test]
    fn a_number_is_taken_by_its_word_and_an_estimate_is_relayed() {
        let mut rig = crate::testing::Rig::new("feerate-asked", &[]);
        let asked = |rig: &crate::testing::Rig, text| rig.node.feerate_asked(Asked::parse(text)?);
        assert_eq!(asked(&rig, "1perkw"), Some(FeeratePerKw(253)));
        let full = json!({"feerate_floor": 4000, "feerates": [{"blocks": 2, "feerate": 8000}]});
        rig.node.chain.fees = Some(Estimates::parse(&full).unwrap());
        for (text, rate) in
            [("600perkw", 600), ("minimum", 1000), ("1500perkw", 1500), ("2blocks", 2000)]
        {
            assert_eq!(asked(&rig, text), Some(FeeratePerKw(rate)), "{text}");
        }
    }

    #[test]
    fn people_write_feerates_in_many_ways() {
        assert_eq!(Asked::parse("1000"), Some(Asked::Fixed(FeeratePerKw(250))));
        assert_eq!(Asked::parse("253perkw"), Some(Asked::Fixed(FeeratePerKw(253))));
        assert_eq!(Asked::parse("6blocks"), Some(Asked::Within(6)));
        assert_eq!(Asked::parse("slow"), Some(Asked::Within(100)));
        for bad in ["", "fast", "-1", "1.5", "perkw", "+3perkb"] {
            assert_eq!(Asked::parse(bad).filter(|_| !bad.is_empty()), None, "{bad}");
        }
    }
}
