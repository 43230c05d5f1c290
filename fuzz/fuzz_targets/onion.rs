//! Onions: packets with a good HMAC and anything inside, payloads, and errors on their way back.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use onion::{Failure, Payload};
use primitives::{Point, Secret, SecretKey};
use secp256k1::SECP256K1;
use wire::hsm::OnionKeys;

fn keys() -> OnionKeys {
    let point =
        SecretKey::from_slice(&[5; 32]).expect("a small number is a key").public_key(SECP256K1);
    onion::onion_keys(&Secret::new([9; 32]), &point)
}
fn point() -> Point {
    keys().next_ephemeral
}
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    Hmac::from_engine(engine).to_byte_array()
}

pub fn run(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 5 {
        0 => {
            let _ = onion::ephemeral(data);
            let _ = onion::peel(data, &keys(), &[7; 32]);
        }
        1 => {
            // The HMAC holds, as for whoever knows our key: what is inside is theirs to choose, but
            // for the cipher.
            let keys = keys();
            let mac = hmac(keys.mu.expose(), &[data, &[7; 32]]);
            let packet = [&[0][..], &point().serialize(), data, &mac].concat();
            if let Ok(peeled) = onion::peel(&packet, &keys, &[7; 32]) {
                let _ = Payload::parse(&peeled.payload, peeled.next.is_none(), false);
                if let Some(next) = peeled.next {
                    assert_eq!(next.len(), packet.len());
                }
            }
        }
        2 => {
            for (is_final, beside) in [(false, false), (false, true), (true, false), (true, true)] {
                let _ = Payload::parse(data, is_final, beside);
            }
        }
        3 => {
            let secrets = [Secret::new([9; 32]), Secret::new([8; 32])];
            let _ = onion::unwrap_error(&secrets, data);
        }
        _ => {
            let failure = Failure::from_bytes(data);
            let packet = onion::begin_error(&keys(), &failure);
            let read = onion::unwrap_error(&[Secret::new([9; 32])], &packet).expect("we made it");
            assert_eq!(read.hop, 0);
        }
    }
}
