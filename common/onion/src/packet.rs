//! One hop's view of an onion: read the layer that is ours, and make what the next hop gets. BOLT
//! 4, "Onion Decryption".

use crate::failure::Failure;
use crate::keys::{hmac, xor_stream};
use bitcoin::hashes::{Hash, sha256};
use primitives::{Point, Secret, Sha256Digest};
use wire::hsm::OnionKeys;
use wire::{BigSize, OnionPacket, Wire, take_slice};

/// Everything of a packet that is not routing information: version, key, HMAC.
pub const ONION_OVERHEAD: usize = 1 + 33 + 32;

/// The content of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeled {
    /// This hop's TLV stream, without its length.
    pub payload: Vec<u8>,
    /// The packet for the next hop, as long as the one that came; `None` where the route ends here.
    pub next: Option<Vec<u8>>,
}

impl Peeled {
    /// The packet for the next hop as `update_add_htlc` wants it.
    pub fn next_packet(&self) -> Option<OnionPacket> {
        OnionPacket::from_bytes(self.next.as_deref()?).ok()
    }
}

/// The parts of a packet of any size.
struct Parts<'a> {
    ephemeral: [u8; 33],
    routing_info: &'a [u8],
    hmac: [u8; 32],
}

fn split(packet: &[u8]) -> Result<Parts<'_>, Failure> {
    let hash = sha256_of_onion(packet);
    let (version, rest) = packet.split_first().ok_or(Failure::InvalidOnionVersion(hash))?;
    if *version != 0 {
        return Err(Failure::InvalidOnionVersion(hash));
    }
    let (ephemeral, rest) = rest.split_first_chunk().ok_or(Failure::InvalidOnionKey(hash))?;
    let (routing_info, hmac) = rest.split_last_chunk().ok_or(Failure::InvalidOnionHmac(hash))?;
    Ok(Parts { ephemeral: *ephemeral, routing_info, hmac: *hmac })
}

/// The key to ask hsmd about. The failure, if any, goes back as `update_fail_malformed_htlc`.
pub fn ephemeral(packet: &[u8]) -> Result<Point, Failure> {
    let parts = split(packet)?;
    Point::from_slice(&parts.ephemeral)
        .map_err(|_| Failure::InvalidOnionKey(sha256_of_onion(packet)))
}

/// The hash of the packet that BADONION failures carry.
pub fn sha256_of_onion(packet: &[u8]) -> Sha256Digest {
    Sha256Digest(sha256::Hash::hash(packet).to_byte_array())
}

/// Opens the layer that is ours. `associated` is the payment hash for a payment, nothing for an
/// onion message.
///
/// A failure with [`Failure::is_bad_onion`] goes back as `update_fail_malformed_htlc`: nobody
/// proved to us that the origin made this packet. Any other was made by the origin, and goes back
/// to it encrypted.
pub fn peel(packet: &[u8], keys: &OnionKeys, associated: &[u8]) -> Result<Peeled, Failure> {
    let parts = split(packet)?;
    let computed = hmac(keys.mu.expose(), &[parts.routing_info, associated]);
    // BOLT 4, "Onion Decryption": compared in constant time.
    if Secret::new(computed) != Secret::new(parts.hmac) {
        return Err(Failure::InvalidOnionHmac(sha256_of_onion(packet)));
    }

    // As many zero bytes again behind what came: what is shifted in, the origin has foreseen (the
    // filler).
    let len = parts.routing_info.len();
    let mut unwrapped = parts.routing_info.to_vec();
    unwrapped.resize(len.saturating_mul(2), 0);
    xor_stream(&keys.rho, 0, &mut unwrapped);

    let mut rest = unwrapped.as_slice();
    let (payload, next_hmac) =
        take_layer(&mut rest).ok_or(Failure::InvalidOnionPayload { tlv_type: 0, offset: 0 })?;
    // A layer that leaves less than the padding reached into it.
    let next_info =
        rest.get(..len).ok_or(Failure::InvalidOnionPayload { tlv_type: 0, offset: 0 })?;

    let next = (next_hmac != [0; 32]).then(|| {
        let mut next = Vec::with_capacity(ONION_OVERHEAD + len);
        next.push(0);
        next.extend_from_slice(&keys.next_ephemeral.serialize());
        next.extend_from_slice(next_info);
        next.extend_from_slice(&next_hmac);
        next
    });
    Ok(Peeled { payload: payload.to_vec(), next })
}

/// A payload with its length before it and the next hop's HMAC behind. Lengths 0 and 1 are
/// reserved.
fn take_layer<'a>(from: &mut &'a [u8]) -> Option<(&'a [u8], [u8; 32])> {
    let len = BigSize::take(from).ok()?.0;
    if len < 2 {
        return None;
    }
    let payload = take_slice(from, len).ok()?;
    Some((payload, wire::take_array(from).ok()?))
}
