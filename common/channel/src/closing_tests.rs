use super::*;
use crate::testing::{base_secret, params};
use bitcoin::hashes::Hash;
use bitcoin::{WPubkeyHash, WScriptHash};

fn state(local: u64, remote: u64, fee: u64) -> ClosingState {
    ClosingState {
        balance: Sides { local: Msat(local), remote: Msat(remote) },
        script: Sides {
            local: ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([1; 20])),
            remote: ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([2; 32])),
        },
        fee: Sat(fee),
    }
}
fn constants() -> Constants {
    Constants::new(params(true)).unwrap()
}
fn paid(closing: &Closing) -> Vec<u64> {
    closing.tx.output.iter().map(|o| o.value.to_sat()).collect()
}

#[test]
fn closing_pays_whole_satoshis_and_the_opener_pays_the_fee() {
    let (c, s) = (constants(), state(700_000_999, 299_999_001, 500));
    let kept = our_choice(&c, &s).unwrap();
    let closing = build(&c, &s, kept).unwrap();
    assert_eq!(paid(&closing), [299_999, 699_500]);
    assert_eq!((closing.tx.version, closing.tx.lock_time), (Version::TWO, LockTime::ZERO));
    assert_eq!(closing.tx.input[0].sequence, Sequence::MAX);
}

#[test]
fn outputs_below_our_dust_limit_go_to_the_fee() {
    let (c, s) = (constants(), state(999_455_000, 545_000, 500));
    let kept = our_choice(&c, &s).unwrap();
    assert_eq!(kept, Kept { local: true, remote: false });
    assert_eq!(paid(&build(&c, &s, kept).unwrap()), [998_955]);
    let nothing = Kept { local: false, remote: false };
    assert_eq!(build(&c, &s, nothing), Err(BadClosing::NoOutput));
}

#[test]
fn closing_that_does_not_add_up_is_refused() {
    let c = constants();
    let (amount, parts) = (Msat(1_000_000_000), Msat(1_000_000_001));
    assert_eq!(payouts(&c, &state(parts.0, 0, 0)), Err(BadClosing::Balance { amount, parts }));
    let refused = BadClosing::Fee { fee: Sat(1001), balance: Sat(1000) };
    assert_eq!(payouts(&c, &state(1_000_000, 999_000_000, 1001)), Err(refused));
    // Kept though nobody would relay it.
    let s = state(999_700_000, 300_000, 0);
    let refused = BadClosing::Dust { side: Side::Remote, amount: Sat(300), limit: Sat(330) };
    assert_eq!(build(&c, &s, Kept { local: true, remote: true }), Err(refused));
}

#[test]
fn variant_that_the_peer_signed_is_found() {
    let (c, s) = (constants(), state(900_000_000, 100_000_000, 1000));
    let key = base_secret(Side::Remote, 0);
    for kept in [Kept { local: true, remote: true }, Kept { local: true, remote: false }] {
        let theirs = build(&c, &s, kept).unwrap();
        let signature = SECP256K1.sign_ecdsa(&theirs.sighash(&c), &key);
        assert_eq!(signed_by_peer(&c, &s, &signature), Ok(Some(theirs)));
    }
    // Never without what is ours.
    let robbed = build(&c, &s, Kept { local: false, remote: true }).unwrap();
    let signature = SECP256K1.sign_ecdsa(&robbed.sighash(&c), &key);
    assert_eq!(signed_by_peer(&c, &s, &signature), Ok(None));
}

#[test]
fn expected_weight_is_the_most_that_a_signed_closing_weighs() {
    let (c, s) = (constants(), state(900_000_000, 100_000_000, 1000));
    let closing = build(&c, &s, Kept { local: true, remote: true }).unwrap();
    let signature = SECP256K1.sign_ecdsa(&closing.sighash(&c), &base_secret(Side::Local, 0));
    let signed = closing.signed(&c, &Sides { local: signature, remote: signature });
    let (weight, expected) = (signed.weight().to_wu(), weight(&s.script));
    assert!(expected >= weight && expected - weight <= 6, "{weight} of {expected}");
}

/// BOLT 3, "Closing Transaction": 4 weight units for each of the 51 bytes around the outputs and of
/// the outputs, 224 for the witness.
#[test]
fn closing_weight_is_that_of_the_longest_signatures() {
    let p2wpkh = ScriptBuf::from_bytes(vec![0; 22]);
    let p2tr = ScriptBuf::from_bytes(vec![0; 34]);
    let op_return = ScriptBuf::from_bytes(vec![0; 83]);
    for (local, remote) in [(&p2wpkh, &p2wpkh), (&p2wpkh, &p2tr), (&op_return, &p2tr)] {
        let outputs = (9 + local.len() + 9 + remote.len()) as u64;
        let scripts = Sides { local: local.clone(), remote: remote.clone() };
        assert_eq!(weight(&scripts), 4 * (51 + outputs) + 224);
    }
}
