//! The channel as a value: what it is, and how its commitments are read out of it.
//!
//! The verbs are in `update` (adds, removals, fees) and `commit` (signing, revoking). Each leaves
//! the old value alone and returns the next, or a reason. Copies are cheap: HTLCs are shared.

use crate::commitment::{Tally, tally};
use crate::constants::{Constants, EXPIRY_LIMIT, MAX_HTLCS, Unbuildable};
use crate::keys::Shachain;
use crate::stage::{Act, Party, Which, after, is_in};
use primitives::*;
use std::sync::Arc;
use wire::Long;
use wire::channel_data::*;

/// One live channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub(crate) constants: Arc<Constants>,
    pub(crate) balance: Sides<Msat>,
    pub(crate) next_htlc_id: Sides<HtlcId>,
    /// By side, then by id.
    pub(crate) htlcs: Vec<Arc<LiveHtlc>>,
    /// The first is irrevocable; stages fall from there.
    pub(crate) fees: Vec<FeeChange>,
    pub(crate) commitment: Sides<CommitmentNumber>,
    pub(crate) revoked: Sides<CommitmentNumber>,
    pub(crate) remote_point: Point,
    pub(crate) remote_next_point: Option<Point>,
    pub(crate) secrets: Arc<Shachain>,
    pub(crate) local_signatures: Arc<CommitmentSignatures>,
    pub(crate) last_sent: LastSent,
    /// The peer's last commitment_signed changed nothing. Not stored: one is tolerated.
    pub(crate) last_was_empty: bool,
}

/// The identity of an HTLC within its channel.
pub(crate) const fn key_of(live: &LiveHtlc) -> (Side, HtlcId) {
    (live.htlc.offered_by, live.htlc.id)
}

/// The sender of a removal is the side that did not offer.
pub(crate) fn stage_of_removal(live: &LiveHtlc) -> Option<Stage> {
    live.removed.as_ref().map(|r| r.stage)
}

impl Channel {
    /// From what was stored, or is just opened. What contradicts itself is refused: everything
    /// after relies on it.
    pub fn new(state: ChannelState) -> Result<Self, Unbuildable> {
        let constants = Arc::new(Constants::new(state.params)?);
        let secrets = Shachain::from_stored(&state.remote_secrets.0)
            .ok_or(Unbuildable::State("two stored secrets for one place"))?;
        let mut htlcs: Vec<_> = state.htlcs.0.into_iter().map(Arc::new).collect();
        htlcs.sort_by_key(|h| key_of(h));
        let channel = Self {
            constants,
            balance: state.balance,
            next_htlc_id: state.next_htlc_id,
            htlcs,
            fees: state.fees.0,
            commitment: state.commitment,
            revoked: state.revoked,
            remote_point: state.remote_point,
            remote_next_point: state.remote_next_point,
            secrets: Arc::new(secrets),
            local_signatures: Arc::new(state.local_signatures),
            last_sent: state.last_sent,
            last_was_empty: false,
        };
        channel.check()?;
        Ok(channel)
    }

    fn check(&self) -> Result<(), Unbuildable> {
        let amount = self.constants.params.amount.msat();
        let parts = self.balance.local.saturating_add(self.balance.remote);
        if parts != amount {
            return Err(Unbuildable::Balance { amount, parts });
        }
        // Those of two commitments, and those on their way out of both.
        if self.htlcs.len() > 4 * MAX_HTLCS {
            return Err(Unbuildable::TooManyHtlcs(self.htlcs.len()));
        }
        let unique = self.htlcs.windows(2).all(|w| match w {
            [a, b] => key_of(a) < key_of(b),
            _ => true,
        });
        require(unique, "two HTLCs with one id")?;
        for side in Side::BOTH {
            let (newest, oldest) = (self.commitment[side], self.revoked[side]);
            require(
                newest == oldest || newest.0 == oldest.0.saturating_add(1),
                "more than two commitments of one side count",
            )?;
            require(newest < CommitmentNumber::LAST, "a commitment number beyond the last")?;
        }
        require(
            self.remote_next_point.is_some() || self.commitment.remote == self.revoked.remote,
            "a signed commitment without its point",
        )?;
        self.check_updates()?;
        for side in Side::BOTH {
            for which in [Which::Oldest, Which::Newest, Which::Next, Which::Final] {
                require(
                    self.checked_balance(side, which).is_some(),
                    "an HTLC of more than its side has",
                )?;
            }
        }
        Ok(())
    }

    fn check_updates(&self) -> Result<(), Unbuildable> {
        for live in &self.htlcs {
            let htlc = &live.htlc;
            require(htlc.id < self.next_htlc_id[htlc.offered_by], "an HTLC with an id to come")?;
            require(htlc.amount > Msat::ZERO, "an HTLC of nothing")?;
            if htlc.expiry.0 >= EXPIRY_LIMIT {
                return Err(Unbuildable::Expiry(htlc.expiry));
            }
            self.check_stage(live.added, htlc.offered_by)?;
            if let Some(stage) = stage_of_removal(live) {
                require(
                    live.added == Stage::Irrevocable,
                    "a removal before its HTLC is irrevocable",
                )?;
                require(stage != Stage::Irrevocable, "a settled HTLC among the live")?;
                self.check_stage(stage, !htlc.offered_by)?;
            }
        }
        require(
            self.fees.first().is_some_and(|f| f.stage == Stage::Irrevocable),
            "no feerate in force",
        )?;
        require(self.fees.len() <= Stage::ALL.len(), "more feerates than stages")?;
        let falling = self.fees.windows(2).all(|w| match w {
            [a, b] => a.stage > b.stage,
            _ => true,
        });
        require(falling, "feerates out of order")?;
        self.fees.iter().try_for_each(|f| self.check_stage(f.stage, self.constants.params.opener))
    }

    /// Two of the stages mean that a revocation is awaited.
    fn check_stage(&self, stage: Stage, sender: Side) -> Result<(), Unbuildable> {
        let revokes = match stage {
            Stage::InReceivers => !sender,
            Stage::InSenders => sender,
            Stage::PendingOnReceiver | Stage::PendingOnSender | Stage::Irrevocable => return Ok(()),
        };
        require(
            self.commitment[revokes] > self.revoked[revokes],
            "an update awaits a revocation that nobody owes",
        )
    }

    /// Parameters that never change, and values derived from them.
    pub fn constants(&self) -> &Constants {
        &self.constants
    }
    /// Everything that is under way: ours first, each side's by id.
    pub fn htlcs(&self) -> impl Iterator<Item = &LiveHtlc> {
        self.htlcs.iter().map(|live| &**live)
    }
    /// The one of this identity, if it is under way.
    pub fn htlc(&self, offered_by: Side, id: HtlcId) -> Option<&LiveHtlc> {
        self.find(offered_by, id).and_then(|at| self.htlcs.get(at)).map(|live| &**live)
    }
    pub(crate) fn find(&self, offered_by: Side, id: HtlcId) -> Option<usize> {
        self.htlcs.binary_search_by_key(&(offered_by, id), |live| key_of(live)).ok()
    }
    /// The newest commitment of each side that the other signed.
    pub const fn commitment(&self) -> Sides<CommitmentNumber> {
        self.commitment
    }
    /// How many commitments each side has revoked.
    pub const fn revoked(&self) -> Sides<CommitmentNumber> {
        self.revoked
    }
    /// The remote's signatures on our newest commitment.
    pub fn local_signatures(&self) -> &CommitmentSignatures {
        &self.local_signatures
    }
    /// The feerate that both commitments come to when everything said is signed.
    pub fn feerate(&self) -> FeeratePerKw {
        self.feerate_in(Side::Local, Which::Final)
    }
    /// Each side's balance if every live HTLC fails.
    pub const fn balance(&self) -> Sides<Msat> {
        self.balance
    }
    /// Is nothing at all under way, on either side? Then closingd may have it. BOLT 2,
    /// closing_signed.
    pub fn is_quiet(&self) -> bool {
        self.htlcs.is_empty() && self.fees.len() == 1 && self.commitment == self.revoked
    }
    /// Does the peer's newest commitment await its revocation of the one before?
    pub fn awaits_revocation(&self) -> bool {
        self.commitment.remote > self.revoked.remote
    }
    /// Has the peer signed a commitment of ours whose predecessor we have not revoked?
    pub fn owes_revocation(&self) -> bool {
        self.commitment.local > self.revoked.local
    }

    /// The peer's `channel_ready` told its second point. A second time changes nothing. BOLT 2,
    /// channel_ready.
    #[must_use]
    pub fn receive_ready(&self, next_point: Point) -> Self {
        let mut next = self.clone();
        if next.remote_next_point.is_none() {
            next.remote_next_point = Some(next_point);
        }
        next
    }

    /// Without updates that no commitment has: both sides forget those when the connection is lost.
    /// BOLT 2, "Message Retransmission".
    #[must_use]
    pub fn after_disconnect(&self) -> Self {
        let mut next = self.clone();
        next.next_htlc_id = self.stored_next_htlc_id();
        next.htlcs = self.htlcs.iter().filter_map(stored_htlc).collect();
        next.fees.retain(|f| f.stage != Stage::PendingOnReceiver);
        next.last_was_empty = false;
        next
    }

    /// The state that lightningd stores: all updates but those that are in no commitment.
    pub fn storable(&self) -> ChannelState {
        let kept = self.after_disconnect();
        ChannelState {
            params: kept.constants.params.clone(),
            balance: kept.balance,
            next_htlc_id: kept.next_htlc_id,
            htlcs: Long(kept.htlcs.iter().map(|live| LiveHtlc::clone(live)).collect()),
            fees: Long(kept.fees),
            commitment: kept.commitment,
            revoked: kept.revoked,
            remote_point: kept.remote_point,
            remote_next_point: kept.remote_next_point,
            remote_secrets: Long(kept.secrets.stored().to_vec()),
            local_signatures: CommitmentSignatures::clone(&kept.local_signatures),
            last_sent: kept.last_sent,
        }
    }

    /// The id that each side's next HTLC gets, once uncommitted ones are forgotten: those are each
    /// side's last.
    pub(crate) fn stored_next_htlc_id(&self) -> Sides<HtlcId> {
        Sides::from_fn(|side| {
            let uncommitted = self
                .htlcs
                .iter()
                .filter(|h| h.htlc.offered_by == side && h.added == Stage::PendingOnReceiver);
            uncommitted.map(|h| h.htlc.id).min().unwrap_or(self.next_htlc_id[side])
        })
    }

    /// Is an update of this sender and stage in that commitment?
    pub(crate) fn has(&self, owner: Side, which: Which, sender: Side, stage: Stage) -> bool {
        is_in(stage, Party::of(owner, sender), which)
    }
    /// Is the HTLC itself in that commitment: added, and not removed?
    pub(crate) fn has_htlc(&self, owner: Side, which: Which, live: &LiveHtlc) -> bool {
        let by = live.htlc.offered_by;
        self.has(owner, which, by, live.added)
            && !stage_of_removal(live).is_some_and(|stage| self.has(owner, which, !by, stage))
    }

    /// The HTLCs in that commitment.
    pub(crate) fn htlcs_in(&self, owner: Side, which: Which) -> impl Iterator<Item = &LiveHtlc> {
        self.htlcs().filter(move |live| self.has_htlc(owner, which, live))
    }

    /// The feerate of that commitment.
    pub(crate) fn feerate_in(&self, owner: Side, which: Which) -> FeeratePerKw {
        let opener = self.constants.params.opener;
        let in_it = self.fees.iter().rev().find(|f| self.has(owner, which, opener, f.stage));
        in_it.or(self.fees.first()).map_or(FeeratePerKw::FLOOR, |f| f.feerate)
    }

    /// Each side's balance in that commitment without HTLCs, before fees. Never negative: every add
    /// was checked against it.
    pub(crate) fn balance_in(&self, owner: Side, which: Which) -> Sides<Msat> {
        let (gained, lost) = self.gains_and_losses(owner, which);
        Sides::from_fn(|s| self.balance[s].saturating_add(gained[s]).saturating_sub(lost[s]))
    }
    fn checked_balance(&self, owner: Side, which: Which) -> Option<Sides<Msat>> {
        let (gained, lost) = self.gains_and_losses(owner, which);
        let left = |s: Side| self.balance[s].checked_add(gained[s])?.checked_sub(lost[s]);
        Some(Sides { local: left(Side::Local)?, remote: left(Side::Remote)? })
    }
    /// Gains first, whatever their order: what one commitment brings, the same one may spend.
    fn gains_and_losses(&self, owner: Side, which: Which) -> (Sides<Msat>, Sides<Msat>) {
        let (mut gained, mut lost) = (Sides::<Msat>::default(), Sides::<Msat>::default());
        for (by, amount, fulfilled) in self.moves(owner, which) {
            lost[by] = lost[by].saturating_add(amount);
            if fulfilled {
                gained[!by] = gained[!by].saturating_add(amount);
            }
        }
        (gained, lost)
    }
    /// The amount that left each side's balance in that commitment, and whether it reached the
    /// other side.
    fn moves(&self, owner: Side, which: Which) -> impl Iterator<Item = (Side, Msat, bool)> {
        self.htlcs.iter().filter_map(move |live| {
            let by = live.htlc.offered_by;
            if !self.has(owner, which, by, live.added) {
                return None;
            }
            match &live.removed {
                Some(r) if self.has(owner, which, !by, r.stage) => match r.removal {
                    Removal::Fulfilled { .. } => Some((by, live.htlc.amount, true)),
                    Removal::Failed { .. } | Removal::Malformed { .. } => None,
                },
                Some(_) | None => Some((by, live.htlc.amount, false)),
            }
        })
    }

    /// The money of that commitment, at its feerate or another.
    pub(crate) fn tally_in(
        &self,
        owner: Side,
        which: Which,
        feerate: Option<FeeratePerKw>,
    ) -> Tally {
        let feerate = feerate.unwrap_or_else(|| self.feerate_in(owner, which));
        let htlcs =
            self.htlcs_in(owner, which).map(|live| (live.htlc.offered_by, live.htlc.amount));
        tally(&self.constants, owner, feerate, self.balance_in(owner, which), htlcs)
    }

    /// The description of that commitment.
    pub(crate) fn describe(
        &self,
        owner: Side,
        which: Which,
        number: CommitmentNumber,
        point: Point,
    ) -> CommitmentState {
        CommitmentState {
            side: owner,
            number,
            point,
            feerate: self.feerate_in(owner, which),
            balance: self.balance_in(owner, which),
            htlcs: Long(self.htlcs_in(owner, which).map(|live| live.htlc.clone()).collect()),
        }
    }

    /// Our newest commitment, the one to publish if it comes to that. `point` is ours for its
    /// number: hsmd knows it.
    pub fn local_commitment(&self, point: Point) -> CommitmentState {
        self.describe(Side::Local, Which::Newest, self.commitment.local, point)
    }
    /// The remote's commitment of this number, if it is one that the remote may still publish
    /// unpunished.
    pub fn remote_commitment(&self, number: CommitmentNumber) -> Option<CommitmentState> {
        if number == self.revoked.remote {
            return Some(self.describe(Side::Remote, Which::Oldest, number, self.remote_point));
        }
        let point = self.remote_next_point.filter(|_| number == self.commitment.remote)?;
        Some(self.describe(Side::Remote, Which::Newest, number, point))
    }

    /// Is there a commitment that may still be published unpunished, of either side, with an output
    /// for this HTLC? BOLT 5 lets one without fail sooner.
    pub fn has_valid_output(&self, live: &LiveHtlc) -> bool {
        Side::BOTH.iter().any(|owner| {
            [Which::Oldest, Which::Newest]
                .into_iter()
                .any(|which| self.has_output_in(*owner, which, live))
        })
    }
    /// Has each commitment that may still confirm unpunished an output for this HTLC? Of ours that
    /// is the newest: no other one is published.
    pub fn has_output_in_each(&self, live: &LiveHtlc) -> bool {
        let valid = [
            (Side::Local, Which::Newest),
            (Side::Remote, Which::Oldest),
            (Side::Remote, Which::Newest),
        ];
        valid.into_iter().all(|(owner, which)| self.has_output_in(owner, which, live))
    }
    fn has_output_in(&self, owner: Side, which: Which, live: &LiveHtlc) -> bool {
        let (by, amount) = (live.htlc.offered_by, live.htlc.amount);
        let feerate = self.feerate_in(owner, which);
        self.has_htlc(owner, which, live) && !self.constants.is_trimmed(owner, feerate, by, amount)
    }

    /// Would anything move on `by`'s signature?
    pub(crate) fn would_move(&self, by: Side) -> bool {
        let moves = |stage: Stage, sender: Side| {
            after(stage, Party::of(by, sender), Act::CommitmentSigned) != stage
        };
        self.fees.iter().any(|f| moves(f.stage, self.constants.params.opener))
            || self.htlcs.iter().any(|live| {
                let offered_by = live.htlc.offered_by;
                moves(live.added, offered_by)
                    || stage_of_removal(live).is_some_and(|stage| moves(stage, !offered_by))
            })
    }
}

/// An HTLC without what no commitment has; `None` if that is all of it.
pub(crate) fn stored_htlc(live: &Arc<LiveHtlc>) -> Option<Arc<LiveHtlc>> {
    if live.added == Stage::PendingOnReceiver {
        return None;
    }
    if stage_of_removal(live) != Some(Stage::PendingOnReceiver) {
        return Some(Arc::clone(live));
    }
    let mut kept = LiveHtlc::clone(live);
    kept.removed = None;
    Some(Arc::new(kept))
}

const fn require(holds: bool, what: &'static str) -> Result<(), Unbuildable> {
    if holds { Ok(()) } else { Err(Unbuildable::State(what)) }
}
