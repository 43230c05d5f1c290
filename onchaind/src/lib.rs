//! onchaind: one channel whose funding was spent by a commitment, until nothing of it is left to
//! take.
//!
//! It is told what the chain shows and says what follows ([`wire::onchaind::Resolution`]): which
//! outputs are ours, how each is taken and until when, which preimages were shown, which HTLCs
//! failed. It watches nothing, signs nothing, publishes nothing and stores nothing; the master does
//! the first and the last two, hsmd the other.
//!
//! [`Resolver`] is all of it, without I/O. Whatever it says follows from facts alone, anew each
//! time: the rows, the transactions in blocks, the preimages that are known. So a restart is
//! nothing special, and a reorganisation is fewer facts. Preimages alone are never unlearned, for
//! as long as the process lives: the master stores the first word it hears of an HTLC (learned or
//! failed) and keeps to it. After a restart onchaind may not know any more what only the mempool,
//! or a block that is gone, has shown; and an HTLC that had failed may turn out learned, if the
//! peer shows later what opens another of its hash.
//!
//! # BOLT 5, and the test that shows it
//!
//! * watch every output until it is irrevocably resolved; resolve it again after a
//!   reorganisation: `reorganisation_takes_back_everything_but_what_was_learned`,
//!   `tests/model.rs`
//! * our commitment: wait for the delay, then spend to_local:
//!   `our_commitment_is_taken_output_by_output`
//! * our commitment: an offered HTLC that timed out comes back by HTLC-timeout, whose output is
//!   spent after the delay: the same
//! * our commitment: a received HTLC whose preimage is known is taken by HTLC-success, whose
//!   output likewise: the same
//! * the peer's: offered HTLCs after their expiry, received ones with the preimage, at once:
//!   `peers_commitment_is_taken_output_by_output`
//! * the peer's: both that count, while one awaits its revocation:
//!   `peers_previous_commitment_counts_until_it_is_revoked`
//! * extract preimages from whatever spends an HTLC output:
//!   `preimage_counts_wherever_it_is_shown`, and one for each kind of close
//! * an HTLC without output: fulfil upstream if the preimage is known:
//!   `preimage_that_was_said_before_the_end_is_not_forgotten`
//! * ... else fail it at reasonable depth; at once if no commitment that counts has its output:
//!   `peers_previous_commitment_counts_until_it_is_revoked`,
//!   `our_commitment_is_taken_output_by_output`
//! * ... and before the incoming one expires:
//!   `htlc_without_output_fails_in_time_for_its_incoming_one`
//! * an unresolved output whose incoming HTLC is about to expire: leave the choice to the
//!   master: `unresolved_htlc_is_overdue_before_its_incoming_one_expires`
//! * a timed-out output: fail upstream once what took it is deep:
//!   `our_commitment_is_taken_output_by_output`
//! * a received HTLC without preimage is left alone, and resolved by its expiry: the same
//! * a revoked one: to_local, every HTLC output, and the outputs of HTLC transactions, with the
//!   revocation key: `revoked_commitment_is_ours_altogether`,
//!   `revoked_htlc_transactions_are_taken_at_their_inputs_index`
//! * handle its transactions being overtaken by HTLC transactions:
//!   `four_htlcs_are_resolved_in_every_order`, `tests/model.rs`
//! * a commitment that cannot be handled: say so, and salvage to_remote:
//!   `commitment_from_the_future_leaves_us_our_own_output`
//!
//! Where BOLT 5 leaves a choice: "reasonable depth" is [`DEPTH`] blocks *on top*, so that a
//! reorganisation of as many undoes nothing that was concluded. An HTLC without output whose
//! incoming one expires within [`HASTE`] blocks fails sooner; one with an output that the peer can
//! still take is reported as overdue then: lightningd fails its incoming one back if less is at
//! stake than a close of that channel costs. A preimage fulfils every HTLC of its hash that we
//! offered: upstream then pays us for each, and the peer took at most as many. HTLCs are told apart
//! by identity and outputs by script and amount, in BOLT 3's order; a hash is never looked for
//! among outputs. An anchor is not claimed: it costs more than it holds. What may be ours in a
//! commitment that our rows do not know is given up two weeks after its expiry.
#![deny(clippy::indexing_slicing)]

mod chain;
mod claim;
mod close;
mod resolve;
mod status;

pub use chain::OutOfOrder;
pub use resolve::{BadStart, DEPTH, HASTE, Resolver};

use subdaemon::{Child, Failure, Master, Sandbox};
use wire::onchaind::*;

/// Settings that differ between a node and a test.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Go into the box before anything is read.
    pub sandbox: bool,
}
impl Default for Settings {
    /// A node's.
    fn default() -> Self {
        Self { sandbox: true }
    }
}

/// So many orders are heeded before what follows from them is said, where they come faster than
/// that.
const AT_ONCE: usize = 256;

//~ The tour's last stop, after closingd. The channel is over; `close` says what is on the
//~ table, `claim` how each piece is taken, `resolve` what follows from who took what. What
//~ becomes of it is lightningd's business again, where the tour began.
/// onchaind, from its start until lightningd ends it.
pub fn run(child: Child, settings: &Settings) -> Result<(), Failure> {
    let Child { mut orders, master, sandbox, .. } = child;
    if settings.sandbox {
        subdaemon::enter_sandbox(&Sandbox::Leaf, sandbox)?;
    }
    let (order, _) = orders.recv_as(ToOnchaind::decode_known)?;
    let ToOnchaind::OnchaindInit(init) = order else {
        return Err(Failure::internal("the first order is not its init"));
    };
    let mut resolver = Resolver::new(init).map_err(Failure::internal)?;
    let mut said = resolver.resolution();
    master.status(Some(status::lasting(&said.close)), None)?;
    say(&master, &resolver, &said)?;
    master.report(&OnchainHeeded { tip: resolver.tip() })?;
    loop {
        let (order, _) = orders.recv_as(ToOnchaind::decode_known)?;
        heed(&mut resolver, order)?;
        for _ in 1..AT_ONCE {
            if !orders.is_ready()? {
                break;
            }
            let (order, _) = orders.recv_as(ToOnchaind::decode_known)?;
            heed(&mut resolver, order)?;
        }
        let now = resolver.resolution();
        if now != said {
            say(&master, &resolver, &now)?;
            said = now;
        } else {
            master.status(None, Some(&status::passing(&said, resolver.tip())))?;
        }
        master.report(&OnchainHeeded { tip: resolver.tip() })?;
    }
}

fn say(master: &Master, resolver: &Resolver, resolution: &Resolution) -> Result<(), Failure> {
    master.status(None, Some(&status::passing(resolution, resolver.tip())))?;
    master.report(&Resolved { resolution: resolution.clone() })
}

fn heed(resolver: &mut Resolver, order: ToOnchaind) -> Result<(), Failure> {
    match order {
        ToOnchaind::OnchaindInit(_) => Err(Failure::internal("a second init")),
        ToOnchaind::OnchainBlock(block) => resolver.block(block).map_err(Failure::internal),
        ToOnchaind::OnchainReorg(reorg) => resolver.reorg(&reorg).map_err(Failure::internal),
        ToOnchaind::OnchainPreimage(known) => {
            resolver.preimage(&known);
            Ok(())
        }
        ToOnchaind::OnchainUnconfirmed(seen) => {
            resolver.unconfirmed(&seen);
            Ok(())
        }
    }
}
