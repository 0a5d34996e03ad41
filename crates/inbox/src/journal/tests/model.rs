//! Generated lists of appends, crashes and damage against a map of what was acknowledged.
//!
//! A crash may leave anything in the last segment behind what was synced: the rest of a write that was under way, in part,
//! in any order of its pages. It is played by writing there the frames that the next batch would have had, and then
//! replacing, zeroing or cutting off a part of them.

use super::*;
use crate::journal::{
    cursor::{Cursor, Step},
    frame::Encoder,
};
use base::clock;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Operation {
    /// Appends so many records of this length, side by side.
    Append {
        records: u64,
        length: usize,
    },
    /// A clean end and a start.
    Restart,
    /// A crash while so many records were written, and what it left of them.
    Crash {
        records: u64,
        length: usize,
        torn: Torn,
        at: prop::sample::Index,
    },
    /// What was folded so far is let go.
    LetGo(prop::sample::Index),
    Close,
}

#[derive(Clone, Copy, Debug)]
enum Torn {
    /// All of it was written.
    Whole,
    /// From this place on it was not written.
    Zeroed,
    /// The file ends there.
    Cut,
    /// A piece of it was not written, but what is behind it was.
    Hole,
    /// A byte of it is another.
    Flipped,
}

fn operation() -> impl Strategy<Value = Operation> {
    let torn = prop::sample::select(vec![Torn::Whole, Torn::Zeroed, Torn::Cut, Torn::Hole, Torn::Flipped]);
    prop_oneof![
        5 => (1..20_u64, 1..3000_usize).prop_map(|(records, length)| Operation::Append { records, length }),
        1 => Just(Operation::Restart),
        3 => (0..5_u64, 1..3000_usize, torn, any::<prop::sample::Index>())
            .prop_map(|(records, length, torn, at)| Operation::Crash { records, length, torn, at }),
        1 => any::<prop::sample::Index>().prop_map(Operation::LetGo),
        1 => Just(Operation::Close),
    ]
}

/// What was acknowledged and not let go.
#[derive(Default)]
struct World {
    acknowledged: BTreeMap<u64, Bytes>,
    folded: u64,
    /// Tells payloads apart.
    made: u64,
}

impl World {
    fn payload(&mut self, length: usize) -> Bytes {
        self.made += 1;
        payload(self.made, length)
    }
}

/// What a write that was under way has left behind the last record. Its records may be read later, or not, but never a
/// part of them: they come back.
fn tear(
    path: &Path,
    world: &mut World,
    records: u64,
    length: usize,
    torn: Torn,
    at: prop::sample::Index,
) -> Vec<Bytes> {
    let Some(file) = files(path, ".segment").pop() else { return Vec::new() };
    let size = fs::metadata(&file).unwrap().len();
    let mut cursor = Cursor::open(&file).unwrap();
    while let Step::Record(_) = cursor.step(size).unwrap() {}
    if cursor.step(size).unwrap() == Step::End || records == 0 {
        return Vec::new();
    }
    let last = cursor.next - 1;
    let mut encoder = Encoder { seed: cursor.seed, chain: cursor.chain, buffer: Vec::new() };
    let mut payloads = Vec::new();
    for n in 1..=records {
        let payload = world.payload(length);
        encoder.record(&Record { position: last + n, accepted: clock::now(), payload: payload.clone() }, last);
        payloads.push(payload);
    }
    let mut bytes = encoder.buffer;
    bytes.truncate(usize::try_from(size - cursor.offset).unwrap());
    if bytes.is_empty() {
        return Vec::new();
    }
    let at = at.index(bytes.len());
    let handle = fs::OpenOptions::new().write(true).open(&file).unwrap();
    match torn {
        Torn::Whole => {}
        Torn::Zeroed => bytes[at..].fill(0),
        Torn::Hole => {
            let end = (at + 600).min(bytes.len());
            bytes[at..end].fill(0);
        }
        Torn::Flipped => bytes[at] ^= 1,
        Torn::Cut => handle.set_len(cursor.offset + at as u64).unwrap(),
    }
    if !matches!(torn, Torn::Cut) {
        handle.write_all_at(&bytes, cursor.offset).unwrap();
    }
    payloads
}

/// Everything that was acknowledged is there, and beyond it at most the start of what was under way.
fn check(journal: &Journal, world: &mut World, under_way: &[Bytes]) -> Result<(), TestCaseError> {
    prop_assert_eq!(damage_of(journal), vec![]);
    let (found, damage) = read_behind(journal, world.folded);
    prop_assert_eq!(damage, None);
    let mut found: Vec<(u64, Bytes)> = found.into_iter().collect();
    let more = found.split_off(world.acknowledged.len().min(found.len()));
    prop_assert_eq!(found, world.acknowledged.clone().into_iter().collect::<Vec<_>>(), "what was acknowledged");
    let more_payloads: Vec<Bytes> = more.iter().map(|(_, payload)| payload.clone()).collect();
    prop_assert!(under_way.starts_with(&more_payloads), "{} records were invented", more.len());
    world.acknowledged.extend(more);
    Ok(())
}

async fn run(operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let mut world = World::default();
    let mut journal = open(path);
    for operation in operations {
        match operation {
            Operation::Append { records, length } => {
                let payloads: Vec<Bytes> = (0..records).map(|_| world.payload(length)).collect();
                let appends = payloads.iter().map(|payload| journal.append(payload.clone()));
                for (position, payload) in futures_util::future::join_all(appends).await.into_iter().zip(&payloads) {
                    prop_assert!(world.acknowledged.insert(position.unwrap().0, payload.clone()).is_none());
                }
            }
            Operation::Restart => {
                journal.end();
                drop(journal);
                journal = open_with(path, world.folded, limits());
            }
            Operation::Crash { records, length, torn, at } => {
                journal.cleared().await;
                crash(path, journal);
                let under_way = tear(path, &mut world, records, length, torn, at);
                journal = open_with(path, world.folded, limits());
                check(&journal, &mut world, &under_way)?;
            }
            Operation::LetGo(at) => {
                if let Some((position, _)) = world.acknowledged.iter().nth(at.index(world.acknowledged.len().max(1))) {
                    world.folded = *position;
                    world.acknowledged = world.acknowledged.split_off(&(world.folded + 1));
                    journal.let_go(Position(world.folded));
                }
            }
            Operation::Close => journal.close_segment().await,
        }
        check(&journal, &mut world, &[])?;
    }
    journal.end();
    let report = verify(path, IDENTITY, world.folded).unwrap();
    prop_assert_eq!(report.damage, vec![]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_is_invented(operations in prop::collection::vec(operation(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(operations))?;
    }

    /// Any changed byte below what was synced is found, in the last segment too, as long as something was synced after it.
    #[test]
    fn a_changed_byte_below_what_was_synced_is_damage(
        lengths in prop::collection::vec(1..2000_usize, 2..30),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = TempDir::new().unwrap();
        let mut appended = BTreeMap::new();
        let journal = open(folder.path());
        for (number, length) in lengths.iter().enumerate() {
            let payload = payload(number as u64, *length);
            let position = runtime.block_on(journal.append(payload.clone())).unwrap();
            appended.insert(position.0, payload);
        }
        crash(folder.path(), journal);
        // Every byte that counts, but for the last record, of which nobody can tell that it was synced.
        let mut bytes = Vec::new();
        let segments = files(folder.path(), ".segment");
        for file in &segments {
            let size = fs::metadata(file).unwrap().len();
            let mut cursor = Cursor::open(file).unwrap();
            bytes.extend((0..56).map(|at| (file, at, cursor.header.first)));
            let mut step = (cursor.offset, cursor.step(size).unwrap());
            while let Step::Record(record) = &step.1 {
                if record.position < lengths.len() as u64 {
                    let counts = step.0 + 40 + record.payload.len() as u64;
                    bytes.extend((step.0..counts).map(|at| (file, at, record.position)));
                }
                step = (cursor.offset, cursor.step(size).unwrap());
            }
        }
        let (file, at, position) = bytes[at.index(bytes.len())];
        let handle = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
        let mut byte = [0];
        handle.read_exact_at(&mut byte, at).unwrap();
        handle.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
        let report = verify(folder.path(), IDENTITY, 0).unwrap();
        prop_assert_eq!(report.damage.len(), 1);
        prop_assert_eq!((&report.damage[0].file, report.damage[0].position), (file, position));
        let journal = open(folder.path());
        let (found, damage) = read_behind(&journal, 0);
        prop_assert_eq!(damage, Some(report.damage[0].clone()));
        prop_assert_eq!(found, appended.into_iter().filter(|(at, _)| *at < position).collect());
        journal.end();
    }
}
