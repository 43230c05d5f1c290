//! A peer that is the test itself, in the place of a node's channeld.

use super::master::TEST_TIMEOUT;
use super::rig::{Pair, some_point};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use primitives::*;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;
use subdaemon::{recv_record, send_record};
use wire::channeld::Birth;
use wire::connectd::{PEER_RECORD_MESSAGE, PeerControl};
use wire::{ChannelReestablish, Message};

/// A peer that is the test itself.
pub(crate) struct Stranger {
    fd: OwnedFd,
    closing: bool,
}

impl Stranger {
    pub(crate) fn send<M: Message>(&self, message: &M) {
        self.send_bytes(&message.encode());
    }
    /// What is said to a daemon that is gone is lost.
    pub(crate) fn send_bytes(&self, message: &[u8]) {
        let record = [&[PEER_RECORD_MESSAGE], message].concat();
        while send_record(self.fd.as_fd(), &record) == Ok(false) {
            std::thread::yield_now();
        }
    }
    /// The next message, or the end of the connection.
    pub(crate) fn hear(&mut self) -> Option<Vec<u8>> {
        let until = Instant::now() + TEST_TIMEOUT;
        let mut buffer = Vec::new();
        while !self.closing {
            assert!(Instant::now() < until, "nothing more is said");
            match recv_record(self.fd.as_fd(), &mut buffer) {
                Ok(Some(Some(len))) => match buffer[..len].split_first().unwrap() {
                    (&PEER_RECORD_MESSAGE, message) => return Some(message.to_vec()),
                    (_, control) => match PeerControl::decode_known(control) {
                        // An error follows.
                        Ok(PeerControl::Leave(_)) => {}
                        Ok(PeerControl::CloseConnection(_)) => self.closing = true,
                        other => panic!("{other:?}"),
                    },
                },
                Ok(Some(None)) | Err(_) => self.closing = true,
                Ok(None) => {
                    let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
                    poll(&mut fds, PollTimeout::from(100u16)).unwrap();
                }
            }
        }
        None
    }
    /// Listens until this is said.
    pub(crate) fn until<M: Message>(&mut self) -> M {
        loop {
            let message = self.hear().expect("the connection ends before it is said");
            if message.starts_with(&M::NUMBER.to_be_bytes()) {
                return M::take_body(&message[2..]).unwrap();
            }
        }
    }
    /// Everything that is said until the end.
    pub(crate) fn rest(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Pair {
    /// Puts a stranger in the place of the second node; channel_reestablish has not been exchanged.
    pub(crate) fn stranger(&mut self, birth: Birth) -> Stranger {
        self.stranger_to(Side::Local, birth)
    }
    /// The same, in the place of either.
    pub(crate) fn stranger_to(&mut self, side: Side, birth: Birth) -> Stranger {
        let (ours, theirs) = subdaemon::peer_pair().unwrap();
        self.nodes[side].start(birth, ours);
        Stranger { fd: theirs, closing: false }
    }
    /// What the second node would say first on a new connection.
    pub(crate) fn their_reestablish(&self) -> ChannelReestablish {
        self.reestablish_of(Side::Remote)
    }
    pub(crate) fn reestablish_of(&self, side: Side) -> ChannelReestablish {
        let channel = channel::Channel::new(self.master(side).rows().state.clone()).unwrap();
        let ours = channel.our_numbers();
        ChannelReestablish {
            channel_id: self.nodes[side].init.channel,
            next_commitment_number: ours.next_commitment_number,
            next_revocation_number: ours.next_revocation_number,
            your_last_per_commitment_secret: *ours.your_last_per_commitment_secret.expose(),
            my_current_per_commitment_point: some_point(9),
            next_funding: None,
            my_current_funding_locked: None,
        }
    }
    /// A stranger with whom traffic may go.
    pub(crate) fn reestablished_stranger(&mut self) -> Stranger {
        let mut stranger = self.stranger(Birth::Reconnected);
        stranger.until::<ChannelReestablish>();
        stranger.send(&self.their_reestablish());
        self.master(Side::Local).until("it is established", |rows| rows.established);
        stranger
    }
}
