//! Choosing coins and building what spends them.

use super::{AddressKind, Output, next_script};
use crate::node::Node;
use crate::rpc::{RpcError, code};
use crate::turn::{Stop, Turn};
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Sequence, Transaction, TxIn, TxOut, Witness};
use primitives::{BlockHeight, FeeratePerKw, OutPoint, Sat, ScriptBuf};
use std::collections::BTreeSet;
use wire::Long;
use wire::hsm::{Completed, SignWallet, SpentOutput, WalletInput, WalletKey};

/// Weight of a segwit transaction without inputs and outputs: version, locktime, counts, marker.
const BASE_WEIGHT: u64 = (4 + 4 + 1 + 1) * 4 + 2;
/// Outpoint, sequence and an empty script, then the witness.
const P2WPKH_INPUT_WEIGHT: u64 = 41 * 4 + 1 + 1 + 72 + 1 + 33;
const P2TR_INPUT_WEIGHT: u64 = 41 * 4 + 1 + 1 + 64;
/// Below it a P2TR output is not relayed.
const P2TR_DUST: Sat = Sat(330);
/// The fee may be this share of what is spent at most, so that a slip in a feerate cannot burn a wallet: one half.
const MAX_FEE_SHARE: u64 = 2;

/// What a transaction is to do.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where to.
    pub script: ScriptBuf,
    /// How much; `None`: everything.
    pub amount: Option<Sat>,
    /// At which rate.
    pub feerate: FeeratePerKw,
    /// Coins with this many confirmations.
    pub minconf: u32,
    /// These coins and no others.
    pub utxos: Option<Vec<OutPoint>>,
    /// Kept back, to bump fees of closes.
    pub emergency: Sat,
}

/// A transaction that spends our coins, without signatures.
#[derive(Debug, Clone)]
pub struct Funded {
    /// It.
    pub tx: Transaction,
    /// What it spends.
    pub inputs: Vec<OutPoint>,
    /// Which output is what was wanted.
    pub vout: u32,
    /// What that output has.
    pub amount: Sat,
}

fn input_weight(output: &Output) -> u64 {
    if output.script.is_p2tr() { P2TR_INPUT_WEIGHT } else { P2WPKH_INPUT_WEIGHT }
}
fn output_weight(script: &ScriptBuf) -> u64 {
    (8 + 1 + script.len() as u64) * 4
}

fn candidates<'a>(
    node: &'a Node,
    wanted: &Wanted,
) -> Result<Vec<(OutPoint, &'a Output)>, RpcError> {
    let tip = node.chain.height();
    if let Some(chosen) = &wanted.utxos {
        let mut seen = BTreeSet::new();
        return chosen
            .iter()
            .map(|o| match node.wallet.outputs.get(o) {
                _ if !seen.insert(*o) => {
                    Err(RpcError::params(format!("utxos: {o} is there twice")))
                }
                None => Err(RpcError::params(format!("utxos: {o} is not ours"))),
                Some(out) if out.spent.is_some() => {
                    Err(RpcError::params(format!("utxos: {o} is spent")))
                }
                Some(out) if out.is_reserved(tip) => Err(RpcError::params(format!(
                    "utxos: {o} is reserved until block {}",
                    out.reserved_until
                ))),
                Some(out) if !out.is_mature(tip) => {
                    Err(RpcError::params(format!("utxos: {o} is a miner's, and not mature yet")))
                }
                Some(out) => Ok((*o, out)),
            })
            .collect();
    }
    let confirmations = |o: &Output| o.confirmed.map_or(0, |c| (tip - c).0 + 1);
    let usable = |o: &&Output| {
        o.spent.is_none()
            && !o.is_reserved(tip)
            && o.is_mature(tip)
            && confirmations(o) >= wanted.minconf
    };
    let mut all: Vec<_> =
        node.wallet.outputs.iter().filter(|(_, o)| usable(o)).map(|(p, o)| (*p, o)).collect();
    // The largest first: few inputs, low fee.
    all.sort_by_key(|(_, o)| std::cmp::Reverse(o.amount));
    Ok(all)
}

/// Chooses coins and builds the transaction. Nothing is reserved or marked: see [`super::spend`] and [`super::reserve`].
pub fn build(node: &Node, turn: &mut Turn<'_>, wanted: &Wanted) -> Result<Funded, Stop> {
    let coins = candidates(node, wanted)?;
    let have = Sat(coins.iter().map(|(_, o)| o.amount.0).sum());
    let change_script_weight = (8 + 1 + 34) * 4;
    let base = BASE_WEIGHT + output_weight(&wanted.script);
    let afford = |needed: Sat| {
        RpcError::new(
            code::FUND_CANNOT_AFFORD,
            format!(
                "Could not afford {needed} with the {} UTXOs that are available, worth {have} together",
                coins.len()
            ),
        )
    };
    let (chosen, sum, weight) = match wanted.amount {
        None => {
            let weight = coins.iter().map(|(_, o)| input_weight(o)).sum::<u64>() + base;
            (coins.clone(), have, weight)
        }
        Some(amount) => {
            let (mut sum, mut weight, mut chosen) = (Sat::ZERO, base, Vec::new());
            for (outpoint, output) in &coins {
                // What is chosen by hand is spent whole.
                if wanted.utxos.is_none()
                    && sum >= amount.saturating_add(wanted.feerate.fee(weight))
                {
                    break;
                }
                sum = sum.saturating_add(output.amount);
                weight += input_weight(output);
                chosen.push((*outpoint, *output));
            }
            (chosen, sum, weight)
        }
    };
    let fee = wanted.feerate.fee(weight);
    let fee_with_change = wanted.feerate.fee(weight + change_script_weight);
    let (amount, change) = match wanted.amount {
        None if wanted.emergency > Sat::ZERO => {
            let all =
                sum.checked_sub(fee_with_change).and_then(|s| s.checked_sub(wanted.emergency));
            (all.ok_or_else(|| emergency(wanted.emergency))?, wanted.emergency)
        }
        None => (sum.checked_sub(fee).ok_or_else(|| afford(fee))?, Sat::ZERO),
        Some(amount) => {
            let needed = amount.saturating_add(fee);
            let left = sum.checked_sub(needed).ok_or_else(|| afford(needed))?;
            let change = left.saturating_sub(wanted.feerate.fee(change_script_weight));
            // What was not chosen stays, by hand or by us.
            let all = Wanted { utxos: None, ..wanted.clone() };
            let all: u64 = candidates(node, &all)?.iter().map(|(_, o)| o.amount.0).sum();
            let kept_elsewhere = Sat(all).saturating_sub(sum);
            if change.saturating_add(kept_elsewhere) < wanted.emergency {
                return Err(emergency(wanted.emergency).into());
            }
            (amount, if change < P2TR_DUST { Sat::ZERO } else { change })
        }
    };
    if amount < Sat(wanted.script.minimal_non_dust().to_sat()) {
        let text = format!(
            "an output of {amount} is dust: the least is {}",
            wanted.script.minimal_non_dust().to_sat()
        );
        return Err(RpcError::new(code::FUND_OUTPUT_IS_DUST, text).into());
    }
    let paid_fee = sum.saturating_sub(amount).saturating_sub(change);
    if paid_fee.0 > sum.0 / MAX_FEE_SHARE {
        let text = format!(
            "the fee would be {paid_fee} of {sum} spent, at {}: choose a lower feerate",
            wanted.feerate
        );
        return Err(RpcError::new(code::FUND_CANNOT_AFFORD, text).into());
    }
    assemble(node, turn, wanted, amount, change, chosen.iter().map(|(o, _)| *o).collect())
}

fn emergency(kept: Sat) -> RpcError {
    let text =
        format!("We would not have enough left for min-emergency-msat {}msat", kept.0 * 1000);
    RpcError::new(code::FUND_CANNOT_AFFORD_WITH_EMERGENCY, text)
}

fn assemble(
    node: &Node,
    turn: &mut Turn<'_>,
    wanted: &Wanted,
    amount: Sat,
    change: Sat,
    inputs: Vec<OutPoint>,
) -> Result<Funded, Stop> {
    let out = |amount: Sat, script: ScriptBuf| TxOut {
        value: Amount::from_sat(amount.0),
        script_pubkey: script,
    };
    let mut output = vec![out(amount, wanted.script.clone())];
    let mut vout = 0;
    if change > Sat::ZERO {
        let script = next_script(node, turn, AddressKind::Taproot)?;
        output.push(out(change, script));
        // Which one is the change is nobody's business.
        if subdaemon::random::<1>()[0] & 1 == 1 {
            output.swap(0, 1);
            vout = 1;
        }
    }
    let tip = node.chain.height();
    let tx = Transaction {
        version: Version::TWO,
        // As Core does: no miner gains by undoing the last block for our fee.
        lock_time: LockTime::from_height(tip.0).unwrap_or(LockTime::ZERO),
        input: inputs
            .iter()
            .map(|previous_output| TxIn {
                previous_output: *previous_output,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            })
            .collect(),
        output,
    };
    Ok(Funded { tx, inputs, vout, amount })
}

/// Has hsmd sign a transaction whose inputs are all ours.
pub fn sign(node: &Node, turn: &mut Turn<'_>, tx: &Transaction) -> Result<Transaction, Stop> {
    let mut inputs = Vec::new();
    let mut spent = Vec::new();
    for (index, input) in tx.input.iter().enumerate() {
        let output = node.wallet.outputs.get(&input.previous_output).ok_or_else(|| {
            Stop::refused(format!(
                "input {} of a transaction of ours is not in the wallet",
                input.previous_output
            ))
        })?;
        inputs.push(WalletInput {
            index: index as u32,
            key: WalletKey::Address { index: output.key_index },
            amount: output.amount,
            script: output.script.clone(),
        });
        spent.push(SpentOutput { amount: output.amount, script: output.script.clone() });
    }
    let question = SignWallet { transaction: tx.clone(), inputs: Long(inputs), spent: Long(spent) };
    match turn.hsm.ask(&question)? {
        Completed::Ready { transaction } => Ok(transaction),
        Completed::Refused { why } => Err(Stop::refused(why)),
    }
}

/// The height at which a reservation made now ends. CLN's 72 blocks.
pub fn reservation_end(tip: BlockHeight) -> BlockHeight {
    BlockHeight(tip.0.saturating_add(72))
}
