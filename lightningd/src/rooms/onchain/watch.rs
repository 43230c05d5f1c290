//! What the chain shows of channels that ended.

use super::report::is_belied_by;
use crate::kernel::plugins::backend::Question;
use crate::kernel::plugins::calls::call_backend;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::{ChannelEvent, OnchainEvent, Purpose};
use crate::rooms::channels;
use crate::rooms::htlcs::ReceivedOutput;
use crate::rooms::onchain::{Case, Onchain, Scope, Seen, order, store, unjudged};
use crate::sys::fatal::Stop;
use crate::sys::form::RpcError;
use bitcoin::Block;
use primitives::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;
use wire::Long;
use wire::onchaind::*;

/// At most so many HTLC outputs, and as many fundings, in one `mempoolspends`. Outputs rotate.
/// Fundings beyond the first 500 are not asked about: each commitment of those has its bump sent,
/// whichever is in the mempool.
const MAX_ASKED: usize = 500;

/// Which outputs of a transaction of this level are watched: all of a commitment's; of what spends
/// one of those, the output with the index of the input (the peer signed HTLC transactions so that
/// nothing else binds them together).
fn outputs_to_watch(seen: &Seen, spends: impl Fn(&OutPoint) -> bool) -> Vec<OutPoint> {
    let at = |vout: usize| OutPoint { txid: seen.txid, vout: vout as u32 };
    match seen.level {
        0 => (0..seen.tx.output.len()).map(at).collect(),
        1 => (0..seen.tx.output.len())
            .filter(|v| seen.tx.input.get(*v).is_some_and(|i| spends(&i.previous_output)))
            .map(at)
            .collect(),
        _ => vec![],
    }
}

impl Onchain {
    /// Rebuilds the watch from the cases.
    pub(crate) fn watch_all(&mut self) {
        self.watched.clear();
        for (number, case) in &self.cases {
            for seen in case.txs() {
                let of_commitment = |o: &OutPoint| o.txid == case.spend.txid;
                for outpoint in outputs_to_watch(seen, of_commitment) {
                    self.watched.insert(outpoint, (*number, seen.level));
                }
            }
        }
    }
}

/// What one block has for one channel.
#[derive(Default)]
struct News {
    seen: Vec<Seen>,
}

/// A block joined the chain. A whole chain of spends may be in it.
pub fn joined(
    node: &Scope,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let mut here: HashMap<OutPoint, (ChannelNumber, u8)> = HashMap::new();
    let mut news: BTreeMap<ChannelNumber, News> = BTreeMap::new();
    for (position, tx) in block.txdata.iter().enumerate() {
        let mut levels: BTreeMap<ChannelNumber, u8> = BTreeMap::new();
        for input in &tx.input {
            let spent = &input.previous_output;
            if let Some((number, level)) =
                here.get(spent).or_else(|| node.onchain.watched.get(spent))
            {
                // The nearer one counts: what else it spends is whoever's wish who made it.
                let near = levels.entry(*number).or_insert(level + 1);
                *near = (*near).min(level + 1);
            } else if let Some(number) = channels::watch::ended_by(node, spent, tx) {
                levels.insert(number, 0);
            }
        }
        for (number, level) in levels {
            let seen = Seen::new(tx.clone(), height, level);
            crate::rooms::chain::store::confirmed(turn.db, tx, height, position)?;
            store::add_seen(turn.db, number, &seen, position)?;
            let known = |o: &OutPoint| {
                here.get(o)
                    .or_else(|| node.onchain.watched.get(o))
                    .is_some_and(|w| *w == (number, 0))
            };
            for outpoint in outputs_to_watch(&seen, known) {
                here.insert(outpoint, (number, level));
            }
            news.entry(number).or_default().seen.push(seen);
        }
    }
    tell(node, turn, height, news);
    turn.install(node, move |onchain| onchain.watched.extend(here));
    Ok(())
}

/// Every onchaind hears of every block.
fn tell(
    node: &Scope,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    mut news: BTreeMap<ChannelNumber, News>,
) {
    let now = Instant::now();
    if node.chain.caught_up && !(node.onchain.cases.is_empty() && news.is_empty()) {
        super::check_expiring_later(turn, now);
    }
    turn.install(node, move |onchain| onchain.cases.values_mut().for_each(|case| case.told = now));
    for (number, case) in &node.onchain.cases {
        let seen = news.remove(number).unwrap_or_default().seen;
        let transactions = Long(seen.iter().map(|s| s.tx.clone()).collect());
        order(node, turn, *number, &OnchainBlock { height, transactions });
        if seen.is_empty() {
            continue;
        }
        let number = *number;
        let belied = node.channels.all.get(&number).is_some_and(|c| is_belied_by(c, case, &seen));
        if belied && let Some(child) = case.child {
            let why = format!("its claim of an output in block {height} is false");
            turn.say(Outgoing::Kill { child, why });
        }
        turn.install(node, move |onchain| {
            if let Some(case) = onchain.cases.get_mut(&number) {
                case.later.extend(seen);
                if belied {
                    case.resolution = None;
                }
            }
        });
    }
    for (number, News { seen }) in news {
        let mut seen = seen.into_iter();
        let Some(spend) = seen.next() else { continue };
        let later: Vec<Seen> = seen.collect();
        turn.install(node, move |onchain| {
            onchain.published.remove(&number);
            onchain.funding_spends.remove(&number);
            onchain.alternative_bumps.remove(&number);
            onchain.cases.insert(number, Case { later, ..Case::new(spend) });
        });
        turn.also(Event::Onchain(number, OnchainEvent::Begin));
    }
}

/// The highest block below this height that has a transaction of a channel's end.
pub fn confirmed_below(node: &Scope, height: BlockHeight) -> Option<BlockHeight> {
    let cases = node.onchain.cases.values();
    let heights = cases.flat_map(Case::txs).map(|s| s.height);
    heights.filter(|h| *h < height).max()
}

/// A block left the chain: what was in it is no fact any more.
pub fn left(node: &Scope, turn: &mut Turn<'_>, height: BlockHeight) -> Result<(), Stop> {
    store::remove_seen_from(turn.db, height)?;
    for (number, case) in &node.onchain.cases {
        // What of these was ours is made again, and wants its coins.
        for seen in case.later.iter().filter(|s| s.height >= height) {
            turn.also(Event::Onchain(*number, OnchainEvent::Left(seen.txid)));
        }
        if case.spend.height >= height {
            let why = format!("block {height} with its spend left the chain");
            crate::rooms::onchain::cases::end_case(node, turn, *number, &why)?;
            // Whoever sent it, it is as good as it was: unless another one comes, it comes again.
            crate::rooms::onchain::signing::again(node, turn, &case.spend.tx)?;
            match case.resolution.as_ref().map(|r| &r.close) {
                // Ours may need an anchor bump again. Theirs may be below the mempool minimum: ours
                // is broadcast too, and whichever is in the mempool is bumped.
                Some(CloseKind::Ours {} | CloseKind::Theirs { .. }) => {
                    turn.then(Event::Channel(*number, ChannelEvent::Broadcast));
                }
                // Ours would pay us less, or may be revoked.
                Some(CloseKind::Revoked { .. } | CloseKind::Unknown { .. }) => {}
                None => {
                    if let Some(channel) = node.channels.all.get(number) {
                        unjudged::left(turn, channel, &case.spend.tx)?;
                    }
                }
            }
        } else {
            order(node, turn, *number, &OnchainReorg { height });
            let number = *number;
            turn.install(node, move |onchain| {
                if let Some(case) = onchain.cases.get_mut(&number) {
                    case.heeded = None;
                    case.later.retain(|s| s.height < height);
                }
            });
        }
    }
    turn.install(node, |onchain| onchain.watch_all());
    Ok(())
}

/// The output of a received HTLC of this channel.
pub fn received_output(node: &Scope, number: ChannelNumber, id: HtlcId) -> ReceivedOutput {
    let Some(case) = node.onchain.cases.get(&number) else { return ReceivedOutput::NotOnChain };
    let Some(resolution) = &case.resolution else { return ReceivedOutput::Undetermined };
    // A captured onchaind is not believed that an HTLC has an output with another amount.
    let amount = node.channels.all.get(&number).and_then(|c| c.htlc(Side::Remote, id));
    let amount = amount.map(|live| live.htlc.amount.sat_floor().0);
    let value = |vout: u32| case.spend.tx.output.get(vout as usize).map(|o| o.value.to_sat());
    let is_it = |o: &OutputStatus| {
        o.htlc == Some((Side::Remote, id))
            && o.outpoint.txid == case.spend.txid
            && o.spent.is_none()
            && amount.is_some_and(|amount| value(o.outpoint.vout) == Some(amount))
    };
    if resolution.outputs.0.iter().any(is_it) {
        ReceivedOutput::Unspent
    } else {
        ReceivedOutput::Missing
    }
}

/// Asks the backend which unconfirmed transactions spend open HTLC outputs (a preimage is used
/// before it confirms) and fundings of failed channels.
pub fn ask_mempool(node: &Scope, turn: &mut Turn<'_>) {
    if node.plugins.owner_of("mempoolspends").is_none() {
        return;
    }
    let waiting = awaited(node);
    let (some, next) = some_of(&waiting, node.onchain.next_asked, MAX_ASKED);
    // Which commitment of a failed channel stands in the mempool decides which one is bumped.
    let fundings = fundings_of_published(node).map(|(funding, _)| funding).take(MAX_ASKED);
    let outpoints: Vec<OutPoint> = fundings.chain(some.iter().copied()).collect();
    if !outpoints.is_empty() {
        turn.install(node, move |onchain| onchain.next_asked = next);
        call_backend(node, turn, &Question::MempoolSpends(outpoints), Purpose::MempoolSpends);
    }
}

/// Outputs of HTLCs that we offered, whose spends may show a preimage.
pub(super) fn awaited(node: &Scope) -> Vec<OutPoint> {
    let mut found = BTreeSet::new();
    for (number, case) in &node.onchain.cases {
        let outputs = case.resolution.iter().flat_map(|r| &r.outputs.0);
        let open = outputs
            .filter(|o| !o.done && o.spent.is_none() && matches!(o.htlc, Some((Side::Local, _))));
        // Those of a captured onchaind may be anything: the backend is asked about what is watched
        // for its channel.
        let watched = |o: &OutPoint| node.onchain.watched.get(o).is_some_and(|w| w.0 == *number);
        found.extend(open.map(|o| o.outpoint).filter(watched));
    }
    found.into_iter().collect()
}

/// The fundings of channels whose commitment waits to be in a block.
fn fundings_of_published(node: &Scope) -> impl Iterator<Item = (OutPoint, ChannelNumber)> {
    let channels = node.onchain.published.keys().filter_map(|n| node.channels.all.get(n));
    channels.map(|c| (c.live.params.funding, c.number))
}

/// Keeps what spends the fundings of failed channels; where that changed, the anchor bump is looked
/// at.
fn commitments_seen(node: &Scope, turn: &mut Turn<'_>, found: &[bitcoin::Transaction]) {
    let fundings: HashMap<OutPoint, ChannelNumber> = fundings_of_published(node).collect();
    let mut seen = BTreeMap::new();
    for tx in found {
        for number in tx.input.iter().filter_map(|i| fundings.get(&i.previous_output)) {
            seen.insert(*number, tx.clone());
        }
    }
    let txid = |tx: &bitcoin::Transaction| tx.compute_txid();
    for (number, tx) in &seen {
        if node.onchain.funding_spends.get(number).map(txid) != Some(tx.compute_txid()) {
            super::allocate_fees(turn);
        }
    }
    turn.install(node, move |onchain| onchain.funding_spends = seen);
}

/// So many of these at most, from this place on; and the place where the next ones begin, so that
/// each has its turn.
fn some_of(all: &[OutPoint], from: usize, most: usize) -> (&[OutPoint], usize) {
    let rest = all.get(from..).filter(|rest| !rest.is_empty()).unwrap_or(all);
    let some = rest.get(..most).unwrap_or(rest);
    (some, all.len() - rest.len() + some.len())
}

/// The backend's answer to `mempoolspends`: a commitment that spends a failed channel's funding
/// decides which one is bumped; onchaind looks for preimages in the rest.
pub fn mempool_has(node: &Scope, turn: &mut Turn<'_>, result: Result<Value, RpcError>) {
    let found = match result {
        Ok(answer) => answer,
        Err(e) => return log::debug!("the mempool was not searched: {}", e.message),
    };
    let (found, odd) = crate::rooms::chain::answers::mempool(&found);
    if odd > 0 {
        log::warn!("the Bitcoin backend's answer to mempoolspends has what is no transaction");
    }
    commitments_seen(node, turn, &found);
    for tx in found {
        let numbers: BTreeSet<_> = tx
            .input
            .iter()
            .filter_map(|i| node.onchain.watched.get(&i.previous_output))
            .map(|(number, _)| *number)
            .collect();
        let txid = tx.compute_txid();
        for number in numbers {
            let it = (number, txid);
            let listens = node.onchain.cases.get(&number).is_some_and(|c| c.child.is_some());
            if !listens || node.onchain.shown.contains(&it) {
                continue;
            }
            turn.install(node, move |onchain| {
                onchain.shown.insert(it);
            });
            order(node, turn, number, &OnchainUnconfirmed { transaction: tx.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_beyond_one_question_have_their_turn_with_the_next() {
        let all: Vec<OutPoint> = (0..7).map(|vout| OutPoint { vout, ..OutPoint::null() }).collect();
        let mut from = 0;
        let mut asked = Vec::new();
        for _ in 0..4 {
            let (some, next) = some_of(&all, from, 3);
            asked.push(some.iter().map(|o| o.vout).collect::<Vec<_>>());
            from = next;
        }
        assert_eq!(asked, [vec![0, 1, 2], vec![3, 4, 5], vec![6], vec![0, 1, 2]]);
        // They become fewer.
        assert_eq!(some_of(&all[..2], 5, 3), (&all[..2], 2));
        assert_eq!(some_of(&[], 5, 3), (&[][..], 0));
    }
}
