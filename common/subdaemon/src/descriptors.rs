//! Reading bytes together with the descriptors that ride on them, so that none is lost sight of.
//!
//! A sender may attach more than any frame of ours has. What the kernel put into our table must be
//! owned before anything is refused, or a captured process fills the table of whoever reads it.

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// As many as the kernel lets one message carry (SCM_MAX_FD).
const MOST: usize = 253;

/// The result of one read.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes; zero at the end of the stream.
    pub(crate) count: usize,
    /// All that came along, in order.
    pub(crate) fds: Vec<OwnedFd>,
    /// Some did not find room: our table is full.
    pub(crate) truncated: bool,
}

/// Room for the descriptors of one message, aligned as the kernel's headers are.
#[repr(C)]
union Control {
    _align: libc::cmsghdr,
    bytes: [u8; MOST * size_of::<libc::c_int>() + 64],
}

/// Reads once. Unlike nix's `recvmsg`, which gives none of the descriptors where some had no room.
#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
pub(crate) fn receive(fd: BorrowedFd<'_>, chunk: &mut [u8]) -> Result<Received, Errno> {
    let mut control = Control { bytes: [0; _] };
    let mut iov = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: chunk.len() };
    // SAFETY: a msghdr of zeros is one without a name, buffers or flags.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    let count = loop {
        // SAFETY: `message` points at `iov` and `control`, `iov` at `chunk`: all of them live, and
        // nobody else uses them.
        let got =
            unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match Errno::result(got) {
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
            Ok(count) => break count.unsigned_abs(),
        }
    };
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled `control` as far as `msg_controllen` says, and the macros walk
    // no further.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: the macros gave a whole header within `control`.
        let (level, kind, len) =
            unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: pure arithmetic.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            let many = len.saturating_sub(head) / size_of::<libc::c_int>();
            // SAFETY: a header of this kind is followed by so many descriptors, which the kernel
            // just installed in our table for this very message: nobody else has seen them. They
            // may stand unaligned.
            fds.extend((0..many).map(|at| unsafe {
                let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
                OwnedFd::from_raw_fd(data.add(at).read_unaligned())
            }));
        }
        // SAFETY: as for the first.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(Received { count, fds, truncated: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Filled, FrameBuffer};
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::io::IoSlice;
    use std::os::fd::{AsFd, RawFd};

    /// One byte with so many descriptors, each the write end of one pipe: whether they are closed
    /// shows at the other end.
    fn sent(many: usize) -> (OwnedFd, OwnedFd, OwnedFd) {
        let (a, b) = crate::stream_pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let raw: Vec<RawFd> = vec![writer.as_raw_fd(); many];
        let rights = [ControlMessage::ScmRights(&raw)];
        sendmsg::<()>(a.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::empty(), None)
            .unwrap();
        (b, a, reader)
    }
    /// Has everybody closed the other end of this pipe?
    fn is_closed(reader: &OwnedFd) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn descriptors_beyond_a_frames_number_are_refused_and_closed() {
        for many in [9, 100, MOST] {
            let (b, _a, reader) = sent(many);
            let mut buffer = FrameBuffer::default();
            let refused = buffer.fill(b.as_fd()).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData, "{many}");
            assert!(!is_closed(&reader), "the buffer owns them");
            drop(buffer);
            assert!(is_closed(&reader), "{many} descriptors, and none is left");
        }
        let (b, _a, reader) = sent(1);
        let mut buffer = FrameBuffer::default();
        assert_eq!(buffer.fill(b.as_fd()).unwrap(), Filled::Some);
        drop(buffer);
        assert!(is_closed(&reader));
    }

    #[test]
    fn read_takes_every_descriptor_that_came() {
        let (b, _a, reader) = sent(MOST);
        let received = receive(b.as_fd(), &mut [0; 8]).unwrap();
        assert_eq!((received.count, received.fds.len(), received.truncated), (1, MOST, false));
        drop(received);
        assert!(is_closed(&reader));
    }
}
