//! Networks that callers may come from, as people write them: `"192.0.2.0/24"`, `"2001:db8::/32"`, or one address.
//!
//! IPv4 inside IPv6 (`::ffff:192.0.2.7`) is the IPv4 address: a listener on `[::]` sees such peers, and a list that was
//! written in IPv4 must hold for them.
//!
//! A list that holds all of IPv4 or all of IPv6 keeps nobody out: it is no way to know a caller.

use ipnet::{IpNet, Ipv4Net};
use std::{fmt, net::IpAddr};

/// Bits in front of an IPv4 address inside an IPv6 address.
const MAPPED: u8 = 96;

/// A list of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether the list is empty; what that means is for the key to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list tells some callers from others: it names networks, and not every address of IPv4 or of IPv6.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        // Joined first: two halves are the whole as well.
        !self.is_empty() && IpNet::aggregate(&self.0).iter().all(|network| network.prefix_len() > 0)
    }

    /// How many networks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether an address lies in one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The networks, each as it would be written.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            network.fmt(f)?;
        }
        Ok(())
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Neither an address nor a network.
    NotOne,
    /// Bits are set behind the prefix: it cannot be told which part was meant.
    Inside(IpNet),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOne => f.write_str("is no network"),
            Self::Inside(network) => write!(f, "has bits behind its prefix; the network is {network}"),
        }
    }
}

/// Reads a network, or one address.
pub(crate) fn network(text: &str) -> Result<IpNet, Flaw> {
    let written = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => canonical(text.parse().map_err(|_not_one| Flaw::NotOne)?),
    };
    let whole = written.trunc();
    if whole == written { Ok(written) } else { Err(Flaw::Inside(whole)) }
}

fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(wide) = network else { return network };
    match (wide.addr().to_ipv4_mapped(), wide.prefix_len().checked_sub(MAPPED)) {
        (Some(address), Some(prefix)) => Ipv4Net::new(address, prefix).map_or(network, IpNet::V4),
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| network(text).unwrap()).collect()
    }

    #[test]
    fn says_what_lies_inside() {
        let networks = networks(&["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::ffff:203.0.113.0/120"]);
        for inside in ["192.0.2.0", "192.0.2.255", "198.51.100.7", "2001:db8::1", "203.0.113.9", "::ffff:192.0.2.1"] {
            assert!(networks.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["192.0.3.0", "198.51.100.8", "2001:db9::", "::192.0.2.1", "::ffff:198.51.100.8"] {
            assert!(!networks.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(!Networks::default().contains(IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn a_list_of_everything_selects_nobody() {
        for open in [&["0.0.0.0/0", "::/0"][..], &["::/0"], &["0.0.0.0/1", "128.0.0.0/1"], &["::ffff:0.0.0.0/96"], &[]]
        {
            assert!(!networks(open).is_selective(), "{open:?}");
        }
        for selective in [&["0.0.0.0/1"][..], &["192.0.2.0/24", "2001:db8::/32"], &["::1"]] {
            assert!(networks(selective).is_selective(), "{selective:?}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "example.com", "10.0.0.0/8/8", "::/129", "10.0.0.0 /8"] {
            assert_eq!(network(text), Err(Flaw::NotOne), "{text}");
        }
        assert_eq!(
            network("10.1.2.3/8").unwrap_err().to_string(),
            "has bits behind its prefix; the network is 10.0.0.0/8"
        );
    }

    proptest! {
        #[test]
        fn never_panics_and_reads_what_it_writes(text in "[0-9a-f:./]{0,40}") {
            if let Ok(read) = network(&text) {
                prop_assert_eq!(network(&read.to_string()), Ok(read));
            }
        }

        #[test]
        fn a_mapped_address_is_the_ipv4_address(address: [u8; 4], prefix in 0_u8..=32) {
            let address = std::net::Ipv4Addr::from(address);
            let whole: Networks = [IpNet::V4(Ipv4Net::new(address, prefix).unwrap().trunc())].into_iter().collect();
            prop_assert!(whole.contains(address.into()));
            prop_assert!(whole.contains(address.to_ipv6_mapped().into()));
        }
    }
}
