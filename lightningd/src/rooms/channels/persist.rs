//! Steps of the commitment dance that channeld asks to be stored: rows first, then values, then
//! what follows for the switch.
//!
//! channeld talks to strangers, so what it asks is checked where a lie could reach beyond its
//! channel: HTLCs are new, each of ours was ordered and its key is bound once, a fulfilment has its
//! preimage; and nothing is more than the channel has, or than a row can hold.

use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::HtlcEvent;
use crate::rooms::channels::change::update;
use crate::rooms::channels::{Channel, Scope, Totals, live_htlc, store};
use crate::sys::fatal::Stop;
use primitives::*;
use std::collections::BTreeSet;
use wire::channel_data::*;
use wire::channeld::Persist;
use wire::hsm::{MasterOrder, RevocationStored};

/// What the steps of one ask come to.
#[derive(Debug)]
pub struct Sum {
    totals: Totals,
    keys: BTreeSet<u64>,
    settled: Vec<LiveHtlc>,
}

/// `Err` unless each step may follow, as far as it concerns anybody but its channel.
pub fn check(channel: &Channel, ask: &Persist) -> Result<Sum, Stop> {
    let mut sum = Sum { totals: channel.totals, keys: BTreeSet::new(), settled: vec![] };
    for_each_step(channel, ask, |live, change| check_step(channel, live, change, &mut sum))?;
    Ok(sum)
}

/// Runs `each` with the state that a step changes. The first step changes what is there; only if
/// there are more is that copied.
fn for_each_step(
    channel: &Channel,
    ask: &Persist,
    mut each: impl FnMut(&ChannelState, &ChannelChange) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut ahead: Option<ChannelState> = None;
    for (n, change) in ask.changes.iter().enumerate() {
        each(ahead.as_ref().unwrap_or(&channel.live), change)?;
        if n + 1 < ask.changes.len() {
            channel::apply_to(ahead.get_or_insert_with(|| channel.live.clone()), change);
        }
    }
    Ok(())
}

/// The HTLCs of ours that these steps add.
pub fn added_by_us(ask: &Persist) -> impl Iterator<Item = &LiveHtlc> {
    let added = ask.changes.iter().flat_map(|change| &change.added.0);
    added.filter(|l| l.htlc.offered_by == Side::Local)
}

/// Stores the steps, which were checked.
pub fn keep(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    ask: Persist,
    sum: Sum,
) -> Result<(), Stop> {
    let number = channel.number;
    for change in &ask.changes {
        store::apply(turn.db, number, change, &node.channels.last_htlc)?;
    }
    for peeled in &ask.peeled.0 {
        store::set_peeled(turn.db, number, peeled)?;
        turn.also(Event::Decide(number, peeled.id));
    }
    let ours = ask.changes.last().map_or(channel.live.balance.local, |c| c.balance.local);
    let range = (channel.to_us_range.0.min(ours), channel.to_us_range.1.max(ours));
    if sum.totals != channel.totals || range != channel.to_us_range {
        store::set_totals(turn.db, number, &sum.totals, range)?;
    }
    let revoked = ask.changes.last().map_or(channel.live.revoked.local, |c| c.revoked.local);
    if revoked > channel.live.revoked.local {
        // Before the answer, after which the secret goes out.
        turn.say(Outgoing::Revoked { channel: number, count: revoked });
        let told = RevocationStored { peer: channel.peer, channel: number, revoked };
        turn.say(Outgoing::OrderHsmd(MasterOrder::RevocationStored(told)));
    }
    let totals = sum.totals;
    update(turn, number, move |c| {
        for change in &ask.changes {
            channel::apply_to(&mut c.live, change);
            for (_, id) in change.settled.0.iter().filter(|(side, _)| *side == Side::Remote) {
                c.peeled.remove(id);
                c.decided.remove(id);
            }
        }
        c.totals = totals;
        c.to_us_range = range;
        for peeled in ask.peeled.0 {
            c.peeled.insert(peeled.id, peeled);
        }
    });
    for gone in sum.settled {
        turn.also(Event::Htlc(HtlcEvent::Settled { channel: number, htlc: Box::new(gone) }));
    }
    Ok(())
}

/// Adds, each of them new: without a removal, with an id above those before, and with a key if it
/// is ours.
fn check_added(live: &ChannelState, change: &ChannelChange, sum: &mut Sum) -> Result<(), Stop> {
    if let Some(added) = change.added.0.iter().find(|l| l.removed.is_some()) {
        let text = format!("channeld added HTLC {} with its removal", added.htlc.id);
        return Err(Stop::refused(text));
    }
    let mut next = live.next_htlc_id;
    for added in &change.added.0 {
        let (by, id) = (added.htlc.offered_by, added.htlc.id);
        if id < next[by] {
            return Err(Stop::refused(format!("channeld used the id {id} of an HTLC twice")));
        }
        next[by] = HtlcId(id.0.saturating_add(1));
        if by == Side::Remote && added.key != 0 {
            return Err(Stop::refused(format!("channeld has a key for the peer's HTLC {id}")));
        }
        if by == Side::Local && (added.key == 0 || !sum.keys.insert(added.key)) {
            return Err(Stop::refused(format!("channeld bound the key {} twice", added.key)));
        }
        let count = match by {
            Side::Local => &mut sum.totals.out_offered,
            Side::Remote => &mut sum.totals.in_offered,
        };
        *count = (count.0 + 1, count.1.saturating_add(added.htlc.amount));
    }
    if Side::BOTH.into_iter().any(|side| change.next_htlc_id[side] < next[side]) {
        return Err(Stop::refused("channeld would use the id of an HTLC twice"));
    }
    Ok(())
}

/// May this step follow, as far as it concerns anybody but its channel?
fn check_step(
    channel: &Channel,
    live: &ChannelState,
    change: &ChannelChange,
    sum: &mut Sum,
) -> Result<(), Stop> {
    is_possible(live, change)
        .map_err(|what| Stop::refused(format!("channeld wants to store {what}")))?;
    let mut balance = live.balance;
    for (offered_by, id) in &change.settled.0 {
        let Some(gone) = live_htlc(live, *offered_by, *id) else {
            return Err(Stop::refused(format!("channeld settled HTLC {id}, which is not there")));
        };
        let Some(removed) = &gone.removed else {
            return Err(Stop::refused(format!("channeld settled HTLC {id}, which has no removal")));
        };
        if let Removal::Fulfilled { .. } = removed.removal {
            balance[*offered_by] = balance[*offered_by].saturating_sub(gone.htlc.amount);
            balance[!*offered_by] = balance[!*offered_by].saturating_add(gone.htlc.amount);
        }
        count_settled(&mut sum.totals, gone);
        sum.settled.push(gone.clone());
    }
    // Only a fulfilled HTLC moves balance.
    if change.balance != balance {
        let text = format!(
            "channeld has balances of {} and {}, where its HTLCs left {} and {}",
            change.balance.local, change.balance.remote, balance.local, balance.remote
        );
        return Err(Stop::refused(text));
    }
    for moved in &change.moved.0 {
        may_move(channel, live, moved)?;
    }
    check_added(live, change, sum)
}

/// `Err` if a stored removal changes, a preimage does not match, or a received HTLC whose payload
/// lightningd has read is resolved in another way than it decided.
fn may_move(channel: &Channel, live: &ChannelState, moved: &MovedHtlc) -> Result<(), Stop> {
    let (by, id) = (moved.offered_by, moved.id);
    let refused = |what: &str| Err(Stop::refused(format!("channeld moved HTLC {id}: {what}")));
    let Some(before) = live_htlc(live, by, id) else {
        return refused("there is no such HTLC");
    };
    let now = moved.removed.as_ref().map(|r| &r.removal);
    if let Some(was) = &before.removed {
        // What is stored was checked then: only how far it has come changes.
        return if now == Some(&was.removal) {
            Ok(())
        } else {
            refused("it has another removal than the stored one")
        };
    }
    let Some(removal) = now else { return Ok(()) };
    if let Removal::Fulfilled { preimage } = removal
        && preimage.hash() != before.htlc.payment_hash
    {
        return refused("it is fulfilled with a preimage of another hash");
    }
    if by == Side::Local || channel.decided.get(&id) == Some(removal) {
        return Ok(());
    }
    match removal {
        // channeld fails by itself what it cannot read, or may not take: the master never heard of
        // its payload.
        Removal::Failed { .. } | Removal::Malformed { .. } if !channel.peeled.contains_key(&id) => {
            Ok(())
        }
        Removal::Fulfilled { .. } | Removal::Failed { .. } | Removal::Malformed { .. } => {
            refused("it is resolved in another way than lightningd decided")
        }
    }
}

/// True if the peer's balance, with what it fulfilled of ours, covers all its HTLCs. A failed HTLC
/// stops counting once its removal is stored, a fulfilled one once the balance has moved.
fn is_covered(live: &ChannelState, change: &ChannelChange) -> bool {
    if !change.added.0.iter().any(|l| l.htlc.offered_by == Side::Remote) {
        return true;
    }
    let mut after = live.clone();
    channel::apply_to(&mut after, change);
    let holds = |l: &&LiveHtlc| {
        let failed = matches!(
            l.removed.as_ref().map(|r| &r.removal),
            Some(Removal::Failed { .. } | Removal::Malformed { .. })
        );
        l.htlc.offered_by == Side::Remote && !failed
    };
    // BOLT 2, update_add_htlc: what the peer fulfils in the same commitment is its own there.
    let gains = |l: &&LiveHtlc| {
        let removal = l.removed.as_ref().map(|r| &r.removal);
        l.htlc.offered_by == Side::Local && matches!(removal, Some(Removal::Fulfilled { .. }))
    };
    let sum = |which: &dyn Fn(&&LiveHtlc) -> bool| -> u128 {
        after.htlcs.0.iter().filter(which).map(|l| u128::from(l.htlc.amount.0)).sum()
    };
    sum(&holds) <= u128::from(after.balance.remote.0) + sum(&gains)
}

/// Can a channel of these parameters be like that? If not, what cannot.
fn is_possible(live: &ChannelState, change: &ChannelChange) -> Result<(), &'static str> {
    let require = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
    require(is_covered(live, change), "HTLCs of the peer's of more than it has")?;
    let has = live.params.amount.msat();
    let whole = change.balance.local.0.checked_add(change.balance.remote.0) == Some(has.0);
    require(whole, "balances that are not what the channel has")?;
    let numbers = [change.commitment, change.revoked];
    let counts = numbers.iter().all(|n| n.local.max(n.remote) < CommitmentNumber::LAST);
    require(counts, "a commitment number beyond the last")?;
    let ids = change.next_htlc_id;
    // Each costs a commitment at least, or a place in one: far fewer than this.
    require(ids.local.max(ids.remote).0 < 1 << 62, "an HTLC id beyond all")?;
    let secrets = change.remote_secrets.0.iter().all(|s| s.index <= CommitmentNumber::LAST.0);
    require(secrets, "a secret of no commitment")?;
    let stays = live.htlcs.0.len().saturating_sub(change.settled.0.len());
    // Those of two commitments, and those on their way out of both.
    let fits = stays.saturating_add(change.added.0.len()) <= 4 * channel::MAX_HTLCS;
    require(fits, "more HTLCs than a channel has")?;
    let in_range = |from: Option<CommitmentNumber>, until: Option<CommitmentNumber>| {
        [from, until].into_iter().flatten().all(|n| n < CommitmentNumber::LAST)
    };
    for added in &change.added.0 {
        let htlc = &added.htlc;
        require(htlc.amount <= has, "an HTLC of more than the channel has")?;
        require(htlc.expiry.0 < channel::EXPIRY_LIMIT, "an HTLC that expires at no height")?;
        require(in_range(added.in_remote_from, added.in_remote_until), "an HTLC in no commitment")?;
        require(htlc.id.0 < 1 << 62, "an HTLC id beyond all")?;
    }
    let moves = change
        .moved
        .0
        .iter()
        .all(|m| m.id.0 < 1 << 62 && in_range(m.in_remote_from, m.in_remote_until));
    require(moves, "an HTLC in no commitment")
}

fn count_settled(totals: &mut Totals, gone: &LiveHtlc) {
    if matches!(&gone.removed, Some(StagedRemoval { removal: Removal::Fulfilled { .. }, .. })) {
        let count = match gone.htlc.offered_by {
            Side::Local => &mut totals.out_fulfilled,
            Side::Remote => &mut totals.in_fulfilled,
        };
        *count = (count.0 + 1, count.1.saturating_add(gone.htlc.amount));
    }
}

#[cfg(test)]
#[path = "persist_tests.rs"]
mod tests;
