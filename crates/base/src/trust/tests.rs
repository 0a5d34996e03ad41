//! The model, played: a world of connections, good and bad ones, whose calls go through one [`Trust`] on a clock that the
//! test moves.

use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};

const TICK: Duration = Duration::from_millis(5);
/// What a caller waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const SLOTS: usize = 16;
/// Pieces of work taken up at once, as in the service.
const HANDS: usize = 32;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Moment {
    Moment::new(ms(millis))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Good,
    Fails,
    Hangs,
    /// 429 with `Retry-After`.
    Throttled,
}

/// One piece of work of a connection; the next of the same connection begins when it has ended.
#[derive(Clone, Debug)]
struct Work {
    connection: usize,
    accepted: Moment,
    due: Moment,
    attempts: u32,
    /// Since when it is due but has not gone.
    waits_since: Moment,
}

struct Call {
    leave: Leave,
    work: Work,
    ends: Moment,
    manner: Manner,
}

struct World {
    trust: Trust,
    now: Moment,
    manners: Vec<Manner>,
    took: Duration,
    line: Vec<Work>,
    waiting: VecDeque<Work>,
    calls: Vec<Call>,
    rng: u64,
    /// From acceptance to the end, of good work.
    served: Vec<Duration>,
    /// The longest time for which work that was due did not go, by connection.
    held: HashMap<usize, Duration>,
    made: usize,
}

impl World {
    fn new(manners: Vec<Manner>, took: Duration, seed: u64) -> Self {
        Self {
            trust: Trust::new(seed),
            now: Moment::default(),
            manners,
            took,
            line: Vec::new(),
            waiting: VecDeque::new(),
            calls: Vec::new(),
            rng: seed | 1,
            served: Vec::new(),
            held: HashMap::new(),
            made: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        self.rng % below.max(1)
    }

    fn accept(&mut self, connection: usize) {
        let now = self.now;
        self.line.push(Work { connection, accepted: now, due: now, attempts: 0, waits_since: now });
    }

    fn run_until(&mut self, end: Moment) {
        while self.now < end {
            self.now = self.now.after(TICK);
            self.end_calls();
            let waiting = std::mem::take(&mut self.waiting);
            for work in waiting {
                self.trust.end_waiting();
                self.ask(work);
            }
            let ids = self.trust.overdue(SLOTS, self.trust.waiting(), self.now);
            for call in self.calls.iter_mut().filter(|call| ids.contains(&call.leave.id())) {
                call.ends = self.now;
                call.manner = Manner::Fails;
            }
            self.take_up();
        }
    }

    /// As the pool does: what is due, the longest due first, as far as there are hands and room.
    fn take_up(&mut self) {
        let room = match self.trust.room(self.now) {
            Room::Until(_) => return,
            Room::AtMost(most) => most,
        };
        let free = HANDS.saturating_sub(self.calls.len() + self.waiting.len()).min(room);
        let now = self.now;
        self.line.sort_by_key(|work| work.due);
        let due = self.line.iter().take_while(|work| work.due <= now).count().min(free);
        let taken: Vec<Work> = self.line.drain(..due).collect();
        for work in taken {
            self.ask(work);
        }
    }

    fn ask(&mut self, mut work: Work) {
        let who = Key::new(work.connection as u64);
        match self.trust.ask(who, SLOTS, self.now) {
            Answer::Full { .. } => {
                self.trust.begin_waiting();
                self.waiting.push_back(work);
            }
            Answer::Wait { until, .. } => {
                assert!(until > self.now, "told to wait for nothing");
                work.due = until;
                self.line.push(work);
            }
            Answer::Go(leave) => {
                self.made += 1;
                let held = self.now.since(work.waits_since);
                let longest = self.held.entry(work.connection).or_default();
                *longest = held.max(*longest);
                let manner = self.manners[work.connection];
                let lasts = if manner == Manner::Hangs { TIMEOUT } else { self.took };
                self.calls.push(Call { leave, work, ends: self.now.after(lasts), manner });
            }
        }
        assert!(self.calls.len() <= SLOTS);
    }

    fn end_calls(&mut self) {
        let (ended, under_way): (Vec<_>, Vec<_>) = self.calls.drain(..).partition(|call| call.ends <= self.now);
        self.calls = under_way;
        for Call { leave, mut work, manner, .. } in ended {
            let ended = match manner {
                Manner::Good => Ended::Good,
                Manner::Fails | Manner::Hangs => Ended::Failed,
                Manner::Throttled => Ended::Rest { asked: Duration::from_hours(1), failed: false },
            };
            self.trust.end(leave, ended, self.now);
            if manner == Manner::Good {
                self.trust.succeeded(Key::new(work.connection as u64));
                self.served.push(self.now.since(work.accepted));
                continue;
            }
            // Tried again as the service does: waits that double, up to five minutes.
            let ceiling = (1000 << work.attempts.min(20)).min(300_000);
            work.attempts += 1;
            work.due = self.now.after(ms(self.random(ceiling)) + ms(1));
            work.waits_since = work.due;
            self.line.push(work);
        }
    }

    fn longest_held(&self, manner: Manner) -> Duration {
        let of = self.held.iter().filter(|(connection, _)| self.manners[**connection] == manner);
        of.map(|(_, held)| *held).max().unwrap_or_default()
    }

    /// Puts the connections into an order of chance.
    fn shuffled(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.manners.len()).collect();
        for index in (1..order.len()).rev() {
            let other = usize::try_from(self.random(index as u64 + 1)).unwrap();
            order.swap(index, other);
        }
        order
    }

    fn good(&self) -> Vec<usize> {
        (0..self.manners.len()).filter(|connection| self.manners[*connection] == Manner::Good).collect()
    }
}

fn mixture(failing: usize, hanging: usize, throttled: usize, good: usize) -> Vec<Manner> {
    let of = |manner, count| std::iter::repeat_n(manner, count);
    of(Manner::Fails, failing)
        .chain(of(Manner::Hangs, hanging))
        .chain(of(Manner::Throttled, throttled))
        .chain(of(Manner::Good, good))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// (A3, A6) Whatever the others do, good connections are served: within two seconds from the very first event on, as
    /// long as no more than forty connections fail, twenty hang and one is told to rest. Who failed is tried again when the
    /// calls that hang now have ended; who hung, when all that hang have had their turns in their share of the slots.
    #[test]
    fn good_ones_are_served_beside_failing_and_hanging_ones(
        failing in 0_usize..=40, hanging in 0_usize..=20, throttled in 0_usize..=1, good in 1_usize..=8,
        took in 1_u64..60, seed in any::<u64>(),
    ) {
        let mut world = World::new(mixture(failing, hanging, throttled, good), ms(took), seed);
        let order = world.shuffled();
        for connection in order {
            world.accept(connection);
        }
        let mut sent = good;
        for round in 1..40_u64 {
            world.run_until(at(round * 3000));
            for connection in world.good() {
                world.accept(connection);
                sent += 1;
            }
        }
        world.run_until(at(125_000));
        prop_assert_eq!(world.served.len(), sent);
        let longest = world.served.iter().max().copied().unwrap_or_default();
        prop_assert!(longest <= ms(2000), "a good event took {:?}", longest);
        let spare = Duration::from_secs(5);
        let turns = u32::try_from(hanging / slots::share(SLOTS, true) + 2).unwrap();
        for (manner, bound) in [(Manner::Fails, TIMEOUT + spare), (Manner::Hangs, TIMEOUT * turns + spare)] {
            let longest = world.longest_held(manner);
            prop_assert!(longest <= bound, "{manner:?} waited {longest:?}");
        }
    }

    /// Where almost everything fails or hangs and nothing was ever good, the neighbour may count as down. Even then the good
    /// ones are found: one that has not failed tries every two seconds at the latest.
    #[test]
    fn good_ones_are_found_among_very_many_bad_ones(
        failing in 0_usize..300, hanging in 0_usize..60, good in 1_usize..4, seed in any::<u64>(),
    ) {
        let mut world = World::new(mixture(failing, hanging, 0, good), ms(5), seed);
        let order = world.shuffled();
        for connection in order {
            world.accept(connection);
        }
        let bad = u64::try_from(failing + hanging).unwrap();
        world.run_until(at(10_000 + 2000 * bad));
        prop_assert_eq!(world.served.len(), good);
        // Once they are known, the others are in nobody's way.
        let now = world.now;
        for connection in world.good() {
            world.accept(connection);
        }
        world.run_until(now.after(ms(3000)));
        prop_assert_eq!(world.served.len(), 2 * good);
    }

    /// (A4) Nothing is parked on less evidence than the rule says: five tries of this work, and the same answer to this
    /// connection over an hour, seen by this work or by others of the connection, with no success between.
    #[test]
    fn nothing_is_believed_on_less_evidence_than_the_rule_says(
        steps in prop::collection::vec((0_u64..4, 0_u16..3, 0_u64..40, prop::bool::weighted(0.05), 1_u32..9), 1..200),
    ) {
        let proof = Proof::USUAL;
        let mut trust = Trust::new(1);
        let mut now = Moment::default();
        let mut seen: HashMap<(u64, u16), Vec<Moment>> = HashMap::new();
        for (connection, status, minutes, is_success, tries) in steps {
            now = now.after(Duration::from_mins(minutes));
            if is_success {
                trust.succeeded(Key::new(connection));
                seen.retain(|(of, _), _| *of != connection);
                continue;
            }
            let times = seen.entry((connection, status)).or_default();
            times.push(now);
            let lasted = now.since(times[0]);
            let own = Own { tries, lasting: Duration::ZERO };
            let verdict = trust.refused(Key::new(connection), Kind::new(status, None), own, proof, now);
            let is_proven = times.len() >= 5 && lasted >= Duration::from_hours(1);
            prop_assert!(!verdict.is_believed || is_proven);
            prop_assert_eq!(verdict.park, verdict.is_believed && tries >= 5);
            if is_proven && times.windows(2).all(|pair| pair[1].since(pair[0]) <= Duration::from_hours(24)) {
                prop_assert!(verdict.is_believed, "the evidence is there");
            }
        }
    }
}

/// A neighbour that is down gets few calls, and everything goes on by itself when it is back: the first within three
/// seconds, all that was never tried within two minutes.
#[test]
fn a_neighbour_that_is_down_is_left_alone_and_comes_back() {
    let mut world = World::new(mixture(2000, 0, 0, 0), ms(2), 7);
    for connection in 0..2000 {
        world.accept(connection);
    }
    world.run_until(at(10_000));
    assert!(matches!(world.trust.state(world.now), State::Down { .. }), "{:?}", world.trust.state(world.now));
    assert!(world.made < 400, "{} calls until it counted as down", world.made);
    let before = world.made;
    world.run_until(at(610_000));
    let calls = world.made - before;
    assert!(calls < 400, "{calls} calls in ten minutes");
    world.manners.fill(Manner::Good);
    let back = world.now;
    world.run_until(back.after(Duration::from_secs(3)));
    assert!(!world.served.is_empty());
    world.run_until(back.after(Duration::from_mins(2)));
    let left = world.line.iter().filter(|work| work.attempts == 0).count();
    assert_eq!(left, 0, "work that was never tried");
    world.run_until(back.after(Duration::from_mins(12)));
    assert_eq!(world.served.len(), 2000);
    assert_eq!(world.trust.state(world.now), State::Well);
    assert_eq!(world.trust.failing_since(), None);
}

/// (A3) One failing connection, however often it fails, never takes the neighbour down.
#[test]
fn a_few_connections_that_fail_are_not_the_neighbour() {
    let mut trust = Trust::new(3);
    for second in 0..3600 {
        let who = Key::new(second % 4);
        if let Answer::Go(leave) = trust.ask(who, SLOTS, at(second * 1000)) {
            assert_eq!(trust.end(leave, Ended::Failed, at(second * 1000 + 10)), None);
        }
    }
    assert_eq!(trust.state(at(3_600_000)), State::Well);
    assert_eq!(trust.failing_since(), Some(at(10)));
}

/// (A6) `Retry-After` holds the connection that was told; the neighbour rests when a second one is told, for the shorter time.
#[test]
fn a_second_connection_that_is_told_to_rest_makes_the_neighbour_rest() {
    let mut trust = Trust::new(3);
    let told = |trust: &mut Trust, who: u64, seconds: u64, now: Moment| {
        let Answer::Go(leave) = trust.ask(Key::new(who), SLOTS, now) else { panic!("{who} does not go") };
        trust.end(leave, Ended::Rest { asked: Duration::from_secs(seconds), failed: false }, now)
    };
    assert_eq!(told(&mut trust, 1, 3600, at(0)), Some(Change::ConnectionRests(Duration::from_hours(1))));
    assert!(
        matches!(trust.ask(Key::new(1), SLOTS, at(5)), Answer::Wait { until, why: Why::ConnectionRests } if until == at(3_600_000))
    );
    let Answer::Go(good) = trust.ask(Key::new(2), SLOTS, at(10)) else { panic!("one connection holds up another") };
    trust.end(good, Ended::Good, at(20));
    // A success since then: this one is a single one again.
    assert!(matches!(told(&mut trust, 3, 7200, at(30)), Some(Change::ConnectionRests(_))));
    assert_eq!(told(&mut trust, 4, 30, at(1030)), Some(Change::Rests(Duration::from_secs(30))));
    assert!(
        matches!(trust.ask(Key::new(2), SLOTS, at(1040)), Answer::Wait { until, why: Why::NeighbourRests } if until == at(31_030))
    );
    assert_eq!(trust.room(at(1040)), Room::Until(at(31_030)));
    // Then they come back one after the other.
    assert_eq!(trust.room(at(31_030)), Room::AtMost(1));
    assert!(matches!(trust.ask(Key::new(2), SLOTS, at(31_030)), Answer::Go(_)));
    assert!(matches!(trust.ask(Key::new(5), SLOTS, at(31_040)), Answer::Full { .. }));
    assert_eq!(trust.room(at(36_030)), Room::AtMost(usize::MAX));
}

/// A server that is slow for everybody is no reason to give calls up again and again.
#[test]
fn a_server_that_is_slow_for_all_serves_all() {
    let mut world = World::new(mixture(0, 0, 0, 200), ms(3000), 11);
    for connection in 0..200 {
        world.accept(connection);
    }
    world.run_until(at(120_000));
    assert_eq!(world.served.len(), 200);
}

#[test]
fn calls_that_hang_are_given_up_only_beyond_their_share_and_while_others_wait() {
    let mut trust = Trust::new(3);
    let leaves: Vec<Leave> = (0..4)
        .map(|who| match trust.ask(Key::new(who), 4, at(who)) {
            Answer::Go(leave) => leave,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(matches!(trust.ask(Key::new(9), 4, at(10)), Answer::Full { .. }));
    assert!(trust.overdue(4, 1, at(900)).is_empty(), "none hangs yet");
    assert!(trust.overdue(4, 0, at(1500)).is_empty(), "nobody waits");
    assert_eq!(trust.overdue(4, 1, at(1500)), [leaves[0].id()], "the oldest");
    assert_eq!(trust.overdue(4, 9, at(1500)), [leaves[1].id()], "half of the slots are left to them");
    assert!(trust.overdue(4, 9, at(1500)).is_empty());
    for leave in leaves {
        trust.end(leave, Ended::Failed, at(1600));
    }
    // What hung comes back within its part of the share, and is not given up.
    let again: Vec<_> = (0..4).map(|who| trust.ask(Key::new(who), 4, at(2000))).collect();
    assert_eq!(again.iter().filter(|answer| matches!(answer, Answer::Go(_))).count(), 1);
    assert!(trust.overdue(4, 9, at(9000)).is_empty());
}

#[test]
fn a_call_that_holds_its_slot_and_has_not_begun_does_not_hang() {
    let mut trust = Trust::new(3);
    let Answer::Go(mut held) = trust.ask(Key::new(1), 1, at(0)) else { panic!("it does not go") };
    trust.holds(&held);
    assert!(trust.overdue(1, 1, at(5000)).is_empty());
    trust.begins(&mut held, at(5000));
    assert!(trust.overdue(1, 1, at(5999)).is_empty());
    assert_eq!(trust.overdue(1, 1, at(6000)), [held.id()]);
    trust.end(held, Ended::Failed, at(6000));
    assert!(trust.has_failed(Key::new(1), at(6000)) && !trust.has_failed(Key::new(2), at(6000)));
}

#[test]
fn once_believed_the_next_work_with_the_same_answer_needs_its_five_tries_and_no_hour() {
    let mut trust = Trust::new(3);
    let (who, kind) = (Key::new(1), Kind::new(403, None));
    let mut refused = |kind, tries, lasting, now| trust.refused(who, kind, Own { tries, lasting }, Proof::USUAL, now);
    assert!(!refused(kind, 40, ms(3_599_999), at(0)).is_believed);
    assert!(refused(kind, 5, Duration::from_hours(1), at(1000)).park, "seen by the work itself, over a restart");
    assert!(!refused(kind, 4, ms(0), at(2000)).park);
    assert!(refused(kind, 5, ms(0), at(2000)).park);
    assert!(!refused(Kind::new(403, Some("OTHER")), 5, ms(0), at(2000)).park, "another answer");
    trust.succeeded(who);
    assert!(!trust.refused(who, kind, Own { tries: 5, lasting: ms(0) }, Proof::USUAL, at(3000)).park);
}

/// One that answers, and refuses what it is given, has taken nothing since then.
#[test]
fn a_neighbour_that_refuses_everything_fails() {
    let mut trust = Trust::new(3);
    let own = Own { tries: 1, lasting: ms(0) };
    let refuse = |trust: &mut Trust, who: u64, now: Moment| {
        let Answer::Go(leave) = trust.ask(Key::new(who), SLOTS, now) else { panic!("{who} does not go") };
        trust.end(leave, Ended::Refused, now);
        trust.refused(Key::new(who), Kind::new(404, None), own, Proof::USUAL, now);
    };
    trust.succeeded(Key::new(9));
    refuse(&mut trust, 1, at(1000));
    assert_eq!(trust.failing_since(), None, "one connection's own trouble");
    for who in 2..10 {
        refuse(&mut trust, who, at(1000 * who));
    }
    assert_eq!(trust.failing_since(), Some(at(1000)));
    trust.succeeded(Key::new(9));
    assert_eq!(trust.failing_since(), None);
    // A failure before refusals is not forgotten for them.
    let Answer::Go(leave) = trust.ask(Key::new(20), SLOTS, at(20_000)) else { panic!("it does not go") };
    trust.end(leave, Ended::Failed, at(20_000));
    refuse(&mut trust, 21, at(21_000));
    assert_eq!(trust.failing_since(), Some(at(20_000)));
    let Answer::Go(leave) = trust.ask(Key::new(22), SLOTS, at(22_000)) else { panic!("it does not go") };
    trust.end(leave, Ended::Good, at(22_000));
    assert_eq!(trust.failing_since(), None);
    // What failed was given up, or somebody else succeeded with it.
    let Answer::Go(leave) = trust.ask(Key::new(20), SLOTS, at(23_000)) else { panic!("it does not go") };
    trust.end(leave, Ended::Failed, at(23_000));
    refuse(&mut trust, 1, at(23_500));
    refuse(&mut trust, 2, at(23_600));
    trust.nothing_waits();
    assert_eq!(trust.failing_since(), None);
    assert!(trust.refuses(), "it has taken nothing since");
    refuse(&mut trust, 3, at(24_000));
    assert_eq!(trust.failing_since(), Some(at(24_000)));
}

/// What the neighbour refuses while it takes others is their own trouble. Nothing says so while nothing was ever taken.
#[test]
fn a_refusal_is_one_connections_own_only_where_others_are_taken() {
    let mut trust = Trust::new(3);
    let whose = |trust: &mut Trust, who| {
        let own = Own { tries: 1, lasting: ms(0) };
        trust.refused(Key::new(who), Kind::new(404, None), own, Proof::USUAL, at(0)).whose
    };
    assert!(!trust.refuses());
    assert_eq!(whose(&mut trust, 1), Whose::Neighbour, "nothing was taken yet");
    assert!(trust.refuses());
    trust.succeeded(Key::new(9));
    assert!(!trust.refuses());
    assert_eq!(whose(&mut trust, 1), Whose::Connection);
    assert!(!trust.refuses());
    assert_eq!(whose(&mut trust, 2), Whose::Neighbour);
    assert!(trust.refuses());
}
