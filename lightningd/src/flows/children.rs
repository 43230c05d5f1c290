//! What children say, sorted by who says it.

use crate::flows::{commitment, peer};
use crate::kernel::births;
use crate::kernel::children::{Role, log_line};
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::node::Node;
use crate::rooms::channels;
use crate::sys::children::ChildId;
use crate::sys::fatal::{Fatal, Stop};
use std::time::Instant;
use subdaemon::Frame;
use wire::connectd::FromConnectd;
use wire::hsm::FromHsmd;

/// A frame came up.
pub fn heard(node: &Node, turn: &mut Turn<'_>, child: ChildId, frame: Frame) -> Result<(), Stop> {
    let Some(role) = node.supervisor.role(child) else {
        // Of a generation that is over: what it asks is refused by silence, and its end is near.
        return Ok(());
    };
    let broken = |e: wire::Malformed| {
        Stop::refused(format!("a child sent a message that is none of its own: {e}"))
    };
    match role {
        Role::Hsmd => match FromHsmd::decode_known(&frame.body).map_err(broken)? {
            FromHsmd::Log(line) => log_line(role, None, &line),
            FromHsmd::Failed(f) => return Err(Fatal(format!("hsmd failed: {}", f.text)).into()),
            FromHsmd::BadClient(b) => {
                log::error!(
                    "hsmd refused a client of channel {} with {}: {}",
                    b.channel,
                    b.peer,
                    b.why
                );
            }
        },
        Role::Connectd => {
            let report = FromConnectd::decode_known(&frame.body).map_err(broken)?;
            if let FromConnectd::Log(line) = &report {
                log_line(role, None, line);
            } else {
                // Only what cannot be read is connectd's own fault: the rest is the peers'.
                turn.also(Event::Connectd(report));
            }
        }
        Role::Opening(number) => channels::opening::heard::heard(node, turn, child, number, frame)?,
        Role::Channel(number) => {
            if let Some(step) = channels::live::heard(node, turn, child, number, frame)? {
                commitment::store(node, turn, child, step)?;
            }
        }
        Role::Closing(number) => channels::closing::heard(node, turn, child, number, frame)?,
        Role::Onchain(number) => {
            crate::rooms::onchain::report::heard(node, turn, child, number, &frame)?
        }
    }
    Ok(())
}

/// A child is gone, and everything it said was handled.
pub fn gone(node: &Node, turn: &mut Turn<'_>, child: ChildId) -> Result<(), Stop> {
    let Some(role) = node.supervisor.role(child) else { return Ok(()) };
    births::forget(node, turn, child);
    match role {
        Role::Hsmd => {
            Err(Fatal("hsmd is gone: nothing can be signed, so the node stops".to_owned()).into())
        }
        Role::Connectd => {
            peer::connectd_gone(node, turn, Instant::now());
            Ok(())
        }
        Role::Opening(number) => channels::opening::heard::gone(node, turn, child, number),
        Role::Channel(number) => {
            channels::live::gone(node, turn, child, number);
            Ok(())
        }
        Role::Closing(number) => channels::closing::gone(node, turn, child, number),
        Role::Onchain(number) => {
            crate::rooms::onchain::cases::gone(node, turn, child, number);
            Ok(())
        }
    }
}
