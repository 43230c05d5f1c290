//! The node's own coins: addresses, outputs, choosing among them, spending them.
//!
//! Keys never come here: addresses are derived from the public half, and hsmd signs descriptions.

pub mod blocks;
pub mod coins;
pub mod rescan;
pub mod spend;
pub mod store;

use crate::kernel::floor::scope;
use bitcoin::bip32::{ChildNumber, Xpub};
use bitcoin::{ScriptBuf, Txid};
use primitives::{BlockHeight, Network, OutPoint, Sat};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

/// How many addresses beyond the last one issued are watched: a database put back to an earlier
/// state still sees its money.
const LOOKAHEAD: u32 = if cfg!(feature = "fuzzing") { 2 } else { 50 };
/// The highest address index. All up to the last one issued are derived at each start, which takes
/// a minute or two for so many.
pub const MAX_INDEX: u32 = if cfg!(feature = "fuzzing") { 200 } else { 1_000_000 };
/// What a coinbase output waits for. Consensus.
pub const COINBASE_MATURITY: u32 = 100;

/// A transaction that spends an output of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spend {
    /// Which.
    pub txid: Txid,
    /// In which block, once it is.
    pub height: Option<BlockHeight>,
}

/// An output that pays to a key of the wallet: a UTXO, or spent.
#[derive(Debug, Clone)]
pub struct Output {
    /// What is in it.
    pub amount: Sat,
    /// What locks it.
    pub script: ScriptBuf,
    /// The key that opens it.
    pub key_index: u32,
    /// Did a miner make it?
    pub coinbase: bool,
    /// In which block, once it is.
    pub confirmed: Option<BlockHeight>,
    /// By what, once it is.
    pub spent: Option<Spend>,
    /// Not to be chosen below this height.
    pub reserved_until: BlockHeight,
}

impl Output {
    /// Can the next block spend it?
    pub fn is_mature(&self, tip: BlockHeight) -> bool {
        !self.coinbase || self.confirmed.is_some_and(|c| (tip - c).0 + 1 >= COINBASE_MATURITY)
    }
    /// Is it kept for somebody?
    pub fn is_reserved(&self, tip: BlockHeight) -> bool {
        self.reserved_until > tip
    }
    /// As CLN says it.
    pub fn status(&self, tip: BlockHeight) -> &'static str {
        match (self.spent, self.confirmed) {
            (Some(_), _) => "spent",
            (None, None) => "unconfirmed",
            (None, Some(_)) if !self.is_mature(tip) => "immature",
            (None, Some(_)) => "confirmed",
        }
    }
}

/// What the node owns on chain.
#[derive(Debug)]
pub struct Wallet {
    xpub: Xpub,
    scripts: HashMap<ScriptBuf, u32>,
    pub last_index: Cell<u32>,
    watched_to: Cell<u32>,
    /// Every output we ever had and whose spend is not long buried.
    pub outputs: BTreeMap<OutPoint, Output>,
    /// Old blocks that are to be looked at again.
    pub rescan: Rescan,
    /// What the rescan found so far, and saw spent by nothing.
    pub found: BTreeMap<OutPoint, Output>,
}

scope! {
    /// This room and those below it.
    pub struct Scope { wallet: Wallet } on crate::rooms::chain::Scope
}

/// The two forms of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// P2WPKH.
    Bech32,
    /// P2TR, by BIP 86.
    Taproot,
}

impl Wallet {
    /// From the public half and the rows.
    pub fn new(xpub: Xpub, last_index: u32, outputs: BTreeMap<OutPoint, Output>) -> Self {
        let mut wallet = Self {
            xpub,
            scripts: HashMap::new(),
            last_index: Cell::new(last_index),
            watched_to: Cell::new(0),
            outputs,
            rescan: Rescan::default(),
            found: BTreeMap::new(),
        };
        wallet.watch();
        wallet
    }

    /// The script of this address.
    pub fn script(&self, index: u32, kind: AddressKind) -> ScriptBuf {
        let secp = secp256k1::SECP256K1;
        let child = ChildNumber::Normal { index };
        let key = self
            .xpub
            .derive_pub(secp, &[child])
            .expect("an index that is no key has a chance of 2^-127")
            .public_key;
        match kind {
            AddressKind::Bech32 => {
                ScriptBuf::new_p2wpkh(&bitcoin::CompressedPublicKey(key).wpubkey_hash())
            }
            AddressKind::Taproot => ScriptBuf::new_p2tr(secp, key.x_only_public_key().0, None),
        }
    }

    fn watch(&mut self) {
        let upto = self.last_index.get().saturating_add(LOOKAHEAD).min(MAX_INDEX);
        for index in self.watched_to.get() + 1..=upto {
            for kind in [AddressKind::Bech32, AddressKind::Taproot] {
                let script = self.script(index, kind);
                self.scripts.insert(script, index);
            }
        }
        self.watched_to.set(upto);
    }

    /// Whose key opens this script, if it is ours.
    pub fn index_of(&self, script: &ScriptBuf) -> Option<u32> {
        self.scripts.get(script).copied()
    }
}

/// The text of an address.
pub fn address(script: &ScriptBuf, network: Network) -> Option<String> {
    let params = network.bitcoin();
    bitcoin::Address::from_script(script, params).ok().map(|a| a.to_string())
}

/// How far it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Rescan {
    /// Whether there is something to do is asked once we have caught up.
    #[default]
    ToBegin,
    /// This block is next, up to the tip. So often in a row the backend could not say what is in
    /// it.
    Next(BlockHeight, u32),
    /// It was done, or not asked for.
    Done,
}
