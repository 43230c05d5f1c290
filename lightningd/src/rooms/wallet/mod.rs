//! The node's own coins: addresses, outputs, choosing among them, spending them.
//!
//! Keys never come here: addresses are derived from the public half, and hsmd signs descriptions.

pub mod coins;
pub mod store;

use crate::kernel::turn::{Stop, Turn};
use crate::node::Node;
use crate::sys::fatal::Fatal;
use bitcoin::bip32::{ChildNumber, Xpub};
use bitcoin::{Block, ScriptBuf, Txid};
use primitives::{BlockHeight, Network, OutPoint, Sat};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many addresses beyond the last one issued are watched: a database put back to an earlier state still sees its money.
const LOOKAHEAD: u32 = if cfg!(feature = "fuzzing") { 2 } else { 50 };
/// The highest address index. All up to the last one issued are derived at each start, which takes a minute or two for so many.
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

/// An output of ours.
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

/// Issues the next address index: never issued before. Past [`MAX_INDEX`] that one serves again: what is to be paid to us, be it a
/// claim, needs an address.
pub fn next_index(node: &Node, turn: &mut Turn<'_>) -> Result<u32, Fatal> {
    let index = (node.wallet.last_index.get() + 1).min(MAX_INDEX);
    node.wallet.last_index.set(index);
    store::set_last_index(turn.db, index)?;
    turn.install(|node| node.wallet.watch());
    Ok(index)
}

/// A new script to be paid by: for change, and for closings.
pub fn next_script(
    node: &Node,
    turn: &mut Turn<'_>,
    kind: AddressKind,
) -> Result<ScriptBuf, Fatal> {
    Ok(node.wallet.script(next_index(node, turn)?, kind))
}

/// The text of an address.
pub fn address(script: &ScriptBuf, network: Network) -> Option<String> {
    let params = network.bitcoin();
    bitcoin::Address::from_script(script, params).ok().map(|a| a.to_string())
}

/// A block joined the chain: what came in and what went out.
pub fn connect(
    node: &Node,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let mut changed: BTreeMap<OutPoint, Output> = BTreeMap::new();
    for (index, tx) in block.txdata.iter().enumerate() {
        let mut ours = false;
        let mut txid = None;
        for input in &tx.input {
            let spent = input.previous_output;
            let known = changed.get(&spent).or_else(|| node.wallet.outputs.get(&spent)).cloned();
            if let Some(mut output) = known {
                let by = *txid.get_or_insert_with(|| tx.compute_txid());
                output.spent = Some(Spend { txid: by, height: Some(height) });
                changed.insert(spent, output);
                ours = true;
            }
        }
        for (vout, out) in tx.output.iter().enumerate() {
            let Some(key_index) = node.wallet.index_of(&out.script_pubkey) else { continue };
            let by = *txid.get_or_insert_with(|| tx.compute_txid());
            let outpoint = OutPoint { txid: by, vout: vout as u32 };
            let output = match node.wallet.outputs.get(&outpoint) {
                Some(known) => Output { confirmed: Some(height), ..known.clone() },
                None => arrived(turn.db, (outpoint, out), tx.is_coinbase(), key_index, height)?,
            };
            log::info!("{} came in with {outpoint} in block {height}", output.amount);
            changed.insert(outpoint, output);
            ours = true;
        }
        if ours {
            crate::rooms::chain::store::confirmed(turn.db, tx, height, index)?;
        }
    }
    for txid in impossible(node, turn.db, block)? {
        log::info!("{txid} can be in no block any more: what it spent is free again");
        unspend(node, turn, txid)?;
        for output in changed.values_mut().filter(|o| o.spent == Some(Spend { txid, height: None }))
        {
            output.spent = None;
        }
    }
    put(node, turn, changed)
}

/// An output of ours in a block that nobody knew of.
fn arrived(
    db: &rusqlite::Connection,
    (outpoint, out): (OutPoint, &bitcoin::TxOut),
    coinbase: bool,
    key_index: u32,
    height: BlockHeight,
) -> Result<Output, Fatal> {
    // It may have been given up, and what spends it not.
    let on_its_way = crate::rooms::chain::store::sent_to_spend(db, outpoint)?;
    Ok(Output {
        amount: Sat(out.value.to_sat()),
        script: out.script_pubkey.clone(),
        key_index,
        coinbase,
        confirmed: Some(height),
        spent: on_its_way.map(|txid| Spend { txid, height: None }),
        reserved_until: BlockHeight(0),
    })
}

/// An old block is looked at once more: what it spends of the wallet's is spent, and what it brings that nobody knew of is found. It
/// is no coin before [`take_found`]: what spent it may be in one of the next blocks.
pub fn look_again(
    node: &Node,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let (mut spent, mut gone) = (BTreeMap::new(), Vec::new());
    let mut found: BTreeMap<OutPoint, Output> = BTreeMap::new();
    for (index, tx) in block.txdata.iter().enumerate() {
        let mut ours = false;
        for from in tx.input.iter().map(|input| input.previous_output) {
            if found.remove(&from).is_some() || node.chain.found.contains_key(&from) {
                gone.push(from);
                ours = true;
            } else if let Some(known) = node.wallet.outputs.get(&from) {
                let spend = Spend { txid: tx.compute_txid(), height: Some(height) };
                spent.insert(from, Output { spent: Some(spend), ..known.clone() });
                ours = true;
            }
        }
        for (vout, out) in tx.output.iter().enumerate() {
            let Some(key_index) = node.wallet.index_of(&out.script_pubkey) else { continue };
            let outpoint = OutPoint { txid: tx.compute_txid(), vout: vout as u32 };
            if !node.wallet.outputs.contains_key(&outpoint) {
                found.insert(
                    outpoint,
                    arrived(turn.db, (outpoint, out), tx.is_coinbase(), key_index, height)?,
                );
                ours = true;
            }
        }
        if ours {
            crate::rooms::chain::store::confirmed(turn.db, tx, height, index)?;
        }
    }
    watch_up_to(node, turn, &found)?;
    put(node, turn, spent)?;
    if !gone.is_empty() || !found.is_empty() {
        turn.install(move |node| {
            node.chain.found.extend(found);
            for from in gone {
                node.chain.found.remove(&from);
            }
        });
    }
    Ok(())
}

/// Every block was looked at: what was found and is spent by none is a coin.
pub fn take_found(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    let found = node.chain.found.clone();
    for (outpoint, output) in &found {
        log::info!("{} was found at {outpoint}", output.amount);
    }
    turn.install(|node| node.chain.found.clear());
    put(node, turn, found)
}

/// Which transactions of ours on their way this block made impossible: something in it spends what one of them spends, or
/// what one does that has to come before.
fn impossible(
    node: &Node,
    db: &rusqlite::Connection,
    block: &Block,
) -> Result<BTreeSet<Txid>, Fatal> {
    let spends = node.wallet.outputs.values().filter_map(|o| o.spent);
    let under_way: BTreeSet<Txid> = spends.filter(|s| s.height.is_none()).map(|s| s.txid).collect();
    let mut needs: HashMap<OutPoint, Vec<(Txid, Txid)>> = HashMap::new();
    for ours in under_way {
        let (mut line, mut known) = (vec![ours], BTreeSet::from([ours]));
        while let Some(txid) = line.pop() {
            let Some(tx) = crate::rooms::chain::store::on_its_way(db, txid)? else { continue };
            for input in tx.input {
                let from = input.previous_output;
                needs.entry(from).or_default().push((txid, ours));
                if known.insert(from.txid) {
                    line.push(from.txid);
                }
            }
        }
    }
    let mut gone = BTreeSet::new();
    for tx in block.txdata.iter().filter(|_| !needs.is_empty()) {
        for found in tx.input.iter().filter_map(|i| needs.get(&i.previous_output)) {
            let by = tx.compute_txid();
            gone.extend(found.iter().filter(|(spender, _)| *spender != by).map(|(_, ours)| *ours));
        }
    }
    Ok(gone)
}

/// A block left the chain.
pub fn disconnect(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    let mut changed = BTreeMap::new();
    let mut gone = Vec::new();
    for (outpoint, output) in &node.wallet.outputs {
        let spent_here = output.spent.is_some_and(|s| s.height == Some(height));
        if output.confirmed == Some(height) && output.coinbase {
            // A coinbase of a block that is not in the chain never was.
            gone.push(*outpoint);
        } else if output.confirmed == Some(height) || spent_here {
            let mut output = output.clone();
            if output.confirmed == Some(height) {
                output.confirmed = None;
            }
            if spent_here {
                output.spent = output.spent.map(|s| Spend { txid: s.txid, height: None });
            }
            changed.insert(*outpoint, output);
        }
    }
    for outpoint in &gone {
        store::remove(turn.db, outpoint)?;
    }
    turn.install(move |node| gone.iter().for_each(|o| drop(node.wallet.outputs.remove(o))));
    put(node, turn, changed)
}

/// The highest block below this height in which an output of the wallet's is, or is spent.
pub fn confirmed_below(node: &Node, height: BlockHeight) -> Option<BlockHeight> {
    let outputs = node.wallet.outputs.values();
    let heights = outputs.flat_map(|o| [o.confirmed, o.spent.and_then(|s| s.height)]);
    heights.flatten().filter(|h| *h < height).max()
}

fn put(node: &Node, turn: &mut Turn<'_>, changed: BTreeMap<OutPoint, Output>) -> Result<(), Stop> {
    for (outpoint, output) in &changed {
        store::put(turn.db, outpoint, output)?;
    }
    watch_up_to(node, turn, &changed)?;
    turn.install(move |node| node.wallet.outputs.extend(changed));
    Ok(())
}

/// The addresses of these count as issued.
fn watch_up_to(
    node: &Node,
    turn: &mut Turn<'_>,
    changed: &BTreeMap<OutPoint, Output>,
) -> Result<(), Stop> {
    // After a restore from a backup coins come to addresses that were issued after it: these are issued no more, and what follows
    // them is watched too.
    let highest = changed.values().map(|o| o.key_index).max().unwrap_or(0);
    if highest > node.wallet.last_index.get() {
        store::set_last_index(turn.db, highest)?;
        turn.install(move |node| {
            let last = node.wallet.last_index.get().max(highest);
            node.wallet.last_index.set(last);
            node.wallet.watch();
        });
    }
    Ok(())
}

/// A transaction of ours is on its way: its inputs are spent, and what it pays to us is there, unconfirmed.
pub fn spend(node: &Node, turn: &mut Turn<'_>, tx: &bitcoin::Transaction) -> Result<(), Stop> {
    let txid = tx.compute_txid();
    let mut changed = BTreeMap::new();
    for input in &tx.input {
        if let Some(output) = node.wallet.outputs.get(&input.previous_output) {
            let mut output = output.clone();
            output.spent = Some(Spend { txid, height: None });
            changed.insert(input.previous_output, output);
        }
    }
    for (vout, out) in tx.output.iter().enumerate() {
        if let Some(key_index) = node.wallet.index_of(&out.script_pubkey) {
            let output = Output {
                amount: Sat(out.value.to_sat()),
                script: out.script_pubkey.clone(),
                key_index,
                coinbase: false,
                confirmed: None,
                spent: None,
                reserved_until: BlockHeight(0),
            };
            changed.insert(OutPoint { txid, vout: vout as u32 }, output);
        }
    }
    put(node, turn, changed)
}

/// A transaction of ours will not happen: its inputs are there again, and what it paid to us is not.
pub fn unspend(node: &Node, turn: &mut Turn<'_>, txid: Txid) -> Result<(), Stop> {
    let of_its_own = |(o, v): &(&OutPoint, &Output)| o.txid == txid && v.confirmed.is_none();
    let gone: Vec<OutPoint> =
        node.wallet.outputs.iter().filter(of_its_own).map(|(o, _)| *o).collect();
    for outpoint in &gone {
        store::remove(turn.db, outpoint)?;
    }
    store::release(turn.db, txid)?;
    turn.install(move |node| {
        gone.iter().for_each(|o| drop(node.wallet.outputs.remove(o)));
        for output in node.wallet.outputs.values_mut() {
            if output.spent == Some(Spend { txid, height: None }) {
                output.spent = None;
                output.reserved_until = BlockHeight(0);
            }
        }
    });
    Ok(())
}

/// Keeps these from being chosen until a height; zero lets them go.
pub fn reserve(
    node: &Node,
    turn: &mut Turn<'_>,
    outpoints: &[OutPoint],
    until: BlockHeight,
) -> Result<(), Stop> {
    let mut changed = BTreeMap::new();
    for outpoint in outpoints {
        if let Some(output) = node.wallet.outputs.get(outpoint) {
            changed.insert(*outpoint, Output { reserved_until: until, ..output.clone() });
        }
    }
    put(node, turn, changed)
}
