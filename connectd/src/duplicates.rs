//! Two connections with one peer, of which one must go: the same one on both sides.
//!
//! It happens in two ways. Both nodes dial at once, and the connections cross. Or a peer comes back
//! while its old connection is dead without our noticing; then the new one must win, or the peer is
//! locked out.
//!
//! One of the two nodes, the one with the lower id, **chooses**; the other **follows**. The chooser
//! settles the matter the moment a second connection is authenticated: it drops one of the two, and
//! says `init` only on what it keeps. So the chooser's `init` is its vote, and the follower needs
//! no more than that: it says `init` on every authenticated connection, and whichever brings the
//! peer's `init` last is the one. A foreign chooser that says `init` on both is followed as well:
//! the later one wins.
//!
//! The chooser prefers the newer connection, with one exception: where the older has not brought
//! the peer's `init` yet, is young, and was opened from the other side, the two have crossed, and
//! the first stays. Otherwise the first would be dropped while its `init` is under way.
//!
//! Dials under way that have not reached act three are dropped as soon as the peer is connected: it
//! cannot know of them.

use crate::limits::MAX_DUPLICATES;
use primitives::NodeId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The side that opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// The peer.
    ByThem,
    /// We.
    ByUs,
}

/// For so long two connections may be taken for a crossing.
pub const CROSSING: Duration = Duration::from_secs(10);

/// Which of a peer's connections stay.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict<C> {
    /// Does the new connection stay (and get our `init`)?
    pub stays: bool,
    /// These must be closed.
    pub close: Vec<C>,
}

/// The authenticated connections of every peer.
#[derive(Debug)]
pub struct DuplicateConnections<C> {
    our_id: NodeId,
    peers: HashMap<NodeId, Vec<PeerConnection<C>>>,
}

#[derive(Debug)]
struct PeerConnection<C> {
    connection: C,
    opened: Opened,
    authenticated: Instant,
    /// Has the peer's `init` come on it?
    init_received: bool,
}

impl<C: Copy + PartialEq> DuplicateConnections<C> {
    /// For this node.
    pub fn new(our_id: NodeId) -> Self {
        Self { our_id, peers: HashMap::new() }
    }

    /// The peer has proved who it is on a new connection.
    pub fn authenticated(
        &mut self,
        peer: NodeId,
        connection: C,
        opened: Opened,
        now: Instant,
    ) -> Verdict<C> {
        let we_choose = self.our_id.0 < peer.0;
        let connections = self.peers.entry(peer).or_default();
        let crossed = |old: &PeerConnection<C>| {
            !old.init_received && old.opened != opened && now - old.authenticated < CROSSING
        };
        if we_choose && connections.iter().any(crossed) {
            return Verdict { stays: false, close: Vec::new() };
        }
        let mut close = Vec::new();
        if we_choose {
            close.extend(connections.drain(..).map(|one| one.connection));
        } else if connections.len() >= MAX_DUPLICATES
            && let Some(oldest) = connections.iter().position(|one| !one.init_received)
        {
            close.push(connections.remove(oldest).connection);
        }
        connections.push(PeerConnection {
            connection,
            opened,
            authenticated: now,
            init_received: false,
        });
        Verdict { stays: true, close }
    }

    /// The peer's `init` has come: this connection is the one. What comes back must be closed.
    pub fn init_received(&mut self, peer: NodeId, connection: C) -> Vec<C> {
        let Some(connections) = self.peers.get_mut(&peer) else { return Vec::new() };
        let close: Vec<C> = connections
            .extract_if(.., |one| one.init_received && one.connection != connection)
            .map(|one| one.connection)
            .collect();
        for one in connections {
            one.init_received |= one.connection == connection;
        }
        close
    }

    /// The connection with this peer, if there is one that both sides agreed on.
    pub fn connected(&self, peer: &NodeId) -> Option<C> {
        let connections = self.peers.get(peer)?;
        connections.iter().find(|one| one.init_received).map(|one| one.connection)
    }

    /// Has this peer proved who it is on any connection that is not gone?
    pub fn has_any(&self, peer: &NodeId) -> bool {
        self.peers.contains_key(peer)
    }

    /// The connection is closed, by whomever.
    pub fn gone(&mut self, peer: NodeId, connection: C) {
        if let Some(connections) = self.peers.get_mut(&peer) {
            connections.retain(|one| one.connection != connection);
            if connections.is_empty() {
                self.peers.remove(&peer);
            }
        }
    }
}

#[cfg(feature = "fuzzing")]
impl DuplicateConnections<u64> {
    /// Are these, and no others, the authenticated connections, few of each peer?
    pub(crate) fn check(&self, known: std::collections::BTreeSet<(NodeId, u64)>) {
        let connections = self
            .peers
            .iter()
            .flat_map(|(node, connections)| connections.iter().map(move |s| (node, s)));
        let mut found = std::collections::BTreeSet::new();
        for (node, one) in connections {
            assert!(found.insert((*node, one.connection)), "twice");
        }
        assert_eq!(found, known);
        for connections in self.peers.values() {
            // One that was init_received when the others came.
            assert!(
                connections.len() <= MAX_DUPLICATES + 1,
                "{} connections with one peer",
                connections.len()
            );
            assert!(connections.iter().filter(|one| one.init_received).count() <= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const LOW: NodeId = NodeId([2; 33]);
    const HIGH: NodeId = NodeId([3; 33]);

    #[test]
    fn chooser_keeps_the_first_of_two_that_crossed() {
        let now = Instant::now();
        let mut low = DuplicateConnections::new(LOW);
        assert!(low.authenticated(HIGH, 1, Opened::ByUs, now).stays);
        let crossed = low.authenticated(HIGH, 2, Opened::ByThem, now);
        assert_eq!(crossed, Verdict { stays: false, close: vec![] });
    }

    #[test]
    fn peer_that_dials_again_wins_over_its_old_connection() {
        let now = Instant::now();
        // Settled long ago, and nobody noticed that it died: whoever dialled then, whoever dials
        // now.
        for (old, new) in [
            (Opened::ByUs, Opened::ByThem),
            (Opened::ByThem, Opened::ByThem),
            (Opened::ByThem, Opened::ByUs),
            (Opened::ByUs, Opened::ByUs),
        ] {
            let mut low = DuplicateConnections::new(LOW);
            low.authenticated(HIGH, 1, old, now);
            low.init_received(HIGH, 1);
            let verdict = low.authenticated(HIGH, 2, new, now);
            assert_eq!(verdict, Verdict { stays: true, close: vec![1] });

            let mut high = DuplicateConnections::new(HIGH);
            high.authenticated(LOW, 1, old, now);
            assert_eq!(high.init_received(LOW, 1), [0; 0]);
            let verdict = high.authenticated(LOW, 2, new, now);
            assert_eq!(verdict, Verdict { stays: true, close: vec![] }, "the follower waits");
            assert_eq!(high.connected(&LOW), Some(1));
            assert_eq!(high.init_received(LOW, 2), [1], "and obeys the chooser's init");
            assert_eq!(high.connected(&LOW), Some(2));
        }
    }

    #[test]
    fn connection_that_never_settled_does_not_lock_the_peer_out() {
        let now = Instant::now();
        let mut low = DuplicateConnections::new(LOW);
        low.authenticated(HIGH, 1, Opened::ByUs, now);
        let later = low.authenticated(HIGH, 2, Opened::ByThem, now + CROSSING);
        assert_eq!(later, Verdict { stays: true, close: vec![1] });
        let twice = low.authenticated(HIGH, 3, Opened::ByThem, now + CROSSING);
        assert_eq!(twice, Verdict { stays: true, close: vec![2] });
    }

    #[test]
    fn follower_keeps_few_unsettled_connections() {
        let now = Instant::now();
        let mut high = DuplicateConnections::new(HIGH);
        high.authenticated(LOW, 0, Opened::ByThem, now);
        high.init_received(LOW, 0);
        for n in 1..100 {
            let verdict = high.authenticated(LOW, n, Opened::ByThem, now);
            let dropped = (n as usize >= MAX_DUPLICATES).then(|| n + 1 - MAX_DUPLICATES as i32);
            assert_eq!(verdict.close, Vec::from_iter(dropped));
        }
        assert_eq!(high.connected(&LOW), Some(0));
        for n in 0..100 {
            high.gone(LOW, n);
        }
        assert!(high.peers.is_empty());
    }

    /// A connection as one end sees it.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum End {
        AwaitsAct(u8),
        AwaitsInit,
        Connected,
        Closed,
    }
    #[derive(Debug, Clone, Copy)]
    enum Packet {
        Act(u8),
        Init,
        Close,
    }

    /// Two nodes, and what is on its way from each to the other, in order.
    struct World {
        duplicates: [DuplicateConnections<usize>; 2],
        ends: Vec<[End; 2]>,
        dialler: Vec<usize>,
        wire: [VecDeque<(usize, Packet)>; 2],
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self {
                duplicates: [DuplicateConnections::new(LOW), DuplicateConnections::new(HIGH)],
                ends: vec![],
                dialler: vec![],
                wire: Default::default(),
                now: Instant::now(),
            }
        }
        fn id(node: usize) -> NodeId {
            [LOW, HIGH][node]
        }
        fn dial(&mut self, node: usize) {
            if self.duplicates[node].connected(&Self::id(1 - node)).is_some() {
                return;
            }
            let mut ends = [End::AwaitsAct(1); 2];
            ends[node] = End::AwaitsAct(2);
            self.ends.push(ends);
            self.dialler.push(node);
            self.wire[node].push_back((self.ends.len() - 1, Packet::Act(1)));
        }
        fn close(&mut self, node: usize, c: usize) {
            if self.ends[c][node] != End::Closed {
                self.ends[c][node] = End::Closed;
                self.duplicates[node].gone(Self::id(1 - node), c);
                self.wire[node].push_back((c, Packet::Close));
            }
        }
        /// True where the connection goes on.
        fn authenticated(&mut self, node: usize, c: usize) -> bool {
            let opened = if self.dialler[c] == node { Opened::ByUs } else { Opened::ByThem };
            let verdict =
                self.duplicates[node].authenticated(Self::id(1 - node), c, opened, self.now);
            verdict.close.into_iter().for_each(|old| self.close(node, old));
            if verdict.stays {
                self.ends[c][node] = End::AwaitsInit;
            } else {
                self.close(node, c);
            }
            verdict.stays
        }
        /// One packet that `node` sent arrives at the other.
        fn deliver(&mut self, node: usize) -> bool {
            let Some((c, packet)) = self.wire[node].pop_front() else { return false };
            let at = 1 - node;
            match (self.ends[c][at], packet) {
                (End::Closed, _) => {}
                (_, Packet::Close) => self.close(at, c),
                (End::AwaitsAct(1), Packet::Act(1)) => {
                    self.ends[c][at] = End::AwaitsAct(3);
                    self.wire[at].push_back((c, Packet::Act(2)));
                }
                (End::AwaitsAct(2), Packet::Act(2)) => {
                    if self.authenticated(at, c) {
                        self.wire[at].push_back((c, Packet::Act(3)));
                        self.wire[at].push_back((c, Packet::Init));
                    }
                }
                (End::AwaitsAct(3), Packet::Act(3)) => {
                    if self.authenticated(at, c) {
                        self.wire[at].push_back((c, Packet::Init));
                    }
                }
                (End::AwaitsInit, Packet::Init) => {
                    self.ends[c][at] = End::Connected;
                    let old = self.duplicates[at].init_received(Self::id(node), c);
                    old.into_iter().for_each(|old| self.close(at, old));
                    for other in 0..self.ends.len() {
                        if self.ends[other][at] == End::AwaitsAct(2) {
                            self.close(at, other);
                        }
                    }
                }
                unexpected => unreachable!("{unexpected:?}"),
            }
            true
        }
        fn alive(&self, node: usize) -> Vec<usize> {
            (0..self.ends.len()).filter(|c| self.ends[*c][node] == End::Connected).collect()
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Dial(usize),
        Deliver(usize),
    }
    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            1 => (0..2usize).prop_map(Step::Dial),
            4 => (0..2usize).prop_map(Step::Deliver),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30_000))]
        #[test]
        fn crossing_dials_end_with_the_same_connection_on_both_sides(steps in steps()) {
            let mut world = World::new();
            world.dial(0);
            world.dial(1);
            for step in steps {
                match step {
                    Step::Dial(node) => world.dial(node),
                    Step::Deliver(node) => { world.deliver(node); }
                }
            }
            while world.deliver(0) | world.deliver(1) {}
            let alive = world.alive(0);
            prop_assert_eq!(&alive, &world.alive(1));
            prop_assert_eq!(alive.len(), 1, "{:?}", world.ends);
        }
    }
}
