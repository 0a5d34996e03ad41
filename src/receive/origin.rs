//! What counts as one address where callers are held to shares.

use std::net::{IpAddr, Ipv6Addr};

/// How many shares of one address a whole IPv6 /48 has. A customer of a provider has a /48 at the most, as a rule.
const WIDE: usize = 2;

/// An address, or the network that counts as one: an IPv6 caller has a whole /64 at the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    network: IpAddr,
    prefix: u8,
}

impl Origin {
    /// What an address belongs to, each with how many shares of one address that has.
    pub(super) fn all_of(address: IpAddr) -> impl Iterator<Item = (Self, usize)> + Clone {
        let (one, wide) = match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                let network = |d, prefix| Self { network: Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into(), prefix };
                (network(d, 64), Some((network(0, 48), WIDE)))
            }
            network @ IpAddr::V4(_) => (Self { network, prefix: 32 }, None),
        };
        [Some((one, 1)), wide].into_iter().flatten()
    }
}
