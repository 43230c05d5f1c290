//! Channels from their opening to their end, beside those of the line.

use super::{Who, World};
use crate::Bitcoind;
use serde_json::{Value, json};
use std::time::Duration;

/// What each channel has, in satoshi.
pub const SAT: u64 = 1_000_000;
/// The most that one end may lose to miners in one scenario, in satoshi: far less than any HTLC.
pub const MOST_FEES: u64 = 30_000;
/// The ends of the channels in question.
pub const BOTH: [Who; 2] = [Who::L1, Who::L2];

/// What is the node's, on chain and in the channels that live, in satoshi.
pub fn wealth(world: &mut World, who: Who) -> u64 {
    world.wait("what the node has", |w| {
        let funds = w.node(who).call("listfunds", &json!({})).ok()?;
        let sum = |list: &Value, name: &str| -> u64 {
            let list = list.as_array().into_iter().flatten();
            list.map(|o| o[name].as_u64().unwrap_or(0)).sum()
        };
        let live = |c: &&Value| {
            let state = c["state"].as_str().unwrap_or_default();
            state.starts_with("CHANNELD") || state == "CLOSINGD_SIGEXCHANGE"
        };
        let channels: Vec<Value> =
            funds["channels"].as_array()?.iter().filter(live).cloned().collect();
        let msat = sum(&funds["outputs"], "amount_msat") + sum(&json!(channels), "our_amount_msat");
        Some(msat / 1000)
    })
}

/// No coin may stay reserved for what was given up.
fn check_coins(world: &mut World) {
    for who in BOTH {
        world.wait("coins to be free", |w| {
            let funds = w.node(who).call("listfunds", &json!({})).ok()?;
            let free = |o: &Value| o["reserved"] == false && o["status"] != "unconfirmed";
            funds["outputs"].as_array()?.iter().all(free).then_some(())
        });
    }
}

/// The number that the next channel of this node gets.
pub fn next_number(world: &World, who: Who) -> u64 {
    number(world, who, "SELECT value FROM vars WHERE key = 'next_channel_number'")
}
/// The number of the newest channel.
pub fn last_number(world: &World, who: Who) -> u64 {
    number(world, who, "SELECT max(number) FROM channels")
}
fn number(world: &World, who: Who, sql: &str) -> u64 {
    let path = world.node(who).network_dir().join("lightningd.sqlite3");
    let db = rusqlite::Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

/// Addresses that were paid and could be issued again: none, or who pays them twice is seen to.
pub fn reissued(world: &World, who: Who) -> u64 {
    let last = "(SELECT value FROM vars WHERE key = 'wallet_last_index')";
    number(world, who, &format!("SELECT count(*) FROM outputs WHERE key_index > {last}"))
}

/// The channels of these two, as the first has them.
fn ids(world: &World, [who, peer]: [Who; 2]) -> Option<Vec<String>> {
    let peer = &world.node(peer).id;
    let list = world.node(who).call("listpeerchannels", &json!({"id": peer})).ok()?;
    let id = |c: &Value| c["channel_id"].as_str().map(str::to_owned);
    Some(list["channels"].as_array()?.iter().filter_map(id).collect())
}

/// Opens a channel from l1 to l2, and mines until it carries payments.
pub fn open(world: &mut World) -> String {
    open_between(world, BOTH)
}
/// The same from the first of these to the second.
pub fn open_between(world: &mut World, ends: [Who; 2]) -> String {
    let known = world.wait("the opener's channels", |w| ids(w, ends));
    let [opener, other] = ends;
    let to = json!({"id": world.node(other).id, "amount": SAT});
    let id = world.wait("the channel to be opened", |w| {
        let new = |w: &World| ids(w, ends)?.into_iter().find(|id| !known.contains(id));
        if let Some(id) = new(w) {
            return Some(id);
        }
        let _ = w.node(opener).call("fundchannel", &to);
        new(w)
    });
    mine_until(world, 20, "the channel to be ready", |w| {
        ends.iter().all(|who| {
            let channel = w.channel(*who, &id);
            channel["state"] == "CHANNELD_NORMAL" && channel["reestablished"] == true
        })
    });
    id
}

/// Blocks, one by one, until this holds. After each there is time for what it brings about.
pub fn mine_until(world: &mut World, most: u32, what: &str, done: impl Fn(&World) -> bool) {
    for _ in 0..most {
        world.sync();
        // Two views of the moment after a block: what is about to be published is not yet.
        for _ in 0..12 {
            if done(world) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
            world.pump();
        }
        world.line.bitcoind.mine(1);
    }
    world.wait(what, |w| done(w).then_some(()));
}

/// The channels that ended are buried from time to time: their processes end with that.
pub fn bury(world: &mut World) {
    if world.serial().is_multiple_of(6) {
        world.line.bitcoind.mine(100);
        world.sync();
    }
}

fn pool(bitcoind: &Bitcoind) -> usize {
    bitcoind.rpc("getrawmempool", &json!([])).as_array().map_or(0, Vec::len)
}

/// l1 opens a channel to l2.
pub fn opened(world: &mut World) {
    let before = BOTH.map(|who| wealth(world, who));
    let number = next_number(world, world.target);
    world.begin(number);
    let id = open(world);
    world.finish();
    world.settled(&id, BOTH);
    check_coins(world);
    check_wealth(world, before, 0);
    world.check_logs();
    if world.copies_are_taken() {
        // What becomes of it is what is asked.
        return;
    }
    close(world, &id);
    bury(world);
}

/// l1 gave this much to l2, and both not too much to miners.
fn check_wealth(world: &mut World, before: [u64; 2], moved: u64) {
    let [l1, l2] = BOTH.map(|who| wealth(world, who));
    let least = |had: u64| had - MOST_FEES;
    let (due1, due2) = (before[0] - moved, before[1] + moved);
    assert!((least(due1)..=due1).contains(&l1), "l1 has {l1} of {due1}");
    assert!((least(due2)..=due2).contains(&l2), "l2 has {l2} of {due2}");
}

/// Both agree to end a channel; its closing is in a block.
fn close(world: &mut World, id: &str) {
    close_seen(world, id, |_, _| {});
}

/// The same, with somebody who sees each state of the channel at l1.
fn close_seen(world: &mut World, id: &str, mut seen: impl FnMut(&World, &str)) {
    let params = json!({"id": id, "unilateraltimeout": 0});
    world.wait("the closing to be agreed on", |w| {
        let state = w.channel(Who::L1, id)["state"].as_str()?.to_owned();
        seen(w, &state);
        if state.starts_with("CHANNELD_NORMAL") {
            // It is answered when the peer agrees, who may have to be started again for that.
            let _ = w.line.l1.call_within(Duration::from_millis(100), "close", &params);
        }
        (state == "CLOSINGD_COMPLETE" || state == "FUNDING_SPEND_SEEN" || state == "ONCHAIN")
            .then_some(())
    });
    mine_until(world, 10, "the closing to be in a block", |w| {
        BOTH.iter().all(|who| w.channel(*who, id)["state"] == "ONCHAIN")
    });
    for who in BOTH {
        let close = world.channel(who, id)["close_reason"]["evidence"]["close"].clone();
        assert_eq!(close, "mutual", "{}", who.name());
    }
}

/// A channel at rest is closed by both.
pub fn closed(world: &mut World) {
    closed_while(world, |_, _| {});
}

/// The same, and the connection ends at each step that somebody sees.
pub fn closed_again(world: &mut World) {
    let mut last = String::new();
    closed_while(world, |w, state| {
        if *state != *last && state != "CHANNELD_NORMAL" {
            state.clone_into(&mut last);
            let [closer, closee] = BOTH.map(|who| w.node(who));
            // Who is dead at the moment has hung up.
            let _ = closee.call("disconnect", &json!({"id": closer.id, "force": true}));
        }
    });
}

fn closed_while(world: &mut World, seen: impl FnMut(&World, &str)) {
    let id = open(world);
    world.settled(&id, BOTH);
    let before = BOTH.map(|who| wealth(world, who));
    let number = last_number(world, world.target);
    world.begin(number);
    close_seen(world, &id, seen);
    world.finish();
    world.sync();
    check_coins(world);
    check_wealth(world, before, 0);
    assert_eq!(pool(&world.line.bitcoind), 0, "something is left to publish");
    world.check_logs();
    bury(world);
}
