//! Committing and revoking: what is due once nothing more can be read, done in one go with one
//! question to the master.
//!
//! A revocation that we owe, the commitment that we owe after it, and what the peer revoked and
//! signed before: all of it is one step on disk. On the wire the revocation goes first, then our
//! updates, then our signature; `last_sent` says so.

use crate::batch::{Batch, BatchProgress, MAX_BATCH};
use crate::live::{Due, Live, Phase};
use crate::onions;
use crate::peer::broke;
use channel::commitment::build;
use channel::keys::CommitmentKeys;
use channel::{Channel, Update, diff};
use primitives::*;
use subdaemon::Failure;
use wire::channel_data::*;
use wire::channeld::{FeerateNow, Peeled, PeeledHtlc, Persist, PreimageLearned};
use wire::hsm::*;
use wire::*;

/// A step that is decided: what it leads to, and what is to be said.
struct CommitStep {
    next: Channel,
    peeled: Vec<PeeledHtlc>,
    revoked: Option<CommitmentNumber>,
    signed: Option<CommitmentSignatures>,
}

impl Live {
    /// How soon [`Live::act`] has something to do.
    pub(crate) fn due(&self) -> Due {
        if self.phase != Phase::Open {
            return Due::Nothing;
        }
        let irrevocable = &self.irrevocable;
        let now = self.channel.owes_revocation()
            || !self.unsaid.is_empty()
            || !irrevocable.added.is_empty()
            || !irrevocable.removed.is_empty()
            || self.channel.can_commit()
            || self.may_say_shutdown();
        if now {
            Due::Now
        } else if self.channel.revoked() != self.stored.revoked() {
            // Their commitment_signed mostly comes in the same packet.
            Due::Soon
        } else {
            Due::Nothing
        }
    }

    /// Commits, revokes, says. In this order: hsmd, master, peer.
    pub(crate) fn act(&mut self) -> Result<(), Failure> {
        self.acted();
        let step = self.decide()?;
        self.persist(&step)?;
        self.channel = step.next;
        if let Some(number) = step.revoked {
            self.say_revocation(number)?;
        }
        for update in std::mem::take(&mut self.unsaid) {
            self.say_update(update)?;
        }
        if let Some(signatures) = step.signed {
            self.say_commitment(signatures)?;
        }
        if self.may_say_shutdown() {
            self.say_shutdown()?;
        }
        Ok(())
    }

    fn decide(&mut self) -> Result<CommitStep, Failure> {
        let mut next = self.channel.clone();
        let mut revoked = None;
        if next.owes_revocation() {
            let (after, number, done) = next.send_revocation().map_err(Failure::internal)?;
            self.note_irrevocable(done);
            (next, revoked) = (after, Some(number));
        }
        let peeled = self.peel(&mut next)?;
        let commitment = if next.can_commit() {
            let (after, state) = next.send_commit().map_err(Failure::internal)?;
            next = after;
            Some(state)
        } else {
            None
        };
        next.may_bind(&self.stored, &self.policy).map_err(broke)?;
        let mut signed = None;
        if let Some(state) = commitment {
            signed = Some(self.hsm.ask(&SignRemoteCommitment { state })?);
        }
        Ok(CommitStep { next, peeled, revoked, signed })
    }

    /// Opens the onions of the HTLCs that are new and irrevocable. Those that we fail whatever the
    /// master thinks are removed in the same step; the master says so again if that step does not
    /// sign the removal and the connection is lost.
    fn peel(&mut self, next: &mut Channel) -> Result<Vec<PeeledHtlc>, Failure> {
        let added = self.irrevocable.added.iter();
        let received: Vec<_> =
            added.filter(|live| live.htlc.offered_by == Side::Remote).cloned().collect();
        let mut peeled = Vec::with_capacity(received.len());
        // The newest first: it is they that make too many.
        for opened in onions::open(&mut self.hsm, &received)?.into_iter().rev() {
            let mut htlc = opened;
            if next.is_overexposed(htlc.id, &self.policy) {
                log::info!("failing HTLC {}: max_dust_htlc_exposure_msat exceeded", htlc.id);
                let removal = onions::overexposed(&received, &htlc);
                htlc.peeled = Peeled::Refused { removal };
            }
            if let (id, Peeled::Refused { removal }) = (htlc.id, &htlc.peeled) {
                *next = next.offer_removal(id, removal.clone()).map_err(Failure::internal)?;
                self.unsaid.push(Update::Remove { id, removal: removal.clone() });
            }
            peeled.push(htlc);
        }
        peeled.reverse();
        Ok(peeled)
    }

    fn persist(&mut self, step: &CommitStep) -> Result<(), Failure> {
        let told = !self.irrevocable.removed.is_empty() || !step.peeled.is_empty();
        let moved = step.next.commitment() != self.stored.commitment()
            || step.next.revoked() != self.stored.revoked();
        if !told && !moved {
            return Ok(());
        }
        let changes = vec![diff(&self.stored, &step.next)];
        self.master.ask(&Persist { changes, peeled: Long(step.peeled.clone()) })?;
        self.stored = step.next.clone();
        let irrevocable = std::mem::take(&mut self.irrevocable);
        if let Some(feerate) = irrevocable.feerate {
            self.master.report(&FeerateNow { feerate })?;
        }
        Ok(())
    }

    fn note_irrevocable(&mut self, done: channel::Irrevocable) {
        self.irrevocable.added.extend(done.added);
        self.irrevocable.removed.extend(done.removed);
        self.irrevocable.feerate = done.feerate.or(self.irrevocable.feerate);
    }

    /// The peer signed our next commitment. It is stored, and the one before revoked, when nothing
    /// more can be read.
    pub(crate) fn on_commitment_signed(&mut self, m: CommitmentSigned) -> Result<(), Failure> {
        let signatures = CommitmentSignatures { signature: m.signature, htlcs: m.htlc_signatures };
        let (next, state) =
            self.channel.receive_commit(self.next_point, signatures.clone()).map_err(broke)?;
        let number = state.number;
        match self.hsm.ask(&ValidateLocalCommitment { state: state.clone(), signatures })? {
            Verdict::Good => {}
            Verdict::Bad { why } => {
                let text = format!("BOLT 2, commitment_signed: commitment {number}: {why}");
                return Err(Failure::PeerError(self.with_transaction(text, &state)));
            }
        }
        self.channel = next;
        Ok(())
    }

    /// BOLT 1, error: with the transaction that a signature does not hold for, where a message has
    /// room for it.
    fn with_transaction(&self, text: String, state: &CommitmentState) -> String {
        let constants = self.channel.constants();
        let keys = CommitmentKeys::derive(&constants.params.basepoints, state.side, &state.point);
        let Ok(built) = build(constants, keys, state) else { return text };
        let raw = bitcoin::consensus::encode::serialize_hex(&built.tx);
        let whole = format!("{text}: transaction {raw}");
        if whole.len() > MAX_TEXT { text } else { whole }
    }

    /// The peer revoked its commitment before the newest.
    pub(crate) fn on_revoke_and_ack(&mut self, m: RevokeAndAck) -> Result<(), Failure> {
        let number = self.channel.revoked().remote;
        let secret = m.per_commitment_secret;
        let (next, done) =
            self.channel.receive_revocation(&secret, m.next_per_commitment_point).map_err(broke)?;
        match self.hsm.ask(&RemoteRevoked { number, secret })? {
            Verdict::Good => {}
            Verdict::Bad { why } => {
                return Err(Failure::PeerError(format!("BOLT 2, revoke_and_ack: {why}")));
            }
        }
        self.channel = next;
        self.owed_since = None;
        self.note_irrevocable(done);
        Ok(())
    }

    /// The peer fulfils an HTLC of ours. What it showed is good whatever becomes of the update.
    pub(crate) fn on_fulfill(&mut self, m: &UpdateFulfillHtlc) -> Result<(), Failure> {
        let (id, preimage) = (m.id, m.preimage);
        let ours = self.channel.htlc(Side::Local, id);
        if ours.is_some_and(|live| live.htlc.payment_hash == preimage.hash()) {
            self.master.report(&PreimageLearned { id, preimage })?;
        }
        self.channel = self.channel.receive_fulfill(id, preimage).map_err(broke)?;
        Ok(())
    }

    /// Our secret for this commitment, which is on disk as revoked.
    pub(crate) fn say_revocation(&mut self, number: CommitmentNumber) -> Result<(), Failure> {
        let Revocation { secret, next_point } = self.hsm.ask(&RevokeLocal { number })?;
        self.next_point = next_point;
        self.peer.send(&RevokeAndAck {
            channel_id: self.id,
            per_commitment_secret: secret,
            next_per_commitment_point: next_point,
        })
    }

    pub(crate) fn say_commitment(&mut self, s: CommitmentSignatures) -> Result<(), Failure> {
        let funding_txid = Some(self.channel.constants().params.funding.txid);
        self.peer.send(&CommitmentSigned {
            channel_id: self.id,
            signature: s.signature,
            htlc_signatures: s.htlcs,
            funding_txid,
        })
    }

    pub(crate) fn say_update(&mut self, update: Update) -> Result<(), Failure> {
        let channel_id = self.id;
        match update {
            Update::Add(live) => {
                let LiveHtlc { htlc, onion, path_key, .. } = *live;
                self.peer.send(&UpdateAddHtlc {
                    channel_id,
                    id: htlc.id,
                    amount: htlc.amount,
                    payment_hash: htlc.payment_hash,
                    cltv_expiry: htlc.expiry,
                    onion,
                    path_key,
                })
            }
            Update::Remove { id, removal: Removal::Fulfilled { preimage } } => self
                .peer
                .send(&UpdateFulfillHtlc { channel_id, id, preimage, attribution_data: None }),
            Update::Remove { id, removal: Removal::Failed { reason } } => {
                self.peer.send(&UpdateFailHtlc { channel_id, id, reason, attribution_data: None })
            }
            Update::Remove {
                id,
                removal: Removal::Malformed { sha256_of_onion, failure_code },
            } => self.peer.send(&UpdateFailMalformedHtlc {
                channel_id,
                id,
                sha256_of_onion,
                failure_code,
            }),
            Update::Fee(feerate) => self.peer.send(&UpdateFee { channel_id, feerate }),
        }
    }
}

/// BOLT 2, "Batching channel messages".
impl Live {
    pub(crate) fn on_start_batch(&mut self, m: &StartBatch) -> Result<(), Failure> {
        if m.batch_size > MAX_BATCH {
            let text = format!("start_batch of {}, of at most {MAX_BATCH}", m.batch_size);
            return Err(Failure::PeerWarn(text));
        }
        if m.batch_size <= 1 {
            let text = format!("start_batch of {} is ignored", m.batch_size);
            return self.peer.send(&Warning::new(self.id, &text));
        }
        // BOLT 2: of anything else the messages are taken one by one.
        if m.message_type == Some(CommitmentSigned::NUMBER) {
            self.batch = Some(Batch::new(m.batch_size));
        }
        Ok(())
    }

    /// The commitment_signed to act on: this one, or the one of a batch that is now whole.
    pub(crate) fn unbatched(
        &mut self,
        m: CommitmentSigned,
    ) -> Result<Option<CommitmentSigned>, Failure> {
        let funding = self.channel.constants().params.funding.txid;
        let Some(batch) = self.batch.take() else {
            return match m.funding_txid {
                Some(other) if other != funding => {
                    Err(Failure::PeerWarn(format!("commitment_signed for the funding {other}")))
                }
                Some(_) | None => Ok(Some(m)),
            };
        };
        match batch.with(m, funding) {
            Ok(BatchProgress::More(batch)) => {
                self.batch = Some(batch);
                Ok(None)
            }
            Ok(BatchProgress::Whole(m)) => Ok(Some(m)),
            Err(why) => Err(Failure::PeerError(format!("BOLT 2, start_batch: {why}"))),
        }
    }
}
