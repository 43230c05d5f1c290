//! A fee update: the opener comes back from a restart with other ideas of what a commitment should
//! pay.

use super::payments::ledger;
use super::{Who, World};

/// l1 is started again with another feerate, and both ends of its channel arrive there.
pub fn updated(world: &mut World) {
    let before = ledger(world);
    let rate = 2000 + 2000 * (world.serial() % 2);
    world.line.l1.replace_arg("--force-feerates=", &rate.to_string());
    let id = world.line.first.clone();
    world.begin(1);
    world.line.l1.kill();
    // The node under test is started by whoever watches it.
    if world.target != Who::L1 {
        world.line.l1.start_again();
    }
    for who in [Who::L1, Who::L2] {
        world.wait("the new feerate", |w| {
            (w.channel(who, &id)["feerate"]["perkw"].as_u64() == Some(rate)).then_some(())
        });
    }
    let after = ledger(world);
    world.finish();
    world.sync();
    assert_eq!(after, before, "a fee update moves nothing");
    world.check_logs();
}
