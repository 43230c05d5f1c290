//! Bytes that must not be seen or left behind.

use secp256k1::SecretKey;
use std::fmt;
use std::ops::Deref;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// `N` secret bytes: wiped when dropped, hidden from `Debug`, compared without early exit.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// Takes them over. The caller's copy is the caller's to wipe.
    pub const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
    /// Lays them open: the word to search for in a review.
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }
}
impl Secret<64> {
    /// Two secrets of 32 bytes, as HKDF gives them.
    pub fn halves(&self) -> [Secret<32>; 2] {
        let mut halves = Zeroizing::new([[0; 32]; 2]);
        halves.as_flattened_mut().copy_from_slice(&self.0);
        halves.map(Secret::new)
    }
}
impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}
impl<const N: usize> Eq for Secret<N> {}
/// Secret bytes of any number: wiped when dropped, hidden from `Debug`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes them over, copying nothing.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
    /// None yet, with room for so many.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }
    /// These at the end. Where there is no room, what was there is wiped before it is given back.
    pub fn push(&mut self, more: &Self) {
        if self.0.capacity() - self.0.len() < more.0.len() {
            let mut larger = Vec::with_capacity(2 * (self.0.len() + more.0.len()));
            larger.extend_from_slice(&self.0);
            self.0.zeroize();
            self.0 = larger;
        }
        self.0.extend_from_slice(&more.0);
    }
    /// Lays them open: the word to search for in a review.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
    /// The same, to be written to.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
/// A secret key that somebody signs or derives with: erased when dropped, hidden from `Debug`, and
/// never copied unseen, as the library's own type is.
#[derive(Clone)]
pub struct SigningKey(SecretKey);

impl SigningKey {
    /// Takes it over, and erases what it was given.
    pub fn new(mut key: SecretKey) -> Self {
        let own = Self(key);
        key.non_secure_erase();
        own
    }
}
impl Deref for SigningKey {
    type Target = SecretKey;
    fn deref(&self) -> &SecretKey {
        &self.0
    }
}
impl Drop for SigningKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}
impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}
impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
