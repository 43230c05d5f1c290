//! When we, the opener, change the commitment's feerate. BOLT 2, update_fee.

use crate::live::Live;
use channel::Update;
use channel::phase::{Input, Rule, rule};
use primitives::*;
use subdaemon::Failure;

/// Is the estimate so far from what is paid that an update is worth it? A commitment that pays too
/// little may not confirm; one that pays too much only costs.
pub(crate) fn is_worth_it(now: FeeratePerKw, target: FeeratePerKw) -> bool {
    let (now, target) = (u64::from(now.0), u64::from(target.0));
    target * 10 > now * 11 || target * 10 < now * 7
}

impl Live {
    /// BOLT 2, shutdown: updates end when the last HTLC is gone from both commitments and all is
    /// revoked. The peer may know that before us: only an HTLC whose removal has not begun shows
    /// that it is not so far. It may be there for long, and then the feerate matters.
    fn may_update(&self) -> bool {
        let closing = self.closing.is_begun();
        !(closing.local || closing.remote) || self.channel.htlcs().any(|h| h.removed.is_none())
    }

    /// Proposes the feerate that the estimates ask for, as far as we can afford it.
    pub(crate) fn consider_fee(&mut self) -> Result<(), Failure> {
        let opener = self.channel.constants().params.opener == Side::Local;
        let frozen = rule(self.channel_phase(), Input::Persist) != Rule::Taken;
        if !opener || !self.is_normal() || frozen || !self.may_update() {
            return Ok(());
        }
        let now = self.channel.feerate();
        let target = self.fees.target.max(FeeratePerKw::FLOOR);
        if !is_worth_it(now, target) {
            return Ok(());
        }
        let Some(feerate) = self.channel.affordable_feerate(target, &self.policy) else {
            log::info!("not changing the feerate {now}: {target}, the estimate, is not affordable");
            return Ok(());
        };
        if !is_worth_it(now, feerate) {
            log::debug!(
                "not changing the feerate {now}: of {target}, the estimate, we can afford {feerate}"
            );
            return Ok(());
        }
        match self.channel.offer_fee(feerate, &self.policy) {
            Ok(next) => {
                log::debug!("update_fee: feerate {now} to {feerate}");
                self.channel = next;
                self.unsaid.retain(|update| !matches!(update, Update::Fee(_)));
                self.unsaid.push(Update::Fee(feerate));
                Ok(())
            }
            Err(why) => Err(Failure::internal(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_of_the_estimate_are_left_alone() {
        for (now, target, worth) in [
            (1000, 1000, false),
            (1000, 1100, false),
            (1000, 1101, true),
            (1000, 700, false),
            (1000, 699, true),
            (u32::MAX, u32::MAX, false),
            (253, u32::MAX, true),
        ] {
            assert_eq!(
                is_worth_it(FeeratePerKw(now), FeeratePerKw(target)),
                worth,
                "{now} {target}"
            );
        }
    }
}
