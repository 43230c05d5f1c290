//! Openings by strangers.

use tests::stranger::*;

#[test]
fn an_honest_stranger_gets_a_channel() {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.lock_in(&world);
}
