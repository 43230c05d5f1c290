//! The two primitives that acts and transport share: HKDF with two outputs, and the cipher with
//! Noise's nonce.

use chacha20poly1305::aead::{AeadInOut, inout::InOutBuf};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};
use primitives::{Secret, hkdf};
use wire::hsm::MixedKeys;

/// Length of a Poly1305 tag.
pub const TAG_LEN: usize = 16;

/// `ck, temp_k = HKDF(ck, shared)`: a Diffie-Hellman goes into the chaining key. BOLT 8, "Handshake
/// Exchange". hsmd does this step where the Diffie-Hellman is with the node key.
pub fn mix(chaining_key: &Secret<32>, shared: &Secret<32>) -> MixedKeys {
    let (chaining_key, key) = hkdf2(chaining_key.expose(), shared.expose());
    MixedKeys { chaining_key, key }
}

/// `HKDF(salt, ikm)`: RFC 5869 over SHA256 with an empty `info`, its 64 bytes as two keys.
pub(crate) fn hkdf2(salt: &[u8; 32], ikm: &[u8]) -> (Secret<32>, Secret<32>) {
    let both = hkdf::<64>(ikm, salt, &[]);
    let [first, second] = both.halves();
    (first, second)
}

/// The tag did not fit: the bytes are not what the holder of the key wrote at this place of the
/// stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadTag;

/// `encryptWithAD`, in place; the tag comes back apart.
pub(crate) fn encrypt(key: &Secret<32>, n: u64, ad: &[u8], buffer: &mut [u8]) -> [u8; TAG_LEN] {
    ChaCha20Poly1305::new(key.expose().into())
        .encrypt_inout_detached(&nonce(n), ad, InOutBuf::from(buffer))
        .expect("the cipher refuses only beyond 256 GiB, and nothing here exceeds 64 KiB")
        .into()
}

/// `decryptWithAD`, in place. Where the tag does not fit, `buffer` stays as it was.
pub(crate) fn decrypt(
    key: &Secret<32>,
    n: u64,
    ad: &[u8],
    buffer: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), BadTag> {
    ChaCha20Poly1305::new(key.expose().into())
        .decrypt_inout_detached(&nonce(n), ad, InOutBuf::from(buffer), &Tag::from(*tag))
        .map_err(|_| BadTag)
}

/// 32 zero bits, then the counter in little-endian order: Noise's habit, not Lightning's.
fn nonce(n: u64) -> Nonce {
    let mut bytes = [0; 12];
    let (_, counter) = bytes.split_at_mut(4);
    counter.copy_from_slice(&n.to_le_bytes());
    bytes.into()
}
