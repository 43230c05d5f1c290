//! Which keys follow from a shared secret. BOLT 4, "Key Generation", "Shared Secret", "Blinding
//! Ephemeral Onion Keys".

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use primitives::{Point, Secret, SecretKey};
use secp256k1::{SECP256K1, Scalar};
use wire::hsm::OnionKeys;

/// hsmd's answer for one onion: the keys to read it, to forward it and to answer it.
///
/// `ephemeral` is the key in the packet as it came, also where a blinded path made the secret of
/// another one.
pub fn onion_keys(shared: &Secret<32>, ephemeral: &Point) -> OnionKeys {
    OnionKeys {
        rho: derive(b"rho", shared),
        mu: derive(b"mu", shared),
        um: derive(b"um", shared),
        ammag: derive(b"ammag", shared),
        next_ephemeral: ephemeral
            .mul_tweak(SECP256K1, &blinding_factor(ephemeral, shared))
            .expect("a point times a scalar between 1 and the group order is a point"),
    }
}

/// The secret that the holders of either key share: SHA256 of the product, compressed. For the
/// origin, and for hsmd.
pub fn shared_secret(point: &Point, key: &SecretKey) -> Secret<32> {
    Secret::new(secp256k1::ecdh::SharedSecret::new(point, key).secret_bytes())
}

/// The ephemeral key as a hop inside a blinded path must use it: `path_secret` is what the node key
/// shares with the path key that came beside the onion. BOLT 4, "Onion Decryption". hsmd's shared
/// secret is then that of this point.
pub fn blind_ephemeral(ephemeral: &Point, path_secret: &Secret<32>) -> Point {
    ephemeral
        .mul_tweak(SECP256K1, &blinded_node_tweak(path_secret))
        .expect("a point times a scalar between 1 and the group order is a point")
}

/// The factor that blinds a node id in a blinded path. BOLT 4, "Route Blinding".
pub(crate) fn blinded_node_tweak(path_secret: &Secret<32>) -> Scalar {
    scalar(*derive(b"blinded_node_id", path_secret).expose())
}

/// The keys that the origin keeps of each hop, to read an error that comes back.
#[derive(Debug, Clone)]
pub struct OriginKeys {
    /// Authenticates an error made by this hop.
    pub um: Secret<32>,
    /// This hop's layer on the way back.
    pub ammag: Secret<32>,
}

impl OriginKeys {
    /// Of the hop this secret is shared with.
    pub fn of(shared: &Secret<32>) -> Self {
        Self { um: derive(b"um", shared), ammag: derive(b"ammag", shared) }
    }
}

/// HMAC-SHA256 of the secret, keyed with the type's name.
pub(crate) fn derive(kind: &[u8], secret: &Secret<32>) -> Secret<32> {
    Secret::new(hmac(kind, &[secret.expose()]))
}

/// HMAC-SHA256 over these parts, one after the other.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    Hmac::from_engine(engine).to_byte_array()
}

/// The factor that blinds an ephemeral key for the next hop.
pub(crate) fn blinding_factor(ephemeral: &Point, shared: &Secret<32>) -> Scalar {
    let mut engine = sha256::Hash::engine();
    engine.input(&ephemeral.serialize());
    engine.input(shared.expose());
    scalar(sha256::Hash::from_engine(engine).to_byte_array())
}

/// A hash as a scalar.
fn scalar(hash: [u8; 32]) -> Scalar {
    Scalar::from_be_bytes(hash)
        .expect("a hash beyond the group order takes 2^127 tries to find, and zero 2^256")
}

/// XORs the key's stream onto `bytes`, from the stream's byte `skip` on. BOLT 4, "Pseudo Random
/// Byte Stream".
pub(crate) fn xor_stream(key: &Secret<32>, skip: usize, bytes: &mut [u8]) {
    let mut cipher = ChaCha20::new(key.expose().into(), &[0u8; 12].into());
    let mut waste = [0u8; 64];
    let mut left = skip;
    while left > 0 {
        let step = left.min(waste.len());
        cipher.apply_keystream(waste.get_mut(..step).unwrap_or_default());
        left -= step;
    }
    cipher.apply_keystream(bytes);
}
