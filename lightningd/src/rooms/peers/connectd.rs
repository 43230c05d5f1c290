//! connectd's life: started, found dead, started again, later each time. Without it no peer can be
//! reached, but the chain is followed, claims are made and the RPC answers: its death never ends
//! the node.

use crate::kernel::births;
use crate::kernel::children::Role;
use crate::kernel::turn::Turn;
use crate::kernel::waits::For;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::rooms::peers::address::{MAX_HOST, parse_address};
use crate::rooms::peers::life::{Connectd, Doors, FIRST_PAUSE, HEALTHY_AFTER, LONGEST_PAUSE, Life};
use crate::rooms::peers::line::order;
use crate::rooms::peers::{Peers, Scope};
use crate::sys::backoff::Backoff;
use crate::sys::children::ChildId;
use crate::sys::fatal::{Fatal, Stop};
use crate::sys::form::{RpcError, code};
use primitives::{ChannelNumber, NodeId};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use wire::Message;
use wire::connectd::{Activate, Address, ConnectdInit, FundedPeers, Listening};
use wire::hsm::Capability;

/// Of the addresses that connectd says it listens on, and of those that it says it cannot: it
/// listens on no more.
const MAX_LISTENERS: usize = 64;

impl Peers {
    /// As if this child were connectd.
    #[cfg(test)]
    pub const fn run_connectd(&mut self, child: ChildId) {
        self.connectd.life = Life::Running(child);
    }
    /// What connectd listens on.
    pub fn listening(&self) -> &[Address] {
        match &self.doors {
            Doors::Open(_, addresses) => addresses,
            Doors::NotYet | Doors::Shut(..) => &[],
        }
    }
    /// Was connectd told of other peers with funded channels than these?
    pub fn is_news_to_connectd(&self, friends: &BTreeSet<NodeId>) -> bool {
        self.connectd.child().is_some() && self.friends != *friends
    }
    /// `Err` while there is no connectd: nobody can be dialled. For whoever asks for a connection.
    pub fn needs_connectd(&self) -> Result<(), RpcError> {
        match self.connectd.why_down(Instant::now()) {
            None => Ok(()),
            Some(why) => Err(RpcError::new(code::LIGHTNINGD, format!("{why}; try again then"))),
        }
    }
}

/// For `getinfo`: what keeps peers away, by the name of the field.
pub fn warnings(node: &Scope) -> [(&'static str, Option<String>); 2] {
    let shut = match node.peers.doors {
        Doors::NotYet | Doors::Open(..) => None,
        Doors::Shut(..) => Some(
            "No address can be listened on: no peer can connect to this node. Looking for a free one."
                .to_owned(),
        ),
    };
    let down = node.peers.connectd.why_down(Instant::now());
    [("warning_connectd", down), ("warning_listen", shut)]
}

/// So many bits of a connection's number count it within one connectd; the others are that
/// connectd's ChildId.
const CONNECTION_BITS: u32 = 40;

/// Starts connectd.
pub fn begin(node: &Scope, turn: &mut Turn<'_>) -> Result<(), Stop> {
    let hsm = turn.hsm.new_client(node.id, ChannelNumber(0), &[Capability::Ecdh], None)?;
    let (listen, must_listen) = listen_addresses(node)?;
    let id = node.supervisor.next_id();
    let init = ConnectdInit {
        node_id: node.id,
        network: node.network,
        features: node.features.clone(),
        listen,
        must_listen,
        disable_dns: node.config.options.disable_dns,
        last_connection: id << CONNECTION_BITS,
    };
    births::birth(node, turn, (id, Role::Connectd), None, init.encode(), vec![hsm]);
    turn.install(node, move |peers| {
        peers.connectd.life = Life::Running(id);
        peers.connectd.backoff.begin(Instant::now());
    });
    Ok(())
}

/// What to listen on, and whether failing to is an error.
fn listen_addresses(node: &Scope) -> Result<(Vec<Address>, bool), Fatal> {
    let port = node.network.default_port();
    let options = &node.config.options;
    if options.offline {
        return Ok((vec![], false));
    }
    let given: Vec<&String> = options.addr.iter().chain(&options.bind_addr).collect();
    if given.is_empty() {
        if !options.autolisten {
            return Ok((vec![], false));
        }
        // Both families where the machine has them; one is enough.
        let any = |host: &str| Address { host: host.to_owned(), port };
        return Ok((vec![any("::"), any("0.0.0.0")], false));
    }
    let parsed = given
        .into_iter()
        .map(|text| {
            parse_address(text, port).ok_or_else(|| {
                Fatal(format!("--addr/--bind-addr={text}: should be HOST or HOST:PORT"))
            })
        })
        .collect::<Result<_, _>>()?;
    Ok((parsed, true))
}

/// connectd is gone, and every dial with it; whoever waits for a connection or a pong hears so.
/// Another is started later.
pub fn gone(node: &Scope, turn: &mut Turn<'_>, now: Instant) {
    let waits = |f: &For| matches!(f, For::Connect(_) | For::Fund(..) | For::Pong(_));
    let error = RpcError::new(code::LIGHTNINGD, "connectd died meanwhile: try again");
    crate::kernel::waiting::answer_all(node, turn, waits, &Err(error));
    turn.install(node, |peers| peers.dialled.clear());
    start_later(node, turn, now);
}

fn start_later(node: &Scope, turn: &mut Turn<'_>, now: Instant) {
    let mut backoff = node.peers.connectd.backoff;
    let longest = node.config.options.dev_restart_pause.unwrap_or(u32::MAX);
    let again = now + backoff.fail(now).min(Duration::from_millis(longest.into()));
    log::error!(
        "connectd is gone, {} in a row: no peer can be reached; starting another in {:?}",
        backoff.failures(),
        again - now
    );
    turn.install(node, move |peers| peers.connectd = Connectd { life: Life::Down(again), backoff });
    turn.at(again, Event::StartConnectd(again));
}

/// The pause after connectd's death is over. True if there is a connectd now.
pub fn start_again(node: &Scope, turn: &mut Turn<'_>, at: Instant) -> Result<bool, Stop> {
    if node.peers.connectd.life != Life::Down(at) {
        return Ok(false);
    }
    match begin(node, turn) {
        Ok(()) => Ok(true),
        // No descriptor for its line to hsmd. Its rows and words are none yet.
        Err(Stop::Refused(e)) => {
            log::error!("connectd is not started: {}", e.message);
            start_later(node, turn, Instant::now());
            Ok(false)
        }
        Err(Stop::Fatal(fatal)) => Err(fatal.into()),
    }
}

/// connectd may accept connections.
pub fn activate(node: &Scope, turn: &mut Turn<'_>) {
    order(node, turn, &Activate {}, vec![]);
}

/// connectd is told which peers have funded channels.
pub fn tell_friends(node: &Scope, turn: &mut Turn<'_>, friends: BTreeSet<NodeId>) {
    order(node, turn, &FundedPeers { nodes: friends.iter().copied().collect() }, vec![]);
    turn.install(node, move |peers| peers.friends = friends);
}

/// connectd says, once, what it listens on. Nothing at all is the operator's mistake at the first
/// start; later somebody has taken our port meanwhile, and what needs no inbound peer goes on.
pub fn listening(node: &Scope, turn: &mut Turn<'_>, mut l: Listening) -> Result<(), Stop> {
    let Some(child) = node.peers.connectd.child() else { return Ok(()) };
    match node.peers.doors {
        Doors::Open(by, _) | Doors::Shut(by, _) if by == child => {
            return Err(Stop::refused("connectd says twice what it listens on"));
        }
        Doors::NotYet | Doors::Open(..) | Doors::Shut(..) => {}
    }
    l.addresses.truncate(MAX_LISTENERS);
    l.addresses.retain(|a| a.host.len() <= MAX_HOST);
    l.failures.truncate(MAX_LISTENERS);
    for f in &l.failures {
        log::warn!("cannot listen on {}: {}", f.address, f.why);
    }
    if !l.addresses.is_empty() || l.failures.is_empty() {
        turn.install(node, move |peers| peers.doors = Doors::Open(child, l.addresses));
        return Ok(());
    }
    let all: Vec<_> = l.failures.iter().map(|f| format!("{}: {}", f.address, f.why)).collect();
    let nowhere = format!("cannot listen anywhere: {}", all.join("; "));
    if matches!(node.peers.doors, Doors::NotYet) {
        let text = format!("{nowhere}. Choose another with --addr, or --autolisten=false");
        return Err(Fatal(text).into());
    }
    log::error!("{nowhere}. No peer can connect to this node; looking for a free address");
    look_again(turn, child, Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, HEALTHY_AFTER));
    Ok(())
}

fn look_again(turn: &mut Turn<'_>, child: ChildId, mut backoff: Backoff) {
    let now = Instant::now();
    let pause = backoff.fail(now).max(FIRST_PAUSE);
    turn.install_as::<Scope, _>(move |peers| peers.doors = Doors::Shut(child, backoff));
    turn.at(now + pause, Event::ListenAgain(child));
}

/// Can one of our addresses be had now? Only then this connectd, which has connections that we
/// opened, gives way to one that listens: in its box it can bind nothing.
pub fn listen_again(node: &Scope, turn: &mut Turn<'_>, child: ChildId) -> Result<(), Stop> {
    let Doors::Shut(by, backoff) = node.peers.doors else { return Ok(()) };
    if by != child || node.peers.connectd.child() != Some(child) {
        return Ok(());
    }
    if listen_addresses(node)?.0.iter().any(is_free) {
        let why = "an address to listen on is free again".to_owned();
        turn.say(Outgoing::Kill { child, why });
    } else {
        look_again(turn, child, backoff);
    }
    Ok(())
}

/// Could connectd listen there?
fn is_free(address: &Address) -> bool {
    crate::sys::listen::is_free(&address.host, address.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_free_for_ipv6_where_only_ipv4_has_it() {
        let at = |host: &str, port| Address { host: host.to_owned(), port };
        let taken = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(!is_free(&at("0.0.0.0", port)) && !is_free(&at("localhost", port)));
        if subdaemon::bind_tcp("::1", 0).is_err() {
            eprintln!("this machine has no IPv6");
            return;
        }
        // As connectd binds it: [::] and 0.0.0.0 beside each other.
        assert!(is_free(&at("::", port)));
    }
}
