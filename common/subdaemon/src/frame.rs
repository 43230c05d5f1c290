//! Frames on a stream: four bytes of length, one of how many descriptors come along, then the body.
//!
//! Descriptors ride on a frame's first byte. They arrive in the order of the frames that own them, so that each frame
//! takes its number from the front of those received, however the kernel cut the stream.
//!
//! lightningd alone attaches any: no box leaves a daemon `sendmsg`, since the kernel counts descriptors on their way for a user,
//! whose other processes could then send none. A daemon that hands its peer over says so by a mark in the header, and the reader
//! takes the copy that it kept when it gave the daemon that socket.

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

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Filled {
    /// More: look for frames.
    Some,
    /// Nothing now.
    WouldBlock,
    /// Nothing ever again.
    Eof,
}

/// Bytes and descriptors that were read and are no whole frame yet. Bytes that were taken are wiped: frames carry secrets.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    fds: VecDeque<OwnedFd>,
    kept: Option<OwnedFd>,
}

impl FrameBuffer {
    /// Keeps a copy of a descriptor that the writer has: for the frame, one at most, that hands it over.
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
        // What is not announced is never taken: a frame under way and the next one's beginning have no more than this.
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

    /// The next frame while it arrives: the length of its body as its header says, and what is there of it. A reader that judges it by
    /// these holds no body that it does not want.
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

/// Writes one frame, and blocks until it is written. For children towards master and hsmd, who always read.
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

/// What became of what waits for a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// It is out.
    All,
    /// The descriptor takes no more before it can be written again.
    Full,
    /// Descriptors are attached, and too many of this user's are on their way (`unix(7)`, ETOOMANYREFS). The descriptor can be
    /// written all the while: to look again is a matter of time.
    InFlight,
}

/// Frames waiting to be written to a descriptor that must not block us, wiped once they are. The owner bounds it by [`OutQueue::bytes`].
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn frames_are_found_however_their_bytes_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6), piece in 1..60usize,
        ) {
            let bytes: Vec<u8> = bodies.iter().flat_map(|b| [&header(b, 0)[..], b].concat()).collect();
            let (mut buffer, mut found) = (FrameBuffer::default(), Vec::new());
            for piece in bytes.chunks(piece) {
                buffer.compact();
                buffer.add(piece);
                while let Some(frame) = buffer.next_frame().unwrap() {
                    found.push(frame.body);
                }
            }
            prop_assert_eq!(found, bodies);
            prop_assert!(buffer.is_empty());
        }

        // The first length is often one that could be.
        #[test]
        fn any_bytes_are_frames_or_an_error(
            start in prop_oneof![Just(vec![]), Just(vec![0, 0, 0]), Just(vec![0, 0, 0, 2, 0, 7, 7, 0, 0, 0])],
            noise in prop::collection::vec(any::<u8>(), 0..60), piece in 1..60usize,
        ) {
            let (mut buffer, bytes) = (FrameBuffer::default(), [start, noise].concat());
            let mut taken = 0;
            for piece in bytes.chunks(piece) {
                buffer.compact();
                buffer.add(piece);
                loop {
                    match buffer.next_frame() {
                        Ok(Some(frame)) => taken += HEADER + frame.body.len(),
                        Ok(None) => break,
                        Err(FrameError::TooLong(n)) => {
                            prop_assert!(n > wire::MAX_FRAME);
                            return Ok(());
                        }
                        Err(FrameError::Descriptors) => return Ok(()),
                    }
                }
            }
            prop_assert!(taken <= bytes.len());
        }
    }

    #[test]
    fn frames_keep_their_own_descriptors_however_they_are_read() {
        let (a, b) = crate::stream_pair().unwrap();
        let (x, y) = crate::stream_pair().unwrap();
        send_frame(a.as_fd(), b"none", &[]).unwrap();
        send_frame(a.as_fd(), b"two", &[x.as_fd(), y.as_fd()]).unwrap();
        send_frame(a.as_fd(), b"", &[]).unwrap();
        send_frame(a.as_fd(), b"one", &[x.as_fd()]).unwrap();
        drop(a);
        let mut conn = Conn::new(b);
        let got: Vec<_> =
            std::iter::from_fn(|| conn.recv().ok()).map(|f| (f.body, f.fds.len())).collect();
        let want = [(b"none".to_vec(), 0), (b"two".to_vec(), 2), (vec![], 0), (b"one".to_vec(), 1)];
        assert_eq!(got, want);
    }

    #[test]
    fn handed_over_descriptor_is_the_one_that_was_kept_and_only_once() {
        let (a, b) = crate::stream_pair().unwrap();
        let (x, y) = crate::stream_pair().unwrap();
        let (writer, mut reader) = (Conn::new(a), Conn::new(b));
        reader.keep(x);
        writer.send(b"before", &[]).unwrap();
        writer.send_kept(b"take it").unwrap();
        writer.send_kept(b"again").unwrap();
        assert!(reader.recv().unwrap().fds.is_empty());
        let mut frame = reader.recv().unwrap();
        nix::unistd::write(frame.fds.pop_front().unwrap(), &[7]).unwrap();
        let mut got = [0; 1];
        nix::unistd::read(&y, &mut got).unwrap();
        assert_eq!(got, [7], "it is that descriptor");
        assert_eq!(reader.recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// How often this process holds these bytes, each given XORed with `MASK`.
    fn copies(masked: &[u8]) -> usize {
        use std::os::unix::fs::FileExt;
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut found = 0;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let [mut at, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
            let mut page = vec![0; 1 << 20];
            // What is found once lies in `page` as well: the pages overlap, so that nothing is missed.
            while at < to {
                let count = usize::try_from(to - at).unwrap().min(page.len());
                let Ok(count) = memory.read_at(page.get_mut(..count).unwrap(), at) else { break };
                let read = page.get(..count).unwrap();
                found += read
                    .windows(masked.len())
                    .filter(|w| w.iter().zip(masked).all(|(a, b)| a ^ MASK == *b))
                    .count();
                if count <= masked.len() || at + count as u64 >= to {
                    break;
                }
                at += (count - masked.len()) as u64;
            }
        }
        found
    }
    const MASK: u8 = 0x5a;

    /// Half a frame, a frame behind another, frames that make the buffers grow: nothing stays of any of them once it is taken.
    #[test]
    fn frames_leave_no_bytes_behind_once_they_are_taken() {
        let masked: Vec<u8> = (0..24u8).map(|i| i.wrapping_mul(89) ^ 0xc3).collect();
        let secret =
            || zeroize::Zeroizing::new(masked.iter().map(|b| b ^ MASK).collect::<Vec<u8>>());
        let long = |len: usize| {
            let mut body = zeroize::Zeroizing::new(Vec::with_capacity(len + 24));
            body.resize(len, 1);
            body.extend_from_slice(&secret());
            body
        };
        let (a, b) = crate::stream_pair().unwrap();
        let mut queue = OutQueue::default();
        let mut buffer = FrameBuffer::default();
        for len in [100, 70_000, 200, 100_000, 300] {
            queue.push(&long(len), vec![]);
        }
        assert!(copies(&masked) > 0, "the test sees what is there");
        let mut taken = 0;
        while taken < 5 {
            queue.flush(a.as_fd()).unwrap();
            buffer.fill(b.as_fd()).unwrap();
            while let Some(mut frame) = buffer.next_frame().unwrap() {
                assert!(frame.body.ends_with(&secret()));
                frame.body.zeroize();
                taken += 1;
            }
        }
        assert_eq!(copies(&masked), 0, "with the buffers still there");
        // What moves to the buffer's front is nowhere else.
        buffer.add(&[0, 0, 0, 100, 0]);
        buffer.add(&[1; 100]);
        buffer.add(&[0, 0, 0, 200, 0]);
        buffer.add(&long(40));
        assert!(buffer.next_frame().unwrap().is_some());
        buffer.compact();
        buffer.bytes.fill(0);
        assert_eq!(copies(&masked), 0);
        buffer = FrameBuffer::default();
        // Nothing stays of what was never taken.
        queue.push(&long(3), vec![]);
        queue.push(&long(3), vec![]);
        queue.flush(a.as_fd()).unwrap();
        queue.push(&long(3), vec![]);
        buffer.fill(b.as_fd()).unwrap();
        drop((queue, buffer));
        assert_eq!(copies(&masked), 0);
    }

    #[test]
    fn a_queue_gives_way_when_the_reader_is_slow_and_loses_nothing() {
        let (a, b) = crate::stream_pair().unwrap();
        let mut queue = OutQueue::default();
        for i in 0..100u8 {
            queue.push(&vec![i; 50_000], vec![]);
        }
        assert_eq!(queue.flush(a.as_fd()).unwrap(), Flushed::Full, "no socket buffer takes 5 MB");
        let reader = std::thread::spawn(move || {
            let mut conn = Conn::new(b);
            (0..100u8).all(|i| conn.recv().unwrap().body == vec![i; 50_000])
        });
        while queue.flush(a.as_fd()).unwrap() != Flushed::All {
            std::thread::yield_now();
        }
        assert_eq!(queue.bytes(), 0);
        assert!(reader.join().unwrap());
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_anything_is_allocated() {
        let (a, b) = crate::stream_pair().unwrap();
        nix::unistd::write(&a, &[0xff; 16]).unwrap();
        assert_eq!(Conn::new(b).recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn announced_descriptors_that_did_not_come_are_an_error() {
        let (a, b) = crate::stream_pair().unwrap();
        nix::unistd::write(&a, &[0, 0, 0, 0, 1]).unwrap();
        assert_eq!(Conn::new(b).recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
