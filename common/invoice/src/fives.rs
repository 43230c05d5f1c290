//! Groups of five bits, and bytes.

use bech32::{Checksum, Fe32};

/// The longest string that is read as an invoice: several times what fits a QR code, and what
/// fields a payment's onion could use.
pub const MAX_LEN: usize = 16 * 1024;

/// BIP 173's checksum without its limit of 90 characters. BOLT 11, "Encoding Overview".
pub(crate) enum LongBech32 {}
impl Checksum for LongBech32 {
    type MidstateRepr = u32;
    const CODE_LENGTH: usize = MAX_LEN;
    const CHECKSUM_LENGTH: usize = <bech32::Bech32 as Checksum>::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = <bech32::Bech32 as Checksum>::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = <bech32::Bech32 as Checksum>::TARGET_RESIDUE;
}

/// The character of a group.
pub(crate) fn to_char(five: u8) -> char {
    Fe32::try_from(five & 31).map_or('?', Fe32::to_char)
}

/// As many whole bytes as the groups hold. What is left over is padding.
pub(crate) fn to_bytes(fives: &[u8]) -> Vec<u8> {
    regroup(fives, 5, 8, false)
}
/// The same, a last part filled up with zero bits.
pub(crate) fn to_bytes_padded(fives: &[u8]) -> Vec<u8> {
    regroup(fives, 5, 8, true)
}
/// The bytes, a last part filled up with zero bits.
pub(crate) fn from_bytes(bytes: &[u8]) -> Vec<u8> {
    regroup(bytes, 8, 5, true)
}

fn regroup(from: &[u8], from_bits: u32, to_bits: u32, pad: bool) -> Vec<u8> {
    let mask = (1u32 << to_bits) - 1;
    let mut out = Vec::with_capacity(from.len() * from_bits as usize / to_bits as usize + 1);
    let (mut held, mut bits) = (0u32, 0u32);
    for item in from {
        held = (held << from_bits | u32::from(*item)) & 0xffff;
        bits += from_bits;
        while bits >= to_bits {
            bits -= to_bits;
            out.push((held >> bits & mask) as u8);
        }
    }
    if pad && bits > 0 {
        out.push((held << (to_bits - bits) & mask) as u8);
    }
    out
}

/// A number, most significant group first. `None` beyond 2^64.
pub(crate) fn to_number(fives: &[u8]) -> Option<u64> {
    fives.iter().try_fold(0u64, |n, five| n.checked_mul(32)?.checked_add(u64::from(*five)))
}

/// A number in exactly `len` groups; higher bits are lost.
pub(crate) fn from_number(n: u64, len: u32) -> Vec<u8> {
    (0..len).rev().map(|i| (n.checked_shr(5 * i).unwrap_or(0) & 31) as u8).collect()
}

/// A number in as few groups as it takes, at least one.
pub(crate) fn from_number_minimal(n: u64) -> Vec<u8> {
    let bits = u64::BITS - n.leading_zeros();
    from_number(n, bits.div_ceil(5).max(1))
}
