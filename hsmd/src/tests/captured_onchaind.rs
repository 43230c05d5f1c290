//! A captured onchaind has no socket of hsmd's: its claims reach hsmd as `SignWallet` of the
//! master, with the peer's signatures on whatever both like. What is signed is valid, of its own
//! channel, and pays our own scripts.

use super::claims::{Close, Spend, executed};
use super::*;
use bitcoin::absolute::LockTime;
use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, Sequence, Transaction, TxOut};
use channel::commitment::delayed_script;
use proptest::prelude::*;

/// The peer signs this HTLC transaction of our commitment, as it is.
fn signed_by_accomplice(close: &Close, spend: &Spend) -> Signature {
    let WalletKey::OwnHtlc { htlc, .. } = &spend.key else { panic!("an HTLC of ours") };
    let keys =
        CommitmentKeys::derive(&close.constants.params.basepoints, Side::Local, &close.state.point);
    let htlc_keys = keys.htlc.as_ref().unwrap();
    let anchors = close.constants.format.has_anchors();
    let script = channel::scripts::htlc(&keys.revocation, htlc_keys, Side::Local, htlc, anchors);
    let kind = close.constants.format.htlc_sighash();
    let digest = SighashCache::new(&spend.tx)
        .p2wsh_signature_hash(spend.index as usize, &script, spend.output.value, kind)
        .unwrap();
    let digest = secp256k1::Message::from_digest(*AsRef::<[u8; 32]>::as_ref(&digest));
    SECP256K1.sign_ecdsa(&digest, &peer_keys().htlc_secret(&close.state.point))
}

#[test]
fn htlc_transaction_to_another_script_is_refused_though_signed() {
    for anchors in [true, false] {
        for id in [0, 1] {
            let mut close = Close::new(Side::Local, anchors, 5);
            let mut spend = close.own(id);
            spend.tx.output[0].script_pubkey = script(66);
            let theirs = signed_by_accomplice(&close, &spend);
            let WalletKey::OwnHtlc { signature, .. } = &mut spend.key else { unreachable!() };
            *signature = theirs;
            let answer = close.asked(&spend);
            let refused = |why: &str| why.contains("pays another script than our delayed one");
            assert!(matches!(&answer, Completed::Refused { why } if refused(why)), "{answer:?}");
        }
    }
}

/// BOLT 3, "HTLC-Timeout and HTLC-Success Transactions": with option_anchors the output opens after
/// one block, whatever the peer signs.
#[test]
fn htlc_transaction_that_does_not_wait_one_block_is_refused() {
    for sequence in [0, 0x7cc0_0000, u32::MAX] {
        let mut close = Close::new(Side::Local, true, 5);
        let mut spend = close.own(0);
        spend.tx.input[0].sequence = Sequence(sequence);
        let theirs = signed_by_accomplice(&close, &spend);
        let WalletKey::OwnHtlc { signature, .. } = &mut spend.key else { unreachable!() };
        *signature = theirs;
        let answer = close.asked(&spend);
        let refused = |why: &str| why.contains("does not wait for one block");
        assert!(matches!(&answer, Completed::Refused { why } if refused(why)), "{answer:?}");
    }
}

/// BOLT 3, "to_remote Output": the same with option_anchors; without, it is a plain key's.
#[test]
fn to_remote_that_does_not_wait_one_block_is_refused() {
    for (anchors, sequence, signed) in [
        (true, 0, false),
        (true, 0x7cc0_0000, false),
        (true, u32::MAX, false),
        (true, 1, true),
        (false, 0xffff_fffd, true),
    ] {
        let mut close = Close::new(Side::Remote, anchors, 5);
        let key = WalletKey::ToRemote { peer: peer().node_id, channel: CHANNEL, anchors };
        let spend = close.claim(close.built.to_remote.unwrap(), key, sequence, 0);
        let answer = close.asked(&spend);
        assert_eq!(matches!(answer, Completed::Ready { .. }), signed, "{anchors} {sequence:x}");
    }
}

/// One claim of a captured onchaind: which commitment stands in the chain, an honest claim of it,
/// and what is changed about that.
#[derive(Debug, Clone)]
struct Lie {
    /// 0: ours; 1: the peer's; 2: the peer's, revoked; 3: ours, revoked.
    commitment: u8,
    anchors: bool,
    /// Which output, of HTLCs which HTLC.
    which: u64,
    changes: Vec<(u8, u64)>,
    /// Does the peer sign what comes of it?
    accomplice: bool,
}

fn lie() -> impl Strategy<Value = Lie> {
    let changes = prop::collection::vec((0u8..9, prop_oneof![0u64..8, any::<u64>()]), 0..3);
    (0u8..4, any::<bool>(), 0u64..6, changes, prop::bool::weighted(0.7)).prop_map(
        |(commitment, anchors, which, changes, accomplice)| Lie {
            commitment,
            anchors,
            which,
            changes,
            accomplice,
        },
    )
}

/// A preimage that may be that of an HTLC, or of none.
fn some_preimage(n: u64) -> Option<Preimage> {
    (n % 6 != 5).then_some(Preimage([n as u8; 32]))
}

fn changed(close: &Close, spend: &mut Spend, (what, n): (u8, u64)) {
    let (peer, channel) = (peer().node_id, CHANNEL);
    let htlc = &close.built.htlcs[n as usize % close.built.htlcs.len()].htlc;
    let number = CommitmentNumber(n);
    match what {
        0 => spend.tx.output[0].script_pubkey = script(n as u8),
        1 => spend.tx.output[0].value = Amount::from_sat(n),
        2 => spend.tx.input[0].sequence = Sequence(n as u32),
        3 => spend.tx.lock_time = LockTime::from_consensus(500 + n as u32 % 8),
        4 => spend.key = WalletKey::Delayed { peer, channel, number },
        5 => spend.key = WalletKey::ToRemote { peer, channel, anchors: n % 2 == 0 },
        6 => {
            let secret = close.secret();
            spend.key = WalletKey::RevokedHtlc { peer, channel, secret, htlc: htlc.clone() };
        }
        7 => {
            let at = n as usize % close.built.tx.output.len();
            spend.output = close.built.tx.output[at].clone();
            spend.spent[0] = spend.output.clone();
            spend.tx.input[0].previous_output.vout = at as u32;
        }
        _ => match &mut spend.key {
            WalletKey::OwnHtlc { number: of, htlc: it, preimage, .. } => match n % 3 {
                0 => *of = number,
                1 => *it = htlc.clone(),
                _ => *preimage = some_preimage(n / 3),
            },
            WalletKey::TheirHtlc { point, htlc: it, preimage, .. } => match n % 3 {
                0 => *point = peer_keys().point(CommitmentNumber(n % 8)).unwrap(),
                1 => *it = htlc.clone(),
                _ => *preimage = some_preimage(n / 3),
            },
            WalletKey::RevokedDelayed { secret, .. } | WalletKey::RevokedHtlc { secret, .. } => {
                *secret = peer_keys().secret(CommitmentNumber(n % 8)).unwrap();
            }
            WalletKey::Delayed { .. }
            | WalletKey::ToRemote { .. }
            | WalletKey::Anchor { .. }
            | WalletKey::Address { .. } => spend.key = WalletKey::Address { index: n as u32 },
        },
    }
}

/// The claim that an honest onchaind would make of this output.
fn honest(close: &Close, lie: &Lie) -> Spend {
    let (peer, channel) = (peer().node_id, CHANNEL);
    let built = &close.built;
    match (lie.commitment, lie.which) {
        (0 | 3, id @ 0..4) => close.own(id),
        (0 | 3, _) => {
            let key = WalletKey::Delayed { peer, channel, number: close.state.number };
            close.claim(built.to_local.unwrap(), key, 144, 0)
        }
        (1, id @ 0..4) => close.their(id),
        (1, _) => {
            let key = WalletKey::ToRemote { peer, channel, anchors: lie.anchors };
            close.claim(built.to_remote.unwrap(), key, 1, 0)
        }
        (_, id @ 0..4) => {
            let (at, output) = close.second_stage(id);
            let key = WalletKey::RevokedDelayed { peer, channel, secret: close.secret() };
            Spend::new(at, &output, key, u32::MAX, 0)
        }
        (_, _) => {
            let key = WalletKey::RevokedDelayed { peer, channel, secret: close.secret() };
            close.claim(built.to_local.unwrap(), key, u32::MAX, 0)
        }
    }
}

/// The only part of a claim's transaction that is not lightningd's own: the output that the peer
/// signed.
fn pays_us(close: &Close, tx: &Transaction) -> bool {
    let keys =
        CommitmentKeys::derive(&close.constants.params.basepoints, Side::Local, &close.state.point);
    let ours = delayed_script(&close.constants, &keys, Side::Local).to_p2wsh();
    tx.output.first().is_some_and(|output: &TxOut| output.script_pubkey == ours)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever is signed for a captured onchaind spends an output of its channel by the rules of
    /// consensus; where the peer has signed the transaction too it pays our delayed script; and no
    /// commitment of ours that was revoked becomes of use.
    #[test]
    fn captured_onchaind_has_nothing_signed_that_pays_a_stranger(lie in lie()) {
        let (side, newest) = match lie.commitment {
            0 => (Side::Local, 5),
            1 => (Side::Remote, 5),
            2 => (Side::Remote, 9),
            _ => (Side::Local, 6),
        };
        let mut close = Close::new(side, lie.anchors, newest);
        let mut spend = honest(&close, &lie);
        let before = spend.tx.clone();
        lie.changes.iter().for_each(|change| changed(&close, &mut spend, *change));
        if lie.accomplice && spend.tx != before && matches!(spend.key, WalletKey::OwnHtlc { .. }) {
            let theirs = signed_by_accomplice(&close, &spend);
            if let WalletKey::OwnHtlc { signature, .. } = &mut spend.key {
                *signature = theirs;
            }
        }
        let answer = close.asked(&spend);
        let Completed::Ready { transaction } = answer else {
            let honest = lie.changes.is_empty() && lie.commitment != 3;
            prop_assert!(!honest, "an honest claim is refused: {answer:?}");
            return Ok(());
        };
        prop_assert!(executed(&transaction, spend.index, &spend.output).is_ok());
        if let WalletKey::OwnHtlc { number, .. } = &spend.key {
            prop_assert!(pays_us(&close, &transaction), "{:?}", transaction);
            prop_assert!(number.0 >= newest, "commitment {} is revoked", number);
        }
        // Not a wallet's: the master makes those inputs itself.
        let of_wallet = matches!(spend.key, WalletKey::Address { .. });
        prop_assert!(!of_wallet);
    }
}
