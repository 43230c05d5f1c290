//! What concerns the node as a whole: the secret, wallet, messages, invoices, gossip, onions.

use super::*;
use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, EcdsaSighashType, Sequence, TapSighashType, Transaction, TxIn, TxOut, Witness,
};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use wire::ChannelAnnouncement;

#[test]
fn secret_is_made_once_and_unlocks_once() {
    let folder = folder();
    let path = folder.join("hsm_secret");
    let mut ids = Vec::new();
    for fresh in [true, false] {
        let (_script, mut master, thread) = start();
        let UnlockAnswer::Open { unlocked } = master.ask(&unlock(&path)).unwrap() else { panic!() };
        assert_eq!(unlocked.fresh, fresh);
        ids.push(unlocked.node_id);
        assert!(master.ask(&unlock(&path)).is_err(), "a second time is a bug of the master's");
        assert!(thread.join().unwrap().is_err());
    }
    assert_eq!(ids[0], ids[1]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn secret_that_cannot_be_used_is_refused_with_a_sentence() {
    let folder = folder();
    let path = folder.join("hsm_secret");
    std::fs::write(&path, [1; 31]).unwrap();
    let (_script, mut master, thread) = start();
    let UnlockAnswer::Refused { why } = master.ask(&unlock(&path)).unwrap() else { panic!() };
    assert!(why.contains("31 bytes"), "{why}");
    drop(master);
    assert_eq!(thread.join().unwrap(), Ok(()));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nothing_is_answered_before_the_secret_is_there() {
    let (_script, mut master, thread) = start();
    assert!(master.ask(&MakeSecret { info: Bytes(vec![]) }).is_err());
    assert!(thread.join().unwrap().is_err());
}

#[test]
fn messages_and_secrets_are_those_of_cln() {
    let mut rig = Rig::new();
    let info = Bytes(b"abc".to_vec());
    assert_eq!(rig.master.ask(&MakeSecret { info }).unwrap(), us().make_secret(b"abc"));

    let message = Bytes(b"hello".to_vec());
    let [id, signature @ ..] = rig.master.ask(&SignMessage { message }).unwrap();
    let digest = sha256d::Hash::hash(b"Lightning Signed Message:hello").to_byte_array();
    assert_eq!(recovered(id, &signature, digest), rig.unlocked.node_id);
}

fn recovered(id: u8, signature: &[u8], digest: [u8; 32]) -> NodeId {
    let id = RecoveryId::from_i32(id.into()).unwrap();
    let signature = RecoverableSignature::from_compact(signature, id).unwrap();
    let digest = secp256k1::Message::from_digest(digest);
    SECP256K1.recover_ecdsa(&digest, &signature).unwrap().into()
}

#[test]
fn invoice_is_signed_over_its_bits_as_bytes() {
    // BOLT 11, "Please make a donation of any amount": what is signed, and its hash.
    const LETTERS: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let data = "pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq";
    let hash = "6daf4d488be41ce7cbb487cab1ef2975e5efcea879b20d421f0ef86b07cbb987";
    let five = data.chars().map(|c| LETTERS.find(c).unwrap() as u8).collect();
    let mut rig = Rig::new();
    let question = SignInvoice { hrp: "lnbc".to_owned(), data: Bytes(five) };
    let [signature @ .., id] = rig.master.ask(&question).unwrap();
    let digest = hex::FromHex::from_hex(hash).unwrap();
    assert_eq!(recovered(id, &signature, digest), rig.unlocked.node_id);
}

#[test]
fn onions_are_peeled_in_batches_and_answered_with_keys_only() {
    let mut rig = Rig::new();
    let mut channeld = rig.client(&[Capability::Peel], None);
    let ephemeral = peer().node_id.point().unwrap();
    let plain = OnionPoint { ephemeral, path_key: None };
    let blinded = OnionPoint { ephemeral, path_key: Some(ephemeral) };
    let onions = vec![plain.clone(), blinded, plain.clone()];
    let keys = channeld.ask(&PeelOnions { onions }).unwrap();
    let shared = onion::shared_secret(&us().node_id.point().unwrap(), &peer().node);
    assert_eq!(keys[0], onion::onion_keys(&shared, &ephemeral));
    assert_eq!(keys[0], keys[2]);
    assert_ne!(keys[0].rho, keys[1].rho);
    let many = PeelOnions { onions: vec![plain; 967] };
    rig.refuses(channeld, &many, "967 onions");
}

#[test]
fn announcement_is_signed_by_node_and_funding_key() {
    let mut rig = Rig::new();
    let mut channeld = rig.client(EVERYTHING, Some(seed(0)));
    let short_channel_id = ShortChannelId::new(100, 1, 0).unwrap();
    let features = Features::none().with(0);
    let question = SignAnnouncement { short_channel_id, features: features.clone() };
    let (node_signature, bitcoin_signature) = channeld.ask(&question).unwrap();

    let (ours, theirs) = (us().node_id, peer().node_id);
    let (our_key, their_key) =
        (our_keys().points.funding.into(), peer_keys().points.funding.into());
    let (ids, keys) = if ours.0 < theirs.0 {
        ((ours, theirs), (our_key, their_key))
    } else {
        ((theirs, ours), (their_key, our_key))
    };
    let announcement = ChannelAnnouncement {
        node_signature_1: node_signature,
        node_signature_2: node_signature,
        bitcoin_signature_1: bitcoin_signature,
        bitcoin_signature_2: bitcoin_signature,
        features,
        chain_hash: Network::Regtest.chain_hash(),
        short_channel_id,
        node_id_1: ids.0,
        node_id_2: ids.1,
        bitcoin_key_1: keys.0,
        bitcoin_key_2: keys.1,
    };
    // The type's two bytes and four signatures of 64 are not part of it.
    let digest = sha256d::Hash::hash(&announcement.encode()[258..]).to_byte_array();
    let digest = secp256k1::Message::from_digest(digest);
    SECP256K1.verify_ecdsa(&digest, &node_signature, &ours.point().unwrap()).unwrap();
    SECP256K1.verify_ecdsa(&digest, &bitcoin_signature, &our_keys().points.funding).unwrap();

    // The peer's half of the same is checked, one signature and the other.
    let node_signature = SECP256K1.sign_ecdsa(&digest, &peer().node);
    let bitcoin_signature = SECP256K1.sign_ecdsa(&digest, &peer_keys().funding);
    let good = CheckAnnouncement {
        short_channel_id,
        features: announcement.features.clone(),
        node_signature,
        bitcoin_signature,
    };
    assert_eq!(channeld.ask(&good).unwrap(), Verdict::Good);
    for (bad, what) in [
        (CheckAnnouncement { node_signature: bitcoin_signature, ..good.clone() }, "node"),
        (CheckAnnouncement { bitcoin_signature: node_signature, ..good.clone() }, "bitcoin"),
        (CheckAnnouncement { short_channel_id: ShortChannelId(1), ..good.clone() }, "node"),
    ] {
        let why = format!("the {what}_signature does not hold");
        assert_eq!(channeld.ask(&bad).unwrap(), Verdict::Bad { why });
    }
}

#[test]
fn channel_update_is_signed_if_it_is_one() {
    let mut rig = Rig::new();
    let update = |chain_hash: [u8; 32]| {
        let mut bytes = chain_hash.to_vec();
        bytes.extend_from_slice(&[0; 8 + 4 + 2 + 2 + 8 + 4 + 4 + 8]);
        Bytes(bytes)
    };
    let unsigned = update(Network::Regtest.chain_hash());
    let mut engine = sha256d::Hash::engine();
    engine.input(&unsigned.0);
    let digest = sha256d::Hash::from_engine(engine).to_byte_array();
    let signature = rig.master.ask(&SignChannelUpdate { unsigned }).unwrap();
    let digest = secp256k1::Message::from_digest(digest);
    SECP256K1.verify_ecdsa(&digest, &signature, &us().node_id.point().unwrap()).unwrap();
    // Anything else would be a signature on whatever one likes.
    for bad in [update([0; 32]), Bytes(b"anything".to_vec())] {
        let (_script, mut master, thread) = start();
        let path = rig.folder.join("hsm_secret");
        master.ask(&unlock(&path)).unwrap();
        assert!(master.ask(&SignChannelUpdate { unsigned: bad }).is_err());
        assert!(thread.join().unwrap().is_err());
    }
}

/// A transaction of so many inputs of the wallet, each of another address.
pub(crate) fn spending_of(count: usize) -> SignWallet {
    let key = crate::wallet::address_key(&us(), 3).unwrap();
    let script = crate::wallet::p2tr(&Point::from_secret_key(SECP256K1, &key));
    let input = |vout| TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([1; 32]), vout },
        ..TxIn::default()
    };
    let ours = |index| WalletInput {
        index,
        key: WalletKey::Address { index: 3 },
        amount: Sat(1000),
        script: script.clone(),
    };
    let count = u32::try_from(count).unwrap();
    let spent = SpentOutput { amount: Sat(1000), script: script.clone() };
    SignWallet {
        transaction: Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: (0..count).map(input).collect(),
            output: vec![TxOut { value: Amount::from_sat(100), script_pubkey: script.clone() }],
        },
        inputs: Long((0..count).map(ours).collect()),
        spent: Long(vec![spent; count as usize]),
    }
}

/// A transaction that spends one output of each kind of ours, and one that is not ours.
fn spending() -> (Transaction, Vec<WalletInput>, Vec<SpentOutput>) {
    let key = |index| {
        Point::from_secret_key(SECP256K1, &crate::wallet::address_key(&us(), index).unwrap())
    };
    let payment = our_keys().points.payment;
    let to_remote =
        |anchors| WalletKey::ToRemote { peer: peer().node_id, channel: CHANNEL, anchors };
    let ours = [
        (WalletKey::Address { index: 3 }, crate::wallet::p2wpkh(&key(3))),
        (WalletKey::Address { index: 3 }, crate::wallet::p2tr(&key(3))),
        (to_remote(false), crate::wallet::p2wpkh(&payment)),
        (to_remote(true), channel::scripts::to_remote_anchors(&payment).to_p2wsh()),
    ];
    let mut spent: Vec<_> = (10_000u64..)
        .zip(&ours)
        .map(|(n, (_, script))| SpentOutput { amount: Sat(n), script: script.clone() })
        .collect();
    spent.push(SpentOutput { amount: Sat(99_999), script: script(9) });
    let inputs = (0u32..)
        .zip(ours)
        .map(|(index, (key, script))| WalletInput {
            index,
            key,
            amount: Sat(10_000 + u64::from(index)),
            script,
        })
        .collect();
    let input = |n: u8| TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([n; 32]), vout: 0 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence(1),
        witness: Witness::from_slice(&[[n]]),
    };
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: (0..5).map(input).collect(),
        output: vec![TxOut { value: Amount::from_sat(100), script_pubkey: script(1) }],
    };
    (tx, inputs, spent)
}

#[test]
fn outputs_of_each_kind_are_spent_with_a_good_signature() {
    let mut rig = Rig::new();
    let (tx, inputs, spent) = spending();
    let question =
        SignWallet { transaction: tx.clone(), inputs: Long(inputs), spent: Long(spent.clone()) };
    let Completed::Ready { transaction: signed } = rig.master.ask(&question).unwrap() else {
        panic!("refused")
    };
    assert_eq!(signed.compute_txid(), tx.compute_txid());
    assert_eq!(signed.input[4].witness, tx.input[4].witness, "not ours: left as it was");

    let prevouts: Vec<_> = spent
        .iter()
        .map(|s| TxOut { value: Amount::from_sat(s.amount.0), script_pubkey: s.script.clone() })
        .collect();
    let mut cache = SighashCache::new(&signed);
    let ecdsa = |witness: &Witness, digest: [u8; 32], key: &Point| {
        let (kind, der) = witness[0].split_last().unwrap();
        assert_eq!(*kind, EcdsaSighashType::All as u8);
        let signature = Signature::from_der(der).unwrap();
        let digest = secp256k1::Message::from_digest(digest);
        SECP256K1.verify_ecdsa(&digest, &signature, key).unwrap();
    };
    let address = Point::from_secret_key(SECP256K1, &crate::wallet::address_key(&us(), 3).unwrap());
    let payment = our_keys().points.payment;
    for (at, key) in [(0, address), (2, payment)] {
        let (script, value) = (&prevouts[at].script_pubkey, prevouts[at].value);
        let kind = EcdsaSighashType::All;
        let digest = cache.p2wpkh_signature_hash(at, script, value, kind).unwrap().to_byte_array();
        ecdsa(&signed.input[at].witness, digest, &key);
        assert_eq!(signed.input[at].witness[1], key.serialize());
    }
    let script = channel::scripts::to_remote_anchors(&payment);
    let kind = EcdsaSighashType::All;
    let digest =
        cache.p2wsh_signature_hash(3, &script, prevouts[3].value, kind).unwrap().to_byte_array();
    ecdsa(&signed.input[3].witness, digest, &payment);
    assert_eq!(signed.input[3].witness[1], *script.as_bytes());

    let all = Prevouts::All(&prevouts);
    let digest = cache.taproot_key_spend_signature_hash(1, &all, TapSighashType::Default).unwrap();
    let signature = secp256k1::schnorr::Signature::from_slice(&signed.input[1].witness[0]).unwrap();
    let output =
        secp256k1::XOnlyPublicKey::from_slice(&prevouts[1].script_pubkey.as_bytes()[2..]).unwrap();
    let digest = secp256k1::Message::from_digest(digest.to_byte_array());
    SECP256K1.verify_schnorr(&signature, &digest, &output).unwrap();
}

#[test]
fn input_that_is_not_what_it_is_said_to_be_is_not_signed() {
    let refused = |change: &dyn Fn(&mut Vec<WalletInput>, &mut Vec<SpentOutput>)| {
        let (tx, mut inputs, mut spent) = spending();
        change(&mut inputs, &mut spent);
        crate::wallet::sign(&us(), |_| None, tx, &inputs, &spent).unwrap_err()
    };
    assert!(refused(&|_, s| s.truncate(4)).contains("4 outputs are spent by 5 inputs"));
    assert!(refused(&|i, _| i[0].index = 5).contains("no such input"));
    assert!(refused(&|i, _| i[0].amount = Sat(1)).contains("another output"));
    assert!(refused(&|i, _| i[0].key = WalletKey::Address { index: 4 }).contains("does not make"));
    assert!(refused(&|i, _| i[0].key = WalletKey::Address { index: 1 << 31 }).contains("address"));
}

#[test]
fn sandbox_call_comes_once_the_secret_is_read() {
    let folder = folder();
    let path = folder.join("hsm_secret");
    let (script, child) = ScriptedMaster::new();
    let (ours, theirs) = stream_pair().unwrap();
    script.order(&HsmdInit {}, vec![theirs]);
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        crate::run(child, move || {
            tell.send(()).unwrap();
            Ok(())
        })
    });
    let mut master = Hsm::new(ours);
    assert!(told.try_recv().is_err());
    master.ask(&unlock(&path)).unwrap();
    told.recv().unwrap();
    drop(master);
    thread.join().unwrap().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}
