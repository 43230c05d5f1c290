//! The `init` messages: ours, and what the peer's must hold. BOLT 1, "The init Message".

use primitives::{Features, Network, feature};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use wire::connectd::Address;
use wire::{Init, Message, Rest};

/// Our `init`. `seen` is where an inbound peer comes from, told to it unless it is a private
/// address.
pub fn ours(features: &Features, network: Network, seen: Option<SocketAddr>) -> Vec<u8> {
    Init {
        // BOLT 1: the old map has no feature above 13. Nothing that it could say is not said in the
        // other.
        global_features: Features::none(),
        features: features.clone(),
        networks: Some(Rest(network.chain_hash().to_vec())),
        remote_addr: seen.filter(|at| is_public(&at.ip())).map(|at| Rest(descriptor(&at))),
    }
    .encode()
}

/// The fields of a peer's `init` that we need.
#[derive(Debug, PartialEq, Eq)]
pub struct PeerInit {
    /// Both maps together, as far as they are kept ([`Features::kept`]).
    pub features: Features,
    /// Where it sees us.
    pub remote_addr: Option<Address>,
}

/// Why we do not go on with a peer.
#[derive(Debug, PartialEq, Eq)]
pub enum InitError {
    /// Its `networks` are others.
    OtherNetworks,
    /// A compulsory feature that we do not know.
    UnknownFeature(usize),
    /// A feature without another one that it depends on.
    MissingDependency {
        /// Offered.
        feature: usize,
        /// Not offered.
        needs: usize,
    },
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNetworks => f.write_str("no common network"),
            Self::UnknownFeature(bit) => write!(f, "feature {bit} is compulsory and unknown here"),
            Self::MissingDependency { feature, needs } => {
                write!(f, "feature {feature} needs feature {needs}, which is not offered")
            }
        }
    }
}

/// Judges the peer's `init`.
pub fn judge(init: &Init, ours: &Features, network: Network) -> Result<PeerInit, InitError> {
    let features = init.global_features.union(&init.features);
    if let Some(networks) = &init.networks {
        let (chains, _) = networks.0.as_chunks::<32>();
        // An empty list excludes nobody.
        if !chains.is_empty() && !chains.contains(&network.chain_hash()) {
            return Err(InitError::OtherNetworks);
        }
    }
    let known = ours.union(&feature::assumed());
    if let Some(bit) = features.unknown_compulsory(&known) {
        return Err(InitError::UnknownFeature(bit));
    }
    if let Some((feature, needs)) = feature::missing_dependency(&features) {
        return Err(InitError::MissingDependency { feature, needs });
    }
    let remote_addr = init.remote_addr.as_ref().and_then(|at| read_descriptor(&at.0));
    Ok(PeerInit { features: features.kept(), remote_addr })
}

/// BOLT 7, "The node_announcement Message": an address descriptor.
fn descriptor(at: &SocketAddr) -> Vec<u8> {
    let mut out = match at.ip() {
        IpAddr::V4(ip) => [&[1], &ip.octets()[..]].concat(),
        IpAddr::V6(ip) => [&[2], &ip.octets()[..]].concat(),
    };
    out.extend(at.port().to_be_bytes());
    out
}

/// Reads one that names an IP address. Anything else says nothing about how the peer sees us, and
/// is no reason to refuse it.
fn read_descriptor(bytes: &[u8]) -> Option<Address> {
    let (kind, rest) = bytes.split_first()?;
    let (ip, port) = rest.split_last_chunk::<2>()?;
    let ip: IpAddr = match kind {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some(Address { host: ip.to_string(), port: u16::from_be_bytes(*port) })
}

/// BOLT 1: private addresses should not be told. IPv6 written as IPv4 is IPv4.
fn is_public(ip: &IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::SetupMessage;

    const NET: Network = Network::Regtest;

    fn read(bytes: &[u8]) -> Init {
        let said = SetupMessage::decode_known(bytes).unwrap();
        let SetupMessage::Init(init) = said else { unreachable!("{said:?}") };
        init
    }
    fn init(features: Features) -> Init {
        Init { global_features: Features::none(), features, networks: None, remote_addr: None }
    }

    #[test]
    fn our_own_init_is_welcome_to_ourselves() {
        let features = Features::optional(&[feature::ANCHORS]).with(feature::STATIC_REMOTEKEY);
        let heard = judge(&read(&ours(&features, NET, None)), &features, NET).unwrap();
        assert_eq!(heard, PeerInit { features, remote_addr: None });
    }

    #[test]
    fn inbound_peer_learns_its_public_address_and_no_private_one() {
        for (at, told) in [
            ("1.2.3.4:567", Some("1.2.3.4")),
            ("[2001:db8::1]:9735", Some("2001:db8::1")),
            ("127.0.0.1:1", None),
            ("10.1.2.3:1", None),
            ("192.168.1.1:1", None),
            ("100.64.0.1:1", None),
            ("169.254.0.1:1", None),
            ("[::1]:1", None),
            ("[fd00::1]:1", None),
            ("[fe80::1]:1", None),
            ("[::ffff:10.0.0.1]:1", None),
        ] {
            let at: SocketAddr = at.parse().unwrap();
            let init = read(&ours(&Features::none(), NET, Some(at)));
            let seen = judge(&init, &Features::none(), NET).unwrap().remote_addr;
            let expected = told.map(|host| Address { host: host.into(), port: at.port() });
            assert_eq!(seen, expected, "{at}");
        }
    }

    #[test]
    fn peer_of_other_networks_only_is_unwelcome() {
        let chains = |networks: &[Network]| {
            Some(Rest(networks.iter().flat_map(|n| n.chain_hash()).collect()))
        };
        for (networks, welcome) in [
            (None, true),
            (chains(&[]), true),
            (chains(&[Network::Bitcoin]), false),
            (chains(&[Network::Bitcoin, NET]), true),
            (chains(&[NET]), true),
        ] {
            let init = Init { networks: networks.clone(), ..init(Features::none()) };
            let judged = judge(&init, &Features::none(), NET);
            assert_eq!(judged.is_ok(), welcome, "{networks:?}: {judged:?}");
        }
    }

    #[test]
    fn unknown_compulsory_feature_is_refused_in_either_map() {
        let none = Features::none;
        assert_eq!(judge(&init(none().with(101)), &none(), NET).map(|_| ()), Ok(()));
        let refused = Err(InitError::UnknownFeature(100));
        assert_eq!(judge(&init(none().with(100)), &none(), NET), refused);
        let global = Init { global_features: none().with(100), ..init(none()) };
        assert_eq!(judge(&global, &none(), NET), refused);
        let both =
            judge(&Init { global_features: none().with(1), ..init(none().with(15)) }, &none(), NET);
        assert_eq!(both.unwrap().features, none().with(1).with(15));
    }

    #[test]
    fn features_of_65_kb_are_judged_and_not_kept() {
        // Every odd bit of the longest map that an init has room for.
        let odd = Features::from_be_bytes(&[0xaa; 65_000]);
        let heard = judge(&init(odd.clone()), &odd, NET).unwrap();
        assert_eq!(heard.features.as_be_bytes(), [0xaa; 256]);
        let even = Features::none().with(500_000);
        assert_eq!(judge(&init(even), &odd.below(9), NET), Err(InitError::UnknownFeature(500_000)));
    }

    #[test]
    fn assumed_features_may_be_compulsory() {
        for bit in feature::assumed().bits().map(|bit| bit & !1) {
            let judged = judge(&init(Features::none().with(bit)), &Features::none(), NET);
            assert!(judged.is_ok(), "{bit}");
        }
    }

    #[test]
    fn feature_without_what_it_builds_on_is_refused() {
        let rows = feature::ROWS.iter();
        for (feature, needs) in rows.flat_map(|r| r.needs.iter().map(|n| (r.bit, *n))) {
            let alone = judge(&init(Features::none().with(feature | 1)), &Features::none(), NET);
            let assumed = feature::is_assumed(needs);
            assert_eq!(alone.is_ok(), assumed, "{feature}: {alone:?}");
            let both = init(Features::none().with(feature | 1).with(needs | 1));
            assert!(judge(&both, &Features::none(), NET).is_ok());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_init_is_judged(
            global in prop::collection::vec(any::<u8>(), 0..20),
            local in prop::collection::vec(any::<u8>(), 0..20),
            networks in prop::option::of(prop::collection::vec(any::<u8>(), 0..70)),
            remote_addr in prop::option::of(prop::collection::vec(any::<u8>(), 0..25)),
        ) {
            let init = Init {
                global_features: Features::from_be_bytes(&global),
                features: Features::from_be_bytes(&local),
                networks: networks.map(Rest),
                remote_addr: remote_addr.map(Rest),
            };
            let _ = judge(&init, &Features::none(), NET);
        }
    }
}
