//! From what is at stake to transactions on their way: once a block, and when bitcoind or onchaind
//! says something new.

use super::allocate::{Verdict, allocate};
use super::anchor::{Unconfirmed, bumped_txid};
use super::attempt::{Attempt, Kind};
use super::attempts::{drop_attempt, forget_others, give_up, keep};
use super::plan::{Make, Past, Step, plan};
use super::request::{Request, What};
use super::requests::has_lost_a_utxo;
use super::{Case, child, claims, requests};
use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::BroadcastFor;
use crate::rooms::chain;
use crate::rooms::chain::broadcast::broadcast;
use crate::rooms::channels::Channel;
use crate::rooms::onchain::Scope;
use crate::rooms::onchain::cost::Coin;
use crate::rooms::onchain::rates::rates;
use crate::rooms::onchain::signing::{Waiting, may_be_signed, sign, sweep_script};
use crate::sys::fatal::Stop;
use bitcoin::{Transaction, Txid};
use primitives::*;
use std::collections::{BTreeMap, BTreeSet};
use wire::daemon::LogLevel;
use wire::onchaind::{Claim, ClaimShape};

/// For all channels: drops claims that became impossible, builds missing ones, raises late ones.
pub(super) fn advance(node: &Scope, turn: &mut Turn<'_>) -> Result<(), Stop> {
    let (mut freed, mut requests) = (BTreeSet::new(), Vec::new());
    for (number, case) in &node.onchain.cases {
        if let Some(channel) = node.channels.all.get(number) {
            requests.extend(claim(node, turn, channel, case, &mut freed)?);
        }
    }
    let numbers = node.onchain.published.keys();
    let waiting: Waiting<'_> =
        numbers.filter_map(|number| Some((*number, Unconfirmed::of(node, *number)?))).collect();
    give_up_lost_bumps(node, turn, &waiting, &mut freed)?;
    let tip = node.chain.height();
    for waits in waiting.values() {
        let before = waits.before.filter(|a| !freed.contains(&a.txid));
        // One that bitcoind rejected for its parents is chained no more for a while.
        let may_chain = waits.before.is_none_or(|a| !(a.refused && requests::is_chained(node, a)));
        let asked = waits.request(node, before);
        requests.extend(asked.map(|r| Request { may_chain: r.may_chain && may_chain, ..r }));
    }
    requests.retain(|r| may_be_signed(node, r.number, r.outpoints()));
    let verdicts = if requests.is_empty() {
        vec![]
    } else {
        allocate(&requests::world(node, &waiting, &freed), requests)
    };
    let mut bumps = BTreeMap::new();
    for verdict in verdicts {
        match carry_out(node, turn, &waiting, verdict, &mut freed)? {
            Done::Claimed => {}
            Done::Bumped(number, bump) => drop(bumps.insert(number, bump)),
            // What it was given belongs to nobody else in this allocation.
            Done::Unsigned => break,
        }
    }
    let all_again = node.onchain.bumps_sent != Some(tip);
    for (number, waits) in &waiting {
        let kept = waits.before.filter(|a| !freed.contains(&a.txid));
        match (bumps.get(number), kept) {
            (Some(new), _) => send_alternatives(node, turn, &waiting, waits, new, true)?,
            (None, Some(kept)) if all_again => {
                child::submit(node, turn, *number, waits.ours, kept);
                send_alternatives(node, turn, &waiting, waits, kept, false)?;
            }
            (None, _) => {}
        }
    }
    turn.install(node, move |onchain| onchain.bumps_sent = Some(tip));
    Ok(())
}

/// One channel on chain: drops what became impossible and sends what pays for itself. What needs
/// UTXOs is asked for.
fn claim(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    case: &Case,
    freed: &mut BTreeSet<Txid>,
) -> Result<Vec<Request>, Stop> {
    let number = channel.number;
    let (past, attempts) = give_up_lost(node, turn, number, case, freed)?;
    let Some(resolution) = &case.resolution else { return Ok(vec![]) };
    // onchaind may not have heard of the newest block yet, or of one that left the chain.
    let spent: BTreeSet<OutPoint> = spent_by(case).map(|(o, _)| o).collect();
    let there: BTreeSet<Txid> = case.txs().map(|s| s.txid).collect();
    let is_open = |c: &&Claim| there.contains(&c.outpoint.txid) && !spent.contains(&c.outpoint);
    let open: Vec<Claim> = resolution.claims.0.iter().filter(is_open).cloned().collect();
    forget_others(node, turn, number, &resolution.claims.0)?;
    let mut requests = Vec::new();
    for step in plan(&open, &attempts, past, node.chain.height(), &rates(node)) {
        match step {
            Step::Drop(txid) => {
                if let Some(attempt) = attempts.iter().find(|a| a.txid == txid) {
                    give_up(node, turn, number, attempt, false)?;
                    freed.insert(txid);
                }
            }
            Step::Make(make)
                if !may_be_signed(node, number, make.claims.iter().map(|c| c.outpoint)) => {}
            Step::Make(make) if needs_utxos(&make) => {
                let asked = Request::claims(number, make, node.feerate_floor());
                requests.push(Request { rests: rests(node, &asked), ..asked });
            }
            Step::Make(make) => make_free(node, turn, channel, make)?,
        }
    }
    Ok(requests)
}

/// Gives up the attempts of a channel on chain that lost a UTXO, and a bump that is of no use any
/// more. Answers what is remembered, and the other attempts.
fn give_up_lost(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    case: &Case,
    freed: &mut BTreeSet<Txid>,
) -> Result<(Past, Vec<Attempt>), Stop> {
    let given_up = node.onchain.given_up.get(&number).into_iter().flatten();
    let began = given_up.map(|(o, g)| (*o, g.first)).collect();
    let mut past = Past { began, alone: node.onchain.unsigned.clone() };
    let mut attempts = Vec::new();
    for attempt in node.onchain.attempts.get(&number).into_iter().flatten() {
        let is_lost = has_lost_a_utxo(node, attempt, freed)
            || match attempt.kind {
                // A commitment is in a block: a bump that bitcoind rejects would only pay for
                // nothing later.
                Kind::AnchorBump => attempt.refused || is_impossible(case, attempt),
                Kind::Claim => false,
            };
        if is_lost {
            give_up(node, turn, number, attempt, false)?;
            past.began.extend(attempt.claims.iter().map(|o| (*o, attempt.first)));
            freed.insert(attempt.txid);
        } else {
            attempts.push(attempt.clone());
        }
    }
    Ok((past, attempts))
}

fn needs_utxos(make: &Make) -> bool {
    make.claims.iter().any(|c| matches!(c.shape, ClaimShape::Paired { .. }))
}

/// Did one of its claims give way to another at this tip?
fn rests(node: &Scope, request: &Request) -> bool {
    let tip = Some(node.chain.height());
    let given_up = node.onchain.given_up.get(&request.number);
    let rests =
        |o: &OutPoint| given_up.and_then(|all| all.get(o)).is_some_and(|g| g.rests_at == tip);
    match &request.what {
        What::Claims(make) => make.claims.iter().any(|c| rests(&c.outpoint)),
        What::Bump { .. } => false,
    }
}

/// Gives up anchor bumps of commitments that are not the one in the mempool, that lost a UTXO, or
/// that bitcoind rejects for the unconfirmed change that they spend; with each, those that spend
/// its change.
fn give_up_lost_bumps(
    node: &Scope,
    turn: &mut Turn<'_>,
    waiting: &Waiting<'_>,
    freed: &mut BTreeSet<Txid>,
) -> Result<(), Stop> {
    let tip = node.chain.height();
    let all = node.onchain.all_attempts();
    let bumps: Vec<_> = all.filter(|(_, a)| a.kind == Kind::AnchorBump).collect();
    loop {
        let known = freed.len();
        for (number, bump) in &bumps {
            if freed.contains(&bump.txid) {
                continue;
            }
            let is_moved = waiting.get(number).is_some_and(|waits| {
                bumped_txid(bump) != waits.target.as_ref().map(|target| target.txid)
            });
            let spends_change = requests::is_chained(node, bump);
            let is_chained = bump.refused && spends_change;
            if is_chained || (is_moved && spends_change) {
                let number = *number;
                turn.install(node, move |onchain| _ = onchain.unchained.insert(number, tip));
            }
            if is_moved || is_chained || has_lost_a_utxo(node, bump, freed) {
                drop_attempt(node, turn, *number, bump)?;
                freed.insert(bump.txid);
            }
        }
        if freed.len() == known {
            return Ok(());
        }
    }
}

/// What became of a verdict.
enum Done {
    /// A claim was sent, or nothing was to be done.
    Claimed,
    /// The channel's new anchor bump was sent.
    Bumped(ChannelNumber, Attempt),
    /// hsmd did not sign it.
    Unsigned,
}

/// Builds, signs, stores and sends the transaction of a verdict, and drops those that it displaces.
fn carry_out(
    node: &Scope,
    turn: &mut Turn<'_>,
    waiting: &Waiting<'_>,
    verdict: Verdict,
    freed: &mut BTreeSet<Txid>,
) -> Result<Done, Stop> {
    let (request, utxos, feerate, fee, displaces) = match verdict {
        Verdict::Build { request, utxos, feerate, fee, displaces } => {
            (request, utxos, feerate, fee, displaces)
        }
        Verdict::Wait { request, missing } => {
            log_wait(node, &request, missing);
            return Ok(Done::Claimed);
        }
    };
    let number = request.number;
    let Some(channel) = node.channels.all.get(&number) else { return Ok(Done::Claimed) };
    let tx = match &request.what {
        What::Claims(make) => {
            let coins: Vec<Coin> = utxos.iter().map(|u| u.coin.clone()).collect();
            let to = sweep_script(node, turn, number)?;
            let unsigned = claims::build_paid(&make.claims, &coins, &to, fee);
            sign(turn, channel, unsigned, || described(make))?
        }
        What::Bump { target, .. } => child::make(node, turn, channel, target, (&utxos, fee))?,
    };
    let Some(tx) = tx else {
        leave_unsigned(turn, &request, node.chain.height());
        return Ok(Done::Unsigned);
    };
    for (of, attempt) in displaces.iter().filter_map(|txid| node.onchain.attempt(*txid)) {
        log::info!("giving up {} of channel {of}: its UTXOs go to channel {number}", attempt.txid);
        give_up(node, turn, of, attempt, attempt.refused)?;
        if attempt.kind == Kind::AnchorBump {
            // It may spend the change of what displaced it.
            super::allocate_fees(turn);
        }
    }
    let attempt = replace(node, turn, channel, &request, tx, (feerate, fee))?;
    freed.extend(displaces.into_iter().chain(request.before));
    // In the order of the verdicts: what was displaced is free to be spent by what comes after.
    match (attempt.kind, waiting.get(&number)) {
        (Kind::AnchorBump, Some(waits)) => {
            chain::broadcast::keep(turn.db, &attempt.tx)?;
            child::submit(node, turn, number, waits.ours, &attempt);
            Ok(Done::Bumped(number, attempt))
        }
        (Kind::AnchorBump | Kind::Claim, _) => {
            broadcast(node, turn, &attempt.tx, BroadcastFor::Attempt(number))?;
            Ok(Done::Claimed)
        }
    }
}

/// hsmd did not sign it: of a new batch each claim is tried alone, in the allocation after this
/// one; what is alone already, or takes the place of what stands, some blocks later.
fn leave_unsigned(turn: &mut Turn<'_>, request: &Request, tip: BlockHeight) {
    let (outpoints, many): (Vec<OutPoint>, _) = (request.outpoints().collect(), request.batch());
    let (number, is_new) = (request.number, request.before.is_none());
    turn.install_as::<Scope, _>(move |onchain| {
        let refusals = onchain.refusals.entry(number).or_insert((tip, 0));
        *refusals = if refusals.0 == tip { (tip, refusals.1 + 1) } else { (tip, 1) };
        if is_new && many > 1 {
            onchain.unsigned.extend(outpoints);
        } else {
            onchain.unsignable.extend(outpoints.into_iter().map(|o| (o, tip)));
        }
    });
    super::allocate_fees(turn);
}

/// The signed transaction of a request takes the place of its predecessor, if there is one.
fn replace(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    request: &Request,
    tx: Transaction,
    (feerate, fee): (FeeratePerKw, Sat),
) -> Result<Attempt, Stop> {
    let before = request.before.and_then(|txid| node.onchain.attempt(txid)).map(|(_, a)| a);
    if let Some(before) = before {
        // Not all that it claimed may be claimed now: the rest keeps its age.
        give_up(node, turn, channel.number, before, false)?;
    }
    let (kind, first) = match &request.what {
        What::Claims(make) => (Kind::Claim, make.first),
        What::Bump { first, .. } => (Kind::AnchorBump, *first),
    };
    let claims = request.outpoints().collect();
    let attempt = Attempt::new(tx, kind, claims, (feerate, first, node.chain.height()), before);
    log_built(channel, request, &attempt, fee);
    keep(node, turn, channel.number, attempt.clone())?;
    Ok(attempt)
}

fn log_built(channel: &Channel, request: &Request, attempt: &Attempt, fee: Sat) {
    let Attempt { txid, feerate, .. } = attempt;
    let text = match &request.what {
        What::Claims(make) => {
            format!("claiming {} outputs with {txid} at {feerate} (fee {fee})", make.claims.len())
        }
        What::Bump { target, .. } => {
            let whose = child::whose(target.owner);
            let of = target.txid;
            format!("bumping {whose} commitment {of} with {txid} to {feerate} (fee {fee})")
        }
    };
    channel.log(LogLevel::Info, &text);
}

fn log_wait(node: &Scope, request: &Request, missing: Sat) {
    let text = match &request.what {
        What::Claims(make) => format!(
            "{} HTLC transactions wait for {missing} of confirmed UTXOs that pay their fee: send some to this node",
            make.claims.len()
        ),
        What::Bump { target, .. } => format!(
            "{} commitment {} pays too little to be in a block soon ({} wanted), and {missing} of confirmed UTXOs are missing to bump it",
            child::whose(target.owner),
            target.txid,
            request.wanted
        ),
    };
    if let Some(channel) = node.channels.all.get(&request.number) {
        channel.log(LogLevel::Unusual, &text);
    }
}

/// Sends the same bump for each other commitment that may stand in a mempool.
fn send_alternatives(
    node: &Scope,
    turn: &mut Turn<'_>,
    waiting: &Waiting<'_>,
    waits: &Unconfirmed<'_>,
    bump: &Attempt,
    is_new: bool,
) -> Result<(), Stop> {
    let number = waits.channel.number;
    let known = node.onchain.alternative_bumps.get(&number).filter(|_| !is_new);
    let alternatives = match known {
        Some(known) => known.clone(),
        None => {
            let utxos = requests::utxos_of(node, waiting, bump);
            child::alternatives(node, turn, waits, bump, &utxos)?
        }
    };
    for child in &alternatives {
        child::submit(node, turn, number, waits.ours, child);
    }
    Ok(())
}

/// A transaction that pays for itself.
fn make_free(node: &Scope, turn: &mut Turn<'_>, channel: &Channel, make: Make) -> Result<(), Stop> {
    let (number, floor) = (channel.number, node.feerate_floor());
    let to = sweep_script(node, turn, number)?;
    // Worth less than its fee: it waits for another market.
    let Ok(unsigned) = claims::build(&make.claims, &to, make.feerate, floor) else {
        return Ok(());
    };
    let (feerate, fee) = (make.feerate, unsigned.fee);
    let tx = sign(turn, channel, unsigned, || described(&make))?;
    let request = Request::claims(number, make, floor);
    let Some(tx) = tx else {
        leave_unsigned(turn, &request, node.chain.height());
        return Ok(());
    };
    let attempt = replace(node, turn, channel, &request, tx, (feerate, fee))?;
    broadcast(node, turn, &attempt.tx, BroadcastFor::Attempt(number))
}

fn described(make: &Make) -> String {
    let of: Vec<String> = make.claims.iter().map(|c| c.outpoint.to_string()).collect();
    format!("the claim of {}", of.join(", "))
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
