//! An hsmd that has nothing against anything: it has points for its clients, likes every signature,
//! and makes every transaction of a channel that it was asked for, unsigned. Whatever the master
//! lets pass so happens.

use super::signature;
use crate::rooms::channels::testing::point;
use crate::testing::sign_wallet;
use channel::commitment::build;
use channel::keys::CommitmentKeys;
use channel::{Constants, closing};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use primitives::{ChannelNumber, NodeId, Transaction};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use subdaemon::{Conn, Frame, answer_frame};
use wire::channel_data::ChannelParams;
use wire::hsm::*;

#[derive(Default)]
struct Agreeing {
    channels: BTreeMap<(NodeId, ChannelNumber), ChannelParams>,
    clients: Vec<Conn>,
}

/// Until the master's line is closed.
pub(super) fn hsmd(fd: OwnedFd) {
    let (mut master, mut all) = (Conn::new(fd), Agreeing::default());
    loop {
        let clients = all.clients.iter().map(AsFd::as_fd);
        let lines = std::iter::once(master.as_fd()).chain(clients);
        let mut lines: Vec<_> = lines.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        if poll(&mut lines, PollTimeout::NONE).is_err() {
            continue;
        }
        let ready: Vec<bool> = lines.iter().map(|l| l.any().unwrap_or_default()).collect();
        for (n, _) in ready.iter().enumerate().skip(1).rev().filter(|(_, ready)| **ready) {
            let mut client = all.clients.swap_remove(n - 1);
            if let Ok(frame) = client.recv()
                && let Some(answer) = all.answers(frame)
                && client.send(&answer, &[]).is_ok()
            {
                all.clients.push(client);
            }
        }
        if ready.first() == Some(&true) {
            let Ok(frame) = master.recv() else { return };
            if HsmRequest::decode(&frame.body).is_err() {
                // An order.
                continue;
            }
            let Some(answer) = all.answers(frame) else { return };
            if master.send(&answer, &[]).is_err() {
                return;
            }
        }
    }
}

impl Agreeing {
    /// `None`: a question that the master does not ask for its rooms.
    fn answers(&mut self, mut frame: Frame) -> Option<Vec<u8>> {
        Some(match HsmRequest::decode(&frame.body).ok()? {
            HsmRequest::NewClient(q) => {
                if let Some(seed) = q.seed {
                    self.channels.insert((q.peer, q.channel), seed.params);
                }
                self.clients.extend(frame.fds.pop_front().map(Conn::new));
                answer_frame::<NewClient>(&())
            }
            HsmRequest::GetCommitmentPoint(q) => {
                answer_frame::<GetCommitmentPoint>(&point(q.number.0 as u8 % 100 + 100))
            }
            HsmRequest::ValidateLocalCommitment(_) => {
                answer_frame::<ValidateLocalCommitment>(&Verdict::Good)
            }
            HsmRequest::SignWallet(q) => answer_frame::<SignWallet>(&sign_wallet(q)),
            HsmRequest::ForgetChannel(q) => {
                self.channels.remove(&(q.peer, q.channel));
                answer_frame::<ForgetChannel>(&())
            }
            HsmRequest::SignLocalCommitment(q) => {
                let made = self.constants(q.peer, q.channel).and_then(|constants| {
                    let basepoints = &constants.params.basepoints;
                    let keys = CommitmentKeys::derive(basepoints, q.state.side, &q.state.point);
                    Some(build(&constants, keys, &q.state).ok()?.tx)
                });
                answer_frame::<SignLocalCommitment>(&completed(made))
            }
            HsmRequest::CompleteClosing(q) => {
                let made = self.constants(q.peer, q.channel).and_then(|constants| {
                    let kept = closing::our_choice(&constants, &q.state).ok()?;
                    Some(closing::build(&constants, &q.state, kept).ok()?.tx)
                });
                answer_frame::<CompleteClosing>(&completed(made))
            }
            HsmRequest::SignChannelUpdate(_) => answer_frame::<SignChannelUpdate>(&signature()),
            _ => return None,
        })
    }

    fn constants(&self, peer: NodeId, channel: ChannelNumber) -> Option<Constants> {
        Constants::new(self.channels.get(&(peer, channel))?.clone()).ok()
    }
}

fn completed(made: Option<Transaction>) -> Completed {
    match made {
        Some(transaction) => Completed::Ready { transaction },
        None => Completed::Refused { why: "there is no such transaction".to_owned() },
    }
}
