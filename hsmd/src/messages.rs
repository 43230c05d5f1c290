//! What the node key signs that is no transaction: invoices, messages of a person's, updates of
//! channels. And the key of a blinded hop.

use crate::blinding::secp;
use crate::derive::NodeKeys;
use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};
use primitives::*;
use secp256k1::Message as Digest;
use wire::hsm::{MixEcdh, MixedKeys};
use wire::{ChannelUpdate, Message};

/// BOLT 7, channel_update: all after the signature. It must be one, so that nothing else is ever
/// signed by this.
pub(crate) fn sign_channel_update(node: &NodeKeys, unsigned: &[u8]) -> Result<Signature, String> {
    let digest = double_sha256(&[unsigned]);
    let signature = secp().sign_ecdsa(&digest, &node.node);
    let mut body = signature.serialize_compact().to_vec();
    body.extend_from_slice(unsigned);
    let update = ChannelUpdate::take_body(&body).map_err(|e| e.to_string())?;
    if update.chain_hash != node.network.chain_hash() {
        return Err("a channel_update of another chain".to_owned());
    }
    Ok(signature)
}

/// A recoverable signature on an invoice. BOLT 11.
pub(crate) fn sign_invoice(node: &NodeKeys, hrp: &str, data: &[u8]) -> Result<[u8; 65], String> {
    if !hrp.starts_with("ln") || data.iter().any(|five| *five >= 32) {
        return Err("this is no invoice".to_owned());
    }
    let mut engine = sha256::Hash::engine();
    engine.input(hrp.as_bytes());
    engine.input(&five_to_eight(data));
    let digest = Digest::from_digest(sha256::Hash::from_engine(engine).to_byte_array());
    let (id, compact) = secp().sign_ecdsa_recoverable(&digest, &node.node).serialize_compact();
    let mut out = [0; 65];
    let (signature, last) = out.split_at_mut(64);
    signature.copy_from_slice(&compact);
    last.fill(id.to_i32() as u8);
    Ok(out)
}

/// A recoverable signature in LND's and CLN's form.
pub(crate) fn sign_message(node: &NodeKeys, message: &[u8]) -> [u8; 65] {
    let digest = double_sha256(&[b"Lightning Signed Message:", message]);
    let signed = secp().sign_ecdsa_recoverable(&digest, &node.node);
    let (id, compact) = signed.serialize_compact();
    let mut out = [0; 65];
    let (first, signature) = out.split_at_mut(1);
    signature.copy_from_slice(&compact);
    first.fill(id.to_i32() as u8);
    out
}

/// BOLT 8's step with the node key, done here: the ECDH itself is BOLT 4's shared secret too, so
/// that connectd could peel every onion with it.
///
/// BOLT 4's keys are `HMAC(name, ECDH)`, and HKDF begins with `HMAC(chaining key, ECDH)`. HMAC
/// fills a key up with zeroes, so that the chaining key "rho", 0, 0, ... makes the onion's rho: as
/// a step in between, which no answer shows. A chaining key of BOLT 8 is a hash, and half of it is
/// never zero; the names have 15 bytes at most.
pub(crate) fn mix_ecdh(node: &NodeKeys, question: &MixEcdh) -> Result<MixedKeys, String> {
    if question.chaining_key.expose().ends_with(&[0; 16]) {
        return Err("this chaining key is no hash".to_owned());
    }
    let shared = onion::shared_secret(&question.point, &node.node);
    Ok(noise::mix(&question.chaining_key, &shared))
}

pub(crate) fn double_sha256(parts: &[&[u8]]) -> Digest {
    let mut engine = sha256d::Hash::engine();
    parts.iter().for_each(|part| engine.input(part));
    Digest::from_digest(sha256d::Hash::from_engine(engine).to_byte_array())
}

/// BOLT 4, "Route Blinding": the key that an onion to a blinded hop is for.
pub(crate) fn blinded_key(node: &SecretKey, path_key: &Point) -> SigningKey {
    use bitcoin::hashes::{Hmac, HmacEngine};
    let shared = onion::shared_secret(path_key, node);
    let mut engine = HmacEngine::<sha256::Hash>::new(b"blinded_node_id");
    engine.input(shared.expose());
    let tweak = secp256k1::Scalar::from_be_bytes(Hmac::from_engine(engine).to_byte_array())
        .expect("a SHA256 above the curve's order has never been seen: 2^-128");
    SigningKey::new(node.mul_tweak(&tweak).expect("a SHA256 is zero only where it was inverted"))
}

/// BOLT 11: groups of five bits as bytes, filled up with zeroes.
fn five_to_eight(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() * 5 / 8 + 1);
    let (mut bits, mut held) = (0u32, 0u32);
    for five in data {
        held = held << 5 | u32::from(*five);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        out.push((held << (8 - bits)) as u8);
    }
    out
}
