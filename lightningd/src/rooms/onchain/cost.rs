//! UTXOs of the wallet as inputs that pay a fee, and the fee of a transaction that spends them.
//! Pure.

use crate::rooms::onchain::weights::{DUST, OUTPUT_WEIGHT};
use bitcoin::Txid;
use primitives::*;

/// UTXOs in one transaction: with its claims it stays far below what is relayed (400,000 weight
/// units).
const MAX_UTXOS: usize = 100;

/// An unconfirmed transaction that a child pays for, with its unconfirmed ancestors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    pub txid: Txid,
    /// Of all of them, in weight units.
    pub weight: u64,
    /// What all of them pay.
    pub fee: Sat,
    /// How many they are.
    pub transactions: u32,
}

/// An output of the wallet that may pay a fee.
#[derive(Debug, Clone, PartialEq)]
pub struct Utxo {
    pub coin: Coin,
    /// The standing transaction that spends it. `None`: it is free.
    pub held_by: Option<Txid>,
    /// The standing transaction whose change it is. `None`: it is confirmed.
    pub made_by: Option<Parent>,
}

impl Utxo {
    /// Is it the unconfirmed change of this transaction?
    pub fn is_change_of(&self, txid: Txid) -> bool {
        self.made_by.is_some_and(|maker| maker.txid == txid)
    }
}

/// What a transaction needs from UTXOs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Weight units without UTXOs, with an output for what is left.
    pub weight: u64,
    /// What its other inputs have beyond its other outputs.
    pub have: Sat,
    /// The commitment that it pays for.
    pub parent: Option<Parent>,
    /// Is the output for what is left its only one, so that it must be there?
    pub needs_output: bool,
}

impl Cost {
    /// The fee at this feerate with these UTXOs. What is left is above the dust limit or part of
    /// the fee.
    ///
    /// # Errors
    /// [`Unbuilt::Short`] with what is missing.
    pub fn fee(
        &self,
        utxos: &[Utxo],
        rate: FeeratePerKw,
        floor: FeeratePerKw,
    ) -> Result<Sat, Unbuilt> {
        let have = self.have.0 + utxos.iter().map(|u| u.coin.amount.0).sum::<u64>();
        let fee = self.price(utxos, rate, floor);
        let least = if self.needs_output {
            fee.saturating_add(DUST)
        } else {
            let without = Self { weight: self.weight - OUTPUT_WEIGHT, ..*self };
            without.price(utxos, rate, floor)
        };
        if have < least.0 {
            return Err(Unbuilt::Short(Sat(least.0 - have)));
        }
        Ok(if have >= fee.saturating_add(DUST).0 { fee } else { Sat(have) })
    }

    /// Its weight with these UTXOs, in weight units.
    pub fn weight_with(&self, utxos: &[Utxo]) -> u64 {
        self.weight + utxos.iter().map(|u| u.coin.weight()).sum::<u64>()
    }

    /// The fee that brings it and its unconfirmed parents to this feerate. It is never below the
    /// relay minimum by itself.
    pub fn price(&self, utxos: &[Utxo], rate: FeeratePerKw, floor: FeeratePerKw) -> Sat {
        let weight = self.weight_with(utxos);
        let mut parents: Vec<Parent> = self.parent.into_iter().collect();
        for made_by in utxos.iter().filter_map(|u| u.made_by) {
            let is_known = parents.iter().any(|p| p.txid == made_by.txid);
            if !is_known && rate.fee(made_by.weight) > made_by.fee {
                parents.push(made_by);
            }
        }
        let weights: u64 = parents.iter().map(|p| p.weight).sum();
        let paid: u64 = parents.iter().map(|p| p.fee.0).sum();
        rate.fee(weight + weights).saturating_sub(Sat(paid)).max(floor.fee(weight))
    }
}

/// Builds with as few UTXOs as it takes: all of the first `kept`; of the others, sorted by amount,
/// one that is enough alone, else the largest.
pub(super) fn with_utxos<T>(
    all: &[Utxo],
    kept: usize,
    rate: FeeratePerKw,
    build: impl Fn(&[Utxo]) -> Result<T, Unbuilt>,
) -> Result<(T, Vec<Utxo>), Unbuilt> {
    let alone = |u: &Utxo| build(std::slice::from_ref(u));
    if kept == 0
        && let Some(utxo) = all.get(all.partition_point(|u| alone(u).is_err()))
        && let Ok(built) = alone(utxo)
    {
        return Ok((built, vec![utxo.clone()]));
    }
    let mut chosen: Vec<Utxo> = all.get(..kept).unwrap_or_default().to_vec();
    let brings = |u: &Utxo| u.coin.amount.saturating_sub(rate.fee(u.coin.weight()));
    let rest = all.get(kept..).unwrap_or_default().iter().rev();
    let mut rest = rest.filter(|u| brings(u) > Sat(0)).take(MAX_UTXOS.saturating_sub(kept));
    let mut first = None;
    loop {
        let why = match build(&chosen) {
            Ok(built) => return Ok((built, chosen)),
            Err(why) => why,
        };
        let first = *first.get_or_insert(why);
        let Unbuilt::Short(mut missing) = why else { return Err(why) };
        // Nothing is built before that much more is there.
        let Some(utxo) = rest.next() else { return Err(first) };
        missing = missing.saturating_sub(brings(utxo));
        chosen.push(utxo.clone());
        while missing > Sat(0)
            && let Some(utxo) = rest.next()
        {
            missing = missing.saturating_sub(brings(utxo));
            chosen.push(utxo.clone());
        }
    }
}

/// A coin of the wallet that pays a fee.
#[derive(Debug, Clone, PartialEq)]
pub struct Coin {
    /// Which.
    pub outpoint: OutPoint,
    /// What is in it.
    pub amount: Sat,
    /// What locks it.
    pub script: ScriptBuf,
    /// Index of the wallet key that it pays to.
    pub key_index: u32,
}

impl Coin {
    /// Weight of the input that spends it.
    pub fn weight(&self) -> u64 {
        41 * 4 + if self.script.is_p2tr() { 1 + 1 + 64 } else { 1 + 1 + 72 + 1 + 33 }
    }
}

/// Why there is no transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unbuilt {
    /// The coins given do not pay the fee: this much is missing.
    Short(Sat),
    /// It would cost more than it brings.
    Worthless,
    /// With the coins that it takes it would cost more than it should.
    Dear,
}
