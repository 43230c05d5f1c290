//! BOLT 8's step with the node key: good for a handshake, and for nothing that BOLT 4 does with the
//! same ECDH.

use super::*;
use ::noise::{Initiator, Responder, mix};
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use proptest::prelude::*;

/// Each name of BOLT 4 that a shared secret is hashed with.
const NAMES: [&[u8]; 7] = [b"rho", b"mu", b"um", b"ammag", b"pad", b"blinded_node_id", b"ammagext"];

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}
fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    engine.input(data);
    Hmac::from_engine(engine).to_byte_array()
}
/// HMAC fills a key up with zeroes: the same key to it as the name alone.
fn filled(name: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    key[..name.len()].copy_from_slice(name);
    key
}

/// What opens an onion to us whose ephemeral key is this point, or makes its next one.
fn opens_onions(point: &Point) -> Vec<[u8; 32]> {
    let shared = onion::shared_secret(point, &us().node);
    let mut all = vec![*shared.expose()];
    all.extend(NAMES.map(|name| hmac(name, shared.expose())));
    let blinding = [&point.serialize()[..], shared.expose()].concat();
    all.push(sha256::Hash::hash(&blinding).to_byte_array());
    all
}

/// Both ends of a handshake with us, each with hsmd's answer in our place.
#[test]
fn mix_ecdh_completes_handshakes_in_both_roles() {
    let mut rig = Rig::new();
    let mut connectd = rig.client(&[Capability::Ecdh], None);
    let (our_id, peer_id) = (us().node.public_key(SECP256K1), peer().node.public_key(SECP256K1));
    let peers = |question: &MixEcdh| {
        mix(&question.chaining_key, &onion::shared_secret(&question.point, &peer().node))
    };

    let (initiator, one) = Initiator::start(peer_id, our_id, secret(3));
    let asks = Responder::new(our_id, secret(4)).act_one(&one).unwrap();
    let mixed = connectd.ask(&asks.question()).unwrap();
    let (waits, two) = asks.answer(mixed).unwrap();
    let asks = initiator.act_two(&two).unwrap();
    let mixed = peers(&asks.question());
    assert_eq!(waits.act_three(&asks.answer(mixed).0).unwrap().0, peer_id);

    let (initiator, one) = Initiator::start(our_id, peer_id, secret(5));
    let asks = Responder::new(peer_id, secret(6)).act_one(&one).unwrap();
    let mixed = peers(&asks.question());
    let (waits, two) = asks.answer(mixed).unwrap();
    let asks = initiator.act_two(&two).unwrap();
    let mixed = connectd.ask(&asks.question()).unwrap();
    assert_eq!(waits.act_three(&asks.answer(mixed).0).unwrap().0, our_id);
}

#[test]
fn mix_ecdh_is_for_connectd_alone() {
    let point = peer().node_id.point().unwrap();
    let question = MixEcdh { point, chaining_key: Secret::new([1; 32]) };
    let mut rig = Rig::new();
    let channeld = rig.client(EVERYTHING, None);
    rig.refuses(channeld, &question, "takes the right Ecdh");
    let connectd = rig.client(&[Capability::Ecdh], None);
    rig.refuses(connectd, &PeelOnions { onions: vec![] }, "takes the right Peel");
    // lightningd asks for neither.
    let folder = folder();
    let path = folder.join("hsm_secret");
    let onions = PeelOnions { onions: vec![] };
    for asks in [
        &(|hsm: &mut Hsm| hsm.ask(&question).is_err()) as &dyn Fn(&mut Hsm) -> bool,
        &|hsm: &mut Hsm| hsm.ask(&onions).is_err(),
    ] {
        let (_script, mut master, thread) = start();
        master.ask(&unlock(&path)).unwrap();
        assert!(asks(&mut master));
        assert!(thread.join().unwrap().is_err());
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn mix_ecdh_refuses_names_of_onion_keys_as_chaining_keys() {
    let point = peer().node_id.point().unwrap();
    let shared = onion::shared_secret(&point, &us().node);
    let mut rig = Rig::new();
    for name in NAMES {
        // What makes them worth refusing: HKDF's first step with this chaining key is the onion's
        // key.
        assert_eq!(hmac(&filled(name), shared.expose()), hmac(name, shared.expose()));
        let connectd = rig.client(&[Capability::Ecdh], None);
        let question = MixEcdh { point, chaining_key: Secret::new(filled(name)) };
        rig.refuses(connectd, &question, "this chaining key is no hash");
        // And even the answer that is not given would be none of them.
        let mixed = mix(&question.chaining_key, &shared);
        for key in opens_onions(&point) {
            assert!(*mixed.chaining_key.expose() != key && *mixed.key.expose() != key);
        }
    }
}

/// Chaining keys that a captured connectd may try: anything, and the names with something after
/// them.
fn chaining_key() -> impl Strategy<Value = [u8; 32]> {
    let near = (0..NAMES.len(), 16..32usize, 1u8..).prop_map(|(name, at, byte)| {
        let mut key = filled(NAMES[name]);
        key[at] = byte;
        key
    });
    prop_oneof![any::<[u8; 32]>(), near]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Whatever point and chaining key a captured connectd sends, hsmd's answer is no key of the
    /// onion with that ephemeral key.
    #[test]
    fn mix_ecdh_answers_no_key_of_an_onion(byte in 1u8..255, chaining_key in chaining_key()) {
        let node = us();
        let point = secret(byte).public_key(SECP256K1);
        let question = MixEcdh { point, chaining_key: Secret::new(chaining_key) };
        let mixed = crate::messages::mix_ecdh(&node, &question).unwrap();
        for key in opens_onions(&point) {
            prop_assert!(*mixed.chaining_key.expose() != key && *mixed.key.expose() != key);
        }
    }

    /// The other way: the right Peel answers for no handshake. It has HMACs of the ECDH under BOLT
    /// 4's names alone, which are no chaining keys.
    #[test]
    fn peel_onions_answers_no_key_of_a_handshake(byte in 1u8..255, chaining_key: [u8; 32]) {
        let node = us();
        let ephemeral = secret(byte).public_key(SECP256K1);
        let shared = onion::shared_secret(&ephemeral, &node.node);
        let mixed = mix(&Secret::new(chaining_key), &shared);
        let OnionKeys { rho, mu, um, ammag, next_ephemeral: _ } = onion::onion_keys(&shared, &ephemeral);
        for key in [rho, mu, um, ammag] {
            prop_assert!(key != mixed.key && key != mixed.chaining_key && key != shared);
            prop_assert!(mix(&Secret::new(chaining_key), &key) != mixed);
        }
    }
}
