//! Holds each address to its share of the connections, and all strangers together to half of them.
//!
//! An IPv6 /64 counts as one address, and a /48 has twice as many at the most (`origin`). The table holds addresses with an
//! open connection only, and so is never much larger than the number of connections.

use super::{origin::Origin, reason::Reason};
use base::sync::lock;
use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex},
};

/// Connections by address.
#[derive(Debug)]
pub(super) struct Shares {
    /// Of one address.
    most: usize,
    /// Of all strangers together.
    most_strangers: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_origin: HashMap<Origin, usize>,
    strangers: usize,
}

/// Whether callers from an address are awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// `sender.networks` says who is awaited, and the address is not in it.
    Stranger,
    /// `sender.networks` does not tell callers apart.
    Anybody,
    /// The address is in `sender.networks`.
    Awaited,
}

impl Shares {
    pub(super) fn new(most: usize, connections: usize) -> Arc<Self> {
        Arc::new(Self { most, most_strangers: (connections / 2).max(1), taken: Mutex::default() })
    }

    /// A place for one connection from an address, or whose limit is in the way.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, standing: Standing) -> Result<Share, Reason> {
        let origins = Origin::all_of(address);
        let mut taken = lock(&self.taken);
        let count = |origin| taken.by_origin.get(&origin).copied().unwrap_or(0);
        if origins.clone().any(|(origin, shares)| count(origin) >= self.most.saturating_mul(shares)) {
            return Err(Reason::AddressLimit);
        }
        let is_stranger = standing == Standing::Stranger;
        if is_stranger && taken.strangers >= self.most_strangers {
            return Err(Reason::StrangerLimit);
        }
        taken.strangers += usize::from(is_stranger);
        for (origin, _) in origins {
            *taken.by_origin.entry(origin).or_default() += 1;
        }
        Ok(Share { shares: Arc::clone(self), address, is_stranger })
    }
}

/// A taken place; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    address: IpAddr,
    is_stranger: bool,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = lock(&self.shares.taken);
        taken.strangers -= usize::from(self.is_stranger);
        for (origin, _) in Origin::all_of(self.address) {
            if let Entry::Occupied(mut count) = taken.by_origin.entry(origin) {
                if *count.get() > 1 {
                    *count.get_mut() -= 1;
                } else {
                    count.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn take(shares: &Arc<Shares>, address: &str) -> Option<Share> {
        shares.take(ip(address), Standing::Anybody).ok()
    }

    #[test]
    fn an_address_has_its_share_and_no_more() {
        let shares = Shares::new(2, 100);
        let first = take(&shares, "192.0.2.7").unwrap();
        let _second = take(&shares, "::ffff:192.0.2.7").unwrap();
        assert_eq!(shares.take(ip("192.0.2.7"), Standing::Awaited).unwrap_err(), Reason::AddressLimit);
        let _other = take(&shares, "192.0.2.8").unwrap();
        drop(first);
        assert!(take(&shares, "192.0.2.7").is_some());
    }

    /// (C3) Whoever has a /48 has 65,536 networks that count as one address each.
    #[test]
    fn an_ipv6_network_counts_as_one_and_nothing_is_left_behind() {
        let shares = Shares::new(1, 100);
        let taken = take(&shares, "2001:db8:0:1::1").unwrap();
        assert!(take(&shares, "2001:db8:0:1:ffff::").is_none());
        let other = take(&shares, "2001:db8:0:2::1").unwrap();
        assert!(take(&shares, "2001:db8:0:3::1").is_none(), "the /48 has its two");
        let beside = take(&shares, "2001:db8:1:3::1").unwrap();
        drop((taken, other, beside));
        assert!(shares.taken.lock().unwrap().by_origin.is_empty());
    }

    /// (C3) However many addresses strangers have, half of the connections are for those who are awaited.
    #[test]
    fn strangers_have_half_of_the_connections() {
        let shares = Shares::new(100, 4);
        let _one = shares.take(ip("198.51.100.1"), Standing::Stranger).unwrap();
        let two = shares.take(ip("198.51.100.2"), Standing::Stranger).unwrap();
        assert_eq!(shares.take(ip("198.51.100.3"), Standing::Stranger).unwrap_err(), Reason::StrangerLimit);
        let _awaited = shares.take(ip("192.0.2.1"), Standing::Awaited).unwrap();
        drop(two);
        assert!(shares.take(ip("198.51.100.3"), Standing::Stranger).is_ok());
    }
}
