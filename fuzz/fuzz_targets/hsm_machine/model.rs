//! What one channel's questions and answers have shown, and what they may never undo.

use super::world::{answer, needs};
use crate::ends::Ends;
use crate::input::reached;
use hsmd::fuzzing::Answered;
use primitives::*;
use secp256k1::SECP256K1;
use std::collections::{BTreeMap, BTreeSet};
use wire::channel_data::*;
use wire::hsm::*;

/// What one channel's questions and answers have shown.
#[derive(Default)]
pub struct Model {
    /// Something was asked about it: orders about a channel that hsmd has never met change nothing.
    pub met: bool,
    /// hsmd knows its parameters.
    pub known: bool,
    /// Our newest commitment with good signatures.
    pub shown: Option<u64>,
    /// How many of ours the master stored as revoked.
    pub stored: u64,
    /// The first of ours that was signed for broadcast.
    pub broadcast: Option<u64>,
    /// Secrets of ours that are out.
    pub out: BTreeSet<u64>,
    pub remote_signed: Option<u64>,
    pub remote_revoked: u64,
    pub remote_points: BTreeMap<u64, Point>,
    /// The newest state of each side that was shown: what is ours in it.
    pub owed: Sides<Option<Msat>>,
    pub closing_stored: bool,
    pub terms: Option<ClosingTerms>,
    pub forgotten: bool,
}

impl Model {
    pub fn seeded(&mut self, seed: &ChannelSeed) {
        let number = seed.local_number.0;
        if self.known {
            assert!(number <= self.shown.unwrap_or(0), "a seed raised what was shown");
            assert!(Some(seed.remote_number.0) <= self.remote_signed, "or what was signed");
            assert!(seed.remote_revoked.0 <= self.remote_revoked, "or what was revoked");
        }
        self.known = true;
        self.shown = self.shown.max(Some(number));
        self.stored = self.stored.max(seed.local_revoked.0);
        self.remote_signed = self.remote_signed.max(Some(seed.remote_number.0));
        self.remote_revoked = self.remote_revoked.max(seed.remote_revoked.0);
        self.remote_points.entry(seed.remote_revoked.0).or_insert(seed.remote_point);
        if let Some(first) = seed.broadcast {
            self.broadcast = Some(self.broadcast.map_or(first.0, |b| b.min(first.0)));
        }
        self.owed = Sides { local: Some(seed.local_balance), remote: Some(seed.local_balance) };
        self.closing_stored |= seed.phase >= ChannelPhase::Negotiating;
        if seed.closing.is_some() {
            self.terms.clone_from(&seed.closing);
        }
    }

    pub fn broadcasts(&mut self, number: u64) {
        assert!(!self.out.contains(&number), "commitment {number} is signed, and its secret out");
        self.broadcast = Some(self.broadcast.map_or(number, |b| b.min(number)));
    }

    pub fn closes(&self, state: &ClosingState, ends: &Ends) {
        assert!(self.closing_stored, "a closing that the master has not stored");
        let terms = self.terms.as_ref().expect("a closing has terms");
        assert_eq!(state.script.local, terms.script, "a closing that pays elsewhere");
        for side in Side::BOTH {
            assert!(self.owed[side].is_none_or(|owed| state.balance.local >= owed), "paid less");
        }
        assert!(ends.params.opener == Side::Remote || state.fee <= terms.max_fee);
    }

    /// A child's question, answered.
    pub fn answered(&mut self, ends: &Ends, asked: &HsmRequest, answered: &Answered) {
        match asked {
            HsmRequest::SetupChannel(q) => {
                assert_eq!(q.params.basepoints.local, ends.ours.points(), "of somebody else");
                self.known = true;
            }
            HsmRequest::SignRemoteCommitment(q) => {
                self.signs_remote(ends, &q.state, &answer::<SignRemoteCommitment>(answered));
            }
            HsmRequest::RemoteRevoked(q) => {
                if answer::<RemoteRevoked>(answered) == Verdict::Good {
                    self.remote_revoked = self.remote_revoked.max(q.number.0 + 1);
                }
            }
            HsmRequest::ValidateLocalCommitment(q) => {
                if answer::<ValidateLocalCommitment>(answered) == Verdict::Good {
                    let number = q.state.number.0;
                    assert!(number <= self.shown.map_or(0, |n| n + 1), "a leap to {number}");
                    if self.shown <= Some(number) {
                        self.shown = Some(number);
                        self.owed.local = Some(q.state.balance.local);
                    }
                }
            }
            HsmRequest::RevokeLocal(q) => {
                let (number, out) = (q.number.0, answer::<RevokeLocal>(answered));
                assert!(self.shown > Some(number), "{number} has no successor");
                assert!(number < self.stored, "the master knows no successor of {number}");
                assert!(self.broadcast.is_none_or(|b| b > number), "{number} was broadcast");
                assert_eq!(Some(out.secret), ends.ours.secret(q.number));
                self.out.insert(number);
                reached("revocation", number + 1);
            }
            HsmRequest::SignClosing(q) => self.closes(&q.state, ends),
            HsmRequest::GetCommitmentPoint(q) => {
                assert!(q.number.0 <= self.shown.map_or(0, |n| n + 1) + 1, "a point too far");
            }
            // Nothing follows from the others that could be undone; which of them are whose,
            // `needs` says.
            _ => assert!(needs(asked) != Capability::Master),
        }
    }

    pub fn signs_remote(&mut self, ends: &Ends, state: &CommitmentState, signed: &CommitmentSignatures) {
        let number = state.number.0;
        assert_eq!(state.side, Side::Remote);
        assert!(number >= self.remote_revoked, "{number} is revoked");
        assert!(number <= self.remote_revoked + 1, "three of the peer's count");
        let known = *self.remote_points.entry(number).or_insert(state.point);
        assert_eq!(known, state.point, "{number} has two points");
        let closes = self.closing_stored;
        assert!(!closes || state.htlcs.0.is_empty(), "an HTLC after a closing");
        let built = ends.built(state).expect("what is signed can be built");
        let funding = &ends.params.basepoints.local.funding;
        let sighash = built.sighash(&ends.constants);
        SECP256K1.verify_ecdsa(&sighash, &signed.signature, funding).expect("our signature");
        assert_eq!(signed.htlcs.len(), built.htlcs.len());
        if self.remote_signed <= Some(number) {
            self.remote_signed = Some(number);
            self.owed.remote = Some(state.balance.local);
        }
    }
}
