//! The secrets of one channel of a stranger's.

use channel::keys::{commitment_secret, derive_secret, revocation_secret};
use primitives::*;
use secp256k1::SECP256K1;
use wire::channel_data::Basepoints;

/// A key of this number, for whatever needs one.
pub fn key(n: u64) -> SecretKey {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    SecretKey::from_slice(&bytes).unwrap()
}

/// A signature of somebody else's, on something else.
pub fn sign_anything() -> primitives::Signature {
    SECP256K1.sign_ecdsa(&secp256k1::Message::from_digest([8; 32]), &key(99))
}

/// Base keys, and the seed of the commitments' secrets.
#[derive(Clone)]
pub struct Keys {
    /// Half of the 2-of-2.
    pub funding: SecretKey,
    /// Makes the node's commitments punishable by us.
    pub revocation: SecretKey,
    /// to_remote.
    pub payment: SecretKey,
    /// to_local.
    pub delayed: SecretKey,
    /// Base key of both sides' HTLC outputs.
    pub htlc: SecretKey,
    /// Of the chain of secrets.
    pub seed: Secret<32>,
}

impl Keys {
    /// Those of this number.
    pub fn new(n: u64) -> Self {
        let one = |k: u64| key(n << 8 | 1 << 60 | k);
        Self {
            funding: one(0),
            revocation: one(1),
            payment: one(2),
            delayed: one(3),
            htlc: one(4),
            seed: Secret::new(one(5).secret_bytes()),
        }
    }
    /// The public halves.
    pub fn basepoints(&self) -> Basepoints {
        let point = |k: &SecretKey| k.public_key(SECP256K1);
        Basepoints {
            funding: point(&self.funding),
            revocation: point(&self.revocation),
            payment: point(&self.payment),
            delayed_payment: point(&self.delayed),
            htlc: point(&self.htlc),
        }
    }
    /// What revokes our commitment of this number.
    pub fn secret(&self, number: u64) -> SecretKey {
        commitment_secret(&self.seed, CommitmentNumber(number)).unwrap()
    }
    /// The point of our commitment of this number.
    pub fn commitment_point(&self, number: u64) -> Point {
        self.secret(number).public_key(SECP256K1)
    }
    /// Our HTLC key in a commitment with this point, whosever it is.
    pub fn htlc_at(&self, point: &Point) -> SecretKey {
        derive_secret(&self.htlc, &self.htlc.public_key(SECP256K1), point)
    }
    /// What opens our own delayed outputs.
    pub fn delayed_at(&self, point: &Point) -> SecretKey {
        derive_secret(&self.delayed, &self.delayed.public_key(SECP256K1), point)
    }
    /// What opens everything of a commitment of the node's whose secret we know.
    pub fn penalty(&self, commitment_secret: &SecretKey) -> SecretKey {
        revocation_secret(SECP256K1, &self.revocation, commitment_secret)
    }
}
