//! The daemon's value and its loop: one descriptor per turn, then whatever is due.

use crate::announcement::Announcement;
use crate::batch::Batch;
use crate::closing::Closing;
use channel::phase::ChannelPhase;
use channel::{Channel, Irrevocable, Update};
use primitives::*;
use std::time::{Duration, Instant};
use subdaemon::{Child, Failure, Hsm, Master, Orders, Peer, Ready, wait};
use wire::channeld::*;
use wire::hsm::GetCommitmentPoint;

/// How long the peer may owe us a revocation: by then it has lost what we said, and a new
/// connection tells.
pub(crate) const REVOCATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Where this connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Our channel_reestablish is out, theirs has not come: nothing else is said. BOLT 2, "Message
    /// Retransmission".
    AwaitsReestablish,
    /// Updates may flow.
    Open,
    /// Nothing is signed or revoked any more: we wait for what the peer does.
    Mute,
}

/// How soon channeld must act once nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Wait for the next message or order.
    Nothing,
    /// A step that may be batched with later ones.
    Soon,
    /// A step that the peer or a payment waits for.
    Now,
}

/// One live channel.
pub(crate) struct Live {
    pub(crate) orders: Orders,
    pub(crate) master: Master,
    pub(crate) hsm: Hsm,
    pub(crate) peer: Peer,
    pub(crate) id: ChannelId,
    pub(crate) phase: Phase,
    /// The channel's phase when this daemon started.
    born_in: ChannelPhase,
    /// Everything that was said and heard.
    pub(crate) channel: Channel,
    /// The part of `channel` that lightningd has on disk.
    pub(crate) stored: Channel,
    /// Updates of ours that are decided, and said with the next commitment.
    pub(crate) unsaid: Vec<Update>,
    /// Updates that became irrevocable and were not reported to lightningd yet.
    pub(crate) irrevocable: Irrevocable,
    /// Our point for the commitment after our newest.
    pub(crate) next_point: Point,
    pub(crate) batch: Option<Batch>,
    /// A tx_abort of ours went out on this connection.
    pub(crate) aborted: bool,
    pub(crate) ready: Sides<bool>,
    pub(crate) funding_deep: bool,
    pub(crate) alias: ShortChannelId,
    /// Aliases of the peer that came after its first channel_ready, on this connection.
    pub(crate) aliases_heard: usize,
    pub(crate) announcement: Announcement,
    pub(crate) closing: Closing,
    pub(crate) fees: FeePolicy,
    pub(crate) policy: HtlcPolicy,
    pub(crate) height: BlockHeight,
    /// Warnings of the peer that were logged.
    pub(crate) warnings: u8,
    /// Since when something is due.
    due_since: Option<Instant>,
    /// Since when the peer owes us a revocation.
    pub(crate) owed_since: Option<Instant>,
    patience: Duration,
    birth: Option<Birth>,
    /// Why nothing is to be signed or revoked: the peer hears it after we both said where we are.
    pub(crate) failed: Option<String>,
    status: Option<String>,
}

impl Live {
    pub(crate) fn new(
        child: Child,
        mut hsm: Hsm,
        peer: Peer,
        init: ChanneldInit,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let channel = Channel::new(init.state.clone()).map_err(Failure::internal)?;
        let number = channel.commitment().local.next();
        let next_point = hsm.ask(&GetCommitmentPoint { number })?;
        Ok(Self {
            orders: child.orders,
            master: child.master,
            hsm,
            peer,
            id: init.channel,
            phase: Phase::AwaitsReestablish,
            born_in: init.phase,
            stored: channel.clone(),
            channel,
            unsaid: Vec::new(),
            irrevocable: Irrevocable::default(),
            next_point,
            batch: None,
            aborted: false,
            ready: init.ready,
            funding_deep: init.funding_deep,
            alias: init.alias,
            aliases_heard: 0,
            announcement: Announcement::new(&init),
            closing: Closing::new(&init),
            fees: init.fees,
            policy: init.policy,
            height: init.height,
            warnings: 0,
            due_since: None,
            owed_since: None,
            patience,
            birth: Some(init.birth),
            failed: init.failed,
            status: None,
        })
    }

    /// Until the connection or the channel ends. The peer hears of a failure that concerns it.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let ended = self.begin().and_then(|()| self.serve());
        match ended {
            Ok(()) => self.master.hand_over(&ReadyToClose {}, self.peer.into_fd()),
            // BOLT 1: an error ends the channel, whatever else is wrong with it.
            Err(Failure::ConnectionLost) => Err(self.peer.last_words(|_| true)),
            Err(failure) => {
                self.peer.tell(self.id, &failure);
                if self.peer.written().is_err() {
                    log::debug!(
                        "could not send our last message to the peer: the connection is lost"
                    );
                }
                Err(failure)
            }
        }
    }

    fn begin(&mut self) -> Result<(), Failure> {
        match self.birth.take() {
            Some(Birth::JustOpened { funding_signed }) if self.failed.is_none() => {
                self.first_words(funding_signed)
            }
            Some(Birth::JustOpened { .. } | Birth::Reconnected) | None => self.say_reestablish(),
        }
    }

    /// Returns once nothing is pending on either side and the peer's socket can go to closingd.
    fn serve(&mut self) -> Result<(), Failure> {
        loop {
            self.tell_status()?;
            // Nothing is read meanwhile: what the peer says next is for closingd.
            if self.is_ready_to_close() {
                return self.peer.written();
            }
            let (due, since) = self.since();
            if due != Due::Nothing && self.is_about_to_close() {
                self.act()?;
                continue;
            }
            let owed = self.owed_by();
            // A peer that always has something else to say does not get round this.
            if owed.is_some_and(|until| until + self.patience <= Instant::now()) {
                return Err(unrevoked());
            }
            let batching_delay = Duration::from_millis(self.policy.commit_time_ms.max(1).into());
            let deadline = match due {
                Due::Nothing => owed,
                Due::Soon => Some(since + batching_delay),
                Due::Now => Some(since),
            };
            if due == Due::Now && since.elapsed() > batching_delay {
                // There would be more to read, and there always may be.
                self.act()?;
                continue;
            }
            match wait(&self.orders, &mut self.peer, deadline)? {
                Ready::Orders => {
                    let (order, _) = self.orders.recv_as(ToChanneld::decode_known)?;
                    self.on_order(order)?;
                }
                Ready::Peer => {
                    if let Some(record) = self.peer.try_recv()? {
                        self.on_record(record)?;
                    }
                }
                Ready::Timeout if due == Due::Nothing => {
                    return Err(unrevoked());
                }
                Ready::Timeout => self.act()?,
            }
        }
    }

    /// How soon to act, and since when.
    fn since(&mut self) -> (Due, Instant) {
        let due = self.due();
        let now = Instant::now();
        let since = match due {
            Due::Nothing => {
                self.due_since = None;
                now
            }
            Due::Soon | Due::Now => *self.due_since.get_or_insert(now),
        };
        (due, since)
    }

    /// Until when the peer must have revoked what we signed a successor of.
    fn owed_by(&mut self) -> Option<Instant> {
        if self.phase != Phase::Open || !self.channel.awaits_revocation() {
            self.owed_since = None;
            return None;
        }
        Some(*self.owed_since.get_or_insert_with(Instant::now) + self.patience)
    }

    pub(crate) fn acted(&mut self) {
        self.due_since = None;
    }

    /// Where the channel is now.
    pub(crate) fn channel_phase(&self) -> ChannelPhase {
        use ChannelPhase as P;
        let begun = self.closing.is_begun();
        match self.born_in {
            // BOLT 2, channel_ready: there are no updates before both have said it, whether or not
            // the channel closes already.
            P::AwaitingLockin | P::Normal | P::ShuttingDown
                if !self.ready.local || !self.ready.remote =>
            {
                P::AwaitingLockin
            }
            P::AwaitingLockin | P::Normal if begun.local || begun.remote => P::ShuttingDown,
            P::AwaitingLockin => P::Normal,
            P::Normal
            | P::ShuttingDown
            | P::Opening
            | P::Negotiating
            | P::ClosingAgreed
            | P::AwaitingUnilateral
            | P::ClosingFailed
            | P::Onchain
            | P::DataLoss
            | P::Closed => self.born_in,
        }
    }

    /// Both have said channel_ready: updates may flow.
    pub(crate) const fn is_normal(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.ready.local && self.ready.remote
    }

    /// For people: what this channel is doing. Empty where only the master knows how deep the
    /// funding is.
    fn status_line(&self) -> String {
        let line = match self.phase {
            Phase::AwaitsReestablish => "Reconnected, awaiting the peer's channel_reestablish.",
            Phase::Mute => "Given up: awaiting the peer.",
            Phase::Open => match (self.closing.is_begun(), self.ready.local, self.ready.remote) {
                (Sides { local: true, remote: true }, _, _) => {
                    "Shutdown by both: awaiting the end of what is pending."
                }
                (Sides { local: true, remote: false }, _, _) => {
                    "Shutdown by us: awaiting the peer's."
                }
                (Sides { local: false, remote: true }, _, _) => {
                    "Shutdown by the peer: ours goes out once our updates are signed."
                }
                (_, true, true) => "Channel ready for use.",
                (_, true, false) => "We are ready, awaiting the peer's channel_ready.",
                (_, false, _) => "",
            },
        };
        line.to_owned()
    }

    fn tell_status(&mut self) -> Result<(), Failure> {
        let line = self.status_line();
        if self.status.as_ref() != Some(&line) {
            self.master.status(Some(&line), None)?;
            self.status = Some(line);
        }
        Ok(())
    }
}

fn unrevoked() -> Failure {
    Failure::PeerWarn("revoke_and_ack does not come".to_owned())
}
