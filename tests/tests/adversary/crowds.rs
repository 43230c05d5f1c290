//! Crowds of strangers who open channels: what each proposal, and all of them, may cost in
//! processes, commits and log.

use crate::scenes::{node_pays, preimage};
use bitcoin::OutPoint;
use bitcoin::hashes::Hash;
use primitives::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::stranger::*;
use tests::wait_for;
use wire::{ChannelReestablish, Error, Message, OpenChannel, Rest};

/// What all strangers together may begin at once, and then each second.
const BURST: u64 = 10;
/// What one peer may begin at once, and then every ten seconds.
const BURST_OF_PEER: u64 = 10;
/// Attempts of strangers under way.
const MAX_ATTEMPTS: usize = 40;
/// Processes of strangers' channels whose funding was not seen.
const MAX_UNFUNDED_DAEMONS: usize = 40;

/// Processes that were born, and commits.
fn counters(world: &World) -> (u64, u64) {
    let all = world.node.rpc("dev-counters", &json!({}));
    (all["births"].as_u64().unwrap(), all["commits"].as_u64().unwrap())
}

fn list(world: &World) -> Vec<Value> {
    world.node.rpc("listpeerchannels", &json!({}))["channels"].as_array().unwrap().clone()
}

fn temporary(n: u64) -> ChannelId {
    ChannelId(key(n + (1 << 33)).secret_bytes())
}

/// No more processes of this kind, once those are gone whose end was ordered.
fn at_most(world: &World, daemon: &str, most: usize) {
    wait_for("processes to end", || (world.node.children(daemon).len() <= most).then_some(()));
}

/// Reads what the node had to say to all that was said so far: errors, by their texts.
fn errors_so_far(stranger: &mut Stranger) -> Vec<String> {
    // Of no channel: the answer comes last.
    let last = ChannelId([0xee; 32]);
    stranger.say(&ChannelReestablish {
        channel_id: last,
        next_commitment_number: 1,
        next_revocation_number: 0,
        your_last_per_commitment_secret: [0; 32],
        my_current_per_commitment_point: stranger.point(),
        next_funding: None,
        my_current_funding_locked: None,
    });
    let mut texts = Vec::new();
    loop {
        let bytes = stranger.line().hear().expect("the node stays on the line");
        assert_eq!(bytes[..2], Error::NUMBER.to_be_bytes());
        let error = Error::take_body(&bytes[2..]).unwrap();
        if error.channel_id == last {
            return texts;
        }
        texts.push(error.text());
    }
}

/// The lie of an opening that is never funded; its name.
pub(crate) fn fake(stranger: Stranger, n: u64) -> Live {
    let mut draft = stranger.propose(Plan::new(n));
    let txid = bitcoin::Txid::hash(&temporary(n).0);
    draft.create(OutPoint { txid, vout: 0 });
    draft.signed()
}

/// A way to break an `open_channel`.
type Change = fn(&mut OpenChannel);

#[test]
fn opening_that_is_refused_starts_no_process_writes_nothing() {
    const EACH: u64 = 100;
    let world = World::new();
    let mut stranger = Stranger::meet(1, &world);
    let changes: [Change; 5] = [
        |m| m.chain_hash = [7; 32],
        |m| m.funding_satoshis = Sat(999),
        |m| m.dust_limit_satoshis = Sat(353),
        |m| m.channel_type = Some(Rest(vec![0xff; 60_000])),
        |m| m.upfront_shutdown_script = Some(Rest(vec![0x6a; 60_000])),
    ];
    errors_so_far(&mut stranger);
    let (before, log) = (counters(&world), world.node.log_size());
    let begun = Instant::now();
    let mut told = Vec::new();
    for n in 0..EACH {
        for (which, change) in (0u64..).zip(changes) {
            let mut open = Plan::new(1).open_channel(temporary(5 * n + which));
            change(&mut open);
            stranger.say(&open);
        }
        told.extend(errors_so_far(&mut stranger));
    }
    assert_eq!(counters(&world), before, "births and commits");
    let most = 32 + begun.elapsed().as_secs() as usize + 1;
    assert!(told.len() >= 32 && told.len() <= most, "{} words", told.len());
    assert!(told.iter().all(|text| text.len() <= 1000), "{told:?}");
    let log = world.node.log_size() - log;
    assert!(log < 200_000, "{log} bytes of log");
    assert_eq!(list(&world).len(), 0);
    // Refused by its terms: with others it may open at once.
    fake(stranger, 2);
}

#[test]
fn opening_flood_of_one_peer_costs_few_processes_and_commits() {
    let world = World::new();
    let mut stranger = Stranger::meet(1, &world);
    errors_so_far(&mut stranger);
    let before = counters(&world);
    let begun = Instant::now();
    let mut accepted = 0;
    for n in 0..300 {
        if stranger.propose_once(&Plan::new(1), temporary(n)).is_ok() {
            accepted += 1;
            stranger.say(&Error::new(temporary(n), "never mind"));
            wait_for("the attempt to be gone", || {
                world.node.children("lightning_openingd").is_empty().then_some(())
            });
        }
        if accepted >= BURST_OF_PEER && n > 40 {
            break;
        }
    }
    // Many at once, which nobody waits for.
    for n in 1000..1300 {
        stranger.say(&Plan::new(1).open_channel(temporary(n)));
    }
    wait_for("the node to have read it all", || {
        let quiet = stranger.line().next_within(Duration::from_millis(300));
        quiet.expect("the node stays on the line").is_none().then_some(())
    });
    let (births, commits) = counters(&world);
    let most = BURST_OF_PEER + begun.elapsed().as_secs() / 10 + 1;
    assert!(births - before.0 <= most, "{} births", births - before.0);
    assert!(commits - before.1 <= 2, "{} commits", commits - before.1);
    assert_eq!(list(&world).len(), 0);
}

#[test]
fn idle_openings_are_evicted_for_newcomers_and_channel_peers() {
    let world = World::new();
    let mut friend = Stranger::meet(1, &world).open(&world, Plan::new(1));
    friend.lock_in(&world);
    let begun = Instant::now();
    let mut idle = Vec::new();
    for n in 100..100 + MAX_ATTEMPTS as u64 + 3 {
        idle.push(Stranger::meet(n, &world).propose(Plan::new(n)));
        at_most(&world, "lightning_openingd", MAX_ATTEMPTS);
    }
    // The first of them heard that it gave way, and nothing of it is left.
    let text = idle[0].line().end();
    assert!(text.contains("took too long"), "{text}");
    // The friend is served at once, however many strangers there are: none of its own ways is used
    // up.
    let mut hasty = Stranger::meet(200, &world);
    let busy = wait_for("a stranger to be refused", || {
        hasty.propose_once(&Plan::new(200), temporary(begun.elapsed().as_millis() as u64)).err()
    });
    assert!(busy.contains("at a time") || busy.contains("try again later"), "{busy}");
    let friends = friend.stranger.propose_once(&Plan::new(2), temporary(1));
    assert!(friends.is_ok(), "{friends:?}");
    // And a newcomer is, whatever its number.
    let mut newcomer = Stranger::meet(300, &world).open(&world, Plan::new(300));
    newcomer.lock_in(&world);
    at_most(&world, "lightning_openingd", MAX_ATTEMPTS + 1);
    let channels = list(&world);
    let live = channels.iter().filter(|c| c["state"] == "CHANNELD_NORMAL");
    assert_eq!(live.count(), 2);
}

#[test]
fn fake_channels_are_evicted_for_newcomers() {
    const FAKES: u64 = 54;
    let world = World::new();
    let before = counters(&world);
    let begun = Instant::now();
    let mut crowd: Vec<Live> = Vec::new();
    for n in 0..FAKES {
        // Three of each peer; the fourth of one is its last.
        let stranger = match crowd.pop() {
            Some(last) if n % 3 != 0 => last.stranger,
            last => {
                crowd.extend(last);
                Stranger::meet(1000 + n, &world)
            }
        };
        crowd.push(fake(stranger, 1000 + n));
    }
    assert_eq!(list(&world).len() as u64, FAKES);
    at_most(&world, "lightning_channeld", MAX_UNFUNDED_DAEMONS);
    let mut newcomer = Stranger::meet(1, &world).open(&world, Plan::new(1));
    newcomer.lock_in(&world);
    let births = counters(&world).0 - before.0;
    // Each attempt an openingd and a channeld.
    let most = 2 * (BURST + begun.elapsed().as_secs() + 1);
    assert!(births <= most, "{births} births");
    // Whoever has four waits for one of them.
    let (mut last, n) = (crowd.pop().unwrap(), 2000);
    last = fake(last.stranger, n);
    let refused = last.stranger.propose_once(&Plan::new(n + 1), temporary(n + 1)).unwrap_err();
    assert!(refused.contains("wait for their funding"), "{refused}");
}

/// Before its funding is seen, a channel costs no process until its peer sends a message of it.
#[test]
fn unfunded_channel_starts_channeld_at_first_peer_message() {
    let world = World::new();
    let mut live = fake(Stranger::meet(1, &world), 1);
    live.stranger.hang_up();
    let no_channeld = || {
        wait_for("channeld to be gone", || {
            world.node.children("lightning_channeld").is_empty().then_some(())
        });
    };
    no_channeld();
    let before = counters(&world);
    for _ in 0..50 {
        live.stranger.dial(&world);
        // Everything that follows from the connection has been done.
        errors_so_far(&mut live.stranger);
    }
    assert_eq!(counters(&world), before, "births and commits");
    live.reconnect(&world);
    assert_eq!(world.node.children("lightning_channeld").len(), 1);
    live.stranger.hang_up();
    no_channeld();
    // A restart changes nothing.
    world.node.kill();
    world.node.start_again();
    live.stranger.dial(&world);
    errors_so_far(&mut live.stranger);
    assert!(world.node.children("lightning_channeld").is_empty());
    live.reconnect(&world);
}

/// Its peer may have paid for the funding. Each time the crowd has just used up what proposals of
/// all strangers may bear.
#[test]
fn pending_channel_resumes_while_many_peers_propose_channels() {
    let world = World::new();
    let mut live = fake(Stranger::meet(1, &world), 1);
    let (mut crowd, mut n) = (Vec::new(), 100);
    for _ in 0..3 {
        live.stranger.hang_up();
        let refused = loop {
            n += 1;
            let mut stranger = Stranger::meet(n, &world);
            let proposed = stranger.propose_once(&Plan::new(n), temporary(n));
            crowd.push(stranger);
            if let Err(why) = proposed {
                break why;
            }
            assert!(n < 1000, "no proposal is refused");
        };
        assert!(refused.contains("too many"), "{refused}");
        live.reconnect(&world);
    }
}

#[test]
fn unfunded_channel_starts_channeld_once_its_funding_is_seen() {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.stranger.hang_up();
    wait_for("channeld to be gone", || {
        world.node.children("lightning_channeld").is_empty().then_some(())
    });
    live.stranger.dial(&world);
    errors_so_far(&mut live.stranger);
    assert!(world.node.children("lightning_channeld").is_empty());
    // The node does not wait for its peer's word any more.
    world.mine(1);
    let theirs: ChannelReestablish = live.line().expect();
    assert_eq!(theirs.channel_id, live.id);
    live.stranger.hang_up();
    live.reconnect(&world);
    live.ready();
    world.node.wait_normal(&live.name());
}

/// A channel that fails before its funding confirms has nothing to broadcast until then.
#[test]
fn failed_channel_force_closes_once_its_funding_confirms() {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    let never_mind = Error::new(live.id, "never mind");
    live.say(&never_mind);
    world.node.wait_state(&live.name(), "AWAITING_UNILATERAL");
    // Not before: there may be thousands that strangers made up.
    world.mine_only(&[]);
    world.mine_only(&[]);
    assert!(!world.node.logged("publishing our commitment"));
    world.mine(1);
    world.wait_spend(live.funding);
    world.mine(1);
    world.resolve(&live.name());
}

/// A peer that forgot its unfunded channels can propose the next one in their place.
#[test]
fn unfunded_channels_forgotten_by_their_peer_are_evicted() {
    let world = World::new();
    let plan = |n| Plan::new(n).sized(1_000_000, 0);
    let fake = |stranger: Stranger, n: u64| {
        let mut draft = stranger.propose(plan(n));
        draft.create(OutPoint { txid: bitcoin::Txid::hash(&temporary(n).0), vout: 0 });
        draft.signed()
    };
    let mut all: Vec<Live> = Vec::new();
    for n in 1..=4 {
        all.push(fake(Stranger::meet(1, &world), n));
    }
    // A fifth on the connection of the fourth takes the place of the first.
    let fifth = fake(all.pop().unwrap().stranger, 5);
    assert_eq!(world.node.channel(&all[0].name()), Value::Null);
    assert_eq!(list(&world).len(), 4);
    // One that the peer speaks of stays.
    let mut stranger = fifth.stranger;
    for n in [6, 7] {
        stranger = fake(stranger, n).stranger;
    }
    assert_eq!(list(&world).len(), 4);
    let refused = stranger.propose_once(&plan(8), temporary(8)).unwrap_err();
    assert!(refused.contains("wait for their funding"), "{refused}");
}

/// A peer with a funded channel sends `shutdown` in another before its funding is seen.
#[test]
fn early_shutdown_leaves_the_peers_other_channel_served() {
    let world = World::new();
    let mut funded = Stranger::meet(1, &world).open(&world, Plan::new(1));
    funded.lock_in(&world);
    let held = node_pays(&world, &mut funded, 100_000_000, preimage(1).hash(), 40, 1);
    // A second channel over the same connection, whose funding is in no block.
    let connected = std::mem::replace(&mut funded.stranger, Stranger::new(1));
    let mut early = connected.open(&world, Plan::new(2));
    early.say(&wire::Shutdown { channel_id: early.id, scriptpubkey: miner_script() });
    let why = early.line().end();
    assert!(why.contains("before the funding was seen"), "{why}");
    std::mem::swap(&mut funded.stranger, &mut early.stranger);
    funded.fulfil(held, preimage(1));
    funded.settle();
    let paid = world.node.rpc(
        "waitsendpay",
        &json!({"payment_hash": preimage(1).hash().to_string(), "partid": 1, "groupid": 1}),
    );
    assert_eq!(paid["status"], "complete");
    assert_eq!(world.node.channel(&early.name())["state"], "CHANNELD_AWAITING_LOCKIN");
    assert!(!world.node.logged("BROKEN"));
}

/// The peer has a funded channel, in which payments go on.
#[test]
fn endless_reconnects_of_a_channel_peer_cost_few_subdaemons() {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.lock_in(&world);
    let (births, commits) = counters(&world);
    let begun = Instant::now();
    let reestablish = live.reestablish_message();
    for _ in 0..150 {
        live.stranger.hang_up();
        live.stranger.dial(&world);
        live.say(&reestablish);
    }
    // The last of these connections is served, and the next one, too.
    live.stranger.hang_up();
    live.reconnect(&world);
    wait_for("the channel to be usable", || {
        (world.node.channel(&live.name())["reestablished"] == true).then_some(())
    });
    let id = node_pays(&world, &mut live, 50_000_000, preimage(1).hash(), 40, 1);
    live.fulfil(id, preimage(1));
    live.settle();
    let (more_births, more_commits) = counters(&world);
    let most = 20 + 2 * (begun.elapsed().as_secs() + 1);
    assert!(more_births - births <= most, "{} of {most}", more_births - births);
    assert!(more_commits - commits <= most + 30, "{} of {most}", more_commits - commits);
}

#[test]
fn our_close_begins_while_that_of_the_peer_is_deferred() {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.say(&wire::Shutdown { channel_id: live.id, scriptpubkey: miner_script() });
    let why = live.line().end();
    assert!(why.contains("before the funding was seen"), "{why}");
    let _closes = world.call("close", &json!([live.name()]));
    live.line().hung_up();
    live.reconnect(&world);
    live.hear_until(|m| matches!(m, wire::ChannelMessage::Shutdown(_)));
}

#[test]
fn shutdown_of_a_stranger_is_deferred_until_funding_confirms() {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    let shutdown = wire::Shutdown { channel_id: live.id, scriptpubkey: miner_script() };
    live.say(&shutdown);
    let why = live.line().end();
    assert!(why.contains("before the funding was seen"), "{why}");
    wait_for("its daemon's end", || {
        world.node.children("lightning_channeld").is_empty().then_some(())
    });
    // Nothing that it says of the channel has a daemon started again on this connection.
    let (births, _) = counters(&world);
    live.say(&shutdown);
    live.say(&live.reestablish_message());
    live.say(&ChannelReestablish { channel_id: ChannelId([7; 32]), ..live.reestablish_message() });
    let why = live.line().end();
    assert!(why.contains("unknown channel"), "{why}");
    assert_eq!(counters(&world).0, births);
    assert_eq!(world.node.channel(&live.name())["state"], "CHANNELD_AWAITING_LOCKIN");
    assert!(world.node.children("lightning_closingd").is_empty());
    assert!(!world.node.logged("BROKEN"));
    world.mine(1);
    live.line().hung_up();
    live.reconnect(&world);
    live.ready();
    world.node.wait_normal(&live.name());
    live.say(&shutdown);
    live.hear_until(|m| matches!(m, wire::ChannelMessage::Shutdown(_)));
    world.node.wait_state(&live.name(), "CLOSINGD_SIGEXCHANGE");
}
