//! How much trimming may cost us. BOLT 2, `max_dust_htlc_exposure_msat`.
//!
//! An HTLC or a balance without an output goes to miners when its commitment confirms. Whether an
//! update raises that loss is decided on an upper bound for every commitment that counts, and for
//! every one that the peer can still reach: whatever order it gives to signatures, revocations and
//! reconnects. The bound counts
//!
//! * each HTLC that we offered, from the decision to offer it until no valid commitment has it;
//! * each HTLC that we received, from when it is irrevocable until we fail it. Before that nothing
//!   depends on it;
//! * at the highest feerate that is in force or under way;
//! * and our own balance, where that may be below the dust limit.

use crate::channel::{Channel, stage_of_removal};
use crate::fault::PeerFault;
use crate::stage::Which;
use primitives::*;
use wire::channel_data::{LiveHtlc, Removal, Stage};
use wire::channeld::HtlcPolicy;

/// Which feerate the bound is counted at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The highest that is in force or under way.
    Known,
    /// A quarter more: an opener may raise the feerate so far without failing the channel. With
    /// option_anchors this raises only the opener's fee, not what is trimmed.
    Buffered,
}

impl Channel {
    /// The most that trimming can cost us in a commitment of `owner`, without further updates.
    pub(crate) fn exposure(&self, owner: Side, at: At) -> Msat {
        let feerate = self.highest_feerate(at);
        let may_be_in = |l: &&LiveHtlc| is_ours_to_lose(l) && !self.has_left(owner, l);
        let (mut dust, mut received, mut offered, mut outputs) =
            (Msat::ZERO, Msat::ZERO, Msat::ZERO, 0);
        for live in self.htlcs() {
            let (by, amount) = (live.htlc.offered_by, live.htlc.amount);
            let trimmed = self.constants.is_trimmed(owner, feerate, by, amount);
            outputs += u64::from(!trimmed);
            let lost = trimmed && may_be_in(&live);
            match by {
                Side::Local => offered = offered.saturating_add(amount),
                Side::Remote if lost => {}
                Side::Remote => received = received.saturating_add(amount),
            }
            if lost {
                dust = dust.saturating_add(amount);
            }
        }
        let mut lowest = self.balance.local.saturating_sub(offered);
        if self.constants.params.opener == Side::Local {
            let format = self.constants.format;
            let fee = feerate.fee(format.commitment_weight(outputs));
            lowest = lowest.saturating_sub(fee.saturating_add(format.anchors()).msat());
        }
        let limit = self.constants.params.terms[owner].dust_limit.msat();
        let own = if lowest >= limit {
            Msat::ZERO
        } else {
            // The amount of a trimmed HTLC is counted with the HTLC.
            limit.min(self.balance.local.saturating_add(received))
        };
        dust.saturating_add(own)
    }

    fn highest_feerate(&self, at: At) -> FeeratePerKw {
        let highest = self.fees.iter().map(|f| f.feerate.0).max().unwrap_or(FeeratePerKw::FLOOR.0);
        match at {
            At::Known => FeeratePerKw(highest),
            At::Buffered => FeeratePerKw(highest.saturating_add(highest / 4)),
        }
    }

    /// Is its removal in every commitment of `owner` that counts?
    fn has_left(&self, owner: Side, live: &LiveHtlc) -> bool {
        let remover = !live.htlc.offered_by;
        stage_of_removal(live).is_some_and(|stage| self.has(owner, Which::Oldest, remover, stage))
    }

    /// The exposure of `self`, if that is above the limit and above that of `before`.
    pub(crate) fn exceeds(&self, before: &Self, at: At, policy: &HtlcPolicy) -> Option<Msat> {
        let rises = |owner| {
            let dust = self.exposure(owner, at);
            let above = dust > policy.max_dust_exposure && dust > before.exposure(owner, at);
            above.then_some(dust)
        };
        Side::BOTH.into_iter().filter_map(rises).max()
    }

    /// Is this received HTLC, irrevocable now, one whose acceptance exposes us to more than the
    /// limit? BOLT 2: then it is failed, whatever its onion says.
    pub fn is_overexposed(&self, id: HtlcId, policy: &HtlcPolicy) -> bool {
        let Some(live) = self.htlc(Side::Remote, id) else { return false };
        let feerate = self.highest_feerate(At::Buffered);
        let amount = live.htlc.amount;
        // Failing it need not lower the bound: what it brings then counts with our own balance,
        // below the dust limit.
        Side::BOTH.into_iter().any(|owner| {
            self.constants.is_trimmed(owner, feerate, Side::Remote, amount)
                && self.exposure(owner, At::Buffered) > policy.max_dust_exposure
        })
    }

    /// The dust exposure in the worse one of `owner`'s commitments that count.
    fn trimmed(&self, owner: Side) -> Msat {
        let lost_in = |which| {
            let feerate = self.feerate_in(owner, which);
            let htlcs = self.htlcs_in(owner, which).filter(|l| is_ours_to_lose(l));
            let dust = htlcs
                .map(|l| (l.htlc.offered_by, l.htlc.amount))
                .filter(|(by, amount)| self.constants.is_trimmed(owner, feerate, *by, *amount))
                .fold(Msat::ZERO, |sum, (_, amount)| sum.saturating_add(amount));
            let own = self.tally_in(owner, which, None).rest.local;
            let limit = self.constants.params.terms[owner].dust_limit;
            let own = if own.sat_floor() < limit { own } else { Msat::ZERO };
            dust.saturating_add(own)
        };
        [Which::Oldest, Which::Newest].into_iter().map(lost_in).max().unwrap_or_default()
    }

    /// The last check before our signature or revocation makes `self` count, where `stored` counts
    /// so far: a commitment that costs more than the limit is not signed, unless what counts
    /// already, or is under way in it, costs as much.
    pub fn may_bind(&self, stored: &Self, policy: &HtlcPolicy) -> Result<(), PeerFault> {
        let maximum = policy.max_dust_exposure;
        for owner in Side::BOTH {
            let dust = self.trimmed(owner);
            // With a limit that was lowered, an earlier signature of ours may bind us to more.
            let bound = || stored.trimmed(owner).max(stored.exposure(owner, At::Known));
            if dust > maximum && dust > bound() {
                return Err(PeerFault::DustExposure { dust, maximum });
            }
        }
        Ok(())
    }
}

/// Does the money of this HTLC matter to us? What the peer offered is its own until we let
/// something depend on it.
fn is_ours_to_lose(live: &LiveHtlc) -> bool {
    match (live.htlc.offered_by, live.removed.as_ref().map(|r| &r.removal)) {
        (Side::Local, _) => true,
        (Side::Remote, Some(Removal::Failed { .. } | Removal::Malformed { .. })) => false,
        (Side::Remote, Some(Removal::Fulfilled { .. }) | None) => live.added == Stage::Irrevocable,
    }
}
