//! How the value of a channel changes: its state with the reason, and everything else.

use crate::kernel::turn::Turn;
use crate::kernel::words::outgoing::Outgoing;
use crate::rooms::channels::state::{Cause, State, StateTrust};
use crate::rooms::channels::{Channel, Owner, Scope, StateChange, store};
use crate::sys::fatal::Stop;
use primitives::*;
use wire::Message;

/// Changes a channel's value once the rows are there.
pub fn update(
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    change: impl FnOnce(&mut Channel) + 'static,
) {
    turn.install_as::<Scope, _>(move |channels| channels.change(number, change));
}

/// Sends an order to the channel's child, if it is channeld.
pub fn order<M: Message>(channel: &Channel, turn: &mut Turn<'_>, message: &M) {
    if let Owner::Channeld(child) = channel.owner {
        turn.say(Outgoing::Order { child, body: message.encode(), fds: vec![] });
    }
}

/// Moves a channel to another state, with the reason, on disk and in memory.
pub fn set_state(
    channel: &Channel,
    turn: &mut Turn<'_>,
    new: State,
    cause: Cause,
    message: &str,
) -> Result<(), Stop> {
    if channel.state == new {
        return Ok(());
    }
    if !channel.state.may_become(new) {
        channel.log(
            wire::daemon::LogLevel::Debug,
            &format!("it stays {}, and is not {} again", channel.state.name(), new.name()),
        );
        return Ok(());
    }
    let change = StateChange {
        timestamp: crate::sys::log::iso_time(std::time::SystemTime::now()),
        old: channel.state,
        new,
        cause,
        message: message.to_owned(),
    };
    channel.log(
        wire::daemon::LogLevel::Info,
        &format!("State changed from {} to {}", channel.state.name(), new.name()),
    );
    store::set_state(turn.db, channel.number, new, cause, message)?;
    store::add_state_change(turn.db, channel.number, &change)?;
    update(turn, channel.number, move |c| {
        c.state = new;
        c.cause = change.cause;
        c.reason.clone_from(&change.message);
        c.changes.push(change);
        // What a daemon said of another state is no longer so. onchaind says once what it tracks.
        if !matches!(new, State::Onchain | State::Closed) {
            c.status = (String::new(), None);
        }
    });
    Ok(())
}

/// Our rows of this channel are old, or may be: nothing of ours is ever published.
pub fn lose_state(channel: &Channel, turn: &mut Turn<'_>) -> Result<(), Stop> {
    store::set_lost_state(turn.db, channel.number)?;
    update(turn, channel.number, |c| c.trust = StateTrust::Lost);
    Ok(())
}
