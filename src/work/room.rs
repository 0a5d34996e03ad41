//! How much of a stage's work is leased at once, and how much of that is worked on.
//!
//! A lease needs room before it is claimed, and a hand before it is worked on. Usually there is as much room as there are hands.
//! While work is quicker than a claim, that would leave hands idle: each waits for the commit of the next claim. A pool then
//! claims ahead, so that leases wait for hands, and claims many at a time. Slow work is not claimed ahead: what waits here could
//! go to another receiver, and to claim one lease at a time costs it nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::Instant,
};

/// Leases under work at once at most, where the handler takes many at once.
const MOST_IN_BATCHES: usize = 4096;
/// Leases that wait for each hand, while work is quick.
const AHEAD: usize = 2;
/// Work that takes less is quick: a claim takes one to five milliseconds.
const QUICK: Duration = Duration::from_millis(5);
/// Of the average duration, for how much the newest one counts: an eighth.
const WEIGHT: u64 = 8;

/// How many leases are under work at once at most. Each of the hands takes one, or a whole batch where the handler takes many
/// at once: to write 500 lines and to sync them is one thing to do.
#[must_use]
pub(super) fn room_for(hands: usize, batch: usize) -> usize {
    hands.max(hands.saturating_mul(batch).min(MOST_IN_BATCHES)).max(1)
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Room {
    /// One for each lease that is held or may be claimed.
    leases: Arc<Semaphore>,
    /// One for each lease that may be worked on.
    hands: Semaphore,
    /// Who waits for a hand.
    waiting: AtomicUsize,
    most: usize,
    ahead: usize,
    /// What work took lately, in microseconds.
    takes: AtomicU64,
}

impl Room {
    pub(super) fn new(hands: usize, batch: usize) -> Self {
        let most = room_for(hands, batch);
        // Batches wait for their commits already, many leases at a time.
        let ahead = if batch > 1 { 0 } else { most.saturating_mul(AHEAD) };
        Self {
            leases: Arc::new(Semaphore::new((most + ahead).min(Semaphore::MAX_PERMITS))),
            hands: Semaphore::new(most),
            waiting: AtomicUsize::new(0),
            most,
            ahead,
            takes: AtomicU64::new(micros(QUICK)),
        }
    }

    /// Leases that may be worked on at once.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// Waits until it is worth while to claim: for a free hand, or, while work is quick, for room for as many leases as there are hands.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is taken.
    pub(super) async fn wait(&self) -> Result<(), AcquireError> {
        let enough = if self.is_ahead() { self.most } else { self.ahead + 1 };
        let enough = u32::try_from(enough).unwrap_or(u32::MAX);
        self.leases.acquire_many(enough).await.map(drop)
    }

    /// How many leases may be claimed now.
    pub(super) fn free(&self) -> usize {
        let free = self.leases.available_permits();
        if self.is_ahead() { free } else { free.saturating_sub(self.ahead) }
    }

    /// Takes so much room, of which so many others still need some; less where there is less, but for one lease at least. `None`: there
    /// is none at all.
    pub(super) fn take(&self, count: usize, others: usize) -> Option<OwnedSemaphorePermit> {
        let count = count.min(self.leases.available_permits().saturating_sub(others)).max(1);
        Arc::clone(&self.leases).try_acquire_many_owned(u32::try_from(count).unwrap_or(u32::MAX)).ok()
    }

    /// Waits for as many hands as leases took room. `None`: that took longer than `patience`, as in a process that was stopped
    /// meanwhile. Others may have the leases by then.
    ///
    /// # Cancel safety
    /// Cancel safe; who waits again stands at the end of the line.
    pub(super) async fn hand(&self, room: &OwnedSemaphorePermit, patience: Duration) -> Option<SemaphorePermit<'_>> {
        let (_waits, begin) = (Waits::new(&self.waiting), Instant::now());
        let hands = self.hands.acquire_many(u32::try_from(room.num_permits()).unwrap_or(u32::MAX)).await;
        hands.ok().filter(|_| begin.elapsed() < patience)
    }

    /// Whether every hand is at work.
    pub(super) fn is_crowded(&self) -> bool {
        self.hands.available_permits() == 0
    }

    /// Whether a lease that is held waits for a hand.
    pub(super) fn is_waited_in(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Whether leases are claimed ahead: work is quicker than a claim.
    pub(super) fn is_ahead(&self) -> bool {
        self.ahead > 0 && self.takes.load(Ordering::Relaxed) < micros(QUICK)
    }

    /// Work on a lease took so long.
    pub(super) fn took(&self, duration: Duration) {
        // One that hung shall not be remembered for hundreds of quick ones.
        let took = micros(duration.min(QUICK * 4));
        let before = self.takes.load(Ordering::Relaxed);
        self.takes.store((before * (WEIGHT - 1) + took) / WEIGHT, Ordering::Relaxed);
    }
}

/// Counts somebody who waits, for as long as it is there.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_hand_takes_a_batch_and_batches_do_not_take_everything() {
        assert_eq!(room_for(32, 1), 32);
        assert_eq!(room_for(4, 100), 400);
        assert_eq!(room_for(32, 512), MOST_IN_BATCHES);
        assert_eq!(room_for(5000, 512), 5000, "what was asked for is given");
        assert_eq!(room_for(0, 1), 1);
    }

    #[test]
    fn slow_work_is_claimed_for_free_hands_alone() {
        let room = Room::new(4, 1);
        assert!(!room.is_ahead());
        assert_eq!(room.free(), 4);
        let mut held: Vec<_> = (0..4).map(|_| room.take(1, 0).unwrap()).collect();
        assert_eq!((room.free(), room.wait().now_or_never().is_some()), (0, false));
        held.truncate(3);
        assert_eq!((room.free(), room.wait().now_or_never().is_some()), (1, true));
    }

    #[test]
    fn quick_work_is_claimed_ahead_and_many_at_a_time() {
        let room = Room::new(4, 1);
        (0..20).for_each(|_| room.took(Duration::from_micros(300)));
        assert!(room.is_ahead());
        assert_eq!(room.free(), 12);
        let mut held: Vec<_> = (0..12).map(|_| room.take(1, 0).unwrap()).collect();
        assert!(room.take(1, 0).is_none());
        held.truncate(9);
        assert_eq!((room.free(), room.wait().now_or_never().is_some()), (3, false));
        held.truncate(8);
        assert_eq!((room.free(), room.wait().now_or_never().is_some()), (4, true));
        // One that hung makes it slow, and is soon forgotten.
        room.took(Duration::from_secs(30));
        room.took(Duration::from_secs(30));
        room.took(Duration::from_secs(30));
        assert!(!room.is_ahead());
        (0..20).for_each(|_| room.took(Duration::from_micros(300)));
        assert!(room.is_ahead());
    }

    #[test]
    fn only_so_many_are_worked_on_as_there_are_hands() {
        let room = Room::new(2, 1);
        (0..20).for_each(|_| room.took(Duration::from_micros(300)));
        let held: Vec<_> = (0..6).map(|_| room.take(1, 0).unwrap()).collect();
        let hands: Vec<_> = held.iter().map_while(|held| room.hand(held, PATIENCE).now_or_never()).collect();
        assert_eq!((hands.len(), room.is_crowded(), room.is_waited_in()), (2, true, false));
        let mut waits = Box::pin(room.hand(&held[2], PATIENCE));
        assert!((&mut waits).now_or_never().is_none());
        // Who waits for room takes what there is of it, and changes nothing of that.
        let mut next = Box::pin(room.wait());
        assert!((&mut next).now_or_never().is_none() && room.is_waited_in());
        drop(waits);
        assert!(!room.is_waited_in());
    }

    #[test]
    fn batches_are_not_claimed_ahead() {
        let room = Room::new(4, 100);
        (0..20).for_each(|_| room.took(Duration::from_micros(300)));
        assert_eq!(room.free(), 400);
        let batch = room.take(399, 0).unwrap();
        assert_eq!((room.free(), room.wait().now_or_never().is_some()), (1, true));
        assert!(room.hand(&batch, PATIENCE).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_too_long_gets_no_hand() {
        let room = Room::new(1, 1);
        let held: Vec<_> = (0..3).map(|_| room.take(1, 0).unwrap()).collect();
        for (pause, is_given) in [(PATIENCE / 2, true), (PATIENCE * 4, false)] {
            let first = room.hand(&held[0], PATIENCE).await;
            let mut second = Box::pin(room.hand(&held[1], PATIENCE));
            assert!((&mut second).now_or_never().is_none());
            tokio::time::advance(pause).await;
            drop(first);
            assert_eq!(second.await.is_some(), is_given);
            // The hand is free for others.
            assert!(room.hand(&held[2], PATIENCE).await.is_some());
        }
    }
}
