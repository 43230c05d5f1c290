//! Frames on a stream: four bytes of length, one of how many descriptors come along, then the body.
//!
//! Descriptors ride on a frame's first byte. They arrive in the order of the frames that own them,
//! so that each frame takes its number from the front of those received, however the kernel cut the
//! stream.
//!
//! lightningd alone attaches any: no box leaves a daemon `sendmsg`, since the kernel counts
//! descriptors on their way for a user, whose other processes could then send none. A daemon that
//! hands its peer over says so by a mark in the header, and the reader takes the copy that it kept
//! when it gave the daemon that socket.

use crate::descriptors::{Received, receive};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, send, sendmsg};
use nix::sys::uio::writev;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use zeroize::Zeroize;

const HEADER: usize = 5;
/// The most descriptors that any frame carries.
const MAX_FDS: usize = 4;
/// In the place of their number: the descriptor that the reader has kept.
const KEPT: u8 = 255;

/// A message within the suite, with the descriptors that came attached.
#[derive(Debug)]
pub struct Frame {
    /// Number and fields.
    pub body: Vec<u8>,
    /// Moved to whoever holds this.
    pub fds: VecDeque<OwnedFd>,
}

/// A stream that is no stream of frames: a bug, or a captured process.
#[derive(Debug)]
pub enum FrameError {
    /// Longer than [`wire::MAX_FRAME`].
    TooLong(usize),
    /// More or fewer descriptors than announced, or one handed over that was not kept.
    Descriptors,
}
impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(n) => write!(f, "a frame of {n} bytes, of at most {}", wire::MAX_FRAME),
            Self::Descriptors => f.write_str("a frame without the descriptors it announced"),
        }
    }
}
impl std::error::Error for FrameError {}
impl From<FrameError> for io::Error {
    fn from(e: FrameError) -> Self {
        Self::new(io::ErrorKind::InvalidData, e)
    }
}

/// The result of one read.
#[derive(Debug, PartialEq, Eq)]
pub enum Filled {
    /// More: look for frames.
    Some,
    /// Nothing now.
    WouldBlock,
    /// Nothing ever again.
    Eof,
}

/// Bytes and descriptors that were read and are no whole frame yet. Bytes that were taken are
/// wiped: frames carry secrets.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    fds: VecDeque<OwnedFd>,
    kept: Option<OwnedFd>,
}

impl FrameBuffer {
    /// Keeps a copy of a descriptor that the writer has: for the frame, one at most, that hands it
    /// over.
    pub fn keep(&mut self, copy: OwnedFd) {
        self.kept = Some(copy);
    }

    /// Reads once from `fd`, as much as is there up to 64 KiB. Blocks only if `fd` does.
    pub fn fill(&mut self, fd: BorrowedFd<'_>) -> io::Result<Filled> {
        self.compact();
        let mut chunk = [0u8; 65536];
        let Received { count, fds, truncated } = match receive(fd, &mut chunk) {
            Err(Errno::EAGAIN) => return Ok(Filled::WouldBlock),
            Err(Errno::ECONNRESET) => return Ok(Filled::Eof),
            Err(e) => return Err(e.into()),
            Ok(received) => received,
        };
        self.fds.extend(fds);
        // What is not announced is never taken: a frame under way and the next one's beginning have
        // no more than this.
        if truncated || self.fds.len() > 2 * MAX_FDS {
            return Err(FrameError::Descriptors.into());
        }
        if count == 0 {
            return Ok(Filled::Eof);
        }
        let (read, _) = chunk.split_at_mut(count.min(65536));
        self.add(read);
        read.zeroize();
        Ok(Filled::Some)
    }

    /// These bytes were read.
    pub fn add(&mut self, read: &[u8]) {
        let needed = self.bytes.len() + read.len();
        if needed > self.bytes.capacity() {
            // A vector that grows by itself gives back what it held as it was.
            let mut larger = Vec::with_capacity(needed.max(2 * self.bytes.capacity()));
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(read);
    }

    /// The next whole frame, if it is there.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let waiting = self.bytes.get(self.start..).unwrap_or_default();
        let Some((header, rest)) = waiting.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, d, fds] = *header;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > wire::MAX_FRAME {
            return Err(FrameError::TooLong(len));
        }
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let fds = match fds {
            KEPT => [self.kept.take().ok_or(FrameError::Descriptors)?].into(),
            fds => {
                let fds = usize::from(fds);
                if fds > MAX_FDS || fds > self.fds.len() {
                    return Err(FrameError::Descriptors);
                }
                self.fds.drain(..fds).collect()
            }
        };
        let frame = Frame { body: body.to_vec(), fds };
        let end = self.start + HEADER + len;
        self.bytes.get_mut(self.start..end).unwrap_or_default().zeroize();
        self.start = end;
        Ok(Some(frame))
    }

    /// The next frame while it arrives: the length of its body as its header says, and what is
    /// there of it. A reader that judges it by these holds no body that it does not want.
    pub fn arriving(&self) -> Option<(usize, &[u8])> {
        let waiting = self.bytes.get(self.start..).unwrap_or_default();
        let ([a, b, c, d, _], rest) = waiting.split_first_chunk::<HEADER>()?;
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        Some((len, rest.get(..len).unwrap_or(rest)))
    }

    /// Is nothing waiting, not even half a frame?
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    fn compact(&mut self) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            // A burst must not leave its size behind for good.
            self.bytes.shrink_to(65536);
        } else if self.start > 0 {
            let left = self.bytes.len() - self.start;
            self.bytes.copy_within(self.start.., 0);
            self.bytes.get_mut(left..).unwrap_or_default().zeroize();
            self.bytes.truncate(left);
        }
        self.start = 0;
    }
}

impl Drop for FrameBuffer {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

fn header(body: &[u8], fds: usize) -> [u8; HEADER] {
    let len = u32::try_from(body.len()).expect("no message of the suite is 4 GB long");
    let [a, b, c, d] = len.to_be_bytes();
    [a, b, c, d, u8::try_from(fds).expect("at most four descriptors ride on a frame")]
}

/// Writes one frame, and blocks until it is written. For children towards master and hsmd, who
/// always read.
pub fn send_frame(fd: BorrowedFd<'_>, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    write_frame(fd, header(body, fds.len()), body, fds)
}

fn write_frame(
    fd: BorrowedFd<'_>,
    head: [u8; HEADER],
    body: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let mut written = 0;
    let total = HEADER + body.len();
    while written < total {
        let iov = [
            IoSlice::new(head.get(written.min(HEADER)..).unwrap_or_default()),
            IoSlice::new(body.get(written.saturating_sub(HEADER)..).unwrap_or_default()),
        ];
        let wrote = if written == 0 && !raw.is_empty() {
            sendmsg::<()>(fd.as_raw_fd(), &iov, &rights, MsgFlags::MSG_NOSIGNAL, None)
        } else {
            // Rust's runtime has SIGPIPE ignored.
            writev(fd, &iov)
        };
        match wrote {
            Ok(n) => written += n,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The result of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// It is out.
    All,
    /// The descriptor takes no more before it can be written again.
    Full,
    /// Descriptors are attached, and too many of this user's are on their way (`unix(7)`,
    /// ETOOMANYREFS). The descriptor can be written all the while: to look again is a matter of
    /// time.
    InFlight,
}

/// Frames waiting to be written to a descriptor that must not block us, wiped once they are. The
/// owner bounds it by [`OutQueue::bytes`].
#[derive(Debug, Default)]
pub struct OutQueue {
    frames: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// How much of the first was written.
    written: usize,
    bytes: usize,
}

impl OutQueue {
    /// Adds a frame at the end; its descriptors are moved and closed here once sent.
    pub fn push(&mut self, body: &[u8], fds: Vec<OwnedFd>) {
        let mut whole = Vec::with_capacity(HEADER + body.len());
        whole.extend_from_slice(&header(body, fds.len()));
        whole.extend_from_slice(body);
        self.bytes += whole.len();
        self.frames.push_back((whole, fds));
    }
    /// How much is waiting.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
    /// Nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
    /// Writes what the descriptor takes.
    pub fn flush(&mut self, fd: BorrowedFd<'_>) -> io::Result<Flushed> {
        while let Some((bytes, fds)) = self.frames.front_mut() {
            let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let left = bytes.get(self.written..).unwrap_or_default();
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            let wrote = if raw.is_empty() {
                send(fd.as_raw_fd(), left, flags)
            } else {
                let rights = [ControlMessage::ScmRights(&raw)];
                sendmsg::<()>(fd.as_raw_fd(), &[IoSlice::new(left)], &rights, flags, None)
            };
            match wrote {
                Ok(n) => {
                    fds.clear();
                    self.written += n;
                    if self.written >= bytes.len() {
                        self.bytes -= bytes.len();
                        bytes.zeroize();
                        self.written = 0;
                        self.frames.pop_front();
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Flushed::Full),
                Err(Errno::ETOOMANYREFS) => return Ok(Flushed::InFlight),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Flushed::All)
    }
}

impl Drop for OutQueue {
    fn drop(&mut self) {
        self.frames.iter_mut().for_each(|(bytes, _)| bytes.zeroize());
    }
}

/// A stream of frames whose owner may wait.
#[derive(Debug)]
pub struct Conn {
    fd: OwnedFd,
    buffer: FrameBuffer,
}

impl Conn {
    /// Over a blocking stream.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, buffer: FrameBuffer::default() }
    }
    /// Writes one frame.
    pub fn send(&self, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send_frame(self.fd.as_fd(), body, fds)
    }
    /// Writes one frame with which the descriptor changes hands that the reader has kept a copy of.
    pub fn send_kept(&self, body: &[u8]) -> io::Result<()> {
        let [a, b, c, d, _] = header(body, 0);
        write_frame(self.fd.as_fd(), [a, b, c, d, KEPT], body, &[])
    }
    /// See [`FrameBuffer::keep`].
    pub fn keep(&mut self, copy: OwnedFd) {
        self.buffer.keep(copy);
    }
    /// Waits for the next frame; `UnexpectedEof` when the other end is gone.
    pub fn recv(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.buffer.next_frame()? {
                return Ok(frame);
            }
            match self.buffer.fill(self.fd.as_fd())? {
                Filled::Some => {}
                Filled::Eof => return Err(io::ErrorKind::UnexpectedEof.into()),
                Filled::WouldBlock => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    }
    /// Is something read already and not taken?
    pub fn has_buffered(&self) -> bool {
        !self.buffer.is_empty()
    }
}
impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
