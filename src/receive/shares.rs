//! Holds each address to its share of the connections.
//!
//! An IPv6 caller has a whole /64 at the least, so that counts as one address. The table holds addresses with an open
//! connection only, and so is never larger than the number of connections.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// What is counted as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin(IpAddr);

impl Origin {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }
}

/// Connections by address.
#[derive(Debug)]
pub(super) struct Shares {
    most: usize,
    taken: Mutex<HashMap<Origin, usize>>,
}

impl Shares {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for one connection from an address; `None` when its share is used up.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Share> {
        let origin = Origin::of(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(origin).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { shares: Arc::clone(self), origin })
    }
}

/// A taken place; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    origin: Origin,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = taken.entry(self.origin) {
            if *count.get() > 1 {
                *count.get_mut() -= 1;
            } else {
                count.remove();
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

    #[test]
    fn an_address_has_its_share_and_no_more() {
        let shares = Shares::new(2);
        let first = shares.take(ip("192.0.2.7")).unwrap();
        let _second = shares.take(ip("::ffff:192.0.2.7")).unwrap();
        assert!(shares.take(ip("192.0.2.7")).is_none());
        let _other = shares.take(ip("192.0.2.8")).unwrap();
        drop(first);
        assert!(shares.take(ip("192.0.2.7")).is_some());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_nothing_is_left_behind() {
        let shares = Shares::new(1);
        let taken = shares.take(ip("2001:db8:0:1::1")).unwrap();
        assert!(shares.take(ip("2001:db8:0:1:ffff::")).is_none());
        let other = shares.take(ip("2001:db8:0:2::1")).unwrap();
        drop((taken, other));
        assert!(shares.taken.lock().unwrap().is_empty());
    }
}
