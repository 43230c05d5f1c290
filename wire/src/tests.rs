//! The codec itself, and every message of every set: there and back, damaged, and noise.

use super::*;
use primitives::*;

#[test]
fn bigsize_follows_bolt_1_appendix_a() {
    for (bytes, value) in [
        ("00", 0u64),
        ("fc", 252),
        ("fd00fd", 253),
        ("fdffff", 65535),
        ("fe00010000", 65536),
        ("feffffffff", 4294967295),
        ("ff0000000100000000", 4294967296),
        ("ffffffffffffffffff", u64::MAX),
    ] {
        let bytes = <Vec<u8> as hex::FromHex>::from_hex(bytes).unwrap();
        assert_eq!(BigSize::from_bytes(&bytes), Ok(BigSize(value)));
        assert_eq!(BigSize(value).to_bytes(), bytes);
    }
    for bad in ["fd00fc", "fe0000ffff", "ff00000000ffffffff"] {
        let bytes = <Vec<u8> as hex::FromHex>::from_hex(bad).unwrap();
        assert_eq!(BigSize::from_bytes(&bytes), Err(Problem::NotMinimal), "{bad}");
    }
    for bad in ["fd00", "feffff", "ffffffffff", "fd", "fe", "ff", ""] {
        let bytes = <Vec<u8> as hex::FromHex>::from_hex(bad).unwrap();
        assert!(matches!(BigSize::from_bytes(&bytes), Err(Problem::TooShort { .. })), "{bad}");
    }
}

#[test]
fn truncated_integers_are_minimal() {
    assert_eq!(Tu64(0).to_bytes(), []);
    assert_eq!(Tu64(256).to_bytes(), [1, 0]);
    assert_eq!(Tu64::from_bytes(&[1, 0]), Ok(Tu64(256)));
    assert_eq!(Tu64::from_bytes(&[0, 1]), Err(Problem::NotMinimal));
    assert_eq!(Tu64::from_bytes(&[0xff; 8]), Ok(Tu64(u64::MAX)));
    assert!(Tu64::from_bytes(&[0xff; 9]).is_err());
    assert!(Tu32::from_bytes(&[1; 5]).is_err());
    assert_eq!(Tu16::from_bytes(&[1, 2]), Ok(Tu16(258)));
    assert!(Tu16::from_bytes(&[1, 2, 3]).is_err());
}

fn reestablish() -> ChannelReestablish {
    ChannelReestablish {
        channel_id: ChannelId([7; 32]),
        next_commitment_number: 1,
        next_revocation_number: 0,
        your_last_per_commitment_secret: [0; 32],
        my_current_per_commitment_point: SecretKey::from_slice(&[9; 32])
            .unwrap()
            .public_key(secp256k1::SECP256K1),
        next_funding: None,
        my_current_funding_locked: None,
    }
}

#[test]
fn unknown_odd_tlvs_are_skipped_and_unknown_even_ones_refused() {
    let with =
        |tlvs: &[u8]| ChannelMessage::decode(&[reestablish().encode(), tlvs.to_vec()].concat());
    assert_eq!(with(&[]), Ok(Decoded::Known(reestablish().into())));
    assert_eq!(with(&[7, 1, 0]), Ok(Decoded::Known(reestablish().into())));
    assert_eq!(with(&[8, 1, 0]).unwrap_err().problem, Problem::UnknownEvenTlv(8));
    assert_eq!(with(&[9, 0, 7, 0]).unwrap_err().problem, Problem::TlvOrder(7));
    assert_eq!(with(&[7, 0, 7, 0]).unwrap_err().problem, Problem::TlvOrder(7));
    assert!(with(&[7, 200, 0]).is_err());
    // A known record must be exactly as long as its value.
    assert!(with(&[[1, 34].as_slice(), &[1; 34]].concat()).is_err());
    assert!(with(&[[1, 33].as_slice(), &[1; 33]].concat()).is_ok());
}

#[test]
fn unknown_messages_are_told_apart_by_their_parity() {
    assert_eq!(ChannelMessage::decode(&[0xff, 0xff]), Ok(Decoded::UnknownOdd(0xffff)));
    assert_eq!(ChannelMessage::decode(&[0xff, 0xfe]), Ok(Decoded::UnknownEven(0xfffe)));
    assert!(ChannelMessage::decode(&[1]).is_err());
}

#[test]
fn signature_with_high_s_is_refused() {
    let key = SecretKey::from_slice(&[3; 32]).unwrap();
    let low = secp256k1::SECP256K1.sign_ecdsa(&secp256k1::Message::from_digest([5; 32]), &key);
    assert_eq!(Signature::from_bytes(&low.to_bytes()), Ok(low));
    let mut high = low.serialize_compact();
    let s = SecretKey::from_slice(&high[32..]).unwrap().negate();
    high[32..].copy_from_slice(&s.secret_bytes());
    assert_eq!(Signature::from_bytes(&high), Err(Problem::BadSignature));
    assert_eq!(Signature::from_bytes(&[0xff; 64]), Err(Problem::BadSignature));
}

#[test]
fn count_beyond_what_is_there_allocates_nothing() {
    assert!(matches!(Long::<u64>::from_bytes(&[0xff; 4]), Err(Problem::TooShort { .. })));
    assert!(matches!(Bytes::from_bytes(&[0xff; 20]), Err(Problem::TooShort { .. })));
    assert!(matches!(
        Vec::<Signature>::from_bytes(&[0xff, 0xff, 0]),
        Err(Problem::TooShort { .. })
    ));
}

#[test]
fn messages_are_routed_by_the_channel_they_name() {
    let id = ChannelId([7; 32]);
    assert_eq!(channel_of(&reestablish().encode()), Some(id));
    assert_eq!(channel_of(&Error::new(id, "no").encode()), Some(id));
    assert_eq!(channel_of(&Ping { num_pong_bytes: 1, ignored: vec![0; 64] }.encode()), None);
    let open: Vec<u8> = [&32u16.to_be_bytes()[..], &[1; 32], &id.0].concat();
    assert_eq!(channel_of(&open), Some(id));
    assert_eq!(channel_of(&open[..65]), None);
}

#[test]
fn text_of_a_peer_is_printed_without_control_characters() {
    let error = Error { channel_id: ChannelId::ALL, data: b"ok\x1b[31m\xff".to_vec() };
    assert_eq!(error.text(), "ok?[31m?");
}

/// Each set's messages: so many rounds that every kind of damage meets every field.
/// So many damaged strings for each decoder.
const CASES: usize = 100_000;

fn check_rounds(seed: u64, check: impl Fn(&mut sample::Rng)) {
    let mut r = sample::Rng::new(seed);
    while r.damaged < CASES {
        check(&mut r);
    }
}

/// What strangers say: so many for each message.
fn check_messages(seed: u64, check: impl Fn(&mut sample::Rng)) {
    let mut r = sample::Rng::new(seed);
    check(&mut r);
    let messages = r.damaged / sample::DAMAGED;
    while r.damaged < CASES * messages {
        check(&mut r);
    }
}

#[test]
fn opening_messages_survive_the_wire_and_any_damage() {
    check_messages(1, SetupMessage::check_each);
    check_messages(2, OpeningMessage::check_each);
}

#[test]
fn channel_messages_survive_the_wire_and_any_damage() {
    check_messages(3, ChannelMessage::check_each);
}

#[test]
fn closing_and_gossip_messages_survive_the_wire_and_any_damage() {
    check_messages(4, ClosingMessage::check_each);
    check_messages(5, GossipMessage::check_each);
}

#[test]
fn internal_messages_survive_the_wire_and_any_damage() {
    check_rounds(6, connectd::ToConnectd::check_each);
    check_rounds(7, connectd::FromConnectd::check_each);
    check_rounds(8, connectd::PeerControl::check_each);
    check_rounds(9, openingd::ToOpeningd::check_each);
    check_rounds(10, openingd::FromOpeningd::check_each);
    check_rounds(11, channeld::ToChanneld::check_each);
    check_rounds(12, channeld::FromChanneld::check_each);
    check_rounds(13, closingd::ToClosingd::check_each);
    check_rounds(14, closingd::FromClosingd::check_each);
    check_rounds(23, onchaind::ToOnchaind::check_each);
    check_rounds(24, onchaind::FromOnchaind::check_each);
    check_rounds(15, hsm::FromHsmd::check_each);
    check_rounds(22, hsm::ToHsmd::check_each);
    check_rounds(25, hsm::MasterOrder::check_each);
    // The two that stand alone, at a child's birth.
    check_rounds(20, sample::check_message::<daemon::Start>);
    check_rounds(21, sample::check_message::<hsm::HsmdInit>);
}

#[test]
fn questions_and_answers_survive_the_wire_and_any_damage() {
    check_rounds(16, hsm::HsmRequest::check_each);
    check_rounds(17, channeld::ChannelAsk::check_each);
    check_rounds(18, closingd::ClosingAsk::check_each);
}

#[test]
fn noise_under_each_message_number_does_not_panic() {
    let mut r = sample::Rng::new(19);
    let numbers = [
        1u16, 2, 16, 17, 18, 19, 32, 33, 34, 35, 36, 38, 39, 74, 127, 128, 130, 131, 132, 133, 134,
        135, 136, 256, 257, 258, 259, 261, 262, 263, 264, 265,
    ];
    let mut noise = [0; 300];
    for case in 0..CASES {
        // Fresh noise for all numbers: that, and not the decoders, is what takes time.
        for chunk in noise.chunks_mut(8) {
            chunk.copy_from_slice(&r.next().to_be_bytes()[..chunk.len()]);
        }
        for number in numbers {
            let mut bytes = number.to_be_bytes().to_vec();
            bytes.extend(&noise[..r.below(if case % 2 == 0 { 300 } else { 60 })]);
            let _ = (
                SetupMessage::decode(&bytes),
                OpeningMessage::decode(&bytes),
                ChannelMessage::decode(&bytes),
            );
            let _ =
                (ClosingMessage::decode(&bytes), GossipMessage::decode(&bytes), channel_of(&bytes));
        }
    }
}

/// BOLT 1, error: it may show a transaction, and fits a message whatever its text is.
#[test]
fn error_text_is_cut_to_what_a_message_holds() {
    let error = |len| Error::new(ChannelId([1; 32]), &"f".repeat(len));
    assert_eq!(error(60_000).data.len(), 60_000);
    assert_eq!(error(70_000).encode().len(), MAX_BOLT_MESSAGE);
}
