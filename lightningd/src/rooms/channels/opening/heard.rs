//! What openingd says: the peer accepted, the channel is agreed on, or it came to nothing.

use crate::kernel::children::Role;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::rooms::channels::opening::{Attempt, Opening, agreed};
use crate::rooms::channels::view::{cancelled, completed, started};
use crate::rooms::channels::{Channel, Scope, store, strangers};
use crate::rooms::wallet;
use crate::sys::children::ChildId;
use crate::sys::fatal::Stop;
use crate::sys::form::{Caller, RpcError, code};
use primitives::*;
use std::os::fd::OwnedFd;
use subdaemon::Frame;
use wire::channeld::Birth;
use wire::daemon::{Fault, LogLevel};
use wire::openingd::*;
use wire::{Error, Message};

/// A new alias: random, so that it says nothing, and not in use.
pub fn new_alias(node: &Scope) -> ShortChannelId {
    loop {
        let alias = ShortChannelId(u64::from_be_bytes(subdaemon::random()));
        let taken = |c: &Channel| c.alias_local == alias || c.scid == Some(alias);
        if !node.channels.all.values().any(taken) {
            return alias;
        }
    }
}

/// openingd said something.
pub fn heard(
    node: &Scope,
    turn: &mut Turn<'_>,
    child: ChildId,
    number: ChannelNumber,
    frame: Frame,
) -> Result<(), Stop> {
    let Some(opening) = node.channels.openings.get(&number).filter(|o| o.child == child) else {
        return Ok(());
    };
    let broken =
        |e: wire::Malformed| Stop::refused(format!("openingd sent what it should not: {e}"));
    match FromOpeningd::decode_known(&frame.body).map_err(broken)? {
        FromOpeningd::Log(line) => {
            crate::kernel::children::log_line(Role::Opening(number), Some(opening.peer), &line)
        }
        FromOpeningd::Status(_) => {}
        FromOpeningd::Failed(f) => failed(node, turn, opening, &f.fault, &f.text)?,
        FromOpeningd::Accepted(a) => accepted(node, turn, opening, a)?,
        FromOpeningd::OpenProposed(p) => {
            let _ = p;
            let answer =
                AcceptProposed { upfront_script: None, minimum_depth: None, reserve: None };
            turn.say(Outgoing::Order { child, body: answer.encode(), fds: vec![] });
        }
        FromOpeningd::Opened(o) => {
            opened(node, turn, opening, o, crate::rooms::channels::seed::fd(frame.fds)?)?
        }
    }
    Ok(())
}

/// The peer accepted: the funding gets its script.
fn accepted(node: &Scope, turn: &mut Turn<'_>, opening: &Opening, a: Accepted) -> Result<(), Stop> {
    let number = opening.number;
    let next = match opening.attempt.clone() {
        Attempt::Funding { caller, mut funded } => {
            let output = funded.tx.output.get_mut(funded.vout as usize);
            let output = output.ok_or_else(|| Stop::refused("the funding has no such output"))?;
            output.script_pubkey = a.funding_script;
            let funding = OutPoint { txid: funded.tx.compute_txid(), vout: funded.vout };
            complete(turn, opening, funding);
            Attempt::FundingSigned { caller, funded }
        }
        Attempt::Start { caller } => {
            let result = started(
                node.network,
                (&a.funding_script, &a.channel_type),
                a.minimum_depth,
                opening.close_to.as_ref(),
            );
            turn.reply(caller, Ok(result));
            Attempt::StartAccepted { funding_script: a.funding_script }
        }
        Attempt::FundingSigned { .. }
        | Attempt::StartAccepted { .. }
        | Attempt::Completing { .. }
        | Attempt::Theirs => {
            return Err(Stop::refused("openingd says Accepted when nothing was proposed"));
        }
    };
    let depth = a.minimum_depth;
    turn.install(node, move |channels| {
        if let Some(o) = channels.openings.get_mut(&number) {
            o.attempt = next;
            o.minimum_depth = depth;
        }
    });
    Ok(())
}

/// Tells openingd which output the channel will be.
pub fn complete(turn: &mut Turn<'_>, opening: &Opening, funding: OutPoint) {
    turn.say(Outgoing::Order {
        child: opening.child,
        body: CompleteFunding { funding }.encode(),
        fds: vec![],
    });
}

/// Tells openingd to give up.
pub fn cancel(turn: &mut Turn<'_>, opening: &Opening, why: &str) {
    let order = CancelOpening { why: why.to_owned() };
    turn.say(Outgoing::Order { child: opening.child, body: order.encode(), fds: vec![] });
}

/// The channel's record. `Err` where the funding is not known yet.
fn channel_of(node: &Scope, opening: &Opening, o: &Opened) -> Result<Channel, Stop> {
    let (funding_tx, withheld) = match &opening.attempt {
        Attempt::FundingSigned { funded, .. } => (Some(funded.tx.clone()), false),
        Attempt::Completing { withhold, .. } => (None, *withhold),
        Attempt::Theirs => (None, false),
        Attempt::Funding { .. } | Attempt::Start { .. } | Attempt::StartAccepted { .. } => {
            return Err(Stop::refused("openingd says Opened before the funding was known"));
        }
    };
    let ids = (opening.number, opening.peer, o.channel);
    Ok(Channel {
        announce: o.announce,
        minimum_depth: o.minimum_depth,
        initial_feerate: o.feerate,
        upfront: o.upfront_script.clone(),
        funding_tx,
        withheld,
        ..Channel::fresh(ids, o.state.clone(), new_alias(node), node.chain.height())
    })
}

/// The channel exists: it cannot be cancelled any more, and the funding's UTXOs are its own.
fn made(
    node: &Scope,
    turn: &mut Turn<'_>,
    opening: &Opening,
    channel: &Channel,
) -> Result<(), Stop> {
    answer_cancellers(
        node,
        turn,
        opening.number,
        &Err(RpcError::new(
            code::FUNDING_CANCEL_NOT_SAFE,
            "Cannot cancel: the channel was opened meanwhile",
        )),
    );
    crate::sys::log::line(
        LogLevel::Info,
        Some(channel.peer),
        &channel.source(),
        &format!(
            "channel {} of {}: first commitments signed",
            channel.id, channel.live.params.amount
        ),
    );
    if let Some(tx) = &channel.funding_tx {
        // Spent, no longer reserved with an end: whatever happens now, these coins are the
        // channel's.
        wallet::spend::spend(node, turn, tx)?;
    }
    Ok(())
}

/// Tells whoever opened it here.
fn tell_opener(node: &Scope, turn: &mut Turn<'_>, opening: &Opening, channel: &Channel) {
    let number = channel.number;
    match &opening.attempt {
        Attempt::FundingSigned { caller, .. } => {
            let caller = caller.clone();
            turn.install(node, move |channels| drop(channels.funders.insert(number, caller)));
            turn.then(Event::Channel(
                number,
                crate::kernel::words::rooms::ChannelEvent::SignFunding,
            ));
        }
        Attempt::Completing { caller, .. } => {
            turn.reply(caller.clone(), Ok(completed(channel.id)));
        }
        Attempt::Funding { .. }
        | Attempt::Start { .. }
        | Attempt::StartAccepted { .. }
        | Attempt::Theirs => {}
    }
}

/// Both first commitments are signed: the one turn in which the channel comes to be.
fn opened(
    node: &Scope,
    turn: &mut Turn<'_>,
    opening: &Opening,
    o: Opened,
    peer: OwnedFd,
) -> Result<(), Stop> {
    // Two channels on one output: the second is nobody's. Nor is the id free where the output is
    // another: whoever knows a channel's output makes up as many with its id as there are numbers
    // of outputs.
    let (funding, id) = (o.state.params.funding, o.channel);
    let mut known = node.channels.all.values().chain(node.channels.closed.values());
    if known.any(|c| c.live.params.funding == funding || c.id == id) {
        return Err(Stop::refused(format!("the output {funding} is another channel's already")));
    }
    let channel = channel_of(node, opening, &o)?;
    if let Err(why) = agreed::check(node, turn, opening, &channel)? {
        return disown(node, turn, opening, channel.id, &why);
    }
    strangers::make_room(node, turn, &channel)?;
    store::insert(turn.db, &channel)?;
    made(node, turn, opening, &channel)?;
    let number = channel.number;
    let copy = channel.clone();
    turn.install(node, move |channels| {
        channels.openings.remove(&number);
        channels.insert(copy);
    });
    crate::kernel::births::ends(turn, opening.child);
    // Before the peer has our signature: a row without this is one of a database that was put back.
    // Should we die in between, there is no such channel for whoever opened it; ours has its record
    // from the start.
    turn.say(Outgoing::Revoked { channel: number, count: channel.live.revoked.local });
    crate::rooms::channels::start::start_with(
        node,
        turn,
        &channel,
        Birth::JustOpened { funding_signed: o.funding_signed },
        peer,
    )?;
    tell_opener(node, turn, opening, &channel);
    Ok(())
}

/// What openingd says was opened is not what was agreed: nobody believes it any more.
fn disown(
    node: &Scope,
    turn: &mut Turn<'_>,
    opening: &Opening,
    channel: ChannelId,
    why: &str,
) -> Result<(), Stop> {
    let source = format!("openingd-chan#{}", opening.number);
    let text = format!("it says Opened, but {why}");
    crate::sys::log::line(LogLevel::Broken, Some(opening.peer), &source, &text);
    turn.say(Outgoing::Kill { child: opening.child, why: text });
    // The peer has, or is about to have, a channel that will never be funded.
    crate::rooms::peers::line::tell(
        node,
        turn,
        opening.peer,
        &Error::new(channel, "internal error"),
    );
    end(node, turn, opening, "the daemon of this opening failed")
}

/// An attempt of a peer's ends because we say so.
pub fn evict(node: &Scope, turn: &mut Turn<'_>, opening: &Opening, why: &str) -> Result<(), Stop> {
    turn.say(Outgoing::Kill { child: opening.child, why: why.to_owned() });
    crate::rooms::peers::line::tell(node, turn, opening.peer, &Error::new(opening.temporary, why));
    end(node, turn, opening, why)
}

/// openingd ends in failure: the coins are free again, and whoever asked hears why.
fn failed(
    node: &Scope,
    turn: &mut Turn<'_>,
    opening: &Opening,
    fault: &Fault,
    text: &str,
) -> Result<(), Stop> {
    let level = match fault {
        Fault::Internal => LogLevel::Broken,
        Fault::PeerWarned { .. }
        | Fault::PeerErred { .. }
        | Fault::PeerSaidError { .. }
        | Fault::PeerSaidWarning { .. } => LogLevel::Unusual,
        Fault::ConnectionLost | Fault::Cancelled => LogLevel::Debug,
    };
    let source = format!("openingd-chan#{}", opening.number);
    crate::sys::log::said(level, Some(opening.peer), &source, text);
    end(node, turn, opening, text)
}

fn end(node: &Scope, turn: &mut Turn<'_>, opening: &Opening, text: &str) -> Result<(), Stop> {
    if let Some(funded) = opening.coins() {
        wallet::spend::reserve(node, turn, &funded.inputs, BlockHeight(0))?;
    }
    if let Some(caller) = opening.caller() {
        turn.reply(
            caller.clone(),
            Err(RpcError::new(code::LIGHTNINGD, format!("They sent or caused an error: {text}"))),
        );
    }
    answer_cancellers(node, turn, opening.number, &Ok(cancelled()));
    let number = opening.number;
    // Not before it is certain that there is no such channel: this event may be taken back.
    turn.then(Event::ChannelForgotten(number, opening.peer));
    turn.install(node, move |channels| drop(channels.openings.remove(&number)));
    crate::kernel::births::ends(turn, opening.child);
    Ok(())
}

fn answer_cancellers(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    result: &Result<serde_json::Value, RpcError>,
) {
    for (_, caller) in node.channels.cancellers.iter().filter(|(n, _)| *n == number) {
        turn.reply(caller.clone(), result.clone());
    }
    turn.install(node, move |channels| channels.cancellers.retain(|(n, _)| *n != number));
}

/// openingd is gone: if it left its attempt behind, that is over.
pub fn gone(
    node: &Scope,
    turn: &mut Turn<'_>,
    child: ChildId,
    number: ChannelNumber,
) -> Result<(), Stop> {
    match node.channels.openings.get(&number).filter(|o| o.child == child) {
        Some(opening) => {
            // It said nothing to us, and so perhaps nothing to the peer.
            let error = Error::new(opening.temporary, "internal error");
            crate::rooms::peers::line::tell(node, turn, opening.peer, &error);
            end(node, turn, opening, "the daemon of this opening ended")
        }
        None => Ok(()),
    }
}

/// The caller's funding transaction is agreed on from here.
pub fn goes_on(node: &Scope, turn: &mut Turn<'_>, opening: &Opening, next: Attempt) {
    let number = opening.number;
    turn.install(node, move |channels| {
        if let Some(o) = channels.openings.get_mut(&number) {
            o.attempt = next;
        }
    });
}

/// The opening is cancelled, and this caller hears when it is.
pub fn cancel_for(node: &Scope, turn: &mut Turn<'_>, opening: &Opening, caller: &Caller) {
    cancel(turn, opening, "Channel open canceled by us");
    let entry = (opening.number, caller.clone());
    turn.install(node, move |channels| channels.cancellers.push(entry));
}
