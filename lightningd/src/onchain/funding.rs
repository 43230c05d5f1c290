//! Coin selection for claims and anchor bumps: which UTXOs of the wallet are free, which ones may be taken from a transaction that is
//! worth less (RBF), and how high a feerate they pay for.

use super::attempt::{Attempt, Kind};
use super::claims::{Coin, Unbuilt, Unsigned};
use super::fees::clearly_above;
use super::{Case, OnchainEvent, anchor, send};
use crate::events::Event;
use crate::node::Node;
use crate::turn::{Stop, Turn};
use crate::wallet;
use bitcoin::Txid;
use primitives::*;
use std::collections::BTreeSet;

/// So often the feerate is looked at again, where what is spent with it changes what it must be.
const ROUNDS: usize = 8;

/// Coins in one transaction: with its claims it stays far below what is relayed (400,000 weight units).
const MAX_COINS: usize = 100;
/// A transaction due within this many blocks is not pre-empted in favour of one that is due later.
const DUE_NOW_BLOCKS: u32 = 3;

/// What became of UTXOs earlier in this turn: the wallet itself shows it only after.
#[derive(Debug, Default, Clone)]
pub(super) struct CoinSelection {
    /// Spent.
    pub used: BTreeSet<OutPoint>,
    /// Transactions that were given up: what they spent is free.
    pub freed: BTreeSet<Txid>,
}

/// A claim or anchor bump that needs UTXOs for its fee.
pub(super) struct FundingRequest<'a, F> {
    /// Of which channel it is.
    pub number: ChannelNumber,
    /// What is lost without it.
    pub worth: Sat,
    /// The most that it may cost, above the relay minimum.
    pub max_fee: Sat,
    /// From this block on it may be too late.
    pub deadline: Option<BlockHeight>,
    /// What it takes the place of: its coins come first, and all of them.
    pub before: Option<&'a Attempt>,
    /// Less than this is not worth sending.
    pub least: FeeratePerKw,
    /// What it should pay.
    pub wanted: FeeratePerKw,
    /// Does it leave the UTXOs of transactions that were made at this tip where they are?
    pub keeps_new: bool,
    /// Whose UTXOs it may take.
    pub preemption: PreemptionPolicy,
    /// Makes it of coins.
    pub build: F,
}

/// Whose UTXOs a transaction may take beside free ones: those of transactions that are worth less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PreemptionPolicy {
    /// Of any of them.
    Any,
    /// Only of those that bitcoind rejected: it spends something unconfirmed that none of the others spends, and nobody would relay
    /// the replacement. (BIP 125, rule 2.)
    RejectedOnly,
    /// Of none.
    Never,
}

/// A transaction with its UTXOs, unsigned.
pub(super) struct FundedTx<'a> {
    /// It.
    pub unsigned: Unsigned,
    /// With these.
    pub spent: Vec<OutPoint>,
    /// At this rate.
    pub feerate: FeeratePerKw,
    /// What it replaces, beside its own predecessor: given up once this one is signed.
    pub replaces: Vec<(ChannelNumber, &'a Attempt)>,
}

/// Gives up what this one takes the coins of. Each looks for others at once.
pub(super) fn give_up(
    node: &Node,
    turn: &mut Turn<'_>,
    paid: &FundedTx<'_>,
    selection: &mut CoinSelection,
) -> Result<(), Stop> {
    for (number, attempt) in &paid.replaces {
        log::info!(
            "{} of channel {number} is given up: its coins pay for what is worth more",
            attempt.txid
        );
        send::give_up(node, turn, *number, attempt, attempt.refused)?;
        selection.freed.insert(attempt.txid);
        turn.also(Event::Onchain(*number, OnchainEvent::Advance));
    }
    Ok(())
}

/// Pays for it as it is wanted, if that can be: with coins that are free, else with those of transactions that are worth less
/// all together. Else it pays what can be had, if that is enough to be sent.
pub(super) fn pay<'a, F>(
    node: &'a Node,
    selection: &CoinSelection,
    request: &FundingRequest<'_, F>,
) -> Result<FundedTx<'a>, Unbuilt>
where
    F: Fn(&[Coin], FeeratePerKw) -> Result<Unsigned, Unbuilt>,
{
    let all = coins(node, request.before, selection);
    let floor = node.feerate_floor();
    let short = match at_rate(&all, request, request.wanted, floor) {
        Ok((unsigned, spent)) if request.before.is_none() => {
            let replaces = vec![];
            return Ok(FundedTx { unsigned, spent, feerate: request.wanted, replaces });
        }
        // Whether it also pays for its predecessor is seen below.
        Ok(_) => Unbuilt::Dear,
        Err(Unbuilt::Worthless) => return Err(Unbuilt::Worthless),
        Err(short @ (Unbuilt::Short(_) | Unbuilt::Dear)) => short,
    };
    let free = preempting(node, selection, request, &[]);
    if free.as_ref().is_some_and(|f| f.feerate >= request.wanted) {
        return free.ok_or(short);
    }
    let others = preemptible(node, selection, request);
    // As few and as cheap ones as it takes.
    let mut best = free;
    let mut many = 1;
    while !others.is_empty() {
        let some = others.get(..many).unwrap_or(&others);
        let found = preempting(node, selection, request, some);
        let least =
            best.as_ref().map_or(request.least, |b| clearly_above(b.feerate, FeeratePerKw(0)));
        if let Some(found) = found.filter(|f| f.feerate >= least) {
            let is_enough = found.feerate >= request.wanted;
            best = Some(found);
            if is_enough {
                break;
            }
        }
        if many >= others.len() {
            break;
        }
        many *= 2;
    }
    best.ok_or(short)
}

impl<F> FundingRequest<'_, F> {
    /// How many coins it has from the attempt before.
    fn kept(&self) -> usize {
        self.before.map_or(0, |a| a.tx.input.len() - a.claims.len())
    }
}

/// With these coins at this rate. `Err(Dear)` if it costs more than what is at stake allows, whatever its coins weigh.
fn at_rate<F>(
    all: &[Coin],
    request: &FundingRequest<'_, F>,
    rate: FeeratePerKw,
    floor: FeeratePerKw,
) -> Result<(Unsigned, Vec<OutPoint>), Unbuilt>
where
    F: Fn(&[Coin], FeeratePerKw) -> Result<Unsigned, Unbuilt>,
{
    let built = with_coins(all, request.kept(), rate, |c| (request.build)(c, rate))?;
    // At the lowest relayed rate it may cost all that is at stake, above it the share of that.
    let most =
        if rate > floor { request.max_fee } else { Sat(request.max_fee.0.saturating_mul(2)) };
    if built.0.fee > most {
        return Err(Unbuilt::Dear);
    }
    Ok(built)
}

/// The highest feerate between these two that these coins pay.
fn highest<F>(
    all: &[Coin],
    request: &FundingRequest<'_, F>,
    floor: FeeratePerKw,
    least: FeeratePerKw,
    most: FeeratePerKw,
) -> Option<(Unsigned, Vec<OutPoint>, FeeratePerKw)>
where
    F: Fn(&[Coin], FeeratePerKw) -> Result<Unsigned, Unbuilt>,
{
    let at = |rate: u32| {
        let rate = FeeratePerKw(rate);
        let built = at_rate(all, request, rate, floor).ok()?;
        Some((built.0, built.1, rate))
    };
    if most < least {
        return None;
    }
    if let Some(found) = at(most.0) {
        return Some(found);
    }
    let mut best = at(least.0)?;
    // `low` can be paid, `high` cannot.
    let (mut low, mut high) = (least.0, most.0);
    while high - low > low / 64 + 1 {
        let middle = low + (high - low) / 2;
        match at(middle) {
            Some(found) => (best, low) = (found, middle),
            None => high = middle,
        }
    }
    Some(best)
}

/// A transaction under way whose UTXOs may be taken.
struct Candidate<'a> {
    number: ChannelNumber,
    attempt: &'a Attempt,
    worth: Sat,
}

/// Those that are worth less, the cheapest one first: what is refused again and again is worth nothing. Strictly less: no two of them take each other's coins to and fro.
fn preemptible<'a, F>(
    node: &'a Node,
    selection: &CoinSelection,
    request: &FundingRequest<'_, F>,
) -> Vec<Candidate<'a>> {
    let tip = node.chain.height();
    let is_before = |a: &Attempt| request.before.is_some_and(|b| b.txid == a.txid);
    let all = node.onchain.attempts.iter().flat_map(|(n, all)| all.iter().map(move |a| (*n, a)));
    let mut found: Vec<Candidate<'a>> = all
        .filter(|(_, a)| !is_before(a) && !selection.freed.contains(&a.txid))
        .filter(|(_, a)| !request.keeps_new || a.height < tip)
        .filter(|(_, a)| match request.preemption {
            PreemptionPolicy::Any => true,
            PreemptionPolicy::RejectedOnly => a.refused,
            PreemptionPolicy::Never => false,
        })
        .filter(|(_, a)| coins_of(node, a).any(|o| !selection.used.contains(&o)))
        .map(|(number, attempt)| {
            let is_hopeless = attempt.is_hopeless(tip);
            let worth = if is_hopeless { Sat(0) } else { worth(node, number, attempt) };
            Candidate { number, attempt, worth }
        })
        .filter(|o| o.worth < request.worth && !is_due_sooner(node, o, request.deadline))
        .collect();
    found.sort_by_key(|o| o.worth);
    found
}

/// Is it now or never for this one, and not for what wants its coins? A few blocks after its deadline that says nothing any more.
fn is_due_sooner(node: &Node, other: &Candidate<'_>, deadline: Option<BlockHeight>) -> bool {
    let tip = node.chain.height();
    let Some(due) = deadline_of(node, other.number, other.attempt) else { return false };
    let is_due = (due - tip).0 <= DUE_NOW_BLOCKS && (tip - due).0 <= DUE_NOW_BLOCKS;
    is_due
        && !other.attempt.is_hopeless(tip)
        && deadline.is_none_or(|d| d > due && (d - tip).0 > DUE_NOW_BLOCKS)
}

fn deadline_of(node: &Node, number: ChannelNumber, attempt: &Attempt) -> Option<BlockHeight> {
    let Some(case) = node.onchain.cases.get(&number) else {
        return anchor::deadline(node, number);
    };
    let claims = case.resolution.iter().flat_map(|r| &r.claims.0);
    claims.filter(|c| attempt.claims.contains(&c.outpoint)).filter_map(|c| c.deadline).min()
}

/// With the UTXOs of these as well, at a price at which it replaces them and its own predecessor.
fn preempting<'a, F>(
    node: &'a Node,
    selection: &CoinSelection,
    request: &FundingRequest<'_, F>,
    others: &[Candidate<'a>],
) -> Option<FundedTx<'a>>
where
    F: Fn(&[Coin], FeeratePerKw) -> Result<Unsigned, Unbuilt>,
{
    let floor = node.feerate_floor();
    let mut with = selection.clone();
    with.freed.extend(others.iter().map(|o| o.attempt.txid));
    let all = coins(node, request.before, &with);
    let mut least = request.least;
    for _ in 0..ROUNDS {
        let most = request.wanted.max(least);
        let (unsigned, spent, feerate) = highest(&all, request, floor, least, most)?;
        let is_hit = |o: &&Candidate<'_>| coins_of(node, o.attempt).any(|c| spent.contains(&c));
        let hit: Vec<&Candidate<'_>> = others.iter().filter(is_hit).collect();
        let lost: u64 = hit.iter().map(|o| o.worth.0).sum();
        if !hit.is_empty() && lost >= request.worth.0 {
            return None;
        }
        let (rate, needed) = replacement_price(node, request, &hit, &unsigned);
        if feerate >= rate && unsigned.fee >= needed {
            let replaces = hit.iter().map(|o| (o.number, o.attempt)).collect();
            return Some(FundedTx { unsigned, spent, feerate, replaces });
        }
        let scaled = u64::from(feerate.0).saturating_mul(needed.0) / unsigned.fee.0.max(1) + 1;
        let scaled = FeeratePerKw(u32::try_from(scaled).unwrap_or(u32::MAX));
        least = least.max(rate).max(if unsigned.fee < needed { scaled } else { least });
    }
    None
}

/// The least feerate and fee of a transaction that replaces its predecessor and these. BIP 125, rules 3 and 4: the fees of all that it
/// replaces, and its own relay besides; bitcoind also wants a feerate above each of theirs. What bitcoind rejects again and again
/// has no price.
fn replacement_price<F>(
    node: &Node,
    request: &FundingRequest<'_, F>,
    hit: &[&Candidate<'_>],
    unsigned: &Unsigned,
) -> (FeeratePerKw, Sat) {
    let (tip, floor) = (node.chain.height(), node.feerate_floor());
    // `request.least` is clearly above the feerate of the predecessor.
    let before = request.before.filter(|a| !a.is_hopeless(tip));
    let (mut rate, mut paid) =
        (request.least, before.map_or(0, |a| fee_of(node, request.number, a).0));
    for other in hit.iter().filter(|o| !o.attempt.is_hopeless(tip)) {
        rate = rate.max(clearly_above(rate_of(node, other), floor));
        paid = paid.saturating_add(fee_of(node, other.number, other.attempt).0);
    }
    if paid == 0 {
        return (rate, Sat(0));
    }
    let relay = floor.fee(unsigned.weight);
    (rate, Sat(paid.saturating_add(relay.0)))
}

/// What is lost without this one.
pub(super) fn worth(node: &Node, number: ChannelNumber, attempt: &Attempt) -> Sat {
    match attempt.kind {
        // What it was to push is in a block without it.
        Kind::AnchorBump if node.onchain.cases.contains_key(&number) => Sat(0),
        Kind::AnchorBump => node.channels.all.get(&number).map_or(Sat(0), anchor::worth),
        Kind::Claim => {
            let case = node.onchain.cases.get(&number);
            Sat(attempt.claims.iter().filter_map(|o| amount_of(case?, o)).map(|a| a.0).sum())
        }
    }
}

/// What is in this output of the close.
fn amount_of(case: &Case, outpoint: &OutPoint) -> Option<Sat> {
    let mut all = std::iter::once(&case.spend).chain(&case.later);
    let seen = all.find(|s| s.txid == outpoint.txid)?;
    seen.tx.output.get(outpoint.vout as usize).map(|o| Sat(o.value.to_sat()))
}

/// The wallet's coins that this one spends, and no other does.
pub(super) fn coins_of(node: &Node, attempt: &Attempt) -> impl Iterator<Item = OutPoint> {
    let coins = attempt.tx.input.iter().skip(attempt.claims.len()).map(|i| i.previous_output);
    coins.filter(move |o| {
        let spent = node.wallet.outputs.get(o).and_then(|o| o.spent);
        spent.is_some_and(|s| s.txid == attempt.txid && s.height.is_none())
    })
}

/// What it really pays.
fn fee_of(node: &Node, number: ChannelNumber, attempt: &Attempt) -> Sat {
    let claimed = match attempt.kind {
        Kind::AnchorBump => channel::ANCHOR,
        Kind::Claim => worth(node, number, attempt),
    };
    let coins = attempt.tx.input.iter().skip(attempt.claims.len());
    let coins = coins.filter_map(|i| node.wallet.outputs.get(&i.previous_output));
    let inputs = claimed.0 + coins.map(|o| o.amount.0).sum::<u64>();
    let outputs: u64 = attempt.tx.output.iter().map(|o| o.value.to_sat()).sum();
    Sat(inputs.saturating_sub(outputs))
}

fn rate_of(node: &Node, other: &Candidate<'_>) -> FeeratePerKw {
    let fee = fee_of(node, other.number, other.attempt).0;
    let rate = fee.saturating_mul(1000) / other.attempt.tx.weight().to_wu().max(1);
    FeeratePerKw(u32::try_from(rate).unwrap_or(u32::MAX)).max(other.attempt.feerate)
}

/// The wallet's coins that may pay: confirmed, nobody's, and not used in this turn. Those of the attempt before come first.
fn coins(node: &Node, before: Option<&Attempt>, selection: &CoinSelection) -> Vec<Coin> {
    let tip = node.chain.height();
    let of_before =
        |o: &wallet::Output| before.is_some_and(|a| o.spent.is_some_and(|s| s.txid == a.txid));
    let unspent = |o: &wallet::Output| {
        o.spent.is_none_or(|s| s.height.is_none() && selection.freed.contains(&s.txid))
    };
    let free = |o: &wallet::Output| unspent(o) && !o.is_reserved(tip) && o.is_mature(tip);
    let mut coins: Vec<(bool, Coin)> = node
        .wallet
        .outputs
        .iter()
        .filter(|(p, o)| {
            o.confirmed.is_some() && !selection.used.contains(p) && (free(o) || of_before(o))
        })
        .map(|(p, o)| {
            let coin = Coin {
                outpoint: *p,
                amount: o.amount,
                script: o.script.clone(),
                key_index: o.key_index,
            };
            (!of_before(o), coin)
        })
        .collect();
    // Then small ones first: large coins are for other purposes.
    coins.sort_by_key(|(fresh, c)| (*fresh, c.amount));
    coins.into_iter().map(|(_, c)| c).collect()
}

/// Builds with as few coins as it takes: all of the first `kept`, and of the others, sorted by what is in them, one that is enough
/// alone, else the largest ones.
pub(super) fn with_coins(
    all: &[Coin],
    kept: usize,
    rate: FeeratePerKw,
    build: impl Fn(&[Coin]) -> Result<Unsigned, Unbuilt>,
) -> Result<(Unsigned, Vec<OutPoint>), Unbuilt> {
    let alone = |c: &Coin| build(std::slice::from_ref(c));
    if kept == 0
        && let Some(coin) = all.get(all.partition_point(|c| alone(c).is_err()))
        && let Ok(built) = alone(coin)
    {
        return Ok((built, vec![coin.outpoint]));
    }
    let mut chosen: Vec<Coin> = all.get(..kept).unwrap_or_default().to_vec();
    let brings = |c: &Coin| c.amount.saturating_sub(rate.fee(c.weight()));
    let rest = all.get(kept..).unwrap_or_default().iter().rev();
    let mut rest = rest.filter(|c| brings(c) > Sat(0)).take(MAX_COINS.saturating_sub(kept));
    let mut first = None;
    loop {
        let why = match build(&chosen) {
            Ok(built) => return Ok((built, chosen.into_iter().map(|c| c.outpoint).collect())),
            Err(why) => why,
        };
        let first = *first.get_or_insert(why);
        let Unbuilt::Short(mut missing) = why else { return Err(why) };
        // Nothing is built before that much more is there.
        let Some(coin) = rest.next() else { return Err(first) };
        missing = missing.saturating_sub(brings(coin));
        chosen.push(coin.clone());
        while missing > Sat(0)
            && let Some(coin) = rest.next()
        {
            missing = missing.saturating_sub(brings(coin));
            chosen.push(coin.clone());
        }
    }
}
