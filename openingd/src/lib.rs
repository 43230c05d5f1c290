//! openingd: one peer, one attempt at a channel, from `open_channel` to both first commitments.
//! BOLT 2, "Channel Establishment v1".
//!
//! It holds no secret and writes nothing down: hsmd signs, and until the master has heard `Opened`
//! there is no channel. It builds no funding transaction, and as accepter it does not send
//! `funding_signed`: whoever says that must have the channel on disk, so channeld does.
//!
//! `channel::opening` is the law, as pure questions about messages; `opener` and `accepter` read
//! like the figure in BOLT 2; `line` is who may speak when. `CHECKLIST.md` names every MUST and the
//! test that shows it.
#![deny(clippy::indexing_slicing)]

mod accepter;
mod line;
mod opener;
mod settings;
mod signing;

pub use settings::Settings;

use crate::line::Partners;
use subdaemon::{Child, Failure, Hsm, Orders, Peer, Sandbox};
use wire::openingd::ToOpeningd;

//~ The tour comes from connectd, and now there are two: whoever reads `opener` and `accepter` side
//~ by side has read BOLT 2's figure of an opening. What is refused, and by which words, is in
//~ `channel::opening`. Then go on to channeld.
/// openingd, from its start to the hand-over.
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
            let mut line = Partners::new(orders, master, hsm, peer, init.temporary_id, settings);
            let outcome = opener::open(&mut line, init);
            (line, outcome)
        }
        ToOpeningd::AcceptInit(init) => {
            let mut line = Partners::new(orders, master, hsm, peer, init.temporary_id, settings);
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
