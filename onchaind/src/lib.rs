//! onchaind: one channel whose funding was spent by a commitment, until nothing of it is left to take.
//!
//! It is told what the chain shows and says what follows ([`wire::onchaind::Resolution`]): which outputs are ours, how each is
//! taken and until when, which preimages were shown, which HTLCs failed. It watches nothing, signs nothing, publishes
//! nothing and stores nothing; the master does the first and the last two, hsmd the other.
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

/// What differs between a node and a test.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Go into the box once the init is read.
    pub sandbox: bool,
}
impl Default for Settings {
    /// A node's.
    fn default() -> Self {
        Self { sandbox: true }
    }
}

/// So many orders are heeded before what follows from them is said, where they come faster than that.
const AT_ONCE: usize = 256;

//~ The tour's last stop. The channel is over; `close` says what is on the table, `claim` how each piece is taken, `resolve`
//~ what follows from who took what. What becomes of it is lightningd's business again, where the tour began.
/// From birth to the master's end of it.
pub fn run(child: Child, settings: &Settings) -> Result<(), Failure> {
    let Child { mut orders, master, .. } = child;
    let (order, _) = orders.recv_as(ToOnchaind::decode_known)?;
    let ToOnchaind::OnchaindInit(init) = order else {
        return Err(Failure::internal("the first order is not its init"));
    };
    if settings.sandbox {
        subdaemon::enter_sandbox(Sandbox::Leaf);
    }
    let mut resolver = Resolver::new(init).map_err(Failure::internal)?;
    let mut said = resolver.resolution();
    master.status(Some(status::lasting(&said.close)), None)?;
    say(&master, &resolver, &said)?;
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
