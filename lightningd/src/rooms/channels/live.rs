//! A channel with its channeld: birth, what it asks to be stored, what it reports.

use super::phase::{hears, refused};
use crate::kernel::children::Role;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::HtlcEvent;
use crate::rooms::channels::change::{set_state, update};
use crate::rooms::channels::fail::failed;
use crate::rooms::channels::seed::{fd, order_removal, set_status};
use crate::rooms::channels::start::start;
use crate::rooms::channels::state::{Cause, State, StateTrust};
use crate::rooms::channels::{Channel, ChannelEvent, Owner, Scope, revocations, store, strangers};
use crate::sys::children::ChildId;
use crate::sys::fatal::Stop;
use channel::phase::{Input, Rule, rule};
use primitives::*;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use subdaemon::{Frame, answer_frame};
use wire::Request;
use wire::channel_data::*;
use wire::channeld::*;
use wire::daemon::LogLevel;

/// channeld said or asked something. Returns what it asks to have stored of the commitment dance:
/// the switch has a word in that.
pub fn heard<'a>(
    node: &'a Scope,
    turn: &mut Turn<'_>,
    child: ChildId,
    number: ChannelNumber,
    frame: Frame,
) -> Result<Option<(&'a Channel, Persist)>, Stop> {
    let Some(channel) = node.channels.all.get(&number).filter(|c| c.owner.child() == Some(child))
    else {
        return Ok(None);
    };
    let broken =
        |e: wire::Malformed| Stop::refused(format!("channeld sent what it should not: {e}"));
    let code = frame.body.first_chunk::<2>().map_or(0, |n| u16::from_be_bytes(*n));
    if ChannelAsk::has(code) {
        let ask = ChannelAsk::decode(&frame.body).map_err(broken)?;
        return Ok(asked(node, turn, child, channel, ask)?.map(|persist| (channel, persist)));
    }
    let report = FromChanneld::decode_known(&frame.body).map_err(broken)?;
    if hears(channel, Input::reported(&report))? {
        reported(node, turn, child, channel, report, frame.fds)?;
    }
    Ok(None)
}

/// channeld reported something that counts in the channel's phase.
fn reported(
    node: &Scope,
    turn: &mut Turn<'_>,
    child: ChildId,
    channel: &Channel,
    report: FromChanneld,
    fds: VecDeque<OwnedFd>,
) -> Result<(), Stop> {
    let number = channel.number;
    match report {
        FromChanneld::Log(line) => {
            crate::kernel::children::log_line(Role::Channel(number), Some(channel.peer), &line)
        }
        FromChanneld::Status(s) => update(turn, number, move |c| set_status(c, s)),
        FromChanneld::Failed(f) => failed(node, turn, channel, &f.fault, &f.text)?,
        FromChanneld::Reestablished(_) => reestablished(node, turn, channel)?,
        FromChanneld::OfferRefused(r) => {
            turn.also(Event::Htlc(HtlcEvent::Refused { channel: number, key: r.key, why: r.why }))
        }
        FromChanneld::PreimageLearned(p) => {
            turn.also(Event::Htlc(HtlcEvent::Fulfilled {
                channel: number,
                id: p.id,
                preimage: p.preimage,
            }));
        }
        FromChanneld::ReadyToClose(_) => {
            crate::kernel::births::ends(turn, child);
            super::closing::begin(node, turn, channel, fd(fds)?)?
        }
        // What closes it is signed by both: it needs no peer that publishes something.
        FromChanneld::WeAreBehind(b) if channel.state == State::ClosingComplete => {
            channel.log(LogLevel::Unusual, &format!("after the close: {}", b.detail))
        }
        FromChanneld::WeAreBehind(b) => {
            let text = format!(
                "our data is old: {}. The peer must close; nothing of ours is broadcast",
                b.detail
            );
            channel.log(LogLevel::Broken, &text);
            crate::rooms::channels::change::lose_state(channel, turn)?;
            if channel.state.is_open() {
                set_state(channel, turn, State::AwaitingUnilateral, Cause::Protocol, &text)?;
            }
        }
        FromChanneld::TheyAreBehind(b) => {
            channel.log(LogLevel::Unusual, &format!("the peer lost data: {}", b.detail))
        }
        FromChanneld::FeerateNow(_) => {}
    }
    Ok(())
}

/// Answers a child's ask, once the turn is committed.
pub fn answer<R: Request<Answer = ()>>(turn: &mut Turn<'_>, child: ChildId) {
    turn.say(Outgoing::Answer { child, body: answer_frame::<R>(&()) });
}

/// May channeld ask this while the channel is in this phase?
fn is_allowed(channel: &Channel, ask: &ChannelAsk) -> Result<(), Stop> {
    let input = Input::from(ask);
    match (rule(channel.phase(), input), ask) {
        (Rule::Taken, _) => {}
        // Nothing that was agreed changes: it is the script that a closing transaction may pay
        // already. Rows from before the closing, put back, have none.
        (Rule::Unchanged, ChannelAsk::PersistShutdown(s))
            if channel.shutdown[s.by].as_ref().is_none_or(|known| *known == s.script) => {}
        (Rule::Unchanged, ChannelAsk::GetShutdownScript(_)) if channel.shutdown.local.is_none() => {
        }
        (
            Rule::Unchanged
            | Rule::BeforeShutdown
            | Rule::WithOutput
            | Rule::Waits
            | Rule::First
            | Rule::Ignored
            | Rule::Refused,
            _,
        ) => return Err(refused(channel, input)),
    }
    Ok(())
}

/// BOLT 2, channel_ready: it may come once more with another alias, or the same.
fn peer_ready(
    turn: &mut Turn<'_>,
    child: ChildId,
    channel: &Channel,
    p: &PersistPeerReady,
) -> Result<(), Stop> {
    let (number, alias, next_point) = (channel.number, p.alias, p.next_point);
    let is_new = alias.is_some() && alias != channel.alias_remote;
    if is_new || !channel.ready.remote {
        store::set_peer_ready(turn.db, number, alias, next_point)?;
    }
    if !channel.ready.remote {
        update(turn, number, move |c| {
            c.ready.remote = true;
            c.alias_remote = alias.or(c.alias_remote);
            c.live.remote_next_point = c.live.remote_next_point.or(Some(next_point));
        });
        if channel.ready.local {
            now_normal(turn, channel)?;
        }
    } else if is_new {
        update(turn, number, move |c| c.alias_remote = alias);
        turn.also(Event::Channel(number, ChannelEvent::TellUpdate));
    }
    answer::<PersistPeerReady>(turn, child);
    Ok(())
}

/// A side's `shutdown` is stored before it is sent, or answered.
fn shutdown(
    node: &Scope,
    turn: &mut Turn<'_>,
    child: ChildId,
    channel: &Channel,
    s: PersistShutdown,
) -> Result<(), Stop> {
    let number = channel.number;
    if s.by == Side::Local && !super::closing::is_our_script(node, channel, &s.script) {
        return Err(Stop::refused("channeld would have us paid where nobody said"));
    }
    if channel.shutdown[s.by].as_ref().is_some_and(|known| *known != s.script) {
        // BOLT 2, shutdown: a side sends one; said again, it has the same script.
        let known = channel.shutdown[s.by].clone().unwrap_or_default();
        return Err(Stop::refused(format!(
            "channeld asked to store the shutdown script {}; {known} is stored",
            s.script
        )));
    }
    store::set_shutdown(turn.db, number, s.by, &s.script)?;
    if s.by == Side::Local && channel.shutdown_at.is_none() {
        let at = channel.live.next_htlc_id.remote;
        store::set_shutdown_at(turn.db, number, at)?;
        update(turn, number, move |c| c.shutdown_at = Some(at));
    }
    if channel.closer.is_none() {
        store::set_closer(turn.db, number, s.by)?;
    }
    let (by, script) = (s.by, s.script);
    update(turn, number, move |c| {
        c.shutdown[by] = Some(script);
        c.closer = c.closer.or(Some(by));
    });
    if channel.phase() < ChannelPhase::Negotiating {
        let (cause, text) = match by {
            Side::Local => (Cause::User, "we sent shutdown"),
            Side::Remote => (Cause::Remote, "the peer sent shutdown"),
        };
        set_state(channel, turn, State::ShuttingDown, cause, text)?;
    }
    answer::<PersistShutdown>(turn, child);
    Ok(())
}

fn asked(
    node: &Scope,
    turn: &mut Turn<'_>,
    child: ChildId,
    channel: &Channel,
    ask: ChannelAsk,
) -> Result<Option<Persist>, Stop> {
    let number = channel.number;
    is_allowed(channel, &ask)?;
    match ask {
        ChannelAsk::Persist(p) => return Ok(Some(p)),
        ChannelAsk::PersistPeerReady(p) => peer_ready(turn, child, channel, &p)?,
        ChannelAsk::PersistReady(_) => {
            store::set_ready(turn.db, number)?;
            update(turn, number, |c| c.ready.local = true);
            if channel.ready.remote {
                now_normal(turn, channel)?;
            }
            answer::<PersistReady>(turn, child);
        }
        ChannelAsk::PersistShutdown(_) | ChannelAsk::GetShutdownScript(_)
            if strangers::puts_off_close(channel) =>
        {
            strangers::put_off_close(node, turn, channel);
        }
        ChannelAsk::PersistShutdown(s) => shutdown(node, turn, child, channel, s)?,
        ChannelAsk::GetShutdownScript(_) => {
            let script = super::closing::shutdown_script(node, turn, channel, None)?;
            turn.say(Outgoing::Answer { child, body: answer_frame::<GetShutdownScript>(&script) });
        }
        ChannelAsk::PersistAnnouncement(a) => {
            let mut bytes = Vec::new();
            wire::Wire::put(&a, &mut bytes);
            store::set_announcement(turn.db, number, &bytes)?;
            update(turn, number, move |c| c.announcement_remote = Some(bytes));
            answer::<PersistAnnouncement>(turn, child);
        }
    }
    Ok(None)
}

fn now_normal(turn: &mut Turn<'_>, channel: &Channel) -> Result<(), Stop> {
    if channel.state == State::AwaitingLockin {
        set_state(channel, turn, State::Normal, Cause::Unknown, "Lockin complete")?;
        turn.also(Event::Channel(
            channel.number,
            crate::kernel::words::rooms::ChannelEvent::TellUpdate,
        ));
    }
    Ok(())
}

/// The connection is as far as the old one was: what was decided is said again, what was not is
/// decided.
fn reestablished(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) -> Result<(), Stop> {
    let number = channel.number;
    if channel.trust == StateTrust::Lost {
        // The revocation log says that our rows are old. A peer that says they are not
        // lies.
        let text = "our data is old, and the peer did not say so";
        return super::fail::fail_channel(node, turn, channel, Cause::Protocol, text);
    }
    update(turn, number, |c| {
        c.reestablished = true;
        // Nothing brings lost state back.
        if c.trust == StateTrust::Unverified {
            c.trust = StateTrust::Verified;
        }
    });
    turn.say(Outgoing::Revoked { channel: number, count: revocations::count_of(channel) });
    for live in channel.live.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Remote) {
        if live.added != Stage::Irrevocable || live.removed.is_some() {
            continue;
        }
        match channel.decided.get(&live.htlc.id) {
            Some(removal) => order_removal(channel, turn, live.htlc.id, removal),
            None => turn.also(Event::Decide(number, live.htlc.id)),
        }
    }
    let now = crate::sys::json::now();
    store::set_last_stable(turn.db, number, now)?;
    update(turn, number, move |c| c.last_stable = Some(now));
    turn.also(Event::Channel(number, crate::kernel::words::rooms::ChannelEvent::TellUpdate));
    Ok(())
}

/// BOLT 1, error about all channels: each of this peer's fails. A daemon that is past the
/// reestablishing reads it itself, behind everything that the peer said before; the others may
/// never have had this connection.
pub fn peer_erred(node: &Scope, turn: &mut Turn<'_>, peer: NodeId, said: &str) -> Result<(), Stop> {
    for channel in node.channels.with(peer).filter(|c| !c.reestablished) {
        let why = format!("the peer said error about all channels: {said}");
        super::fail::fail_channel(node, turn, channel, Cause::Remote, &why)?;
    }
    Ok(())
}

/// A channel's child is gone, and everything it said was handled.
pub fn gone(node: &Scope, turn: &mut Turn<'_>, child: ChildId, number: ChannelNumber) {
    if node.channels.all.get(&number).is_none_or(|c| c.owner.child() != Some(child)) {
        return;
    }
    update(turn, number, |c| {
        c.owner = Owner::Nobody;
        c.reestablished = false;
    });
    // Offers that no commitment took are lost with it.
    turn.also(Event::Htlc(HtlcEvent::Lost(number)));
    turn.also(Event::Channel(number, ChannelEvent::ChildGone));
}

/// After a child's end: if its connection is still there it was for that a new one, or the daemon
/// died alone.
pub(super) fn after_gone(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
) -> Result<(), Stop> {
    let Some(channel) = node.channels.all.get(&number).filter(|c| c.owner == Owner::Nobody) else {
        return Ok(());
    };
    let Some(connection) = node.peers.connection(channel.peer) else { return Ok(()) };
    if !channel.wants_peer() {
        // What the peer said to the daemon that just ended may be held for another, and none comes.
        crate::rooms::peers::line::refuse(node, turn, channel.peer, connection.number, channel.id);
        return Ok(());
    }
    if channel.served_connection == Some(connection.number) {
        if channel.asks_peer_to_close() || channel.is_done_on(connection.number) {
            // It heard on this connection what there is to say. What it said meanwhile is held for
            // a daemon, and none comes.
            crate::rooms::peers::line::refuse(
                node,
                turn,
                channel.peer,
                connection.number,
                channel.id,
            );
            return Ok(());
        }
        // BOLT 2: a channel is taken up again only on a new connection.
        crate::rooms::peers::line::hang_up(node, turn, channel.peer);
        return Ok(());
    }
    if node.channels.is_delayed(channel.peer, connection.number) {
        return Ok(());
    }
    if channel.is_unseen() {
        // As on a new connection: the peer speaks first.
        return match channel.spoken_on == Some(connection.number) {
            true => strangers::start_for_peer(node, turn, channel),
            false => Ok(()),
        };
    }
    start(node, turn, channel, Birth::Reconnected)
}
