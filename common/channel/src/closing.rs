//! The mutual closing transaction. BOLT 3, "Legacy Closing Transaction".

use crate::commitment::digest;
use crate::constants::Constants;
use crate::scripts;
use bitcoin::absolute::LockTime;
use bitcoin::transaction::{InputWeightPrediction, Version, predict_weight};
use bitcoin::{Amount, EcdsaSighashType, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use primitives::{Msat, Sat, Side, Sides, Signature};
use secp256k1::{Message, SECP256K1};
use std::fmt;
use wire::hsm::ClosingState;

/// Which sides' outputs a closing transaction has.
pub type Kept = Sides<bool>;

/// Why a description makes no closing transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadClosing {
    /// The parts are not the whole.
    Balance {
        /// What is in the channel.
        amount: Msat,
        /// What the parts come to.
        parts: Msat,
    },
    /// The opener cannot pay the fee.
    Fee {
        /// What it is.
        fee: Sat,
        /// What the opener has.
        balance: Sat,
    },
    /// Neither side has an output.
    NoOutput,
    /// An output that nobody relays. BOLT 2, closing_signed: the channel must fail.
    Dust {
        /// Whose.
        side: Side,
        /// What is in it.
        amount: Sat,
        /// What its script needs.
        limit: Sat,
    },
}
impl fmt::Display for BadClosing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balance { amount, parts } => {
                write!(f, "parts of {parts} in a channel of {amount}")
            }
            Self::Fee { fee, balance } => write!(f, "a fee of {fee} from a balance of {balance}"),
            Self::NoOutput => f.write_str("a closing without outputs"),
            Self::Dust { side, amount, limit } => {
                write!(
                    f,
                    "{side:?}'s output of {amount} is below the dust limit of its script, {limit}"
                )
            }
        }
    }
}
impl std::error::Error for BadClosing {}

/// A closing transaction, unsigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Without witness.
    pub tx: Transaction,
    /// Whose outputs are in it.
    pub kept: Kept,
    /// The amount of each side's output, if the output is kept.
    pub paid: Sides<Sat>,
}

/// The amount due to each side: rounded down, the fee taken from the opener.
pub fn payouts(constants: &Constants, state: &ClosingState) -> Result<Sides<Sat>, BadClosing> {
    let parts = state.balance.local.saturating_add(state.balance.remote);
    let amount = constants.params.amount.msat();
    if parts != amount {
        return Err(BadClosing::Balance { amount, parts });
    }
    let mut paid = state.balance.map(Msat::sat_floor);
    let opener = constants.params.opener;
    paid[opener] = paid[opener]
        .checked_sub(state.fee)
        .ok_or(BadClosing::Fee { fee: state.fee, balance: paid[opener] })?;
    Ok(paid)
}

/// The outputs that we keep: those that are not below our own dust limit.
pub fn our_choice(constants: &Constants, state: &ClosingState) -> Result<Kept, BadClosing> {
    let limit = constants.params.terms.local.dust_limit;
    Ok(payouts(constants, state)?.map(|paid| paid >= limit && paid > Sat::ZERO))
}

/// Every variant that the peer may have signed: ours, the one by its own dust limit, and each
/// without its own output.
pub fn variants(constants: &Constants, state: &ClosingState) -> Result<Vec<Kept>, BadClosing> {
    let ours = our_choice(constants, state)?;
    let limit = constants.params.terms.remote.dust_limit;
    let theirs = payouts(constants, state)?.map(|paid| paid >= limit && paid > Sat::ZERO);
    // Our own output stays unless it is dust to us.
    let theirs = Kept { local: theirs.local || ours.local, remote: theirs.remote };
    let mut all: Vec<Kept> = Vec::with_capacity(4);
    for kept in [ours, theirs, Kept { remote: false, ..ours }] {
        if (kept.local || kept.remote) && !all.contains(&kept) {
            all.push(kept);
        }
    }
    Ok(all)
}

/// Builds the variant with these outputs.
pub fn build(
    constants: &Constants,
    state: &ClosingState,
    kept: Kept,
) -> Result<Closing, BadClosing> {
    let paid = payouts(constants, state)?;
    let mut output = Vec::with_capacity(2);
    for side in Side::BOTH.into_iter().filter(|side| kept[*side]) {
        let (amount, script_pubkey) = (paid[side], state.script[side].clone());
        let limit = dust_threshold(&script_pubkey);
        if amount < limit {
            return Err(BadClosing::Dust { side, amount, limit });
        }
        output.push(TxOut { value: Amount::from_sat(amount.0), script_pubkey });
    }
    if output.is_empty() {
        return Err(BadClosing::NoOutput);
    }
    output.sort_by(|a, b| {
        (a.value, a.script_pubkey.as_bytes()).cmp(&(b.value, b.script_pubkey.as_bytes()))
    });
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: constants.params.funding,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output,
    };
    Ok(Closing { tx, kept, paid })
}

/// The variant that `signature` of the peer is for, if there is one.
pub fn signed_by_peer(
    constants: &Constants,
    state: &ClosingState,
    signature: &Signature,
) -> Result<Option<Closing>, BadClosing> {
    let key = &constants.params.basepoints.remote.funding;
    let mut refused = None;
    for kept in variants(constants, state)? {
        match build(constants, state, kept) {
            Ok(closing) => {
                if SECP256K1.verify_ecdsa(&closing.sighash(constants), signature, key).is_ok() {
                    return Ok(Some(closing));
                }
            }
            Err(why) => refused = Some(why),
        }
    }
    refused.map_or(Ok(None), Err)
}

impl Closing {
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
}

/// The weight of a closing transaction with both outputs and the longest signatures: what a fee is
/// reckoned by.
pub fn weight(scripts: &Sides<ScriptBuf>) -> u64 {
    // An empty item, which OP_CHECKMULTISIG takes, two signatures with their sighash type, and the
    // 2-of-2 script.
    let input = InputWeightPrediction::new(0, [0, 73, 73, 71]);
    predict_weight([input], Side::BOTH.map(|side| scripts[side].len())).to_wu()
}

/// Below this nobody relays an output of this script. BOLT 3, "Dust Limits".
pub fn dust_threshold(script: &ScriptBuf) -> Sat {
    Sat(if script.is_p2pkh() {
        546
    } else if script.is_p2sh() {
        540
    } else if script.is_p2wpkh() {
        294
    } else if script.is_p2wsh() {
        330
    } else if script.is_op_return() {
        0
    } else {
        354
    })
}

#[cfg(test)]
#[path = "closing_tests.rs"]
mod tests;
