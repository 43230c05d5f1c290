//! Which connection makes room when all places are taken. A value, without sockets, clock or
//! randomness.
//!
//! Nobody is kept out for where it comes from while there is room: behind one address there may be
//! many. Where there is none, the source that takes most of it loses, and of that source's
//! connections one that has shown least; among equals chance decides, so that no order of arrival
//! is safe. Whoever comes alone from its network is then not pushed out by a flood from elsewhere.
//!
//! A source is what one person is commonly given: an IPv4 address, a /56 of IPv6. Whoever holds
//! more, up to a provider's /32 of IPv6 or a /16 of IPv4, is seen by the network around it, which
//! counts an eighth as much, since strangers to each other share it. Tor, proxies and containers
//! bring many peers through one local address, which counts like [`LOCAL_SHARE`] sources.

use primitives::Source;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A connection counts so much for its own address, and one for the network around it.
const OWN_WEIGHT: usize = 8;
/// A local address may have so many connections for one of a public address.
pub const LOCAL_SHARE: usize = 32;

/// Something that could make room. Of two in one source the lower rank goes first.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<C, R> {
    /// Which connection.
    pub id: C,
    /// Where it comes from.
    pub ip: IpAddr,
    /// How far it has come.
    pub rank: R,
}

/// How far a connection has come that has not shown who it is. BOLT 8, "Handshake Exchange".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Shown {
    /// TCP stands.
    #[default]
    Nothing,
    /// Some bytes came.
    Bytes,
    /// As many as act one has; nobody has looked at them.
    WholeAct,
    /// A good act one came, act two is out.
    ActOne,
}

/// Which of these makes room for one more. `None` where there are none. `random` decides among
/// equals.
pub fn victim<C: Copy, R: Copy + Ord>(
    candidates: &[Candidate<C, R>],
    random: u64,
) -> Option<Candidate<C, R>> {
    let weights = weights(candidates);
    let heaviest = weights.iter().max()?;
    let of_heaviest: Vec<_> = candidates
        .iter()
        .zip(&weights)
        .filter_map(|(candidate, weight)| (weight == heaviest).then_some(candidate))
        .collect();
    let least = of_heaviest.iter().map(|c| c.rank).min()?;
    let equals = || of_heaviest.iter().filter(|c| c.rank == least);
    let n = usize::try_from(random % equals().count().max(1) as u64).unwrap_or_default();
    equals().nth(n).map(|c| **c)
}

/// In which order these are served where there is not time for all: the sources with the fewest
/// first, of each what has come farthest.
pub fn served_first<C: Copy, R: Copy + Ord>(candidates: &[Candidate<C, R>]) -> Vec<C> {
    let mut order: Vec<_> = candidates.iter().zip(weights(candidates)).collect();
    order.sort_by_key(|(candidate, weight)| (*weight, Reverse(candidate.rank)));
    order.into_iter().map(|(candidate, _)| candidate.id).collect()
}

/// How much each one's source has of all.
fn weights<C, R>(candidates: &[Candidate<C, R>]) -> Vec<usize> {
    let sources: Vec<Source> = candidates.iter().map(|c| Source::of(c.ip)).collect();
    let (mut own, mut wide) = (BTreeMap::new(), BTreeMap::new());
    for source in &sources {
        *own.entry(source.own).or_insert(0usize) += 1;
        *wide.entry(source.wide).or_insert(0usize) += 1;
    }
    let count = |of: &BTreeMap<u64, usize>, key| of.get(&key).copied().unwrap_or_default();
    let weight = |source: &Source| {
        let all = OWN_WEIGHT * count(&own, source.own) + count(&wide, source.wide);
        // In units of a local connection's share.
        if source.is_local { all } else { all * LOCAL_SHARE }
    };
    sources.iter().map(weight).collect()
}

/// How many of these come from the address that most of them come from.
pub fn largest<C, R>(candidates: &[Candidate<C, R>]) -> usize {
    let mut own = BTreeMap::new();
    for candidate in candidates {
        *own.entry(Source::of(candidate.ip).own).or_insert(0usize) += 1;
    }
    own.into_values().max().unwrap_or_default()
}

#[cfg(test)]
#[path = "unauthenticated_tests.rs"]
mod tests;
