//! The master's line to hsmd. The one thing the master waits for.

use crate::sys::fatal::{Fatal, Stop};
use primitives::{ChannelNumber, CommitmentNumber, NodeId, Point};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use subdaemon::Hsm;
use wire::Request;
use wire::channel_data::{CommitmentSignatures, CommitmentState};
use wire::hsm::{
    Capability, ChannelSeed, Completed, GetCommitmentPoint, MasterOrder, NewClient, Rights,
    ValidateLocalCommitment, Verdict,
};

/// hsmd answers within milliseconds, and a wallet of very many outputs within seconds. One that
/// hangs would hang the node, which then ends as if hsmd had died: whoever watches over it starts
/// it again.
const HSMD_ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

fn patient(fd: OwnedFd, patience: Duration) -> Result<Hsm, Fatal> {
    Hsm::with_patience(fd, patience).map_err(|e| Fatal(format!("the socket to hsmd: {e}")))
}

/// Why hsmd did not give a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPoint {
    /// It was not asked: too many descriptors of this user are on their way.
    Later,
    /// Why not: rows that a captured daemon asked for may contradict what hsmd has judged, and cost
    /// that channel, not the node.
    Refused(String),
}

/// The kernel counts descriptors on their way for a user: another program of the operator's may
/// have as many.
const IN_FLIGHT: &str =
    "cannot give hsmd a new client: too many descriptors of this user are in flight";
/// When to ask again for what had to wait for that.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Right: Master. `Err(Fatal)`: hsmd died or hung, which ends the node. Too many descriptors in
/// flight is not fatal: the client is refused, or the caller asks again after [`ASK_AGAIN`].
#[derive(Debug)]
pub struct HsmClient {
    line: Hsm,
    /// How long hsmd may take for an answer.
    patience: Duration,
    /// For a client of the master's own when no descriptor is left: a commitment that must be
    /// published does not wait for one.
    spare: Option<(OwnedFd, OwnedFd)>,
}

impl HsmClient {
    /// Over the master's own client socket.
    pub fn new(fd: OwnedFd) -> Result<Self, Fatal> {
        Self::with_patience(fd, HSMD_ANSWER_TIMEOUT)
    }
    fn with_patience(fd: OwnedFd, patience: Duration) -> Result<Self, Fatal> {
        let line = patient(fd, patience)?;
        Ok(Self { line, patience, spare: subdaemon::stream_pair().ok() })
    }
    /// Asks, and waits for the answer.
    pub fn ask<R: Request>(&mut self, question: &R) -> Result<R::Answer, Fatal> {
        self.line.ask(question).map_err(|e| Fatal(e.to_string()))
    }
    /// Has a transaction signed. Rows that a captured daemon asked for, or a wallet of very many
    /// outputs, may make a question that is longer than hsmd takes: that is refused here, since
    /// hsmd would close the node's own client.
    pub fn complete<R: Request<Answer = Completed>>(
        &mut self,
        question: &R,
    ) -> Result<Completed, Fatal> {
        match subdaemon::fits_hsmd(question) {
            Ok(()) => self.ask(question),
            Err(why) => Ok(Completed::Refused { why }),
        }
    }
    /// Tells hsmd what is stored; hsmd does not answer. If hsmd reads the question of a client that
    /// needs it first, it keeps that question until this message arrives. `Err`: hsmd is gone.
    pub fn order(&mut self, order: &MasterOrder) -> Result<(), Fatal> {
        match order {
            MasterOrder::RevocationStored(o) => self.line.order(o),
            MasterOrder::ClosingStored(o) => self.line.order(o),
        }
        .map_err(|e| Fatal(e.to_string()))
    }
    /// Our point of a commitment of this channel, whose seed hsmd knows from then on.
    pub fn commitment_point(
        &mut self,
        peer: NodeId,
        channel: ChannelNumber,
        seed: ChannelSeed,
        number: CommitmentNumber,
    ) -> Result<Result<Point, NoPoint>, Fatal> {
        let Some(mut hsm) = self.own_client(peer, channel, &[Capability::Points], seed)? else {
            return Ok(Err(NoPoint::Later));
        };
        Ok(hsm.ask(&GetCommitmentPoint { number }).map_err(|e| NoPoint::Refused(e.to_string())))
    }
    /// Is this channel, which just began, one that we can close alone: are our keys in it, and did
    /// the peer sign our first commitment? `Err` says why not.
    pub fn judge_opening(
        &mut self,
        peer: NodeId,
        channel: ChannelNumber,
        seed: ChannelSeed,
        first: impl FnOnce(Point) -> CommitmentState,
        signatures: CommitmentSignatures,
    ) -> Result<Result<(), String>, Fatal> {
        let rights = [Capability::Points, Capability::Revoke];
        // A seed that contradicts what hsmd knows gets no client: the first question finds the
        // socket closed.
        let Some(mut hsm) = self.own_client(peer, channel, &rights, seed)? else {
            return Ok(Err(IN_FLIGHT.to_owned()));
        };
        let point = match hsm.ask(&GetCommitmentPoint { number: CommitmentNumber::FIRST }) {
            Ok(point) => point,
            Err(why) => return Ok(Err(why.to_string())),
        };
        let question = ValidateLocalCommitment { state: first(point), signatures };
        Ok(match hsm.ask(&question) {
            Ok(Verdict::Good) => Ok(()),
            Ok(Verdict::Bad { why }) => Err(why),
            Err(why) => Err(why.to_string()),
        })
    }
    /// A client socket for a child, with these rights and nothing else. Refused where there is no
    /// descriptor for it, or too many are on their way: that is no failure of hsmd's.
    pub fn new_client(
        &mut self,
        peer: NodeId,
        channel: ChannelNumber,
        rights: &[Capability],
        seed: Option<ChannelSeed>,
    ) -> Result<OwnedFd, Stop> {
        let sockets = subdaemon::stream_pair()
            .map_err(|e| Stop::refused(format!("no socket for a client of hsmd: {e}")))?;
        let client = NewClient { peer, channel, rights: Rights::of(rights), seed };
        self.introduce(sockets, client)?.ok_or_else(|| Stop::refused(IN_FLIGHT))
    }
    /// A client of the master's own, for a few questions. `None` where too many descriptors are in
    /// flight, or none is left.
    fn own_client(
        &mut self,
        peer: NodeId,
        channel: ChannelNumber,
        rights: &[Capability],
        seed: ChannelSeed,
    ) -> Result<Option<Hsm>, Fatal> {
        if self.spare.is_none() {
            // The one before has given its descriptors back.
            self.spare = subdaemon::stream_pair().ok();
        }
        let Some(sockets) = subdaemon::stream_pair().ok().or_else(|| self.spare.take()) else {
            return Ok(None);
        };
        let client = NewClient { peer, channel, rights: Rights::of(rights), seed: Some(seed) };
        let introduced = self.introduce(sockets, client)?;
        introduced.map(|socket| patient(socket, self.patience)).transpose()
    }
    fn introduce(
        &mut self,
        (ours, theirs): (OwnedFd, OwnedFd),
        client: NewClient,
    ) -> Result<Option<OwnedFd>, Fatal> {
        let done = self.line.ask_with(&client, &[theirs.as_fd()]);
        Ok(done.map_err(|e| Fatal(e.to_string()))?.map(|_| ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::hsm::GetBasepoints;

    /// What another program of the user's may bring about ends nothing: a child is refused, and the
    /// master asks later.
    #[test]
    fn client_waits_while_too_many_descriptors_are_on_their_way() {
        let name = "client_waits_while_too_many_descriptors_are_on_their_way";
        if !crate::testing::as_somebody_else(name) {
            return;
        }
        let rig = crate::testing::Rig::new("hsm-in-flight", &[(1, 2)]);
        let (ours, theirs) = subdaemon::stream_pair().unwrap();
        let mut hsm = HsmClient::new(ours).unwrap();
        let held = crate::testing::descriptors_on_their_way();
        let rights = [Capability::Points];
        let (peer, channel) = (NodeId([2; 33]), ChannelNumber(1));
        let refused = hsm.new_client(peer, channel, &rights, None).unwrap_err();
        assert!(matches!(refused, Stop::Refused(_)), "{refused:?}");
        let seed =
            crate::rooms::channels::seed::hsm_seed(&rig.node.channels.all[&ChannelNumber(1)]);
        let point = hsm.commitment_point(peer, channel, seed, CommitmentNumber::FIRST).unwrap();
        assert_eq!(point, Err(NoPoint::Later));
        drop(held);
        // Nothing of the questions before is on the line.
        let hsmd = std::thread::spawn(move || {
            let mut hsmd = subdaemon::Conn::new(theirs);
            let frame = hsmd.recv().unwrap();
            hsmd.send(&subdaemon::answer_frame::<NewClient>(&()), &[]).unwrap();
            frame.fds.len()
        });
        assert!(hsm.new_client(peer, channel, &rights, None).is_ok());
        assert_eq!(hsmd.join().unwrap(), 1);
    }

    /// It lives, holds its socket, and reads nothing.
    #[test]
    fn hsmd_that_hangs_ends_the_node_rather_than_hanging_it() {
        let (ours, _theirs) = subdaemon::stream_pair().unwrap();
        let mut hsm = HsmClient::with_patience(ours, Duration::from_millis(10)).unwrap();
        let fatal = hsm.ask(&GetBasepoints {}).unwrap_err();
        assert!(fatal.0.contains("hsmd hangs"), "{fatal}");
    }
}
