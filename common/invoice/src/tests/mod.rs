//! The examples of BOLT 11, read and written, and what must hold for any string.

mod properties;
mod vectors;

use crate::*;
use bitcoin::hashes::{Hash, sha256};
use hex::FromHex;
use primitives::*;
use secp256k1::{Message, SECP256K1};
use vectors::*;

/// The key that signed every example.
fn key() -> SecretKey {
    let key = "e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734";
    SecretKey::from_slice(&Vec::from_hex(key).unwrap()).unwrap()
}
/// What hsmd answers.
fn sign(unsigned: &Unsigned, key: &SecretKey) -> [u8; 65] {
    let message = Message::from_digest(unsigned.hash());
    let (id, compact) = SECP256K1.sign_ecdsa_recoverable(&message, key).serialize_compact();
    let mut signature = [0; 65];
    signature[..64].copy_from_slice(&compact);
    signature[64] = id.to_i32() as u8;
    signature
}
fn example(start: &str) -> Invoice {
    let (_, text) = VALID.iter().find(|(title, _)| title.starts_with(start)).unwrap();
    Invoice::decode(text).unwrap()
}
fn bytes32(hex: &str) -> [u8; 32] {
    <[u8; 32]>::from_hex(hex).unwrap()
}

const HASH: &str = "0001020304050607080900010203040506070809000102030405060708090102";
const LIST: &str = "One piece of chocolate cake, one icecream cone, one pickle, one slice of swiss cheese, \
     one slice of salami, one lollypop, one piece of cherry pie, one sausage, one cupcake, and one slice of watermelon";

#[test]
fn valid_examples_are_read_with_their_fields() {
    assert_eq!(VALID.len(), 16);
    for (title, text) in VALID {
        let invoice = Invoice::decode(text).unwrap_or_else(|e| panic!("{title}: {e}"));
        let terms = &invoice.terms;
        // A high S with the same recovery id is some other key's signature.
        let same_key = invoice.payee == key().public_key(SECP256K1);
        assert_eq!(same_key, !title.contains("high-S"), "{title}");
        assert!(!invoice.names_payee);
        assert_eq!(terms.payment_secret, PaymentSecret([0x11; 32]), "{title}");
        let pico = title.contains("pico");
        assert_eq!(terms.timestamp, if pico { 1_572_468_703 } else { 1_496_314_658 }, "{title}");
        let hash = if pico {
            "462264ede7e14047e9b249da94fefc47f41f7d02ee9b091815a5506bc8abf75f"
        } else {
            HASH
        };
        assert_eq!(terms.payment_hash, PaymentHash(bytes32(hash)), "{title}");
        assert!(terms.features.offers(feature::PAYMENT_SECRET), "{title}");
    }
}

#[test]
fn invalid_examples_are_refused_for_their_own_reasons() {
    assert_eq!(INVALID.len(), 10);
    let why: Vec<_> = INVALID.iter().map(|(_, text)| Invoice::decode(text).unwrap_err()).collect();
    use InvoiceError::*;
    assert!(
        matches!(
            why.as_slice(),
            [
                UnknownFeature(100),
                Bech32(_),
                Bech32(_),
                Bech32(_),
                Signature(_),
                TooShort,
                Prefix(_),
                Prefix(_),
                Missing(_),
                Signature("its S is high"),
            ]
        ),
        "{why:#?}"
    );
}

#[test]
fn amounts_descriptions_and_times_are_those_of_the_examples() {
    let donation = example("Please make a donation").terms;
    assert_eq!((donation.currency, donation.amount), (Currency::Bitcoin, None));
    let words = "Please consider supporting this project";
    assert_eq!(donation.description, Description::Text(words.into()));
    assert_eq!(donation.expiry_seconds(), 3600);
    assert_eq!(donation.expires_at(), 1_496_318_258);
    assert_eq!(donation.min_final_cltv(), CltvDelta(18));

    let coffee = example("Please send $3 for").terms;
    assert_eq!(coffee.amount, Some(Msat(250_000_000)));
    assert_eq!(coffee.description, Description::Text("1 cup coffee".into()));
    assert_eq!(coffee.expiry, Some(60));
    let nonsense = example("Please send 0.0025 BTC").terms;
    assert_eq!(nonsense.description, Description::Text("ナンセンス 1杯".into()));

    let list = example("Now send $24").terms;
    assert_eq!(list.amount, Some(Msat(2_000_000_000)));
    assert!(list.description.describes(LIST) && !list.description.describes("a list"));

    let pico = example("Please send 0.00967878534 BTC").terms;
    assert_eq!(pico.amount, Some(Msat(967_878_534)));
    assert_eq!((pico.expiry, pico.min_final_cltv), (Some(604_800), Some(CltvDelta(10))));

    let metadata = example("Please send 0.01 BTC").terms;
    assert_eq!(metadata.metadata, Some(vec![0x01, 0xfa, 0xfa, 0xf0]));
    assert!(metadata.features.has_bit(48) && metadata.features.has_bit(8));
    assert!(example("Please send $30").terms.features.has_bit(99));
    assert_eq!(example("Same, but all upper").terms, example("Please send $30").terms);
}

#[test]
fn fallbacks_and_routes_are_those_of_the_examples() {
    for (start, address) in [
        ("The same, on testnet", "mk2QpYatsKicvFVuTAQLBryyccRXMUaGHP"),
        ("On mainnet, with fallback address", "1RustyRX2oai4EYYDpQGWvEL62BBGqN9T"),
        ("On mainnet, with fallback (P2SH)", "3EktnHQD7RiAE6uzMj2ZifT9YgRrkSgzQX"),
        ("On mainnet, with fallback (P2WPKH)", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        (
            "On mainnet, with fallback (P2WSH)",
            "bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3",
        ),
        (
            "On mainnet, with fallback (P2TR)",
            "bc1pptdvg0d2nj99568qn6ssdy4cygnwuxgw2ukmnwgwz7jpqjz2kszse2s3lm",
        ),
    ] {
        let terms = example(start).terms;
        let [fallback] = terms.fallbacks.as_slice() else { panic!("{start}: one fallback") };
        assert_eq!(fallback.address(terms.currency).as_deref(), Some(address));
        assert_eq!(Fallback::of_script(&fallback.script()).as_ref(), Some(fallback));
    }
    let routes = example("On mainnet, with fallback address").terms.routes;
    let [route] = routes.as_slice() else { panic!("one route") };
    let said: Vec<_> = route
        .iter()
        .map(|hint| {
            let fees = (hint.fee_base_msat, hint.fee_proportional_millionths);
            (hint.node.to_string(), hint.short_channel_id.to_string(), fees, hint.cltv_expiry_delta)
        })
        .collect();
    let node = |start: &str| {
        format!("{start}9e03a901b85534ff1e92c43c74431f7ce72046060fcf7a95c37e148f78c77255")
    };
    assert_eq!(
        said,
        [
            (node("02"), "66051x263430x1800".into(), (1, 20), 3),
            (node("03"), "197637x395016x2314".into(), (2, 30), 4)
        ]
    );
}

#[test]
fn fields_to_be_passed_over_are_kept() {
    let unknown = example("Same, but including fields").terms.unknown;
    let said: Vec<_> = unknown.iter().map(|f| (f.letter(), f.data.len())).collect();
    assert_eq!(
        said,
        [
            ('2', 3),
            ('f', 33),
            ('p', 51),
            ('p', 53),
            ('h', 51),
            ('h', 53),
            ('s', 51),
            ('s', 53),
            ('n', 52),
            ('n', 54)
        ]
    );
    assert_eq!(unknown[0].text(), "qqq");
}

/// Where the example has its fields in the order in which we write them, we write the very same
/// string.
#[test]
fn examples_are_written_again() {
    let mut same = 0;
    for (title, text) in VALID {
        let invoice = Invoice::decode(text).unwrap();
        let unsigned = invoice.terms.unsigned(None).unwrap();
        let again = unsigned.with_signature(&sign(&unsigned, &key()));
        assert_eq!(Invoice::decode(&again).unwrap().terms, invoice.terms, "{title}");
        same += usize::from(again == text.to_lowercase());
    }
    // Those that begin with s, p and the description, but for the one with a high S.
    assert_eq!(same, 6);
}

#[test]
fn signed_bytes_are_those_of_the_first_example() {
    let unsigned = example("Please make a donation").terms.unsigned(None).unwrap();
    let expected = "6c6e62630b25fe64500d0444444444444444444444444444444444444444444444444444444444444444402\
                    1a00008101820283038404800081018202830384048000810182028303840480810343f506c65617365206\
                    36f6e736964657220737570706f7274696e6720746869732070726f6a6563740500e08000";
    let bytes = Vec::from_hex(expected).unwrap();
    assert_eq!(unsigned.hash(), sha256::Hash::hash(&bytes).to_byte_array());
}

#[test]
fn named_payee_is_believed_only_with_their_signature() {
    let terms = example("Please send $3 for").terms;
    let payee = key().public_key(SECP256K1);
    let unsigned = terms.unsigned(Some(&payee)).unwrap();
    let read = Invoice::decode(&unsigned.with_signature(&sign(&unsigned, &key()))).unwrap();
    assert_eq!((read.payee, read.names_payee), (payee, true));
    let other = SecretKey::from_slice(&[9; 32]).unwrap();
    let forged = unsigned.with_signature(&sign(&unsigned, &other));
    assert!(matches!(Invoice::decode(&forged), Err(InvoiceError::Signature(_))));
}

#[test]
fn invoice_that_does_not_fit_is_not_written() {
    let terms = example("Please send $3 for").terms;
    let refused = |change: &dyn Fn(&mut Terms)| {
        let mut changed = terms.clone();
        change(&mut changed);
        changed.unsigned(None).unwrap_err()
    };
    assert_eq!(refused(&|t| t.amount = Some(Msat(0))), EncodeError::ZeroAmount);
    assert_eq!(refused(&|t| t.timestamp = 1 << 35), EncodeError::Timestamp(1 << 35));
    let long = Description::Text("x".repeat(640));
    assert_eq!(refused(&|t| t.description = long.clone()), EncodeError::TooLong('d'));
    assert_eq!(refused(&|t| t.metadata = Some(vec![1; 640])), EncodeError::TooLong('m'));
    assert_eq!(refused(&|t| t.routes = vec![vec![]]), EncodeError::EmptyRoute);
    let much = UnknownField { tag: 0, data: vec![1; 1000] };
    assert!(matches!(
        refused(&|t| t.unknown = vec![much.clone(); 20]),
        EncodeError::InvoiceTooLong(_)
    ));
}

#[test]
fn amounts_are_read_strictly_and_written_shortest() {
    for (hrp, msat) in [
        ("lnbc", None),
        ("lnbcrt1", Some(100_000_000_000)),
        ("lntbs20m", Some(2_000_000_000)),
        ("lntb1n", Some(100)),
        ("lnbc10p", Some(1)),
        ("lnbcrt21u", Some(2_100_000)),
    ] {
        let (currency, amount) = crate::amount::parse(hrp).unwrap();
        assert_eq!(amount, msat.map(Msat), "{hrp}");
        assert_eq!(crate::amount::format(currency, amount), hrp);
    }
    for hrp in [
        "",
        "ln",
        "lnxx",
        "bc1u",
        "lnbc0",
        "lnbc01u",
        "lnbc1p",
        "lnbc1x",
        "lnbc1mm",
        "lnbc1m1",
        "lnbc99999999999999999999",
        "lnbc18446744073709551615",
        "lnbc21000001",
        "lnbc210000000000000001n",
    ] {
        assert!(crate::amount::parse(hrp).is_err(), "{hrp}");
    }
    assert_eq!(crate::amount::parse("lnbc1000000u").unwrap().1, Some(Msat(100_000_000_000)));
    assert_eq!(crate::amount::parse("lnbc21000000").unwrap().1, Some(Msat::MAX_MONEY));
}
