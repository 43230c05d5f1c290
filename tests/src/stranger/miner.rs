//! Who mines: the owner of the coins that tests spend beside the node's.

use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, CompressedPublicKey, EcdsaSighashType, ScriptBuf, Transaction, Witness};
use channel::scripts::der;
use primitives::SecretKey;
use secp256k1::{Message, SECP256K1};

/// The key 1: blocks that no test wants go to it.
pub fn miner_key() -> SecretKey {
    SecretKey::from_slice(&{
        let mut one = [0; 32];
        one[31] = 1;
        one
    })
    .unwrap()
}
/// Its P2WPKH.
pub fn miner_script() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(miner_key().public_key(SECP256K1)).wpubkey_hash())
}
/// Signs an input that spends one of its coins.
pub fn sign_miner_input(tx: &mut Transaction, input: usize, value: Amount) {
    let hash = SighashCache::new(&*tx)
        .p2wpkh_signature_hash(input, &miner_script(), value, EcdsaSighashType::All)
        .unwrap();
    let digest = Message::from_digest(*AsRef::<[u8; 32]>::as_ref(&hash));
    let signature = SECP256K1.sign_ecdsa(&digest, &miner_key());
    let point = miner_key().public_key(SECP256K1).serialize();
    tx.input[input].witness =
        Witness::from_slice(&[der(&signature, EcdsaSighashType::All), point.to_vec()]);
}
