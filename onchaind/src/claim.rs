//! How each output that is ours is taken. BOLT 5 says what; BOLT 3 has the scripts.

use crate::chain::Spend;
use crate::close::{Close, CommitmentOutput, CommitmentOwner, HtlcOutput, OutputKind};
use channel::scripts;
use primitives::*;
use std::collections::HashMap;
use wire::channel_data::Htlc;
use wire::hsm::WalletKey;
use wire::onchaind::{Claim, ClaimShape};

/// No relative delay; replaceable, and an absolute one counts.
const NO_DELAY: u32 = 0xffff_fffd;
/// A signature with its sighash type, and its length: one byte more than ours ever have.
const SIGNATURE: usize = 1 + 73;

/// Preimages of the HTLCs that the peer offered.
pub(crate) type Preimages = HashMap<HtlcId, Preimage>;

impl Close {
    /// How an unspent output of the commitment is taken, if it can be.
    pub(crate) fn claim(
        &self,
        vout: usize,
        part: &CommitmentOutput,
        preimages: &Preimages,
    ) -> Option<Claim> {
        use {CommitmentOwner as Owner, OutputKind as Kind};
        let next = self.height + CltvDelta(1);
        let (peer, channel) = (self.peer, self.channel);
        let basic = |key, sequence, ready, deadline, witness: &[usize]| Claim {
            outpoint: self.outpoint(vout),
            amount: part.amount,
            script: part.script.clone(),
            key,
            sequence,
            lock_time: 0,
            ready,
            deadline,
            witness_weight: witness_weight(witness),
            shape: ClaimShape::Free {},
        };
        match (&part.what, &self.view) {
            (Kind::Htlc(htlc), _) => self.claim_htlc(vout, part, htlc, preimages),
            (Kind::OurToLocal, Owner::Ours { number, delayed })
            | (Kind::OurToLocal, Owner::Unknown { number, delayed: Some(delayed), .. }) => {
                let delay = self.our_delay();
                let key = WalletKey::Delayed { peer, channel, number: *number };
                let ready = self.height + CltvDelta(delay.into());
                Some(basic(key, delay.into(), ready, None, &[SIGNATURE, 1, script_size(delayed)]))
            }
            (Kind::OurToRemote, _) => {
                let anchors = self.constants.format.has_anchors();
                let payment = &self.constants.params.basepoints.local.payment;
                let key = WalletKey::ToRemote { peer, channel, anchors };
                let (sequence, last) = match anchors {
                    true => (1, script_size(&scripts::to_remote_anchors(payment))),
                    false => (NO_DELAY, 1 + 33),
                };
                Some(basic(key, sequence, next, None, &[SIGNATURE, last]))
            }
            (Kind::TheirToLocal, Owner::Revoked { secret, delayed, .. }) => {
                let key = WalletKey::RevokedDelayed { peer, channel, secret: *secret };
                let deadline = self.height + CltvDelta(self.their_delay().into());
                let witness = [SIGNATURE, 2, script_size(delayed)];
                Some(basic(key, NO_DELAY, next, Some(deadline), &witness))
            }
            // The peer's own, or nobody knows whose; and an anchor costs more than it holds.
            (
                Kind::OurToLocal
                | Kind::TheirToLocal
                | Kind::TheirToRemote
                | Kind::Anchor(_)
                | Kind::Unknown,
                Owner::Ours { .. }
                | Owner::Theirs { .. }
                | Owner::Revoked { .. }
                | Owner::Unknown { .. },
            ) => None,
        }
    }

    fn claim_htlc(
        &self,
        vout: usize,
        part: &CommitmentOutput,
        output: &HtlcOutput,
        preimages: &Preimages,
    ) -> Option<Claim> {
        let htlc = &output.htlc;
        let (peer, channel) = (self.peer, self.channel);
        let next = self.height + CltvDelta(1);
        let anchors = self.constants.format.has_anchors();
        let script = script_size(&output.script);
        let claim = |key, sequence, lock_time, ready, deadline, witness: &[usize], shape| Claim {
            outpoint: self.outpoint(vout),
            amount: part.amount,
            script: part.script.clone(),
            key,
            sequence,
            lock_time,
            ready,
            deadline: Some(deadline),
            witness_weight: witness_weight(witness),
            shape,
        };
        let (free, csv) = (ClaimShape::Free {}, if anchors { 1 } else { NO_DELAY });
        if let CommitmentOwner::Revoked { secret, .. } = &self.view {
            let key = WalletKey::RevokedHtlc { peer, channel, secret: *secret, htlc: htlc.clone() };
            let witness = [SIGNATURE, 1 + 33, script];
            let deadline = self.penalty_deadline(htlc);
            return Some(claim(key, NO_DELAY, 0, next, deadline, &witness, free));
        }
        let (preimage, lock_time, ready, deadline) = self.htlc_terms(htlc, preimages)?;
        let opens = if preimage.is_some() { 1 + 32 } else { 1 };
        match &self.view {
            CommitmentOwner::Ours { number, delayed } => {
                let (pays, signature) = output.second?;
                let (number, htlc) = (*number, htlc.clone());
                let key = WalletKey::OwnHtlc { peer, channel, number, htlc, signature, preimage };
                let witness = [1, SIGNATURE, SIGNATURE, opens, script];
                let (amount, to) = (pays, delayed.to_p2wsh());
                // BOLT 3: with option_anchors the peer signs with
                // SIGHASH_SINGLE|SIGHASH_ANYONECANPAY.
                let shape = match anchors {
                    true => ClaimShape::Paired { amount, script: to },
                    false => ClaimShape::Whole { amount, script: to },
                };
                let sequence = u32::from(anchors);
                Some(claim(key, sequence, lock_time, ready, deadline, &witness, shape))
            }
            CommitmentOwner::Theirs { point, .. }
            | CommitmentOwner::Unknown { point: Some(point), .. } => {
                let (point, htlc) = (*point, htlc.clone());
                let key = WalletKey::TheirHtlc { peer, channel, point, htlc, preimage };
                let witness = [SIGNATURE, opens, script];
                Some(claim(key, csv, lock_time, ready, deadline, &witness, free))
            }
            CommitmentOwner::Revoked { .. } | CommitmentOwner::Unknown { point: None, .. } => None,
        }
    }

    /// Preimage, locktime, the first block and the deadline of a claim on an HTLC that was not
    /// revoked. BOLT 5: ours by timeout, theirs with the preimage, both as soon as they can be.
    fn htlc_terms(
        &self,
        htlc: &Htlc,
        preimages: &Preimages,
    ) -> Option<(Option<Preimage>, u32, BlockHeight, BlockHeight)> {
        let next = self.height + CltvDelta(1);
        Some(match htlc.offered_by {
            Side::Local => {
                let ready = next.max(htlc.expiry + CltvDelta(1));
                (None, htlc.expiry.0, ready, self.must_be_back(htlc.id, htlc.expiry))
            }
            Side::Remote => (Some(*preimages.get(&htlc.id)?), 0, next, htlc.expiry),
        })
    }

    /// Until when an HTLC output of a revoked commitment must be taken: the peer's HTLC transaction
    /// would come first, and its output wait as long as to_local.
    fn penalty_deadline(&self, htlc: &Htlc) -> BlockHeight {
        let next = self.height + CltvDelta(1);
        let first = match htlc.offered_by {
            Side::Local => next,
            Side::Remote => next.max(htlc.expiry + CltvDelta(1)),
        };
        first + CltvDelta(self.their_delay().into())
    }

    /// How what an HTLC transaction paid is taken: at the index of its input. `None` if it pays
    /// nobody that way.
    pub(crate) fn second_claim(&self, spend: Spend<'_>) -> Option<Claim> {
        let delayed = self.second_stage()?;
        let out = spend.by.transaction.output.get(spend.input)?;
        if out.script_pubkey != delayed.to_p2wsh() {
            return None;
        }
        let vout = u32::try_from(spend.input).ok()?;
        let (peer, channel, height) = (self.peer, self.channel, spend.by.height);
        let size = script_size(delayed);
        let (key, sequence, ready, deadline, witness) = match &self.view {
            CommitmentOwner::Ours { number, .. } => {
                let delay = self.our_delay();
                let key = WalletKey::Delayed { peer, channel, number: *number };
                let ready = height + CltvDelta(delay.into());
                (key, delay.into(), ready, None, [SIGNATURE, 1, size])
            }
            CommitmentOwner::Revoked { secret, .. } => {
                let key = WalletKey::RevokedDelayed { peer, channel, secret: *secret };
                let deadline = height + CltvDelta(self.their_delay().into());
                (key, NO_DELAY, height + CltvDelta(1), Some(deadline), [SIGNATURE, 2, size])
            }
            CommitmentOwner::Theirs { .. } | CommitmentOwner::Unknown { .. } => return None,
        };
        Some(Claim {
            outpoint: OutPoint { txid: spend.by.txid, vout },
            amount: Sat(out.value.to_sat()),
            script: out.script_pubkey.clone(),
            key,
            sequence,
            lock_time: 0,
            ready,
            deadline,
            witness_weight: witness_weight(&witness),
            shape: ClaimShape::Free {},
        })
    }

    pub(crate) fn outpoint(&self, vout: usize) -> OutPoint {
        let vout = u32::try_from(vout).expect("a transaction in a block has fewer outputs");
        OutPoint { txid: self.txid, vout }
    }

    /// How long our own money waits in our commitment: as the peer demanded. BOLT 2, to_self_delay.
    const fn our_delay(&self) -> u16 {
        self.constants.params.terms.remote.to_self_delay
    }
    /// How long the peer's waits in its own.
    const fn their_delay(&self) -> u16 {
        self.constants.params.terms.local.to_self_delay
    }

    /// Until when an HTLC that we offered should be ours again.
    fn must_be_back(&self, id: HtlcId, expiry: BlockHeight) -> BlockHeight {
        let at = self.offered.binary_search_by_key(&id, |o| o.id).ok();
        let upstream = at.and_then(|at| self.offered.get(at)).and_then(|o| o.upstream);
        upstream.unwrap_or(expiry + CltvDelta(channel::HTLC_RETURN_MARGIN))
    }
}

/// Of a stack of elements, each with its length in front: those of ours are below 253 bytes.
fn witness_weight(elements: &[usize]) -> u32 {
    let bytes = 1 + elements.iter().sum::<usize>();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
fn script_size(script: &ScriptBuf) -> usize {
    1 + script.len()
}
