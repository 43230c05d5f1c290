//! Outputs of commitments that are ours to take: whose key opens each, and what its witness is
//! beside our signature.
//!
//! Every witness script is made anew from the channel's parameters and compared with the output
//! that is spent. What the script would refuse (a preimage that is none, a transaction valid too
//! early, a signature of the peer's for another transaction) is refused here, with a sentence: it
//! would only burn time while somebody else can take the output.

use crate::blinding::secp;
use crate::channel::Channel;
use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, ScriptBuf, Transaction};
use channel::commitment::delayed_script;
use channel::keys::CommitmentKeys;
use channel::scripts::{self, Direction, der};
use channel::{Constants, EXPIRY_LIMIT};
use primitives::*;
use secp256k1::{Message, SECP256K1};
use wire::channel_data::{Basepoints, Htlc};
use wire::hsm::{WalletInput, WalletKey};

/// Whose channel the key is of, if of any.
pub(crate) fn channel_of(key: &WalletKey) -> Option<(NodeId, ChannelNumber)> {
    match key {
        WalletKey::Address { .. } => None,
        WalletKey::ToRemote { peer, channel, .. }
        | WalletKey::Delayed { peer, channel, .. }
        | WalletKey::OwnHtlc { peer, channel, .. }
        | WalletKey::TheirHtlc { peer, channel, .. }
        | WalletKey::RevokedDelayed { peer, channel, .. }
        | WalletKey::RevokedHtlc { peer, channel, .. }
        | WalletKey::Anchor { peer, channel } => Some((*peer, *channel)),
    }
}

/// The commitment of ours that is as good as broadcast once this is signed.
pub(crate) const fn broadcast_by(key: &WalletKey) -> Option<CommitmentNumber> {
    match key {
        WalletKey::OwnHtlc { number, .. } => Some(*number),
        WalletKey::Address { .. }
        | WalletKey::ToRemote { .. }
        | WalletKey::Delayed { .. }
        | WalletKey::TheirHtlc { .. }
        | WalletKey::RevokedDelayed { .. }
        | WalletKey::RevokedHtlc { .. }
        | WalletKey::Anchor { .. } => None,
    }
}

/// The keys of the commitment that was asked for last: a batch takes hundreds of outputs of one.
#[derive(Default)]
pub(crate) struct LastKeys(Option<(Basepoints, Side, Point, CommitmentKeys)>);

impl LastKeys {
    fn keys(&mut self, constants: &Constants, side: Side, point: &Point) -> CommitmentKeys {
        let basepoints = &constants.params.basepoints;
        if let Some((local, s, p, keys)) = &self.0
            && (local, s, p) == (&basepoints.local, &side, point)
        {
            return keys.clone();
        }
        let keys = CommitmentKeys::derive(basepoints, side, point);
        self.0 = Some((basepoints.local.clone(), side, *point, keys.clone()));
        keys
    }
}

/// The key of an output of a commitment of this channel, and how its script is satisfied.
pub(crate) fn key_of(
    channel: Option<&Channel>,
    tx: &Transaction,
    input: &WalletInput,
    last: &mut LastKeys,
) -> Result<(SigningKey, ScriptForm), String> {
    let channel = channel.ok_or("this channel is not known")?;
    let constants = channel.judge.constants().map_err(|e| e.to_string())?;
    let (key, form) = opened(channel, &constants, tx, input, last)?;
    if form.script.to_p2wsh() != input.script {
        return Err(format!("this key does not make its script {:x}", input.script));
    }
    Ok((key, form))
}

/// The witness elements beside the signature that satisfy a witness script.
pub(crate) struct ScriptForm {
    /// Below the signature.
    pub(crate) before: Vec<Vec<u8>>,
    /// Above it.
    pub(crate) after: Vec<Vec<u8>>,
    pub(crate) script: ScriptBuf,
}

impl ScriptForm {
    /// Satisfied by the signature alone.
    pub(crate) const fn plain(script: ScriptBuf) -> Self {
        Self { before: Vec::new(), after: Vec::new(), script }
    }
    /// Satisfied by the signature and what chooses a branch.
    fn chosen(script: ScriptBuf, choice: Vec<u8>) -> Self {
        Self { before: Vec::new(), after: vec![choice], script }
    }
}

/// The elements that choose the branch of `OP_IF` and of `OP_ELSE`. Others are not minimal.
const IF: [u8; 1] = [1];
const ELSE: Vec<u8> = Vec::new();

fn opened(
    channel: &Channel,
    constants: &Constants,
    tx: &Transaction,
    input: &WalletInput,
    last: &mut LastKeys,
) -> Result<(SigningKey, ScriptForm), String> {
    let mut commitment = |side: Side, point: &Point| last.keys(constants, side, point);
    match &input.key {
        WalletKey::Delayed { number, .. } => {
            let point = channel.point(*number)?;
            let keys = commitment(Side::Local, &point);
            Ok((channel.keys.delayed_secret(&point), own_delayed(constants, &keys, tx, input)?))
        }
        WalletKey::OwnHtlc { number, htlc, signature, preimage, .. } => {
            channel.judge.may_take_own_htlc(*number).map_err(|e| e.to_string())?;
            let point = channel.point(*number)?;
            let keys = commitment(Side::Local, &point);
            let own = OwnHtlc { htlc, signature, preimage: preimage.as_ref() };
            let form = own_htlc(constants, &keys, tx, input, &own)?;
            if constants.format.has_anchors() {
                require(waits(tx, input, 1), "it does not wait for one block")?;
            }
            Ok((channel.keys.htlc_secret(&point), form))
        }
        WalletKey::TheirHtlc { point, htlc, preimage, .. } => {
            let keys = commitment(Side::Remote, point);
            let script = htlc_script(constants, &keys, Side::Remote, htlc)?;
            let opens = opens(htlc, Side::Local, preimage.as_ref())?;
            if preimage.is_none() {
                require(
                    valid_from(tx, input, htlc.expiry),
                    format_args!("it is valid before its HTLC expires at {}", htlc.expiry),
                )?;
            }
            if constants.format.has_anchors() {
                require(waits(tx, input, 1), "it does not wait for one block")?;
            }
            Ok((channel.keys.htlc_secret(point), ScriptForm::chosen(script, opens)))
        }
        WalletKey::RevokedDelayed { secret, .. } => {
            let keys = commitment(Side::Remote, &Point::from_secret_key(&secp(), secret));
            let script = delayed_script(constants, &keys, Side::Remote);
            Ok((channel.keys.revocation_secret(secret), ScriptForm::chosen(script, IF.to_vec())))
        }
        WalletKey::RevokedHtlc { secret, htlc, .. } => {
            let keys = commitment(Side::Remote, &Point::from_secret_key(&secp(), secret));
            let script = htlc_script(constants, &keys, Side::Remote, htlc)?;
            let choice = keys.revocation.serialize().to_vec();
            Ok((channel.keys.revocation_secret(secret), ScriptForm::chosen(script, choice)))
        }
        WalletKey::Anchor { .. } => {
            let script = scripts::anchor(&constants.params.basepoints.local.funding);
            Ok((channel.keys.funding.clone(), ScriptForm::plain(script)))
        }
        WalletKey::Address { .. } | WalletKey::ToRemote { .. } => {
            Err("this key is none of a commitment's outputs".to_owned())
        }
    }
}

/// BOLT 3, "to_local Output" of our own commitment, or of our HTLC transaction.
fn own_delayed(
    constants: &Constants,
    keys: &CommitmentKeys,
    tx: &Transaction,
    input: &WalletInput,
) -> Result<ScriptForm, String> {
    let script = delayed_script(constants, keys, Side::Local);
    // Our own delay is the one that the peer demanded.
    let delay = constants.params.terms.remote.to_self_delay;
    require(waits(tx, input, delay), format_args!("it does not wait for {delay} blocks"))?;
    Ok(ScriptForm::chosen(script, ELSE))
}

struct OwnHtlc<'a> {
    htlc: &'a Htlc,
    signature: &'a Signature,
    preimage: Option<&'a Preimage>,
}

/// BOLT 3, "HTLC-Timeout and HTLC-Success Transactions".
fn own_htlc(
    constants: &Constants,
    keys: &CommitmentKeys,
    tx: &Transaction,
    input: &WalletInput,
    own: &OwnHtlc<'_>,
) -> Result<ScriptForm, String> {
    let script = htlc_script(constants, keys, Side::Local, own.htlc)?;
    let opens = opens(own.htlc, Side::Local, own.preimage)?;
    let kind = constants.format.htlc_sighash();
    let amount = Amount::from_sat(input.amount.0);
    let digest = SighashCache::new(tx)
        .p2wsh_signature_hash(input.index as usize, &script, amount, kind)
        .map_err(|e| e.to_string())?;
    let digest = Message::from_digest(*AsRef::<[u8; 32]>::as_ref(&digest));
    let htlc_keys = keys.htlc.as_ref().ok_or("no HTLC keys")?;
    // Beside the signature: a peer signs any output where a captured onchaind is its accomplice.
    let ours = delayed_script(constants, keys, Side::Local).to_p2wsh();
    let paid = tx.output.get(input.index as usize).map(|output| &output.script_pubkey);
    require(paid == Some(&ours), "its HTLC transaction pays another script than our delayed one")?;
    SECP256K1
        .verify_ecdsa(&digest, own.signature, &htlc_keys.remote)
        .map_err(|_| "the peer signed another transaction than this")?;
    // The four elements below the script: OP_CHECKMULTISIG takes one too many.
    Ok(ScriptForm {
        before: vec![Vec::new(), der(own.signature, kind)],
        after: vec![opens],
        script,
    })
}

fn htlc_script(
    constants: &Constants,
    keys: &CommitmentKeys,
    owner: Side,
    htlc: &Htlc,
) -> Result<ScriptBuf, String> {
    require(htlc.expiry.0 < EXPIRY_LIMIT, "its HTLC expires at no height")?;
    let htlc_keys = keys.htlc.as_ref().ok_or("no HTLC keys")?;
    let anchors = constants.format.has_anchors();
    Ok(scripts::htlc(&keys.revocation, htlc_keys, owner, htlc, anchors))
}

/// What `side` opens this HTLC with: the preimage of one that it received, nothing for one that it
/// offered.
fn opens(htlc: &Htlc, side: Side, preimage: Option<&Preimage>) -> Result<Vec<u8>, String> {
    match (Direction::of(htlc.offered_by, side), preimage) {
        (Direction::Offered, None) => Ok(ELSE),
        (Direction::Received, Some(preimage)) if preimage.hash() == htlc.payment_hash => {
            Ok(preimage.0.to_vec())
        }
        (Direction::Received, Some(_)) => Err("the preimage is not that of its HTLC".to_owned()),
        (Direction::Offered, Some(_)) => {
            Err("a preimage for an HTLC that we offered: it is the peer's to take".to_owned())
        }
        (Direction::Received, None) => {
            Err("an HTLC that the peer offered, without its preimage".to_owned())
        }
    }
}

/// Will OP_CHECKSEQUENCEVERIFY hold for so many blocks? BIP 68 and 112.
pub(crate) fn waits(tx: &Transaction, input: &WalletInput, blocks: u16) -> bool {
    let sequence = tx.input.get(input.index as usize).map_or(u32::MAX, |i| i.sequence.0);
    tx.version.0 >= 2 && sequence & (1 << 31 | 1 << 22) == 0 && sequence & 0xffff >= blocks.into()
}

/// Will OP_CHECKLOCKTIMEVERIFY hold for this height? BIP 65.
fn valid_from(tx: &Transaction, input: &WalletInput, height: BlockHeight) -> bool {
    let sequence = tx.input.get(input.index as usize).map_or(u32::MAX, |i| i.sequence.0);
    let lock_time = tx.lock_time.to_consensus_u32();
    sequence != u32::MAX && (height.0..EXPIRY_LIMIT).contains(&lock_time)
}

fn require(holds: bool, otherwise: impl std::fmt::Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_string()) }
}
