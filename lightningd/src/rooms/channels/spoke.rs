//! Messages for channels that no daemon serves.

use crate::kernel::turn::Turn;
use crate::rooms::channels::change::update;
use crate::rooms::channels::{Owner, Scope, error_to_peer, opening, strangers};
use crate::sys::fatal::Stop;
use std::time::Instant;
use wire::connectd::Spoke;
use wire::{Error, Message};

/// A message came for a channel id that nobody serves.
pub fn spoke(node: &Scope, turn: &mut Turn<'_>, s: Spoke) -> Result<(), Stop> {
    let number = s.message.0.first_chunk::<2>().map(|n| u16::from_be_bytes(*n));
    if number == Some(wire::OpenChannel::NUMBER) {
        return opening::begin::proposed(node, turn, &s);
    }
    let known = node.channels.by_id(s.node, s.channel);
    match known {
        Some(channel)
            if channel.asks_peer_to_close() && channel.served_connection == Some(s.connection) =>
        {
            refuse(node, turn, &s, crate::rooms::channels::PLEASE_CLOSE);
            Ok(())
        }
        Some(channel) if channel.owner == Owner::Nobody && channel.is_done_on(s.connection) => {
            crate::rooms::peers::line::refuse(node, turn, s.node, s.connection, s.channel);
            Ok(())
        }
        Some(channel) if channel.wants_peer() && channel.owner == Owner::Nobody => {
            strangers::start_for_peer(node, turn, channel)
        }
        // Its daemon is about to be there: what came is held for it.
        Some(channel) if channel.wants_peer() => {
            update(turn, channel.number, move |c| c.spoken_on = Some(s.connection));
            Ok(())
        }
        Some(channel) => {
            error_to_peer::spoke(node, turn, channel, &s);
            Ok(())
        }
        None => {
            let (peer, now) = (s.node, Instant::now());
            // Ids are free: whoever heard of many that they are unknown hears no more.
            let hears = node.channels.budgets.may_hear_of_unknown(peer, now);
            if error_to_peer::is_complaint(&s.message.0) || !hears {
                crate::rooms::peers::line::refuse(node, turn, peer, s.connection, s.channel);
            } else {
                refuse(node, turn, &s, "unknown channel");
                turn.install(node, move |channels| channels.budgets.hears_of_unknown(peer, now));
            }
            Ok(())
        }
    }
}

fn refuse(node: &Scope, turn: &mut Turn<'_>, s: &Spoke, why: &str) {
    crate::rooms::peers::line::refuse(node, turn, s.node, s.connection, s.channel);
    crate::rooms::peers::line::tell(node, turn, s.node, &Error::new(s.channel, why));
}
