//! Building the transaction of a claim. Pure.

use super::Case;
use super::cost::Cost;
use crate::rooms::channels::Channel;
use crate::rooms::onchain::cost::{Coin, Unbuilt};
use crate::rooms::onchain::weights::{BASE_WEIGHT, DUST, input_weight};
use crate::sys::fatal::Stop;
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Sequence, Transaction, TxIn, TxOut, Witness};
use primitives::*;
use wire::hsm::{SpentOutput, WalletInput, WalletKey};
use wire::onchaind::{Claim, ClaimShape};

/// More than any witness of ours weighs: what it costs the wallet may pay.
const MOST_WITNESS: u32 = 1000;

/// May this be a claim of this channel's? onchaind reads what strangers put on the chain, so it is
/// not believed where a lie could reach beyond its channel: a claim names a key of that channel's
/// and an output as it is, and pays nobody but us unless the peer signed what it pays (hsmd checks
/// that).
pub(super) fn may_be_of(channel: &Channel, case: &Case, claim: &Claim) -> Result<(), Stop> {
    let (of, signed_by_peer) = match &claim.key {
        WalletKey::Address { .. } => (None, false),
        WalletKey::OwnHtlc { peer, channel, .. } => (Some((*peer, *channel)), true),
        WalletKey::ToRemote { peer, channel, .. }
        | WalletKey::Delayed { peer, channel, .. }
        | WalletKey::TheirHtlc { peer, channel, .. }
        | WalletKey::RevokedDelayed { peer, channel, .. }
        | WalletKey::RevokedHtlc { peer, channel, .. }
        | WalletKey::Anchor { peer, channel } => (Some((*peer, *channel)), false),
    };
    let may_pay = match &claim.shape {
        ClaimShape::Free {} => true,
        ClaimShape::Paired { amount, .. } | ClaimShape::Whole { amount, .. } => {
            signed_by_peer && *amount <= claim.amount
        }
    };
    let is_its = of == Some((channel.peer, channel.number));
    if is_its && may_pay && is_there(case, claim) && claim.witness_weight <= MOST_WITNESS {
        return Ok(());
    }
    Err(Stop::refused(format!("onchaind claims {}, which is not its channel's", claim.outpoint)))
}

/// Is the output what the claim says? One of a transaction that is in no block any more is not
/// used.
fn is_there(case: &Case, claim: &Claim) -> bool {
    let Some(seen) = case.seen(claim.outpoint.txid) else {
        return claim.amount <= Sat::MAX_MONEY;
    };
    let output = seen.tx.output.get(claim.outpoint.vout as usize);
    output.is_some_and(|o| o.value.to_sat() == claim.amount.0 && o.script_pubkey == claim.script)
}

/// Unsigned, with what hsmd must know to sign.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsigned {
    /// It.
    pub tx: Transaction,
    /// Our inputs: all of them.
    pub inputs: Vec<WalletInput>,
    /// What each input spends.
    pub spent: Vec<SpentOutput>,
    /// What it really pays.
    pub fee: Sat,
    /// What it will weigh at most, with its witnesses.
    pub weight: u64,
}

fn input(outpoint: OutPoint, sequence: u32) -> TxIn {
    TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence(sequence),
        witness: Witness::new(),
    }
}
pub(super) fn output(amount: Sat, script: &ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(amount.0), script_pubkey: script.clone() }
}

/// The transaction that takes `claims`, all of one shape and, unless free, of one lock time, and
/// pays for itself: what free claims leave goes to `to`; what the peer signed whole pays what it
/// pays. `Err` if the fee would be below `floor`, the relay minimum.
pub fn build(
    claims: &[Claim],
    to: &ScriptBuf,
    feerate: FeeratePerKw,
    floor: FeeratePerKw,
) -> Result<Unsigned, Unbuilt> {
    let mut outputs = bound_outputs(claims);
    let have = left_by(claims);
    let weight = weight_of(claims);
    let fee = if outputs.is_empty() {
        let left = have.saturating_sub(feerate.fee(weight)).max(DUST);
        let fee = have.checked_sub(left).filter(|f| *f >= floor.fee(weight));
        let fee = fee.ok_or(Unbuilt::Worthless)?;
        outputs.push(output(left, to));
        fee
    } else {
        have
    };
    let all = claims.iter().map(Spent::from);
    Ok(assemble(all, lock_time_of(claims), outputs, fee, weight))
}

/// What a transaction that takes `claims`, each of which the peer signed with one output, needs
/// from UTXOs.
pub fn cost(claims: &[Claim]) -> Cost {
    Cost { weight: weight_of(claims), have: left_by(claims), parent: None, needs_output: false }
}

/// The transaction that takes `claims` and pays this fee from `coins`, by [`cost`]. What is left
/// goes to `to`, unless it is dust.
pub fn build_paid(claims: &[Claim], coins: &[Coin], to: &ScriptBuf, fee: Sat) -> Unsigned {
    let mut outputs = bound_outputs(claims);
    let have = Sat(left_by(claims).0 + coins.iter().map(|c| c.amount.0).sum::<u64>());
    let left = have.saturating_sub(fee);
    let fee = if left >= DUST {
        outputs.push(output(left, to));
        fee
    } else {
        have
    };
    let weight = weight_of(claims) + coins.iter().map(Coin::weight).sum::<u64>();
    let all = claims.iter().map(Spent::from).chain(coins.iter().map(Spent::from));
    assemble(all, lock_time_of(claims), outputs, fee, weight)
}

/// The outputs that the peer signed.
fn bound_outputs(claims: &[Claim]) -> Vec<TxOut> {
    let bound = claims.iter().filter_map(|claim| match &claim.shape {
        ClaimShape::Free {} => None,
        ClaimShape::Paired { amount, script } | ClaimShape::Whole { amount, script } => {
            Some(output(*amount, script))
        }
    });
    bound.collect()
}

/// What claims have beyond the outputs that the peer signed.
fn left_by(claims: &[Claim]) -> Sat {
    let value: u64 = claims.iter().map(|c| c.amount.0).sum();
    let paid: u64 = bound_outputs(claims).iter().map(|o| o.value.to_sat()).sum();
    Sat(value.saturating_sub(paid))
}

/// With one output for what is left.
fn weight_of(claims: &[Claim]) -> u64 {
    BASE_WEIGHT + claims.iter().map(input_weight).sum::<u64>()
}

/// An input, with what hsmd must know of it.
pub(super) struct Spent {
    pub outpoint: OutPoint,
    pub sequence: u32,
    pub key: WalletKey,
    pub amount: Sat,
    pub script: ScriptBuf,
}

impl From<&Claim> for Spent {
    fn from(claim: &Claim) -> Self {
        let Claim { outpoint, sequence, amount, .. } = *claim;
        let (key, script) = (claim.key.clone(), claim.script.clone());
        Self { outpoint, sequence, key, amount, script }
    }
}

impl From<&Coin> for Spent {
    fn from(coin: &Coin) -> Self {
        let key = WalletKey::Address { index: coin.key_index };
        let (outpoint, amount, script) = (coin.outpoint, coin.amount, coin.script.clone());
        Self { outpoint, sequence: Sequence::ENABLE_RBF_NO_LOCKTIME.0, key, amount, script }
    }
}

/// The transaction with these inputs and outputs, and what hsmd must know to sign it.
pub(super) fn assemble(
    all: impl Iterator<Item = Spent>,
    lock_time: u32,
    outputs: Vec<TxOut>,
    fee: Sat,
    weight: u64,
) -> Unsigned {
    let (mut ins, mut inputs, mut spent) = (Vec::new(), Vec::new(), Vec::new());
    for Spent { outpoint, sequence, key, amount, script } in all {
        let index = u32::try_from(ins.len()).expect("a plan has a few hundred inputs at most");
        ins.push(input(outpoint, sequence));
        inputs.push(WalletInput { index, key, amount, script: script.clone() });
        spent.push(SpentOutput { amount, script });
    }
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(lock_time),
        input: ins,
        output: outputs,
    };
    Unsigned { tx, inputs, spent, fee, weight }
}

fn lock_time_of(claims: &[Claim]) -> u32 {
    claims.iter().map(|c| c.lock_time).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::onchain::cost::Utxo;
    use crate::rooms::onchain::plan::tests::{claim, outpoint};

    const FLOOR: FeeratePerKw = FeeratePerKw::FLOOR;

    fn coin(n: u8, amount: u64) -> Coin {
        Coin {
            outpoint: outpoint(n),
            amount: Sat(amount),
            script: ScriptBuf::from(vec![0x51, 0x20]),
            key_index: 1,
        }
    }
    fn paired(n: u8, amount: u64) -> Claim {
        let shape = ClaimShape::Paired { amount: Sat(amount), script: ScriptBuf::from(vec![n]) };
        Claim { shape, lock_time: 700, sequence: 1, ..claim(n, amount) }
    }

    #[test]
    fn what_is_claimed_freely_pays_its_own_fee_and_the_rest_is_ours() {
        let to = ScriptBuf::from(vec![0x52]);
        let claims = [claim(1, 10_000), claim(2, 20_000)];
        let built = build(&claims, &to, FeeratePerKw(1000), FLOOR).unwrap();
        let weight = BASE_WEIGHT + claims.iter().map(input_weight).sum::<u64>();
        assert_eq!(built.fee, FeeratePerKw(1000).fee(weight));
        assert_eq!(built.tx.output, [output(Sat(30_000 - built.fee.0), &to)]);
        assert_eq!(built.inputs.len(), 2);
        assert_eq!(
            build(&[claim(1, 300)], &to, FeeratePerKw(1000), FLOOR),
            Err(Unbuilt::Worthless)
        );
        let poor = build(&[claim(1, 600)], &to, FeeratePerKw(5000), FLOOR).unwrap();
        assert_eq!((poor.fee, poor.tx.output[0].value.to_sat()), (Sat(270), 330));
        // No mempool takes less than the relay minimum: nothing of that kind is built.
        let weight = BASE_WEIGHT + input_weight(&claim(1, 600));
        let least = FLOOR.fee(weight).0 + DUST.0;
        let at = |amount| build(&[claim(1, amount)], &to, FeeratePerKw(5000), FLOOR);
        assert_eq!(at(least - 1), Err(Unbuilt::Worthless));
        assert_eq!(at(least).unwrap().fee, FLOOR.fee(weight));
    }

    #[test]
    fn paired_claim_keeps_its_index_and_utxos_pay_its_fee() {
        let to = ScriptBuf::from(vec![0x52]);
        let claims = [paired(1, 10_000), paired(2, 20_000)];
        let utxo = |amount| Utxo { coin: coin(9, amount), held_by: None, made_by: None };
        let fee = |utxos: &[Utxo]| cost(&claims).fee(utxos, FeeratePerKw(1000), FLOOR);
        let Err(Unbuilt::Short(missing)) = fee(&[]) else { panic!("nobody pays") };
        assert!(missing > Sat(1000));
        let paid = fee(&[utxo(50_000)]).unwrap();
        let built = build_paid(&claims, &[coin(9, 50_000)], &to, paid);
        assert_eq!(built.fee, paid);
        assert_eq!(built.tx.lock_time.to_consensus_u32(), 700);
        for (i, c) in claims.iter().enumerate() {
            assert_eq!(built.tx.input[i].previous_output, c.outpoint);
            assert_eq!(built.tx.input[i].sequence, Sequence(1));
            assert_eq!(built.tx.output[i].value.to_sat(), c.amount.0);
        }
        assert_eq!(built.tx.output[2], output(Sat(50_000 - built.fee.0), &to));
        let paid = fee(&[utxo(built.fee.0)]).unwrap();
        let exact = build_paid(&claims, &[coin(9, built.fee.0)], &to, paid);
        assert_eq!(exact.tx.output.len(), 2, "dust is fee");
    }

    #[test]
    fn what_the_peer_signed_whole_is_left_as_it_is() {
        let shape = ClaimShape::Whole { amount: Sat(9_000), script: ScriptBuf::from(vec![7]) };
        let whole = Claim { shape, ..claim(1, 10_000) };
        let built = build(&[whole], &ScriptBuf::new(), FeeratePerKw(1), FLOOR).unwrap();
        assert_eq!((built.fee, built.tx.output.len()), (Sat(1000), 1));
    }
}
