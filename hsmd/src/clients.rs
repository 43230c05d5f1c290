//! The loop over the clients: whole frames in, answers out, and nobody is waited for.
//!
//! Each client has one question under way: while its answer is not written, it is not read. What a
//! client may have half sent stays with it and holds up nobody else.

use crate::answer::{Admission, Hsm};
use crate::arriving::{self, Asker};
use crate::blinding::Blinding;
use crate::refusal::Bad;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use primitives::{ChannelNumber, NodeId};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;
use subdaemon::{Child, Failure, Filled, Frame, FrameBuffer, Master, Orders, OutQueue, barrier};
use wire::hsm::{BadClient, Capability, HsmdInit, MasterOrder, Rights, ToHsmd};
use zeroize::{Zeroize, Zeroizing};

struct Client {
    fd: OwnedFd,
    who: Asker,
    rights: Rights,
    buffer: FrameBuffer,
    /// The master had its channel on disk when it asked for this client.
    stored: bool,
    /// A whole question that waits for its turn.
    next: Option<Frame>,
    /// A question that waits until the master says that what it needs is stored.
    waiting: Option<Frame>,
    out: OutQueue,
}

impl Drop for Client {
    fn drop(&mut self) {
        for frame in [&mut self.next, &mut self.waiting].into_iter().flatten() {
            frame.body.zeroize();
        }
    }
}

/// The state of a client after its turn.
enum Turn {
    /// Served, or has nothing.
    Stays,
    /// Closed its end.
    Left,
    /// Asked what it must not.
    Bad(Bad),
}

/// The effects of lightningd's questions and orders of one round.
#[derive(Default)]
struct MasterWords {
    admitted: Vec<Admission>,
    forgotten: Option<(NodeId, ChannelNumber)>,
    stored: Option<(NodeId, ChannelNumber)>,
    /// True once an order was read this round: questions that wait for one are asked again.
    told: bool,
}

impl MasterWords {
    /// Does this client's channel exist no more, or is it past what the client was for?
    fn forgets(&self, client: &Client) -> bool {
        let is = |channel: Option<_>| channel.is_some() && client.id() == channel;
        is(self.forgotten) || (!client.stored && is(self.stored))
    }
}

/// hsmd, until the master is gone. `unlocked` is called once the secret file is read: from then on
/// no file is needed.
pub fn run(
    mut child: Child,
    unlocked: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (order, mut fds) = child.orders.recv_as(ToHsmd::decode_known)?;
    let ToHsmd::HsmdInit(HsmdInit {}) = order;
    let master = Orders::take_fd(&mut fds, "master's client socket")?;
    // Questions about a channel or about handshakes come from clients of their own.
    let rights = Rights::of(&[Capability::Master]);
    let admission = Admission { fd: master, who: Asker::Master, rights, stored: true };
    let mut clients = vec![Client::new(admission)?];
    let mut hsm = Hsm::default();
    let mut unlocked = Some(unlocked);
    let mut blinding = Blinding::new(Instant::now());

    loop {
        let (order, readable) = wait(&child.orders, &clients)?;
        if order {
            return match child.orders.recv() {
                Err(Failure::Cancelled(_)) => Ok(()),
                Err(e) => Err(e),
                Ok(_) => Err(Failure::internal("a second order")),
            };
        }
        let (said, gone) = serve(&child.master, &mut hsm, &mut clients, readable)?;
        if gone.first() == Some(&0) {
            // The master, which came first, left.
            return Ok(());
        }
        for at in gone.into_iter().rev() {
            clients.swap_remove(at);
        }
        clients.retain(|client| !said.forgets(client));
        for admission in said.admitted {
            clients.push(Client::new(admission)?);
        }
        if hsm.is_unlocked()
            && let Some(unlocked) = unlocked.take()
        {
            // Every key was derived with the blinding of our birth: another one signs.
            blinding.renew(Instant::now());
            unlocked()?;
        }
        blinding.renew_if_due(Instant::now());
    }
}

/// One turn of each client. What the master said in it, and which clients are gone.
fn serve(
    master: &Master,
    hsm: &mut Hsm,
    clients: &mut [Client],
    readable: Vec<bool>,
) -> Result<(MasterWords, Vec<usize>), Failure> {
    let (mut said, mut gone) = (MasterWords::default(), Vec::new());
    for (at, (client, readable)) in clients.iter_mut().zip(readable).enumerate() {
        if said.forgets(client) {
            // The channel is gone: its clients are closed unread.
            continue;
        }
        let reported = match client.turn(hsm, readable, &mut said) {
            (Turn::Stays, report) => report,
            (Turn::Left, report) => {
                gone.push(at);
                report
            }
            (Turn::Bad(why), _) => {
                log::error!("closing {}: {why}", client.name());
                let Some((peer, channel)) = client.id() else {
                    return Err(Failure::internal(why));
                };
                gone.push(at);
                Some(BadClient { peer, channel, why })
            }
        };
        if let Some(report) = reported {
            master.report(&report)?;
        }
    }
    Ok((said, gone))
}

/// An order of the master's among its questions, if this is one.
fn master_order(body: &[u8]) -> Option<MasterOrder> {
    let number = u16::from_be_bytes(*body.first_chunk::<2>()?);
    arriving::is_order(number).then(|| MasterOrder::decode_known(body).ok()).flatten()
}

/// Sleeps until somebody can be served. Is there an order, and who can be read or written?
fn wait(orders: &Orders, clients: &[Client]) -> Result<(bool, Vec<bool>), Failure> {
    if orders.has_buffered() {
        return Ok((true, vec![false; clients.len()]));
    }
    let mut fds = Vec::with_capacity(clients.len() + 1);
    fds.push(PollFd::new(orders.as_fd(), PollFlags::POLLIN));
    fds.extend(clients.iter().map(|c| PollFd::new(c.fd.as_fd(), c.interest())));
    let can_ask = |c: &Client| c.out.is_empty() && c.next.is_some() && c.waiting.is_none();
    let ready = clients.iter().any(can_ask);
    match poll(&mut fds, if ready { PollTimeout::ZERO } else { PollTimeout::NONE }) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(Failure::internal(format!("poll: {e}"))),
    }
    let mut events = fds.iter().map(|fd| fd.revents().is_some_and(|e| !e.is_empty()));
    let order = events.next().unwrap_or(false);
    Ok((order, events.collect()))
}

impl Client {
    fn new(admission: Admission) -> Result<Self, Failure> {
        let Admission { fd, who, rights, stored } = admission;
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Failure::internal)?;
        let (buffer, out) = (FrameBuffer::default(), OutQueue::default());
        Ok(Self { fd, who, rights, stored, buffer, next: None, waiting: None, out })
    }

    fn id(&self) -> Option<(NodeId, ChannelNumber)> {
        match self.who {
            Asker::Master => None,
            Asker::Child(peer, channel) => Some((peer, channel)),
        }
    }
    fn name(&self) -> String {
        match self.who {
            Asker::Master => "lightningd".to_owned(),
            Asker::Child(peer, channel) => {
                format!("the client of {peer}, channel number {channel}")
            }
        }
    }

    fn interest(&self) -> PollFlags {
        if !self.out.is_empty() {
            PollFlags::POLLOUT
        } else if self.next.is_some() || self.waiting.is_some() {
            PollFlags::empty()
        } else {
            PollFlags::POLLIN
        }
    }

    /// At most one read, one question and one answer.
    fn turn(
        &mut self,
        hsm: &mut Hsm,
        readable: bool,
        said: &mut MasterWords,
    ) -> (Turn, Option<BadClient>) {
        if !self.out.is_empty() {
            return (if readable { self.flush() } else { Turn::Stays }, None);
        }
        if self.waiting.is_some() && !said.told {
            // A waiting client is not read: readiness means that it hung up.
            return (if readable { Turn::Left } else { Turn::Stays }, None);
        }
        if self.next.is_none() && self.waiting.is_none() && readable {
            match self.buffer.fill(self.fd.as_fd()) {
                Ok(Filled::Some) => {}
                Ok(Filled::WouldBlock) => return (Turn::Stays, None),
                Ok(Filled::Eof) => return (Turn::Left, None),
                Err(e) => return (Turn::Bad(e.to_string()), None),
            }
        }
        let frame = match self.take_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return (Turn::Stays, None),
            Err(why) => return (Turn::Bad(why), None),
        };
        if let (Asker::Master, Some(order)) = (self.who, master_order(&frame.body)) {
            hsm.ordered(&order);
            said.told = true;
            return (Turn::Stays, None);
        }
        barrier::pass("after a question");
        let mut body = Zeroizing::new(frame.body);
        match hsm.answer(self.who, &self.rights, &body, frame.fds) {
            Err(why) => (Turn::Bad(why), None),
            Ok(None) => {
                let body = std::mem::take(&mut *body);
                self.waiting = Some(Frame { body, fds: VecDeque::new() });
                (Turn::Stays, None)
            }
            Ok(Some(outcome)) => {
                said.admitted.extend(outcome.admit);
                said.forgotten = outcome.forgotten.or(said.forgotten);
                said.stored = outcome.stored.or(said.stored);
                self.out.push(&outcome.answer, Vec::new());
                barrier::pass("before an answer");
                let left = self.flush();
                barrier::pass("after an answer");
                (left, outcome.report)
            }
        }
    }

    /// The next question; the one after it is looked for at once, so that `wait` knows of it.
    fn take_frame(&mut self) -> Result<Option<Frame>, Bad> {
        if let Some(frame) = self.waiting.take() {
            return Ok(Some(frame));
        }
        let first = match self.next.take() {
            Some(frame) => Some(frame),
            None => self.arrived()?,
        };
        if first.is_some() {
            self.next = self.arrived()?;
        }
        Ok(first)
    }

    /// The next whole frame. One that this client must not send is refused as soon as its header,
    /// or its number, is there.
    fn arrived(&mut self) -> Result<Option<Frame>, Bad> {
        if let Some((length, body)) = self.buffer.arriving() {
            arriving::judge(self.who, &self.rights, length, body)?;
        }
        self.buffer.next_frame().map_err(|e| e.to_string())
    }

    fn flush(&mut self) -> Turn {
        match self.out.flush(self.fd.as_fd()) {
            Ok(_) => Turn::Stays,
            // The client is gone.
            Err(_) => Turn::Left,
        }
    }
}
