//! Waiting for what comes next.

use crate::child::Orders;
use crate::failure::Failure;
use crate::peer::Peer;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The event to handle now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// lightningd's socket can be read.
    Orders,
    /// A record of the peer's.
    Peer,
    /// Neither came in time.
    Timeout,
}

/// How often a stuck peer queue is looked at.
const QUEUE_CHECK: Duration = Duration::from_secs(5);

/// Blocks until one may be read, or `deadline`. When both may, the master goes first. While
/// something waits for the peer only the peer is read: two nodes that write to each other must not
/// stop reading each other.
pub fn wait(orders: &Orders, peer: &mut Peer, deadline: Option<Instant>) -> Result<Ready, Failure> {
    loop {
        if !peer.is_queued() && orders.has_buffered() {
            return Ok(Ready::Orders);
        }
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let left = if peer.is_queued() {
            Some(left.unwrap_or(QUEUE_CHECK).min(QUEUE_CHECK))
        } else {
            left
        };
        let (order, heard, writable) = poll_both(orders, peer, left)?;
        if writable || peer.is_queued() {
            peer.flush()?;
        }
        if order && !peer.is_queued() {
            return Ok(Ready::Orders);
        }
        if heard {
            return Ok(Ready::Peer);
        }
        if deadline.is_some_and(|d| d <= Instant::now()) {
            return Ok(Ready::Timeout);
        }
    }
}

fn poll_both(
    orders: &Orders,
    peer: &Peer,
    left: Option<Duration>,
) -> Result<(bool, bool, bool), Failure> {
    let peer_events =
        if peer.is_queued() { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
    let order_events = if peer.is_queued() { PollFlags::empty() } else { PollFlags::POLLIN };
    let mut fds =
        [PollFd::new(orders.as_fd(), order_events), PollFd::new(peer.as_fd(), peer_events)];
    // Rounded up, so that a deadline is past when poll says so.
    let timeout = left.map_or(PollTimeout::NONE, |d| {
        PollTimeout::from(u16::try_from(d.as_millis().saturating_add(1)).unwrap_or(u16::MAX))
    });
    match poll(
        &mut fds,
        if left.is_some_and(|d| d.is_zero()) { PollTimeout::ZERO } else { timeout },
    ) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(Failure::internal(format!("poll: {e}"))),
    }
    let [order, heard] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
    let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
    Ok((order.intersects(readable), heard.intersects(readable), heard.contains(PollFlags::POLLOUT)))
}
