//! Sockets to listen on: connectd's, and lightningd's when it looks whether connectd could have
//! one.

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A socket bound to this address, which does not listen yet. `Err` if the host is neither an IP
/// address nor `localhost`, or if another socket listens there.
pub fn bind_tcp(host: &str, port: u16) -> io::Result<OwnedFd> {
    let ip: IpAddr = match host {
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        host => host.parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "not an IP address to listen on")
        })?,
    };
    let family = if ip.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if ip.is_ipv6() {
        // So that [::] and 0.0.0.0 can both be bound to the same port.
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(ip, port)))?;
    Ok(fd)
}

/// Has the kernel keep connections of this listener to itself until their first bytes are there,
/// for about so many seconds. Beyond them, and while it answers SYNs with cookies, it may show
/// silent ones all the same.
#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
pub fn defer_accept(listener: &impl AsFd, seconds: u8) -> io::Result<()> {
    use nix::libc::{IPPROTO_TCP, TCP_DEFER_ACCEPT, c_int, setsockopt, socklen_t};
    let value = c_int::from(seconds);
    let len = socklen_t::try_from(size_of::<c_int>()).unwrap_or_default();
    // Safety: the descriptor is borrowed for the call; the kernel reads `len` bytes at `value`,
    // which lives until it returns.
    let result = unsafe {
        let fd = listener.as_fd().as_raw_fd();
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, (&raw const value).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
