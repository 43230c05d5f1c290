//! BOLT 3's keys: those of a commitment, from base keys and a commitment point; and the secrets
//! that revoke, from a seed.

use bitcoin::ScriptBuf;
use bitcoin::hashes::{Hash, HashEngine, hash160, sha256};
use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use primitives::{CommitmentNumber, Point, Secret, SecretKey, Side, Sides};
use secp256k1::{SECP256K1, Scalar, Secp256k1, Signing};
use wire::channel_data::{Basepoints, ChannelParams, StoredSecret};

/// SHA256 over two points, as a number to multiply with.
fn hash_to_scalar(a: &Point, b: &Point) -> Scalar {
    let mut engine = sha256::Hash::engine();
    engine.input(&a.serialize());
    engine.input(&b.serialize());
    Scalar::from_be_bytes(sha256::Hash::from_engine(engine).to_byte_array())
        .expect("a SHA256 above the curve's order has never been seen: 2^-128")
}

/// BOLT 3, "localpubkey, ... Derivation": the key of one commitment.
pub fn derive_point(base: &Point, commitment: &Point) -> Point {
    base.add_exp_tweak(SECP256K1, &hash_to_scalar(commitment, base))
        .expect("the sum is infinity only where a SHA256 was inverted")
}

/// The private half of [`derive_point`]. `base_point` belongs to `base`.
pub fn derive_secret(base: &SecretKey, base_point: &Point, commitment: &Point) -> SecretKey {
    base.add_tweak(&hash_to_scalar(commitment, base_point))
        .expect("the sum is zero only where a SHA256 was inverted")
}

/// BOLT 3, "revocationpubkey Derivation".
pub fn revocation_point(revocation_base: &Point, commitment: &Point) -> Point {
    let base = revocation_base
        .mul_tweak(SECP256K1, &hash_to_scalar(revocation_base, commitment))
        .expect("a SHA256 is zero only where it was inverted");
    let point = commitment
        .mul_tweak(SECP256K1, &hash_to_scalar(commitment, revocation_base))
        .expect("a SHA256 is zero only where it was inverted");
    base.combine(&point).expect("the sum is infinity only where a SHA256 was inverted")
}

/// [`revocation_point`] for whoever knows the base's secret: a third of the work. `secp` is the
/// context of operations with secrets.
pub fn revocation_point_from_base<C: Signing>(
    secp: &Secp256k1<C>,
    base: &SecretKey,
    base_point: &Point,
    commitment: &Point,
) -> Point {
    let mut base = base
        .mul_tweak(&hash_to_scalar(base_point, commitment))
        .expect("a SHA256 is zero only where it was inverted");
    let point = commitment
        .mul_tweak(SECP256K1, &hash_to_scalar(commitment, base_point))
        .expect("a SHA256 is zero only where it was inverted");
    let base_point = Point::from_secret_key(secp, &base);
    base.non_secure_erase();
    base_point.combine(&point).expect("the sum is infinity only where a SHA256 was inverted")
}

/// The private half of [`revocation_point`], once the commitment's secret is known. `secp` is the
/// context of operations with secrets.
pub fn revocation_secret<C: Signing>(
    secp: &Secp256k1<C>,
    base: &SecretKey,
    commitment_secret: &SecretKey,
) -> SecretKey {
    let base_point = Point::from_secret_key(secp, base);
    let commitment = Point::from_secret_key(secp, commitment_secret);
    let mut a = base
        .mul_tweak(&hash_to_scalar(&base_point, &commitment))
        .expect("a SHA256 is zero only where it was inverted");
    let mut b = commitment_secret
        .mul_tweak(&hash_to_scalar(&commitment, &base_point))
        .expect("a SHA256 is zero only where it was inverted");
    let sum = a.add_tweak(&b.into()).expect("the sum is zero only where a SHA256 was inverted");
    a.non_secure_erase();
    b.non_secure_erase();
    sum
}

/// The keys inside one commitment transaction of `side`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentKeys {
    /// With it the other side takes everything once this commitment is revoked.
    pub revocation: Point,
    /// The owner's own money, delayed.
    pub delayed: Point,
    /// Each side's HTLC key. May be left out where no HTLC has an output.
    pub htlc: Option<Sides<Point>>,
    /// to_remote: the other side's payment basepoint, as it is.
    pub payment: Point,
}

impl CommitmentKeys {
    /// Of `side`'s commitment that has this point.
    pub fn derive(basepoints: &Sides<Basepoints>, side: Side, point: &Point) -> Self {
        let (owner, other) = (&basepoints[side], &basepoints[!side]);
        Self {
            revocation: revocation_point(&other.revocation, point),
            delayed: derive_point(&owner.delayed_payment, point),
            htlc: Some(Sides::from_fn(|s| derive_point(&basepoints[s].htlc, point))),
            payment: other.payment,
        }
    }
}

/// BOLT 3, "Funding Transaction Output": the witness script of the 2-of-2.
pub fn funding_script(a: &Point, b: &Point) -> ScriptBuf {
    let (a, b) = (a.serialize(), b.serialize());
    let (first, second) = if a < b { (a, b) } else { (b, a) };
    Builder::new()
        .push_opcode(op::OP_PUSHNUM_2)
        .push_slice(first)
        .push_slice(second)
        .push_opcode(op::OP_PUSHNUM_2)
        .push_opcode(op::OP_CHECKMULTISIG)
        .into_script()
}

/// BOLT 3, "Commitment Transaction": what each commitment number is XORed with.
pub fn obscuring_factor(params: &ChannelParams) -> u64 {
    let mut engine = sha256::Hash::engine();
    engine.input(&params.basepoints[params.opener].payment.serialize());
    engine.input(&params.basepoints[!params.opener].payment.serialize());
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    let [.., a, b, c, d, e, f] = hash;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// RIPEMD160 of SHA256 of a key: how scripts name the revocation key.
pub(crate) fn hash160_of(key: &Point) -> [u8; 20] {
    hash160::Hash::hash(&key.serialize()).to_byte_array()
}

/// The first index of a chain of secrets. BOLT 3: they count down from here.
pub const FIRST_INDEX: u64 = (1 << 48) - 1;

/// Where in the chain the secret of this commitment is. Beyond the last number: the last index.
pub const fn index_of(number: CommitmentNumber) -> u64 {
    FIRST_INDEX.saturating_sub(number.0)
}

/// BOLT 3, "Per-commitment Secret Requirements".
pub fn generate_from_seed(seed: &Secret<32>, index: u64) -> Secret<32> {
    Secret::new(derive_below(seed.expose(), 48, index))
}

/// Our secret for this commitment. `None` where the chain's hash is no key: nobody ever saw one.
pub fn commitment_secret(seed: &Secret<32>, number: CommitmentNumber) -> Option<SecretKey> {
    SecretKey::from_slice(generate_from_seed(seed, index_of(number)).expose()).ok()
}

/// BOLT 3's derive_secret: from a secret whose index agrees in bits `bits`..47 to the one of
/// `index`.
fn derive_below(base: &[u8; 32], bits: u32, index: u64) -> [u8; 32] {
    let mut p = *base;
    for bit in (0..bits).rev() {
        if index >> bit & 1 == 1 {
            if let Some(byte) = p.get_mut(bit as usize / 8) {
                *byte ^= 1 << (bit % 8);
            }
            p = sha256::Hash::hash(&p).to_byte_array();
        }
    }
    p
}

/// A secret that does not belong to the chain of those before it. BOLT 3, "Efficient Per-commitment
/// Secret Storage".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongSecret {
    /// The index it came for.
    pub index: u64,
}

/// The peer's revocation secrets: at most 49, from which all before follow. BOLT 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shachain(Vec<StoredSecret>);

/// In which of the 49 places the secret of this index is kept.
pub const fn bucket(index: u64) -> u32 {
    let zeroes = index.trailing_zeros();
    if zeroes > 48 { 48 } else { zeroes }
}

impl Shachain {
    /// From what was stored, in any order. `None` if two are for one place, or an index is out of
    /// range.
    pub fn from_stored(secrets: &[StoredSecret]) -> Option<Self> {
        let mut sorted = secrets.to_vec();
        sorted.sort_by_key(|s| bucket(s.index));
        let unique = sorted.windows(2).all(|w| match w {
            [a, b] => bucket(a.index) < bucket(b.index),
            _ => true,
        });
        (unique && sorted.iter().all(|s| s.index <= FIRST_INDEX)).then_some(Self(sorted))
    }
    /// As it is stored.
    pub fn stored(&self) -> &[StoredSecret] {
        &self.0
    }
    /// The chain with one secret more, if it is of the same seed.
    pub fn insert(&self, index: u64, secret: Secret<32>) -> Result<Self, WrongSecret> {
        let place = bucket(index);
        for known in self.0.iter().filter(|k| bucket(k.index) < place) {
            if derive_below(secret.expose(), place, known.index) != *known.secret.expose() {
                return Err(WrongSecret { index });
            }
        }
        let mut next = self.clone();
        next.0.retain(|k| bucket(k.index) != place);
        let at = next.0.iter().take_while(|k| bucket(k.index) < place).count();
        next.0.insert(at, StoredSecret { index, secret });
        Ok(next)
    }
    /// The secret of this index, if it was inserted or follows from one that was.
    pub fn get(&self, index: u64) -> Option<Secret<32>> {
        self.0.iter().find_map(|known| {
            let place = bucket(known.index);
            let mask = !((1u64 << place) - 1);
            (index & mask == known.index)
                .then(|| Secret::new(derive_below(known.secret.expose(), place, index)))
        })
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
