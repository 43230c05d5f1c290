//! Channels that end: `close`, closingd, and failing a channel for good.

pub mod fees;
pub mod limit;

use crate::rooms::channels::ChannelEvent;
use crate::rooms::channels::closers::answer_closers;
use crate::rooms::channels::closing::limit::limit_peer_close;
use crate::rooms::channels::terms::FeerateRange;

use super::fail::fail_channel;
use super::phase::{hears, takes};
use crate::kernel::births;
use crate::kernel::children::Role;
use crate::kernel::turn::Turn;
use crate::kernel::waits::For;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::{BroadcastFor, HtlcEvent};
use crate::rooms::chain::broadcast::broadcast;
use crate::rooms::channels::change::{order, set_state, update};
use crate::rooms::channels::state::{Cause, State};
use crate::rooms::channels::{Channel, Owner, Scope, store, strangers};
use crate::sys::children::ChildId;
use crate::sys::fatal::Stop;
use crate::sys::form::{Caller, RpcError};
use channel::phase::Input;
use primitives::*;
use std::os::fd::OwnedFd;
use subdaemon::{Frame, answer_frame};
use wire::channeld::StartShutdown;
use wire::closingd::*;
use wire::hsm::{Capability, ClosingStored, CompleteClosing, Completed, MasterOrder};
use wire::{Message, Wire};

/// `close`: the channel is to be closed, to this script if one is given, at these feerates, alone
/// after so many seconds.
#[derive(Debug)]
pub struct Wanted {
    /// Where our part of the close goes.
    pub destination: Option<ScriptBuf>,
    /// The seconds that the peer has to agree.
    pub seconds: Option<u64>,
    /// What the close may pay.
    pub feerange: Option<FeerateRange>,
}

/// Begins to close a channel that is open. The caller waits.
pub fn close(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    wanted: Wanted,
    caller: &Caller,
) -> Result<(), Stop> {
    let Wanted { destination, seconds, feerange } = wanted;
    crate::kernel::waiting::add(node, turn, caller, For::Close(channel.number), None);
    if let Some(range) = feerange {
        // Kept like the script: a closingd that has begun goes on with what it was told, the next
        // one hears this.
        store::set_close_feerange(turn.db, channel.number, range)?;
        update(turn, channel.number, move |c| c.close_feerange = Some(range));
    }
    if channel.shutdown.local.is_none() {
        let script = shutdown_script(node, turn, channel, destination)?;
        // Kept even if the peer is not there: said when it is.
        store::set_shutdown(turn.db, channel.number, Side::Local, &script)?;
        if channel.closer.is_none() {
            store::set_closer(turn.db, channel.number, Side::Local)?;
        }
        order(channel, turn, &StartShutdown { script: script.clone() });
        update(turn, channel.number, move |c| {
            c.shutdown.local = Some(script);
            c.closer = c.closer.or(Some(Side::Local));
        });
        set_state(
            channel,
            turn,
            State::ShuttingDown,
            Cause::User,
            "User or plugin invoked close command",
        )?;
    }
    let connection = node.peers.connection(channel.peer).map(|c| c.number);
    if connection.is_some() && channel.put_off_on == connection {
        // Nothing more is said of it on this connection: on the next one both say `shutdown`.
        crate::rooms::peers::line::hang_up(node, turn, channel.peer);
    }
    if connection.is_none() {
        turn.say(Outgoing::Notify {
            caller: caller.clone(),
            level: "info",
            text: "peer is offline, will negotiate once they reconnect".to_owned(),
        });
    }
    limit::asked(node, turn, channel, seconds)
}

/// Where to be paid: fixed at the opening, wanted by whoever closes, or a new address.
pub fn shutdown_script(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    destination: Option<ScriptBuf>,
) -> Result<ScriptBuf, Stop> {
    match (&channel.upfront.local, destination) {
        // BOLT 2, shutdown: a script fixed at the opening is the only one.
        (Some(fixed), Some(wanted)) if *fixed != wanted => {
            let text = format!(
                "destination: the channel was opened to be closed to {fixed}, not {wanted}"
            );
            Err(RpcError::params(text).into())
        }
        (Some(fixed), _) => Ok(fixed.clone()),
        (None, Some(wanted)) => Ok(wanted),
        (None, None) => {
            let remote =
                node.peers.connection(channel.peer).map(|c| c.features.clone()).unwrap_or_default();
            crate::rooms::channels::scripts::closing_script(node, turn, &remote)
        }
    }
}

/// May our `shutdown` name this script? channeld says it, and hsmd signs closings that pay it: so
/// it is one that we said, that was fixed at the opening, or that the wallet can spend.
pub(super) fn is_our_script(node: &Scope, channel: &Channel, script: &ScriptBuf) -> bool {
    match channel.shutdown.local.as_ref().or(channel.upfront.local.as_ref()) {
        Some(ours) => ours == script,
        None => node.wallet.index_of(script).is_some(),
    }
}

/// Nothing is pending on either side: closingd takes over the peer's socket.
pub(super) fn begin(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    peer: OwnedFd,
) -> Result<(), Stop> {
    let (Some(local), Some(remote)) =
        (channel.shutdown.local.clone(), channel.shutdown.remote.clone())
    else {
        return Err(Stop::refused("channeld is ready to close before both sent shutdown"));
    };
    if strangers::puts_off_close(channel) {
        strangers::put_off_close(node, turn, channel);
        return Ok(());
    }
    // A closing has none of it.
    let state = &channel.live;
    if !state.htlcs.0.is_empty() || state.fees.0.len() > 1 || state.commitment != state.revoked {
        return Err(Stop::refused("channeld is ready to close while something is pending"));
    }
    // channeld reads no more orders: what it was told to offer and did not is lost.
    turn.also(Event::Htlc(HtlcEvent::Lost(channel.number)));
    if !channel.state.wants_peer() {
        return Ok(());
    }
    let Some(connection) = node.peers.connection(channel.peer) else { return Ok(()) };
    let number = channel.number;
    let script = Sides { local, remote };
    let (min_fee, ideal_fee, max_fee) = fees::of(node, channel, &script);
    let mut seed = crate::rooms::channels::seed::hsm_seed(channel);
    if let Some(terms) = &mut seed.closing {
        terms.max_fee = max_fee;
    }
    let hsm = turn.hsm.new_client(channel.peer, number, &[Capability::SignClosing], Some(seed))?;
    let init = ClosingdInit {
        channel: channel.id,
        params: channel.live.params.clone(),
        balance: channel.live.balance,
        script,
        min_fee,
        max_fee,
        ideal_fee,
        local_features: node.features.clone(),
        remote_features: connection.features.clone(),
    };
    let child = node.supervisor.next_id();
    births::birth(
        node,
        turn,
        (child, Role::Closing(number)),
        Some(channel.peer),
        init.encode(),
        vec![hsm, peer],
    );
    set_state(channel, turn, State::ClosingSigExchange, channel.cause, "Start closingd")?;
    limit_peer_close(node, turn, channel)?;
    update(turn, number, move |c| c.owner = Owner::Closingd(child));
    Ok(())
}

/// A closing transaction is about to be signed: in the rows, in the revocation file and to hsmd,
/// before closingd hears that it may.
fn closing_begins(turn: &mut Turn<'_>, channel: &Channel) -> Result<(), Stop> {
    let number = channel.number;
    store::set_closing_begun(turn.db, number)?;
    let count = crate::sys::revocation_log::while_closing(channel.live.revoked.local);
    turn.say(Outgoing::Revoked { channel: number, count });
    let told = ClosingStored { peer: channel.peer, channel: number };
    turn.say(Outgoing::OrderHsmd(MasterOrder::ClosingStored(told)));
    update(turn, number, |c| c.closing_begun = true);
    Ok(())
}

/// closingd said or asked something.
pub fn heard(
    node: &Scope,
    turn: &mut Turn<'_>,
    child: ChildId,
    number: ChannelNumber,
    frame: Frame,
) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&number).filter(|c| c.owner.child() == Some(child))
    else {
        return Ok(());
    };
    let broken =
        |e: wire::Malformed| Stop::refused(format!("closingd sent what it should not: {e}"));
    let code = frame.body.first_chunk::<2>().map_or(0, |n| u16::from_be_bytes(*n));
    if ClosingAsk::has(code) {
        let ask = ClosingAsk::decode(&frame.body).map_err(broken)?;
        takes(channel, Input::from(&ask))?;
        closing_begins(turn, channel)?;
        match ask {
            ClosingAsk::PersistOffer(o) => {
                store::add_close_offer(turn.db, number, &o.state.to_bytes())?;
                turn.say(Outgoing::Answer { child, body: answer_frame::<PersistOffer>(&()) });
            }
            ClosingAsk::PersistPeerSignature(p) => {
                store::add_close_offer(turn.db, number, &p.state.to_bytes())?;
                turn.say(Outgoing::Answer {
                    child,
                    body: answer_frame::<PersistPeerSignature>(&()),
                });
            }
        }
        return Ok(());
    }
    let report = FromClosingd::decode_known(&frame.body).map_err(broken)?;
    // It was failed or spent meanwhile: what is under way already counts.
    if !hears(channel, Input::reported_by_closingd(&report))? {
        return Ok(());
    }
    match report {
        FromClosingd::Log(line) => {
            crate::kernel::children::log_line(Role::Closing(number), Some(channel.peer), &line)
        }
        FromClosingd::Status(s) => {
            update(turn, number, move |c| crate::rooms::channels::seed::set_status(c, s))
        }
        FromClosingd::Failed(f) => {
            crate::rooms::channels::fail::failed(node, turn, channel, &f.fault, &f.text)?
        }
        FromClosingd::ClosingAgreed(a) => agreed(node, turn, channel, a)?,
    }
    Ok(())
}

/// Both signed the same closing.
fn agreed(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    a: ClosingAgreed,
) -> Result<(), Stop> {
    let question = CompleteClosing {
        peer: channel.peer,
        channel: channel.number,
        state: a.state,
        signature: a.signature,
    };
    let tx = match turn.hsm.complete(&question)? {
        Completed::Ready { transaction } => transaction,
        Completed::Refused { why } => {
            return Err(Stop::refused(format!("hsmd does not sign the closing: {why}")));
        }
    };
    store::set_close_tx(turn.db, channel.number, &tx)?;
    let copy = tx.clone();
    update(turn, channel.number, move |c| c.close_tx = Some(copy));
    set_state(channel, turn, State::ClosingComplete, channel.cause, "Closing complete")?;
    broadcast(node, turn, &tx, BroadcastFor::Closing(channel.number))?;
    answer_closers(node, turn, channel.number, "mutual", &tx);
    Ok(())
}

/// closingd is gone.
pub fn gone(
    node: &Scope,
    turn: &mut Turn<'_>,
    child: ChildId,
    number: ChannelNumber,
) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&number).filter(|c| c.owner.child() == Some(child))
    else {
        return Ok(());
    };
    update(turn, number, |c| {
        c.owner = Owner::Nobody;
        c.reestablished = false;
    });
    if channel.wants_peer() {
        turn.also(Event::Channel(number, ChannelEvent::ChildGone));
    }
    Ok(())
}

/// `close` was told to go alone after so long. Another may have given the peer more time since.
pub(super) fn timeout(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&number) else { return Ok(()) };
    let is_due = channel.close_by.is_some_and(|by| by <= crate::sys::json::now());
    let said = &channel.shutdown;
    if !is_due || !channel.state.is_open() || (said.local.is_none() && said.remote.is_none()) {
        return Ok(());
    }
    if limit::begins_after_htlcs(turn, channel)? {
        return Ok(());
    }
    let (cause, why) = if limit::is_of_peer(channel) {
        (
            Cause::Protocol,
            "BOLT 2, closing_signed: no agreement in time on the close that the peer began",
        )
    } else {
        (Cause::User, "close: the peer did not agree in time")
    };
    fail_channel(node, turn, channel, cause, why)
}
