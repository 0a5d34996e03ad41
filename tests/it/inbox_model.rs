//! Generated sequences of operations, crashes included, against a model small enough to be believed.
//!
//! The model knows, for each stage of each entry, whether it is unfinished, done or parked, and who holds it. After each
//! operation the inbox must agree; at the end everything that is unfinished must still come out, in order.

use crate::support::{event_json, inbox_config, new_entry};
use linxo_webhook::inbox::{
    Accepted, Access, Certainty, Filter, Found, Inbox, Lease, Outcome, Seq, Sqlite, Stage, State,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

const LEASE: Duration = Duration::from_mins(1);
const SINKS: [&str; 2] = ["one", "two"];

#[derive(Clone, Debug)]
enum Op {
    /// An event of this connection, truncated or not; an old one again where `repeat` says so.
    Accept { connection: u8, truncated: bool, repeat: bool },
    /// Leases up to `limit` of a stage (0: completion).
    Claim { stage: usize, limit: usize },
    /// Ends the lease at this place of those that are held.
    Settle { lease: usize, how: How },
    /// The process ends without a word and starts again.
    Crash,
    /// An operator puts everything that is parked back.
    Replay,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Done,
    Retry { is_doubtful: bool },
    Park,
    GiveBack,
}

fn op() -> impl Strategy<Value = Op> {
    let how = prop_oneof![4 => Just(How::Done), 1 => any::<bool>().prop_map(|is_doubtful| How::Retry { is_doubtful }), 1 => Just(How::Park), 1 => Just(How::GiveBack)];
    prop_oneof![
        6 => (0_u8..3, any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(connection, truncated, repeat)| Op::Accept { connection, truncated, repeat }),
        6 => (0_usize..=SINKS.len(), 1_usize..4).prop_map(|(stage, limit)| Op::Claim { stage, limit }),
        8 => (any::<usize>(), how).prop_map(|(lease, how)| Op::Settle { lease, how }),
        1 => Just(Op::Crash),
        1 => Just(Op::Replay),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Open,
    Leased,
    Done,
    Parked,
}

#[derive(Debug, Default)]
struct Model {
    /// By entry: its connection, its JSON.
    entries: BTreeMap<Seq, (u8, String)>,
    work: BTreeMap<(Stage, Seq), Work>,
    /// Doubtful failures in a row.
    doubts: BTreeMap<(Stage, Seq), u32>,
}

impl Model {
    fn unfinished(&self, stage: Stage, seq: Seq) -> bool {
        matches!(self.work.get(&(stage, seq)), Some(Work::Open | Work::Leased))
    }

    /// Whether this stage may be leased now: nothing unfinished stands before it, and its accounts are there.
    fn may_lease(&self, stage: Stage, seq: Seq) -> bool {
        let (connection, _) = &self.entries[&seq];
        let first = self
            .entries
            .iter()
            .filter(|(other, (of, _))| **other < seq && of == connection)
            .all(|(other, _)| !self.unfinished(stage, *other));
        let complete =
            stage == Stage::Completion || matches!(self.work.get(&(Stage::Completion, seq)), None | Some(Work::Done));
        first && complete && self.work.get(&(stage, seq)) == Some(&Work::Open)
    }

    fn state(&self, seq: Seq) -> State {
        let any = |work| self.work.iter().any(|((_, of), is)| *of == seq && *is == work);
        if any(Work::Parked) {
            State::Parked
        } else if any(Work::Leased) {
            State::Leased
        } else if any(Work::Open) {
            State::Waiting
        } else {
            State::Done
        }
    }
}

struct World {
    folder: tempfile::TempDir,
    inbox: Sqlite,
    stages: Vec<Stage>,
    model: Model,
    held: Vec<Lease>,
    count: usize,
}

fn open(folder: &std::path::Path) -> Sqlite {
    Sqlite::open(&folder.join("inbox.db"), &inbox_config(), &SINKS.map(str::to_owned), Access::Owner).unwrap()
}

impl World {
    fn new() -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let inbox = open(folder.path());
        let stages =
            std::iter::once(Stage::Completion).chain(SINKS.iter().map(|sink| inbox.sink(sink).unwrap())).collect();
        Self { folder, inbox, stages, model: Model::default(), held: Vec::new(), count: 0 }
    }

    async fn apply(&mut self, op: &Op) {
        match op {
            Op::Accept { connection, truncated, repeat } => self.accept(*connection, *truncated, *repeat).await,
            Op::Claim { stage, limit } => drop(self.claim(self.stages[*stage], *limit).await),
            Op::Settle { lease, how } if !self.held.is_empty() => {
                let lease = self.held.remove(lease % self.held.len());
                self.settle(&lease, *how).await;
            }
            Op::Settle { .. } => {}
            Op::Crash => {
                self.inbox.close().await;
                self.inbox = open(self.folder.path());
                self.held.clear();
                for work in self.model.work.values_mut().filter(|work| **work == Work::Leased) {
                    *work = Work::Open;
                }
            }
            Op::Replay => {
                let parked = Filter { state: Some(State::Parked), ..Filter::default() };
                self.inbox.replay(&parked, 1000).await.unwrap();
                for work in self.model.work.values_mut().filter(|work| **work == Work::Parked) {
                    *work = Work::Open;
                }
            }
        }
    }

    async fn accept(&mut self, connection: u8, truncated: bool, repeat: bool) {
        if let Some((seq, (_, json))) = self.model.entries.iter().next().filter(|_| repeat) {
            assert_eq!(self.inbox.accept(new_entry(json)).await.unwrap(), Accepted::Duplicate { seq: *seq });
            return;
        }
        self.count += 1;
        let json = event_json(&format!("e{}", self.count), &connection.to_string(), 2, truncated);
        let Accepted::Stored { seq, conflict: false } = self.inbox.accept(new_entry(&json)).await.unwrap() else {
            panic!("a new event was not stored")
        };
        assert!(self.model.entries.keys().all(|earlier| *earlier < seq));
        self.model.entries.insert(seq, (connection, json));
        for stage in self.stages.iter().filter(|stage| truncated || **stage != Stage::Completion) {
            self.model.work.insert((*stage, seq), Work::Open);
        }
    }

    async fn claim(&mut self, stage: Stage, limit: usize) -> usize {
        let leases = self.inbox.claim(stage, limit, LEASE).await.unwrap().leases;
        let ready = self.model.entries.keys().filter(|seq| self.model.may_lease(stage, **seq)).count();
        assert_eq!(leases.len(), ready.min(limit), "everything that may be leased is, and nothing else");
        for lease in &leases {
            assert!(self.model.may_lease(stage, lease.seq), "{:?} {:?}", stage, lease.seq);
            assert_eq!(lease.body, self.model.entries[&lease.seq].1.as_bytes());
            let doubts = self.model.doubts.get(&(stage, lease.seq)).copied().unwrap_or(0);
            assert_eq!((lease.doubts.tries, lease.doubts.since.is_some()), (doubts, doubts > 0));
        }
        for lease in &leases {
            self.model.work.insert((stage, lease.seq), Work::Leased);
        }
        let count = leases.len();
        self.held.extend(leases);
        count
    }

    async fn settle(&mut self, lease: &Lease, how: How) {
        let (outcome, work) = match how {
            How::Done if lease.stage == Stage::Completion => {
                let reading = self.inbox.reading(lease, LEASE).await.unwrap();
                let found = Found { accounts: 2, certainty: Certainty::Agreed };
                (Outcome::Completed { reading: reading.id, found }, Work::Done)
            }
            How::Done => (Outcome::Done, Work::Done),
            How::Retry { is_doubtful } => {
                let due = base::clock::Timestamp::from_millis(0);
                (Outcome::Retry { due, reason: "503".to_owned(), is_doubtful }, Work::Open)
            }
            How::Park => (Outcome::Park { reason: "410".to_owned() }, Work::Parked),
            How::GiveBack => (Outcome::GiveBack, Work::Open),
        };
        self.inbox.settle(lease, outcome).await.unwrap();
        let doubts = self.model.doubts.entry((lease.stage, lease.seq)).or_default();
        *doubts = match how {
            How::Retry { is_doubtful: true } => *doubts + 1,
            How::GiveBack => *doubts,
            How::Done | How::Park | How::Retry { .. } => 0,
        };
        self.model.work.insert((lease.stage, lease.seq), work);
        if lease.stage == Stage::Completion && work == Work::Parked {
            for stage in &self.stages[1..] {
                self.model.work.insert((*stage, lease.seq), Work::Parked);
            }
        }
    }

    async fn agrees(&self) {
        for entry in self.inbox.list(&Filter::default(), 1000).await.unwrap() {
            assert_eq!(entry.state, self.model.state(entry.seq), "entry {}", entry.seq);
        }
        let stats = self.inbox.stats().await.unwrap();
        for (stage, (name, counts)) in self.stages.iter().zip(stats.stages) {
            let of = |is: Work| self.model.work.iter().filter(|((of, _), work)| of == stage && **work == is).count();
            let expected = [of(Work::Open), of(Work::Leased), of(Work::Parked)].map(|count| count as u64);
            assert_eq!([counts.waiting, counts.leased, counts.parked], expected, "{name}");
        }
    }

    /// Whatever happened before: what is unfinished is done in the end.
    async fn finish(&mut self) {
        self.apply(&Op::Crash).await;
        self.apply(&Op::Replay).await;
        loop {
            let mut claimed = 0;
            for stage in self.stages.clone() {
                claimed += self.claim(stage, 1000).await;
            }
            if claimed == 0 {
                break;
            }
            for lease in std::mem::take(&mut self.held) {
                self.settle(&lease, How::Done).await;
            }
        }
        assert!(self.model.work.values().all(|work| *work == Work::Done), "{:?}", self.model.work);
        self.agrees().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_inbox_does_what_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for op in &ops {
                world.apply(op).await;
                world.agrees().await;
            }
            world.finish().await;
            world.inbox.close().await;
        });
    }
}
