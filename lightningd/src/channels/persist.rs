//! Steps of the commitment dance that channeld asks to be stored: rows first, then values, then what follows for the switch.
//!
//! channeld talks to strangers, so what it asks is checked where a lie could reach beyond its channel: HTLCs are new, each of
//! ours was ordered and its key is bound once, a fulfilment has its preimage.

use super::{Channel, Totals, live_htlc, store, update};
use crate::events::{Event, Outgoing};
use crate::htlcs::HtlcEvent;
use crate::node::Node;
use crate::turn::{Stop, Turn};
use primitives::*;
use std::collections::BTreeSet;
use wire::channel_data::*;
use wire::channeld::Persist;

/// What the steps of one ask come to.
struct Sum {
    totals: Totals,
    keys: BTreeSet<u64>,
    settled: Vec<LiveHtlc>,
}

/// Stores the steps, or refuses them all.
pub(super) fn persist(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    ask: Persist,
) -> Result<(), Stop> {
    let number = channel.number;
    let mut sum = Sum { totals: channel.totals, keys: BTreeSet::new(), settled: vec![] };
    // The first step is checked against what is there. Only if there are more is that copied.
    let mut ahead: Option<ChannelState> = None;
    for (n, change) in ask.changes.iter().enumerate() {
        let live = ahead.as_ref().unwrap_or(&channel.live);
        check(live, change, &mut sum)?;
        for ours in change.added.0.iter().filter(|l| l.htlc.offered_by == Side::Local) {
            crate::htlcs::bind(node, turn, channel, ours)?;
        }
        store::apply(turn.db, number, change, &node.channels.last_htlc)?;
        if n + 1 < ask.changes.len() {
            channel::apply_to(ahead.get_or_insert_with(|| channel.live.clone()), change);
        }
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

/// May this step follow, as far as it concerns anybody but its channel?
fn check(live: &ChannelState, change: &ChannelChange, sum: &mut Sum) -> Result<(), Stop> {
    for (offered_by, id) in &change.settled.0 {
        let Some(gone) = live_htlc(live, *offered_by, *id) else {
            return Err(Stop::refused(format!("channeld settled HTLC {id}, which is not there")));
        };
        count_settled(&mut sum.totals, gone);
        sum.settled.push(gone.clone());
    }
    for moved in &change.moved.0 {
        let hash = live_htlc(live, moved.offered_by, moved.id).map(|l| l.htlc.payment_hash);
        if let Some(StagedRemoval { removal: Removal::Fulfilled { preimage }, .. }) = &moved.removed
            && hash != Some(preimage.hash())
        {
            let text = format!("channeld fulfilled HTLC {} with another preimage", moved.id);
            return Err(Stop::refused(text));
        }
    }
    let mut next = live.next_htlc_id;
    for added in &change.added.0 {
        let (by, id) = (added.htlc.offered_by, added.htlc.id);
        if id < next[by] {
            return Err(Stop::refused(format!("channeld used the id {id} of an HTLC twice")));
        }
        next[by] = HtlcId(id.0.saturating_add(1));
        if by == Side::Local && (added.key == 0 || !sum.keys.insert(added.key)) {
            return Err(Stop::refused(format!("channeld bound the key {} twice", added.key)));
        }
        let count = match by {
            Side::Local => &mut sum.totals.out_offered,
            Side::Remote => &mut sum.totals.in_offered,
        };
        *count = (count.0 + 1, count.1.saturating_add(added.htlc.amount));
    }
    Ok(())
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
