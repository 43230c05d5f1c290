//! The child of a commitment that pays for both: built, signed and sent, for each commitment that
//! may stand in a mempool.

use super::anchor::{Unconfirmed, bumped_txid};
use super::attempt::{Attempt, Kind};
use super::attempts::{drop_attempt, keep};
use super::claims;
use super::commitments::Bumpable;
use super::cost::Utxo;
use super::fees::MAX_SHARE;
use crate::kernel::plugins::backend::Question;
use crate::kernel::plugins::calls::call_backend;
use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::{BroadcastFor, Purpose};
use crate::rooms::chain;
use crate::rooms::channels::Channel;
use crate::rooms::onchain::Scope;
use crate::rooms::onchain::child_cost::{CHILD_WEIGHT, cost};
use crate::rooms::onchain::claims::{Spent, Unsigned};
use crate::rooms::onchain::weights::DUST;
use crate::sys::fatal::Stop;
use bitcoin::{Sequence, Transaction, Txid};
use primitives::*;
use wire::hsm::WalletKey;

/// Builds, signs and stores an anchor bump with these UTXOs. `None` if hsmd does not sign it.
pub(super) fn make(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    target: &Bumpable,
    (utxos, fee): (&[Utxo], Sat),
) -> Result<Option<Transaction>, Stop> {
    let to = crate::rooms::onchain::signing::sweep_script(node, turn, channel.number)?;
    sign(turn, channel, build(channel, target.anchor, utxos, &to, fee))
}

fn sign(
    turn: &mut Turn<'_>,
    channel: &Channel,
    unsigned: Unsigned,
) -> Result<Option<Transaction>, Stop> {
    crate::rooms::onchain::signing::sign(turn, channel, unsigned, || "for our anchor".to_owned())
}

pub(super) const fn whose(owner: Side) -> &'static str {
    match owner {
        Side::Local => "our",
        Side::Remote => "the peer's",
    }
}

/// The same bump for each other commitment of the channel, with the same UTXOs: at most one of the
/// commitments can be in a mempool, and with it at most one of these children. Each pays what
/// brings its commitment to `bump`'s feerate, at most `bump`'s fee or half of what is at risk,
/// whichever is more; one below the relay minimum is left out. They are in no row: what bitcoind
/// accepts of them takes the place of `bump` ([`alternative_answered`]).
pub(super) fn alternatives(
    node: &Scope,
    turn: &mut Turn<'_>,
    waits: &Unconfirmed<'_>,
    bump: &Attempt,
    utxos: &[Utxo],
) -> Result<Vec<Attempt>, Stop> {
    let Unconfirmed { channel, all, .. } = waits;
    let number = channel.number;
    let floor = node.feerate_floor();
    let to = crate::rooms::onchain::signing::sweep_script(node, turn, number)?;
    let have = channel::ANCHOR.0 + utxos.iter().map(|u| u.coin.amount.0).sum::<u64>();
    let paid: u64 = bump.tx.output.iter().map(|o| o.value.to_sat()).sum();
    let most =
        have.saturating_sub(paid).max(waits.worth().0 / MAX_SHARE).min(have.saturating_sub(DUST.0));
    let mut made = Vec::new();
    let others = all.iter().filter(|b| Some(b.txid) != bumped_txid(bump));
    for other in others.filter(|b| b.pays_less_than(bump.feerate)) {
        let fee = cost(other).price(utxos, bump.feerate, floor).min(Sat(most));
        let unsigned = build(channel, other.anchor, utxos, &to, fee);
        if unsigned.fee < floor.fee(unsigned.weight) {
            continue;
        }
        let Some(tx) = sign(turn, channel, unsigned)? else { continue };
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
    turn.install(node, move |onchain| drop(onchain.alternative_bumps.insert(number, copy)));
    Ok(made)
}

/// bitcoind accepted one of these children, or did not: what it accepted is the channel's anchor
/// bump from now on, with a row, and the one before is an alternative.
pub(super) fn alternative_answered(
    node: &Scope,
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
    chain::broadcast::keep(turn.db, &accepted.tx)?;
    keep(node, turn, number, accepted)?;
    turn.install(node, move |onchain| drop(onchain.alternative_bumps.insert(number, others)));
    // Another bump may spend the change of the one before.
    super::allocate_fees(turn);
    Ok(())
}

/// Parent and child together, where the backend can; one after the other, where it cannot. The
/// peer's commitment is not ours to send.
pub(super) fn submit(
    node: &Scope,
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
        chain::broadcast::send(node, turn, &child.tx, why);
    } else if node.plugins.owner_of("submitpackage").is_some() {
        let package = [ours].into_iter().chain(parents).chain([&child.tx]);
        let question = Question::SendPackage(package.collect());
        call_backend(node, turn, &question, Purpose::Broadcast(child.txid, why));
    } else {
        chain::broadcast::send(node, turn, ours, BroadcastFor::Nobody);
        chain::broadcast::send(node, turn, &child.tx, why);
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
    let have = channel::ANCHOR.0 + utxos.iter().map(|u| u.coin.amount.0).sum::<u64>();
    let anchor = Spent {
        outpoint: anchor,
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME.0,
        key: WalletKey::Anchor { peer: channel.peer, channel: channel.number },
        amount: channel::ANCHOR,
        script,
    };
    let output = claims::output(Sat(have).saturating_sub(fee), to);
    let all = std::iter::once(anchor).chain(utxos.iter().map(|u| Spent::from(&u.coin)));
    let weight = CHILD_WEIGHT + utxos.iter().map(|u| u.coin.weight()).sum::<u64>();
    claims::assemble(all, 0, vec![output], fee, weight)
}
