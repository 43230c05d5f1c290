//! The database is put back to an earlier state, and the node started on it.
//!
//! A file beside the database says so (`lightningd-revocations`), or the peer does. The node
//! publishes nothing that it may have revoked; its peers close; and everybody has what the channels
//! said before, but for what miners get. The one exception is a channel that the old database never
//! knew: nobody can find its money without a backup of the channel itself.

use super::channels::{MOST_FEES, next_number, reissued, wealth};
use super::{Who, World};
use serde_json::{Value, json};

/// How long anything here may take, in blocks.
const BLOCKS: u32 = 200;
/// What the node may say aloud: that its rows are old, and what follows from that.
const KNOWN: [&str; 2] = ["this database is old", "our data is old"];

/// Back to the n-th commit of the scenario that was run last; then whatever follows from that.
pub fn run(world: &mut World, number: u64) {
    let had = Who::ALL.map(|who| wealth(world, who));
    let target = world.target;
    let shares = shares(world, target);
    let next = next_number(world, target);
    world.put_back(number);
    world.pump();
    // A peer that has seen secrets of a channel's must not meet another under its number: it could
    // take all of that.
    assert!(next_number(world, target) >= next, "a channel's number is given twice");
    let known = channels(world, target).expect("the node answers");
    let unknown: u64 = shares
        .iter()
        .filter(|(id, _)| !known.iter().any(|c| c["channel_id"] == id.as_str()))
        .map(|(_, sat)| sat)
        .sum();
    super::channels::mine_until(world, BLOCKS, "every channel to live or to be resolved", |w| {
        Who::ALL.into_iter().all(|who| is_done(w, who))
    });
    world.line.bitcoind.mine(6);
    world.sync();
    for who in Who::ALL {
        for channel in channels(world, who).expect("the node answers") {
            let close = &channel["close_reason"]["evidence"]["close"];
            // Whoever lives with the node under test has nothing to punish.
            assert!(who == target || close != "remote_revoked", "{}: {channel}", who.name());
        }
    }
    // Three channels may end.
    let fees = 3 * MOST_FEES;
    for (who, had) in Who::ALL.into_iter().zip(had) {
        let lost = if who == target { unknown } else { 0 };
        let has = wealth(world, who);
        // What payments left below a satoshi goes to one or the other.
        let due = had - lost;
        assert!(
            (due.saturating_sub(fees)..=due + 3).contains(&has),
            "{} has {has} of {due}",
            who.name()
        );
    }
    assert_eq!(reissued(world, target), 0, "an address is issued again");
    world.check_logs_but(&KNOWN);
}

fn channels(world: &World, who: Who) -> Option<Vec<Value>> {
    let list = world.node(who).call("listpeerchannels", &json!({})).ok()?;
    list["channels"].as_array().cloned()
}

/// What of each channel is this node's, in satoshi.
fn shares(world: &World, who: Who) -> Vec<(String, u64)> {
    let share = |c: &Value| {
        let live = c["state"].as_str()?.starts_with("CHANNELD");
        let msat = c["to_us_msat"].as_u64()?;
        live.then(|| c["channel_id"].as_str().map(|id| (id.to_owned(), msat / 1000)))?
    };
    channels(world, who).expect("the node answers").iter().filter_map(share).collect()
}

/// Does each channel of this node live, with both ends in agreement, or is all of it resolved on
/// chain?
fn is_done(world: &World, who: Who) -> bool {
    let done = |c: &Value| match c["state"].as_str() {
        Some("CHANNELD_NORMAL") => {
            c["reestablished"] == true && c["htlcs"].as_array().is_some_and(Vec::is_empty)
        }
        Some("ONCHAIN") => {
            let mutual = c["close_reason"]["evidence"]["close"] == "mutual";
            let resolved = |o: &Value| o["resolved"] == true;
            mutual || c["onchain_outputs"].as_array().is_some_and(|all| all.iter().all(resolved))
        }
        _ => false,
    };
    channels(world, who).is_some_and(|all| all.iter().all(done))
}
