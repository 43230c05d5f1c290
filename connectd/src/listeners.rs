//! Listening sockets: each address is bound once, at the start.

use crate::limits::{BACKLOG, DEFER_ACCEPT};
use mio::net::TcpListener;
use nix::sys::socket::{Backlog, listen};
use std::io;
use wire::connectd::{Address, DialFailure, Listening};

/// Most addresses that we listen on.
pub(crate) const MAX_LISTENERS: usize = 64;

/// One address we listen on.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// May a connection be waiting?
    pub(crate) is_ready: bool,
}

/// Binds everything that can be bound.
pub(crate) fn bind_all(wanted: &[Address]) -> (Vec<Listener>, Listening) {
    let mut listeners = Vec::new();
    let mut report = Listening { addresses: Vec::new(), failures: Vec::new() };
    for address in wanted {
        let bound = if listeners.len() < MAX_LISTENERS {
            bind_one(address)
        } else {
            Err(io::Error::other(format!("more than {MAX_LISTENERS} addresses")))
        };
        match bound.and_then(|socket| Ok((socket.local_addr()?, socket))) {
            Ok((at, socket)) => {
                report.addresses.push(Address { host: at.ip().to_string(), port: at.port() });
                listeners.push(Listener { socket, is_ready: true });
            }
            Err(e) => report.failures.push(DialFailure {
                address: format!("{}:{}", address.host, address.port),
                why: e.to_string(),
            }),
        }
    }
    (listeners, report)
}

fn bind_one(address: &Address) -> io::Result<TcpListener> {
    let fd = subdaemon::bind_tcp(&address.host, address.port)?;
    if let Err(e) = subdaemon::defer_accept(&fd, DEFER_ACCEPT) {
        log::debug!("TCP_DEFER_ACCEPT: {e}: silent connections are accepted");
    }
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from_std(std::net::TcpListener::from(fd)))
}
