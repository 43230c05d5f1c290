//! HKDF, of which BOLT 8 makes its keys, and Core Lightning those of a node.

use crate::Secret;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use zeroize::Zeroizing;

/// RFC 5869 over SHA256. `N` is 8160 at most, or it does not compile.
pub fn hkdf<const N: usize>(ikm: &[u8], salt: &[u8], info: &[u8]) -> Secret<N> {
    const { assert!(N <= 255 * 32, "RFC 5869 makes 255 blocks at most") };
    let hmac = |key: &[u8], parts: &[&[u8]]| {
        let mut engine = HmacEngine::<sha256::Hash>::new(key);
        parts.iter().for_each(|part| engine.input(part));
        Hmac::from_engine(engine).to_byte_array()
    };
    let prk = Zeroizing::new(hmac(salt, &[ikm]));
    let mut out = Zeroizing::new([0u8; N]);
    let mut block = Zeroizing::new([0u8; 32]);
    for (counter, chunk) in (1u8..).zip(out.chunks_mut(32)) {
        let previous: &[u8] = if counter == 1 { &[] } else { block.as_slice() };
        let next = hmac(prk.as_slice(), &[previous, info, &[counter]]);
        *block = next;
        chunk.iter_mut().zip(block.iter()).for_each(|(to, from)| *to = *from);
    }
    Secret::new(*out)
}

#[cfg(test)]
mod tests {
    use super::hkdf;
    use hex::FromHex;

    #[test]
    fn hkdf_is_that_of_rfc_5869() {
        // RFC 5869, "Test Case 1" and "Test Case 3".
        let salt = Vec::from_hex("000102030405060708090a0b0c").unwrap();
        let info = Vec::from_hex("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let okm =
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
        let made = hkdf::<42>(&[0x0b; 22], &salt, &info);
        assert_eq!(made.expose(), &<[u8; 42]>::from_hex(okm).unwrap());
        let okm =
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8";
        let made = hkdf::<42>(&[0x0b; 22], &[], &[]);
        assert_eq!(made.expose(), &<[u8; 42]>::from_hex(okm).unwrap());
    }
}
