//! The wire between two daemons' peer sockets: what two connectds and the internet are otherwise.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use primitives::Side;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use subdaemon::{recv_record, send_record};
use wire::connectd::{PEER_RECORD_CONTROL, PEER_RECORD_MESSAGE};
use wire::{Message, connectd::PeerControl};

/// Who said what. `Side::Local` is the first end.
pub(crate) type Transcript = Arc<Mutex<Vec<(Side, Vec<u8>)>>>;

/// What becomes of a message on its way: the messages that come out at the other end. `None`: the
/// wire is cut here.
pub(crate) type Filter = Box<dyn FnMut(Side, Vec<u8>) -> Option<Vec<Vec<u8>>> + Send>;

pub(crate) struct Link {
    pub(crate) said: Transcript,
    thread: JoinHandle<()>,
}

impl Link {
    pub(crate) fn new(first: OwnedFd, second: OwnedFd, filter: Filter) -> Self {
        let said = Transcript::default();
        let transcript = Arc::clone(&said);
        let thread = std::thread::spawn(move || carry([first, second], filter, &transcript));
        Self { said, thread }
    }
    /// Waits for the end of the connection.
    pub(crate) fn join(self) {
        self.thread.join().unwrap();
    }
}

/// The numbers that were said, in order.
pub(crate) fn numbers(said: &Transcript, by: Side) -> Vec<u16> {
    let said = said.lock().unwrap();
    let of = |m: &[u8]| u16::from_be_bytes(*m.first_chunk().unwrap());
    said.iter().filter(|(side, _)| *side == by).map(|(_, m)| of(m)).collect()
}
/// Everything of this kind that was said.
pub(crate) fn all<M: Message>(said: &Transcript, by: Side) -> Vec<M> {
    let said = said.lock().unwrap();
    said.iter()
        .filter(|(side, m)| *side == by && m.starts_with(&M::NUMBER.to_be_bytes()))
        .map(|(_, m)| M::take_body(&m[2..]).unwrap())
        .collect()
}

fn carry(ends: [OwnedFd; 2], mut filter: Filter, said: &Transcript) {
    let mut queues = [VecDeque::<Vec<u8>>::new(), VecDeque::new()];
    let mut buffer = Vec::new();
    loop {
        let interest = |queue: &VecDeque<_>| match queue.is_empty() {
            true => PollFlags::POLLIN,
            false => PollFlags::POLLIN | PollFlags::POLLOUT,
        };
        let mut fds = [
            PollFd::new(ends[0].as_fd(), interest(&queues[0])),
            PollFd::new(ends[1].as_fd(), interest(&queues[1])),
        ];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        for (at, side) in [(0, Side::Local), (1, Side::Remote)] {
            while let Some(record) = queues[at].front() {
                match send_record(ends[at].as_fd(), record) {
                    Ok(true) => drop(queues[at].pop_front()),
                    Ok(false) => break,
                    // It reads no more. What it said last is still to be heard.
                    Err(_) => queues[at].clear(),
                }
            }
            match recv_record(ends[at].as_fd(), &mut buffer) {
                Ok(None) => continue,
                Ok(Some(None)) | Err(_) => {
                    // The other end reads what was said before the end came.
                    for record in &queues[1 - at] {
                        let _ = send_record(ends[1 - at].as_fd(), record);
                    }
                    return;
                }
                Ok(Some(Some(len))) => match buffer[..len].split_first().unwrap() {
                    (&PEER_RECORD_MESSAGE, message) => {
                        said.lock().unwrap().push((side, message.to_vec()));
                        let Some(out) = filter(side, message.to_vec()) else { return };
                        let records =
                            out.into_iter().map(|m| [&[PEER_RECORD_MESSAGE], &m[..]].concat());
                        queues[1 - at].extend(records);
                    }
                    (&PEER_RECORD_CONTROL, control) => {
                        match PeerControl::decode_known(control).unwrap() {
                            // An error follows: what the other side says meanwhile is not for this
                            // one.
                            PeerControl::Leave(_) => continue,
                            PeerControl::CloseConnection(_) => {}
                            other @ (PeerControl::AlsoRoute(_) | PeerControl::Drained(_)) => {
                                panic!("{other:?}")
                            }
                        }
                        for record in &queues[1 - at] {
                            let _ = send_record(ends[1 - at].as_fd(), record);
                        }
                        return;
                    }
                    other => panic!("{other:?}"),
                },
            }
        }
    }
}
