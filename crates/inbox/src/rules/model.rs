//! The model of the rules: a back end in memory that loads, applies and stores as every back end does, under generated
//! operations by several receivers. After each operation the promises of the head of `rules` hold.

use super::{
    tests::{at, park, retry},
    *,
};
use crate::{
    CredentialsMark, SinkName, Window,
    rules::merging::{Behind, Gathered, gather},
};
use proptest::prelude::*;

/// A stage as the back end in memory stores it.
#[derive(Clone, Debug)]
struct Row {
    entry: usize,
    stage: Stage,
    connection: u8,
    place: usize,
    progress: Progress,
    accepted: Timestamp,
    /// The number of its group, once it has one.
    group: Option<usize>,
    /// Whether an attempt at it is remembered.
    is_tried: bool,
}

/// A back end that is a list. It does what `sqlite::stages` does, with the same rules.
#[derive(Debug, Default)]
struct Memory {
    rows: Vec<Row>,
    now: i64,
    entries: usize,
    tokens: i64,
}

fn sinks() -> [Stage; 2] {
    ["one", "strict"].map(|name| Stage::Deliver(SinkName::new(name)))
}

fn order(stage: &Stage) -> Order {
    Order::of(stage.as_str() == "strict")
}

impl Row {
    /// Both sinks merge what is of some connections.
    fn merges(&self) -> bool {
        matches!(self.stage, Stage::Deliver(_)) && self.connection > 0
    }
}

const WINDOW: Window =
    Window { quiet: std::time::Duration::from_millis(30), longest: std::time::Duration::from_millis(90) };

impl Memory {
    fn now(&self) -> Timestamp {
        at(self.now)
    }

    fn line<'a>(&'a self, row: &Row) -> impl Iterator<Item = usize> + use<'a> {
        let (stage, connection) = (row.stage.clone(), row.connection);
        let mut line: Vec<usize> = (0..self.rows.len())
            .filter(|index| {
                let other = &self.rows[*index];
                other.stage == stage
                    && other.connection == connection
                    && order(&row.stage).holds(other.progress.standing)
            })
            .collect();
        line.sort_by_key(|index| self.rows[*index].place);
        line.into_iter()
    }

    fn is_first(&self, index: usize) -> bool {
        let row = &self.rows[index];
        self.line(row).all(|other| self.rows[other].place >= row.place)
    }

    fn needs_are_done(&self, index: usize) -> bool {
        let row = &self.rows[index];
        let mut fetches = self.rows.iter().filter(|other| other.entry == row.entry);
        let needs = needs(&row.stage);
        fetches.all(|other| {
            let is_needed = matches!(&other.stage, Stage::Fetch(fetch) if needs.contains(fetch));
            !is_needed || other.progress.standing == Standing::Done
        })
    }

    fn accept(&mut self, connection: u8, plan: &Plan) {
        let (entry, now) = (self.entries, self.now());
        self.entries += 1;
        let fetches: Vec<_> = plan.fetches(now).map(|(fetch, progress)| (Stage::Fetch(fetch), progress)).collect();
        let deliveries = sinks().map(|sink| (sink, plan.delivery(now)));
        for (stage, progress) in fetches.into_iter().chain(deliveries) {
            let (group, is_tried) = (None, false);
            self.rows.push(Row { entry, stage, connection, place: entry, progress, accepted: now, group, is_tried });
            self.stand(self.rows.len() - 1);
        }
    }

    fn stand(&mut self, index: usize) {
        let (is_first, needs_are_done) = (self.is_first(index), self.needs_are_done(index));
        self.rows[index].progress.stand(is_first, needs_are_done);
    }

    fn apply(&mut self, index: usize, rule: impl FnOnce(&mut Progress)) {
        let was = self.rows[index].progress.standing;
        rule(&mut self.rows[index].progress);
        self.stand(index);
        let row = self.rows[index].clone();
        if frees(was, row.progress.standing) {
            self.move_up(index);
            if was.is_in_line() && matches!(row.stage, Stage::Fetch(_)) {
                self.dependents(&row);
            }
        }
    }

    fn move_up(&mut self, index: usize) {
        let first = self.line(&self.rows[index]).next();
        if let Some(first) = first {
            let (needs_are_done, now) = (self.needs_are_done(first), self.now());
            self.rows[first].progress.move_up(needs_are_done, now);
        }
    }

    fn dependents(&mut self, fetch: &Row) {
        let now = self.now();
        for index in 0..self.rows.len() {
            let row = &self.rows[index];
            if row.entry != fetch.entry || matches!(row.stage, Stage::Fetch(_)) {
                continue;
            }
            match follows(fetch.progress.standing, row.progress.standing) {
                Follows::Nothing => {}
                Follows::MayGo => self.move_up(index),
                Follows::IsParked => self.apply(index, |progress| progress.park_for_needs(now)),
            }
        }
    }

    /// The stages that leave as one delivery with this one, itself included.
    fn group(&self, index: usize) -> Vec<usize> {
        let row = &self.rows[index];
        let is_same = |other: &Row| other.stage == row.stage && other.group == row.group;
        match row.group {
            None => vec![index],
            Some(_) => (0..self.rows.len()).filter(|other| is_same(&self.rows[*other])).collect(),
        }
    }

    fn is_fresh(&self, index: usize) -> bool {
        let row = &self.rows[index];
        row.progress.is_untried() && row.group.is_none() && !row.is_tried
    }

    /// Decides with which others a stage leaves; returns whether it goes now.
    fn gather(&mut self, index: usize) -> bool {
        if !self.is_fresh(index) {
            return true;
        }
        let place = self.rows[index].place;
        let line: Vec<usize> = self.line(&self.rows[index]).filter(|other| self.rows[*other].place > place).collect();
        let behind = |other: &usize| match self.rows[*other].progress.standing {
            Standing::Queued if self.is_fresh(*other) => {
                Behind::Joins { accepted: self.rows[*other].accepted, is_ready: self.needs_are_done(*other) }
            }
            _ => Behind::Ends,
        };
        let behind: Vec<Behind> = line.iter().map(behind).collect();
        match gather(self.rows[index].accepted, &behind, WINDOW, self.now()) {
            Gathered::Wait(until) => {
                self.apply(index, |progress| progress.wait_until(until));
                false
            }
            Gathered::Go(count) => {
                for member in [index].into_iter().chain(line.into_iter().take(count)) {
                    assert!(self.is_fresh(member) && self.needs_are_done(member), "{:?}", self.rows[member]);
                    self.rows[member].group = Some(place);
                }
                true
            }
        }
    }

    /// Ends a lease, and does with the others of its group what follows.
    fn settle(&mut self, index: usize, outcome: &Outcome) {
        let now = self.now();
        let mut first = self.rows[index].progress.clone();
        first.settle_merged(outcome, None, now);
        self.follow(index, &first);
        self.rows[index].is_tried |= is_remembered(outcome);
        self.apply(index, |progress| *progress = first);
    }

    fn follow(&mut self, index: usize, first: &Progress) {
        let now = self.now();
        for other in self.group(index).into_iter().filter(|other| *other != index) {
            self.apply(other, |progress| progress.follow(first, now));
        }
    }

    fn park(&mut self, index: usize) {
        let now = self.now();
        for member in self.group(index).into_iter().rev() {
            self.rows[member].is_tried = true;
            self.apply(member, |progress| progress.park_by_hand("stop", now));
        }
    }

    fn requeue(&mut self, index: usize) {
        for member in self.group(index) {
            self.rows[member].is_tried |= self.rows[member].progress.standing == Standing::Done;
            self.requeue_one(member);
        }
    }

    fn requeue_one(&mut self, index: usize) {
        let now = self.now();
        self.apply(index, |progress| progress.requeue(now));
        let place = self.rows[index].place;
        let later: Vec<usize> = self.line(&self.rows[index]).filter(|other| self.rows[*other].place > place).collect();
        for later in later {
            self.rows[later].progress.step_back();
        }
    }

    /// Leases what is due, the longest due first; returns places in the list.
    fn claim(&mut self, stage: &Stage, limit: usize, lease_for: i64) -> Vec<(usize, Token)> {
        let now = self.now();
        let mut due: Vec<usize> = (0..self.rows.len())
            .filter(|index| {
                let row = &self.rows[*index];
                let can_be_due = matches!(row.progress.standing, Standing::Due | Standing::Leased);
                row.stage == *stage && can_be_due && row.progress.due <= now
            })
            .collect();
        due.sort_by_key(|index| self.rows[*index].progress.due);
        let mut leases = Vec::new();
        for index in due.into_iter().take(limit) {
            if self.rows[index].merges() && !self.gather(index) {
                continue;
            }
            self.tokens += 1;
            let (token, is_first) = (Token(self.tokens), self.is_first(index));
            let expires = at(self.now + lease_for);
            let mut after = self.rows[index].progress.clone();
            let claim = after.claim(token, expires, now, is_first);
            if claim == Claim::Parked {
                self.follow(index, &after);
            }
            self.apply(index, |progress| *progress = after);
            if claim == Claim::Leased {
                leases.push((index, token));
            }
        }
        leases
    }

    /// The promises of the head of `rules`, and what follows from them.
    fn check(&self) {
        for (index, row) in self.rows.iter().enumerate() {
            let progress = &row.progress;
            let (is_first, needs_are_done) = (self.is_first(index), self.needs_are_done(index));
            match progress.standing {
                Standing::Due => assert!(is_first && needs_are_done, "made due too early: {row:?}"),
                Standing::Leased => {
                    assert!(needs_are_done && progress.token.is_some(), "leased without needs: {row:?}");
                }
                Standing::Queued => assert!(!(is_first && needs_are_done), "waits for ever: {row:?}"),
                Standing::Done => assert_eq!(progress.cause, None),
                Standing::Parked => assert!(progress.cause.is_some() && progress.reason.is_some(), "{row:?}"),
            }
            assert_eq!(progress.token.is_some(), progress.standing == Standing::Leased, "{row:?}");
            let stands: Vec<Standing> =
                self.group(index).into_iter().map(|member| self.rows[member].progress.standing).collect();
            let (first, others) = stands.split_first().unwrap();
            let are_together = match first {
                Standing::Done | Standing::Parked => others.iter().all(|other| other == first),
                _ => others.iter().all(|other| *other == Standing::Queued),
            };
            assert!(are_together, "a group is torn: {stands:?} of {row:?}");
            let due = self.line(row).filter(|other| self.rows[*other].progress.standing == Standing::Due).count();
            assert!(due <= 1, "two are due in the line of {row:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Accept {
        connection: u8,
        kind: u8,
    },
    Claim {
        receiver: usize,
        stage: usize,
        limit: usize,
    },
    Settle {
        lease: usize,
        outcome: u8,
    },
    /// A receiver ends without a word; its leases last until they expire.
    Crash {
        receiver: usize,
    },
    /// The only receiver starts again: nobody can hold a lease.
    EndAll,
    /// Time passes; enough of it for leases to expire.
    Wait {
        millis: i64,
    },
    Park {
        row: usize,
    },
    Replay {
        row: usize,
    },
    /// Parked fetches go on, and what needs them.
    Resume,
    /// Another sink takes over what waits or is parked.
    Close {
        row: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_u8..3, 0_u8..5).prop_map(|(connection, kind)| Op::Accept { connection, kind }),
        6 => (0_usize..3, 0_usize..3, 1_usize..4).prop_map(|(receiver, stage, limit)| Op::Claim { receiver, stage, limit }),
        9 => (any::<usize>(), 0_u8..8).prop_map(|(lease, outcome)| Op::Settle { lease, outcome }),
        1 => (0_usize..3).prop_map(|receiver| Op::Crash { receiver }),
        1 => Just(Op::EndAll),
        2 => (1_i64..200).prop_map(|millis| Op::Wait { millis }),
        1 => any::<usize>().prop_map(|row| Op::Park { row }),
        2 => any::<usize>().prop_map(|row| Op::Replay { row }),
        1 => Just(Op::Resume),
        1 => any::<usize>().prop_map(|row| Op::Close { row }),
    ]
}

/// Leases that receivers believe to hold: the receiver, the stage's place in the list, the token.
type Held = Vec<(usize, usize, Token)>;

fn outcome(number: u8, now: i64) -> Outcome {
    match number {
        0 => Outcome::GiveBack,
        1 => retry(now, true),
        2 => retry(now + 50, false),
        3 => Outcome::Postpone { due: at(now + 20), reason: "left alone".to_owned() },
        4 => park(Cause::Credentials(CredentialsMark::new("old"))),
        _ => Outcome::Done,
    }
}

fn apply(memory: &mut Memory, held: &mut Held, op: &Op) {
    match op {
        Op::Accept { connection, kind } => {
            let plan = match kind {
                0 => Plan::Park("unclear".to_owned()),
                1 | 2 => Plan::Fetch(&Fetch::ALL),
                _ => Plan::Deliver,
            };
            memory.accept(*connection, &plan);
        }
        Op::Claim { receiver, stage, limit } => {
            let stage = [Stage::ACCOUNTS].into_iter().chain(sinks()).nth(*stage).unwrap();
            for (index, token) in memory.claim(&stage, *limit, 100) {
                assert!(memory.is_first(index), "leased before an earlier one: {:?}", memory.rows[index]);
                held.push((*receiver, index, token));
            }
        }
        Op::Settle { lease, outcome: number } if !held.is_empty() => {
            let (_, index, token) = held.remove(lease % held.len());
            if memory.rows[index].progress.is_held_by(token) {
                memory.settle(index, &outcome(*number, memory.now));
            }
        }
        Op::Crash { receiver } => held.retain(|(holder, ..)| holder != receiver),
        Op::EndAll => {
            held.clear();
            let now = memory.now();
            for index in 0..memory.rows.len() {
                if memory.rows[index].progress.standing == Standing::Leased {
                    memory.apply(index, |progress| progress.lose(now));
                }
            }
        }
        Op::Wait { millis } => memory.now += millis,
        Op::Park { row } if !memory.rows.is_empty() => {
            let index = row % memory.rows.len();
            if memory.rows[index].progress.standing.is_in_line() {
                memory.park(index);
            }
        }
        Op::Replay { row } if !memory.rows.is_empty() => replay(memory, row % memory.rows.len()),
        Op::Close { row } if !memory.rows.is_empty() => {
            let (index, now) = (row % memory.rows.len(), memory.now());
            let Row { stage, progress, .. } = &memory.rows[index];
            let is_open = matches!(progress.standing, Standing::Queued | Standing::Due | Standing::Parked);
            if is_open && matches!(stage, Stage::Deliver(_)) {
                memory.apply(index, |progress| progress.close("moved", now));
                // What goes to another sink goes there by itself.
                memory.rows[index].group = None;
            }
        }
        Op::Settle { .. } | Op::Park { .. } | Op::Replay { .. } | Op::Close { .. } => {}
        Op::Resume => {
            for index in 0..memory.rows.len() {
                let is_fetch = matches!(memory.rows[index].stage, Stage::Fetch(_));
                if is_fetch && matches!(memory.rows[index].progress.cause, Some(Cause::Credentials(_))) {
                    let entry = memory.rows[index].entry;
                    memory.requeue(index);
                    for other in 0..memory.rows.len() {
                        let row = &memory.rows[other];
                        if row.entry == entry && row.progress.cause == Some(Cause::Needs) {
                            memory.requeue(other);
                        }
                    }
                }
            }
        }
    }
}

/// Puts a stage back in line, and first the fetch that it needs, if that is parked.
fn replay(memory: &mut Memory, index: usize) {
    let entry = memory.rows[index].entry;
    for fetch in 0..memory.rows.len() {
        let row = &memory.rows[fetch];
        let is_fetch = row.entry == entry && matches!(row.stage, Stage::Fetch(_));
        if is_fetch && row.progress.standing == Standing::Parked {
            memory.requeue(fetch);
        }
    }
    let row = &memory.rows[index];
    if matches!(row.stage, Stage::Deliver(_)) && !row.progress.standing.is_in_line() {
        memory.requeue(index);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_promises_hold_whatever_happens(ops in prop::collection::vec(op(), 1..80)) {
        let (mut memory, mut held) = (Memory::default(), Held::new());
        for op in &ops {
            let done: Vec<usize> = (0..memory.rows.len())
                .filter(|index| memory.rows[*index].progress.standing == Standing::Done)
                .collect();
            apply(&mut memory, &mut held, op);
            memory.check();
            if !matches!(op, Op::Replay { .. }) {
                let stays = done.iter().all(|index| memory.rows[*index].progress.standing == Standing::Done);
                prop_assert!(stays, "done stays done unless it is replayed");
            }
            // The store knows one holder of a lease. Others that believe to have it are told when they settle.
            for (position, (_, index, token)) in held.iter().enumerate() {
                let same = held.iter().skip(position + 1).filter(|(_, other, of)| other == index && of == token);
                prop_assert_eq!(same.count(), 0);
            }
        }

        // Whatever happened before: what is in line comes out, once what holds it up is replayed.
        for _ in 0..10_000 {
            memory.now += 1_000;
            for index in 0..memory.rows.len() {
                let Row { stage, progress, .. } = &memory.rows[index];
                if progress.standing == Standing::Parked && order(stage) == Order::Strict {
                    replay(&mut memory, index);
                }
            }
            let leases: Vec<_> = [Stage::ACCOUNTS].into_iter().chain(sinks())
                .flat_map(|stage| memory.claim(&stage, usize::MAX, 100))
                .collect();
            let in_line = memory.rows.iter().filter(|row| row.progress.standing.is_in_line()).count();
            if leases.is_empty() && in_line == 0 {
                break;
            }
            for (index, _) in leases {
                memory.settle(index, &Outcome::Done);
            }
            memory.check();
        }
        prop_assert!(memory.rows.iter().all(|row| !row.progress.standing.is_in_line()), "{:?}", memory.rows);
    }
}
