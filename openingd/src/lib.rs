//! openingd: one peer, one attempt at a channel, from `open_channel` to both first commitments. BOLT 2, "Channel
//! Establishment v1".
//!
//! It holds no secret and writes nothing down: hsmd signs, and until the master has heard `Opened` there is no channel. It
//! builds no funding transaction, and as accepter it does not send `funding_signed`: whoever says that must have the channel
//! on disk, so channeld does.
//!
//! `channel::opening` is the law, as pure questions about messages; `opener` and `accepter` read like the figure in BOLT 2;
//! `line` is who may speak when. `CHECKLIST.md` names every MUST and the test
//! that shows it.
#![deny(clippy::indexing_slicing)]

mod accepter;
mod line;
mod opener;
mod signing;

use crate::line::Line;
use channel::opening::Refusal;
use channel::opening::agreement::Beginning;
use primitives::Signature;
use std::time::Duration;
use subdaemon::{Child, Failure, Hsm, Orders, Peer, Sandbox};
use wire::channel_data::CommitmentSignatures;
use wire::openingd::{Opened, ToOpeningd};

/// What differs between a node and a test.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Go into the box before anything is read.
    pub sandbox: bool,
    /// How long a peer may think about a message of ours.
    pub patience: Duration,
    /// How long a peer may take to build its funding: people sign by hand.
    pub funding_patience: Duration,
}

impl Default for Settings {
    /// A node's.
    fn default() -> Self {
        Self {
            sandbox: true,
            patience: Duration::from_secs(600),
            funding_patience: Duration::from_secs(3600),
        }
    }
}

//~ The tour comes from connectd, and now there are two: whoever reads `opener` and `accepter` side by side has read BOLT 2's
//~ figure of an opening. What is refused, and by which words, is in `channel::opening`. Then go on to channeld.
/// From birth to hand-over.
pub fn run(child: Child, settings: &Settings) -> Result<(), Failure> {
    let Child { mut orders, master, sandbox, .. } = child;
    if settings.sandbox {
        subdaemon::enter_sandbox(&Sandbox::Leaf, sandbox)?;
    }
    let (init, mut fds) = orders.recv_as(ToOpeningd::decode_known)?;
    let hsm = Hsm::new(Orders::take_fd(&mut fds, "hsmd socket")?);
    let peer = Peer::new(Orders::take_fd(&mut fds, "peer socket")?);

    let (mut line, outcome) = match init {
        ToOpeningd::OpenInit(init) => {
            let mut line = Line::new(orders, master, hsm, peer, init.temporary_id, settings);
            let outcome = opener::open(&mut line, init);
            (line, outcome)
        }
        ToOpeningd::AcceptInit(init) => {
            let mut line = Line::new(orders, master, hsm, peer, init.temporary_id, settings);
            let outcome = accepter::accept(&mut line, init, settings.funding_patience);
            (line, outcome)
        }
        ToOpeningd::CompleteFunding(_)
        | ToOpeningd::CancelOpening(_)
        | ToOpeningd::AcceptProposed(_) => return Err(Failure::internal("no init")),
    };
    match outcome {
        Ok(opened) => line.hand_over(&opened),
        Err(failure) => {
            line.tell(&failure);
            Err(failure)
        }
    }
}

/// The peer's fault, as the peer hears it.
fn at_fault(why: impl Into<Refusal>) -> Failure {
    Failure::PeerError(why.into().to_string())
}

/// What the master stores, and channeld is born with.
fn opened(
    beginning: &Beginning,
    signatures: CommitmentSignatures,
    funding_signed: Option<Signature>,
    minimum_depth: u32,
) -> Result<Opened, Failure> {
    let state = beginning.state(signatures);
    // channeld will not live with a state that contradicts itself: better that we do not say it.
    channel::Channel::new(state.clone()).map_err(Failure::internal)?;
    let agreement = beginning.agreement();
    Ok(Opened {
        channel: beginning.channel_id(),
        state,
        announce: agreement.proposal.announce,
        funding_signed,
        minimum_depth,
        upfront_script: agreement.words.clone().map(|word| word.upfront_script),
        feerate: agreement.proposal.feerate,
    })
}
