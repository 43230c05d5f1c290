//! Where a connection comes from, as far as that tells people apart.

use std::net::IpAddr;

/// The network around an address, and what one person has of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Its /16 of IPv4, or its /32 of IPv6.
    pub wide: u64,
    /// Its address of IPv4, or its /56 of IPv6.
    pub own: u64,
    /// Is it one of this machine's, or of a network that is not the internet's?
    pub is_local: bool,
}

/// Leading bits of an IPv6 address, in a number that no IPv4 address has: their first bit is 1.
fn v6_bits(ip: std::net::Ipv6Addr, bits: u32) -> u64 {
    let high = (u128::from(ip) >> 64) as u64;
    1 << 63 | (high >> (64 - bits))
}

impl Source {
    /// Of whoever comes from there.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let bits = u64::from(u32::from(ip));
                Self { wide: bits >> 16, own: bits, is_local: ip.is_loopback() || ip.is_private() }
            }
            IpAddr::V6(ip) => Self {
                wide: v6_bits(ip, 32),
                own: v6_bits(ip, 56),
                is_local: ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
            },
        }
    }
}
