//! The HTLC switch: what becomes of a received HTLC, and what the end of an offered one means.
//!
//! Identity is (channel, direction, id): never a payment hash, never an amount.

use crate::channels::{self, Channel};
use crate::events::Event;
use crate::invoices;
use crate::node::Node;
use crate::payments;
use crate::turn::{Fatal, Stop, Turn};
use onion::{Failure, FinalPayload, Payload, begin_error, sha256_of_onion};
use primitives::*;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wire::channel_data::{LiveHtlc, Removal, Stage, StagedRemoval};
use wire::channeld::{OfferRefusal, Peeled};
use wire::daemon::LogLevel;
use wire::hsm::OnionKeys;

/// BOLT 4, "Basic Multi-Part Payments": parts wait for the rest for at least a minute.
const SET_TIMEOUT: Duration = Duration::from_secs(70);
/// Sets that are incomplete at once. A part beyond them is failed, and may come again.
const MAX_SETS: usize = 10_000;

/// What happens in the switch.
#[derive(Debug)]
pub enum HtlcEvent {
    /// channeld did not offer it.
    Refused {
        /// The master's key.
        key: u64,
        /// Why.
        why: OfferRefusal,
    },
    /// The peer showed the preimage of one that we offered.
    Fulfilled {
        /// Which channel.
        channel: ChannelNumber,
        /// Which of ours.
        id: HtlcId,
        /// What opens it.
        preimage: Preimage,
    },
    /// Its removal is irrevocable.
    Settled {
        /// Which channel.
        channel: ChannelNumber,
        /// As it was before it left.
        htlc: Box<LiveHtlc>,
    },
    /// Parts of this payment have waited long enough.
    SetTimeout(PaymentHash, Instant),
    /// A part of a payment of ours has waited for its commitment: its caller hears that it is pending.
    StorePayment(u64),
}

/// One part of a payment to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    channel: ChannelNumber,
    id: HtlcId,
    amount: Msat,
}

/// Parts that came, of a payment that is not complete.
#[derive(Debug, Clone)]
struct Set {
    parts: Vec<Part>,
    total: Msat,
    since: Instant,
}

/// What the switch remembers beside the rows: what a restart rebuilds by deciding again.
#[derive(Debug, Default)]
pub struct Htlcs {
    sets: BTreeMap<PaymentHash, Set>,
}

/// Nothing of this room's own is stored: HTLCs are rows of their channels.
pub fn load(_: &Connection) -> Result<Htlcs, Fatal> {
    Ok(Htlcs::default())
}

/// Decides on a received HTLC that is irrevocable. A second time changes nothing.
pub fn decide(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    id: HtlcId,
) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&number) else { return Ok(()) };
    let found =
        channel.live.htlcs.0.iter().find(|l| l.htlc.offered_by == Side::Remote && l.htlc.id == id);
    let Some(live) = found.filter(|l| l.added == Stage::Irrevocable && l.removed.is_none()) else {
        return Ok(());
    };
    let part = Part { channel: number, id, amount: live.htlc.amount };
    if channel.decided.contains_key(&id)
        || node.htlcs.sets.values().any(|s| s.parts.contains(&part))
    {
        return Ok(());
    }
    let Some(peeled) = channel.peeled.get(&id) else {
        channel.log(
            LogLevel::Broken,
            &format!("HTLC {id} is irrevocable, and its onion was never peeled"),
        );
        return Ok(());
    };
    let (payload, next, keys) = match &peeled.peeled {
        Peeled::Unreadable { sha256_of_onion, failure_code } => {
            let removal = Removal::Malformed {
                sha256_of_onion: *sha256_of_onion,
                failure_code: *failure_code,
            };
            return settle(turn, channel, id, removal);
        }
        Peeled::Payload { payload, next, keys } => (payload, next, keys),
    };
    match Payload::parse(&payload.0, next.is_none(), live.path_key.is_some()) {
        Err(e) => fail(turn, channel, id, keys, &e.into()),
        Ok(Payload::Final(wanted)) => receive(node, turn, channel, live, &wanted, keys),
        // BOLT 4: a node that forwards nothing knows no next peer.
        Ok(Payload::Forward(_)) => fail(turn, channel, id, keys, &Failure::UnknownNextPeer),
        Ok(Payload::Blinded(_)) => {
            let sha = sha256_of_onion(live.onion.0.as_slice());
            fail(turn, channel, id, keys, &Failure::InvalidOnionBlinding(sha))
        }
    }
}

/// Stores how a received HTLC ends, then tells its channeld.
fn settle(
    turn: &mut Turn<'_>,
    channel: &Channel,
    id: HtlcId,
    removal: Removal,
) -> Result<(), Stop> {
    channels::set_decision(turn.db, channel.number, id, &removal)?;
    channels::live::order_removal(channel, turn, id, &removal);
    channels::update(turn, channel.number, move |c| drop(c.decided.insert(id, removal)));
    Ok(())
}

fn fail(
    turn: &mut Turn<'_>,
    channel: &Channel,
    id: HtlcId,
    keys: &OnionKeys,
    failure: &Failure,
) -> Result<(), Stop> {
    channel.log(LogLevel::Debug, &format!("HTLC {id} fails: {}", failure.name()));
    settle(turn, channel, id, Removal::Failed { reason: begin_error(keys, failure) })
}

/// A part of a payment to us. BOLT 4, "Payload for the Last Node", "Failure Messages".
fn receive(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    live: &LiveHtlc,
    wanted: &FinalPayload,
    keys: &OnionKeys,
) -> Result<(), Stop> {
    let (htlc, id) = (&live.htlc, live.htlc.id);
    let height = node.chain.height();
    let unknown = Failure::IncorrectOrUnknownPaymentDetails { htlc: htlc.amount, height };
    if htlc.amount < wanted.amount {
        return fail(
            turn,
            channel,
            id,
            keys,
            &Failure::FinalIncorrectHtlcAmount { incoming: htlc.amount },
        );
    }
    if htlc.expiry < wanted.cltv_expiry {
        return fail(
            turn,
            channel,
            id,
            keys,
            &Failure::FinalIncorrectCltvExpiry { cltv_expiry: htlc.expiry },
        );
    }
    if !node.chain.is_synced() {
        // Without the tip we cannot tell whether there is time to claim it.
        return fail(turn, channel, id, keys, &Failure::TemporaryNodeFailure);
    }
    let accepted = invoices::accepts(node, htlc, wanted, height);
    if let Err(why) = accepted {
        channel.log(LogLevel::Debug, &format!("HTLC {id} pays no invoice of ours: {why}"));
        return fail(turn, channel, id, keys, &unknown);
    }
    join_set(node, turn, channel, live, wanted.total, keys)
}

fn join_set(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    live: &LiveHtlc,
    total: Msat,
    keys: &OnionKeys,
) -> Result<(), Stop> {
    let hash = live.htlc.payment_hash;
    let part = Part { channel: channel.number, id: live.htlc.id, amount: live.htlc.amount };
    let mut set = match node.htlcs.sets.get(&hash) {
        // BOLT 4: all parts say the same total.
        Some(set) if set.total != total => {
            let unknown = Failure::IncorrectOrUnknownPaymentDetails {
                htlc: part.amount,
                height: node.chain.height(),
            };
            return fail(turn, channel, part.id, keys, &unknown);
        }
        Some(set) => set.clone(),
        None if node.htlcs.sets.len() >= MAX_SETS => {
            return fail(turn, channel, part.id, keys, &Failure::TemporaryNodeFailure);
        }
        None => {
            let since = Instant::now();
            if part.amount < total {
                turn.at(since + SET_TIMEOUT, Event::Htlc(HtlcEvent::SetTimeout(hash, since)));
            }
            Set { parts: vec![], total, since }
        }
    };
    set.parts.push(part);
    let sum = Msat(set.parts.iter().map(|p| p.amount.0).sum());
    if sum < set.total {
        turn.install(move |node| drop(node.htlcs.sets.insert(hash, set)));
        return Ok(());
    }
    let preimage = invoices::paid(node, turn, hash, sum)?;
    for part in &set.parts {
        if let Some(channel) = node.channels.all.get(&part.channel) {
            settle(turn, channel, part.id, Removal::Fulfilled { preimage })?;
        }
    }
    turn.install(move |node| drop(node.htlcs.sets.remove(&hash)));
    Ok(())
}

/// The switch's events.
pub fn handle(node: &Node, turn: &mut Turn<'_>, event: HtlcEvent) -> Result<(), Stop> {
    match event {
        HtlcEvent::Refused { key, why } => payments::refused(node, turn, key, &why),
        HtlcEvent::Fulfilled { channel, id, preimage } => {
            let ours = |l: &&LiveHtlc| l.htlc.offered_by == Side::Local && l.htlc.id == id;
            let live =
                node.channels.all.get(&channel).and_then(|c| c.live.htlcs.0.iter().find(ours));
            match live {
                // channeld checked it; a captured one is not believed.
                Some(live) if preimage.hash() != live.htlc.payment_hash => Err(Stop::refused(
                    format!("channeld learned a preimage that does not open HTLC {id}"),
                )),
                Some(live) => payments::fulfilled(node, turn, live.key, preimage),
                None => Ok(()),
            }
        }
        HtlcEvent::Settled { channel, htlc } => settled(node, turn, channel, &htlc),
        HtlcEvent::SetTimeout(hash, since) => set_timeout(node, turn, hash, since),
        HtlcEvent::StorePayment(key) => payments::store(node, turn, key),
    }
}

/// An HTLC left its channel for good.
fn settled(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    live: &LiveHtlc,
) -> Result<(), Stop> {
    if live.htlc.offered_by == Side::Remote {
        return Ok(());
    }
    match &live.removed {
        Some(StagedRemoval { removal: Removal::Fulfilled { preimage }, .. }) => {
            payments::fulfilled(node, turn, live.key, *preimage)
        }
        Some(StagedRemoval { removal: Removal::Failed { reason }, .. }) => {
            payments::failed(node, turn, live.key, reason)
        }
        Some(StagedRemoval {
            removal: Removal::Malformed { sha256_of_onion, failure_code },
            ..
        }) => payments::malformed(node, turn, live.key, *sha256_of_onion, *failure_code),
        None => Err(Stop::refused(format!(
            "HTLC {} of channel {number} settled without a removal",
            live.htlc.id
        ))),
    }
}

/// BOLT 4: parts whose rest did not come are failed with mpp_timeout.
fn set_timeout(
    node: &Node,
    turn: &mut Turn<'_>,
    hash: PaymentHash,
    since: Instant,
) -> Result<(), Stop> {
    let Some(set) = node.htlcs.sets.get(&hash).filter(|s| s.since == since) else { return Ok(()) };
    for part in &set.parts {
        let Some(channel) = node.channels.all.get(&part.channel) else { continue };
        if let Some(Peeled::Payload { keys, .. }) = channel.peeled.get(&part.id).map(|p| &p.peeled)
        {
            fail(turn, channel, part.id, keys, &Failure::MppTimeout)?;
        }
    }
    turn.install(move |node| drop(node.htlcs.sets.remove(&hash)));
    Ok(())
}
