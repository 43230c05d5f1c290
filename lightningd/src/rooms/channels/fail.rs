//! Failing a channel for good: our newest commitment, published.

use super::error_to_peer;
use super::error_to_peer::Known;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::{BroadcastFor, OnchainEvent};
use crate::rooms::chain::broadcast::broadcast;
use crate::rooms::channels::change::{set_state, update};
use crate::rooms::channels::closers::{answer_closers, refuse_closers};
use crate::rooms::channels::state::{Cause, State, StateTrust};
use crate::rooms::channels::{Channel, Owner, Scope, store};
use crate::sys::fatal::Stop;
use crate::sys::hsm::{ASK_AGAIN, NoPoint};
use primitives::*;
use std::time::{Duration, Instant};
use wire::daemon::{Fault, LogLevel};
use wire::hsm::{Completed, SignLocalCommitment};

/// Gives up on a channel: its state, the reason, our newest commitment published where BOLT 5 wants
/// that, and an error to the peer.
pub fn fail_channel(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    cause: Cause,
    why: &str,
) -> Result<(), Stop> {
    let known = if cause == Cause::Remote { Known::ToPeer } else { Known::ToUs };
    fail_known(node, turn, channel, cause, why, known)
}

/// The same where the peer may have heard of it already.
pub(super) fn fail_known(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    cause: Cause,
    why: &str,
    known: Known,
) -> Result<(), Stop> {
    if !channel.state.is_open() {
        return Ok(());
    }
    if channel.trust == StateTrust::Unverified && cause != Cause::Remote {
        // Said with every block that it lasts: a person may know better.
        channel.log(
            LogLevel::Broken,
            &format!(
                "{why}: the channel should be failed, and is not, since nobody knows whether our data is old. \
                 Connect to the peer, whose channel_reestablish shows it"
            ),
        );
        refuse_closers(node, turn, channel.number, "nobody knows whether our data is old");
        return Ok(());
    }
    channel.log(LogLevel::Unusual, &format!("failing the channel: {why}"));
    if cause != Cause::User && is_nothing_to_us(channel) {
        return super::forget::forget(node, turn, channel, why);
    }
    if channel.trust == StateTrust::Unverified {
        // The peer gave up on it, and has what it publishes: ours may be revoked.
        crate::rooms::channels::change::lose_state(channel, turn)?;
    }
    if channel.closer.is_none() {
        let by = if cause == Cause::Remote { Side::Remote } else { Side::Local };
        store::set_closer(turn.db, channel.number, by)?;
        update(turn, channel.number, move |c| c.closer = Some(by));
    }
    set_state(channel, turn, State::AwaitingUnilateral, cause, why)?;
    if let Some(child) = channel.owner.child() {
        turn.say(Outgoing::Kill { child, why: why.to_owned() });
    }
    turn.then(Event::Channel(channel.number, crate::kernel::words::rooms::ChannelEvent::Broadcast));
    match known {
        // Once bitcoind has answered to our commitment.
        Known::ToUs => {}
        Known::ToPeer => error_to_peer::failed(node, turn, channel, known, why),
    }
    Ok(())
}

/// A peer's channel whose funding was never seen, and in which nothing is ours: an opener that died
/// before it had our signature says so, and has forgotten it. Kept, it would count among those that
/// wait for their funding for two weeks.
fn is_nothing_to_us(channel: &Channel) -> bool {
    channel.is_unseen() && channel.has_nothing_of_ours()
}

/// Our newest commitment with both signatures. From then on hsmd gives out none of our secrets from
/// its number on. `None`: hsmd could not be asked now.
pub fn sign_commitment(turn: &mut Turn<'_>, channel: &Channel) -> Result<Option<Completed>, Stop> {
    let number = channel.number;
    let value = channel::Channel::new(channel.live.clone())
        .map_err(|e| Stop::refused(format!("the rows of channel {number} make no channel: {e}")))?;
    let newest = channel.live.commitment.local;
    let seed = crate::rooms::channels::seed::hsm_seed(channel);
    let point = match turn.hsm.commitment_point(channel.peer, number, seed, newest)? {
        Ok(point) => point,
        Err(NoPoint::Later) => return Ok(None),
        Err(NoPoint::Refused(why)) => return Ok(Some(Completed::Refused { why })),
    };
    let question = SignLocalCommitment {
        peer: channel.peer,
        channel: number,
        state: value.local_commitment(point),
        signatures: channel.live.local_signatures.clone(),
    };
    Ok(Some(turn.hsm.complete(&question)?))
}

/// Publishes our newest commitment. After it was signed none of our secrets from its number on
/// leaves hsmd.
pub(super) fn broadcast_commitment(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&number) else { return Ok(()) };
    if channel.state != State::AwaitingUnilateral {
        return Ok(());
    }
    if channel.trust == StateTrust::Lost {
        let why = "our data is old, and the peer alone can close it: waiting for that";
        refuse_closers(node, turn, number, why);
        error_to_peer::published(node, turn, channel);
        return Ok(());
    }
    if channel.is_unseen() && channel.cause != Cause::User {
        // Made up, for all that we know: no block can have our commitment before the funding
        // (`funding_seen`), and to try with each block what strangers made up would cost a question
        // to bitcoind for each.
        refuse_closers(node, turn, number, "its funding is in no block: waiting for that");
        error_to_peer::published(node, turn, channel);
        return Ok(());
    }
    if channel.owner != Owner::Nobody {
        // Its child was told to end. What it asked before counts: only then is our newest
        // commitment known.
        turn.at(
            Instant::now() + Duration::from_millis(20),
            Event::Channel(number, crate::kernel::words::rooms::ChannelEvent::Broadcast),
        );
        return Ok(());
    }
    let Some(signed) = sign_commitment(turn, channel)? else {
        channel.log(LogLevel::Unusual, "hsmd cannot be asked to sign our commitment now");
        turn.at(
            Instant::now() + ASK_AGAIN,
            Event::Channel(number, crate::kernel::words::rooms::ChannelEvent::Broadcast),
        );
        return Ok(());
    };
    match signed {
        Completed::Ready { transaction } => {
            channel.log(
                LogLevel::Info,
                &format!("publishing our commitment {}", transaction.compute_txid()),
            );
            turn.also(Event::Onchain(number, OnchainEvent::CommitmentSent(transaction.clone())));
            broadcast(node, turn, &transaction, BroadcastFor::Commitment(number))?;
            answer_closers(node, turn, number, "unilateral", &transaction);
        }
        Completed::Refused { why } => {
            let text = format!("hsmd does not sign our commitment: {why}");
            channel.log(LogLevel::Broken, &text);
            refuse_closers(node, turn, number, &text);
            error_to_peer::published(node, turn, channel);
        }
    }
    Ok(())
}

/// bitcoind has answered to our commitment.
pub fn commitment_sent(node: &Scope, turn: &mut Turn<'_>, number: ChannelNumber) {
    if let Some(channel) = node.channels.all.get(&number) {
        error_to_peer::published(node, turn, channel);
    }
}

/// channeld ends in failure. What that means for the channel depends on whose fault it was.
pub(super) fn failed(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    fault: &Fault,
    text: &str,
) -> Result<(), Stop> {
    match fault {
        Fault::Internal => {
            channel.log_said(LogLevel::Broken, text);
            if node.config.options.dev_fail_on_subdaemon_fail {
                return Err(crate::sys::fatal::Fatal(format!(
                    "--dev-fail-on-subdaemon-fail: {text}"
                ))
                .into());
            }
        }
        Fault::PeerErred { told } => {
            // BOLT 2: having sent an error we fail the channel.
            channel.log_said(LogLevel::Unusual, text);
            let known = crate::rooms::channels::error_to_peer::Known::ToPeer;
            crate::rooms::channels::fail::fail_known(
                node,
                turn,
                channel,
                Cause::Protocol,
                told,
                known,
            )?;
        }
        Fault::PeerSaidError { said } => {
            channel.log_said(LogLevel::Unusual, text);
            crate::rooms::channels::fail::fail_channel(
                node,
                turn,
                channel,
                Cause::Remote,
                &format!("the peer said error: {said}"),
            )?;
        }
        Fault::PeerWarned { .. } | Fault::PeerSaidWarning { .. } => {
            channel.log_said(LogLevel::Unusual, text)
        }
        Fault::ConnectionLost | Fault::Cancelled => {
            // Nothing is wrong: what it waits for then follows from its state.
            channel.log_said(LogLevel::Debug, text);
            update(turn, channel.number, |c| c.status = (String::new(), None));
            return Ok(());
        }
    }
    let text = text.to_owned();
    update(turn, channel.number, move |c| c.status = (text, None));
    Ok(())
}
