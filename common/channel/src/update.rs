//! The verbs that propose: HTLCs added and removed, feerates. None of them is in a commitment until
//! `commit`'s verbs.

use crate::channel::Channel;
use crate::constants::EXPIRY_LIMIT;
use crate::exposure::At;
use crate::fault::{FeeRefusal, PeerFault, RemovalRefusal};
use primitives::*;
use std::sync::Arc;
use wire::channel_data::*;
use wire::channeld::{FeePolicy, HtlcPolicy, Offer, OfferRefusal};
use wire::{OnionPacket, UpdateAddHtlc};

/// A reason longer than this is cut: usual ones have some 300 bytes, every live one is kept, and a
/// channel full of them must still fit a frame between our processes.
pub const MAX_REASON: usize = 4096;
/// BOLT 4: set in a failure code that comes with update_fail_malformed_htlc.
pub const BADONION: u16 = 0x8000;

impl Channel {
    /// We offer an HTLC. BOLT 2, update_add_htlc, "A sending node". Returns its id.
    pub fn offer_add(
        &self,
        offer: &Offer,
        policy: &HtlcPolicy,
    ) -> Result<(Self, HtlcId), OfferRefusal> {
        let terms = &self.constants.params.terms.remote;
        let minimum = terms.htlc_minimum.max(Msat(1));
        if offer.amount < minimum {
            return Err(OfferRefusal::BelowMinimum { minimum });
        }
        if offer.expiry.0 >= EXPIRY_LIMIT {
            return Err(OfferRefusal::BadExpiry);
        }
        self.may_offer(offer.amount, policy)?;
        let id = self.next_htlc_id.local;
        let htlc = Htlc {
            offered_by: Side::Local,
            id,
            amount: offer.amount,
            payment_hash: offer.payment_hash,
            expiry: offer.expiry,
        };
        let next = self.with_add(htlc, offer.onion.clone(), offer.path_key, offer.key);
        if next.exceeds(self, At::Buffered, policy).is_some() {
            return Err(OfferRefusal::DustExposure { maximum: policy.max_dust_exposure });
        }
        Ok((next, id))
    }

    /// The peer offers one. BOLT 2, update_add_htlc, "A receiving node".
    pub fn receive_add(&self, add: &UpdateAddHtlc) -> Result<Self, PeerFault> {
        let terms = &self.constants.params.terms.local;
        let minimum = terms.htlc_minimum.max(Msat(1));
        if add.amount < minimum {
            return Err(PeerFault::AmountTooSmall { amount: add.amount, minimum });
        }
        if add.cltv_expiry.0 >= EXPIRY_LIMIT {
            return Err(PeerFault::Expiry { expiry: add.cltv_expiry });
        }
        let expected = self.next_htlc_id.remote;
        if add.id != expected {
            return Err(PeerFault::HtlcId { id: add.id, expected });
        }
        self.may_receive(add.amount)?;
        let htlc = Htlc {
            offered_by: Side::Remote,
            id: add.id,
            amount: add.amount,
            payment_hash: add.payment_hash,
            expiry: add.cltv_expiry,
        };
        Ok(self.with_add(htlc, add.onion.clone(), add.path_key, 0))
    }

    fn with_add(&self, htlc: Htlc, onion: OnionPacket, path_key: Option<Point>, key: u64) -> Self {
        let mut next = self.clone();
        next.next_htlc_id[htlc.offered_by] = HtlcId(htlc.id.0.saturating_add(1));
        let at = next
            .htlcs
            .partition_point(|h| (h.htlc.offered_by, h.htlc.id) < (htlc.offered_by, htlc.id));
        let live = LiveHtlc {
            htlc,
            onion,
            path_key,
            key,
            added: Stage::PendingOnReceiver,
            removed: None,
            in_remote_from: None,
            in_remote_until: None,
        };
        next.htlcs.insert(at, Arc::new(live));
        next
    }

    /// We remove an HTLC that the peer offered. BOLT 2: not before it is irrevocable.
    pub fn offer_removal(&self, id: HtlcId, removal: Removal) -> Result<Self, RemovalRefusal> {
        let (at, live) = self
            .find(Side::Remote, id)
            .and_then(|at| self.htlcs.get(at).map(|live| (at, live)))
            .ok_or(RemovalRefusal::Unknown { id })?;
        if live.added != Stage::Irrevocable {
            return Err(RemovalRefusal::TooEarly { id, stage: live.added });
        }
        if live.removed.is_some() {
            return Err(RemovalRefusal::Already { id });
        }
        match &removal {
            Removal::Fulfilled { preimage } if preimage.hash() != live.htlc.payment_hash => {
                return Err(RemovalRefusal::Preimage { id, payment_hash: live.htlc.payment_hash });
            }
            Removal::Fulfilled { .. } | Removal::Failed { .. } | Removal::Malformed { .. } => {}
        }
        Ok(self.with_removal(at, removal))
    }

    /// The peer fulfils one of ours. The preimage is good from now on, whatever becomes of the
    /// update.
    pub fn receive_fulfill(&self, id: HtlcId, preimage: Preimage) -> Result<Self, PeerFault> {
        let (at, live) = self.removable(id)?;
        let payment_hash = live.htlc.payment_hash;
        if preimage.hash() != payment_hash {
            return Err(PeerFault::Preimage { id, payment_hash });
        }
        Ok(self.with_removal(at, Removal::Fulfilled { preimage }))
    }

    /// The peer fails one of ours.
    pub fn receive_fail(&self, id: HtlcId, reason: &[u8]) -> Result<Self, PeerFault> {
        let (at, _) = self.removable(id)?;
        let reason = reason.get(..MAX_REASON).unwrap_or(reason).to_vec();
        Ok(self.with_removal(at, Removal::Failed { reason }))
    }

    /// The peer could not read the onion of one of ours.
    pub fn receive_fail_malformed(
        &self,
        id: HtlcId,
        sha256_of_onion: Sha256Digest,
        failure_code: u16,
    ) -> Result<Self, PeerFault> {
        let (at, _) = self.removable(id)?;
        if failure_code & BADONION == 0 {
            return Err(PeerFault::NotBadOnion { id, failure_code });
        }
        Ok(self.with_removal(at, Removal::Malformed { sha256_of_onion, failure_code }))
    }

    /// BOLT 2: only an HTLC that is irrevocable in both commitments may be removed, and only once.
    fn removable(&self, id: HtlcId) -> Result<(usize, &LiveHtlc), PeerFault> {
        let at = self.find(Side::Local, id).ok_or(PeerFault::NoSuchHtlc { id })?;
        let live = self.htlcs.get(at).ok_or(PeerFault::NoSuchHtlc { id })?;
        if live.added != Stage::Irrevocable {
            return Err(PeerFault::TooEarly { id, stage: live.added });
        }
        if live.removed.is_some() {
            return Err(PeerFault::AlreadyRemoved { id });
        }
        Ok((at, live))
    }

    fn with_removal(&self, at: usize, removal: Removal) -> Self {
        let mut next = self.clone();
        if let Some(live) = next.htlcs.get_mut(at) {
            Arc::make_mut(live).removed =
                Some(StagedRemoval { removal, stage: Stage::PendingOnReceiver });
        }
        next
    }

    /// We, the opener, change the feerate. BOLT 2, update_fee.
    pub fn offer_fee(
        &self,
        feerate: FeeratePerKw,
        policy: &HtlcPolicy,
    ) -> Result<Self, FeeRefusal> {
        if self.constants.params.opener != Side::Local {
            return Err(FeeRefusal::NotOpener);
        }
        if feerate == self.feerate() {
            return Err(FeeRefusal::Unchanged { feerate });
        }
        self.may_offer_fee(feerate, policy)?;
        Ok(self.with_fee(feerate))
    }

    /// The peer, the opener, changes the feerate. BOLT 2, update_fee.
    pub fn receive_fee(
        &self,
        feerate: FeeratePerKw,
        bounds: &FeePolicy,
        policy: &HtlcPolicy,
    ) -> Result<Self, PeerFault> {
        if self.constants.params.opener != Side::Remote {
            return Err(PeerFault::FeeNotYours);
        }
        let (min, max) = (bounds.min, bounds.max);
        // A feerate nearer to the bounds is better than the one in force: refused, the peer would
        // only propose it again.
        let before = |better: fn(FeeratePerKw, FeeratePerKw) -> bool| {
            self.fees.iter().any(|known| better(feerate, known.feerate))
        };
        let too_low = feerate < min && !before(|new, old| new >= old);
        let too_high = feerate > max && !before(|new, old| new <= old);
        if too_low || too_high {
            return Err(PeerFault::FeeOutOfBounds { feerate, min, max });
        }
        self.may_receive_fee(feerate, policy)?;
        Ok(self.with_fee(feerate))
    }

    pub(crate) fn with_fee(&self, feerate: FeeratePerKw) -> Self {
        let mut next = self.clone();
        // A newer word replaces one that nobody has signed.
        next.fees.retain(|f| f.stage != Stage::PendingOnReceiver);
        next.fees.push(FeeChange { feerate, stage: Stage::PendingOnReceiver });
        next
    }
}
