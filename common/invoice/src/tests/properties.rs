//! What must hold for any string, for any fields behind a good checksum, and for any terms; and
//! that an independent implementation agrees.

use super::{key, sign};
use crate::*;
use lightning_invoice::Bolt11Invoice;
use primitives::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use secp256k1::SECP256K1;

fn any_point() -> impl Strategy<Value = Point> {
    (1..=u64::MAX).prop_map(|n| {
        let mut bytes = [5; 32];
        bytes[24..].copy_from_slice(&n.to_be_bytes());
        SecretKey::from_slice(&bytes).unwrap().public_key(SECP256K1)
    })
}
fn any_hint() -> impl Strategy<Value = RouteHint> {
    (any_point(), any::<u64>(), any::<u32>(), any::<u32>(), any::<u16>()).prop_map(
        |(node, scid, base, millionths, delta)| RouteHint {
            node,
            short_channel_id: ShortChannelId(scid),
            fee_base_msat: base,
            fee_proportional_millionths: millionths,
            cltv_expiry_delta: delta,
        },
    )
}
fn any_fallback() -> impl Strategy<Value = Fallback> {
    prop_oneof![
        any::<[u8; 20]>().prop_map(Fallback::PubkeyHash),
        any::<[u8; 20]>().prop_map(Fallback::ScriptHash),
        any::<[u8; 32]>().prop_map(|program| Fallback::read(0, &program).unwrap()),
        (1u8..17, vec(any::<u8>(), 2..41))
            .prop_map(|(version, program)| Fallback::read(version, &program).unwrap()),
    ]
}
fn any_description() -> impl Strategy<Value = Description> {
    prop_oneof![
        "\\PC{0,80}".prop_map(Description::Text),
        any::<[u8; 32]>().prop_map(|hash| Description::Hash(Sha256Digest(hash))),
    ]
}

prop_compose! {
    fn any_terms()(
        currency in prop_oneof![
            Just(Currency::Bitcoin), Just(Currency::Testnet), Just(Currency::Signet), Just(Currency::Regtest)
        ],
        // Beyond this, as for the expiry, the oracle gives up.
        amount in option::of((1..=Sat::MAX_MONEY.0 * 800).prop_map(Msat)),
        timestamp in 0u64..1 << 35,
        (hash, secret) in any::<([u8; 32], [u8; 32])>(),
        description in any_description(),
        expiry in option::of(0u64..1 << 30),
        min_final_cltv in option::of((0u32..60_000).prop_map(CltvDelta)),
        fallbacks in vec(any_fallback(), 0..3),
        routes in vec(vec(any_hint(), 1..3), 0..3),
        metadata in option::of(vec(any::<u8>(), 0..40)),
        odd in option::of(100usize..300),
    ) -> Terms {
        let mut features = Features::compulsory(&[feature::VAR_ONION_OPTIN, feature::PAYMENT_SECRET])
            .union(&Features::optional(&[feature::BASIC_MPP]));
        if metadata.is_some() {
            features = features.with(feature::PAYMENT_METADATA);
        }
        if let Some(odd) = odd {
            features = features.with(odd | 1);
        }
        Terms {
            currency, amount, timestamp, description, expiry, min_final_cltv, fallbacks, routes, metadata, features,
            payment_hash: PaymentHash(hash),
            payment_secret: PaymentSecret(secret),
            unknown: Vec::new(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn any_bytes_are_an_invoice_or_are_refused(bytes in vec(any::<u8>(), 0..60)) {
        let _ = Invoice::decode(&String::from_utf8_lossy(&bytes));
    }

    // The checksum is right, and all fields are a stranger's.
    #[test]
    fn any_fields_are_an_invoice_or_are_refused(
        amount in any::<u16>(), unit in 0usize..6, mut data in vec(0u8..32, 0..160), filled: bool
    ) {
        if filled {
            // With what must be there, so that the rest is read to its end.
            let mut good = vec![0; 7];
            for tag in [1, 16, 23] {
                good.extend([tag, 1, 20]);
                good.extend([3; 52]);
            }
            good.append(&mut data);
            data = good;
        }
        let hrp = format!("lnbcrt{amount}{}", ["", "m", "u", "n", "p", "x"][unit]);
        let text = Unsigned { hrp, data }.with_signature(&[1; 65]);
        let _ = Invoice::decode(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_string_is_an_invoice_or_is_refused(text in "\\PC{0,100}") {
        let _ = Invoice::decode(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn terms_read_back_and_another_implementation_reads_the_same(terms in any_terms(), name: bool) {
        let payee = key().public_key(SECP256K1);
        let unsigned = terms.unsigned(name.then_some(&payee)).unwrap();
        let text = unsigned.with_signature(&sign(&unsigned, &key()));
        let read = Invoice::decode(&text).unwrap();
        prop_assert_eq!(&read.terms, &terms);
        prop_assert_eq!((read.payee, read.names_payee), (payee, name));

        let theirs: Bolt11Invoice = match text.parse() {
            Ok(theirs) => theirs,
            Err(e) => return Err(TestCaseError::fail(format!("{text}: {e}"))),
        };
        prop_assert_eq!(theirs.amount_milli_satoshis(), terms.amount.map(|a| a.0));
        prop_assert_eq!(theirs.duration_since_epoch().as_secs(), terms.timestamp);
        prop_assert_eq!(theirs.expiry_time().as_secs(), terms.expiry_seconds());
        prop_assert_eq!(theirs.min_final_cltv_expiry_delta(), u64::from(terms.min_final_cltv().0));
        prop_assert_eq!(theirs.payment_secret().0, terms.payment_secret.0);
        prop_assert_eq!(theirs.payment_metadata(), terms.metadata.as_ref());
        prop_assert_eq!(theirs.recover_payee_pub_key().serialize(), payee.serialize());
        prop_assert_eq!(theirs.fallbacks().len(), terms.fallbacks.len());
        prop_assert_eq!(theirs.route_hints().len(), terms.routes.len());
    }

    #[test]
    fn changed_character_is_noticed(terms in any_terms(), at in 0usize..1000, to in 0u8..32) {
        let unsigned = terms.unsigned(None).unwrap();
        let text = unsigned.with_signature(&sign(&unsigned, &key()));
        let start = unsigned.hrp.len() + 1;
        let at = start + at % (text.len() - start);
        let mut changed: Vec<char> = text.chars().collect();
        changed[at] = crate::fives::to_char(to);
        let changed: String = changed.into_iter().collect();
        prop_assert_eq!(Invoice::decode(&changed).is_ok(), changed == text);
    }
}
