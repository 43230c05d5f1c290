//! When we, the opener, change the commitment's feerate. BOLT 2, update_fee.

use crate::live::Live;
use channel::Update;
use primitives::*;
use subdaemon::Failure;

/// Is the estimate so far from what is paid that an update is worth it? A commitment that pays too little may not confirm;
/// one that pays too much only costs.
pub(crate) fn is_worth_it(now: FeeratePerKw, target: FeeratePerKw) -> bool {
    let (now, target) = (u64::from(now.0), u64::from(target.0));
    target * 10 > now * 11 || target * 10 < now * 7
}

impl Live {
    /// Proposes the feerate that the estimates ask for, as far as we can afford it.
    pub(crate) fn consider_fee(&mut self) -> Result<(), Failure> {
        let closing = self.closing.is_begun();
        let opener = self.channel.constants().params.opener == Side::Local;
        if !opener || !self.is_normal() || closing.local || closing.remote {
            return Ok(());
        }
        let now = self.channel.feerate();
        let target = self.fees.target.max(FeeratePerKw::FLOOR);
        if !is_worth_it(now, target) {
            return Ok(());
        }
        let Some(feerate) = self.channel.affordable_feerate(target, &self.policy) else {
            log::info!("the estimate of {target} cannot be afforded");
            return Ok(());
        };
        if !is_worth_it(now, feerate) {
            log::debug!("of the estimate of {target} we can afford {feerate}: not worth it");
            return Ok(());
        }
        match self.channel.offer_fee(feerate, &self.policy) {
            Ok(next) => {
                log::debug!("feerate {now} becomes {feerate}");
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
