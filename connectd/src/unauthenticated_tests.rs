//! Floods against [`victim`], drawn and played with time as a value.

use super::*;
use crate::limits::MAX_UNAUTHENTICATED;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

type Place = Candidate<u64, Shown>;

fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from(n).into()
}
fn v6(n: u128) -> IpAddr {
    Ipv6Addr::from(n).into()
}
/// A number after each number, without order.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 20
}

fn shown() -> impl Strategy<Value = Shown> {
    prop_oneof![Just(Shown::Nothing), Just(Shown::Bytes), Just(Shown::ActOne)]
}
/// Public addresses, several of which are one source.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1..4u32, 0..3u32).prop_map(|(net, host)| v4(0x5000_0000 | net << 16 | host)),
        (1..4u128, 0..3u128, any::<u64>()).prop_map(|(net, site, host)| {
            v6(0x2000 << 112 | net << 96 | site << 72 | u128::from(host))
        }),
        (1..4u32).prop_map(|n| v6(0xffff_0000_0000 | u128::from(0x5001_0000 | n))),
    ]
}

#[test]
fn source_is_an_ipv4_address_or_a_56_of_ipv6() {
    let same =
        |a: &str, b: &str| Source::of(a.parse().unwrap()).own == Source::of(b.parse().unwrap()).own;
    for (a, b, expected) in [
        ("80.1.2.3", "80.1.2.3", true),
        ("80.1.2.3", "80.1.2.4", false),
        ("80.1.2.3", "::ffff:80.1.2.3", true),
        ("2001:db8:1:100::1", "2001:db8:1:1ff:ffff::", true),
        ("2001:db8:1:100::1", "2001:db8:1:200::1", false),
    ] {
        assert_eq!(same(a, b), expected, "{a} {b}");
    }
    let wide = |ip: &str| Source::of(ip.parse().unwrap()).wide;
    assert_eq!(wide("2001:db8::1"), wide("2001:db8:ffff::1"));
    assert_ne!(wide("2001:db8::1"), wide("2001:db9::1"));
    assert_eq!(wide("80.1.2.3"), wide("80.1.200.3"));
}

#[test]
fn local_address_has_the_places_of_many() {
    let place = |id, ip| Candidate { id, ip, rank: Shown::ActOne };
    let local = v4(0x7f00_0001);
    let mut places: Vec<_> = (0..20).map(|id| place(id, local)).collect();
    places.extend((100..102).map(|id| place(id, v4(0x5001_0001))));
    assert!(victim(&places, 3).unwrap().id >= 100, "two of one public address weigh more");
    places.extend((200..400).map(|id| place(id, local)));
    assert_eq!(victim(&places, 3).unwrap().ip, local, "but a flood from here is one");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// Who goes is of the heaviest source, and no other of that source has shown less.
    #[test]
    fn victim_is_the_least_of_the_heaviest_source(
        all in prop::collection::vec((address(), shown()), 1..60), random: u64,
    ) {
        let places: Vec<Place> =
            (0..).zip(all).map(|(id, (ip, rank))| Candidate { id, ip, rank }).collect();
        let gone = victim(&places, random).unwrap();
        let weight = |place: &Place| {
            let of = |key: fn(&Source) -> u64| {
                let mine = key(&Source::of(place.ip));
                places.iter().filter(|p| key(&Source::of(p.ip)) == mine).count()
            };
            OWN_WEIGHT * of(|s| s.own) + of(|s| s.wide)
        };
        prop_assert!(places.iter().all(|p| weight(p) <= weight(&gone)));
        let source = Source::of(gone.ip);
        prop_assert!(places.iter().all(|p| Source::of(p.ip) != source || p.rank >= gone.rank));
    }

    /// An attacker who has a provider's whole network, and the first act ready, takes no place of
    /// one who comes alone.
    #[test]
    fn lone_address_outlives_a_flood_from_one_network(
        hosts in prop::collection::vec(any::<u64>(), 20..200), is_v6: bool, seed: u64,
    ) {
        let mut seed = seed;
        let friend = Candidate { id: u64::MAX, ip: v4(0x0808_0808), rank: Shown::Nothing };
        let mut places: Vec<Place> = vec![friend];
        for (id, host) in (0..).zip(hosts) {
            if places.len() >= 12 {
                let gone = victim(&places, next(&mut seed)).unwrap().id;
                prop_assert_ne!(gone, friend.id);
                places.retain(|p| p.id != gone);
            }
            // Another /56 of one /32 each time, or another address of one /16.
            let ip = if is_v6 {
                v6(0x2a00_1234 << 96 | u128::from(host) << 32)
            } else {
                v4(0x5001_0000 | host as u32 & 0xffff)
            };
            places.push(Candidate { id, ip, rank: Shown::ActOne });
        }
    }

    /// A lone source is served before a flood, whatever it has shown, and everybody is served in
    /// the end.
    #[test]
    fn lone_address_is_served_before_a_flood(at in 0..100usize, rank in shown()) {
        let flood = |id| Candidate { id, ip: v4(0x5001_0001), rank: Shown::ActOne };
        let mut places: Vec<Place> = (0..100).map(flood).collect();
        places.insert(at, Candidate { id: u64::MAX, ip: v4(0x0808_0808), rank });
        let mut order = served_first(&places);
        prop_assert_eq!(order[0], u64::MAX);
        order.sort_unstable();
        prop_assert_eq!(order, Vec::from_iter((0..100).chain([u64::MAX])));
    }

    /// Among equals each may go.
    #[test]
    fn chance_decides_among_equals(count in 1..50u64, random: u64) {
        let places: Vec<_> = (0..count)
            .map(|id| Candidate { id, ip: v4(0x5001_0001), rank: Shown::Bytes })
            .collect();
        prop_assert_eq!(victim(&places, random).unwrap().id, random % count);
    }
}

/// Milliseconds.
const SECOND: u64 = 1000;
const ROUND_TRIP: u64 = 800;

/// A thousand connections a second from `flood`, each showing `what` at once. After two seconds
/// somebody comes from `friend` and makes BOLT 8's acts with 800 ms of round trip. After how many
/// milliseconds it had shown who it was; `None`: never.
fn gets_in(flood: impl Fn(u64) -> IpAddr, what: Shown, friend: IpAddr, seed: u64) -> Option<u64> {
    let (mut seed, came) = (seed, 2 * SECOND);
    let mut places: Vec<Place> = Vec::new();
    for now in 0..5 * SECOND {
        let mut arrivals = vec![Candidate { id: now, ip: flood(now), rank: what }];
        if now == came {
            arrivals.push(Candidate { id: u64::MAX, ip: friend, rank: Shown::Nothing });
        }
        for arrival in arrivals {
            if places.len() >= MAX_UNAUTHENTICATED {
                let gone = victim(&places, next(&mut seed)).unwrap().id;
                places.retain(|p| p.id != gone);
            }
            places.push(arrival);
        }
        let mine = places.iter_mut().find(|p| p.id == u64::MAX);
        match (mine, now.checked_sub(came)) {
            // Act one is behind the last ACK by as much as it likes, act three a round trip behind
            // it.
            (Some(me), Some(ROUND_TRIP)) => me.rank = Shown::ActOne,
            (Some(_), Some(after)) if after == 2 * ROUND_TRIP => return Some(after),
            (None, Some(1..)) => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn friend_gets_in_through_a_flood_of_a_thousand_a_second() {
    let friend = v4(0x0808_0808);
    for what in [Shown::Nothing, Shown::Bytes, Shown::ActOne] {
        for seed in 0..1 {
            let one = gets_in(|_| v4(0x5001_0001), what, friend, seed);
            let provider = |n| v6(0x2a00_1234 << 96 | u128::from(n) << 72);
            let one_of_64_bits = gets_in(provider, what, friend, seed);
            // The friend's own provider has the attacker, too.
            let neighbour = gets_in(|_| v4(0x0808_0101), what, friend, seed);
            let took = [one, one_of_64_bits, neighbour];
            assert_eq!(took, [Some(2 * ROUND_TRIP); 3], "{what:?}, seed {seed}");
        }
    }
    println!("the friend is in after {} ms", 2 * ROUND_TRIP);
}

#[test]
fn friend_behind_the_floods_own_address_gets_in_by_its_act_one() {
    // Both come through Tor. Act one is there with the friend's first byte; the flood shows
    // nothing.
    let local = v4(0x7f00_0001);
    let mut places: Vec<Place> = vec![Candidate { id: u64::MAX, ip: local, rank: Shown::ActOne }];
    let mut seed = 1;
    for id in 0..5 * SECOND {
        if places.len() >= MAX_UNAUTHENTICATED {
            let gone = victim(&places, next(&mut seed)).unwrap().id;
            places.retain(|p| p.id != gone);
        }
        places.push(Candidate { id, ip: local, rank: Shown::Nothing });
    }
    assert!(places.iter().any(|p| p.id == u64::MAX));
}
