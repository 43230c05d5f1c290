//! Choosing coins and building what spends them.

use crate::kernel::turn::Turn;
use crate::rooms::wallet::spend::next_script;
use crate::rooms::wallet::{AddressKind, Output, Scope};
use crate::sys::fatal::Stop;
use crate::sys::form::{RpcError, code};
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use primitives::{BlockHeight, FeeratePerKw, OutPoint, Sat, ScriptBuf};
use std::collections::BTreeSet;
use wire::Long;
use wire::hsm::{Completed, SignWallet, SpentOutput, WalletInput, WalletKey};

/// Weight of a segwit transaction without inputs and outputs: version, locktime, counts, marker.
const BASE_WEIGHT: u64 = (4 + 4 + 1 + 1) * 4 + 2;
/// Outpoint, sequence and an empty script, then the witness.
const P2WPKH_INPUT_WEIGHT: u64 = 41 * 4 + 1 + 1 + 72 + 1 + 33;
const P2TR_INPUT_WEIGHT: u64 = 41 * 4 + 1 + 1 + 64;
/// Amount, length and script of a P2TR output: our change.
const CHANGE_WEIGHT: u64 = (8 + 1 + 34) * 4;
/// What is heavier is not relayed: Core's bound, less what the counts of many inputs and outputs
/// take more than we reckon.
const MAX_WEIGHT: u64 = 400_000 - 16;
/// Below it a P2TR output is not relayed.
const P2TR_DUST: Sat = Sat(330);
/// The fee may be this share of what is spent at most, so that a slip in a feerate cannot burn a
/// wallet: one half.
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
    /// Claims and anchor bumps under way: their unconfirmed change is not spent.
    pub replaceable: BTreeSet<Txid>,
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

/// Is it the unconfirmed change of a claim or anchor bump? What spends it would have to be paid for
/// by each replacement, and be lost with it.
fn may_be_replaced(wanted: &Wanted, outpoint: &OutPoint, output: &Output) -> bool {
    output.confirmed.is_none() && wanted.replaceable.contains(&outpoint.txid)
}

fn candidates<'a>(
    node: &'a Scope,
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
                None => Err(RpcError::params(format!("Unknown UTXO {o}: it is none of this wallet's"))),
                Some(out) if out.spent.is_some() => {
                    Err(RpcError::params(format!("utxos: {o} is spent")))
                }
                Some(out) if may_be_replaced(wanted, o, out) => Err(RpcError::params(format!(
                    "utxos: {o} is unconfirmed change of a transaction whose fee may be raised: wait until it is in a block"
                ))),
                Some(out) if out.is_reserved(tip) => Err(RpcError::params(format!(
                    "UTXO {o} already reserved, until block {}",
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
    let usable = |(p, o): &(&OutPoint, &Output)| {
        o.spent.is_none()
            && !may_be_replaced(wanted, p, o)
            && !o.is_reserved(tip)
            && o.is_mature(tip)
            && confirmations(o) >= wanted.minconf
    };
    let mut all: Vec<_> = node.wallet.outputs.iter().filter(usable).map(|(p, o)| (*p, o)).collect();
    // The largest first: few inputs, low fee.
    all.sort_by_key(|(_, o)| std::cmp::Reverse(o.amount));
    Ok(all)
}

/// Chooses coins and builds the transaction. Nothing is reserved or marked: see [`super::spend`]
/// and [`super::reserve`].
pub fn build(node: &Scope, turn: &mut Turn<'_>, wanted: &Wanted) -> Result<Funded, Stop> {
    let utxos = candidates(node, wanted)?;
    let floor = node.feerate_floor();
    if wanted.feerate < floor {
        let text = format!(
            "feerate: bitcoind relays nothing below {floor} now, and {} was asked for",
            wanted.feerate
        );
        return Err(RpcError::params(text).into());
    }
    let chosen = choose(wanted, &utxos);
    let (amount, change) = split(node, wanted, &utxos, &chosen)?;
    check(wanted, &chosen, amount, change)?;
    assemble(node, turn, wanted, amount, change, chosen.outpoints)
}

/// The UTXOs that a transaction spends.
struct Chosen {
    outpoints: Vec<OutPoint>,
    sum: Sat,
    /// Of the transaction, without change.
    weight: u64,
}

/// All of them where everything is wanted or they were named by hand; else the first that suffice.
fn choose(wanted: &Wanted, utxos: &[(OutPoint, &Output)]) -> Chosen {
    let weight = BASE_WEIGHT + output_weight(&wanted.script);
    let mut chosen = Chosen { outpoints: vec![], sum: Sat::ZERO, weight };
    for (outpoint, output) in utxos {
        let suffices =
            |amount: Sat| chosen.sum >= amount.saturating_add(wanted.feerate.fee(chosen.weight));
        if wanted.utxos.is_none() && wanted.amount.is_some_and(suffices) {
            break;
        }
        chosen.sum = chosen.sum.saturating_add(output.amount);
        chosen.weight += input_weight(output);
        chosen.outpoints.push(*outpoint);
    }
    chosen
}

/// What the wanted output and the change get. Change of zero: no such output.
fn split(
    node: &Scope,
    wanted: &Wanted,
    utxos: &[(OutPoint, &Output)],
    chosen: &Chosen,
) -> Result<(Sat, Sat), Stop> {
    let have = Sat(utxos.iter().map(|(_, o)| o.amount.0).sum());
    let afford = |needed: Sat| cannot_afford(needed, have, utxos.len());
    let fee = wanted.feerate.fee(chosen.weight);
    // What is kept back must be an output that is relayed.
    let kept =
        if wanted.emergency > Sat::ZERO { wanted.emergency.max(P2TR_DUST) } else { Sat::ZERO };
    match wanted.amount {
        None if kept > Sat::ZERO => {
            let fee = wanted.feerate.fee(chosen.weight + CHANGE_WEIGHT);
            let all = chosen.sum.checked_sub(fee).and_then(|s| s.checked_sub(kept));
            Ok((all.ok_or_else(|| emergency(kept))?, kept))
        }
        None => Ok((chosen.sum.checked_sub(fee).ok_or_else(|| afford(fee))?, Sat::ZERO)),
        Some(amount) => {
            let needed = amount.saturating_add(fee);
            let left = chosen.sum.checked_sub(needed).ok_or_else(|| afford(needed))?;
            let change = left.saturating_sub(wanted.feerate.fee(CHANGE_WEIGHT));
            let change = if change < P2TR_DUST { Sat::ZERO } else { change };
            // What was not chosen stays, by hand or by us.
            let all = Wanted { utxos: None, ..wanted.clone() };
            let all: u64 = candidates(node, &all)?.iter().map(|(_, o)| o.amount.0).sum();
            let kept_elsewhere = Sat(all).saturating_sub(chosen.sum);
            if change.saturating_add(kept_elsewhere) < kept {
                return Err(emergency(kept).into());
            }
            Ok((amount, change))
        }
    }
}

/// Refuses what no bitcoind relays, and a fee that is most of what is spent.
fn check(wanted: &Wanted, chosen: &Chosen, amount: Sat, change: Sat) -> Result<(), RpcError> {
    if chosen.weight + CHANGE_WEIGHT > MAX_WEIGHT {
        let text = format!(
            "a transaction that spends {} UTXOs is too large for any bitcoind to relay: spend fewer of them, as with 'utxos', or the small ones first",
            chosen.outpoints.len()
        );
        return Err(RpcError::new(code::FUND_CANNOT_AFFORD, text));
    }
    let least = Sat(wanted.script.minimal_non_dust().to_sat());
    if amount < least {
        let text = format!("an output of {amount} is dust: the least is {}", least.0);
        return Err(RpcError::new(code::FUND_OUTPUT_IS_DUST, text));
    }
    let fee = chosen.sum.saturating_sub(amount).saturating_sub(change);
    if fee.0 > chosen.sum.0 / MAX_FEE_SHARE {
        let text = format!(
            "the fee would be {fee} of {} spent, at {}: choose a lower feerate",
            chosen.sum, wanted.feerate
        );
        return Err(RpcError::new(code::FUND_CANNOT_AFFORD, text));
    }
    Ok(())
}

fn cannot_afford(needed: Sat, have: Sat, utxos: usize) -> RpcError {
    let text = format!(
        "Could not afford {needed} using all {utxos} available UTXOs: {} short, they are worth {have}",
        needed.saturating_sub(have)
    );
    RpcError::new(code::FUND_CANNOT_AFFORD, text)
}

fn emergency(kept: Sat) -> RpcError {
    let text =
        format!("We would not have enough left for min-emergency-msat {}msat", kept.0 * 1000);
    RpcError::new(code::FUND_CANNOT_AFFORD_WITH_EMERGENCY, text)
}

fn assemble(
    node: &Scope,
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
pub fn sign(node: &Scope, turn: &mut Turn<'_>, tx: &Transaction) -> Result<Transaction, Stop> {
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
    match turn.hsm.complete(&question)? {
        Completed::Ready { transaction } => Ok(transaction),
        Completed::Refused { why } => Err(Stop::refused(why)),
    }
}

/// The height at which a reservation made now ends. CLN's 72 blocks.
pub fn reservation_end(tip: BlockHeight) -> BlockHeight {
    BlockHeight(tip.0.saturating_add(72))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;
    use bitcoin::hashes::Hash;
    use serde_json::json;

    const COIN: Sat = Sat(10_000);

    /// A wallet of so many coins of equal worth.
    fn rich(name: &str, coins: u32) -> Rig {
        let mut rig = Rig::new(name, &[]);
        for n in 0..coins {
            let outpoint = OutPoint { txid: bitcoin::Txid::all_zeros(), vout: n };
            let coin = Output {
                amount: COIN,
                script: ScriptBuf::new_p2wpkh(&Hash::all_zeros()),
                key_index: 1,
                coinbase: false,
                confirmed: Some(BlockHeight(50)),
                spent: None,
                reserved_until: BlockHeight(0),
            };
            rig.node.wallet.outputs.insert(outpoint, coin);
        }
        rig
    }
    fn wanted(amount: Option<Sat>, emergency: Sat) -> Wanted {
        let script = ScriptBuf::new_p2wsh(&Hash::all_zeros());
        let feerate = FeeratePerKw(253);
        Wanted {
            script,
            amount,
            feerate,
            minconf: 1,
            utxos: None,
            emergency,
            replaceable: BTreeSet::new(),
        }
    }
    fn built(rig: &mut Rig, wanted: &Wanted) -> Result<Funded, String> {
        let made = std::cell::RefCell::new(None);
        rig.turn(|node, turn| {
            *made.borrow_mut() = Some(build(node, turn, wanted));
            Ok(())
        });
        made.into_inner().unwrap().map_err(|e| match e {
            Stop::Refused(e) => e.message,
            Stop::Fatal(e) => panic!("{e}"),
        })
    }
    fn worth(coins: u64) -> Sat {
        Sat(COIN.0 * coins)
    }

    #[test]
    fn a_transaction_that_is_too_large_to_be_relayed_is_not_made() {
        let mut rig = rich("large", 1500);
        for amount in [None, Some(worth(1465))] {
            let refused = built(&mut rig, &wanted(amount, Sat(25_000))).err();
            assert!(refused.is_some_and(|e| e.contains("too large")), "{amount:?}");
        }
        let mut fits = built(&mut rig, &wanted(Some(worth(1450)), Sat(25_000))).unwrap().tx;
        for input in &mut fits.input {
            input.witness = Witness::from_slice(&[&[0; 72][..], &[0; 33]]);
        }
        assert!(fits.weight().to_wu() <= 400_000);
    }

    #[test]
    fn a_feerate_that_is_not_relayed_is_refused_with_both() {
        let mut rig = rich("relayed", 2);
        let full = json!({"feerate_floor": 4000, "feerates": [{"blocks": 2, "feerate": 8000}]});
        rig.node.chain.fees =
            Some(crate::rooms::chain::estimates::Estimates::parse(&full).unwrap());
        let low = wanted(Some(COIN), Sat::ZERO);
        let refused = built(&mut rig, &low).err().unwrap();
        assert!(refused.contains("below 1000perkw now, and 253perkw"), "{refused}");
        let feerate = FeeratePerKw(1000);
        assert!(built(&mut rig, &Wanted { feerate, ..low }).is_ok());
    }

    #[test]
    fn what_is_kept_back_is_no_dust_however_little_was_asked_for() {
        let mut rig = rich("kept", 2);
        let spends_all = built(&mut rig, &wanted(None, Sat(1))).unwrap();
        let least = spends_all.tx.output.iter().map(|o| o.value.to_sat()).min();
        assert_eq!(least, Some(P2TR_DUST.0));
        // Change that would be dust is fee, and keeps nothing back.
        let nearly_all = wanted(Some(Sat(worth(2).0 - 500)), Sat(1));
        assert!(built(&mut rig, &nearly_all).unwrap_err().contains("min-emergency"));
    }
}
