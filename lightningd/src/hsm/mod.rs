//! The master's line to hsmd. The one thing the master waits for.

use crate::turn::{Fatal, Stop};
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

/// hsmd answers within milliseconds, and a wallet of very many outputs within seconds. One that hangs would hang the node, which then ends
/// as if hsmd had died: whoever watches over it starts it again.
const PATIENCE: Duration = Duration::from_secs(300);

fn patient(fd: OwnedFd, patience: Duration) -> Result<Hsm, Fatal> {
    Hsm::with_patience(fd, patience).map_err(|e| Fatal(format!("the socket to hsmd: {e}")))
}

/// Right: Master. hsmd dying stops the node, so every failure here is fatal.
#[derive(Debug)]
pub struct HsmClient {
    line: Hsm,
    /// How long hsmd may take for an answer.
    patience: Duration,
    /// For a client of the master's own when no descriptor is left: a commitment that must be published does not wait for one.
    spare: Option<(OwnedFd, OwnedFd)>,
}

impl HsmClient {
    /// Over the master's own client socket.
    pub fn new(fd: OwnedFd) -> Result<Self, Fatal> {
        Self::with_patience(fd, PATIENCE)
    }
    fn with_patience(fd: OwnedFd, patience: Duration) -> Result<Self, Fatal> {
        let line = patient(fd, patience)?;
        Ok(Self { line, patience, spare: subdaemon::stream_pair().ok() })
    }
    /// Asks, and waits for the answer.
    pub fn ask<R: Request>(&mut self, question: &R) -> Result<R::Answer, Fatal> {
        self.line.ask(question).map_err(|e| Fatal(e.to_string()))
    }
    /// Has a transaction signed. Rows that a captured daemon asked for, or a wallet of very many outputs, may make a question that is
    /// longer than hsmd takes: that is refused here, since hsmd would close the node's own client.
    pub fn complete<R: Request<Answer = Completed>>(
        &mut self,
        question: &R,
    ) -> Result<Completed, Fatal> {
        match subdaemon::fits_hsmd(question) {
            Ok(()) => self.ask(question),
            Err(why) => Ok(Completed::Refused { why }),
        }
    }
    /// Tells hsmd what is stored; hsmd does not answer. If hsmd reads the question of a client that needs it first, it keeps that
    /// question until this message arrives. `Err`: hsmd is gone.
    pub fn order(&mut self, order: &MasterOrder) -> Result<(), Fatal> {
        match order {
            MasterOrder::RevocationStored(o) => self.line.order(o),
            MasterOrder::ClosingStored(o) => self.line.order(o),
        }
        .map_err(|e| Fatal(e.to_string()))
    }
    /// Our point of a commitment of this channel, whose seed hsmd knows from then on. `Err` says why not: rows that a captured
    /// daemon asked for may contradict what hsmd has judged, and cost that channel, not the node.
    pub fn commitment_point(
        &mut self,
        peer: NodeId,
        channel: ChannelNumber,
        seed: ChannelSeed,
        number: CommitmentNumber,
    ) -> Result<Result<Point, String>, Fatal> {
        let mut hsm = self.own_client(peer, channel, &[Capability::Points], seed)?;
        Ok(hsm.ask(&GetCommitmentPoint { number }).map_err(|e| e.to_string()))
    }
    /// Is this channel, which just began, one that we can close alone: are our keys in it, and did the peer sign our first
    /// commitment? `Err` says why not.
    pub fn judge_opening(
        &mut self,
        peer: NodeId,
        channel: ChannelNumber,
        seed: ChannelSeed,
        first: impl FnOnce(Point) -> CommitmentState,
        signatures: CommitmentSignatures,
    ) -> Result<Result<(), String>, Fatal> {
        let rights = [Capability::Points, Capability::Revoke];
        // A seed that contradicts what hsmd knows gets no client: the first question finds the socket closed.
        let mut hsm = self.own_client(peer, channel, &rights, seed)?;
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
    /// A client socket for a child, with these rights and nothing else. Refused where there is no descriptor for it: that is no
    /// failure of hsmd's.
    pub fn new_client(
        &mut self,
        peer: NodeId,
        channel: ChannelNumber,
        rights: &[Capability],
        seed: Option<ChannelSeed>,
    ) -> Result<OwnedFd, Stop> {
        let sockets = subdaemon::stream_pair()
            .map_err(|e| Stop::refused(format!("no socket for a client of hsmd: {e}")))?;
        Ok(self.introduce(sockets, NewClient { peer, channel, rights: Rights::of(rights), seed })?)
    }
    /// A client of the master's own, for a few questions.
    fn own_client(
        &mut self,
        peer: NodeId,
        channel: ChannelNumber,
        rights: &[Capability],
        seed: ChannelSeed,
    ) -> Result<Hsm, Fatal> {
        if self.spare.is_none() {
            // The one before has given its descriptors back.
            self.spare = subdaemon::stream_pair().ok();
        }
        let sockets = subdaemon::stream_pair()
            .or_else(|e| self.spare.take().ok_or(e))
            .map_err(|e| Fatal(format!("no socket for a client of hsmd: {e}")))?;
        let client = NewClient { peer, channel, rights: Rights::of(rights), seed: Some(seed) };
        patient(self.introduce(sockets, client)?, self.patience)
    }
    fn introduce(
        &mut self,
        (ours, theirs): (OwnedFd, OwnedFd),
        client: NewClient,
    ) -> Result<OwnedFd, Fatal> {
        self.line.ask_with(&client, &[theirs.as_fd()]).map_err(|e| Fatal(e.to_string()))?;
        Ok(ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::hsm::GetBasepoints;

    /// It lives, holds its socket, and reads nothing.
    #[test]
    fn hsmd_that_hangs_ends_the_node_rather_than_hanging_it() {
        let (ours, _theirs) = subdaemon::stream_pair().unwrap();
        let mut hsm = HsmClient::with_patience(ours, Duration::from_millis(10)).unwrap();
        let fatal = hsm.ask(&GetBasepoints {}).unwrap_err();
        assert!(fatal.0.contains("hsmd hangs"), "{fatal}");
    }
}
