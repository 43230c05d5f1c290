//! Which amounts and feerates are affordable. BOLT 2, update_add_htlc and update_fee; by the tally
//! that commitments are built from.
//!
//! A side that adds is judged on the receiver's next commitment, which both sides know alike: there
//! its reserve, fee and limits must hold. Of itself it asks more: that its own commitment holds too
//! once everything said is signed, and as opener a buffer for a doubled feerate with one HTLC more.

use crate::channel::Channel;
use crate::commitment::{Tally, tally};
use crate::constants::Constants;
use crate::exposure::At;
use crate::fault::{FeeRefusal, PeerFault};
use crate::stage::Which;
use primitives::*;
use wire::channel_data::{LiveHtlc, Stage};
use wire::channeld::{HtlcPolicy, OfferRefusal};

/// One commitment that an HTLC of `sender` would join.
struct ProspectiveCommitment<'a> {
    constants: &'a Constants,
    owner: Side,
    sender: Side,
    feerate: FeeratePerKw,
    balance: Sides<Msat>,
    tally: Tally,
    /// The sender's HTLCs that are in it.
    count: usize,
    in_flight: Msat,
}

/// Which limits the sender of an HTLC is held to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// The limits of BOLT 2: the other side refuses what is beyond them.
    Protocol,
    /// The limits of BOLT 2, and our own fee buffer.
    OurPolicy,
}

impl<'a> ProspectiveCommitment<'a> {
    fn new(channel: &'a Channel, owner: Side, which: Which, sender: Side) -> Self {
        let (mut count, mut in_flight) = (0, Msat::ZERO);
        for live in channel.htlcs_in(owner, which).filter(|h| h.htlc.offered_by == sender) {
            count += 1;
            in_flight = in_flight.saturating_add(live.htlc.amount);
        }
        Self {
            constants: &channel.constants,
            owner,
            sender,
            feerate: channel.feerate_in(owner, which),
            balance: channel.balance_in(owner, which),
            tally: channel.tally_in(owner, which, None),
            count,
            in_flight,
        }
    }

    fn threshold(&self) -> Sat {
        self.constants.trim_threshold(self.owner, self.feerate, self.sender)
    }
    fn trims(&self, amount: Msat) -> bool {
        amount.sat_floor() < self.threshold()
    }
    fn fee(&self, feerate: FeeratePerKw, extra: u64) -> Sat {
        feerate.fee(self.constants.format.commitment_weight(self.tally.untrimmed + extra))
    }
    /// The balance that the opener needs with `extra` HTLC outputs: reserve, anchors and fee.
    fn opener_needs(&self, extra: u64) -> Sat {
        let opener = self.constants.params.opener;
        self.constants
            .reserve(opener)
            .saturating_add(self.tally.anchors)
            .saturating_add(self.fee(self.feerate, extra))
    }
    /// The balance that the sender must keep with `extra` HTLC outputs of its own.
    fn sender_needs(&self, extra: u64, rules: Rules) -> Sat {
        let opener = self.constants.params.opener;
        if self.sender != opener {
            return self.constants.reserve(self.sender);
        }
        let needed = self.opener_needs(extra);
        if rules == Rules::Protocol {
            return needed;
        }
        // BOLT 2, "fee spike buffer": twice the feerate, and one HTLC more.
        let doubled = FeeratePerKw(self.feerate.0.saturating_mul(2));
        let buffered = self
            .constants
            .reserve(opener)
            .saturating_add(self.tally.anchors)
            .saturating_add(self.fee(doubled, extra + 1));
        needed.max(buffered)
    }
    /// Can the other side, if it is the opener, pay for `extra` HTLC outputs of ours?
    fn opener_bears(&self, extra: u64) -> bool {
        let opener = self.constants.params.opener;
        self.sender == opener || self.balance[opener] >= self.opener_needs(extra).msat()
    }
    /// The most that `extra` outputs more leave to spend; `None` where that cannot be.
    fn room(&self, extra: u64) -> Option<Msat> {
        if !self.opener_bears(extra) {
            return None;
        }
        let needed = self.sender_needs(extra, Rules::OurPolicy);
        self.balance[self.sender].checked_sub(needed.msat())
    }
    /// Does an HTLC of this amount fit? Otherwise: what would be left, and what is needed.
    fn fits(&self, amount: Msat, rules: Rules) -> Result<(), (Msat, Sat)> {
        let extra = u64::from(!self.trims(amount));
        let left = self.balance[self.sender].saturating_sub(amount);
        let needed = self.sender_needs(extra, rules);
        let enough =
            self.balance[self.sender].checked_sub(amount).is_some_and(|left| left >= needed.msat());
        if !enough || (rules == Rules::OurPolicy && !self.opener_bears(extra)) {
            return Err((left, needed));
        }
        Ok(())
    }
}

impl Channel {
    /// The two commitments that an HTLC of `sender` would join.
    fn prospects(&self, sender: Side) -> [ProspectiveCommitment<'_>; 2] {
        [
            ProspectiveCommitment::new(self, !sender, Which::Next, sender),
            ProspectiveCommitment::new(self, sender, Which::Final, sender),
        ]
    }

    pub(crate) fn may_offer(&self, amount: Msat, policy: &HtlcPolicy) -> Result<(), OfferRefusal> {
        let terms = &self.constants.params.terms.remote;
        let prospects = self.prospects(Side::Local);
        let [theirs, _] = &prospects;
        let maximum = terms.max_accepted_htlcs.min(policy.max_offered);
        if theirs.count >= usize::from(maximum) {
            return Err(OfferRefusal::TooManyHtlcs { maximum });
        }
        if theirs.in_flight.saturating_add(amount) > terms.max_in_flight {
            return Err(OfferRefusal::AboveMaxInFlight { maximum: terms.max_in_flight });
        }
        if prospects.iter().any(|p| p.fits(amount, Rules::OurPolicy).is_err()) {
            return Err(OfferRefusal::Unaffordable { spendable: self.spendable() });
        }
        Ok(())
    }

    pub(crate) fn may_receive(&self, amount: Msat) -> Result<(), PeerFault> {
        let terms = &self.constants.params.terms.local;
        let mut ours = ProspectiveCommitment::new(self, Side::Local, Which::Next, Side::Remote);
        ours.tally = self.lawful_tally(None);
        let (count, maximum) = (ours.count + 1, terms.max_accepted_htlcs);
        if count > usize::from(maximum) {
            return Err(PeerFault::TooManyHtlcs { count, maximum });
        }
        let (in_flight, maximum) = (ours.in_flight.saturating_add(amount), terms.max_in_flight);
        if in_flight > maximum {
            return Err(PeerFault::TooMuchInFlight { in_flight, maximum });
        }
        ours.fits(amount, Rules::Protocol).map_err(|(left, needed)| PeerFault::Unaffordable {
            amount,
            left,
            needed,
        })
    }

    /// Our next commitment as the peer must have thought it was when it spoke. What it says again
    /// after a reconnect it may have said before it heard of our newest HTLCs, so those do not
    /// raise what it owes.
    fn lawful_tally(&self, feerate: Option<FeeratePerKw>) -> Tally {
        let (owner, which) = (Side::Local, Which::Next);
        let feerate = feerate.unwrap_or_else(|| self.feerate_in(owner, which));
        let unheard =
            |l: &LiveHtlc| l.htlc.offered_by == owner && l.added == Stage::PendingOnSender;
        let htlcs = self.htlcs_in(owner, which).filter(|l| !unheard(l));
        let htlcs = htlcs.map(|l| (l.htlc.offered_by, l.htlc.amount));
        tally(&self.constants, owner, feerate, self.balance_in(owner, which), htlcs)
    }

    /// The most that we could offer in one HTLC now. As `spendable_msat` of listpeerchannels.
    pub fn spendable(&self) -> Msat {
        self.most(Side::Local)
    }
    /// The most that the peer could offer in one HTLC now. As `receivable_msat` of
    /// listpeerchannels.
    pub fn receivable(&self) -> Msat {
        self.most(Side::Remote)
    }

    fn most(&self, sender: Side) -> Msat {
        let terms = &self.constants.params.terms[!sender];
        let prospects = self.prospects(sender);
        let [first, second] = &prospects;
        if first.count >= usize::from(terms.max_accepted_htlcs) {
            return Msat::ZERO;
        }
        let free = terms.max_in_flight.saturating_sub(first.in_flight);
        // With an output in both, in one, or in none: a smaller HTLC may cost less than it saves.
        let largest = |p: &ProspectiveCommitment<'_>, extra: u64| {
            let below = Msat(p.threshold().msat().0.saturating_sub(1));
            p.room(extra).map(|room| if extra == 0 { room.min(below) } else { room })
        };
        let candidates = [(0, 0), (0, 1), (1, 0), (1, 1)]
            .into_iter()
            .filter_map(|(a, b)| Some(largest(first, a)?.min(largest(second, b)?).min(free)));
        candidates
            .filter(|amount| prospects.iter().all(|p| p.fits(*amount, Rules::OurPolicy).is_ok()))
            .max()
            .filter(|amount| *amount >= terms.htlc_minimum)
            .unwrap_or(Msat::ZERO)
    }

    /// Reserve and cost of the opener in a commitment at this feerate, and what it has.
    fn at_feerate(&self, owner: Side, which: Which, feerate: FeeratePerKw) -> (Msat, Sat) {
        let opener = self.constants.params.opener;
        let tally = self.tally_in(owner, which, Some(feerate));
        let needed = self.constants.reserve(opener).saturating_add(tally.cost());
        (self.balance_in(owner, which)[opener], needed)
    }

    pub(crate) fn may_offer_fee(
        &self,
        feerate: FeeratePerKw,
        policy: &HtlcPolicy,
    ) -> Result<(), FeeRefusal> {
        for (owner, which) in [(Side::Remote, Which::Next), (Side::Local, Which::Final)] {
            let (balance, needed) = self.at_feerate(owner, which, feerate);
            if balance < needed.msat() {
                return Err(FeeRefusal::Unaffordable { feerate, balance, needed });
            }
        }
        if let Some(dust) = self.with_fee(feerate).exceeds(self, At::Known, policy) {
            return Err(FeeRefusal::DustExposure { dust, maximum: policy.max_dust_exposure });
        }
        Ok(())
    }

    pub(crate) fn may_receive_fee(
        &self,
        feerate: FeeratePerKw,
        policy: &HtlcPolicy,
    ) -> Result<(), PeerFault> {
        let cost = self.lawful_tally(Some(feerate)).cost();
        let balance = self.balance_in(Side::Local, Which::Next)[Side::Remote];
        let needed = self.constants.reserve(Side::Remote).saturating_add(cost);
        // Less than before is better than before, even for one who can pay neither.
        if balance < needed.msat() && feerate > self.feerate_in(Side::Local, Which::Next) {
            return Err(PeerFault::FeeUnaffordable { feerate, balance, needed });
        }
        // BOLT 2, update_fee: also HTLCs that the peer had not heard of when it said this. Nothing
        // binds it to acknowledge them before the feerate, so that no later moment would do.
        if let Some(dust) = self.with_fee(feerate).exceeds(self, At::Known, policy) {
            let maximum = policy.max_dust_exposure;
            return Err(PeerFault::FeeDustExposure { feerate, dust, maximum });
        }
        Ok(())
    }

    /// The highest feerate up to `target` that we, the opener, may offer.
    pub fn affordable_feerate(
        &self,
        target: FeeratePerKw,
        policy: &HtlcPolicy,
    ) -> Option<FeeratePerKw> {
        let fits = |feerate: u32| self.may_offer_fee(FeeratePerKw(feerate), policy).is_ok();
        if fits(target.0) {
            return Some(target);
        }
        let (mut low, mut high) = (FeeratePerKw::FLOOR.0, target.0);
        if low >= high || !fits(low) {
            return None;
        }
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if fits(middle) { low = middle } else { high = middle }
        }
        Some(FeeratePerKw(low))
    }
}
