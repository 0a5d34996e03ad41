//! Handshakes under way: how many there may be, and who leaves first where there is no room.
//!
//! A socket costs its caller nothing, so the number of handshakes alone would let two addresses shut everybody out. Three
//! rules keep a good caller's handshake going:
//! - An address has a share, and a new socket beyond it takes the place of another one of the same address.
//! - Where all places are taken, the oldest socket that has sent nothing leaves, and then the oldest handshake that has gone
//!   on for a second: a good caller sends its first bytes at once, and is through within a few round trips.
//! - Where `sender.networks` tells callers apart, strangers leave first, and never push out one who is awaited.

use super::{origin::Origin, shares::Standing};
use base::sync::lock;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A good handshake is over by then.
const LONG: Duration = Duration::from_secs(1);

/// The order in which guests leave: the first leaves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    standing: Standing,
    has_begun: bool,
    number: u64,
}

#[derive(Debug)]
struct Guest {
    /// `None` while nobody knows who is behind a balancer.
    address: Option<IpAddr>,
    since: Instant,
    leave: CancellationToken,
}

/// Places for handshakes.
#[derive(Debug)]
pub(super) struct Lobby {
    most: usize,
    /// Of one address.
    share: usize,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    all: BTreeMap<Rank, Guest>,
    by_origin: HashMap<Origin, BTreeSet<Rank>>,
}

impl Lobby {
    pub(super) fn new(most: usize, share: usize) -> Arc<Self> {
        Arc::new(Self { most, share, guests: Mutex::default() })
    }

    /// A place for one handshake; `None` when nobody leaves for it.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>, standing: Standing) -> Option<Ticket> {
        let mut guests = lock(&self.guests);
        if !guests.has_room(address, self.share) {
            return None;
        }
        if guests.all.len() >= self.most {
            let first = *guests.all.keys().next()?;
            if standing < first.standing || !guests.may_leave(first, standing) {
                return None;
            }
            guests.send_away(first);
        }
        let rank = Rank { standing, has_begun: false, number: guests.next };
        guests.next += 1;
        let leave = CancellationToken::new();
        guests.insert(rank, Guest { address, since: Instant::now(), leave: leave.clone() });
        Some(Ticket { lobby: Arc::clone(self), rank, leave })
    }
}

impl Guests {
    /// Whether an address may have one more, once its first to leave has left where it has its share.
    fn has_room(&mut self, address: Option<IpAddr>, share: usize) -> bool {
        let Some(address) = address else { return true };
        for (origin, shares) in Origin::all_of(address) {
            let ranks = self.by_origin.get(&origin);
            if ranks.is_none_or(|ranks| ranks.len() < share.saturating_mul(shares)) {
                continue;
            }
            match ranks.and_then(|ranks| ranks.first().copied()) {
                Some(first) if self.may_leave(first, first.standing) => self.send_away(first),
                _ => return false,
            }
        }
        true
    }

    /// Whether a guest makes room for a newcomer.
    fn may_leave(&self, rank: Rank, newcomer: Standing) -> bool {
        let has_been_long = || self.all.get(&rank).is_some_and(|guest| guest.since.elapsed() > LONG);
        !rank.has_begun || rank.standing < newcomer || has_been_long()
    }

    fn send_away(&mut self, rank: Rank) {
        if let Some(guest) = self.remove(rank) {
            guest.leave.cancel();
        }
    }

    fn insert(&mut self, rank: Rank, guest: Guest) {
        for (origin, _) in guest.address.into_iter().flat_map(Origin::all_of) {
            self.by_origin.entry(origin).or_default().insert(rank);
        }
        self.all.insert(rank, guest);
    }

    fn remove(&mut self, rank: Rank) -> Option<Guest> {
        let guest = self.all.remove(&rank)?;
        for (origin, _) in guest.address.into_iter().flat_map(Origin::all_of) {
            if let Some(ranks) = self.by_origin.get_mut(&origin) {
                ranks.remove(&rank);
                if ranks.is_empty() {
                    self.by_origin.remove(&origin);
                }
            }
        }
        Some(guest)
    }
}

/// The place of one handshake; given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    lobby: Arc<Lobby>,
    rank: Rank,
    leave: CancellationToken,
}

impl Ticket {
    /// Cancelled when the handshake has to make room for another one.
    pub(super) fn must_leave(&self) -> CancellationToken {
        self.leave.clone()
    }

    /// Notes that the caller has begun with TLS.
    pub(super) fn begin(&mut self) {
        self.change(Rank { has_begun: true, ..self.rank }, |guest| guest.since = Instant::now());
    }

    /// Notes whom a balancer has named; false where that address has its share.
    pub(super) fn comes_from(&mut self, address: IpAddr, standing: Standing) -> bool {
        let share = self.lobby.share;
        let has_room = lock(&self.lobby.guests).has_room(Some(address), share);
        self.change(Rank { standing, ..self.rank }, |guest| guest.address = Some(address));
        has_room
    }

    fn change(&mut self, rank: Rank, change: impl FnOnce(&mut Guest)) {
        let mut guests = lock(&self.lobby.guests);
        // One that was sent away has no place any more.
        if let Some(mut guest) = guests.remove(self.rank) {
            change(&mut guest);
            guests.insert(rank, guest);
            self.rank = rank;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.lobby.guests).remove(self.rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Anybody, Awaited, Stranger};

    fn enter(lobby: &Arc<Lobby>, address: &str, standing: Standing) -> Option<Ticket> {
        lobby.enter(Some(address.parse().unwrap()), standing)
    }

    fn left(ticket: &Ticket) -> bool {
        ticket.leave.is_cancelled()
    }

    /// (C3) The oldest that has sent nothing leaves, and one that has begun only after a while.
    #[tokio::test(start_paused = true)]
    async fn who_is_silent_leaves_first_and_who_is_long_at_it_next() {
        let lobby = Lobby::new(3, 3);
        let mut begun = enter(&lobby, "192.0.2.1", Anybody).unwrap();
        begun.begin();
        let silent = ["192.0.2.2", "192.0.2.3"].map(|address| enter(&lobby, address, Anybody).unwrap());
        let mut others = vec![enter(&lobby, "192.0.2.4", Anybody).unwrap()];
        assert!(left(&silent[0]) && !left(&silent[1]) && !left(&begun));
        others.push(enter(&lobby, "192.0.2.5", Anybody).unwrap());
        assert!(left(&silent[1]) && !left(&begun));
        others.iter_mut().for_each(Ticket::begin);
        assert!(enter(&lobby, "192.0.2.6", Anybody).is_none(), "all are at it");
        tokio::time::advance(LONG * 2).await;
        let _last = enter(&lobby, "192.0.2.6", Anybody).unwrap();
        assert!(left(&begun) && others.iter().all(|other| !left(other)));
    }

    /// (C3) An address that has its share pushes out its own.
    #[tokio::test(start_paused = true)]
    async fn an_address_beyond_its_share_makes_room_for_itself() {
        let lobby = Lobby::new(100, 2);
        let other = enter(&lobby, "192.0.2.9", Anybody).unwrap();
        let own = ["192.0.2.1"; 3].map(|address| enter(&lobby, address, Anybody).unwrap());
        assert!(left(&own[0]) && !left(&own[1]) && !left(&own[2]) && !left(&other));
        // A /48 has twice the share.
        let wide: Vec<Ticket> =
            (0..5).map(|net| enter(&lobby, &format!("2001:db8:0:{net}::1"), Anybody).unwrap()).collect();
        assert!(left(&wide[0]) && wide[1..].iter().all(|ticket| !left(ticket)));
        drop((other, own, wide));
        let guests = lobby.guests.lock().unwrap();
        assert!(guests.all.is_empty() && guests.by_origin.is_empty());
    }

    /// (C3) Strangers leave before those who are awaited, and never push one of them out.
    #[tokio::test(start_paused = true)]
    async fn who_is_awaited_goes_first() {
        let lobby = Lobby::new(2, 2);
        let mut stranger = enter(&lobby, "198.51.100.1", Stranger).unwrap();
        stranger.begin();
        let first = enter(&lobby, "192.0.2.1", Awaited).unwrap();
        let second = enter(&lobby, "192.0.2.2", Awaited).unwrap();
        assert!(left(&stranger) && !left(&first));
        assert!(enter(&lobby, "198.51.100.2", Stranger).is_none());
        let _third = enter(&lobby, "192.0.2.3", Awaited).unwrap();
        assert!(left(&first) && !left(&second));
    }

    /// (C3) Behind a balancer, the address counts once it is known.
    #[tokio::test(start_paused = true)]
    async fn who_is_behind_a_balancer_counts_for_its_own_address() {
        let lobby = Lobby::new(10, 1);
        let mut behind = [(); 3].map(|()| lobby.enter(None, Awaited).unwrap());
        let address = "192.0.2.1".parse().unwrap();
        assert!(behind[0].comes_from(address, Anybody));
        assert!(behind[1].comes_from(address, Anybody), "the first one makes room");
        assert!(left(&behind[0]));
        behind[1].begin();
        assert!(!behind[2].comes_from(address, Anybody));
    }
}
