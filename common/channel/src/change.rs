//! The difference of two channel states, as lightningd stores it: `apply(before, diff(before,
//! after))` is `after`.

use crate::channel::{Channel, key_of, stored_htlc};
use primitives::{HtlcId, Side};
use std::collections::BTreeSet;
use std::sync::Arc;
use wire::Long;
use wire::channel_data::*;

/// What `after` has that `before` had not, both without what nobody has to remember.
pub fn diff(before: &Channel, after: &Channel) -> ChannelChange {
    let mut change = ChannelChange {
        balance: after.balance,
        next_htlc_id: after.stored_next_htlc_id(),
        added: Long(Vec::new()),
        moved: Long(Vec::new()),
        settled: Long(Vec::new()),
        fees: None,
        commitment: after.commitment,
        revoked: after.revoked,
        remote_point: after.remote_point,
        remote_next_point: after.remote_next_point,
        remote_secrets: Long(Vec::new()),
        local_signatures: None,
        last_sent: after.last_sent,
    };
    diff_htlcs(before, after, &mut change);
    let fees = stored_fees(after);
    if fees != stored_fees(before) {
        change.fees = Some(Long(fees));
    }
    if !Arc::ptr_eq(&before.secrets, &after.secrets) {
        let known = before.secrets.stored();
        let new = after.secrets.stored().iter().filter(|s| !known.contains(s));
        change.remote_secrets = Long(new.cloned().collect());
    }
    if before.local_signatures != after.local_signatures {
        change.local_signatures = Some(CommitmentSignatures::clone(&after.local_signatures));
    }
    change
}

fn stored_fees(channel: &Channel) -> Vec<FeeChange> {
    channel.fees.iter().filter(|f| f.stage != Stage::PendingOnReceiver).cloned().collect()
}

/// Both lists are in order: one walk over each.
fn diff_htlcs(before: &Channel, after: &Channel, change: &mut ChannelChange) {
    let mut old = before.htlcs.iter().peekable();
    let settle = |live: &Arc<LiveHtlc>, settled: &mut Vec<(Side, HtlcId)>| {
        if live.added != Stage::PendingOnReceiver {
            settled.push(key_of(live));
        }
    };
    for live in &after.htlcs {
        while let Some(gone) = old.next_if(|o| key_of(o) < key_of(live)) {
            settle(gone, &mut change.settled.0);
        }
        let was = old.next_if(|o| key_of(o) == key_of(live));
        if was.is_some_and(|was| Arc::ptr_eq(was, live)) {
            continue;
        }
        match (was.and_then(stored_htlc), stored_htlc(live)) {
            (_, None) => {}
            (None, Some(new)) => change.added.0.push(LiveHtlc::clone(&new)),
            (Some(was), Some(now)) => {
                let moved = moved(&now);
                if moved != self::moved(&was) {
                    change.moved.0.push(moved);
                }
            }
        }
    }
    for gone in old {
        settle(gone, &mut change.settled.0);
    }
}

fn moved(live: &LiveHtlc) -> MovedHtlc {
    MovedHtlc {
        offered_by: live.htlc.offered_by,
        id: live.htlc.id,
        added: live.added,
        removed: live.removed.clone(),
        in_remote_from: live.in_remote_from,
        in_remote_until: live.in_remote_until,
    }
}

/// The stored state with one change more.
pub fn apply(mut before: ChannelState, change: &ChannelChange) -> ChannelState {
    apply_to(&mut before, change);
    before
}

/// The same in place: what did not change is not touched.
pub fn apply_to(state: &mut ChannelState, change: &ChannelChange) {
    apply_htlcs(&mut state.htlcs.0, change);
    for secret in &change.remote_secrets.0 {
        let place = crate::keys::bucket(secret.index);
        state.remote_secrets.0.retain(|s| crate::keys::bucket(s.index) != place);
        state.remote_secrets.0.push(secret.clone());
    }
    if !change.remote_secrets.0.is_empty() {
        state.remote_secrets.0.sort_by_key(|s| crate::keys::bucket(s.index));
    }
    if let Some(fees) = &change.fees {
        state.fees.clone_from(fees);
    }
    if let Some(signatures) = &change.local_signatures {
        state.local_signatures.clone_from(signatures);
    }
    state.balance = change.balance;
    state.next_htlc_id = change.next_htlc_id;
    state.commitment = change.commitment;
    state.revoked = change.revoked;
    state.remote_point = change.remote_point;
    state.remote_next_point = change.remote_next_point;
    state.last_sent = change.last_sent;
}

/// They are in order before and after.
fn apply_htlcs(htlcs: &mut Vec<LiveHtlc>, change: &ChannelChange) {
    for m in &change.moved.0 {
        if let Ok(at) = htlcs.binary_search_by_key(&(m.offered_by, m.id), key_of)
            && let Some(live) = htlcs.get_mut(at)
        {
            live.added = m.added;
            live.removed.clone_from(&m.removed);
            live.in_remote_from = m.in_remote_from;
            live.in_remote_until = m.in_remote_until;
        }
    }
    if !change.settled.0.is_empty() {
        let settled: BTreeSet<_> = change.settled.0.iter().collect();
        htlcs.retain(|live| !settled.contains(&key_of(live)));
    }
    if !change.added.0.is_empty() {
        htlcs.extend(change.added.0.iter().cloned());
        htlcs.sort_by_key(key_of);
    }
}
