//! Orders of lightningd. Those that matter after a restart are repeated then: a repeated order
//! changes nothing.

use crate::live::{Live, Phase};
use channel::phase::{Input, Rule, rule, takes_htlcs_yet};
use channel::{RemovalRefusal, Update};
use primitives::*;
use subdaemon::Failure;
use wire::channel_data::Removal;
use wire::channeld::*;

impl Live {
    pub(crate) fn on_order(&mut self, order: ToChanneld) -> Result<(), Failure> {
        let input = match &order {
            ToChanneld::Fulfil(_) | ToChanneld::FailHtlc(_) | ToChanneld::FailMalformed(_) => {
                Some(Input::RemoveHtlc)
            }
            ToChanneld::StartShutdown(_) => Some(Input::StartShutdown),
            // An offer that is refused is answered: below. The others are news, in any phase.
            ToChanneld::ChanneldInit(_)
            | ToChanneld::Offer(_)
            | ToChanneld::FundingDeep(_)
            | ToChanneld::Announceable(_)
            | ToChanneld::FeesChanged(_)
            | ToChanneld::HeightChanged(_) => None,
        };
        if input.is_some_and(|input| rule(self.channel_phase(), input) != Rule::Taken) {
            return Ok(());
        }
        match order {
            ToChanneld::ChanneldInit(_) => Err(Failure::internal("a second init")),
            ToChanneld::Offer(offer) => self.on_offer(&offer),
            ToChanneld::Fulfil(Fulfil { id, preimage }) => {
                self.remove(id, Removal::Fulfilled { preimage })
            }
            ToChanneld::FailHtlc(FailHtlc { id, reason }) => {
                self.remove(id, Removal::Failed { reason })
            }
            ToChanneld::FailMalformed(FailMalformed { id, sha256_of_onion, failure_code }) => {
                self.remove(id, Removal::Malformed { sha256_of_onion, failure_code })
            }
            ToChanneld::FundingDeep(FundingDeep {}) => {
                self.funding_deep = true;
                self.when_ready()
            }
            ToChanneld::Announceable(Announceable { short_channel_id }) => {
                self.announcement.is_at(short_channel_id);
                self.when_ready()
            }
            ToChanneld::FeesChanged(FeesChanged { fees }) => {
                self.fees = fees;
                self.consider_fee()
            }
            ToChanneld::HeightChanged(HeightChanged { height }) => {
                self.height = height;
                // A feerate that was not affordable before may be now.
                self.consider_fee()
            }
            ToChanneld::StartShutdown(StartShutdown { script }) => {
                self.closing.wanted(script);
                Ok(())
            }
        }
    }

    fn on_offer(&mut self, offer: &Offer) -> Result<(), Failure> {
        match self.offered(offer) {
            Ok(()) => Ok(()),
            Err(why) => self.master.report(&OfferRefused { key: offer.key, why }),
        }
    }

    fn offered(&mut self, offer: &Offer) -> Result<(), OfferRefusal> {
        let phase = self.channel_phase();
        if rule(phase, Input::OfferHtlc) != Rule::Taken {
            let ended = !takes_htlcs_yet(phase);
            return Err(if ended { OfferRefusal::Closing } else { OfferRefusal::NotReady });
        }
        if !self.is_normal() {
            return Err(OfferRefusal::NotReady);
        }
        if offer.expiry <= self.height {
            return Err(OfferRefusal::BadExpiry);
        }
        let (next, id) = self.channel.offer_add(offer, &self.policy)?;
        let live = next.htlc(Side::Local, id).cloned();
        self.channel = next;
        self.unsaid.extend(live.map(|live| Update::Add(Box::new(live))));
        Ok(())
    }

    fn remove(&mut self, id: HtlcId, removal: Removal) -> Result<(), Failure> {
        if self.phase == Phase::Mute {
            return Ok(());
        }
        match self.channel.offer_removal(id, removal.clone()) {
            Ok(next) => {
                self.channel = next;
                let fulfilled = matches!(removal, Removal::Fulfilled { .. });
                let update = Update::Remove { id, removal };
                // The master has the preimage on disk as given away, and it binds nobody but us: it
                // need not wait for a commitment.
                if fulfilled && self.phase == Phase::Open {
                    return self.say_update(update);
                }
                self.unsaid.push(update);
                Ok(())
            }
            Err(done @ (RemovalRefusal::Unknown { .. } | RemovalRefusal::Already { .. })) => {
                log::debug!("ignoring an order to remove an HTLC: {done}");
                Ok(())
            }
            Err(bug @ (RemovalRefusal::TooEarly { .. } | RemovalRefusal::Preimage { .. })) => {
                Err(Failure::internal(bug))
            }
        }
    }
}
