//! The anchor bump (CPFP) of a channel that was failed: a child on our anchor pays for the commitment, ours or the peer's, until one of
//! them is in a block. BOLT 3, "to_local_anchor Output".

use super::attempt::{Attempt, Kind};
use super::claims::{Coin, DUST, Unbuilt, Unsigned};
use super::commitments::{Bumpable, bumpable};
use super::fees::{self, MAX_SHARE, Rates, Stake};
use super::funding::{self, CoinSelection, FundedTx, FundingRequest, PreemptionPolicy};
use super::send::{self, drop_attempt};
use super::store;
use crate::chain::{self, BroadcastFor, Purpose};
use crate::channels::{Channel, State};
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
use wire::channel_data::{Htlc, LiveHtlc, Removal};
use wire::daemon::LogLevel;
use wire::hsm::{Completed, SignWallet, SpentOutput, WalletInput, WalletKey};

/// Weight of the child without coins: the anchor's input and one output to us.
const CHILD_WEIGHT: u64 = super::plan::BASE_WEIGHT + 41 * 4 + 1 + 1 + 73 + 1 + 40;

/// An HTLC of ours that forwards nothing may take so many blocks more than its expiry to come back. As onchaind has it.
const HTLC_RETURN_MARGIN: u32 = 72;
/// So many blocks a commitment has, where that costs nobody anything.
const COMMITMENT_GRACE_BLOCKS: u32 = 6;

/// Our commitment was signed and sent: if the next block does not have it, it is pushed where it must be. The fee-bump start height
/// survives a restart, under the funding's outpoint.
pub fn commitment_published(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    tx: &Transaction,
) -> Result<(), Stop> {
    if node.onchain.published.contains_key(&number) {
        return Ok(());
    }
    let funding = tx.input.first().map(|i| i.previous_output);
    let known = node.onchain.given_up.get(&number).zip(funding).and_then(|(all, f)| all.get(&f));
    let first = known.map_or(node.chain.height(), |g| g.first);
    if let Some(funding) = funding {
        store::set_claim_start(turn.db, number, &funding, first)?;
    }
    let copy = tx.clone();
    turn.install(move |node| {
        node.onchain.published.entry(number).or_insert((copy, first));
    });
    Ok(())
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
        bump_commitment(node, turn, channel, (commitment, *first))?;
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
            let back = upstream.unwrap_or(htlc.expiry + CltvDelta(HTLC_RETURN_MARGIN));
            htlc.expiry.max(first + CltvDelta(((back - first).0 / 2).min(COMMITMENT_GRACE_BLOCKS)))
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

/// What we have in the commitment beside HTLCs that the peer offered: it waits for the same block as those.
fn own_output(channel: &Channel) -> Sat {
    channel.live.balance.local.sat_floor()
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
    selection: &CoinSelection,
    request: &FundingRequest<'_, F>,
    calm: FeeratePerKw,
    max_fee: Sat,
) -> Result<FundedTx<'a>, Unbuilt>
where
    F: Fn(&[Coin], FeeratePerKw) -> Result<Unsigned, Unbuilt>,
{
    let build = |coins: &[Coin], rate| (request.build)(coins, rate);
    let (worth, deadline, preemption) = (Sat::ZERO, None, PreemptionPolicy::Never);
    let FundingRequest { number, before, least, keeps_new, .. } = *request;
    if calm < least {
        return Err(Unbuilt::Dear);
    }
    let wanted = calm;
    let request = FundingRequest {
        number,
        worth,
        max_fee,
        deadline,
        before,
        least,
        wanted,
        keeps_new,
        preemption,
        build,
    };
    funding::pay(node, selection, &request)
}

/// Looks at the one anchor bump of a channel: builds it, raises it, moves it to the commitment that stands in the mempool, or sends it
/// again.
fn bump_commitment(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    (commitment, first): (&Transaction, BlockHeight),
) -> Result<(), Stop> {
    let number = channel.number;
    let rates = send::rates(node);
    let upstream = crate::htlcs::upstream_expiries(node, channel);
    let all = bumpable(node, channel, commitment);
    let attempts = node.onchain.attempts.get(&number).map_or(&[][..], Vec::as_slice);
    let mut before = attempts.iter().find(|a| a.kind == Kind::AnchorBump);
    let first = before.map_or(first, |a| a.first);
    let stake_of = |b: &Bumpable| at_stake(channel, &upstream, first, b.weight, &rates);
    let is_cheap =
        |b: &&Bumpable| b.pays_less_than(fees::wanted(&rates, node.chain.height(), &stake_of(b)));
    // What stands in the mempool, else what was bumped before, else the first that needs it.
    let seen = node.onchain.funding_spends.get(&number).map(Transaction::compute_txid);
    let is = |txid: Txid| all.iter().find(|b| b.txid == txid);
    let bumped = seen.and_then(is).or_else(|| before.and_then(bumped_txid).and_then(is));
    let Some(target) = bumped.or_else(|| all.iter().find(is_cheap)) else { return Ok(()) };
    let mut selection = CoinSelection::default();
    if let Some(lost) =
        before.filter(|a| send::has_lost_a_coin(node, a) || bumped_txid(a) != Some(target.txid))
    {
        drop_attempt(node, turn, number, lost)?;
        selection.freed.insert(lost.txid);
        before = None;
    }
    let stake = stake_of(target);
    let feerate = match before {
        Some(a) => fees::next(&rates, node.chain.height(), &stake, a.feerate, a.height),
        // What it pays by itself may be enough.
        None => Some(fees::wanted(&rates, node.chain.height(), &stake))
            .filter(|r| target.pays_less_than(*r)),
    };
    let raised = match feerate {
        Some(feerate) => {
            fund(node, turn, channel, target, &stake, feerate, before, &mut selection)?
        }
        None => None,
    };
    let is_new = raised.is_some();
    let Some(bump) = raised.or_else(|| before.cloned()) else { return Ok(()) };
    // Both are sent again until they are in a block, and so are the children of the other commitments.
    let known = node.onchain.alternative_bumps.get(&number).filter(|_| !is_new);
    let alternatives = match known {
        Some(known) => known.clone(),
        None => {
            let others: Vec<&Bumpable> = all.iter().filter(|b| b.txid != target.txid).collect();
            alternatives(node, turn, channel, &bump, &others, stake.value)?
        }
    };
    for child in std::iter::once(&bump).chain(&alternatives) {
        submit(node, turn, number, commitment, child);
    }
    Ok(())
}

/// Which commitment this anchor bump is a child of.
fn bumped_txid(bump: &Attempt) -> Option<Txid> {
    bump.claims.first().map(|anchor| anchor.txid)
}

/// Builds, signs and stores an anchor bump at this feerate, or at the highest that the UTXOs allow. `None` if there is none.
#[expect(clippy::too_many_arguments, reason = "one step of bump_commitment, which has all of it")]
fn fund(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    target: &Bumpable,
    stake: &Stake,
    feerate: FeeratePerKw,
    before: Option<&Attempt>,
    selection: &mut CoinSelection,
) -> Result<Option<Attempt>, Stop> {
    let (number, tip, rates) = (channel.number, node.chain.height(), send::rates(node));
    let to = send::sweep_script(node, turn, number)?;
    let build = |coins: &[Coin], feerate| {
        let fee = child_fee(coins, feerate, rates.floor, target);
        child(channel, target.anchor, coins, &to, fee)
    };
    let itself = target.fee.0.saturating_mul(1000) / target.weight.max(1);
    let itself = FeeratePerKw(u32::try_from(itself).unwrap_or(u32::MAX));
    let least = fees::clearly_above(before.map_or(itself, |a| a.feerate), rates.floor);
    let least = least.max(rates.floor);
    // Where nothing is lost it takes nobody's coins.
    let (worth, deadline) = (stake.value, stake.deadline);
    // The anchor is unconfirmed, unless what is replaced spends it too.
    let is_first = before.is_none_or(|a| a.refused);
    let preemption = if is_first { PreemptionPolicy::RejectedOnly } else { PreemptionPolicy::Any };
    let wanted = feerate;
    // Half of what waits for it, whatever that is, is the most that a bump costs.
    let own = Sat(own_output(channel).max(worth).0 / MAX_SHARE);
    let max_fee = if worth > Sat::ZERO { Sat(worth.0 / MAX_SHARE) } else { own };
    let keeps_new = false;
    let request = FundingRequest {
        number,
        worth,
        max_fee,
        deadline,
        before,
        least,
        wanted,
        keeps_new,
        preemption,
        build,
    };
    let paid = funding::pay(node, selection, &request);
    // What its HTLCs are worth bounds what is paid for them, and not what our own output waits for.
    let calm = Stake { deadline: None, value: Sat::ZERO, ..*stake };
    let calm = fees::wanted(&rates, tip, &calm).min(wanted);
    let paid = match paid {
        Err(Unbuilt::Dear) => pay_calmly(node, selection, &request, calm, own),
        Ok(paid) if paid.feerate < calm => {
            pay_calmly(node, selection, &request, calm, own).or(Ok(paid))
        }
        paid => paid,
    };
    let whose = whose(target.owner);
    let paid = match paid {
        Ok(paid) => paid,
        Err(why) => {
            if let Unbuilt::Short(missing) = why {
                channel.log(LogLevel::Unusual, &format!(
                    "{whose} commitment {} pays too little to be in a block soon ({feerate} wanted), and {missing} of confirmed coins are missing to push it",
                    target.txid
                ));
            }
            return Ok(None);
        }
    };
    let fee = paid.unsigned.fee;
    let Some(tx) = signed(turn, channel, paid.unsigned.clone())? else { return Ok(None) };
    funding::give_up(node, turn, &paid, selection)?;
    if let Some(before) = before {
        drop_attempt(node, turn, number, before)?;
    }
    let attempt = Attempt {
        txid: tx.compute_txid(),
        tx,
        kind: Kind::AnchorBump,
        claims: vec![target.anchor],
        feerate: paid.feerate,
        first: stake.first,
        height: tip,
        refused: false,
        refused_since: before.and_then(Attempt::was_refused_since),
    };
    channel.log(
        LogLevel::Info,
        &format!(
            "pushing {whose} commitment {} with {} to {} (fee {fee})",
            target.txid, attempt.txid, attempt.feerate
        ),
    );
    send::keep(node, turn, number, attempt.clone())?;
    chain::keep(turn.db, &attempt.tx)?;
    Ok(Some(attempt))
}

const fn whose(owner: Side) -> &'static str {
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
/// with it at most one of these children. They cost as much as `bump` or half of what is at stake, whichever is more. They are in no
/// row: what bitcoind accepts of them takes the place of `bump` ([`alternative_answered`]).
fn alternatives(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    bump: &Attempt,
    others: &[&Bumpable],
    worth: Sat,
) -> Result<Vec<Attempt>, Stop> {
    let number = channel.number;
    let floor = node.feerate_floor();
    let to = send::sweep_script(node, turn, number)?;
    let utxos = bump.tx.input.iter().skip(bump.claims.len()).map(|i| i.previous_output);
    let utxos: Vec<Coin> = utxos
        .filter_map(|outpoint| {
            let o = node.wallet.outputs.get(&outpoint)?;
            let (amount, script, key_index) = (o.amount, o.script.clone(), o.key_index);
            Some(Coin { outpoint, amount, script, key_index })
        })
        .collect();
    let have = channel::ANCHOR.0 + utxos.iter().map(|c| c.amount.0).sum::<u64>();
    let paid: u64 = bump.tx.output.iter().map(|o| o.value.to_sat()).sum();
    let most = have.saturating_sub(paid).max(worth.0 / MAX_SHARE).min(have.saturating_sub(DUST.0));
    let mut made = Vec::new();
    for other in others.iter().filter(|b| b.pays_less_than(bump.feerate)) {
        let fee = child_fee(&utxos, bump.feerate, floor, other).min(Sat(most));
        let Ok(unsigned) = child(channel, other.anchor, &utxos, &to, fee) else { continue };
        if unsigned.fee < floor.fee(unsigned.weight) {
            continue;
        }
        let Some(tx) = signed(turn, channel, unsigned)? else { continue };
        let (txid, claims) = (tx.compute_txid(), vec![other.anchor]);
        made.push(Attempt { txid, tx, claims, refused: true, refused_since: None, ..bump.clone() });
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
        "anchor bump {txid} of channel {number} is in the mempool: it is the one that counts"
    );
    let accepted = Attempt { refused: false, refused_since: None, ..accepted.clone() };
    chain::keep(turn.db, &accepted.tx)?;
    send::keep(node, turn, number, accepted)?;
    turn.install(move |node| drop(node.onchain.alternative_bumps.insert(number, others)));
    Ok(())
}

/// Parent and child together, where the backend can; one after the other, where it cannot. The peer's commitment is not ours to send.
fn submit(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    ours: &Transaction,
    child: &Attempt,
) {
    let why = BroadcastFor::Attempt(number);
    if bumped_txid(child) != Some(ours.compute_txid()) {
        chain::send(node, turn, &child.tx, why);
    } else if node.plugins.owner_of("submitpackage").is_some() {
        let params = json!({"txs": [serialize_hex(ours), serialize_hex(&child.tx)]});
        call_backend(node, turn, "submitpackage", &params, Purpose::Broadcast(child.txid, why));
    } else {
        chain::send(node, turn, ours, BroadcastFor::Nobody);
        chain::send(node, turn, &child.tx, why);
    }
}

/// Weight of a child with these UTXOs.
fn child_weight(utxos: &[Coin]) -> u64 {
    CHILD_WEIGHT + utxos.iter().map(Coin::weight).sum::<u64>()
}

/// What a child pays that brings its parent and itself to this feerate. By itself it is never below the relay minimum.
fn child_fee(utxos: &[Coin], feerate: FeeratePerKw, floor: FeeratePerKw, parent: &Bumpable) -> Sat {
    let weight = child_weight(utxos);
    let both = feerate.fee(weight + parent.weight);
    both.saturating_sub(parent.fee).max(floor.fee(weight))
}

/// The child that pays this fee for its parent and itself.
fn child(
    channel: &Channel,
    anchor: OutPoint,
    coins: &[Coin],
    to: &ScriptBuf,
    fee: Sat,
) -> Result<Unsigned, Unbuilt> {
    let script = channel::scripts::anchor(&channel.live.params.basepoints.local.funding).to_p2wsh();
    let weight = child_weight(coins);
    let have = channel::ANCHOR.0 + coins.iter().map(|c| c.amount.0).sum::<u64>();
    let needed = fee.saturating_add(DUST);
    if have < needed.0 {
        return Err(Unbuilt::Short(Sat(needed.0 - have)));
    }
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
