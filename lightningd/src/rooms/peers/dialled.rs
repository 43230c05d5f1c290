//! Whom connectd was told to dial, and where: a connection that it reports as dialled by us is
//! believed to be one only then, since its address is a row that outlives connectd.

use primitives::NodeId;
use std::collections::BTreeMap;
use std::net::IpAddr;
use wire::connectd::Address;

/// Addresses remembered for one dial: connectd tries no more.
const MAX_ADDRESSES: usize = 16;

/// Dials that connectd has not answered.
#[derive(Debug, Default)]
pub struct Dialled(BTreeMap<NodeId, Vec<Address>>);

impl Dialled {
    /// connectd is told to dial this peer at these addresses, perhaps beside others.
    pub(super) fn begin(&mut self, peer: NodeId, addresses: Vec<Address>) {
        let known = self.0.entry(peer).or_default();
        known.retain(|a| !addresses.contains(a));
        known.extend(addresses);
        let old = known.len().saturating_sub(MAX_ADDRESSES);
        known.drain(..old);
    }
    /// The dial has ended, one way or the other.
    pub fn end(&mut self, peer: NodeId) {
        self.0.remove(&peer);
    }
    /// connectd is gone, and every dial with it.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
    /// May a dial of this peer have reached this address? What a hostname is looked up as only
    /// connectd knows.
    pub fn may_reach(&self, peer: NodeId, address: &Address) -> bool {
        // However it was written: connectd says it in its canonical form.
        let ip = |a: &Address| a.host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let reached = ip(address);
        let may_be = |a: &Address| a == address || ip(a).is_none_or(|ip| Some(ip) == reached);
        self.0.get(&peer).is_some_and(|all| all.iter().any(|a| a.port == address.port && may_be(a)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> Address {
        Address { host: host.to_owned(), port: 9735 }
    }

    #[test]
    fn address_is_believed_where_its_peer_was_dialled() {
        let (peer, other) = (NodeId([2; 33]), NodeId([3; 33]));
        let mut dialled = Dialled::default();
        dialled.begin(peer, vec![at("10.0.0.1")]);
        dialled.begin(peer, vec![at("10.0.0.2"), at("10.0.0.1")]);
        assert!(dialled.may_reach(peer, &at("10.0.0.1")));
        assert!(!dialled.may_reach(peer, &at("10.0.0.3")));
        assert!(!dialled.may_reach(other, &at("10.0.0.1")));
        for (dialled_as, reached) in
            [("2001:DB8:0:0::1", "2001:db8::1"), ("::ffff:10.0.0.9", "10.0.0.9")]
        {
            dialled.begin(peer, vec![at(dialled_as)]);
            assert!(dialled.may_reach(peer, &at(reached)), "{dialled_as}");
        }
        dialled.begin(peer, vec![at("example.com")]);
        assert!(dialled.may_reach(peer, &at("10.0.0.3")));
        dialled.begin(peer, (0..100).map(|n| at(&format!("10.0.1.{n}"))).collect());
        assert_eq!(dialled.0[&peer].len(), MAX_ADDRESSES);
        dialled.end(peer);
        assert!(!dialled.may_reach(peer, &at("10.0.1.99")));
    }
}
