//! BOLT 3, appendices C and F: every commitment and HTLC transaction, down to the signatures.

use super::*;
use crate::keys;
use hex::FromHex;
use wire::Long;
use wire::channel_data::{Basepoints, ChannelParams, Terms};

#[path = "vectors_anchors.rs"]
mod vectors_anchors;
#[path = "vectors_static.rs"]
mod vectors_static;

/// One case of the appendices.
struct Vector {
    name: &'static str,
    to_local: u64,
    to_remote: u64,
    feerate: u32,
    dust_limit: u64,
    base_fee: Option<u64>,
    htlcs: &'static [u64],
    remote_signature: &'static str,
    tx: &'static str,
    /// In output order: the remote's signature, the whole transaction.
    htlc_txs: &'static [(&'static str, &'static str)],
}

const LOCAL_FUNDING: &str = "30ff4956bbdd3222d44cc5e8a1261dab1e07957bdac5ae88fe3261ef321f3749";
const REMOTE_FUNDING: &str = "1552dfba4f6cf29a62a0af13c8d6981d36d0ef8d61ba10fb0fe90da7634d7e13";
const LOCAL_PAYMENT: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const REMOTE_REVOCATION: &str = "2222222222222222222222222222222222222222222222222222222222222222";
const LOCAL_DELAYED: &str = "3333333333333333333333333333333333333333333333333333333333333333";
const REMOTE_PAYMENT: &str = "4444444444444444444444444444444444444444444444444444444444444444";
const COMMITMENT_SECRET: &str = "1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100";

fn key(text: &str) -> SecretKey {
    SecretKey::from_slice(&<[u8; 32]>::from_hex(text).unwrap()).unwrap()
}
fn point(text: &str) -> Point {
    Point::from_secret_key(SECP256K1, &key(text))
}

fn constants(vector: &Vector, channel_type: &[FeatureBit]) -> Constants {
    let terms = |to_self_delay| Terms {
        dust_limit: Sat(vector.dust_limit),
        max_in_flight: Msat(u64::MAX),
        reserve: Sat(0),
        htlc_minimum: Msat(0),
        to_self_delay,
        max_accepted_htlcs: 483,
    };
    let mut txid =
        <[u8; 32]>::from_hex("8984484a580b825b9972d7adb15050b3ab624ccd731946b3eeddb92f4e7ef6be")
            .unwrap();
    txid.reverse();
    let txid = bitcoin::hashes::Hash::from_byte_array(txid);
    Constants::new(ChannelParams {
        opener: Side::Local,
        funding: OutPoint { txid, vout: 0 },
        amount: Sat(10_000_000),
        push: Msat(0),
        channel_type: Features::compulsory(channel_type),
        // The delay that local's commitment has is the one that remote demanded.
        terms: Sides { local: terms(1), remote: terms(144) },
        basepoints: Sides {
            local: Basepoints {
                funding: point(LOCAL_FUNDING),
                revocation: point(LOCAL_PAYMENT),
                payment: point(LOCAL_PAYMENT),
                delayed_payment: point(LOCAL_DELAYED),
                htlc: point(LOCAL_PAYMENT),
            },
            remote: Basepoints {
                funding: point(REMOTE_FUNDING),
                revocation: point(REMOTE_REVOCATION),
                payment: point(REMOTE_PAYMENT),
                delayed_payment: point(REMOTE_PAYMENT),
                htlc: point(REMOTE_PAYMENT),
            },
        },
    })
    .unwrap()
}

fn test_htlc(number: u64) -> Htlc {
    let (offered_by, amount, expiry, preimage) = match number {
        0 => (Side::Remote, 1_000_000, 500, 0),
        1 => (Side::Remote, 2_000_000, 501, 1),
        2 => (Side::Local, 2_000_000, 502, 2),
        3 => (Side::Local, 3_000_000, 503, 3),
        4 => (Side::Remote, 4_000_000, 504, 4),
        5 => (Side::Local, 5_000_000, 506, 5),
        _ => (Side::Local, 5_000_001, 505, 5),
    };
    Htlc {
        offered_by,
        id: HtlcId(number),
        amount: Msat(amount),
        payment_hash: Preimage([preimage; 32]).hash(),
        expiry: BlockHeight(expiry),
    }
}

fn state(vector: &Vector) -> CommitmentState {
    CommitmentState {
        side: Side::Local,
        number: CommitmentNumber(42),
        point: point(COMMITMENT_SECRET),
        feerate: FeeratePerKw(vector.feerate),
        balance: Sides { local: Msat(vector.to_local), remote: Msat(vector.to_remote) },
        htlcs: Long(vector.htlcs.iter().map(|n| test_htlc(*n)).collect()),
    }
}

fn signature(der: &str) -> Signature {
    Signature::from_der(&Vec::<u8>::from_hex(der).unwrap()).unwrap()
}
fn transaction(hex: &str) -> Transaction {
    bitcoin::consensus::deserialize(&Vec::<u8>::from_hex(hex).unwrap()).unwrap()
}

fn check(vector: &Vector, channel_type: &[FeatureBit]) {
    let name = vector.name;
    let constants = constants(vector, channel_type);
    assert_eq!(constants.obscure, 0x2bb0_3852_1914);
    let state = state(vector);
    let keys = CommitmentKeys::derive(&constants.params.basepoints, Side::Local, &state.point);
    let built = build(&constants, keys, &state).unwrap();
    assert_eq!(number_in(&constants, &built.tx), Some(CommitmentNumber(42)), "{name}");
    if let Some(fee) = vector.base_fee {
        assert_eq!(built.tally.fee, Sat(fee), "{name}");
    }

    let remote = CommitmentSignatures {
        signature: signature(vector.remote_signature),
        htlcs: vector.htlc_txs.iter().map(|(s, _)| signature(s)).collect(),
    };
    assert_eq!(built.verify(&constants, &remote), Ok(()), "{name}");

    let htlc_key = |secret: &str| keys::derive_secret(&key(secret), &point(secret), &state.point);
    let (ours, theirs) = (htlc_key(LOCAL_PAYMENT), htlc_key(REMOTE_PAYMENT));
    for (output, (remote_signature, tx)) in built.htlcs.iter().zip(vector.htlc_txs) {
        let kind = constants.format.htlc_sighash();
        let by_remote = SECP256K1.sign_ecdsa(&output.sighash(kind), &theirs);
        assert_eq!(by_remote, signature(remote_signature), "{name}");
        let by_local = SECP256K1.sign_ecdsa(&output.sighash(EcdsaSighashType::All), &ours);
        let preimage = Preimage([output.htlc.id.0.min(5) as u8; 32]);
        let preimage = (output.htlc.offered_by == Side::Remote).then_some(&preimage);
        let mut whole = output.tx.clone();
        whole.input[0].witness =
            scripts::htlc_witness(&output.script, (&by_remote, kind), &by_local, preimage);
        assert_eq!(whole, transaction(tx), "{name}");
    }

    let digest = built.sighash(&constants);
    assert_eq!(SECP256K1.sign_ecdsa(&digest, &key(REMOTE_FUNDING)), remote.signature, "{name}");
    let local = SECP256K1.sign_ecdsa(&digest, &key(LOCAL_FUNDING));
    let whole = built.signed(&constants, &Sides { local, remote: remote.signature });
    assert_eq!(whole, transaction(vector.tx), "{name}");
}

#[test]
fn commitments_with_static_remotekey_are_those_of_appendix_c() {
    assert_eq!(vectors_static::VECTORS.len(), 16);
    for vector in vectors_static::VECTORS {
        check(vector, &[feature::STATIC_REMOTEKEY]);
    }
}

#[test]
fn commitments_with_anchors_are_those_of_appendix_f() {
    assert_eq!(vectors_anchors::VECTORS.len(), 9);
    for vector in vectors_anchors::VECTORS {
        check(vector, &[feature::STATIC_REMOTEKEY, feature::ANCHORS]);
    }
}

#[test]
fn example_of_the_fee_section_comes_out() {
    // BOLT 3, "Fee Calculation", "Example".
    let vector = Vector { dust_limit: 546, ..Vector::NONE };
    let constants = constants(&vector, &[feature::STATIC_REMOTEKEY]);
    let htlcs = [
        (Side::Local, Msat(5_000_000)),
        (Side::Local, Msat(1_000_000)),
        (Side::Remote, Msat(7_000_000)),
        (Side::Remote, Msat(800_000)),
    ];
    let tally =
        tally(&constants, Side::Local, FeeratePerKw(5000), Sides::default(), htlcs.into_iter());
    assert_eq!((tally.untrimmed, tally.fee, tally.dust), (2, Sat(5340), Msat(1_800_000)));
}

impl Vector {
    const NONE: Self = Self {
        name: "",
        to_local: 7_000_000_000,
        to_remote: 3_000_000_000,
        feerate: 253,
        dust_limit: 546,
        base_fee: None,
        htlcs: &[],
        remote_signature: "",
        tx: "",
        htlc_txs: &[],
    };
}

#[test]
fn description_that_is_not_this_channel_is_not_built() {
    let constants = constants(&Vector::NONE, &[feature::STATIC_REMOTEKEY, feature::ANCHORS]);
    let good = state(&Vector { htlcs: &[2], to_local: 6_998_000_000, ..Vector::NONE });
    let try_build = |state: &CommitmentState| {
        let keys = CommitmentKeys::derive(&constants.params.basepoints, Side::Local, &state.point);
        build(&constants, keys, state).map(|_| ())
    };
    assert_eq!(try_build(&good), Ok(()));

    let mut more = good.clone();
    more.balance.local.0 += 1;
    let (amount, parts) = (Msat(10_000_000_000), Msat(10_000_000_001));
    assert_eq!(try_build(&more), Err(Unbuildable::Balance { amount, parts }));

    let mut late = good.clone();
    late.htlcs.0[0].expiry = BlockHeight(EXPIRY_LIMIT);
    assert_eq!(try_build(&late), Err(Unbuildable::Expiry(BlockHeight(EXPIRY_LIMIT))));

    let mut far = good.clone();
    far.number = CommitmentNumber(1 << 48);
    assert_eq!(try_build(&far), Err(Unbuildable::Number(far.number)));

    // The opener has not even the anchors' price, and the other has nearly all.
    let mut poor = state(&Vector { to_local: 100_000, to_remote: 9_999_900_000, ..Vector::NONE });
    poor.feerate = FeeratePerKw(0);
    let (amount, outputs) = (Sat(10_000_000), Sat(10_000_230));
    assert_eq!(try_build(&poor), Err(Unbuildable::Overspent { amount, outputs }));
}

#[test]
fn channel_types_have_a_format_only_if_we_can_build_them() {
    let of =
        |bits: &[FeatureBit]| Format::of(&bits.iter().fold(Features::none(), |f, b| f.with(*b)));
    assert_eq!(of(&[12]), Some(Format::StaticRemoteKey));
    assert_eq!(of(&[12, 22]), Some(Format::Anchors));
    assert_eq!(of(&[12, 22, 46, 50]), Some(Format::Anchors));
    for bits in [&[][..], &[22], &[13], &[12, 23], &[12, 20], &[12, 22, 40], &[46]] {
        assert_eq!(of(bits), None, "{bits:?}");
    }
}
