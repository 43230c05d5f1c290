//! BOLT 8, "Appendix A: Transport Test Vectors": every one of them.

use crate::*;
use hex::FromHex;
use primitives::Secret;
use secp256k1::{PublicKey, SecretKey, ecdh::SharedSecret};
use wire::hsm::{MixEcdh, MixedKeys};

const RS_PUB: &str = "028d7500dd4c12685d1f568b4c2b5048e8534b873319f3a8daa612b469132ec7f7";
const INITIATOR_PUB: &str = "034f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa";
const ACT_ONE: &str = "00036360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c6a";
const ACT_TWO: &str = "0002466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730ae";
const ACT_THREE: &str = "00b9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c466263b47fdf31e560e139ba";

fn bytes(text: &str) -> Vec<u8> {
    Vec::from_hex(text).unwrap()
}
fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}
fn public(text: &str) -> PublicKey {
    PublicKey::from_slice(&bytes(text)).unwrap()
}
fn ecdh(static_key: u8, point: PublicKey) -> Secret<32> {
    Secret::new(SharedSecret::new(&point, &key(static_key)).secret_bytes())
}

/// hsmd's answer for a node with this key.
fn answer(static_key: u8, question: &MixEcdh) -> MixedKeys {
    mix(&question.chaining_key, &ecdh(static_key, question.point))
}

fn initiator() -> Initiator {
    let (initiator, one) = Initiator::start(public(INITIATOR_PUB), public(RS_PUB), key(0x12));
    assert_eq!(one.to_vec(), bytes(ACT_ONE));
    initiator
}
fn responder_at_act_one(act: &str) -> Result<(ResponderWaits, [u8; 50]), HandshakeError> {
    let asks = Responder::new(public(RS_PUB), key(0x22)).act_one(&bytes(act))?;
    let mixed = answer(0x21, &asks.question());
    asks.answer(mixed)
}
fn responder() -> ResponderWaits {
    let (responder, two) = responder_at_act_one(ACT_ONE).unwrap();
    assert_eq!(two.to_vec(), bytes(ACT_TWO));
    responder
}
fn dialled() -> Transport {
    let asks = initiator().act_two(&bytes(ACT_TWO)).unwrap();
    let question = asks.question();
    let shared = ecdh(0x11, question.point);
    let expected = "b36b6d195982c5be874d6d542dc268234379e1ae4ff1709402135b7de5cf0766";
    assert_eq!(shared.expose().to_vec(), bytes(expected));
    // "HKDF(0xe89d...,0xb36b...)", and what it gives.
    let expected = "e89d31033a1b6bf68c07d22e08ea4d7884646c4b60a9528598ccb4ee2c8f56ba";
    assert_eq!(question.chaining_key.expose().to_vec(), bytes(expected));
    let mixed = answer(0x11, &question);
    let expected = "919219dbb2920afa8db80f9a51787a840bcf111ed8d588caf9ab4be716e42b01";
    assert_eq!(mixed.chaining_key.expose().to_vec(), bytes(expected));
    let (three, transport) = asks.answer(mixed);
    assert_eq!(three.to_vec(), bytes(ACT_THREE));
    transport
}

#[test]
fn transport_initiator_and_responder_successful_handshake() {
    let dialler = dialled();
    let (who, listener) = responder().act_three(&bytes(ACT_THREE)).unwrap();
    assert_eq!(who, public(INITIATOR_PUB));

    let first = bytes("969ab31b4d288cedf6218839b27a3e2140827047f2c0f01bf5c04435d43511a9");
    let second = bytes("bb9020b8965f4df047e07f955f3c4b88418984aadc5cdb35096b9ea8fa5c3442");
    assert_eq!(dialler.keys().map(Vec::from), [first.clone(), second.clone()]);
    assert_eq!(listener.keys().map(Vec::from), [second, first]);
}

#[test]
fn transport_initiator_act2_failures() {
    use HandshakeError::*;
    let act = Act::Two;
    for (input, error) in [
        // short read
        (
            "0002466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730",
            Length { act, got: 49 },
        ),
        (
            "0102466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730ae",
            Version { act, version: 1 },
        ),
        (
            "0004466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730ae",
            BadPoint { act },
        ),
        (
            "0002466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730af",
            BadTag { act },
        ),
    ] {
        assert_eq!(initiator().act_two(&bytes(input)).unwrap_err(), error, "{input}");
    }
}

#[test]
fn transport_responder_act1_failures() {
    use HandshakeError::*;
    let act = Act::One;
    for (input, error) in [
        (
            "00036360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c",
            Length { act, got: 49 },
        ),
        (
            "01036360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c6a",
            Version { act, version: 1 },
        ),
        (
            "00046360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c6a",
            BadPoint { act },
        ),
        (
            "00036360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c6b",
            BadTag { act },
        ),
    ] {
        assert_eq!(responder_at_act_one(input).unwrap_err(), error, "{input}");
    }
}

#[test]
fn transport_responder_act3_failures() {
    use HandshakeError::*;
    let act = Act::Three;
    for (input, error) in [
        (
            "01b9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c466263b47fdf31e560e139ba",
            Version { act, version: 1 },
        ),
        (
            "00b9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c466263b47fdf31e560e139",
            Length { act, got: 65 },
        ),
        (
            "00c9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c466263b47fdf31e560e139ba",
            BadStaticKey,
        ),
        (
            "00bfe3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa2235536ad09a8ee351870c2bb7f78b754a26c6cef79a98d25139c856d7efd252c2ae73c",
            BadPoint { act },
        ),
        (
            "00b9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c466263b47fdf31e560e139bb",
            BadTag { act },
        ),
    ] {
        assert_eq!(responder().act_three(&bytes(input)).unwrap_err(), error, "{input}");
    }
}

#[test]
fn transport_message_test_through_two_rotations() {
    let mut dialler = dialled();
    let (_, mut listener) = responder().act_three(&bytes(ACT_THREE)).unwrap();
    let expected = |n| {
        Some(match n {
            0 => "cf2b30ddf0cf3f80e7c35a6e6730b59fe802473180f396d88a8fb0db8cbcf25d2f214cf9ea1d95",
            1 => "72887022101f0b6753e0c7de21657d35a4cb2a1f5cde2650528bbc8f837d0f0d7ad833b1a256a1",
            500 => "178cb9d7387190fa34db9c2d50027d21793c9bc2d40b1e14dcf30ebeeeb220f48364f7a4c68bf8",
            501 => "1b186c57d44eb6de4c057c49940d79bb838a145cb528d6e8fd26dbe50a60ca2c104b56b60e45bd",
            1000 => {
                "4a2f3cc3b5e78ddb83dcb426d9863d9d9a723b0337c89dd0b005d89f8d3c05c52b76b29b740f09"
            }
            1001 => {
                "2ecd8c8a5629d0d02ab457a0fdd0f7b90a192cd46be5ecb6ca570bfc5e268338b1a16cf4ef2d36"
            }
            _ => return None,
        })
    };
    let mut seen = 0;
    for n in 0..=1001 {
        let mut wire = Vec::new();
        dialler.sealer.seal(b"hello", &mut wire).unwrap();
        if let Some(expected) = expected(n) {
            assert_eq!(wire, bytes(expected), "output {n}");
            seen += 1;
        }
        let (header, body) = wire.split_first_chunk_mut::<HEADER_LEN>().unwrap();
        assert_eq!(listener.opener.open_header(header), Ok(5));
        assert_eq!(listener.opener.open_body(body).unwrap(), b"hello");
    }
    assert_eq!(seen, 6);
}
