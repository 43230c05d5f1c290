//! The verbs that bind: signing the other side's commitment, having ours signed, revoking the one
//! before.

use crate::channel::{Channel, key_of, stage_of_removal};
use crate::fault::{CommitRefusal, PeerFault};
use crate::keys::index_of;
use crate::stage::{Act, Party, Which, after};
use primitives::*;
use secp256k1::SECP256K1;
use std::sync::Arc;
use wire::channel_data::*;

/// Updates that a revocation made irrevocable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Irrevocable {
    /// HTLCs that are now in both commitments for good. Those of the peer are to be peeled.
    pub added: Vec<Arc<LiveHtlc>>,
    /// HTLCs that are now out of both for good, each with its removal: the master may settle what
    /// they were for.
    pub removed: Vec<Arc<LiveHtlc>>,
    /// A feerate that is now in force on both sides.
    pub feerate: Option<FeeratePerKw>,
}

impl Channel {
    /// Has anything been said that the peer's next commitment would have and its newest has not?
    pub fn has_changes_to_commit(&self) -> bool {
        self.would_move(Side::Local)
    }
    /// May we sign the peer's next commitment now? [`Channel::send_commit`] says why not.
    pub fn can_commit(&self) -> bool {
        self.may_commit().is_ok()
    }
    fn may_commit(&self) -> Result<(CommitmentNumber, Point), CommitRefusal> {
        if self.awaits_revocation() {
            return Err(CommitRefusal::AwaitingRevocation);
        }
        if !self.has_changes_to_commit() {
            return Err(CommitRefusal::NothingToCommit);
        }
        let number = self.commitment.remote.next();
        if number >= CommitmentNumber::LAST {
            return Err(CommitRefusal::LastNumber);
        }
        Ok((number, self.remote_next_point.ok_or(CommitRefusal::NoPoint)?))
    }

    /// We sign everything said so far. Returns what hsmd is to sign: the peer's next commitment.
    pub fn send_commit(&self) -> Result<(Self, CommitmentState), CommitRefusal> {
        let (number, point) = self.may_commit()?;
        let mut next = self.clone();
        next.advance(Side::Local, Act::CommitmentSigned);
        next.commitment.remote = number;
        next.last_sent = LastSent::Commitment;
        next.note_remote_range(number);
        let state = next.describe(Side::Remote, Which::Newest, number, point);
        Ok((next, state))
    }

    /// Remembers for each HTLC which of the remote's commitments contain it: what a penalty needs
    /// to know.
    fn note_remote_range(&mut self, number: CommitmentNumber) {
        for at in 0..self.htlcs.len() {
            let Some(live) = self.htlcs.get(at) else { continue };
            let inside = self.has_htlc(Side::Remote, Which::Newest, live);
            let enters = inside && live.in_remote_from.is_none();
            let leaves = !inside && live.in_remote_from.is_some() && live.in_remote_until.is_none();
            let Some(live) = self.htlcs.get_mut(at).filter(|_| enters || leaves) else { continue };
            let live = Arc::make_mut(live);
            if enters {
                live.in_remote_from = Some(number);
            } else {
                live.in_remote_until = Some(number);
            }
        }
    }

    /// The peer signed our next commitment. `point` is ours for it. Returns what hsmd is to check
    /// the signatures against; here only their number is.
    pub fn receive_commit(
        &self,
        point: Point,
        signatures: CommitmentSignatures,
    ) -> Result<(Self, CommitmentState), PeerFault> {
        let number = self.commitment.local.next();
        if self.owes_revocation() || number >= CommitmentNumber::LAST {
            return Err(PeerFault::CommitmentTooEarly { number });
        }
        // BOLT 2: must not be sent. Some do, once in a while; in a row it is a loop.
        let empty = !self.would_move(Side::Remote);
        if empty && self.last_was_empty {
            return Err(PeerFault::EmptyCommitment { number });
        }
        let mut next = self.clone();
        next.advance(Side::Remote, Act::CommitmentSigned);
        let tally = next.tally_in(Side::Local, Which::Newest, None);
        let expected = usize::try_from(tally.untrimmed).unwrap_or(usize::MAX);
        let got = signatures.htlcs.len();
        if got != expected {
            return Err(PeerFault::SignatureCount { got, expected });
        }
        // BOLT 3, "Fee Payment": a fee that cannot be paid is cut; anchors cannot be.
        let balance = next.balance_in(Side::Local, Which::Newest)[self.constants.params.opener];
        if balance < tally.anchors.msat() {
            return Err(PeerFault::Overspent { balance, needed: tally.anchors });
        }
        next.commitment.local = number;
        next.local_signatures = Arc::new(signatures);
        next.last_was_empty = empty;
        let state = next.describe(Side::Local, Which::Newest, number, point);
        Ok((next, state))
    }

    /// We revoke our commitment before the newest. Returns its number: its secret goes to the peer,
    /// with our point for the number two after.
    pub fn send_revocation(&self) -> Result<(Self, CommitmentNumber, Irrevocable), CommitRefusal> {
        if !self.owes_revocation() {
            return Err(CommitRefusal::NothingToRevoke);
        }
        let number = self.revoked.local;
        let mut next = self.clone();
        next.revoked.local = number.next();
        next.last_sent = LastSent::Revocation;
        let irrevocable = next.advance(Side::Local, Act::RevokeAndAck);
        Ok((next, number, irrevocable))
    }

    /// The peer revoked its commitment before the newest. BOLT 2, revoke_and_ack.
    pub fn receive_revocation(
        &self,
        secret: &SecretKey,
        next_point: Point,
    ) -> Result<(Self, Irrevocable), PeerFault> {
        let number = self.revoked.remote;
        let newest_point = self
            .remote_next_point
            .filter(|_| self.awaits_revocation())
            .ok_or(PeerFault::RevocationUnasked { number })?;
        if Point::from_secret_key(SECP256K1, secret) != self.remote_point {
            return Err(PeerFault::WrongSecret { number });
        }
        let secrets = self
            .secrets
            .insert(index_of(number), Secret::new(secret.secret_bytes()))
            .map_err(|_| PeerFault::NotOfTheChain { number })?;
        let mut next = self.clone();
        next.secrets = Arc::new(secrets);
        next.revoked.remote = number.next();
        next.remote_point = newest_point;
        next.remote_next_point = Some(next_point);
        let irrevocable = next.advance(Side::Remote, Act::RevokeAndAck);
        Ok((next, irrevocable))
    }

    /// Moves every update that awaits this act of `by`, and takes out what came to its end.
    fn advance(&mut self, by: Side, act: Act) -> Irrevocable {
        let mut done = Irrevocable::default();
        for live in &mut self.htlcs {
            let offered_by = live.htlc.offered_by;
            let added = after(live.added, Party::of(by, offered_by), act);
            let removal = stage_of_removal(live);
            let removed = removal.map(|stage| after(stage, Party::of(by, !offered_by), act));
            if (added, removed) == (live.added, removal) {
                continue;
            }
            let was = live.added;
            let moved = Arc::make_mut(live);
            moved.added = added;
            if let (Some(r), Some(stage)) = (&mut moved.removed, removed) {
                r.stage = stage;
            }
            if added == Stage::Irrevocable && was != added {
                done.added.push(Arc::clone(live));
            }
            if removed == Some(Stage::Irrevocable) {
                done.removed.push(Arc::clone(live));
            }
        }
        for live in &done.removed {
            self.settle(live);
        }
        self.advance_fees(by, act, &mut done);
        done
    }

    /// An irrevocable removal: the HTLC leaves, and a fulfilled one leaves its money with the other
    /// side.
    fn settle(&mut self, live: &LiveHtlc) {
        let (offered_by, amount) = (live.htlc.offered_by, live.htlc.amount);
        let fulfilled =
            live.removed.as_ref().is_some_and(|r| matches!(r.removal, Removal::Fulfilled { .. }));
        if fulfilled {
            self.balance[offered_by] = self.balance[offered_by].saturating_sub(amount);
            self.balance[!offered_by] = self.balance[!offered_by].saturating_add(amount);
        }
        let key = key_of(live);
        self.htlcs.retain(|h| key_of(h) != key);
    }

    fn advance_fees(&mut self, by: Side, act: Act, done: &mut Irrevocable) {
        let opener = self.constants.params.opener;
        for fee in &mut self.fees {
            let stage = after(fee.stage, Party::of(by, opener), act);
            if stage == Stage::Irrevocable && fee.stage != stage {
                done.feerate = Some(fee.feerate);
            }
            fee.stage = stage;
        }
        // The newest of each stage replaces what came before it.
        let fees = std::mem::take(&mut self.fees);
        for fee in fees {
            if self.fees.last().is_some_and(|last| last.stage == fee.stage) {
                self.fees.pop();
            }
            self.fees.push(fee);
        }
    }
}
