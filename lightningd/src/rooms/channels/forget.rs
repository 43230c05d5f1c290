//! Channels that came to nothing: no row of them is kept.

use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::{AbandonedChannel, OnchainEvent};
use crate::rooms::channels::closers::refuse_closers;
use crate::rooms::channels::state::Cause;
use crate::rooms::channels::{Channel, Scope, store};
use crate::sys::fatal::Stop;
use primitives::*;
use wire::daemon::LogLevel;

/// Channels that are forgotten in one turn. Strangers may have thousands end with one block, and
/// other events wait for a turn's end.
const FORGOTTEN_AT_ONCE: usize = 50;

impl AbandonedChannel {
    pub fn new(channel: &Channel, why: String) -> Self {
        Self { number: channel.number, why, since: channel.first_height }
    }

    /// The channel, unless it is gone, or its funding was in a block or double-spent meanwhile.
    fn channel<'a>(&self, node: &'a Scope) -> Option<&'a Channel> {
        let channel = node.channels.all.get(&self.number)?;
        let waits = channel.funding_height.is_none() && channel.spend.is_none();
        (waits && channel.first_height == self.since).then_some(channel)
    }
}

/// These come to nothing. All but the first [`FORGOTTEN_AT_ONCE`] have turns of their own: should
/// we die before those, each of a peer's is found again by its age. Ours are first.
pub fn forget_all(
    node: &Scope,
    turn: &mut Turn<'_>,
    mut over: Vec<AbandonedChannel>,
) -> Result<(), Stop> {
    let is_peers =
        |o: &AbandonedChannel| o.channel(node).is_some_and(|c| c.opener() == Side::Remote);
    over.sort_by_key(is_peers);
    forget_some(node, turn, over)
}

/// The first of them; the others later.
pub fn forget_some(
    node: &Scope,
    turn: &mut Turn<'_>,
    mut over: Vec<AbandonedChannel>,
) -> Result<(), Stop> {
    let later = over.split_off(over.len().min(FORGOTTEN_AT_ONCE));
    for over in over {
        if let Some(channel) = over.channel(node) {
            forget(node, turn, channel, &over.why)?;
        }
    }
    if !later.is_empty() {
        turn.then(Event::ForgetChannels(later));
    }
    Ok(())
}

/// May a transaction that spends its funding be stored, to be sent with each block? Of what
/// strangers made up none is.
fn may_be_published(channel: &Channel) -> bool {
    let is_made_up = channel.is_unseen() && channel.cause != Cause::User;
    channel.close_tx.is_some() || (!channel.state.is_open() && !is_made_up)
}

/// A channel that came to nothing leaves no trace but this line.
pub fn forget(node: &Scope, turn: &mut Turn<'_>, channel: &Channel, why: &str) -> Result<(), Stop> {
    channel.log(LogLevel::Unusual, &format!("channel {} is forgotten: {why}", channel.id));
    if let Some(child) = channel.owner.child() {
        turn.say(Outgoing::Kill { child, why: why.to_owned() });
    }
    refuse_closers(node, turn, channel.number, why);
    turn.also(Event::Onchain(channel.number, OnchainEvent::ChannelForgotten));
    if may_be_published(channel) {
        crate::rooms::chain::store::forget_spends(turn.db, channel.live.params.funding)?;
    }
    store::forget(turn.db, channel.number)?;
    let (number, peer) = (channel.number, channel.peer);
    // Not before it is on disk that there is no such channel: this event may be taken back.
    turn.then(Event::ChannelForgotten(number, peer));
    turn.say(Outgoing::Forgotten { channel: number });
    turn.install(node, move |channels| channels.remove(number));
    Ok(())
}
