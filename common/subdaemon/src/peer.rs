//! The peer, as a per-peer daemon sees it: records on a socket whose other end is in connectd.
//!
//! Writing never blocks. What the socket does not take waits here; while anything waits, the daemon
//! reads on and takes no new orders (see [`crate::wait`]).

use crate::barrier;
use crate::failure::Failure;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::connectd::{PEER_RECORD_CONTROL, PEER_RECORD_MESSAGE, PeerControl};
use wire::{Error, MAX_BOLT_MESSAGE, Message, Warning};

use primitives::ChannelId;

/// The most that may wait for a peer: a full set of HTLCs both ways with room to spare.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// A queue that has not moved for this long ends the connection.
const STUCK: Duration = Duration::from_secs(60);
/// How often a queue that must be written is looked at, in milliseconds.
const WRITE_CHECK_MS: u16 = 5000;

/// One record of a peer socket.
#[derive(Debug, PartialEq, Eq)]
pub enum PeerRecord {
    /// A BOLT message of the peer, number first.
    Message(Vec<u8>),
    /// A control record of connectd or the daemon.
    Control(PeerControl),
}

/// The peer's socket. Handed over by [`Peer::into_fd`]: what nobody read stays in the kernel for
/// the next daemon.
#[derive(Debug)]
pub struct Peer {
    fd: PeerSocket,
    queue: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Room for the longest record, kept.
    room: Vec<u8>,
    stuck_since: Option<Instant>,
}

/// Ends the connection with whoever holds it, though the master has a copy: connectd shall not wait
/// for that.
#[derive(Debug)]
struct PeerSocket(Option<OwnedFd>);
impl AsFd for PeerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("it is taken only with the peer itself").as_fd()
    }
}
impl Drop for PeerSocket {
    fn drop(&mut self) {
        if let Some(fd) = &self.0 {
            // Shutdown fails only where the other end is gone already.
            let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
        }
    }
}

/// Writes one record: Ok(false) if the socket takes none now.
pub fn send_record(fd: BorrowedFd<'_>, record: &[u8]) -> Result<bool, Errno> {
    loop {
        match send(fd.as_raw_fd(), record, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
            Ok(_) => return Ok(true),
            Err(Errno::EAGAIN) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Reads one record without waiting: `None` if there is none now, `Some(None)` at the end.
#[allow(clippy::option_option, reason = "three outcomes, two readers")]
pub fn recv_record(
    fd: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
) -> Result<Option<Option<usize>>, Errno> {
    buffer.resize(MAX_BOLT_MESSAGE + 1, 0);
    loop {
        match recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Ok(Some(None)),
            Ok(n) => return Ok(Some(Some(n))),
            Err(Errno::EAGAIN) => return Ok(None),
            // The other end closed and left something unread. The kernel says so once, before what
            // was written last.
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Err(e) => return Err(e),
        }
    }
}

impl Peer {
    /// Over one end of [`crate::peer_pair`].
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            fd: PeerSocket(Some(fd)),
            queue: VecDeque::new(),
            bytes: 0,
            room: Vec::new(),
            stuck_since: None,
        }
    }

    /// Says something to the peer: now, or as soon as the socket takes it, in order.
    pub fn send<M: Message>(&mut self, message: &M) -> Result<(), Failure> {
        self.send_raw(&message.encode())
    }
    /// The same for bytes that are a message already.
    pub fn send_raw(&mut self, message: &[u8]) -> Result<(), Failure> {
        log::trace!(
            "to the peer: message {:?}, {} bytes",
            message.first_chunk::<2>().map(|n| u16::from_be_bytes(*n)),
            message.len()
        );
        self.push(PEER_RECORD_MESSAGE, message)
    }
    /// Tells connectd something.
    pub fn control(&mut self, control: impl Into<PeerControl>) -> Result<(), Failure> {
        self.push(PEER_RECORD_CONTROL, &control.into().encode())
    }

    fn push(&mut self, kind: u8, body: &[u8]) -> Result<(), Failure> {
        if body.len() > MAX_BOLT_MESSAGE {
            return Err(Failure::internal(format!(
                "a message of {} bytes, of at most {MAX_BOLT_MESSAGE}",
                body.len()
            )));
        }
        let mut record = Vec::with_capacity(1 + body.len());
        record.push(kind);
        record.extend_from_slice(body);
        self.bytes += record.len();
        if self.bytes > MAX_QUEUED_BYTES {
            log::info!("the peer does not read: {} bytes wait for it", self.bytes);
            return Err(Failure::ConnectionLost);
        }
        barrier::pass("before a word to the peer");
        self.queue.push_back(record);
        self.flush()
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<(), Failure> {
        while let Some(record) = self.queue.front() {
            match send_record(self.fd.as_fd(), record) {
                Ok(true) => {
                    self.bytes -= record.len();
                    self.queue.pop_front();
                    self.stuck_since = None;
                    barrier::pass("after a word to the peer");
                }
                Ok(false) => {
                    let since = *self.stuck_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > STUCK {
                        log::info!("the peer has not read for {} seconds", STUCK.as_secs());
                        return Err(Failure::ConnectionLost);
                    }
                    return Ok(());
                }
                Err(_) => return Err(Failure::ConnectionLost),
            }
        }
        Ok(())
    }

    /// Does something wait to be written?
    pub fn is_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next record, if one is there.
    pub fn try_recv(&mut self) -> Result<Option<PeerRecord>, Failure> {
        let fd = self.fd.as_fd();
        let len = match recv_record(fd, &mut self.room).map_err(|_| Failure::ConnectionLost)? {
            None => return Ok(None),
            Some(None) => return Err(Failure::ConnectionLost),
            Some(Some(len)) => len,
        };
        barrier::pass("after a word of the peer");
        match self.room.get(..len).and_then(|record| record.split_first()) {
            Some((&PEER_RECORD_MESSAGE, message)) => {
                Ok(Some(PeerRecord::Message(message.to_vec())))
            }
            Some((&PEER_RECORD_CONTROL, control)) => PeerControl::decode_known(control)
                .map(|c| Some(PeerRecord::Control(c)))
                .map_err(Failure::internal),
            _ => Err(Failure::internal(
                "a record on the peer socket that is neither message nor control",
            )),
        }
    }

    /// Tells the peer how this ended, where there is something to tell. Errors on the way out are
    /// lost with it.
    pub fn tell(&mut self, channel: ChannelId, failure: &Failure) {
        let told = match failure {
            Failure::PeerWarn(text) => {
                let warned = self.send(&Warning::new(channel, text));
                warned.and_then(|()| self.control(wire::connectd::CloseConnection {}))
            }
            Failure::PeerError(text) => {
                // What the peer answers is for whoever comes after us, and no reason not to hear
                // this.
                let left = self.control(wire::connectd::Leave {});
                left.and_then(|()| self.send(&Error::new(channel, text)))
            }
            // BOLT 1: internals are nobody's business.
            Failure::Internal(_) => {
                let warned = self.send(&Warning::new(channel, "internal error, reconnecting"));
                warned.and_then(|()| self.control(wire::connectd::CloseConnection {}))
            }
            Failure::PeerSaidWarning(_) => self.control(wire::connectd::CloseConnection {}),
            Failure::PeerSaidError(_) | Failure::ConnectionLost | Failure::Cancelled(_) => Ok(()),
        };
        if told.is_err() {
            log::debug!("could not tell the peer, the connection is lost: {failure}");
        }
    }

    /// The connection is gone, which we may have noticed by writing. Did the peer say before that
    /// this is over? `concerns` says whether an error about that channel does.
    pub fn last_words(&mut self, concerns: impl Fn(ChannelId) -> bool) -> Failure {
        while let Ok(Some(record)) = self.try_recv() {
            let PeerRecord::Message(bytes) = record else { continue };
            let body =
                bytes.split_first_chunk::<2>().filter(|(n, _)| **n == Error::NUMBER.to_be_bytes());
            if let Some(Ok(error)) = body.map(|(_, body)| Error::take_body(body))
                && concerns(error.channel_id)
            {
                return Failure::PeerSaidError(error.text());
            }
        }
        Failure::ConnectionLost
    }

    /// Waits until everything is written, for as long as a peer may be stuck: before the socket is
    /// handed over, or a last word. Nothing is read meanwhile.
    pub fn written(&mut self) -> Result<(), Failure> {
        self.flush()?;
        while self.is_queued() {
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut fds, PollTimeout::from(WRITE_CHECK_MS)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Failure::internal(format!("poll: {e}"))),
            }
            self.flush()?;
        }
        Ok(())
    }

    /// Gives the socket away. Nothing may wait to be written: see [`Peer::is_queued`].
    pub fn into_fd(mut self) -> OwnedFd {
        self.fd.0.take().expect("it is taken only here")
    }
}
impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer_pair;

    #[test]
    fn peer_that_is_dropped_hangs_up_though_a_copy_is_kept() {
        let (ours, theirs) = peer_pair().expect("a test has sockets");
        let kept = ours.try_clone().expect("a test has descriptors");
        drop(Peer::new(ours));
        assert_eq!(recv_record(theirs.as_fd(), &mut Vec::new()), Ok(Some(None)));
        drop(kept);
        let (ours, theirs) = peer_pair().expect("a test has sockets");
        let handed_over = Peer::new(ours).into_fd();
        assert_eq!(recv_record(theirs.as_fd(), &mut Vec::new()), Ok(None));
        drop(handed_over);
    }

    #[test]
    fn queue_is_written_whole_once_the_other_end_reads() {
        let (ours, theirs) = peer_pair().expect("a test has sockets");
        let (mut peer, mut other) = (Peer::new(ours), Peer::new(theirs));
        let mut sent = 0u32;
        while !peer.is_queued() || sent < 50 {
            let message = [&sent.to_be_bytes()[..], &[7; 30_000]].concat();
            peer.send_raw(&message).expect("the queue has room");
            sent += 1;
        }
        let reader = std::thread::spawn(move || {
            let mut heard = 0u32;
            loop {
                match other.try_recv() {
                    Ok(Some(PeerRecord::Message(m))) => {
                        assert_eq!(m.get(..4), Some(&heard.to_be_bytes()[..]));
                        heard += 1;
                    }
                    Ok(Some(record)) => panic!("{record:?}"),
                    Ok(None) => std::thread::yield_now(),
                    Err(_) => return heard,
                }
            }
        });
        peer.written().expect("the other end reads");
        assert!(!peer.is_queued());
        drop(peer.into_fd());
        assert_eq!(reader.join().expect("the reader counts"), sent);
    }

    #[test]
    fn error_that_was_not_read_is_why_the_connection_is_gone() {
        let (ours, theirs) = peer_pair().expect("a test has sockets");
        let (mut peer, mut other) = (Peer::new(ours), Peer::new(theirs));
        let (channel, another) = (ChannelId([1; 32]), ChannelId([2; 32]));
        for (id, text) in [(another, "not yours"), (channel, "it is over")] {
            other.send(&Warning::new(id, "mind")).expect("there is room");
            other.send(&Error::new(id, text)).expect("there is room");
        }
        drop(other);
        while peer.send_raw(&[0, 1, 2]).is_ok() {}
        assert_eq!(
            peer.last_words(|id| id == channel),
            Failure::PeerSaidError("it is over".to_owned())
        );
        assert_eq!(peer.last_words(|id| id == channel), Failure::ConnectionLost);
    }

    #[test]
    fn last_error_is_said_by_somebody_who_has_left() {
        let (ours, theirs) = peer_pair().expect("a test has sockets");
        let (mut peer, mut connectd) = (Peer::new(ours), Peer::new(theirs));
        peer.tell(ChannelId([1; 32]), &Failure::PeerError("no".to_owned()));
        let left = PeerRecord::Control(PeerControl::Leave(wire::connectd::Leave {}));
        assert_eq!(connectd.try_recv(), Ok(Some(left)));
        assert!(matches!(connectd.try_recv(), Ok(Some(PeerRecord::Message(_)))));
    }

    #[test]
    fn socket_whose_other_end_is_gone_is_a_lost_connection() {
        let (ours, theirs) = peer_pair().expect("a test has sockets");
        let mut peer = Peer::new(ours);
        while !peer.is_queued() {
            peer.send_raw(&[7; 30_000]).expect("the queue has room");
        }
        drop(theirs);
        assert_eq!(peer.written(), Err(Failure::ConnectionLost));
    }

    #[test]
    fn last_words_of_a_daemon_that_left_something_unread_are_heard() {
        let (daemon, connectd) = crate::peer_pair().unwrap();
        send_record(connectd.as_fd(), b"unread").unwrap();
        send_record(daemon.as_fd(), b"last").unwrap();
        send_record(daemon.as_fd(), b"words").unwrap();
        drop(daemon);
        let mut buffer = Vec::new();
        for said in [&b"last"[..], b"words"] {
            assert_eq!(recv_record(connectd.as_fd(), &mut buffer), Ok(Some(Some(said.len()))));
            assert_eq!(&buffer[..said.len()], said);
        }
        assert_eq!(recv_record(connectd.as_fd(), &mut buffer), Ok(Some(None)));
    }
}
