//! Node keys from one byte, and what the hsmd of such a node answers in the handshake.

use primitives::{NodeId, Point, Secret, SecretKey};
use secp256k1::SECP256K1;
use secp256k1::ecdh::SharedSecret;
use wire::hsm::{MixEcdh, MixedKeys};

pub fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).expect("a small number is a key")
}
pub fn id(byte: u8) -> Point {
    key(byte).public_key(SECP256K1)
}
pub fn node_id(byte: u8) -> NodeId {
    NodeId::from(id(byte))
}
pub fn mixed(byte: u8, question: &MixEcdh) -> MixedKeys {
    let shared = SharedSecret::new(&question.point, &key(byte)).secret_bytes();
    noise::mix(&question.chaining_key, &Secret::new(shared))
}
