//! The log, which strangers would fill: by one message, and by very many.

use crate::crowds::fake;
use primitives::*;
use serde_json::json;
use tests::stranger::*;
use tests::wait_for;
use wire::{Rest, TxAbort, Warning};

/// What one stranger may have written at once, and what all may: with room for what passes
/// meanwhile, a second's share each second.
const OF_ONE: u64 = 64 * 1024;
const OF_ALL: u64 = 512 * 1024;

/// How much the log has grown by what a stranger says before it hangs up.
fn grown(world: &World, mut stranger: Stranger, by: impl FnOnce(&mut Stranger)) -> u64 {
    let before = world.node.log_size();
    let begun = std::time::Instant::now();
    by(&mut stranger);
    stranger.hang_up();
    wait_for("the end of the connection", || {
        (world.node.rpc("getinfo", &json!({}))["num_peers"] == 0).then_some(())
    });
    let share = 2048 * (begun.elapsed().as_secs() + 1);
    (world.node.log_size() - before).saturating_sub(share)
}

#[test]
fn log_of_one_65_kb_message_is_2_kb_at_most() {
    let world = World::new();
    for bits in [vec![0xff; 60_000], vec![0x55; 60_000]] {
        let mut open = Plan::new(1).open_channel(ChannelId([7; 32]));
        open.channel_type = Some(Rest(bits));
        let bytes = grown(&world, Stranger::meet(1, &world), |stranger| stranger.say(&open));
        assert!(bytes < 4096, "{bytes} bytes of log");
    }
    // Nor does it push everything else out of what getlog shows.
    let log = world.node.rpc("getlog", &json!(["debug"]));
    let lines = log["log"].as_array().unwrap();
    assert!(lines.iter().all(|l| l["log"].as_str().is_none_or(|text| text.len() <= 2000)));
    assert!(lines.iter().any(|l| l["log"].as_str().is_some_and(|text| text.starts_with("v26"))));
}

#[test]
fn log_of_a_flooding_stranger_is_bounded_and_counts_omissions() {
    let world = World::new();
    let live = fake(Stranger::meet(1, &world), 1);
    let channel_id = live.id;
    let bytes = grown(&world, live.stranger, |stranger| {
        for n in 0..10_000 {
            let data = format!("{n}").repeat(40).into_bytes();
            stranger.say(&TxAbort { channel_id, data });
        }
    });
    assert!(bytes > 10_000 && bytes < OF_ONE + 4096, "{bytes} bytes of log");
    // Strangers with a new name each time have one share together.
    let mut all = 0;
    for n in 2..30 {
        all += grown(&world, Stranger::meet(n, &world), |stranger| {
            for m in 0..500u64 {
                stranger.say(&Warning::new(ChannelId([0; 32]), &format!("{m}").repeat(100)));
            }
        });
    }
    assert!(all < OF_ALL, "{all} bytes of log");
    // Who has fallen silent is counted with all strangers.
    world.node.wait_log("more lines of ");
}
