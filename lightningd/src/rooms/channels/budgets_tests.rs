//! What peers may cause, with time as a value.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn id(n: u64) -> NodeId {
    let mut id = [2; 33];
    id[..8].copy_from_slice(&n.to_be_bytes());
    NodeId(id)
}

/// A proposer of this number, from this address.
fn proposer(peer: u64, is_stranger: bool, host: [u8; 4]) -> Proposer {
    let source = Some(Source::of(std::net::IpAddr::from(host)));
    Proposer { peer: id(peer), source, is_stranger }
}

/// Does this proposal have an openingd started?
fn proposes(budgets: &mut Budgets, who: Proposer, now: Instant) -> bool {
    let may = budgets.may_propose(who, now);
    if may {
        budgets.proposes(who, now);
    }
    may
}

/// How many of these do, one after the other at one time, all from an address that was seen before?
fn born(
    budgets: &mut Budgets,
    peers: impl Iterator<Item = u64>,
    is_stranger: bool,
    now: Instant,
) -> usize {
    let known = Source::of(std::net::IpAddr::from([10, 0, 0, 1]));
    budgets.sources.entry(known.own).or_insert(SOURCE).take(now);
    peers.filter(|peer| proposes(budgets, proposer(*peer, is_stranger, [10, 0, 0, 1]), now)).count()
}

#[test]
fn births_of_one_peer_are_bounded() {
    let (mut budgets, start) = (Budgets::default(), Instant::now());
    assert_eq!(born(&mut budgets, (0..500).map(|_| 1), true, start), 10);
    assert_eq!(born(&mut budgets, (0..500).map(|_| 1), true, start + 9 * SECOND), 0);
    assert_eq!(born(&mut budgets, (0..500).map(|_| 1), true, start + 30 * SECOND), 3);
    // Another has its own.
    assert_eq!(born(&mut budgets, (0..2).map(|_| 2), true, start + 30 * SECOND), 2);
}

#[test]
fn births_for_strangers_are_bounded_for_channel_peers_not() {
    let (mut budgets, start) = (Budgets::default(), Instant::now());
    assert_eq!(born(&mut budgets, 0..500, true, start), 10);
    assert_eq!(born(&mut budgets, 1000..1500, true, start + 7 * SECOND), 7);
    assert_eq!(born(&mut budgets, (0..500).map(|_| 1), false, start + 7 * SECOND), 20);
}

#[test]
fn words_to_one_peer_are_bounded_and_cost_no_births() {
    let (mut budgets, now) = (Budgets::default(), Instant::now());
    let told = (0..500).filter(|_| {
        let may = budgets.may_hear(id(1), now);
        if may {
            budgets.hears(id(1), now);
        }
        may
    });
    assert_eq!(told.count(), 32);
    assert!(budgets.may_propose(proposer(1, true, [10, 0, 0, 1]), now));
}

#[test]
fn remembered_peers_are_bounded_whoever_comes() {
    let (mut budgets, start) = (Budgets::default(), Instant::now());
    for n in 0..20_000 {
        budgets.hears(id(n), start);
    }
    assert_eq!(budgets.peers.len(), MAX_KNOWN);
    budgets.hears(id(30_000), start + 100 * SECOND);
    assert_eq!(budgets.peers.len(), 1);
}

#[test]
fn reconnects_of_pending_channels_are_bounded() {
    let (mut budgets, start) = (Budgets::default(), Instant::now());
    let mut reconnected = |peers: std::ops::Range<u64>, now| {
        let may = |n: &u64| {
            let may = budgets.may_reconnect(id(*n), now);
            if may {
                budgets.reconnects(id(*n), now);
            }
            may
        };
        peers.filter(may).count()
    };
    assert_eq!((0..500).map(|_| reconnected(1..2, start)).sum::<usize>(), 10);
    assert_eq!(reconnected(0..500, start), 10);
    assert_eq!(reconnected(0..10_000, start + 10 * SECOND), 20);
    assert_eq!(reconnected(10_000..20_000, start + 12 * SECOND), 4);
}

/// Twenty identities behind one address propose whenever there is a token, and give up at once.
#[test]
fn newcomer_is_served_while_one_address_floods() {
    let (mut budgets, start) = (Budgets::default(), Instant::now());
    let mut of_flood = 0;
    for tick in 0..600 {
        let now = start + SECOND / 100 * tick;
        for n in 0..20 {
            of_flood += u64::from(proposes(&mut budgets, proposer(n, true, [192, 0, 2, 1]), now));
        }
        if tick == 500 {
            assert!(proposes(&mut budgets, proposer(100, true, [198, 51, 100, 1]), now));
            // Its second try is one among all.
            assert!(!proposes(&mut budgets, proposer(100, true, [198, 51, 100, 1]), now));
        }
    }
    assert!((15..=17).contains(&of_flood), "{of_flood}");
}

#[test]
fn first_proposals_of_new_addresses_are_bounded_together() {
    let (mut budgets, now) = (Budgets::default(), Instant::now());
    let from = |n: u32| [10, (n >> 16) as u8, (n >> 8) as u8, n as u8];
    let first = |budgets: &mut Budgets, now| {
        let started = |n: &u32| proposes(budgets, proposer(u64::from(*n), true, from(*n)), now);
        (0..50_000u32).filter(started).count()
    };
    assert_eq!(first(&mut budgets, now), 20, "as many as first ones may, and all");
    assert_eq!(first(&mut budgets, now + 5 * SECOND), 10);
    assert!(budgets.sources.len() <= MAX_KNOWN);
}

#[test]
fn friend_that_connects_again_and_again_is_served_later() {
    let (mut budgets, start) = (Budgets::default(), Instant::now());
    let (mut served, mut now) = (0, start);
    while now < start + 10 * SECOND {
        if budgets.friend_at(id(1), now) <= now {
            budgets.friend_connects(id(1), now);
            served += 1;
        }
        now += SECOND / 20;
    }
    assert!((39..=40).contains(&served), "{served}");
    assert!(budgets.friend_at(id(1), now) <= now + SECOND / 2);
}
