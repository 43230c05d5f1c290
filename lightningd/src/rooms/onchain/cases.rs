//! The life of a case: an onchaind is started for it, its end is buried or leaves the chain.

use crate::kernel::births;
use crate::kernel::children::Role;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::OnchainEvent;
use crate::rooms::channels::Channel;
use crate::rooms::onchain::{Case, Scope, Seen, attempts, store};
use crate::rooms::{channels, htlcs};
use crate::sys::children::ChildId;
use crate::sys::fatal::Stop;
use crate::sys::hsm::{ASK_AGAIN, NoPoint};
use bitcoin::Txid;
use channel::IRREVOCABLE_DEPTH;
use primitives::*;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use wire::channel_data::Removal;
use wire::daemon::LogLevel;
use wire::onchaind::*;
use wire::{Long, Message};

/// So long after the close nobody waits any more for fees to fall below what an output has: two
/// weeks.
pub const WORTHLESS_AFTER: u32 = 2016;

/// onchaind is born again after it died, at most this much later.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// After the load: every case gets its onchaind.
pub fn resume(node: &Scope, turn: &mut Turn<'_>) {
    for number in node.onchain.cases.keys() {
        turn.also(Event::Onchain(*number, OnchainEvent::Begin));
    }
}

/// A commitment that can never confirm needs no anchor bump.
pub fn forget(node: &Scope, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    store::remove_claim_starts_of(turn.db, number)?;
    turn.install(node, move |onchain| drop(onchain.published.remove(&number)));
    drop_all(node, turn, number)
}

pub fn drop_all(node: &Scope, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    for attempt in node.onchain.attempts.get(&number).into_iter().flatten() {
        attempts::drop_attempt(node, turn, number, attempt)?;
    }
    Ok(())
}

/// Is nothing left to be done, and everything that was done buried? What is left when it would
/// never pay for itself is no reason to remember a channel for ever.
pub fn is_over(case: &Case, height: BlockHeight) -> bool {
    let Some(resolution) = &case.resolution else { return false };
    match resolution.settled {
        Some(settled) => (height - settled).0 + 1 >= IRREVOCABLE_DEPTH,
        None => {
            // At the lowest feerate ever relayed: a market or a mempool minimum that is high today
            // says nothing of tomorrow.
            (height - case.spend.height).0 >= WORTHLESS_AFTER
                && !resolution.claims.0.is_empty()
                && !crate::rooms::onchain::worth::any_pays_for_itself(
                    &resolution.claims.0,
                    FeeratePerKw::FLOOR,
                )
        }
    }
}

pub fn begin(node: &Scope, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    let (Some(case), Some(channel)) =
        (node.onchain.cases.get(&number), node.channels.all.get(&number))
    else {
        return Ok(());
    };
    if case.child.is_some() {
        return Ok(());
    }
    if channel.owner != channels::Owner::Nobody {
        // Its channeld was told to end. What it asked before counts, and belongs to what onchaind
        // must know.
        let soon = Instant::now() + Duration::from_millis(20);
        turn.at(soon, Event::Onchain(number, OnchainEvent::Begin));
        return Ok(());
    }
    let Some(init) = init(node, turn, channel, case)? else {
        turn.at(Instant::now() + ASK_AGAIN, Event::Onchain(number, OnchainEvent::Begin));
        return Ok(());
    };
    let child = node.supervisor.next_id();
    births::birth(
        node,
        turn,
        (child, Role::Onchain(number)),
        Some(channel.peer),
        init.encode(),
        vec![],
    );
    turn.install(node, move |onchain| {
        if let Some(case) = onchain.cases.get_mut(&number) {
            case.child = Some(child);
            case.resolutions_due = 1;
        }
    });
    Ok(())
}

/// Everything that onchaind must know. It is told the rest as it happens. `None`: hsmd could not be
/// asked now.
fn init(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    case: &Case,
) -> Result<Option<OnchaindInit>, Stop> {
    let constants = channel::Constants::new(channel.live.params.clone()).map_err(|e| {
        Stop::refused(format!("the rows of channel {} make no channel: {e}", channel.number))
    })?;
    let found = channel::commitment::number_in(&constants, &case.spend.tx);
    let number = found.unwrap_or(CommitmentNumber::LAST);
    let newest = channel.live.commitment.local;
    // Also where it is of no use here: from now on hsmd knows the channel that it is to sign for.
    let asked = if number <= newest { number } else { newest };
    let seed = crate::rooms::channels::seed::hsm_seed(channel);
    let point = match turn.hsm.commitment_point(channel.peer, channel.number, seed, asked)? {
        Ok(point) => Some(point),
        Err(NoPoint::Later) => return Ok(None),
        Err(NoPoint::Refused(why)) => {
            // What is in a commitment of the peer's can be taken all the same.
            channel.log(LogLevel::Broken, &format!("hsmd does not believe our rows: {why}"));
            None
        }
    };
    let revoked_htlcs = if number < channel.live.revoked.remote {
        store::htlcs_in_remote(turn.db, channel.number, number)?
    } else {
        vec![]
    };
    let preimages = channel.decided.iter().filter_map(|(id, removal)| match removal {
        Removal::Fulfilled { preimage } => Some((*id, *preimage)),
        Removal::Failed { .. } | Removal::Malformed { .. } => None,
    });
    let mined = |s: &Seen| Mined { transaction: s.tx.clone(), height: s.height };
    Ok(Some(OnchaindInit {
        peer: channel.peer,
        channel: channel.number,
        state: channel.live.clone(),
        number,
        local_point: point.filter(|_| number <= newest),
        revoked_htlcs: Long(revoked_htlcs),
        upstream: Long(htlcs::resolve::upstream_expiries(node, channel)),
        preimages: Long(preimages.collect()),
        spend: mined(&case.spend),
        later: Long(case.later.iter().map(mined).collect()),
        height: node.chain.height(),
    }))
}

/// onchaind is gone. It keeps nothing: another one takes its place.
pub fn gone(node: &Scope, turn: &mut Turn<'_>, child: ChildId, number: ChannelNumber) {
    let Some(case) = node.onchain.cases.get(&number).filter(|c| c.child == Some(child)) else {
        return;
    };
    let pause = Duration::from_millis(100 << case.deaths.min(12)).min(LONGEST_PAUSE);
    log::error!("onchaind of channel {number} is gone: another one takes its place in {pause:?}");
    turn.at(Instant::now() + pause, Event::Onchain(number, OnchainEvent::Begin));
    turn.install(node, move |onchain| {
        if let Some(case) = onchain.cases.get_mut(&number) {
            case.child = None;
            case.heeded = None;
            case.deaths += 1;
        }
    });
}

/// Everything was resolved a hundred blocks ago.
pub fn bury(node: &Scope, turn: &mut Turn<'_>, number: ChannelNumber) -> Result<(), Stop> {
    let (Some(channel), Some(case)) =
        (node.channels.all.get(&number), node.onchain.cases.get(&number))
    else {
        return Ok(());
    };
    // The rest was worth too little to be claimed, or onchaind has lied: whatever was offered for
    // it shall not wait for ever.
    for live in channel.live.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Local) {
        htlcs::resolve::failed_on_chain(node, turn, number, live.htlc.id)?;
    }
    let text = format!("everything that followed {} is buried", case.spend.txid);
    end_case(node, turn, number, &text)?;
    channels::watch::close_for_good(channel, turn, &text)
}

/// The case is over, by burial or because its block left the chain.
pub fn end_case(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    why: &str,
) -> Result<(), Stop> {
    if let Some(child) = node.onchain.cases.get(&number).and_then(|c| c.child) {
        turn.say(Outgoing::Kill { child, why: why.to_owned() });
    }
    store::remove_seen_of(turn.db, number)?;
    store::remove_claim_starts_of(turn.db, number)?;
    let case = node.onchain.cases.get(&number);
    let ended: BTreeSet<Txid> =
        case.into_iter().flat_map(|case| case.txs().map(|seen| seen.txid)).collect();
    // After this event: the wallet has just heard of the same block.
    turn.also(Event::Onchain(number, OnchainEvent::GiveUp));
    turn.install(node, move |onchain| {
        onchain.cases.remove(&number);
        onchain.given_up.remove(&number);
        onchain.rejections.remove(&number);
        onchain.refusals.remove(&number);
        onchain.unsigned.retain(|o| !ended.contains(&o.txid));
        onchain.unsignable.retain(|o, _| !ended.contains(&o.txid));
        onchain.unchained.remove(&number);
        onchain.watched.retain(|_, (of, _)| *of != number);
    });
    Ok(())
}
