//! Generated sequences of operations by several receivers, crashes included, against the model in `world`.
//!
//! After each operation every receiver's view must agree with the model; at the end everything that is unfinished must
//! still come out, in order.

use crate::{
    events::{event, found, new_entry, park, park_for_credentials, retry},
    stores::{AcceptFolded, Backend, LEASE, Store, every_back_end, in_state, only, only_at},
    world::{Entry, FETCH, How, Model, StageIndex, Work, mark},
};
use inbox::{Error, Filter, Folded, Inbox, Lease, Outcome, Resume, Stage, State};
use proptest::{prelude::*, test_runner::TestRunner};
use rstest_reuse::apply;
use std::time::Duration;

const SINKS: [&str; 2] = ["one", "two"];
const RECEIVERS: usize = 3;
/// More than any run accepts.
const ALL: usize = 1000;

#[derive(Clone, Debug)]
enum Op {
    /// An event of this connection, truncated or not; an old one again where `repeat` says so.
    Accept { receiver: usize, connection: u8, truncated: bool, repeat: bool },
    /// Leases up to `limit` of a stage.
    Claim { receiver: usize, stage: StageIndex, limit: usize },
    /// Ends the lease at this place of those that are held.
    Settle { lease: usize, how: How },
    /// The worker that holds this lease is gone, and the lease expires; meanwhile an operator puts back the earlier entries
    /// of the connection, where `replayed` says so.
    Lose { lease: usize, replayed: bool },
    /// This lease expires while it is worked on, and another receiver asks for work.
    Overtake { lease: usize },
    /// This lease expires while it is worked on, and the same receiver asks for work.
    Outlive { lease: usize },
    /// All processes end without a word and start again.
    Crash,
    /// An operator parks an entry, or its part for one sink.
    Park { entry: usize, sink: Option<usize> },
    /// An operator puts everything that is parked back.
    ReplayParked,
    /// An operator puts an entry back, or its part for one sink.
    Replay { entry: usize, sink: Option<usize> },
    /// Other credentials are there.
    Resume,
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => Just(How::Done),
        1 => any::<bool>().prop_map(|is_doubtful| How::Retry { is_doubtful }),
        2 => Just(How::Park),
        3 => Just(How::ParkForCredentials),
        1 => Just(How::GiveBack),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let sink = || prop::option::of(0..SINKS.len());
    prop_oneof![
        8 => (0..RECEIVERS, 0_u8..2, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
            |(receiver, connection, truncated, repeat)| Op::Accept { receiver, connection, truncated, repeat }),
        12 => (0..RECEIVERS, 0..=SINKS.len(), 1_usize..4)
            .prop_map(|(receiver, stage, limit)| Op::Claim { receiver, stage, limit }),
        12 => (any::<usize>(), how()).prop_map(|(lease, how)| Op::Settle { lease, how }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(lease, replayed)| Op::Lose { lease, replayed }),
        2 => any::<usize>().prop_map(|lease| Op::Overtake { lease }),
        2 => any::<usize>().prop_map(|lease| Op::Outlive { lease }),
        1 => Just(Op::Crash),
        5 => (any::<usize>(), sink()).prop_map(|(entry, sink)| Op::Park { entry, sink }),
        2 => Just(Op::ReplayParked),
        4 => (any::<usize>(), sink()).prop_map(|(entry, sink)| Op::Replay { entry, sink }),
        3 => Just(Op::Resume),
    ]
}

struct World {
    store: Store,
    receivers: Vec<Inbox>,
    stages: Vec<Stage>,
    model: Model,
    /// Leases that a receiver's workers believe to hold.
    held: Vec<(usize, Lease)>,
    count: usize,
}

async fn receivers(store: &Store) -> Vec<Inbox> {
    let mut receivers = vec![store.get().clone()];
    while receivers.len() < RECEIVERS {
        receivers.push(store.another().await);
    }
    receivers
}

impl World {
    async fn new(backend: Backend) -> Self {
        let store = Store::new(backend, &SINKS).await;
        let receivers = receivers(&store).await;
        let stages = std::iter::once(Stage::ACCOUNTS).chain(SINKS.map(Stage::deliver)).collect();
        Self { store, receivers, stages, model: Model::default(), held: Vec::new(), count: 0 }
    }

    fn index(&self, stage: &Stage) -> StageIndex {
        self.stages.iter().position(|known| known == stage).unwrap()
    }

    async fn apply(&mut self, op: &Op) {
        match op {
            Op::Accept { receiver, connection, truncated, repeat } => {
                self.accept(*receiver, *connection, *truncated, *repeat).await;
            }
            Op::Claim { receiver, stage, limit } => drop(self.claim(*receiver, *stage, *limit).await),
            Op::Crash => self.crash().await,
            Op::ReplayParked => {
                let parked = (0..self.model.entries.len())
                    .filter(|entry| self.model.entries[*entry].state() == State::Parked)
                    .collect::<Vec<_>>();
                assert_eq!(self.store.replay(&in_state(State::Parked)).await, parked.len() as u64);
                for entry in parked {
                    assert!(self.model.replay(entry, None));
                }
            }
            Op::Resume => {
                let which = Resume { credentials: mark(), user: None, connection: None };
                let resumed = self.receivers[1].queue.resume(&which, ALL).await.unwrap();
                assert_eq!(resumed, self.model.resume());
            }
            Op::Park { entry, sink } if !self.model.entries.is_empty() => {
                // One of the newest: the others are likely to be done.
                let newest = self.model.entries.len() - 1 - entry % self.model.entries.len().min(3);
                let (entry, filter) = self.meant(newest, *sink);
                let changed = self.store.park(&filter).await > 0;
                assert_eq!(changed, self.model.park_by_hand(entry, sink.map(|sink| sink + 1)));
            }
            Op::Replay { entry, sink } if !self.model.entries.is_empty() => {
                let (entry, filter) = self.meant(*entry, *sink);
                let changed = self.store.replay(&filter).await > 0;
                assert_eq!(changed, self.model.replay(entry, sink.map(|sink| sink + 1)));
            }
            Op::Settle { lease, how } if !self.held.is_empty() => {
                let (receiver, lease) = self.held.remove(lease % self.held.len());
                self.settle(receiver, &lease, *how).await;
            }
            Op::Lose { lease, replayed } if !self.held.is_empty() => {
                let (receiver, lease) = self.held.remove(lease % self.held.len());
                if *replayed {
                    self.replay_earlier(&lease).await;
                }
                self.expire(receiver, &lease).await;
            }
            Op::Overtake { lease } if !self.held.is_empty() => {
                let (receiver, lease) = self.held[lease % self.held.len()].clone();
                if self.expire(receiver, &lease).await {
                    self.claim((receiver + 1) % RECEIVERS, self.index(&lease.stage), ALL).await;
                }
            }
            Op::Outlive { lease } if !self.held.is_empty() => {
                let (receiver, lease) = self.held[lease % self.held.len()].clone();
                if self.expire(receiver, &lease).await {
                    // Its work goes on, so the inbox prolongs it.
                    let stage = self.index(&lease.stage);
                    self.model.set(stage, self.model.index(lease.seq), Work::Leased(lease.token));
                    self.claim(receiver, stage, ALL).await;
                }
            }
            // Nothing to do it to.
            Op::Park { .. }
            | Op::Replay { .. }
            | Op::Settle { .. }
            | Op::Lose { .. }
            | Op::Overtake { .. }
            | Op::Outlive { .. } => {}
        }
    }

    fn meant(&self, entry: usize, sink: Option<usize>) -> (usize, Filter) {
        let entry = entry % self.model.entries.len();
        let seq = self.model.entries[entry].seq;
        (entry, sink.map_or_else(|| only(seq), |sink| only_at(seq, SINKS[sink])))
    }

    /// Puts back the entries of a connection that come before the one of this lease.
    async fn replay_earlier(&mut self, lease: &Lease) {
        let of = self.model.index(lease.seq);
        for entry in 0..of {
            if self.model.entries[entry].connection == self.model.entries[of].connection {
                let changed = self.store.replay(&only(self.model.entries[entry].seq)).await > 0;
                assert_eq!(changed, self.model.replay(entry, None));
            }
        }
    }

    async fn crash(&mut self) {
        self.held.clear();
        for receiver in &self.receivers {
            receiver.upkeep.close().await;
        }
        self.store.crash().await;
        self.receivers = receivers(&self.store).await;
        self.model.crash();
    }

    async fn accept(&mut self, receiver: usize, connection: u8, truncated: bool, repeat: bool) {
        let receiver = if self.store.has_one_way_in() { 0 } else { receiver };
        let intake = &self.receivers[receiver].intake;
        if let Some(first) = self.model.entries.first().filter(|_| repeat) {
            let again = intake.accept_folded(new_entry(&first.json)).await.unwrap();
            assert_eq!(again.folded, Some(Folded::Duplicate { seq: first.seq }));
            return;
        }
        self.count += 1;
        let json = event(&format!("e{}", self.count), &connection.to_string(), 2, truncated);
        let receipt = intake.accept_folded(new_entry(&json)).await.unwrap();
        let Some(Folded::Stored { seq, conflict: false }) = receipt.folded else { panic!("{receipt:?}") };
        assert!(self.model.entries.iter().all(|earlier| earlier.seq != seq));
        let stages = if truncated { FETCH } else { FETCH + 1 }..self.stages.len();
        self.model.entries.push(Entry::new(seq, connection, json, stages));
    }

    /// Leases what may be leased, and checks that it is that and nothing else.
    async fn claim(&mut self, receiver: usize, stage: StageIndex, limit: usize) -> usize {
        // What else happens in a claim depends on how far it looks: let it look at everything.
        let limit = if self.model.is_unruly(stage) { ALL } else { limit };
        let queue = &self.receivers[receiver].queue;
        let leases = queue.claim(&self.stages[stage], limit, LEASE).await.unwrap().leases;
        let ready = self.model.look(stage);
        assert_eq!(leases.len(), ready.len().min(limit), "everything that may be leased is, and nothing else");
        for lease in &leases {
            let entry = self.model.index(lease.seq);
            assert!(ready.contains(&entry), "{} {}", lease.stage, lease.seq);
            assert_eq!(lease.body, self.model.entries[entry].json.as_bytes());
            let doubts = self.model.part(stage, entry).unwrap().doubts;
            assert_eq!((lease.doubts.tries, lease.doubts.since.is_some()), (doubts, doubts > 0));
            self.model.set(stage, entry, Work::Leased(lease.token));
        }
        let count = leases.len();
        self.held.extend(leases.into_iter().map(|lease| (receiver, lease)));
        count
    }

    /// Whether the model says that a lease is still good.
    fn is_good(&self, lease: &Lease) -> bool {
        let part = self.model.part(self.index(&lease.stage), self.model.index(lease.seq)).unwrap();
        part.work == Work::Leased(lease.token)
    }

    /// Lets a lease end now; whether it was good.
    async fn expire(&mut self, receiver: usize, lease: &Lease) -> bool {
        let renewed = self.receivers[receiver].queue.renew(lease, Duration::ZERO).await;
        if !self.is_good(lease) {
            assert!(matches!(renewed, Err(Error::LeaseLost(of)) if of == lease.seq));
            return false;
        }
        renewed.unwrap();
        self.model.set(self.index(&lease.stage), self.model.index(lease.seq), Work::Expired);
        true
    }

    async fn settle(&mut self, receiver: usize, lease: &Lease, how: How) {
        let inbox = self.receivers[receiver].clone();
        let how = match how {
            How::ParkForCredentials if lease.stage != Stage::ACCOUNTS => How::Park,
            how => how,
        };
        let outcome = match how {
            How::Done if lease.stage == Stage::ACCOUNTS => match inbox.readings.find_or_begin(lease, LEASE).await {
                Ok(reading) => Outcome::Fetched { reading: reading.id, found: found(2) },
                Err(_lost) => Outcome::Gone,
            },
            How::Done => Outcome::Done,
            How::Retry { is_doubtful } => retry("503", is_doubtful),
            How::Park => park("410"),
            How::ParkForCredentials => park_for_credentials(mark().as_str()),
            How::GiveBack => Outcome::GiveBack,
        };
        let settled = inbox.queue.settle(&[(lease, outcome)]).await.remove(0);
        if self.is_good(lease) {
            settled.unwrap();
            self.model.settle(self.index(&lease.stage), self.model.index(lease.seq), how);
        } else {
            assert!(matches!(settled, Err(Error::LeaseLost(of)) if of == lease.seq));
        }
    }

    /// Compares what a receiver sees with the model.
    async fn agrees(&self, receiver: usize) {
        let inbox = &self.receivers[receiver];
        let views = inbox.desk.list(&Filter::default(), ALL).await.unwrap();
        assert_eq!(views.len(), self.model.entries.len());
        for view in views {
            let entry = &self.model.entries[self.model.index(view.seq)];
            assert_eq!(view.state, entry.state(), "entry {}", view.seq);
            assert_eq!(view.stages.len(), entry.parts.len());
            for stage in &view.stages {
                let part = &entry.parts[&self.index(&stage.stage)];
                let cause = if let Work::Parked(cause) = &part.work { Some(cause) } else { None };
                let expected = (part.work.state(), cause);
                assert_eq!((stage.state, stage.cause.as_ref()), expected, "entry {} at {}", view.seq, stage.stage);
                let attempts = view.attempts.iter().filter(|attempt| attempt.stage == stage.stage);
                let attempts: Vec<State> = attempts.map(|attempt| attempt.state).collect();
                assert_eq!(attempts, part.attempts, "entry {} at {}", view.seq, stage.stage);
            }
        }
        let stats = inbox.upkeep.stats().await.unwrap();
        for (index, (name, counts)) in stats.stages.iter().enumerate() {
            let parts = self.model.entries.iter().filter_map(|entry| entry.parts.get(&index));
            let of = |state| parts.clone().filter(|part| part.work.state() == state).count() as u64;
            let expected = [of(State::Waiting), of(State::Leased), of(State::Parked)];
            assert_eq!([counts.waiting, counts.leased, counts.parked], expected, "{name}");
        }
    }

    /// Whatever happened before: what is unfinished is done in the end.
    async fn finish(&mut self) {
        self.apply(&Op::Crash).await;
        for turn in 0.. {
            self.apply(&Op::ReplayParked).await;
            let mut claimed = 0;
            for stage in 0..self.stages.len() {
                claimed += self.claim((turn + stage) % RECEIVERS, stage, ALL).await;
            }
            let is_any_parked = self.model.entries.iter().any(|entry| entry.state() == State::Parked);
            if claimed == 0 && !is_any_parked {
                break;
            }
            for (receiver, lease) in std::mem::take(&mut self.held) {
                self.settle(receiver, &lease, How::Done).await;
            }
        }
        assert!(self.model.entries.iter().all(|entry| entry.state() == State::Done), "{:?}", self.model);
        self.agrees(0).await;
    }
}

async fn run(backend: Backend, ops: &[Op]) {
    let mut world = World::new(backend).await;
    for (number, op) in ops.iter().enumerate() {
        world.apply(op).await;
        world.agrees(number % RECEIVERS).await;
    }
    world.finish().await;
    for receiver in &world.receivers {
        receiver.upkeep.close().await;
    }
}

#[apply(every_back_end)]
#[test]
fn the_inbox_does_what_the_model_does(backend: Backend) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config =
        ProptestConfig { cases: 64, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&prop::collection::vec(op(), 1..80), |ops| {
        runtime.block_on(run(backend, &ops));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
