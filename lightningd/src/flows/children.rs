//! What children say, sorted by who says it.

use crate::kernel::children::{ChildId, Role};
use crate::kernel::turn::{Fatal, Stop, Turn};
use crate::kernel::words::Event;
use crate::node::Node;
use crate::rooms::{channels, peers};
use crate::sys::log::Speaker;
use std::time::{Duration, Instant};
use subdaemon::Frame;
use wire::connectd::FromConnectd;
use wire::daemon::{Log, LogLevel};
use wire::hsm::FromHsmd;

/// How long a child may take to end that has said its last word.
const TO_END: Duration = Duration::from_secs(3);

/// A child has said its last word. It ends by itself; one that is captured, and does not, is killed.
pub fn ends(turn: &mut Turn<'_>, child: ChildId) {
    turn.at(Instant::now() + TO_END, Event::Overdue(child));
}

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
        Role::Connectd => match FromConnectd::decode_known(&frame.body).map_err(broken)? {
            FromConnectd::Log(line) => log_line(role, None, &line),
            // Only what cannot be read is connectd's own fault: the rest is what strangers want.
            other => turn.also(Event::Connectd(other)),
        },
        Role::Opening(number) => channels::opening::heard(node, turn, child, number, frame)?,
        Role::Channel(number) => channels::live::heard(node, turn, child, number, frame)?,
        Role::Closing(number) => channels::closing::heard(node, turn, child, number, frame)?,
        Role::Onchain(number) => {
            crate::rooms::onchain::report::heard(node, turn, child, number, &frame)?
        }
    }
    Ok(())
}

/// A line of a child's, under its name.
pub fn log_line(role: Role, peer: Option<primitives::NodeId>, line: &Log) {
    said(line.level, peer, &source(role), &line.text);
}

/// A child's words, which count with what children say: it may repeat them.
pub fn said(level: LogLevel, peer: Option<primitives::NodeId>, source: &str, text: &str) {
    crate::sys::log::line_of(Speaker::Daemon, level, peer, source, text);
}

fn source(role: Role) -> String {
    match role {
        Role::Hsmd => "hsmd".to_owned(),
        Role::Connectd => "connectd".to_owned(),
        Role::Opening(n) => format!("openingd-chan#{n}"),
        Role::Channel(n) => format!("channeld-chan#{n}"),
        Role::Closing(n) => format!("closingd-chan#{n}"),
        Role::Onchain(n) => format!("onchaind-chan#{n}"),
    }
}

/// A child is gone, and everything it said was handled.
pub fn gone(node: &Node, turn: &mut Turn<'_>, child: ChildId) -> Result<(), Stop> {
    let Some(role) = node.supervisor.role(child) else { return Ok(()) };
    turn.install(move |node| node.supervisor.forget(child));
    match role {
        Role::Hsmd => {
            Err(Fatal("hsmd is gone: nothing can be signed, so the node stops".to_owned()).into())
        }
        Role::Connectd => peers::connectd::connectd_gone(node, turn, Instant::now()),
        Role::Opening(number) => channels::opening::gone(node, turn, child, number),
        Role::Channel(number) => channels::live::gone(node, turn, child, number),
        Role::Closing(number) => channels::closing::gone(node, turn, child, number),
        Role::Onchain(number) => {
            crate::rooms::onchain::gone(node, turn, child, number);
            Ok(())
        }
    }
}
