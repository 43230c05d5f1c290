//! Wrapping a route, from the last hop to the first. BOLT 4, "Packet Construction", "Filler
//! Generation".

use crate::keys::{blinding_factor, derive, hmac, shared_secret, xor_stream};
use crate::packet::ONION_OVERHEAD;
use primitives::{Point, Secret, SecretKey};
use secp256k1::SECP256K1;
use std::fmt;
use wire::{BigSize, OnionPacket, Wire};

/// One hop of a route: who reads it, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The node's key, or its blinded one inside a blinded path.
    pub node: Point,
    /// Its TLV stream, without length.
    pub payload: Vec<u8>,
}

impl Hop {
    /// Bytes of routing information it takes.
    fn len(&self) -> usize {
        BigSize(self.payload.len() as u64).to_bytes().len() + self.payload.len() + 32
    }
}

/// An onion, ready to go, and what its origin must keep.
#[derive(Debug, Clone)]
pub struct Built {
    /// Version, key, routing information and HMAC.
    pub packet: Vec<u8>,
    /// Shared with each hop, in order: they read the error that may come back.
    pub shared_secrets: Vec<Secret<32>>,
}

impl Built {
    /// The packet as `update_add_htlc` wants it, if it was built for that size.
    pub fn onion_packet(&self) -> Option<OnionPacket> {
        OnionPacket::from_bytes(&self.packet).ok()
    }
}

/// Why no onion can be built of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildError {
    /// A route of no hops.
    NoHops,
    /// A payload of 0 or 1 bytes: these lengths are reserved.
    PayloadTooShort,
    /// The hops' payloads do not fit.
    TooLong {
        /// Bytes they take.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHops => f.write_str("the route has no hops"),
            Self::PayloadTooShort => f.write_str("a hop's payload is shorter than 2 bytes"),
            Self::TooLong { needed, available } => {
                write!(f, "the hops' payloads take {needed} bytes, the onion holds {available}")
            }
        }
    }
}
impl std::error::Error for BuildError {}

/// Wraps `hops`, the first hop's layer outermost, into `size` bytes of routing information.
///
/// `session_key` must be fresh for every onion: who uses one twice links the two. `associated` is
/// what every hop must be given beside the packet: the payment hash.
pub fn build(
    session_key: &SecretKey,
    hops: &[Hop],
    associated: &[u8],
    size: usize,
) -> Result<Built, BuildError> {
    check(hops, size)?;
    let (first_ephemeral, shared_secrets) = share_secrets(session_key, hops);
    let rhos: Vec<_> = shared_secrets.iter().map(|s| derive(b"rho", s)).collect();
    let filler = filler(hops, &rhos, size);

    // The last hop sees random bytes behind its payload, so that it cannot tell the route's length.
    let mut info = vec![0; size];
    xor_stream(&derive(b"pad", &Secret::new(session_key.secret_bytes())), 0, &mut info);
    let mut next_hmac = [0; 32];
    for (i, ((hop, rho), shared)) in hops.iter().zip(&rhos).zip(&shared_secrets).enumerate().rev() {
        let mut layer = Vec::with_capacity(size + hop.len());
        BigSize(hop.payload.len() as u64).put(&mut layer);
        layer.extend_from_slice(&hop.payload);
        layer.extend_from_slice(&next_hmac);
        layer.append(&mut info);
        layer.truncate(size);
        xor_stream(rho, 0, &mut layer);
        if i + 1 == hops.len() {
            layer.truncate(size.saturating_sub(filler.len()));
            layer.extend_from_slice(&filler);
        }
        next_hmac = hmac(derive(b"mu", shared).expose(), &[&layer, associated]);
        info = layer;
    }

    let mut packet = Vec::with_capacity(ONION_OVERHEAD + size);
    packet.push(0);
    packet.extend_from_slice(&first_ephemeral.serialize());
    packet.append(&mut info);
    packet.extend_from_slice(&next_hmac);
    Ok(Built { packet, shared_secrets })
}

fn check(hops: &[Hop], size: usize) -> Result<(), BuildError> {
    if hops.is_empty() {
        return Err(BuildError::NoHops);
    }
    if hops.iter().any(|hop| hop.payload.len() < 2) {
        return Err(BuildError::PayloadTooShort);
    }
    let needed = hops.iter().map(Hop::len).fold(0, usize::saturating_add);
    if needed > size {
        return Err(BuildError::TooLong { needed, available: size });
    }
    Ok(())
}

/// The first hop's ephemeral key, and what is shared with each. BOLT 4, "Shared Secret".
fn share_secrets(session_key: &SecretKey, hops: &[Hop]) -> (Point, Vec<Secret<32>>) {
    let mut key = *session_key;
    let mut shared_secrets = Vec::with_capacity(hops.len());
    for hop in hops {
        let shared = shared_secret(&hop.node, &key);
        key = key
            .mul_tweak(&blinding_factor(&key.public_key(SECP256K1), &shared))
            .expect("a key times a scalar between 1 and the group order is a key");
        shared_secrets.push(shared);
    }
    key.non_secure_erase();
    (session_key.public_key(SECP256K1), shared_secrets)
}

/// What the hops before the last will have shifted in at the end by the time that it reads: each
/// adds as many zeroes as it took away, and XORs its stream over all.
fn filler(hops: &[Hop], rhos: &[Secret<32>], size: usize) -> Vec<u8> {
    let mut filler: Vec<u8> = Vec::new();
    for (hop, rho) in hops.iter().zip(rhos).take(hops.len().saturating_sub(1)) {
        let before = filler.len();
        filler.resize(before + hop.len(), 0);
        xor_stream(rho, size.saturating_sub(before), &mut filler);
    }
    filler
}
