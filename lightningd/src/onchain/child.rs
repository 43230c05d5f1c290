//! The child of a commitment that pays for both: built, signed and sent, for each commitment that may stand in a mempool.

use super::anchor::bumped_txid;
use super::attempt::{Attempt, Kind};
use super::attempts::{drop_attempt, keep};
use super::claims::{Coin, DUST, Unsigned};
use super::commitments::Bumpable;
use super::cost::{Cost, Parent, Utxo};
use super::fees::MAX_SHARE;
use super::send;
use crate::chain::{self, BroadcastFor, Purpose};
use crate::channels::Channel;
use crate::node::Node;
use crate::plugin_host::call_backend;
use crate::turn::{Stop, Turn};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use primitives::*;
use serde_json::json;
use wire::Long;
use wire::daemon::LogLevel;
use wire::hsm::{Completed, SignWallet, SpentOutput, WalletInput, WalletKey};

/// Weight of the child without UTXOs: the anchor's input and one output to us.
const CHILD_WEIGHT: u64 = super::plan::BASE_WEIGHT + 41 * 4 + 1 + 1 + 73 + 1 + 40;

/// Builds, signs and stores an anchor bump with these UTXOs. `None` if hsmd does not sign it.
pub(super) fn make(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    target: &Bumpable,
    (utxos, fee): (&[Utxo], Sat),
) -> Result<Option<Transaction>, Stop> {
    let to = send::sweep_script(node, turn, channel.number)?;
    signed(turn, channel, build(channel, target.anchor, utxos, &to, fee))
}

pub(super) const fn whose(owner: Side) -> &'static str {
    match owner {
        Side::Local => "our",
        Side::Remote => "the peer's",
    }
}

fn signed(
    turn: &mut Turn<'_>,
    channel: &Channel,
    unsigned: Unsigned,
) -> Result<Option<Transaction>, Stop> {
    let question = SignWallet {
        transaction: unsigned.tx,
        inputs: Long(unsigned.inputs),
        spent: Long(unsigned.spent),
    };
    match turn.hsm.ask(&question)? {
        Completed::Ready { transaction } => Ok(Some(transaction)),
        Completed::Refused { why } => {
            channel.log(LogLevel::Broken, &format!("hsmd does not sign for our anchor: {why}"));
            Ok(None)
        }
    }
}

/// The same bump for each other commitment of the channel, with the same UTXOs: at most one of the commitments can be in a mempool, and
/// with it at most one of these children. Each pays what brings its commitment to `bump`'s feerate, at most `bump`'s fee or half of `worth`,
/// whichever is more; one below the relay minimum is left out. They are in no row: what bitcoind accepts of them takes the place of `bump` ([`alternative_answered`]).
pub(super) fn alternatives(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    bump: &Attempt,
    (utxos, others): (&[Utxo], &[&Bumpable]),
    worth: Sat,
) -> Result<Vec<Attempt>, Stop> {
    let number = channel.number;
    let floor = node.feerate_floor();
    let to = send::sweep_script(node, turn, number)?;
    let have = channel::ANCHOR.0 + utxos.iter().map(|u| u.coin.amount.0).sum::<u64>();
    let paid: u64 = bump.tx.output.iter().map(|o| o.value.to_sat()).sum();
    let most = have.saturating_sub(paid).max(worth.0 / MAX_SHARE).min(have.saturating_sub(DUST.0));
    let mut made = Vec::new();
    for other in others.iter().filter(|b| b.pays_less_than(bump.feerate)) {
        let fee = cost(other).price(utxos, bump.feerate, floor).min(Sat(most));
        let unsigned = build(channel, other.anchor, utxos, &to, fee);
        if unsigned.fee < floor.fee(unsigned.weight) {
            continue;
        }
        let Some(tx) = signed(turn, channel, unsigned)? else { continue };
        let (txid, claims) = (tx.compute_txid(), vec![other.anchor]);
        made.push(Attempt {
            txid,
            tx,
            claims,
            refused: true,
            accepted: None,
            refused_since: None,
            ..bump.clone()
        });
    }
    let copy = made.clone();
    turn.install(move |node| drop(node.onchain.alternative_bumps.insert(number, copy)));
    Ok(made)
}

/// bitcoind accepted one of these children, or did not: what it accepted is the channel's anchor bump from now on, with a row, and the
/// one before is an alternative.
pub(super) fn alternative_answered(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    txid: Txid,
    is_refused: bool,
) -> Result<(), Stop> {
    let known = node.onchain.alternative_bumps.get(&number);
    let Some(accepted) = known.and_then(|all| all.iter().find(|a| a.txid == txid)) else {
        return Ok(());
    };
    if is_refused {
        return Ok(());
    }
    let attempts = node.onchain.attempts.get(&number).into_iter().flatten();
    let before: Vec<Attempt> = attempts.filter(|a| a.kind == Kind::AnchorBump).cloned().collect();
    let mut others: Vec<Attempt> =
        known.into_iter().flatten().filter(|a| a.txid != txid).cloned().collect();
    for bump in before {
        drop_attempt(node, turn, number, &bump)?;
        others.push(bump);
    }
    log::info!(
        "bitcoind accepted anchor bump {txid} of channel {number}: it replaces the one before"
    );
    let tip = Some(node.chain.height());
    let accepted =
        Attempt { refused: false, accepted: tip, refused_since: None, ..accepted.clone() };
    chain::keep(turn.db, &accepted.tx)?;
    keep(node, turn, number, accepted)?;
    turn.install(move |node| drop(node.onchain.alternative_bumps.insert(number, others)));
    // Another bump may spend the change of the one before.
    super::allocate_fees(turn);
    Ok(())
}

/// Parent and child together, where the backend can; one after the other, where it cannot. The peer's commitment is not ours to send.
pub(super) fn submit(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    ours: &Transaction,
    child: &Attempt,
) {
    let why = BroadcastFor::Attempt(number);
    // bitcoind takes a package only with all unconfirmed parents of its child.
    let spent: Vec<Txid> = child.tx.input.iter().map(|i| i.previous_output.txid).collect();
    let all = node.onchain.attempts.values().flatten();
    let parents = all.map(|a| &a.tx).filter(|tx| spent.contains(&tx.compute_txid()));
    if bumped_txid(child) != Some(ours.compute_txid()) {
        chain::send(node, turn, &child.tx, why);
    } else if node.plugins.owner_of("submitpackage").is_some() {
        let package = [ours].into_iter().chain(parents).chain([&child.tx]);
        let params = json!({"txs": package.map(serialize_hex).collect::<Vec<_>>()});
        call_backend(node, turn, "submitpackage", &params, Purpose::Broadcast(child.txid, why));
    } else {
        chain::send(node, turn, ours, BroadcastFor::Nobody);
        chain::send(node, turn, &child.tx, why);
    }
}

/// What the child of this commitment needs from UTXOs.
pub(super) fn cost(parent: &Bumpable) -> Cost {
    let Bumpable { txid, weight, fee, .. } = *parent;
    Cost {
        weight: CHILD_WEIGHT,
        have: channel::ANCHOR,
        parent: Some(Parent { txid, weight, fee, transactions: 1 }),
        needs_output: true,
    }
}

/// The child that pays this fee for its parent and itself, by [`cost`].
fn build(
    channel: &Channel,
    anchor: OutPoint,
    utxos: &[Utxo],
    to: &ScriptBuf,
    fee: Sat,
) -> Unsigned {
    let script = channel::scripts::anchor(&channel.live.params.basepoints.local.funding).to_p2wsh();
    let coins: Vec<&Coin> = utxos.iter().map(|u| &u.coin).collect();
    let weight = CHILD_WEIGHT + coins.iter().map(|c| c.weight()).sum::<u64>();
    let have = channel::ANCHOR.0 + coins.iter().map(|c| c.amount.0).sum::<u64>();
    let key = WalletKey::Anchor { peer: channel.peer, channel: channel.number };
    let mut all = vec![(anchor, key, channel::ANCHOR, script)];
    all.extend(coins.iter().map(|c| {
        (c.outpoint, WalletKey::Address { index: c.key_index }, c.amount, c.script.clone())
    }));
    let input = |o: OutPoint| TxIn {
        previous_output: o,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: all.iter().map(|(o, ..)| input(*o)).collect(),
        output: vec![TxOut {
            value: Amount::from_sat(have.saturating_sub(fee.0)),
            script_pubkey: to.clone(),
        }],
    };
    let spent = all
        .iter()
        .map(|(_, _, amount, script)| SpentOutput { amount: *amount, script: script.clone() })
        .collect();
    let inputs = all
        .into_iter()
        .enumerate()
        .map(|(i, (_, key, amount, script))| WalletInput { index: i as u32, key, amount, script })
        .collect();
    Unsigned { tx, inputs, spent, fee, weight }
}
