//! Random lives of a channel, any commitment that was ever signed, and an adversary who orders the
//! chain: nobody has less than the protocol grants.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::dice::{Dice, lived};
use common::model::Model;
use common::*;
use primitives::*;

/// Plays the close of one of the commitments of a channel that lived by this seed.
fn play(seed: u64, world: fn(bool) -> World) {
    let mut dice = Dice::new(seed);
    let mut world = world(dice.one_in(2));
    let steps = dice.below(60);
    lived(&mut world, &mut dice, steps);
    // What no commitment has, nobody remembers.
    world.ours = world.ours.after_disconnect();
    let made = if dice.one_in(3) {
        world.newest(Side::Local).clone()
    } else {
        let count = world.made.remote.len() as u64;
        // Any; more often one of the last.
        let back = dice.below(count).min(dice.below(count));
        world.made.remote[(count - 1 - back) as usize].clone()
    };
    let valid: Vec<_> = {
        let revoked = world.ours.revoked().remote.0 as usize;
        let remote = world.made.remote.iter().skip(revoked);
        remote.chain(world.made.local.last()).cloned().collect()
    };
    let other = valid[dice.below(valid.len() as u64) as usize].clone();
    let swaps = dice.one_in(4);
    let mut model = Model::new(world, made, dice);
    if swaps {
        model.swaps(other);
    }
    model.plays();
}

fn play_all(seeds: std::ops::Range<u64>, world: fn(bool) -> World) {
    for seed in seeds {
        let played = std::panic::catch_unwind(|| play(seed, world));
        if let Err(why) = played {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(why);
        }
    }
}

/// Others than usual: `SEEDS=160..161`.
fn seeds() -> Option<std::ops::Range<u64>> {
    let text = std::env::var("SEEDS").ok()?;
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

#[test]
fn balances_are_kept_whatever_confirms_in_whatever_order() {
    play_all(seeds().unwrap_or(0..1500), World::plain);
}

#[test]
fn balances_are_kept_with_scripts_executed() {
    play_all(10_000..10_060, World::signed);
}
