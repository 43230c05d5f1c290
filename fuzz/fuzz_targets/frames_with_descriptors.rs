//! The stream between two of our processes with descriptors on it: frames as we write them, and a
//! captured writer who puts any bytes with any number of descriptors anywhere. Descriptors keep
//! their order, a frame has as many as it announced, no more than a few wait, and none is left in
//! our table.

use crate::input::Input;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::fstat;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::LazyLock;
use subdaemon::{Filled, Flushed, FrameBuffer, OutQueue, stream_pair};

/// The most descriptors of one frame, and of one message of the kernel's.
const MAX_FDS: usize = 4;
const MOST: usize = 253;
/// What a reader may hold of descriptors that no frame has taken.
const MAX_WAITING: usize = 2 * MAX_FDS;
/// Bytes and descriptors under way, at most: nobody reads while we write.
const MAX_BYTES: usize = 32_768;

/// Files that are told apart by their inodes.
static FILES: LazyLock<Vec<OwnedFd>> = LazyLock::new(|| {
    let pair = |_| stream_pair().expect("two sockets");
    let files = (0..4).map(pair).flat_map(|(a, b)| [a, b]).collect();
    // Reading the folder of descriptors opens one, and libFuzzer may do so at its first report.
    let _ = open_files();
    files
});
static INODES: LazyLock<Vec<u64>> =
    LazyLock::new(|| FILES.iter().map(|f| fstat(f).expect("it is open").st_ino).collect());

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux has it").count()
}

struct Stream {
    writer: OwnedFd,
    reader: OwnedFd,
    buffer: FrameBuffer,
    queue: OutQueue,
    /// How many descriptors were attached, and the inodes of those that no frame has taken.
    sent: usize,
    under_way: VecDeque<u64>,
    bytes: usize,
    /// All was written as `OutQueue` writes: each frame with its descriptors, and how many they
    /// are.
    honest: Option<VecDeque<(Vec<u8>, usize)>>,
}

impl Stream {
    fn new() -> Self {
        let (writer, reader) = stream_pair().expect("two sockets");
        Self {
            writer,
            reader,
            buffer: FrameBuffer::default(),
            queue: OutQueue::default(),
            sent: 0,
            under_way: VecDeque::new(),
            bytes: 0,
            honest: Some(VecDeque::new()),
        }
    }

    fn next_files(&mut self, many: usize) -> Vec<usize> {
        let files: Vec<_> = (self.sent..self.sent + many).map(|n| n % FILES.len()).collect();
        self.sent += many;
        self.under_way.extend(files.iter().map(|n| INODES[*n]));
        files
    }

    /// As our own processes write.
    fn frame(&mut self, body: &[u8], many: usize) -> Option<()> {
        let files = self.next_files(many);
        let copies = files.iter().map(|n| FILES[*n].try_clone().expect("room for a descriptor"));
        self.queue.push(body, copies.collect());
        self.bytes += body.len() + 5;
        let flushed = self.queue.flush(self.writer.as_fd()).ok()? == Flushed::All;
        assert!(!flushed || (self.queue.is_empty() && self.queue.bytes() == 0));
        if let Some(honest) = &mut self.honest {
            honest.push_back((body.to_vec(), many));
        }
        flushed.then_some(())
    }

    /// As a captured process may.
    fn raw(&mut self, bytes: &[u8], many: usize) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        self.honest = None;
        let raw: Vec<RawFd> =
            self.next_files(many).iter().map(|n| FILES[*n].as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        self.bytes += bytes.len();
        let iov = [IoSlice::new(bytes)];
        let written = sendmsg::<()>(self.writer.as_raw_fd(), &iov, control, flags, None).ok()?;
        (written == bytes.len()).then_some(())
    }

    /// One read, and every frame in it. `None` where the reader would close the stream.
    fn read(&mut self, base: usize) -> Option<()> {
        match self.buffer.fill(self.reader.as_fd()) {
            Ok(Filled::Some) => {}
            Ok(Filled::WouldBlock | Filled::Eof) => return None,
            Err(_) => {
                assert!(self.honest.is_none(), "our own frames are refused");
                return None;
            }
        }
        assert!(open_files() <= base + MAX_WAITING, "descriptors wait without bound");
        loop {
            let frame = match self.buffer.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Some(()),
                Err(_) => {
                    assert!(self.honest.is_none(), "our own frames are refused");
                    return None;
                }
            };
            assert!(frame.fds.len() <= MAX_FDS);
            for fd in &frame.fds {
                let expected = self.under_way.pop_front().expect("none comes from nowhere");
                assert_eq!(fstat(fd).expect("it is open").st_ino, expected, "out of order");
            }
            if let Some(honest) = &mut self.honest {
                let (body, many) = honest.pop_front().expect("only what was written");
                assert_eq!((frame.body, frame.fds.len()), (body, many));
            }
        }
    }
}

pub fn run(data: &[u8]) {
    let (mut input, _) = (Input(data), INODES.len());
    let before = open_files();
    let mut stream = Stream::new();
    nix::fcntl::fcntl(
        &stream.reader,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )
    .expect("a flag");
    let base = open_files();
    while step(&mut stream, &mut input, base).is_some() {}
    drop(stream);
    assert_eq!(open_files(), before, "descriptors are left in our table");
}

fn step(stream: &mut Stream, input: &mut Input<'_>, base: usize) -> Option<()> {
    let what = input.byte()?;
    if stream.bytes > MAX_BYTES {
        return None;
    }
    match what % 8 {
        0..=2 => {
            let length = usize::from(input.byte()?);
            let body = input.bytes(length).to_vec();
            stream.frame(&body, usize::from(what / 8) % (MAX_FDS + 1))
        }
        3 => {
            // A header that announces any number, with any number attached, and a body or the start
            // of one.
            let (announced, attached, length) = (input.byte()?, input.byte()?, input.byte()?);
            let body = input.bytes(usize::from(what / 8));
            let mut bytes = vec![0, 0, 0, length, announced % 8];
            bytes.extend_from_slice(body);
            stream.raw(&bytes, usize::from(attached % 8))
        }
        4 => {
            let many = if what > 200 { MOST } else { input.below(12)? };
            let length = usize::from(input.byte()?);
            let bytes = input.bytes(length).to_vec();
            stream.raw(&bytes, many)
        }
        _ => stream.read(base),
    }
}
