//! All channels, and the ways to one: its number, its names, its peer.

use crate::rooms::channels::state::State;
use crate::rooms::channels::{Channel, Channels, Owner};
use primitives::*;
use std::collections::BTreeSet;

impl Channels {
    /// The channel of this id with this peer, wherever its life is.
    pub fn by_id(&self, peer: NodeId, id: ChannelId) -> Option<&Channel> {
        let of_peer = self.by_peer.get(&peer).into_iter().flatten();
        let mut channels = of_peer.filter_map(|n| self.all.get(n).or_else(|| self.closed.get(n)));
        channels.find(|c| c.id == id)
    }
    /// Channels with this peer that are not buried.
    pub fn with(&self, peer: NodeId) -> impl Iterator<Item = &Channel> {
        self.by_peer.get(&peer).into_iter().flatten().filter_map(|n| self.all.get(n))
    }
    /// The channel that this short id or alias of ours stands for, in an onion or a route.
    pub fn named(&self, name: ShortChannelId) -> Option<&Channel> {
        self.by_name.get(&name).and_then(|n| self.all.get(n)).filter(|c| c.is_called(name))
    }
    /// Everybody with whom a channel of ours has money on the chain.
    pub fn funded_peers(&self) -> BTreeSet<NodeId> {
        self.all.values().filter(|c| c.funding_height.is_some()).map(|c| c.peer).collect()
    }
    /// How many channels there are with this peer.
    pub fn count_with(&self, peer: NodeId) -> usize {
        self.with(peer).count()
    }
    /// Is there a channel that needs a connection with this peer?
    pub fn wants_connection(&self, peer: NodeId) -> bool {
        self.with(peer).any(|c| self.needs_connection(c))
    }
    /// Has its peer something to do for it, or to hear: that it failed?
    fn needs_connection(&self, channel: &Channel) -> bool {
        let untold =
            channel.state == State::AwaitingUnilateral && !self.told.contains_key(&channel.number);
        channel.wants_peer() || untold
    }
    /// Everybody who should be dialled.
    pub fn peers_to_reconnect(&self) -> Vec<NodeId> {
        let mut peers: Vec<_> =
            self.all.values().filter(|c| self.needs_connection(c)).map(|c| c.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }
    /// The state of a channel with this peer that forbids to hang up lightly.
    pub fn busy_with(&self, peer: NodeId) -> Option<&'static str> {
        self.with(peer).find(|c| c.owner != Owner::Nobody).map(|c| c.state.name())
    }
    /// Is there a live channel whose fees may need to be bumped?
    pub fn any_with_anchors(&self) -> bool {
        self.all
            .values()
            .any(|c| c.state.is_open() && c.live.params.channel_type.offers(feature::ANCHORS))
    }
    /// What peers could send us over all channels.
    pub fn receivable(&self) -> Msat {
        let usable = self.all.values().filter(|c| c.state == State::Normal);
        Msat(
            usable
                .filter_map(|c| channel::Channel::new(c.live.clone()).ok())
                .map(|c| c.receivable().0)
                .sum(),
        )
    }
    /// Puts a channel in its place.
    pub fn insert(&mut self, channel: Channel) {
        self.by_funding.insert(channel.live.params.funding, channel.number);
        self.know_names(&channel);
        let of_peer = self.by_peer.entry(channel.peer).or_default();
        if !of_peer.contains(&channel.number) {
            of_peer.push(channel.number);
        }
        if channel.state == State::Closed {
            self.closed.insert(channel.number, channel);
        } else {
            self.all.insert(channel.number, channel);
        }
    }
    /// Takes a channel out of every place, as if it had never been.
    pub(super) fn remove(&mut self, number: ChannelNumber) {
        let Some(channel) = self.all.remove(&number) else { return };
        self.told.remove(&number);
        self.by_funding.remove(&channel.live.params.funding);
        for name in [Some(channel.alias_local), channel.scid].into_iter().flatten() {
            if self.by_name.get(&name) == Some(&number) {
                self.by_name.remove(&name);
            }
        }
        if let Some(of_peer) = self.by_peer.get_mut(&channel.peer) {
            of_peer.retain(|n| *n != number);
            if of_peer.is_empty() {
                self.by_peer.remove(&channel.peer);
            }
        }
    }
    fn know_names(&mut self, channel: &Channel) {
        for name in [Some(channel.alias_local), channel.scid].into_iter().flatten() {
            self.by_name.insert(name, channel.number);
        }
    }
    pub(super) fn change(&mut self, number: ChannelNumber, change: impl FnOnce(&mut Channel)) {
        let Some(channel) = self.all.get_mut(&number) else { return };
        let scid = channel.scid;
        change(channel);
        if channel.scid != scid
            && let Some(new) = channel.scid
        {
            self.by_name.insert(new, number);
        }
    }
}
