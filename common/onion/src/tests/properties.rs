//! What must hold for any bytes, and for any route.

use crate::payload::tlv;
use crate::*;
use primitives::{
    BlockHeight, Msat, PaymentSecret, Point, Preimage, Secret, SecretKey, Sha256Digest,
    ShortChannelId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use secp256k1::SECP256K1;
use std::sync::LazyLock;
use wire::hsm::OnionKeys;

fn any_failure() -> impl Strategy<Value = Failure> {
    let hash = any::<[u8; 32]>().prop_map(Sha256Digest);
    let update = vec(any::<u8>(), 0..200);
    prop_oneof![
        Just(Failure::TemporaryNodeFailure),
        Just(Failure::PermanentNodeFailure),
        Just(Failure::RequiredNodeFeatureMissing),
        hash.clone().prop_map(Failure::InvalidOnionVersion),
        hash.clone().prop_map(Failure::InvalidOnionHmac),
        hash.clone().prop_map(Failure::InvalidOnionKey),
        hash.prop_map(Failure::InvalidOnionBlinding),
        update
            .clone()
            .prop_map(|channel_update| Failure::TemporaryChannelFailure { channel_update }),
        update.clone().prop_map(|channel_update| Failure::ExpiryTooSoon { channel_update }),
        Just(Failure::PermanentChannelFailure),
        Just(Failure::RequiredChannelFeatureMissing),
        Just(Failure::UnknownNextPeer),
        (any::<u64>().prop_map(Msat), update.clone()).prop_map(|(htlc, channel_update)| {
            Failure::AmountBelowMinimum { htlc, channel_update }
        }),
        (any::<u64>().prop_map(Msat), update.clone())
            .prop_map(|(htlc, channel_update)| Failure::FeeInsufficient { htlc, channel_update }),
        (any::<u32>().prop_map(BlockHeight), update.clone()).prop_map(
            |(cltv_expiry, channel_update)| Failure::IncorrectCltvExpiry {
                cltv_expiry,
                channel_update
            }
        ),
        (any::<u16>(), update)
            .prop_map(|(flags, channel_update)| Failure::ChannelDisabled { flags, channel_update }),
        (any::<u64>().prop_map(Msat), any::<u32>().prop_map(BlockHeight))
            .prop_map(|(htlc, height)| Failure::IncorrectOrUnknownPaymentDetails { htlc, height }),
        any::<u32>()
            .prop_map(|h| Failure::FinalIncorrectCltvExpiry { cltv_expiry: BlockHeight(h) }),
        any::<u64>().prop_map(|a| Failure::FinalIncorrectHtlcAmount { incoming: Msat(a) }),
        Just(Failure::ExpiryTooFar),
        (any::<u64>(), any::<u16>())
            .prop_map(|(tlv_type, offset)| Failure::InvalidOnionPayload { tlv_type, offset }),
        Just(Failure::MppTimeout),
        vec(any::<u8>(), 0..40).prop_map(|data| Failure::Other { code: 17, data }),
    ]
}

fn any_key() -> impl Strategy<Value = SecretKey> {
    (1..=u64::MAX).prop_map(|n| {
        let mut bytes = [7; 32];
        bytes[24..].copy_from_slice(&n.to_be_bytes());
        SecretKey::from_slice(&bytes).unwrap()
    })
}

fn any_final() -> impl Strategy<Value = FinalPayload> {
    let odd = any::<u64>().prop_map(|n| n | 1);
    (
        (0..=Msat::MAX_MONEY.0, any::<u32>(), 0..=Msat::MAX_MONEY.0),
        option::of(any::<[u8; 32]>().prop_map(PaymentSecret)),
        option::of(vec(any::<u8>(), 0..50)),
        option::of(any::<[u8; 32]>().prop_map(Preimage)),
        proptest::collection::btree_map(odd, vec(any::<u8>(), 0..20), 0..4),
    )
        .prop_map(
            |((amount, expiry, total), payment_secret, payment_metadata, keysend, extra)| {
                FinalPayload {
                    amount: Msat(amount),
                    cltv_expiry: BlockHeight(expiry),
                    total: Msat(if payment_secret.is_some() { total } else { amount }),
                    payment_secret,
                    payment_metadata,
                    keysend,
                    extra: extra.into_iter().collect(),
                }
            },
        )
}

/// Made once: that is dearer than any case.
static SOME_KEYS: LazyLock<OnionKeys> = LazyLock::new(|| {
    let ephemeral = SecretKey::from_slice(&[1; 32]).unwrap().public_key(SECP256K1);
    onion_keys(&Secret::new([2; 32]), &ephemeral)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn any_bytes_are_a_payload_or_are_refused(
        bytes in vec(any::<u8>(), 0..120), is_final: bool, beside: bool
    ) {
        let _ = Payload::parse(&bytes, is_final, beside);
    }

    #[test]
    fn any_records_are_a_payload_or_are_refused(
        records in vec((0u64..24, vec(any::<u8>(), 0..45)), 0..6), is_final: bool, beside: bool
    ) {
        let mut bytes = Vec::new();
        for (kind, value) in &records {
            wire::tlv::put_raw_tlv(*kind, value, &mut bytes);
        }
        if let Err(e) = Payload::parse(&bytes, is_final, beside) {
            prop_assert!(e.offset == 0 || usize::from(e.offset) <= bytes.len() + 3);
        }
    }

    #[test]
    fn any_bytes_are_some_failure(bytes in vec(any::<u8>(), 0..80)) {
        let failure = Failure::from_bytes(&bytes);
        let again = Failure::from_bytes(&failure.to_bytes());
        prop_assert_eq!(again, failure);
    }

    #[test]
    fn failure_reads_back(failure in any_failure(), extra in vec(any::<u8>(), 0..9)) {
        let mut bytes = failure.to_bytes();
        if !matches!(failure, Failure::Other { .. }) {
            bytes.extend(extra);
        }
        prop_assert_eq!(Failure::from_bytes(&bytes), failure);
    }

    #[test]
    fn final_payload_reads_back(payload in any_final()) {
        let parsed = Payload::parse(&payload.to_bytes(), true, false);
        prop_assert_eq!(parsed, Ok(Payload::Final(payload)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn any_bytes_are_an_onion_or_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = ephemeral(&bytes);
        let _ = peel(&bytes, &SOME_KEYS, b"");
    }

    // The HMAC is right and everything behind it is a stranger's.
    #[test]
    fn any_routing_info_is_a_layer_or_is_refused(mut info in vec(any::<u8>(), 0..150)) {
        let keys = &*SOME_KEYS;
        let mut packet = vec![0];
        packet.extend([2; 33]);
        let hmac = crate::keys::hmac(keys.mu.expose(), &[&info]);
        packet.append(&mut info);
        packet.extend(hmac);
        match peel(&packet, keys, b"") {
            Ok(peeled) => {
                prop_assert!(peeled.payload.len() >= 2);
                prop_assert!(peeled.next.is_none_or(|next| next.len() == packet.len()));
            }
            Err(failure) => {
                prop_assert_eq!(failure, Failure::InvalidOnionPayload { tlv_type: 0, offset: 0 });
            }
        }
    }
}

// Twenty layers are taken off whatever comes, each with keys of its own: half a millisecond, so
// 2,000. What is found under them is read 100,000 times above.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_an_error_or_nobodys(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert_eq!(unwrap_error(&[Secret::new([3; 32])], &bytes), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn onion_that_is_built_is_peeled_by_each_hop(
        session in any_key(),
        route in vec((any_key(), vec(any::<u8>(), 2..300)), 1..8),
        associated in vec(any::<u8>(), 0..40),
        size in 1300usize..3000,
    ) {
        let point = |key: &SecretKey| -> Point { key.public_key(SECP256K1) };
        let hops: Vec<Hop> =
            route.iter().map(|(k, p)| Hop { node: point(k), payload: p.clone() }).collect();
        let needed: usize = hops.iter().map(|h| h.payload.len() + 35).sum();
        let built = match build(&session, &hops, &associated, size) {
            Ok(built) => built,
            Err(_) => { prop_assert!(needed > size); return Ok(()); }
        };
        let mut packet = built.packet.clone();
        for (i, (node, payload)) in route.iter().enumerate() {
            prop_assert_eq!(packet.len(), size + 66);
            let outer = ephemeral(&packet).unwrap();
            let keys = onion_keys(&shared_secret(&outer, node), &outer);
            let peeled = peel(&packet, &keys, &associated).unwrap();
            prop_assert_eq!(&peeled.payload, payload);
            prop_assert_eq!(peeled.next.is_none(), i + 1 == route.len());
            // An error from here is read as this hop's.
            let failure = Failure::UnknownNextPeer;
            let mut error = begin_error(&keys, &failure);
            for shared in built.shared_secrets[..i].iter().rev() {
                wrap_error(&OriginKeys::of(shared).ammag, &mut error);
            }
            let read = unwrap_error(&built.shared_secrets, &error).unwrap();
            prop_assert_eq!((read.hop, read.failure), (i, failure));
            packet = peeled.next.unwrap_or_default();
        }
    }
}

fn record(kind: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::tlv::put_raw_tlv(kind, value, &mut out);
    out
}

#[test]
fn payload_is_refused_with_the_record_and_its_place() {
    let amount = record(tlv::AMT_TO_FORWARD, &[5]);
    let expiry = record(tlv::OUTGOING_CLTV_VALUE, &[6]);
    let path_key = record(tlv::CURRENT_PATH_KEY, &[2; 33]);
    let sealed = record(tlv::ENCRYPTED_RECIPIENT_DATA, &[1]);
    let metadata = record(tlv::PAYMENT_METADATA, &[1]);
    let too_much = (Msat::MAX_MONEY.0 + 1).to_be_bytes();
    let total = record(tlv::PAYMENT_DATA, &[&[1; 32][..], &too_much].concat());
    for (why, payload, is_final, beside, tlv_type, offset) in [
        ("unknown even", [&amount[..], &expiry, &record(100, &[])].concat(), true, false, 100, 7),
        ("no amount", expiry.clone(), true, false, 2, 0),
        ("no expiry", amount.clone(), true, false, 4, 0),
        ("no channel", [&amount[..], &expiry].concat(), false, false, 6, 0),
        ("leading zero", record(2, &[0, 1]), true, false, 2, 1),
        ("amount too long", record(2, &[1; 9]), true, false, 2, 1),
        ("more than all money", record(2, &too_much), true, false, 2, 1),
        ("total above all money", [&amount[..], &expiry, &total].concat(), true, false, 8, 7),
        ("order", [&expiry[..], &amount].concat(), true, false, 2, 4),
        ("twice", [&amount[..], &amount].concat(), true, false, 2, 4),
        ("short secret", [&amount[..], &expiry, &record(8, &[1; 31])].concat(), true, false, 8, 7),
        ("cut off", [&amount[..], &[4, 9, 1]].concat(), true, false, 4, 4),
        ("path key alone", [&amount[..], &expiry, &path_key].concat(), true, false, 12, 7),
        ("path key beside alone", [&amount[..], &expiry].concat(), true, true, 10, 0),
        ("two path keys", [&sealed[..], &path_key].concat(), false, true, 12, 4),
        ("no path key", sealed.clone(), false, false, 12, 0),
        ("amount in the middle", [&amount[..], &sealed, &path_key].concat(), false, false, 2, 1),
        ("no total", [&amount[..], &expiry, &sealed, &path_key].concat(), true, false, 18, 0),
        ("metadata blinded", [&sealed[..], &metadata].concat(), true, true, 16, 4),
        ("bad point", record(12, &[9; 33]), true, false, 12, 1),
    ] {
        let refused = Payload::parse(&payload, is_final, beside);
        assert_eq!(refused, Err(PayloadError { tlv_type, offset }), "{why}");
    }
}

#[test]
fn forward_payload_reads_back() {
    let forward = ForwardPayload {
        short_channel_id: ShortChannelId(77),
        amount: Msat(1000),
        cltv_expiry: BlockHeight(500),
    };
    let parsed = Payload::parse(&forward.to_bytes(), false, false);
    assert_eq!(parsed, Ok(Payload::Forward(forward)));
}

#[test]
fn final_payload_without_a_total_is_the_whole_payment() {
    let payload = [record(2, &[5]), record(4, &[6]), record(33, b"odd")].concat();
    let Ok(Payload::Final(read)) = Payload::parse(&payload, true, false) else {
        panic!("a final payload")
    };
    assert_eq!(read.total, Msat(5));
    assert_eq!(read.extra, [(33, b"odd".to_vec())]);
    assert_eq!(read.to_bytes(), payload);
}

#[test]
fn failure_too_long_for_a_message_is_cut() {
    let failure = Failure::Other { code: 1, data: vec![0; 70_000] };
    assert!(begin_error(&SOME_KEYS, &failure).len() < 65_100);
}
