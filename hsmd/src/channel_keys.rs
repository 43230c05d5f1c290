//! One channel's secret keys, and what they sign.

use crate::blinding::secp;
use crate::derive::NodeKeys;
use bitcoin::EcdsaSighashType;
use channel::commitment::{Commitment, build, tally_of};
use channel::cores;
use channel::keys::{
    CommitmentKeys, commitment_secret, derive_point, derive_secret, revocation_point,
    revocation_point_from_base, revocation_secret,
};
use channel::{Constants, Unbuildable};
use primitives::*;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use subdaemon::memory;
use wire::channel_data::{Basepoints, CommitmentSignatures, CommitmentState};

/// Bytes of stack that a signature uses, and that are wiped after it.
pub(crate) const SIGNING_STACK: usize = 8 * 1024;

/// Derived once per channel, and kept in one place while the channel is known.
pub(crate) struct ChannelKeys {
    pub(crate) funding: SigningKey,
    revocation: SigningKey,
    htlc: SigningKey,
    pub(crate) payment: SigningKey,
    delayed_payment: SigningKey,
    seed: Secret<32>,
    pub(crate) points: Basepoints,
}
impl fmt::Debug for ChannelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelKeys({})", self.points.funding)
    }
}

impl ChannelKeys {
    /// `None` where the derivation hits no key: nobody has seen that, and the channel number is
    /// then never used. Boxed: a map that grows moves what it holds, and leaves behind what was
    /// there.
    pub(crate) fn derive(
        node: &NodeKeys,
        peer: &NodeId,
        channel: ChannelNumber,
    ) -> Option<Box<Self>> {
        let bytes = node.channel_secrets(peer, channel);
        let mut parts = bytes.expose().chunks_exact(32);
        let mut key = || SecretKey::from_slice(parts.next()?).ok().map(SigningKey::new);
        // CLN's order.
        let (funding, revocation, htlc, payment, delayed_payment) =
            (key()?, key()?, key()?, key()?, key()?);
        let seed = Secret::new(*bytes.expose().last_chunk::<32>()?);
        let point = |key: &SecretKey| Point::from_secret_key(&secp(), key);
        let points = Basepoints {
            funding: point(&funding),
            revocation: point(&revocation),
            payment: point(&payment),
            delayed_payment: point(&delayed_payment),
            htlc: point(&htlc),
        };
        let keys = Self { funding, revocation, htlc, payment, delayed_payment, seed, points };
        let keys = Box::new(keys);
        memory::lock_pages_of(&*keys);
        Some(keys)
    }

    /// Our secret for this commitment.
    pub(crate) fn commitment_secret(&self, number: CommitmentNumber) -> Option<SigningKey> {
        commitment_secret(&self.seed, number).map(SigningKey::new)
    }
    /// The same, for tests.
    #[cfg(test)]
    pub(crate) fn secret(&self, number: CommitmentNumber) -> Option<SecretKey> {
        commitment_secret(&self.seed, number)
    }
    /// Our point for this commitment.
    pub(crate) fn point(&self, number: CommitmentNumber) -> Option<Point> {
        self.commitment_secret(number).map(|secret| Point::from_secret_key(&secp(), &secret))
    }

    /// Opens our delayed money of a commitment of ours with this point.
    pub(crate) fn delayed_secret(&self, point: &Point) -> SigningKey {
        SigningKey::new(derive_secret(&self.delayed_payment, &self.points.delayed_payment, point))
    }
    /// Our HTLC key of either side's commitment with this point.
    pub(crate) fn htlc_secret(&self, point: &Point) -> SigningKey {
        SigningKey::new(derive_secret(&self.htlc, &self.points.htlc, point))
    }
    /// Opens everything in the remote's commitment that this secret of theirs revoked.
    pub(crate) fn revocation_secret(&self, commitment_secret: &SecretKey) -> SigningKey {
        SigningKey::new(revocation_secret(&secp(), &self.revocation, commitment_secret))
    }

    /// The remote's commitment, with the secret key for our signatures on its HTLC transactions.
    fn build_remote(
        &self,
        constants: &Constants,
        state: &CommitmentState,
    ) -> Result<(Commitment, Option<SigningKey>), Unbuildable> {
        let any_htlc = tally_of(constants, state)?.untrimmed > 0;
        let remote = &constants.params.basepoints.remote;
        let secret = any_htlc.then(|| self.htlc_secret(&state.point));
        let keys = CommitmentKeys {
            revocation: revocation_point_from_base(
                &secp(),
                &self.revocation,
                &self.points.revocation,
                &state.point,
            ),
            delayed: derive_point(&remote.delayed_payment, &state.point),
            htlc: secret.as_ref().map(|secret| Sides {
                local: Point::from_secret_key(&secp(), secret),
                remote: derive_point(&remote.htlc, &state.point),
            }),
            payment: self.points.payment,
        };
        Ok((build(constants, keys, state)?, secret))
    }

    /// Our commitment.
    pub(crate) fn build_local(
        &self,
        constants: &Constants,
        state: &CommitmentState,
    ) -> Result<Commitment, Unbuildable> {
        let any_htlc = tally_of(constants, state)?.untrimmed > 0;
        let remote = &constants.params.basepoints.remote;
        let keys = CommitmentKeys {
            revocation: revocation_point(&remote.revocation, &state.point),
            delayed: derive_point(&self.points.delayed_payment, &state.point),
            htlc: any_htlc.then(|| Sides {
                local: derive_point(&self.points.htlc, &state.point),
                remote: derive_point(&remote.htlc, &state.point),
            }),
            payment: remote.payment,
        };
        build(constants, keys, state)
    }

    /// Our signatures on the remote's commitment and its HTLC transactions.
    pub(crate) fn sign_remote(
        &self,
        constants: &Constants,
        state: &CommitmentState,
    ) -> Result<CommitmentSignatures, Unbuildable> {
        let (built, secret) = self.build_remote(constants, state)?;
        let signature = secp().sign_ecdsa(&built.sighash(constants), &self.funding);
        let kind: EcdsaSighashType = constants.format.htlc_sighash();
        let htlcs = secret.map_or_else(Vec::new, |secret| {
            cores::each(&built.htlcs, move |_, h| {
                let signature = secp().sign_ecdsa(&h.sighash(kind), &secret);
                // Of another thread than ours nobody else wipes the stack.
                memory::wipe_stack::<SIGNING_STACK>();
                signature
            })
        });
        SIGNATURES.fetch_add(1 + htlcs.len() as u64, Ordering::Relaxed);
        Ok(CommitmentSignatures { signature, htlcs })
    }
}

/// Signatures on commitments since birth: what benchmarks divide by payments.
static SIGNATURES: AtomicU64 = AtomicU64::new(0);

/// How many commitments and HTLC transactions were signed by this process.
pub(crate) fn signatures_made() -> u64 {
    SIGNATURES.load(Ordering::Relaxed)
}
