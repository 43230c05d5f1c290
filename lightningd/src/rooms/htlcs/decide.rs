//! Received HTLCs are decided on, each once: forwarded, kept for an invoice, or failed.

use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::hooks::HtlcVerdict;
use crate::kernel::words::rooms::HtlcEvent;
use crate::rooms::channels::Channel;
use crate::rooms::channels::decision::is_replayed;
use crate::rooms::channels::key::Origin;
use crate::rooms::htlcs::resolve::{ended, fail, settle};
use crate::rooms::htlcs::{OnChain, Removed, Scope, early, forward, receive, resolve};
use crate::rooms::payments;
use crate::sys::fatal::Stop;
use onion::{Failure, Payload, sha256_of_onion};
use primitives::*;
use std::time::{Duration, Instant};
use wire::OnionPacket;
use wire::channel_data::{LiveHtlc, Removal, Stage};
use wire::channeld::Peeled;
use wire::daemon::LogLevel;
use wire::hsm::OnionKeys;

/// So long a start may take to find the tip before HTLCs fail for want of it.
const TIP_PATIENCE: Duration = Duration::from_secs(60);

/// After the load, before peers: what a crash may have left half said.
pub fn begin(node: &Scope, turn: &mut Turn<'_>) -> Result<(), Stop> {
    if !node.chain.caught_up {
        turn.install(node, |htlcs| htlcs.waits_for_tip = true);
        turn.at(Instant::now() + TIP_PATIENCE, Event::Htlc(HtlcEvent::DecideAll));
    }
    resolve::begin(node, turn)?;
    forward::lost(node, turn, None)
}

/// We may be at the tip, and it is new enough to be one: HTLCs that came before are decided on.
pub fn tip_found(node: &Scope, turn: &mut Turn<'_>) {
    if node.htlcs.waits_for_tip && node.stale_tip().is_none() {
        turn.also(Event::Htlc(HtlcEvent::DecideAll));
    }
}

/// A block was taken in.
pub fn new_tip(node: &Scope, turn: &mut Turn<'_>, chain: &OnChain<'_>) -> Result<(), Stop> {
    forward::new_tip(node, turn);
    receive::new_tip(node, turn, chain)?;
    early::check(node, turn, chain)
}

fn decide_all(node: &Scope, turn: &mut Turn<'_>) {
    if node.htlcs.waits_for_tip {
        turn.install(node, |htlcs| htlcs.waits_for_tip = false);
        for channel in node.channels.all.values() {
            decide_received(turn, channel);
        }
    }
}

/// Every HTLC that this channel brought is decided on that was not yet, in this life. Also where
/// its commitment is in a block: parts that were held for the rest of their payment are held again,
/// and one whose channel never will be established is as good as any.
pub fn decide_received(turn: &mut Turn<'_>, channel: &Channel) {
    for live in channel.live.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Remote) {
        turn.also(Event::Decide(channel.number, live.htlc.id));
    }
}

/// A received HTLC that is irrevocable and not decided on; `None` where there is nothing to decide.
fn undecided(node: &Scope, number: ChannelNumber, id: HtlcId) -> Option<(&Channel, &LiveHtlc)> {
    let channel = node.channels.all.get(&number)?;
    let found = channel.htlc(Side::Remote, id);
    let live = found.filter(|l| l.added == Stage::Irrevocable && l.removed.is_none())?;
    let known = channel.decided.contains_key(&id) || node.htlcs.is_known(number, id);
    (!known && !node.htlcs.waits_for_tip).then_some((channel, live))
}

/// A received HTLC that is to be decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Its onion was read.
    Payload,
    /// Its onion could not be read, or channeld refused it: it fails.
    Unreadable,
}

/// Is there a decision to make on this received HTLC?
pub fn due(node: &Scope, number: ChannelNumber, id: HtlcId) -> Option<Due> {
    let (channel, _) = undecided(node, number, id)?;
    match channel.peeled.get(&id).map(|p| &p.peeled) {
        Some(Peeled::Payload { .. }) => Some(Due::Payload),
        Some(Peeled::Unreadable { .. } | Peeled::Refused { .. }) | None => Some(Due::Unreadable),
    }
}

/// Decides on a received HTLC, as plugins said. A second time changes nothing.
pub fn decide(
    node: &Scope,
    turn: &mut Turn<'_>,
    (number, id): (ChannelNumber, HtlcId),
    verdict: &HtlcVerdict,
    chain: &OnChain<'_>,
) -> Result<(), Stop> {
    let Some((channel, live)) = undecided(node, number, id) else { return Ok(()) };
    let Some(peeled) = channel.peeled.get(&id) else {
        let text = format!("HTLC {id} is irrevocable, and its onion was never peeled");
        channel.log(LogLevel::Broken, &text);
        return Ok(());
    };
    match &peeled.peeled {
        Peeled::Unreadable { sha256_of_onion, failure_code } => {
            let (sha256_of_onion, failure_code) = (*sha256_of_onion, *failure_code);
            let removal = Removal::Malformed { sha256_of_onion, failure_code };
            settle(node, turn, number, id, removal)
        }
        Peeled::Refused { removal: Removal::Fulfilled { .. } } => {
            Err(Stop::refused(format!("channeld refused HTLC {id} with a preimage")))
        }
        // Its removal may have been signed by nobody before the connection was lost: as a row it is
        // said again.
        Peeled::Refused { removal } => settle(node, turn, number, id, removal.clone()),
        Peeled::Payload { keys, .. } if is_replayed(turn, number, live)? => {
            let text = format!("failing HTLC {id}: its onion was received before");
            channel.log(LogLevel::Unusual, &text);
            fail(node, turn, channel, live, keys, &Failure::TemporaryNodeFailure)
        }
        Peeled::Payload { payload, next, keys } => match verdict {
            HtlcVerdict::Continue { payload: changed } => {
                let payload = changed.as_deref().unwrap_or(&payload.0);
                go_on(node, turn, (channel, live), (payload, next.as_ref(), keys), chain)
            }
            HtlcVerdict::Fail(message) => {
                fail(node, turn, channel, live, keys, &Failure::from_bytes(message))
            }
            HtlcVerdict::FailOnion(reason) => {
                settle(node, turn, number, id, Removal::Failed { reason: reason.clone() })
            }
            HtlcVerdict::Resolve(preimage) => {
                receive::resolve(node, turn, (channel, live), keys, *preimage, chain)
            }
        },
    }
}

/// Does what the payload says.
fn go_on(
    node: &Scope,
    turn: &mut Turn<'_>,
    (channel, live): (&Channel, &LiveHtlc),
    (payload, next, keys): (&[u8], Option<&OnionPacket>, &OnionKeys),
    chain: &OnChain<'_>,
) -> Result<(), Stop> {
    match (Payload::parse(payload, next.is_none(), live.path_key.is_some()), next) {
        (Err(e), _) => fail(node, turn, channel, live, keys, &e.into()),
        (Ok(Payload::Final(wanted)), _) => {
            receive::receive(node, turn, (channel, live), &wanted, keys, chain)
        }
        (Ok(Payload::Forward(wanted)), Some(next)) => {
            forward::begin(node, turn, (channel, live), &wanted, next, keys)
        }
        // The payload was read as a forward because there is a next packet.
        (Ok(Payload::Forward(_)), None) => {
            fail(node, turn, channel, live, keys, &Failure::TemporaryNodeFailure)
        }
        // Blinded paths are not offered by any feature of ours.
        (Ok(Payload::Blinded(_)), _) => {
            let sha = sha256_of_onion(live.onion.0.as_slice());
            fail(node, turn, channel, live, keys, &Failure::InvalidOnionBlinding(sha))
        }
    }
}

/// An HTLC that we offer is about to be stored, under the key that we gave for it: what it is for
/// knows of it, or the daemon is not believed.
pub fn bind(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    live: &LiveHtlc,
) -> Result<(), Stop> {
    match Origin::of(live.key) {
        Origin::Payment(index) => payments::ends::bind(node, turn, channel, index, live),
        Origin::Forward(index) => forward::bind(node, turn, channel.number, index, live),
    }
}

/// The switch's events.
pub fn handle(
    node: &Scope,
    turn: &mut Turn<'_>,
    event: HtlcEvent,
    chain: &OnChain<'_>,
) -> Result<(), Stop> {
    match event {
        HtlcEvent::Refused { channel, key, why } => match Origin::of(key) {
            Origin::Payment(key) => payments::ends::refused(node, turn, channel, key, &why),
            Origin::Forward(index) => forward::refused(node, turn, channel, index, &why),
        },
        HtlcEvent::Fulfilled { channel, id, preimage } => {
            let live = node.channels.all.get(&channel).and_then(|c| c.htlc(Side::Local, id));
            match live {
                // channeld checked it; a captured one is not believed.
                Some(live) if preimage.hash() != live.htlc.payment_hash => Err(Stop::refused(
                    format!("channeld learned a preimage that does not open HTLC {id}"),
                )),
                Some(live) => ended(node, turn, live.key, Removed::Fulfilled(preimage)),
                None => Ok(()),
            }
        }
        HtlcEvent::Settled { channel, htlc } => resolve::settled(node, turn, channel, &htlc),
        HtlcEvent::Lost(channel) => {
            payments::ends::fail_unbound(node, turn, Some(channel))?;
            forward::lost(node, turn, Some(channel))
        }
        HtlcEvent::ChannelClosed(channel) => crate::rooms::htlcs::early_ends::forget(turn, channel),
        HtlcEvent::SetTimeout(hash, since) => receive::set_timeout(node, turn, hash, since),
        HtlcEvent::SetComplete(hash) => receive::set_complete(node, turn, hash, chain),
        HtlcEvent::DecideAll => {
            decide_all(node, turn);
            Ok(())
        }
        HtlcEvent::CheckExpiring => early::check(node, turn, chain),
    }
}
