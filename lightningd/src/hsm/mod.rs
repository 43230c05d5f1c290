//! The master's line to hsmd. The one thing the master waits for.

use crate::turn::Fatal;
use primitives::{ChannelNumber, CommitmentNumber, NodeId, Point};
use std::os::fd::{AsFd, OwnedFd};
use subdaemon::Hsm;
use wire::Request;
use wire::channel_data::{CommitmentSignatures, CommitmentState};
use wire::hsm::{
    Capability, ChannelSeed, GetCommitmentPoint, MasterOrder, NewClient, Rights,
    ValidateLocalCommitment, Verdict,
};

/// Right: everything. hsmd dying stops the node, so every failure here is fatal.
#[derive(Debug)]
pub struct HsmClient(Hsm);

impl HsmClient {
    /// Over the master's own client socket.
    pub fn new(fd: OwnedFd) -> Self {
        Self(Hsm::new(fd))
    }
    /// Asks, and waits for the answer.
    pub fn ask<R: Request>(&mut self, question: &R) -> Result<R::Answer, Fatal> {
        self.0.ask(question).map_err(|e| Fatal(e.to_string()))
    }
    /// Tells hsmd what is stored; hsmd does not answer. If hsmd reads the question of a client that needs it first, it keeps that
    /// question until this message arrives. `Err`: hsmd is gone.
    pub fn order(&mut self, order: &MasterOrder) -> Result<(), Fatal> {
        match order {
            MasterOrder::RevocationStored(o) => self.0.order(o),
            MasterOrder::ClosingStored(o) => self.0.order(o),
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
        let socket = self.new_client(peer, channel, &[Capability::Points], Some(seed))?;
        Ok(Hsm::new(socket).ask(&GetCommitmentPoint { number }).map_err(|e| e.to_string()))
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
        let mut hsm = Hsm::new(self.new_client(peer, channel, &rights, Some(seed))?);
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
    /// A client socket for a child, with these rights and nothing else.
    pub fn new_client(
        &mut self,
        peer: NodeId,
        channel: ChannelNumber,
        rights: &[Capability],
        seed: Option<ChannelSeed>,
    ) -> Result<OwnedFd, Fatal> {
        let sockets = subdaemon::stream_pair()
            .map_err(|e| Fatal(format!("no socket for a client of hsmd: {e}")))?;
        let (ours, theirs) = sockets;
        let question = NewClient { peer, channel, rights: Rights::of(rights), seed };
        self.0.ask_with(&question, &[theirs.as_fd()]).map_err(|e| Fatal(e.to_string()))?;
        Ok(ours)
    }
}
