//! The scripts of BOLT 3, and the witnesses that satisfy them.

use crate::keys::{CommitmentKeys, hash160_of};
use bitcoin::hashes::{Hash, ripemd160};
use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::{CompressedPublicKey, EcdsaSighashType, ScriptBuf, Witness};
use primitives::{Point, Preimage, Side, Sides, Signature};
use wire::channel_data::Htlc;

/// Which way an HTLC goes, seen from the owner of the commitment it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The owner offered it: HTLC-timeout gets it back.
    Offered,
    /// The owner received it: HTLC-success takes it.
    Received,
}

impl Direction {
    /// Of an HTLC of `offered_by` in a commitment of `owner`.
    pub fn of(offered_by: Side, owner: Side) -> Self {
        if offered_by == owner { Self::Offered } else { Self::Received }
    }
}

/// BOLT 3, "to_local Output" and the output of HTLC transactions: at once with the revocation key,
/// else after a delay.
pub fn delayed(keys: &CommitmentKeys, to_self_delay: u16) -> ScriptBuf {
    Builder::new()
        .push_opcode(op::OP_IF)
        .push_slice(keys.revocation.serialize())
        .push_opcode(op::OP_ELSE)
        .push_int(to_self_delay.into())
        .push_opcode(op::OP_CSV)
        .push_opcode(op::OP_DROP)
        .push_slice(keys.delayed.serialize())
        .push_opcode(op::OP_ENDIF)
        .push_opcode(op::OP_CHECKSIG)
        .into_script()
}

/// BOLT 3, "to_remote Output" without anchors: plain P2WPKH.
pub fn to_remote_plain(payment: &Point) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(*payment).wpubkey_hash())
}

/// BOLT 3, "to_remote Output" with anchors: the witness script.
pub fn to_remote_anchors(payment: &Point) -> ScriptBuf {
    Builder::new()
        .push_slice(payment.serialize())
        .push_opcode(op::OP_CHECKSIGVERIFY)
        .push_int(1)
        .push_opcode(op::OP_CSV)
        .into_script()
}

/// BOLT 3, "to_local_anchor and to_remote_anchor Output": the witness script.
pub fn anchor(funding: &Point) -> ScriptBuf {
    Builder::new()
        .push_slice(funding.serialize())
        .push_opcode(op::OP_CHECKSIG)
        .push_opcode(op::OP_IFDUP)
        .push_opcode(op::OP_NOTIF)
        .push_int(16)
        .push_opcode(op::OP_CSV)
        .push_opcode(op::OP_ENDIF)
        .into_script()
}

/// BOLT 3, "Offered HTLC Outputs" and "Received HTLC Outputs": the witness script in a commitment
/// of `owner`.
pub fn htlc(
    revocation: &Point,
    keys: &Sides<Point>,
    owner: Side,
    htlc: &Htlc,
    anchors: bool,
) -> ScriptBuf {
    let (mine, others) = (keys[owner].serialize(), keys[!owner].serialize());
    let hash = ripemd160::Hash::hash(&htlc.payment_hash.0).to_byte_array();
    let script = Builder::new()
        .push_opcode(op::OP_DUP)
        .push_opcode(op::OP_HASH160)
        .push_slice(hash160_of(revocation))
        .push_opcode(op::OP_EQUAL)
        .push_opcode(op::OP_IF)
        .push_opcode(op::OP_CHECKSIG)
        .push_opcode(op::OP_ELSE)
        .push_slice(others)
        .push_opcode(op::OP_SWAP)
        .push_opcode(op::OP_SIZE)
        .push_int(32)
        .push_opcode(op::OP_EQUAL);
    let script = match Direction::of(htlc.offered_by, owner) {
        Direction::Offered => script
            .push_opcode(op::OP_NOTIF)
            .push_opcode(op::OP_DROP)
            .push_int(2)
            .push_opcode(op::OP_SWAP)
            .push_slice(mine)
            .push_int(2)
            .push_opcode(op::OP_CHECKMULTISIG)
            .push_opcode(op::OP_ELSE)
            .push_opcode(op::OP_HASH160)
            .push_slice(hash)
            .push_opcode(op::OP_EQUALVERIFY)
            .push_opcode(op::OP_CHECKSIG),
        Direction::Received => script
            .push_opcode(op::OP_IF)
            .push_opcode(op::OP_HASH160)
            .push_slice(hash)
            .push_opcode(op::OP_EQUALVERIFY)
            .push_int(2)
            .push_opcode(op::OP_SWAP)
            .push_slice(mine)
            .push_int(2)
            .push_opcode(op::OP_CHECKMULTISIG)
            .push_opcode(op::OP_ELSE)
            .push_opcode(op::OP_DROP)
            .push_int(htlc.expiry.0.into())
            .push_opcode(op::OP_CLTV)
            .push_opcode(op::OP_DROP)
            .push_opcode(op::OP_CHECKSIG),
    };
    let mut script = script.push_opcode(op::OP_ENDIF);
    if anchors {
        script = script.push_int(1).push_opcode(op::OP_CSV).push_opcode(op::OP_DROP);
    }
    script.push_opcode(op::OP_ENDIF).into_script()
}

/// DER and one byte of sighash type, as a witness wants it.
pub fn der(signature: &Signature, kind: EcdsaSighashType) -> Vec<u8> {
    let mut bytes = signature.serialize_der().to_vec();
    bytes.push(kind as u8);
    bytes
}

/// The witness that spends the 2-of-2. BOLT 3: signatures in the order of the keys.
pub fn funding_witness(
    script: &ScriptBuf,
    a: (&Point, &Signature),
    b: (&Point, &Signature),
) -> Witness {
    let (first, second) = if a.0.serialize() < b.0.serialize() { (a, b) } else { (b, a) };
    Witness::from_slice(&[
        Vec::new(),
        der(first.1, EcdsaSighashType::All),
        der(second.1, EcdsaSighashType::All),
        script.to_bytes(),
    ])
}

/// The witness of an HTLC transaction: with a preimage for success, without for timeout.
pub fn htlc_witness(
    script: &ScriptBuf,
    others: (&Signature, EcdsaSighashType),
    own: &Signature,
    preimage: Option<&Preimage>,
) -> Witness {
    Witness::from_slice(&[
        Vec::new(),
        der(others.0, others.1),
        der(own, EcdsaSighashType::All),
        preimage.map(|p| p.0.to_vec()).unwrap_or_default(),
        script.to_bytes(),
    ])
}
