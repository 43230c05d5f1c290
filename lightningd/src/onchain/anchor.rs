//! Paying for our commitment through its anchor, while it waits to be in a block. BOLT 3, "to_local_anchor Output".

use super::attempt::{Attempt, Kind};
use super::claims::{Coin, DUST, Unbuilt, Unsigned};
use super::fees::{self, Rates, Stake};
use super::purse::{self, Paid, Purse, Spares, Want};
use super::send::{self, drop_attempt};
use crate::chain::{self, BroadcastFor, Purpose};
use crate::channels::{Channel, State};
use crate::node::Node;
use crate::plugin_host::call_backend;
use crate::turn::{Stop, Turn};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Sequence, Transaction, TxIn, TxOut, Witness};
use primitives::*;
use serde_json::json;
use wire::Long;
use wire::channel_data::{Htlc, LiveHtlc, Removal};
use wire::daemon::LogLevel;
use wire::hsm::{Completed, SignWallet, SpentOutput, WalletInput, WalletKey};

/// Weight of the child without coins: the anchor's input and one output to us.
const CHILD_WEIGHT: u64 = super::plan::BASE_WEIGHT + 41 * 4 + 1 + 1 + 73 + 1 + 40;

/// An HTLC of ours that forwards nothing may take so many blocks more than its expiry to come back. As onchaind has it.
const PATIENCE: u32 = 72;
/// So many blocks a commitment has, where that costs nobody anything.
const FEW_BLOCKS: u32 = 6;

/// Our commitment was signed and sent: if the next block does not have it, it is pushed where it must be.
pub fn commitment_published(turn: &mut Turn<'_>, number: ChannelNumber, tx: &Transaction) {
    let copy = tx.clone();
    turn.install(move |node| {
        let tip = node.chain.height();
        node.onchain.published.entry(number).or_insert((copy, tip));
    });
}

/// It is not in a block. Before its funding is, nothing is spent on it: whoever opened the channel may never fund it.
pub(super) fn advance(node: &Node, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    let (Some((commitment, first)), Some(channel)) =
        (node.onchain.published.get(&number), node.channels.all.get(&number))
    else {
        return Ok(());
    };
    let is_due = channel.state == State::AwaitingUnilateral && channel.funding_height.is_some();
    if is_due && node.chain.caught_up {
        push(node, turn, channel, (commitment, *first))?;
    }
    Ok(())
}

/// From which block on our commitment would be late for this HTLC. After it comes the transaction that takes the HTLC's output.
fn needed_by(htlc: &Htlc, upstream: Option<BlockHeight>, first: BlockHeight) -> BlockHeight {
    match htlc.offered_by {
        // The peer takes it back from its expiry on: half of the time until then is for what takes it before.
        Side::Remote => first + CltvDelta((htlc.expiry - first).0 / 2),
        // Until what it forwards expires nobody but us loses by waiting: a few blocks at least are there, so that not half of it
        // is paid for the next one when the channel was failed because it expired.
        Side::Local => {
            let back = upstream.unwrap_or(htlc.expiry + CltvDelta(PATIENCE));
            htlc.expiry.max(first + CltvDelta(((back - first).0 / 2).min(FEW_BLOCKS)))
        }
    }
}

/// The HTLCs that we lose if our commitment is late.
fn ours(channel: &Channel) -> impl Iterator<Item = &LiveHtlc> {
    channel.live.htlcs.0.iter().filter(|l| match l.htlc.offered_by {
        Side::Local => true,
        Side::Remote => matches!(channel.decided.get(&l.htlc.id), Some(Removal::Fulfilled { .. })),
    })
}

/// What all of them are worth.
pub(super) fn worth(channel: &Channel) -> Sat {
    let all = ours(channel).map(|l| l.htlc.amount);
    all.fold(Msat::ZERO, Msat::saturating_add).sat_floor()
}

/// From which block on our commitment would be late for one of them.
fn first_needed(
    channel: &Channel,
    upstream: &[(HtlcId, BlockHeight)],
    first: BlockHeight,
) -> Option<BlockHeight> {
    let upstream = |id| upstream.iter().find(|(of, _)| *of == id).map(|(_, e)| *e);
    ours(channel).map(|l| needed_by(&l.htlc, upstream(l.htlc.id), first)).min()
}

/// When a commitment that waits to be in a block would be late.
pub(super) fn deadline(node: &Node, number: ChannelNumber) -> Option<BlockHeight> {
    let (_, first) = node.onchain.published.get(&number)?;
    let channel = node.channels.all.get(&number)?;
    first_needed(channel, &crate::htlcs::upstream_expiries(node, channel), *first)
}

/// What is lost if our commitment is late, and when that is; together with it the child has this weight.
pub(super) fn at_stake(
    channel: &Channel,
    upstream: &[(HtlcId, BlockHeight)],
    first: BlockHeight,
    parent_weight: u64,
    rates: &Rates<'_>,
) -> Stake {
    let (value, deadline) = (worth(channel), first_needed(channel, upstream, first));
    let weight = CHILD_WEIGHT + parent_weight;
    let (urgent, calm) = (
        Stake { first, deadline, value, weight },
        Stake { first, deadline: None, value: Sat::ZERO, weight },
    );
    // Our own output waits for the same block: what an HTLC is worth bounds what is paid for it, and not that.
    let price = |stake: &Stake| fees::wanted(rates, first, stake);
    if price(&urgent) < price(&calm) { calm } else { urgent }
}

/// With coins that nothing else could use, and as if nothing but our own output waited for it: at the market's price, and no more.
fn pay_calmly<'a, F>(
    node: &'a Node,
    purse: &Purse,
    want: &Want<'_, F>,
    calm: FeeratePerKw,
) -> Result<Paid<'a>, Unbuilt>
where
    F: Fn(&[Coin], FeeratePerKw) -> Result<Unsigned, Unbuilt>,
{
    let build = |coins: &[Coin], rate| (want.build)(coins, rate);
    let (worth, deadline, spares) = (Sat::ZERO, None, Spares::All);
    let Want { number, before, least, spares_new, .. } = *want;
    if calm < least {
        return Err(Unbuilt::Dear);
    }
    let wanted = calm;
    let want = Want { number, worth, deadline, before, least, wanted, spares_new, spares, build };
    purse::pay(node, purse, &want)
}

fn push(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    (commitment, first): (&Transaction, BlockHeight),
) -> Result<(), Stop> {
    let params = &channel.live.params;
    let script = channel::scripts::anchor(&params.basepoints.local.funding).to_p2wsh();
    let Some(vout) = commitment.output.iter().position(|o| o.script_pubkey == script) else {
        return Ok(());
    };
    let anchor = OutPoint { txid: commitment.compute_txid(), vout: vout as u32 };
    let paid: u64 = commitment.output.iter().map(|o| o.value.to_sat()).sum();
    let parent = (Sat(params.amount.0.saturating_sub(paid)), commitment.weight().to_wu());
    let tip = node.chain.height();
    let rates = send::rates(node);
    let all = node.onchain.attempts.get(&channel.number).map_or(&[][..], Vec::as_slice);
    let mut before = all.iter().find(|a| a.kind == Kind::Push);
    let mut purse = Purse::default();
    if let Some(lost) = before.filter(|a| send::has_lost_a_coin(node, a)) {
        drop_attempt(node, turn, channel.number, lost)?;
        purse.freed.insert(lost.txid);
        before = None;
    }
    let upstream = crate::htlcs::upstream_expiries(node, channel);
    let stake = at_stake(channel, &upstream, before.map_or(first, |a| a.first), parent.1, &rates);
    let feerate = match before {
        Some(a) => fees::next(&rates, tip, &stake, a.feerate, a.height),
        // What it pays by itself may be enough.
        None => Some(fees::wanted(&rates, tip, &stake)).filter(|r| r.fee(parent.1) > parent.0),
    };
    let Some(feerate) = feerate else {
        // It, with its child, is sent again until both are in a block.
        if let Some(a) = before {
            submit(node, turn, channel.number, commitment, a);
        }
        return Ok(());
    };
    let to = send::sweep_script(node, turn, channel.number)?;
    let build =
        |coins: &[Coin], feerate| child(channel, anchor, &script, coins, &to, feerate, parent);
    let itself = parent.0.0.saturating_mul(1000) / parent.1.max(1);
    let itself = FeeratePerKw(u32::try_from(itself).unwrap_or(u32::MAX));
    let least = fees::clearly_above(before.map_or(itself, |a| a.feerate), rates.floor);
    // Where nothing is lost it takes nobody's coins.
    let (worth, deadline) = (stake.value, stake.deadline);
    // The anchor is unconfirmed, unless what is replaced spends it too.
    let is_first = before.is_none_or(|a| a.refused);
    let spares = if is_first { Spares::Taken } else { Spares::None };
    let wanted = feerate;
    let number = channel.number;
    let want =
        Want { number, worth, deadline, before, least, wanted, spares_new: false, spares, build };
    let paid = purse::pay(node, &purse, &want);
    // What its HTLCs are worth bounds what is paid for them, and not what our own output waits for.
    let calm = Stake { deadline: None, value: Sat::ZERO, ..stake };
    let calm = fees::wanted(&rates, tip, &calm).min(wanted);
    let paid = match paid {
        Err(Unbuilt::Dear) => pay_calmly(node, &purse, &want, calm),
        Ok(paid) if paid.feerate < calm => pay_calmly(node, &purse, &want, calm).or(Ok(paid)),
        paid => paid,
    };
    let paid = match paid {
        Ok(paid) => paid,
        Err(why) => {
            if let Unbuilt::Short(missing) = why {
                channel.log(LogLevel::Unusual, &format!(
                    "our commitment {} pays too little to be in a block soon ({} wanted), and {missing} of confirmed coins are missing to push it",
                    anchor.txid, feerate
                ));
            }
            if let Some(a) = before {
                submit(node, turn, channel.number, commitment, a);
            }
            return Ok(());
        }
    };
    let unsigned = paid.unsigned.clone();
    let question = SignWallet {
        transaction: unsigned.tx,
        inputs: Long(unsigned.inputs),
        spent: Long(unsigned.spent),
    };
    let tx = match turn.hsm.ask(&question)? {
        Completed::Ready { transaction } => transaction,
        Completed::Refused { why } => {
            channel.log(LogLevel::Broken, &format!("hsmd does not sign for our anchor: {why}"));
            return Ok(());
        }
    };
    purse::give_up(node, turn, &paid, &mut purse)?;
    if let Some(before) = before {
        drop_attempt(node, turn, channel.number, before)?;
    }
    let attempt = Attempt {
        txid: tx.compute_txid(),
        tx,
        kind: Kind::Push,
        claims: vec![anchor],
        feerate: paid.feerate,
        first: stake.first,
        height: tip,
        refused: false,
        refused_since: before.and_then(Attempt::was_refused_since),
    };
    channel.log(
        LogLevel::Info,
        &format!(
            "pushing our commitment {} with {} to {} (fee {})",
            anchor.txid, attempt.txid, attempt.feerate, unsigned.fee
        ),
    );
    send::keep(node, turn, channel.number, attempt.clone())?;
    chain::keep(turn.db, &attempt.tx)?;
    submit(node, turn, channel.number, commitment, &attempt);
    Ok(())
}

/// Parent and child together, where the backend can; one after the other, where it cannot.
fn submit(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    parent: &Transaction,
    child: &Attempt,
) {
    let why = BroadcastFor::Attempt(number);
    if node.plugins.owner_of("submitpackage").is_some() {
        let params = json!({"txs": [serialize_hex(parent), serialize_hex(&child.tx)]});
        call_backend(node, turn, "submitpackage", &params, Purpose::Broadcast(child.txid, why));
    } else {
        chain::send(node, turn, parent, BroadcastFor::Nobody);
        chain::send(node, turn, &child.tx, why);
    }
}

/// The child that pays for its parent and itself.
fn child(
    channel: &Channel,
    anchor: OutPoint,
    script: &ScriptBuf,
    coins: &[Coin],
    to: &ScriptBuf,
    feerate: FeeratePerKw,
    (parent_fee, parent_weight): (Sat, u64),
) -> Result<Unsigned, Unbuilt> {
    let weight = CHILD_WEIGHT + coins.iter().map(Coin::weight).sum::<u64>();
    let both = feerate.fee(weight + parent_weight);
    let fee = both.saturating_sub(parent_fee).max(FeeratePerKw::FLOOR.fee(weight));
    let have = channel::ANCHOR.0 + coins.iter().map(|c| c.amount.0).sum::<u64>();
    let needed = fee.saturating_add(DUST);
    if have < needed.0 {
        return Err(Unbuilt::Short(Sat(needed.0 - have)));
    }
    let key = WalletKey::Anchor { peer: channel.peer, channel: channel.number };
    let mut all = vec![(anchor, key, channel::ANCHOR, script.clone())];
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
        output: vec![TxOut { value: Amount::from_sat(have - fee.0), script_pubkey: to.clone() }],
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
    Ok(Unsigned { tx, inputs, spent, fee, weight })
}
