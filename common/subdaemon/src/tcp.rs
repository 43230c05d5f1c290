//! What nix has no word for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Has the kernel keep connections of this listener to itself until their first bytes are there, for about so many seconds. Beyond
/// them, and while it answers SYNs with cookies, it may show silent ones all the same.
#[allow(unsafe_code)]
pub fn defer_accept(listener: &impl AsFd, seconds: u8) -> io::Result<()> {
    use nix::libc::{IPPROTO_TCP, TCP_DEFER_ACCEPT, c_int, setsockopt, socklen_t};
    let value = c_int::from(seconds);
    let len = socklen_t::try_from(size_of::<c_int>()).unwrap_or_default();
    // Safety: the descriptor is borrowed for the call; the kernel reads `len` bytes at `value`, which lives until it returns.
    let result = unsafe {
        let fd = listener.as_fd().as_raw_fd();
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, (&raw const value).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
