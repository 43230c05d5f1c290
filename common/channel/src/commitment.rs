//! The one builder of commitment transactions, for either side.
//!
//! [`tally`] counts a commitment's money: what it costs, what is too small for an output. Whether
//! an update can be afforded is judged by it, and [`build`] makes outputs of it and nothing else:
//! the two cannot disagree.

use crate::constants::{ANCHOR, Constants, EXPIRY_LIMIT, Format, MAX_HTLCS, Unbuildable};
use crate::keys::CommitmentKeys;
use crate::scripts::{self, Direction};
use bitcoin::absolute::LockTime;
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
};
use primitives::*;
use secp256k1::{Message, SECP256K1};
use std::fmt;
use std::sync::Arc;
use wire::channel_data::{CommitmentSignatures, CommitmentState, Htlc};

/// A commitment's money, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// HTLCs with an output.
    pub untrimmed: u64,
    /// The sum of the HTLCs without an output.
    pub dust: Msat,
    /// The sum of all HTLCs.
    pub htlcs: Msat,
    /// The base fee: what the opener owes, whether it has it or not.
    pub fee: Sat,
    /// The opener's cost of anchors.
    pub anchors: Sat,
    /// Each side's balance after that.
    pub rest: Sides<Msat>,
}

impl Tally {
    /// The opener's cost of fee and anchors together.
    pub const fn cost(&self) -> Sat {
        self.fee.saturating_add(self.anchors)
    }
}

/// Counts a commitment of `owner`.
pub fn tally(
    constants: &Constants,
    owner: Side,
    feerate: FeeratePerKw,
    balance: Sides<Msat>,
    htlcs: impl Iterator<Item = (Side, Msat)>,
) -> Tally {
    let thresholds = Sides::from_fn(|by| constants.trim_threshold(owner, feerate, by));
    let (mut untrimmed, mut dust, mut total) = (0, Msat::ZERO, Msat::ZERO);
    for (offered_by, amount) in htlcs {
        total = total.saturating_add(amount);
        if amount.sat_floor() < thresholds[offered_by] {
            dust = dust.saturating_add(amount);
        } else {
            untrimmed += 1;
        }
    }
    let fee = feerate.fee(constants.format.commitment_weight(untrimmed));
    let anchors = constants.format.anchors();
    let mut rest = balance;
    let opener = constants.params.opener;
    // BOLT 3, "Fee Payment": where the opener has not enough, all it has is fee.
    rest[opener] = rest[opener].saturating_sub(fee.saturating_add(anchors).msat());
    Tally { untrimmed, dust, htlcs: total, fee, anchors, rest }
}

/// The [`tally`] of a description, if it describes this channel.
pub fn tally_of(constants: &Constants, state: &CommitmentState) -> Result<Tally, Unbuildable> {
    if state.htlcs.0.len() > 2 * MAX_HTLCS {
        return Err(Unbuildable::TooManyHtlcs(state.htlcs.0.len()));
    }
    if state.number > CommitmentNumber::LAST {
        return Err(Unbuildable::Number(state.number));
    }
    if let Some(bad) = state.htlcs.0.iter().find(|h| h.expiry.0 >= EXPIRY_LIMIT) {
        return Err(Unbuildable::Expiry(bad.expiry));
    }
    let htlcs = state.htlcs.0.iter().map(|h| (h.offered_by, h.amount));
    let tally = tally(constants, state.side, state.feerate, state.balance, htlcs);
    let parts =
        state.balance.local.saturating_add(state.balance.remote).saturating_add(tally.htlcs);
    let amount = constants.params.amount.msat();
    if parts != amount {
        return Err(Unbuildable::Balance { amount, parts });
    }
    Ok(tally)
}

/// A commitment transaction with its HTLC transactions, unsigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// The side that can publish it.
    pub side: Side,
    /// The transaction, without witness.
    pub tx: Transaction,
    /// Its HTLC outputs, in the order of the outputs, each with the transaction that spends it.
    pub htlcs: Arc<Vec<HtlcOutput>>,
    /// Where the owner's delayed money is.
    pub to_local: Option<usize>,
    /// Where the other side's money is.
    pub to_remote: Option<usize>,
    /// The keys inside.
    pub keys: CommitmentKeys,
    /// The money inside.
    pub tally: Tally,
}

/// One HTLC's output and second stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtlcOutput {
    /// The HTLC that the output holds.
    pub htlc: Htlc,
    /// Which output.
    pub index: usize,
    /// What is in it.
    pub amount: Sat,
    /// Its witness script.
    pub script: ScriptBuf,
    /// HTLC-timeout or HTLC-success, without witness.
    pub tx: Transaction,
}

/// The purpose of an output.
enum Purpose<'a> {
    ToLocal,
    ToRemote,
    Anchor,
    Htlc(&'a Htlc, ScriptBuf),
}

/// Builds what the description says. BOLT 3, "Commitment Transaction Construction".
pub fn build(
    constants: &Constants,
    keys: CommitmentKeys,
    state: &CommitmentState,
) -> Result<Commitment, Unbuildable> {
    let tally = tally_of(constants, state)?;
    let mut outputs = outputs(constants, &keys, state, &tally)?;
    // BOLT 3, "Transaction Output Ordering".
    outputs.sort_by(|(a, expiry_a, _), (b, expiry_b, _)| {
        (a.value, a.script_pubkey.as_bytes(), expiry_a).cmp(&(
            b.value,
            b.script_pubkey.as_bytes(),
            expiry_b,
        ))
    });
    let total: u64 = outputs.iter().map(|(out, ..)| out.value.to_sat()).sum();
    if total > constants.params.amount.0 {
        return Err(Unbuildable::Overspent {
            amount: constants.params.amount,
            outputs: Sat(total),
        });
    }
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(
            0x2000_0000 | obscured(constants, state) as u32 & 0xff_ffff,
        ),
        input: vec![TxIn {
            previous_output: constants.params.funding,
            script_sig: ScriptBuf::new(),
            sequence: Sequence(0x8000_0000 | (obscured(constants, state) >> 24) as u32 & 0xff_ffff),
            witness: Witness::new(),
        }],
        output: outputs.iter().map(|(out, ..)| out.clone()).collect(),
    };
    let txid = tx.compute_txid();
    let second_stage = SecondStage {
        format: constants.format,
        owner: state.side,
        feerate: state.feerate,
        script_pubkey: delayed_script(constants, &keys, state.side).to_p2wsh(),
    };
    let (mut htlcs, mut to_local, mut to_remote) = (Vec::new(), None, None);
    for (index, (out, _, purpose)) in outputs.into_iter().enumerate() {
        match purpose {
            Purpose::ToLocal => to_local = Some(index),
            Purpose::ToRemote => to_remote = Some(index),
            Purpose::Anchor => {}
            Purpose::Htlc(htlc, script) => {
                let vout = u32::try_from(index).expect("a commitment has at most 970 outputs");
                let tx = second_stage.tx(htlc, OutPoint { txid, vout });
                let amount = Sat(out.value.to_sat());
                htlcs.push(HtlcOutput { htlc: htlc.clone(), index, amount, script, tx });
            }
        }
    }
    let htlcs = Arc::new(htlcs);
    Ok(Commitment { side: state.side, tx, htlcs, to_local, to_remote, keys, tally })
}

fn obscured(constants: &Constants, state: &CommitmentState) -> u64 {
    constants.obscure ^ state.number.0
}

/// The number that a spend of this channel's funding carries, if it has a commitment's form: which
/// side's it is stays open. BOLT 3, "Commitment Transaction".
pub fn number_in(constants: &Constants, tx: &Transaction) -> Option<CommitmentNumber> {
    let [input] = tx.input.as_slice() else { return None };
    let (high, low) = (input.sequence.0, tx.lock_time.to_consensus_u32());
    if input.previous_output != constants.params.funding || high >> 24 != 0x80 || low >> 24 != 0x20
    {
        return None;
    }
    let hidden = u64::from(high & 0xff_ffff) << 24 | u64::from(low & 0xff_ffff);
    Some(CommitmentNumber(hidden ^ constants.obscure))
}

/// The witness script of to_local, and of what HTLC transactions pay to. BOLT 3.
pub fn delayed_script(constants: &Constants, keys: &CommitmentKeys, owner: Side) -> ScriptBuf {
    scripts::delayed(keys, constants.params.terms[!owner].to_self_delay)
}

fn outputs<'a>(
    constants: &Constants,
    keys: &CommitmentKeys,
    state: &'a CommitmentState,
    tally: &Tally,
) -> Result<Vec<(TxOut, BlockHeight, Purpose<'a>)>, Unbuildable> {
    let owner = state.side;
    let dust_limit = constants.params.terms[owner].dust_limit;
    let anchors = constants.format.has_anchors();
    let pay = |amount: Sat, script_pubkey: ScriptBuf| TxOut {
        value: Amount::from_sat(amount.0),
        script_pubkey,
    };
    let no_expiry = BlockHeight(0);
    let mut outputs = Vec::with_capacity(state.htlcs.0.len() + 4);

    for htlc in &state.htlcs.0 {
        if !constants.is_trimmed(owner, state.feerate, htlc.offered_by, htlc.amount) {
            let htlc_keys =
                keys.htlc.as_ref().ok_or(Unbuildable::State("HTLC outputs without HTLC keys"))?;
            let script = scripts::htlc(&keys.revocation, htlc_keys, owner, htlc, anchors);
            let out = pay(htlc.amount.sat_floor(), script.to_p2wsh());
            outputs.push((out, htlc.expiry, Purpose::Htlc(htlc, script)));
        }
    }
    let any_htlc = !outputs.is_empty();
    let to_owner = Some(tally.rest[owner].sat_floor()).filter(|a| *a >= dust_limit);
    let to_other = Some(tally.rest[!owner].sat_floor()).filter(|a| *a >= dust_limit);
    if let Some(amount) = to_owner {
        let script = delayed_script(constants, keys, owner);
        outputs.push((pay(amount, script.to_p2wsh()), no_expiry, Purpose::ToLocal));
    }
    if let Some(amount) = to_other {
        let script = if anchors {
            scripts::to_remote_anchors(&keys.payment).to_p2wsh()
        } else {
            scripts::to_remote_plain(&keys.payment)
        };
        outputs.push((pay(amount, script), no_expiry, Purpose::ToRemote));
    }
    if anchors {
        for (side, money) in [(owner, to_owner), (!owner, to_other)] {
            if money.is_some() || any_htlc {
                let script = scripts::anchor(&constants.params.basepoints[side].funding);
                outputs.push((pay(ANCHOR, script.to_p2wsh()), no_expiry, Purpose::Anchor));
            }
        }
    }
    Ok(outputs)
}

/// The values that all HTLC transactions of one commitment share. BOLT 3, "HTLC-Timeout and
/// HTLC-Success Transactions".
struct SecondStage {
    format: Format,
    owner: Side,
    feerate: FeeratePerKw,
    script_pubkey: ScriptBuf,
}

impl SecondStage {
    fn tx(&self, htlc: &Htlc, previous_output: OutPoint) -> Transaction {
        let direction = Direction::of(htlc.offered_by, self.owner);
        let fee = self.format.htlc_fee(self.feerate, direction);
        // An HTLC that could not pay this has no output: saturation is for readers, not for money.
        let value = htlc.amount.sat_floor().saturating_sub(fee);
        Transaction {
            version: Version::TWO,
            lock_time: match direction {
                Direction::Offered => LockTime::from_consensus(htlc.expiry.0),
                Direction::Received => LockTime::ZERO,
            },
            input: vec![TxIn {
                previous_output,
                script_sig: ScriptBuf::new(),
                sequence: Sequence(u32::from(self.format.has_anchors())),
                witness: Witness::new(),
            }],
            output: vec![TxOut {
                value: Amount::from_sat(value.0),
                script_pubkey: self.script_pubkey.clone(),
            }],
        }
    }
}

/// The digest that a signature on this input of these must be for. BIP 143.
pub(crate) fn digest(
    tx: &Transaction,
    script: &ScriptBuf,
    amount: Sat,
    kind: EcdsaSighashType,
) -> Message {
    SighashCache::new(tx)
        .p2wsh_signature_hash(0, script, Amount::from_sat(amount.0), kind)
        .map(|hash| Message::from_digest(*AsRef::<[u8; 32]>::as_ref(&hash)))
        .expect("every transaction that is built here has an input 0")
}

impl Commitment {
    /// The digest that both sides sign.
    pub fn sighash(&self, constants: &Constants) -> Message {
        digest(&self.tx, &constants.funding_script, constants.params.amount, EcdsaSighashType::All)
    }
    /// With both signatures: ready to publish.
    pub fn signed(mut self, constants: &Constants, signatures: &Sides<Signature>) -> Transaction {
        let keys = &constants.params.basepoints;
        let witness = scripts::funding_witness(
            &constants.funding_script,
            (&keys.local.funding, &signatures.local),
            (&keys.remote.funding, &signatures.remote),
        );
        if let Some(input) = self.tx.input.first_mut() {
            input.witness = witness;
        }
        self.tx
    }
    /// Checks what the other side of this commitment signed: the number of signatures, and each.
    pub fn verify(
        &self,
        constants: &Constants,
        signatures: &CommitmentSignatures,
    ) -> Result<(), BadSignatures> {
        let (expected, got) = (self.htlcs.len(), signatures.htlcs.len());
        if expected != got {
            return Err(BadSignatures::Count { expected, got });
        }
        let funding = &constants.params.basepoints[!self.side].funding;
        SECP256K1
            .verify_ecdsa(&self.sighash(constants), &signatures.signature, funding)
            .map_err(|_| BadSignatures::Commitment)?;
        if self.htlcs.is_empty() {
            return Ok(());
        }
        let key = self.keys.htlc.as_ref().ok_or(BadSignatures::Commitment)?[!self.side];
        let kind = constants.format.htlc_sighash();
        let signatures = signatures.htlcs.clone();
        let judged = crate::cores::each(&self.htlcs, move |at, htlc| {
            let signature = signatures.get(at).ok_or(BadSignatures::Commitment)?;
            SECP256K1
                .verify_ecdsa(&htlc.sighash(kind), signature, &key)
                .map_err(|_| BadSignatures::Htlc { index: htlc.index })
        });
        judged.into_iter().collect()
    }
}

impl HtlcOutput {
    /// The digest of a signature on the HTLC transaction: the other side's with
    /// [`Format::htlc_sighash`], the owner's with ALL.
    pub fn sighash(&self, kind: EcdsaSighashType) -> Message {
        digest(&self.tx, &self.script, self.amount, kind)
    }
}

/// Why the signatures on a commitment are refused. BOLT 2, commitment_signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSignatures {
    /// Not one for each HTLC output.
    Count {
        /// HTLC outputs.
        expected: usize,
        /// Signatures.
        got: usize,
    },
    /// The one on the commitment itself.
    Commitment,
    /// The one on the transaction that spends this output.
    Htlc {
        /// Which output.
        index: usize,
    },
}
impl fmt::Display for BadSignatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { expected, got } => {
                write!(f, "{got} HTLC signatures for {expected} HTLC outputs")
            }
            Self::Commitment => {
                f.write_str("the signature on the commitment transaction does not hold")
            }
            Self::Htlc { index } => {
                write!(f, "the signature on the HTLC of output {index} does not hold")
            }
        }
    }
}
impl std::error::Error for BadSignatures {}

#[cfg(test)]
#[path = "commitment_tests.rs"]
mod tests;
