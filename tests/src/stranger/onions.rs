//! Onions of a stranger's own making.

use super::key;
use onion::{FinalPayload, ForwardPayload, Hop, build};
use primitives::*;
use std::sync::atomic::{AtomicU64, Ordering};
use wire::OnionPacket;

static SESSION: AtomicU64 = AtomicU64::new(1 << 44);

/// What arrives at the last hop.
#[derive(Clone, Copy)]
pub struct Onion {
    /// How much.
    pub amount: Msat,
    /// Expiring here.
    pub expiry: BlockHeight,
    /// The invoice's secret.
    pub secret: PaymentSecret,
    /// What all parts bring together.
    pub total: Msat,
}

fn last(node: Point, end: &Onion) -> Hop {
    let payload = FinalPayload {
        amount: end.amount,
        cltv_expiry: end.expiry,
        payment_secret: Some(end.secret),
        total: end.total,
        payment_metadata: None,
        keysend: None,
        extra: vec![],
    };
    Hop { node, payload: payload.to_bytes() }
}

fn wrap(hops: &[Hop], hash: &PaymentHash) -> OnionPacket {
    let session = key(SESSION.fetch_add(1, Ordering::Relaxed));
    let built = build(&session, hops, &hash.0, onion::ROUTING_INFO_LEN).unwrap();
    built.onion_packet().unwrap()
}

/// For this node, at the end of the route.
pub fn onion_to(node: Point, end: &Onion, hash: &PaymentHash) -> OnionPacket {
    wrap(&[last(node, end)], hash)
}

/// For this node, with these bytes in the place of its payload.
pub fn raw_onion(node: Point, payload: Vec<u8>, next: Point, hash: &PaymentHash) -> OnionPacket {
    wrap(&[Hop { node, payload }, Hop { node: next, payload: vec![0; 40] }], hash)
}

/// For this node, which is to forward it over a channel to the next.
pub fn forward_onion(
    node: Point,
    over: ShortChannelId,
    next: Point,
    end: &Onion,
    hash: &PaymentHash,
) -> OnionPacket {
    let payload =
        ForwardPayload { short_channel_id: over, amount: end.amount, cltv_expiry: end.expiry };
    wrap(&[Hop { node, payload: payload.to_bytes() }, last(next, end)], hash)
}
