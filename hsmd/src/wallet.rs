//! The wallet's own outputs: whose key each is, and its witness.

use crate::blinding::secp;
use crate::channel::Channel;
use crate::channel_keys::ChannelKeys;
use crate::claims::{self, ScriptForm};
use crate::derive::NodeKeys;
use bitcoin::bip32::ChildNumber;
use bitcoin::hashes::Hash;
use bitcoin::key::TapTweak;
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{
    Amount, CompressedPublicKey, EcdsaSighashType, ScriptBuf, TapSighashType, Transaction, TxOut,
    Witness,
};
use channel::scripts::{der, to_remote_anchors, to_remote_plain};
use primitives::{Point, SecretKey, SigningKey};
use secp256k1::{Keypair, Message, SECP256K1};
use wire::hsm::{SpentOutput, WalletInput, WalletKey};

/// A refusal that names the input.
fn refuse(input: &WalletInput, why: impl std::fmt::Display) -> String {
    format!("input {}: {why}", input.index)
}

/// The secret key of address `index`.
pub(crate) fn address_key(node: &NodeKeys, index: u32) -> Result<SigningKey, String> {
    let child = ChildNumber::from_normal_idx(index).map_err(|e| format!("address {index}: {e}"))?;
    let mut child =
        node.wallet.derive_priv(&secp(), &[child]).map_err(|e| format!("address {index}: {e}"))?;
    let key = SigningKey::new(child.private_key);
    child.private_key.non_secure_erase();
    Ok(key)
}

/// The script of an address key in BIP 84's form.
pub(crate) fn p2wpkh(key: &Point) -> ScriptBuf {
    to_remote_plain(key)
}
/// The script of an address key in BIP 86's form.
pub(crate) fn p2tr(key: &Point) -> ScriptBuf {
    ScriptBuf::new_p2tr(SECP256K1, key.x_only_public_key().0, None)
}

/// Puts our witnesses in. Everything is checked before anything is signed. `channel` knows the
/// channels whose commitments' outputs may be signed for.
pub(crate) fn sign<'a>(
    node: &NodeKeys,
    channel: impl Fn(&WalletKey) -> Option<&'a Channel>,
    mut tx: Transaction,
    inputs: &[WalletInput],
    spent: &[SpentOutput],
) -> Result<Transaction, String> {
    if spent.len() != tx.input.len() {
        return Err(format!("{} outputs are spent by {} inputs", spent.len(), tx.input.len()));
    }
    if inputs.len() > tx.input.len() {
        return Err(format!("{} of {} inputs are to be signed", inputs.len(), tx.input.len()));
    }
    let prevouts: Vec<TxOut> = spent
        .iter()
        .map(|s| TxOut { value: Amount::from_sat(s.amount.0), script_pubkey: s.script.clone() })
        .collect();
    let mut witnesses = Vec::with_capacity(inputs.len());
    let (mut cache, mut last) = (SighashCache::new(&tx), claims::LastKeys::default());
    for input in inputs {
        let at = input.index as usize;
        let named = spent.get(at).ok_or_else(|| refuse(input, "there is no such input"))?;
        if (named.amount, &named.script) != (input.amount, &input.script) {
            return Err(refuse(input, "it spends another output than was said"));
        }
        let (key, form) =
            key_of(node, &channel, &tx, input, &mut last).map_err(|why| refuse(input, why))?;
        let witness = witness(&mut cache, &prevouts, input, &key, form);
        witnesses.push((at, witness.map_err(|why| refuse(input, why))?));
    }
    for (at, witness) in witnesses {
        if let Some(input) = tx.input.get_mut(at) {
            input.witness = witness;
        }
    }
    Ok(tx)
}

/// How an output of ours is locked.
pub(crate) enum Form {
    P2wpkh,
    Taproot,
    Script(ScriptForm),
}

fn key_of<'a>(
    node: &NodeKeys,
    channel: &impl Fn(&WalletKey) -> Option<&'a Channel>,
    tx: &Transaction,
    input: &WalletInput,
    last: &mut claims::LastKeys,
) -> Result<(SigningKey, Form), String> {
    let (key, point, forms) = match &input.key {
        WalletKey::Address { index } => {
            let key = address_key(node, *index)?;
            let point = Point::from_secret_key(&secp(), &key);
            (key, point, [(p2wpkh(&point), Form::P2wpkh), (p2tr(&point), Form::Taproot)])
        }
        WalletKey::ToRemote { peer, channel, .. } => {
            // Long after the channel is forgotten it is a coin of the wallet.
            let keys = ChannelKeys::derive(node, peer, *channel).ok_or("no such channel")?;
            let point = keys.points.payment;
            let script = to_remote_anchors(&point);
            let anchors = Form::Script(ScriptForm::plain(script.clone()));
            (
                keys.payment.clone(),
                point,
                [(p2wpkh(&point), Form::P2wpkh), (script.to_p2wsh(), anchors)],
            )
        }
        WalletKey::Delayed { .. }
        | WalletKey::OwnHtlc { .. }
        | WalletKey::TheirHtlc { .. }
        | WalletKey::RevokedDelayed { .. }
        | WalletKey::RevokedHtlc { .. }
        | WalletKey::Anchor { .. } => {
            let (key, form) = claims::key_of(channel(&input.key), tx, input, last)?;
            return Ok((key, Form::Script(form)));
        }
    };
    let found = forms.into_iter().find(|(script, _)| *script == input.script);
    match found {
        None => Err(format!("{point} does not make its script {:x}", input.script)),
        // BOLT 3, "to_remote Output": with option_anchors it opens after one block.
        Some((_, Form::Script(_))) if !claims::waits(tx, input, 1) => {
            Err("it does not wait for one block".to_owned())
        }
        Some((_, form)) => Ok((key, form)),
    }
}

fn witness(
    cache: &mut SighashCache<&Transaction>,
    prevouts: &[TxOut],
    input: &WalletInput,
    key: &SecretKey,
    form: Form,
) -> Result<Witness, String> {
    let (at, value) = (input.index as usize, Amount::from_sat(input.amount.0));
    let ecdsa = |digest: [u8; 32]| {
        der(&secp().sign_ecdsa_low_r(&Message::from_digest(digest), key), EcdsaSighashType::All)
    };
    match form {
        Form::P2wpkh => {
            let digest = cache
                .p2wpkh_signature_hash(at, &input.script, value, EcdsaSighashType::All)
                .map_err(|e| e.to_string())?;
            let point = CompressedPublicKey(Point::from_secret_key(&secp(), key));
            Ok(Witness::from_slice(&[ecdsa(digest.to_byte_array()), point.to_bytes().to_vec()]))
        }
        Form::Script(ScriptForm { before, after, script }) => {
            let digest = cache
                .p2wsh_signature_hash(at, &script, value, EcdsaSighashType::All)
                .map_err(|e| e.to_string())?;
            let mut stack = before;
            stack.push(ecdsa(digest.to_byte_array()));
            stack.extend(after);
            stack.push(script.into_bytes());
            Ok(Witness::from_slice(&stack))
        }
        Form::Taproot => {
            let digest = cache
                .taproot_key_spend_signature_hash(
                    at,
                    &Prevouts::All(prevouts),
                    TapSighashType::Default,
                )
                .map_err(|e| e.to_string())?;
            let mut plain = Keypair::from_secret_key(&secp(), key);
            let mut pair = plain.tap_tweak(&secp(), None).to_keypair();
            let message = Message::from_digest(digest.to_byte_array());
            let signature =
                secp().sign_schnorr_with_aux_rand(&message, &pair, &subdaemon::random());
            plain.non_secure_erase();
            pair.non_secure_erase();
            Ok(Witness::from_slice(&[signature.as_ref().as_slice()]))
        }
    }
}
