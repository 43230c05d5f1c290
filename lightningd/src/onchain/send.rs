//! From a plan to transactions on their way.

use super::attempt::{Attempt, GivenUp, Kind};
use super::claims::{self, Coin, Unbuilt};
use super::fees::{self, Rates};
use super::funding::{self, CoinSelection, FundedTx, FundingRequest, PreemptionPolicy};
use super::plan::{Make, Step, plan};
use super::{Case, OnchainEvent, anchor, store};
use crate::chain::{self, BroadcastFor, broadcast};
use crate::channels::Channel;
use crate::events::Event;
use crate::node::Node;
use crate::turn::{Stop, Turn};
use crate::wallet;
use bitcoin::{Transaction, Txid};
use primitives::*;
use std::collections::{BTreeMap, BTreeSet};
use wire::Long;
use wire::daemon::LogLevel;
use wire::hsm::{Completed, SignWallet};
use wire::onchaind::{Claim, ClaimShape};

/// CLN's places in `force-feerates`.
const DELAYED_TO_US: usize = 3;
const HTLC_RESOLUTION: usize = 4;

/// What the market is like, for claims.
pub(super) fn rates(node: &Node) -> Rates<'_> {
    let forced = node.forced(HTLC_RESOLUTION).zip(node.forced(DELAYED_TO_US));
    Rates { floor: node.feerate_floor(), estimates: node.chain.fees.as_ref(), forced }
}

/// Looks at one case: drops what became impossible, makes what is missing, raises what is late.
pub(super) fn advance(node: &Node, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    let (Some(case), Some(channel)) =
        (node.onchain.cases.get(&number), node.channels.all.get(&number))
    else {
        return Ok(());
    };
    let Some(resolution) = &case.resolution else { return Ok(()) };
    // onchaind may not have heard of the newest block yet, or of one that left the chain.
    let spent: BTreeSet<OutPoint> = spent_by(case).map(|(o, _)| o).collect();
    let there: BTreeSet<Txid> =
        std::iter::once(&case.spend).chain(&case.later).map(|s| s.txid).collect();
    let is_open = |c: &&Claim| there.contains(&c.outpoint.txid) && !spent.contains(&c.outpoint);
    let open: Vec<Claim> = resolution.claims.0.iter().filter(is_open).cloned().collect();
    let all = node.onchain.attempts.get(&number).map_or(&[][..], Vec::as_slice);
    forget_others(node, turn, number, &resolution.claims.0)?;
    let given_up = node.onchain.given_up.get(&number).into_iter().flatten();
    let mut began: BTreeMap<OutPoint, BlockHeight> = given_up.map(|(o, g)| (*o, g.first)).collect();
    let mut selection = CoinSelection::default();
    let mut attempts = Vec::with_capacity(all.len());
    for attempt in all {
        let is_lost = match attempt.kind {
            // A commitment is in a block: a bump that bitcoind rejects would only pay for nothing later.
            Kind::AnchorBump => {
                attempt.refused || is_impossible(case, attempt) || has_lost_a_coin(node, attempt)
            }
            Kind::Claim => has_lost_a_coin(node, attempt),
        };
        if is_lost {
            give_up(node, turn, number, attempt, false)?;
            began.extend(attempt.claims.iter().map(|o| (*o, attempt.first)));
            selection.freed.insert(attempt.txid);
        } else {
            attempts.push(attempt.clone());
        }
    }
    let steps = plan(&open, &attempts, began, node.chain.height(), &rates(node));
    for step in steps {
        match step {
            Step::Drop(txid) => {
                if let Some(attempt) = attempts.iter().find(|a| a.txid == txid) {
                    give_up(node, turn, number, attempt, false)?;
                    selection.freed.insert(txid);
                }
            }
            Step::Make(m) => {
                let before = m.replaces.filter(|t| !selection.freed.contains(t));
                let before = before.and_then(|t| attempts.iter().find(|a| a.txid == t));
                make(node, turn, channel, &m, before, &mut selection)?;
            }
        }
    }
    Ok(())
}

/// Everything that transactions in blocks have spent, and which did.
fn spent_by(case: &Case) -> impl Iterator<Item = (OutPoint, Txid)> {
    case.later.iter().flat_map(|s| s.tx.input.iter().map(|i| (i.previous_output, s.txid)))
}

/// Did something else take what it is about, or is that gone with its commitment?
fn is_impossible(case: &Case, attempt: &Attempt) -> bool {
    attempt.claims.iter().any(|claimed| {
        claimed.txid != case.spend.txid
            || spent_by(case).any(|(o, by)| o == *claimed && by != attempt.txid)
    })
}

/// Has another transaction a coin that pays for this one? An attempt that was given up may be in a block all the same.
pub(super) fn has_lost_a_coin(node: &Node, attempt: &Attempt) -> bool {
    let spends = |o: &OutPoint| node.wallet.outputs.get(o).and_then(|o| o.spent);
    let mut inputs = attempt.tx.input.iter().map(|i| i.previous_output);
    inputs.any(|o| spends(&o).is_some_and(|s| s.txid != attempt.txid))
}

/// This one is given up: what it spent of the wallet's is free again, unless it is in a block.
pub(super) fn drop_attempt(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    attempt: &Attempt,
) -> Result<(), Stop> {
    let txid = attempt.txid;
    chain::give_up(turn.db, txid)?;
    wallet::unspend(node, turn, txid)?;
    store::remove_attempt(turn.db, txid)?;
    let is_bump = attempt.kind == Kind::AnchorBump;
    turn.install(move |node| {
        if let Some(all) = node.onchain.attempts.get_mut(&number) {
            all.retain(|a| a.txid != txid);
        }
        if is_bump {
            // They spend its UTXOs.
            node.onchain.alternative_bumps.remove(&number);
        }
    });
    Ok(())
}

/// This one is given up, and what it was to take is not: that keeps its age until it is claimed anew. Where it `rests`, another
/// one has its coins for a block at least.
pub(super) fn give_up(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    attempt: &Attempt,
    rests: bool,
) -> Result<(), Stop> {
    drop_attempt(node, turn, number, attempt)?;
    if attempt.kind == Kind::Claim {
        let rests_at = rests.then_some(node.chain.height());
        let (claims, given_up) =
            (attempt.claims.clone(), GivenUp { first: attempt.first, rests_at });
        if node.onchain.cases.contains_key(&number) {
            for outpoint in &claims {
                store::set_claim_start(turn.db, number, outpoint, attempt.first)?;
            }
        }
        turn.install(move |node| {
            if node.onchain.cases.contains_key(&number) {
                let all = node.onchain.given_up.entry(number).or_default();
                all.extend(claims.iter().map(|o| (*o, given_up)));
            }
        });
    }
    Ok(())
}

/// What can be claimed no more is not remembered.
fn forget_others(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    claims: &[Claim],
) -> Result<(), Stop> {
    if let Some(given_up) = node.onchain.given_up.get(&number) {
        let known: BTreeSet<OutPoint> = claims.iter().map(|c| c.outpoint).collect();
        for outpoint in given_up.keys().filter(|o| !known.contains(o)) {
            store::remove_claim_start(turn.db, outpoint)?;
        }
        turn.install(move |node| {
            if let Some(all) = node.onchain.given_up.get_mut(&number) {
                all.retain(|o, _| known.contains(o));
            }
        });
    }
    Ok(())
}

fn make(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    m: &Make,
    before: Option<&Attempt>,
    selection: &mut CoinSelection,
) -> Result<(), Stop> {
    let number = channel.number;
    let to = sweep_script(node, turn, number)?;
    let paid = match paid(node, number, m, before, &to, selection) {
        Ok(paid) => Ok(paid),
        Err(Unbuilt::Worthless) => return Ok(()),
        Err(Unbuilt::Short(_) | Unbuilt::Dear) if before.is_none() && m.claims.len() > 1 => {
            // Rather the larger half than nothing.
            let mut claims = m.claims.clone();
            claims.sort_by_key(|c| std::cmp::Reverse(c.amount));
            for half in claims.chunks(claims.len().div_ceil(2)) {
                let half = Make { claims: half.to_vec(), ..m.clone() };
                make(node, turn, channel, &half, None, selection)?;
            }
            return Ok(());
        }
        // The one before stays.
        Err(Unbuilt::Dear) => return Ok(()),
        Err(Unbuilt::Short(missing)) => Err(missing),
    };
    let is_easy = paid.as_ref().is_ok_and(|p| p.feerate >= m.feerate && p.replaces.is_empty());
    if !is_easy
        && before.is_none()
        && let Some(stuck) = idle(node, number, m, selection)
    {
        give_up(node, turn, number, stuck, true)?;
        selection.freed.insert(stuck.txid);
        return make(node, turn, channel, m, None, selection);
    }
    let paid = match paid {
        Ok(paid) => paid,
        Err(missing) => {
            channel.log(
                LogLevel::Unusual,
                &format!(
                    "{} HTLC transactions wait for {missing} of confirmed coins that pay their fee: send some to this node",
                    m.claims.len()
                ),
            );
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
        Completed::Refused { why } if m.claims.len() > 1 => {
            channel.log(
                LogLevel::Broken,
                &format!("hsmd signs no claim of {} outputs: {why}", m.claims.len()),
            );
            for claim in &m.claims {
                let one = Make { claims: vec![claim.clone()], replaces: None, ..m.clone() };
                make(node, turn, channel, &one, None, selection)?;
            }
            return Ok(());
        }
        Completed::Refused { why } => {
            channel.log(LogLevel::Broken, &format!("hsmd does not sign a claim: {why}"));
            return Ok(());
        }
    };
    funding::give_up(node, turn, &paid, selection)?;
    selection.used.extend(paid.spent);
    if let Some(before) = before {
        drop_attempt(node, turn, number, before)?;
    }
    let attempt = Attempt {
        txid: tx.compute_txid(),
        kind: Kind::Claim,
        claims: m.claims.iter().map(|c| c.outpoint).collect(),
        feerate: paid.feerate,
        first: m.first,
        height: node.chain.height(),
        refused: false,
        refused_since: before.and_then(Attempt::was_refused_since),
        tx,
    };
    channel.log(
        LogLevel::Info,
        &format!(
            "taking {} outputs with {} at {} (fee {})",
            attempt.claims.len(),
            attempt.txid,
            attempt.feerate,
            unsigned.fee
        ),
    );
    keep(node, turn, number, attempt.clone())?;
    broadcast(node, turn, &attempt.tx, BroadcastFor::Attempt(number))
}

/// How it is paid for. Several at once are paid as they should be or not at all: fewer of them may be.
fn paid<'a>(
    node: &'a Node,
    number: ChannelNumber,
    m: &Make,
    before: Option<&Attempt>,
    to: &ScriptBuf,
    selection: &CoinSelection,
) -> Result<FundedTx<'a>, Unbuilt> {
    let floor = node.feerate_floor();
    let build = |coins: &[Coin], feerate| claims::build(&m.claims, coins, to, feerate, floor);
    if !m.claims.iter().any(|c| matches!(c.shape, ClaimShape::Paired { .. })) {
        let unsigned = build(&[], m.feerate)?;
        return Ok(FundedTx { unsigned, spent: vec![], feerate: m.feerate, replaces: vec![] });
    }
    let least = match before {
        Some(before) => fees::clearly_above(before.feerate, floor),
        None if m.claims.len() > 1 => m.feerate,
        None => floor.min(m.feerate),
    };
    // What was in a batch that bitcoind refused is a batch again when a coin is lost: once in a block and no more.
    let keeps_new = m.claims.len() > 1;
    let (worth, wanted) = (m.worth(), m.feerate);
    let given_up = node.onchain.given_up.get(&number);
    let tip = Some(node.chain.height());
    let rests = |c: &Claim| {
        given_up.and_then(|all| all.get(&c.outpoint)).is_some_and(|g| g.rests_at == tip)
    };
    let preemption =
        if m.claims.iter().any(rests) { PreemptionPolicy::Never } else { PreemptionPolicy::Any };
    let deadline = m.deadline();
    let max_fee = Sat(worth.0 / fees::MAX_SHARE);
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

/// One that bitcoind has not taken since an earlier block, and whose coins so do nothing: another claim may have more luck
/// with them. Each has them for a block at least, so nobody gives them to and fro; and where it has less time than the other, for
/// a second try at a higher price. One that is worth more has several: it may be what it took the coins of that is in its way.
/// So with a push: its commitment got into a block without it.
fn idle<'a>(
    node: &'a Node,
    number: ChannelNumber,
    m: &Make,
    selection: &CoinSelection,
) -> Option<&'a Attempt> {
    let tip = node.chain.height();
    let claims = node.onchain.cases.get(&number)?.resolution.as_ref().map(|r| &r.claims.0)?;
    let deadline = m.deadline();
    let yields = |a: &Attempt| {
        let of = claims.iter().filter(|c| a.claims.contains(&c.outpoint));
        let sooner = of.filter_map(|c| c.deadline).min().is_some_and(|d| Some(d) < deadline);
        let has_tried = if funding::worth(node, number, a) > m.worth() {
            a.is_hopeless(tip)
        } else {
            !sooner || a.first < a.height
        };
        a.refused && a.height < tip && has_tried
    };
    let has_coins = |a: &Attempt| funding::coins_of(node, a).any(|o| !selection.used.contains(&o));
    let mut all = node.onchain.attempts.get(&number)?.iter();
    all.find(|a| yields(a) && has_coins(a) && !selection.freed.contains(&a.txid))
}

/// A new attempt: its row, its coins, its place.
pub(super) fn keep(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    attempt: Attempt,
) -> Result<(), Stop> {
    wallet::spend(node, turn, &attempt.tx)?;
    store::add_attempt(turn.db, number, &attempt)?;
    for outpoint in &attempt.claims {
        store::remove_claim_start(turn.db, outpoint)?;
    }
    turn.install(move |node| {
        if let Some(all) = node.onchain.given_up.get_mut(&number) {
            all.retain(|o, _| !attempt.claims.contains(o));
        }
        node.onchain.attempts.entry(number).or_default().push(attempt);
    });
    Ok(())
}

/// The one address that a channel's claims pay: chosen once.
pub(super) fn sweep_script(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
) -> Result<ScriptBuf, Stop> {
    if let Some(index) = node.onchain.sweep_index.get(&number) {
        return Ok(node.wallet.script(*index, wallet::AddressKind::Taproot));
    }
    // Within one turn it may be asked for twice: the second index takes the first one's place, and both are ours.
    let index = wallet::next_index(node, turn)?;
    store::set_sweep_index(turn.db, number, index)?;
    turn.install(move |node| {
        node.onchain.sweep_index.insert(number, index);
    });
    Ok(node.wallet.script(index, wallet::AddressKind::Taproot))
}

/// A transaction that was in a block and is not: sent again, whoever made it.
pub(super) fn again(node: &Node, turn: &mut Turn<'_>, tx: &Transaction) -> Result<(), Stop> {
    broadcast(node, turn, tx, BroadcastFor::Nobody)
}

/// bitcoind took an attempt, or did not.
pub fn answered(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    txid: Txid,
    refused: Option<&str>,
) -> Result<(), Stop> {
    let known = node.onchain.attempts.get(&number).and_then(|a| a.iter().find(|a| a.txid == txid));
    let Some(attempt) = known else {
        return anchor::alternative_answered(node, turn, number, txid, refused.is_some());
    };
    if let Some(why) = refused {
        log::info!("claim {txid} of channel {number} was not taken: {why}");
    }
    if attempt.refused != refused.is_some() {
        let (now, tip) = (refused.is_some(), node.chain.height());
        let since = now.then(|| attempt.refused_since.unwrap_or(tip));
        turn.install(move |node| {
            for a in node.onchain.attempts.get_mut(&number).into_iter().flatten() {
                if a.txid == txid {
                    (a.refused, a.refused_since) = (now, since);
                }
            }
        });
        if now {
            turn.also(Event::Onchain(number, OnchainEvent::Advance));
        }
        if (Attempt { refused: now, refused_since: since, ..attempt.clone() }).is_hopeless(tip) {
            // Any other may have its coins now.
            let others = node.onchain.cases.keys().chain(node.onchain.published.keys());
            for other in others.filter(|n| **n != number) {
                turn.also(Event::Onchain(*other, OnchainEvent::Advance));
            }
        }
    }
    Ok(())
}
