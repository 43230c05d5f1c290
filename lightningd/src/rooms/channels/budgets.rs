//! What each peer, and all strangers together, may cause in processes and words. A value: time
//! comes in.

use primitives::{Bucket, NodeId, Source};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Processes that one stranger's proposals may start. People open one channel with a peer, programs
/// a handful, and try again after a refusal.
const PEER: Bucket = Bucket::new(10, Duration::from_secs(10));
/// The same of a peer with a funded channel, which cost it something. Each of its connections
/// counts, too.
const FRIEND: Bucket = Bucket::new(20, Duration::from_millis(500));
/// Processes that all strangers' proposals may start: each takes some ten milliseconds, so this and
/// [`FIRST`] are two hundredths of a core.
const ALL: Bucket = Bucket::new(10, Duration::from_secs(1));
/// The same of proposals that are the first from their address within an hour: identities are free,
/// and addresses are not, so that no number of identities behind a few addresses keeps a newcomer
/// out.
const FIRST: Bucket = Bucket::new(10, Duration::from_secs(1));
/// Whose first that was is known for an hour.
const SOURCE: Bucket = Bucket::new(1, Duration::from_secs(3600));
/// Reconnects of one peer whose channels wait for their funding, each of which starts daemons.
/// Apart from proposals: whoever paid for a funding that nobody has seen yet is not kept from its
/// channel by others' proposals, nor by its own.
const RECONNECTS: Bucket = Bucket::new(10, Duration::from_secs(10));
/// The same of all such peers together.
const ALL_RECONNECTS: Bucket = Bucket::new(20, Duration::from_millis(500));
/// Refusals that one peer hears. Beyond it there is silence, for the peer and in the log.
const WORDS: Bucket = Bucket::new(32, Duration::from_secs(1));
/// Channel ids that nobody knows, of which one peer hears that. A database that is lost takes as
/// many channels with it.
const UNKNOWN: Bucket = Bucket::new(200, Duration::from_millis(200));
/// Peers, and sources, that are remembered. When so many have caused something lately, another peer
/// has no limit but [`ALL`], and another source is none that comes for the first time.
const MAX_KNOWN: usize = 4096;

/// What one peer may still cause.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    births: Bucket,
    reconnects: Bucket,
    friendly: Bucket,
    words: Bucket,
    unknown: Bucket,
}

const FRESH: Allowance = Allowance {
    births: PEER,
    reconnects: RECONNECTS,
    friendly: FRIEND,
    words: WORDS,
    unknown: UNKNOWN,
};

impl Allowance {
    /// Does it say nothing of the past?
    fn is_fresh(&self, now: Instant) -> bool {
        let Self { births, reconnects, friendly, words, unknown } = self;
        [births, reconnects, friendly, words, unknown].iter().all(|bucket| bucket.is_full(now))
    }
}

/// Who proposes a channel.
#[derive(Debug, Clone, Copy)]
pub struct Proposer {
    /// Whose proposal it is.
    pub peer: NodeId,
    /// Where it comes from, if that is an address.
    pub source: Option<Source>,
    /// Has it no channel with us that cost anybody anything?
    pub is_stranger: bool,
}

/// What each peer, and all strangers together, may still cause.
#[derive(Debug)]
pub struct Budgets {
    all: Bucket,
    first: Bucket,
    all_reconnects: Bucket,
    peers: HashMap<NodeId, Allowance>,
    sources: HashMap<u64, Bucket>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            all: ALL,
            first: FIRST,
            all_reconnects: ALL_RECONNECTS,
            peers: HashMap::new(),
            sources: HashMap::new(),
        }
    }
}

impl Budgets {
    fn peer(&self, peer: NodeId) -> Allowance {
        self.peers.get(&peer).copied().unwrap_or(FRESH)
    }
    /// Takes a token of one of this peer's buckets.
    fn take(&mut self, peer: NodeId, now: Instant, of: impl FnOnce(&mut Allowance) -> &mut Bucket) {
        if self.peers.len() >= MAX_KNOWN && !self.peers.contains_key(&peer) {
            self.peers.retain(|_, a| !a.is_fresh(now));
            if self.peers.len() >= MAX_KNOWN {
                return;
            }
        }
        of(self.peers.entry(peer).or_insert(FRESH)).take(now);
    }

    /// Did nobody propose from there within an hour, and is there a token for whoever does?
    fn has_first(&self, source: Option<Source>, now: Instant) -> bool {
        let Some(source) = source else { return false };
        let is_new = match self.sources.get(&source.own) {
            Some(bucket) => bucket.is_full(now),
            None => self.sources.len() < MAX_KNOWN,
        };
        is_new && self.first.has(1, now)
    }

    /// May an openingd be started for this peer's proposal?
    pub fn may_propose(&self, who: Proposer, now: Instant) -> bool {
        let of_peer = self.peer(who.peer);
        if who.is_stranger {
            of_peer.births.has(1, now) && (self.has_first(who.source, now) || self.all.has(1, now))
        } else {
            of_peer.friendly.has(1, now)
        }
    }
    /// Takes the tokens of a proposal for which one is started.
    pub fn proposes(&mut self, who: Proposer, now: Instant) {
        if !who.is_stranger {
            return self.take(who.peer, now, |a| &mut a.friendly);
        }
        self.take(who.peer, now, |a| &mut a.births);
        if self.has_first(who.source, now) {
            self.first.take(now);
        } else {
            self.all.take(now);
        }
        if let Some(source) = who.source {
            if self.sources.len() >= MAX_KNOWN {
                self.sources.retain(|_, bucket| !bucket.is_full(now));
            }
            if self.sources.len() < MAX_KNOWN || self.sources.contains_key(&source.own) {
                self.sources.entry(source.own).or_insert(SOURCE).take(now);
            }
        }
    }

    /// When may the daemons of this peer's funded channels be started because it connected?
    pub fn friend_at(&self, peer: NodeId, now: Instant) -> Instant {
        self.peer(peer).friendly.ready_at(1, now).unwrap_or(now)
    }
    /// Takes the token of a connection on which they are started.
    pub fn friend_connects(&mut self, peer: NodeId, now: Instant) {
        self.take(peer, now, |a| &mut a.friendly);
    }

    /// May daemons of channels be started that wait for their funding, because this stranger speaks
    /// of them on a new connection?
    pub fn may_reconnect(&self, peer: NodeId, now: Instant) -> bool {
        self.peer(peer).reconnects.has(1, now) && self.all_reconnects.has(1, now)
    }
    /// Takes the tokens of a reconnect after which they are started.
    pub fn reconnects(&mut self, peer: NodeId, now: Instant) {
        self.take(peer, now, |a| &mut a.reconnects);
        self.all_reconnects.take(now);
    }

    /// Is this peer told that a channel is unknown?
    pub fn may_hear_of_unknown(&self, peer: NodeId, now: Instant) -> bool {
        self.peer(peer).unknown.has(1, now)
    }
    /// Takes the token of one such error.
    pub fn hears_of_unknown(&mut self, peer: NodeId, now: Instant) {
        self.take(peer, now, |a| &mut a.unknown);
    }

    /// Is this peer told why it is refused?
    pub fn may_hear(&self, peer: NodeId, now: Instant) -> bool {
        self.peer(peer).words.has(1, now)
    }
    /// Takes the token of one refusal.
    pub fn hears(&mut self, peer: NodeId, now: Instant) {
        self.take(peer, now, |a| &mut a.words);
    }
}

#[cfg(test)]
#[path = "budgets_tests.rs"]
mod tests;
