//! A failure on its way back to the origin: made by one hop, a layer added by each before it. BOLT
//! 4, "Returning Errors".

use crate::failure::Failure;
use crate::keys::{OriginKeys, hmac, xor_stream};
use primitives::Secret;
use wire::hsm::OnionKeys;
use wire::{Wire, take_array, take_slice};

/// Most hops that fit an onion of [`crate::ROUTING_INFO_LEN`]: how long a route an origin pretends
/// to have. BOLT 4, "Origin node".
pub const MAX_HOPS: usize = 27;

/// The least sum of `failure_len` and `pad_len`, so that lengths do not tell failures apart.
const PADDED_LEN: usize = 256;
/// The longest failure that fits an `update_fail_htlc` with room to spare. A longer one (a
/// plugin's) is cut.
const MAX_MESSAGE: usize = 65_000;

/// The packet of a failure that begins here, its first layer already on it: the `reason` of
/// `update_fail_htlc`.
pub fn begin_error(keys: &OnionKeys, failure: &Failure) -> Vec<u8> {
    begin_padded(&keys.um, &keys.ammag, &failure.to_bytes(), PADDED_LEN)
}

pub(crate) fn begin_padded(
    um: &Secret<32>,
    ammag: &Secret<32>,
    message: &[u8],
    padded_len: usize,
) -> Vec<u8> {
    let message = message.get(..MAX_MESSAGE).unwrap_or(message);
    let pad = padded_len.saturating_sub(message.len());
    let mut body = Vec::with_capacity(2 + message.len() + 2 + pad);
    put_counted(message, &mut body);
    put_counted(&vec![0; pad], &mut body);

    let mut packet = hmac(um.expose(), &[&body]).to_vec();
    packet.append(&mut body);
    wrap_error(ammag, &mut packet);
    packet
}

fn put_counted(bytes: &[u8], out: &mut Vec<u8>) {
    u16::try_from(bytes.len())
        .expect("a failure was cut to MAX_MESSAGE, and a pad is shorter")
        .put(out);
    out.extend_from_slice(bytes);
}

/// Adds our layer to an error that came from the next hop.
pub fn wrap_error(ammag: &Secret<32>, packet: &mut [u8]) {
    xor_stream(ammag, 0, packet);
}

/// An error as its origin reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwrapped {
    /// Which hop made it, the first being 0.
    pub hop: usize,
    /// As the failing hop made it.
    pub failure: Failure,
    /// The failure as it was sent, extra bytes included.
    pub raw: Vec<u8>,
}

/// Takes off layer after layer until a hop's HMAC fits. `None`: somebody on the way garbled it, and
/// nobody knows who.
///
/// Always does the work of [`MAX_HOPS`] hops, so that its duration tells the failing node nothing
/// about its place.
pub fn unwrap_error(shared_secrets: &[Secret<32>], packet: &[u8]) -> Option<Unwrapped> {
    let mut packet = packet.to_vec();
    let mut found = None;
    let dummy = Secret::new([0x5a; 32]);
    for hop in 0..shared_secrets.len().max(MAX_HOPS) {
        let keys = OriginKeys::of(shared_secrets.get(hop).unwrap_or(&dummy));
        wrap_error(&keys.ammag, &mut packet);
        let mut body = packet.as_slice();
        let claimed = take_array(&mut body).unwrap_or([0; 32]);
        let matches = Secret::new(hmac(keys.um.expose(), &[body])) == Secret::new(claimed);
        if matches && hop < shared_secrets.len() && found.is_none() {
            found = Some((hop, body.to_vec()));
        }
    }
    let (hop, body) = found?;
    let raw = failure_message(&body)?.to_vec();
    Some(Unwrapped { hop, failure: Failure::from_bytes(&raw), raw })
}

/// The message without its padding. Old nodes wrote other paddings: only the first length is
/// needed.
fn failure_message(mut body: &[u8]) -> Option<&[u8]> {
    let len = u16::take(&mut body).ok()?;
    take_slice(&mut body, len.into()).ok()
}
