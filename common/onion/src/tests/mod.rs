//! The vectors of BOLT 4, and what must hold for any bytes.

mod properties;
mod vectors;

use crate::error_packet::begin_padded;
use crate::keys::derive;
use crate::*;
use hex::FromHex;
use primitives::{BlockHeight, Msat, Point, Secret, SecretKey, ShortChannelId};
use secp256k1::SECP256K1;
use vectors::*;
use wire::hsm::OnionKeys;
use wire::{BigSize, Wire};

fn bytes(hex: &str) -> Vec<u8> {
    Vec::from_hex(hex).unwrap()
}
fn bytes32(hex: &str) -> Secret<32> {
    Secret::new(<[u8; 32]>::from_hex(hex).unwrap())
}
fn point(hex: &str) -> Point {
    Point::from_slice(&bytes(hex)).unwrap()
}
fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}
/// A payload without the length that stands before it in the vectors.
fn payload(hex: &str) -> Vec<u8> {
    let all = bytes(hex);
    let mut rest = all.as_slice();
    let len = BigSize::take(&mut rest).unwrap().0;
    assert_eq!(len, rest.len() as u64);
    rest.to_vec()
}
fn hops(nodes: &[&str], payloads: &[&str]) -> Vec<Hop> {
    let pairs = nodes.iter().zip(payloads);
    pairs.map(|(node, body)| Hop { node: point(node), payload: payload(body) }).collect()
}
/// What hsmd does for an onion without a path key.
fn keys_of(node: &SecretKey, packet: &[u8]) -> OnionKeys {
    let ephemeral = ephemeral(packet).unwrap();
    onion_keys(&shared_secret(&ephemeral, node), &ephemeral)
}

#[test]
fn onion_of_the_vector_is_built() {
    let built =
        build(&key(0x41), &hops(&PUBKEYS, &PAYLOADS), &[0x42; 32], ROUTING_INFO_LEN).unwrap();
    assert_eq!(built.packet, bytes(ONION));
    assert_eq!(built.shared_secrets, SHARED_SECRETS.map(bytes32));
    assert_eq!(built.onion_packet().unwrap().to_bytes(), built.packet);
}

#[test]
fn onion_of_the_vector_is_peeled_by_each_hop() {
    let mut packet = bytes(ONION);
    for (i, (node, expected)) in NODE_KEYS.iter().zip(PAYLOADS).enumerate() {
        let node = SecretKey::from_slice(&bytes(node)).unwrap();
        let peeled = peel(&packet, &keys_of(&node, &packet), &[0x42; 32]).unwrap();
        assert_eq!(peeled.payload, payload(expected));
        assert_eq!(peeled.next.is_none(), i == 4);
        assert_eq!(peeled.next_packet().map(|p| p.to_bytes()), peeled.next);
        packet = peeled.next.unwrap_or_default();
    }
}

#[test]
fn onion_through_a_blinded_path_is_built_and_peeled() {
    let route = hops(&BLINDED_ROUTE, &BLINDED_PAYLOADS);
    let built = build(&key(3), &route, &[0x42; 32], ROUTING_INFO_LEN).unwrap();
    assert_eq!(built.packet, bytes(BLINDED_ONION));

    let mut path_key: Option<Point> = None;
    for (i, expected) in BLINDED_ONIONS.iter().enumerate() {
        let packet = bytes(expected);
        let node = key(0x41 + i as u8);
        let outer = ephemeral(&packet).unwrap();
        // Bob finds his path key in the payload, and is addressed by his own id; those behind him
        // get it beside.
        let inner = match (i, path_key) {
            (2.., Some(path_key)) => blind_ephemeral(&outer, &shared_secret(&path_key, &node)),
            _ => outer,
        };
        let keys = onion_keys(&shared_secret(&inner, &node), &outer);
        let peeled = peel(&packet, &keys, &[0x42; 32]).unwrap();
        assert_eq!(peeled.payload, payload(BLINDED_PAYLOADS[i]));
        assert_eq!(peeled.next, BLINDED_ONIONS.get(i + 1).map(|next| bytes(next)));
        match Payload::parse(&peeled.payload, i == 4, i >= 2).unwrap() {
            Payload::Forward(forward) if i == 0 => {
                assert_eq!(forward.short_channel_id, ShortChannelId(10));
            }
            Payload::Blinded(blinded) if i > 0 => {
                assert_eq!(blinded.current_path_key.is_some(), i == 1);
                let last = (Msat(100_000), BlockHeight(749_000), Msat(150_000));
                assert_eq!(blinded.last, (i == 4).then_some(last));
            }
            other @ (Payload::Forward(_) | Payload::Blinded(_) | Payload::Final(_)) => {
                panic!("hop {i}: {other:?}")
            }
        }
        path_key = BLINDED_PATH_KEYS.get(i.saturating_sub(1)).map(|key| point(key));
    }
}

#[test]
fn onion_that_was_touched_is_refused_by_name() {
    let node = key(0x41);
    let packet = bytes(ONION);
    let keys = keys_of(&node, &packet);
    let hash = sha256_of_onion;

    let mut version = packet.clone();
    version[0] = 1;
    assert_eq!(ephemeral(&version), Err(Failure::InvalidOnionVersion(hash(&version))));
    let mut no_point = packet.clone();
    no_point[1] = 7;
    assert_eq!(ephemeral(&no_point), Err(Failure::InvalidOnionKey(hash(&no_point))));
    for at in [34, 700, 1333, 1334, 1365] {
        let mut changed = packet.clone();
        changed[at] ^= 1;
        let failure = peel(&changed, &keys, &[0x42; 32]).unwrap_err();
        assert_eq!(failure, Failure::InvalidOnionHmac(hash(&changed)));
        assert!(failure.is_bad_onion());
    }
    // Replayed for another payment.
    let replayed = peel(&packet, &keys, &[0x43; 32]);
    assert_eq!(replayed, Err(Failure::InvalidOnionHmac(hash(&packet))));
}

#[test]
fn payload_that_does_not_fit_its_packet_is_the_origins_fault() {
    let node = key(9);
    let keys = |packet: &[u8]| keys_of(&node, packet);
    // A layer whose length says more than there is, though its HMAC is right.
    for lie in [vec![0], vec![1, 9], vec![0xfd, 0x05, 0x14], vec![0xff; 9], vec![0xfd, 0, 5]] {
        let packet = build_lying(&node, &lie);
        assert_eq!(
            peel(&packet, &keys(&packet), b""),
            Err(Failure::InvalidOnionPayload { tlv_type: 0, offset: 0 })
        );
    }
}

/// A packet for `node` whose decrypted routing information begins with `start`.
fn build_lying(node: &SecretKey, start: &[u8]) -> Vec<u8> {
    let session = key(8);
    let shared = shared_secret(&node.public_key(SECP256K1), &session);
    let mut info = start.to_vec();
    info.resize(ROUTING_INFO_LEN, 0x33);
    crate::keys::xor_stream(&derive(b"rho", &shared), 0, &mut info);
    let hmac = crate::keys::hmac(derive(b"mu", &shared).expose(), &[&info]);
    let mut packet = vec![0];
    packet.extend(session.public_key(SECP256K1).serialize());
    packet.extend(info);
    packet.extend(hmac);
    packet
}

#[test]
fn onion_that_does_not_fit_is_not_built() {
    let node = key(5).public_key(SECP256K1);
    let hop = |len| Hop { node, payload: vec![7; len] };
    let route = |hops: &[Hop]| build(&key(1), hops, b"", ROUTING_INFO_LEN).map(|b| b.packet.len());
    assert_eq!(route(&[]), Err(BuildError::NoHops));
    assert_eq!(route(&[hop(1)]), Err(BuildError::PayloadTooShort));
    assert_eq!(route(&[hop(1265)]), Ok(1366));
    assert_eq!(
        route(&[hop(1266)]),
        Err(BuildError::TooLong { needed: 1301, available: ROUTING_INFO_LEN })
    );
    // 27 hops of 15 bytes fill what 26 hops of 17 bytes do not.
    assert_eq!(route(&vec![hop(15); MAX_HOPS]), Ok(1366));
}

#[test]
fn keys_follow_from_the_shared_secrets_of_the_vector() {
    for (shared, ammag) in SHARED_SECRETS.iter().zip(AMMAG_KEYS) {
        assert_eq!(OriginKeys::of(&bytes32(shared)).ammag, bytes32(ammag));
    }
    assert_eq!(OriginKeys::of(&bytes32(SHARED_SECRETS[4])).um, bytes32(UM_KEY));
}

#[test]
fn small_error_of_the_vector_is_made_wrapped_and_read() {
    let last = OriginKeys::of(&bytes32(SHARED_SECRETS[4]));
    let failure = Failure::TemporaryNodeFailure;
    let mut packet = begin_padded(&last.um, &last.ammag, &failure.to_bytes(), 256);
    for shared in SHARED_SECRETS[..4].iter().rev() {
        wrap_error(&OriginKeys::of(&bytes32(shared)).ammag, &mut packet);
    }
    assert_eq!(packet, bytes(SMALL_ERROR));

    let unwrapped = unwrap_error(&SHARED_SECRETS.map(bytes32), &packet).unwrap();
    assert_eq!(unwrapped, Unwrapped { hop: 4, failure, raw: vec![0x20, 0x02] });
}

#[test]
fn large_error_of_the_vector_is_made_wrapped_and_read() {
    let last = OriginKeys::of(&bytes32(SHARED_SECRETS[4]));
    // The vector pads to four times what is asked for.
    let mut packet = begin_padded(&last.um, &last.ammag, &bytes(LARGE_FAILURE), 1024);
    let mut plain = packet.clone();
    wrap_error(&last.ammag, &mut plain);
    assert_eq!(plain, bytes(LARGE_ERROR_RAW));
    assert_eq!(packet, bytes(LARGE_ERRORS[0]));
    for (shared, expected) in SHARED_SECRETS[..4].iter().rev().zip(&LARGE_ERRORS[1..]) {
        wrap_error(&OriginKeys::of(&bytes32(shared)).ammag, &mut packet);
        assert_eq!(packet, bytes(expected));
    }

    let unwrapped = unwrap_error(&SHARED_SECRETS.map(bytes32), &packet).unwrap();
    assert_eq!(unwrapped.hop, 4);
    assert_eq!(unwrapped.raw, bytes(LARGE_FAILURE));
    assert_eq!(
        unwrapped.failure,
        Failure::IncorrectOrUnknownPaymentDetails { htlc: Msat(100), height: BlockHeight(800_000) }
    );
}

#[test]
fn error_that_was_garbled_belongs_to_nobody() {
    let secrets = SHARED_SECRETS.map(bytes32);
    let mut packet = bytes(SMALL_ERROR);
    packet[40] ^= 1;
    assert_eq!(unwrap_error(&secrets, &packet), None);
    assert_eq!(unwrap_error(&secrets[..4], &bytes(SMALL_ERROR)), None);
    assert_eq!(unwrap_error(&secrets, &[]), None);
}

#[test]
fn malformed_htlc_is_a_failure_only_with_the_badonion_flag() {
    let hash = sha256_of_onion(b"an onion");
    assert_eq!(Failure::from_malformed(0xc005, hash), Some(Failure::InvalidOnionHmac(hash)));
    assert_eq!(Failure::from_malformed(0x4005, hash), None);
    let strange = Failure::from_malformed(0x8123, hash).unwrap();
    assert_eq!(strange, Failure::Other { code: 0x8123, data: hash.0.to_vec() });
    assert_eq!(strange.name().to_string(), "INVALID 33059");
}
