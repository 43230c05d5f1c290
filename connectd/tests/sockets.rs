//! What kind of sockets connections are: over IPv6 as over IPv4, and both ends of them without
//! Nagle's delay.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;
use common::*;
use connectd::limits::Times;
use nix::sys::socket::{
    ControlMessage, MsgFlags, SockaddrStorage, getpeername, getsockname, getsockopt, sendmsg,
    sockopt,
};
use std::collections::HashMap;
use std::io::IoSlice;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use subdaemon::Conn;
use wire::connectd::*;

/// This process' own name for a descriptor that another thread of it has: what was sent to oneself.
fn borrow(fd: RawFd) -> OwnedFd {
    let (from, to) = subdaemon::stream_pair().unwrap();
    // A frame: its body's length, how many descriptors it has, its body.
    let frame = [0, 0, 0, 1, 1, 0];
    let control = [ControlMessage::ScmRights(&[fd])];
    let iov = [IoSlice::new(&frame)];
    sendmsg::<()>(from.as_raw_fd(), &iov, &control, MsgFlags::empty(), None).unwrap();
    Conn::new(to).recv().unwrap().fds.pop_front().unwrap()
}

/// Every end of a TCP connection in this process that has this address on one side. An end may have
/// several names meanwhile, as those that are borrowed here.
fn connections_with(at: SocketAddr) -> Vec<OwnedFd> {
    let at = SockaddrStorage::from(at);
    let mut found = HashMap::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let fd: RawFd = entry.file_name().to_string_lossy().parse().unwrap();
        let (Ok(here), Ok(there)) =
            (getsockname::<SockaddrStorage>(fd), getpeername::<SockaddrStorage>(fd))
        else {
            continue;
        };
        if here == at || there == at {
            found.entry((here, there)).or_insert_with(|| borrow(fd));
        }
    }
    found.into_values().collect()
}

/// Two nodes of this process connect over this loopback address; what their sockets are.
fn connect_over(host: &str, keys: (u8, u8)) {
    let _dog = watchdog();
    let start = |secret: u8| {
        let mut init = init_of(secret);
        init.listen = vec![Address { host: host.into(), port: 0 }];
        Node::with(init, secret, Times::default())
    };
    let (mut a, mut b) = (start(keys.0), start(keys.1));
    assert_eq!(b.at.ip().to_string(), host);
    assert_ne!(b.at.port(), 0);
    a.dial(b.id(), b.at);
    let out = a.connected();
    assert_eq!(
        (out.node, out.direction, out.address.host.as_str()),
        (b.id(), Direction::Out, host)
    );
    let into = b.connected();
    assert_eq!(
        (into.node, into.direction, into.address.host.as_str()),
        (a.id(), Direction::In, host)
    );

    let sockets = connections_with(b.at);
    assert_eq!(sockets.len(), 2, "the one that dialled, and the one that was let in");
    for socket in &sockets {
        assert!(getsockopt(socket, sockopt::TcpNoDelay).unwrap());
    }
}

#[test]
fn connection_carries_messages_both_ways_at_once() {
    connect_over("127.0.0.1", (1, 2));
}

#[test]
fn node_dials_and_listens_on_ipv6() {
    if let Err(e) = TcpListener::bind("[::1]:0") {
        println!("skipped: this machine has no IPv6 loopback ({e})");
        return;
    }
    connect_over("::1", (3, 4));
}
