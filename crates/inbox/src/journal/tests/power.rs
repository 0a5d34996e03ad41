//! Power cuts at every moment of short histories, and at many moments of long ones.
//!
//! A history runs once, on a disk that writes down what is done to it. Each prefix of that is a moment at which the power may be
//! cut, and each moment leaves one of several disks (`platter`). On every one of them the journal is opened again, and must
//! have each record that was acknowledged by then and not yet stored elsewhere. Opening writes too, so the power is cut
//! once more meanwhile.

use super::{
    disk::faults::Op,
    platter::{Fate, Left, Platter, put},
    *,
};
use std::collections::BTreeSet;

/// Combinations of one moment that are all tried; where there are more, this many by chance.
const COMBINATIONS: usize = 40;

#[derive(Clone, Debug)]
enum Act {
    /// So many records of this length, side by side.
    Append(u64, usize),
    /// What was acknowledged so far is stored elsewhere, and let go.
    LetGo,
    Close,
    /// The next sync fails.
    Fail,
    Restart,
}

use Act::{Append, Close, Fail, LetGo, Restart};

/// What was done, and the payloads that were given to the journal.
struct History {
    tape: Vec<Op>,
    payloads: BTreeMap<u64, Bytes>,
    /// Payloads that were never acknowledged.
    refused: Vec<Bytes>,
}

async fn play(acts: &[Act], lies: bool) -> History {
    let folder = TempDir::new().unwrap();
    let disk = Disk { faults: Arc::new(Faults::taped()) };
    let faults = Arc::clone(&disk.faults);
    faults.lies.store(lies, Ordering::SeqCst);
    let open = |stored| {
        Journal::open_on(disk.clone(), folder.path(), IDENTITY, Some(Position(stored)), limits(), None).unwrap()
    };
    let mut journal = open(0);
    let mut history = History { tape: Vec::new(), payloads: BTreeMap::new(), refused: Vec::new() };
    let (mut made, mut stored) = (0, 0);
    for act in acts {
        match act {
            Append(records, length) => {
                wait_until_ready(&journal).await;
                let payloads: Vec<Bytes> = (made..made + records).map(|number| payload(number, *length)).collect();
                made += records;
                let appends = payloads.iter().map(|payload| journal.append(payload.clone()));
                for (position, payload) in futures_util::future::join_all(appends).await.into_iter().zip(payloads) {
                    match position {
                        Ok(position) => {
                            faults.note(|| Op::Acknowledged(position.0));
                            assert_eq!(history.payloads.insert(position.0, payload), None, "{position:?} twice");
                        }
                        Err(_) => history.refused.push(payload),
                    }
                }
            }
            LetGo => {
                stored = history.payloads.last_key_value().map_or(0, |(last, _)| *last);
                faults.note(|| Op::Stored(stored));
                journal.let_go(Position(stored));
                journal.cleared().await;
            }
            Close => journal.close_segment().await,
            Fail => faults.next_sync.store(true, Ordering::SeqCst),
            Restart => {
                drop(journal);
                journal = open(stored);
            }
        }
    }
    drop(journal);
    history.tape = faults.played();
    history
}

/// What must be true of a disk after a cut.
struct Promised<'a> {
    history: &'a History,
    stored: u64,
    acknowledged: BTreeSet<u64>,
}

impl Promised<'_> {
    /// Opens the journal on what a cut left; returns what opening did to the disk, and the disk as it was before.
    fn check(&self, left: &Left) -> Result<(Platter, Vec<Op>), String> {
        let folder = TempDir::new().unwrap();
        put(left, folder.path());
        let before = Platter::of(folder.path());
        let disk = Disk { faults: Arc::new(Faults::taped()) };
        let faults = Arc::clone(&disk.faults);
        let journal = Journal::open_on(disk, folder.path(), IDENTITY, Some(Position(self.stored)), limits(), None)
            .map_err(|error| error.to_string())?;
        let damage = damage_of(&journal);
        if !damage.is_empty() {
            return Err(damage.iter().map(ToString::to_string).collect());
        }
        let (found, damage) = read_behind(&journal, self.stored);
        if let Some(damage) = damage {
            return Err(damage.to_string());
        }
        for position in self.acknowledged.iter().filter(|position| **position > self.stored) {
            if found.get(position) != self.history.payloads.get(position) {
                return Err(format!("{position} was acknowledged, and is {:?}", found.get(position)));
            }
        }
        let mut seen = BTreeSet::new();
        for (position, payload) in &found {
            let is_known = self.history.payloads.get(position) == Some(payload)
                || !self.acknowledged.contains(position) && self.history.refused.contains(payload);
            if !is_known || !seen.insert(payload) {
                return Err(format!("{position} was not appended so"));
            }
        }
        drop(journal);
        Ok((before, faults.played()))
    }
}

/// Every disk that a cut at this moment may leave: all combinations, or where there are too many, some by chance.
fn cuts(platter: &Platter, chance: &mut fastrand::Rng) -> Vec<Left> {
    let mut each = Fate::Each { digits: Vec::new(), at: 0 };
    let mut all = Vec::new();
    loop {
        all.push(platter.cut(&mut each));
        if !each.advance() {
            return all;
        }
        if all.len() == COMBINATIONS {
            break;
        }
    }
    let by_chance = (0..COMBINATIONS).map(|_| platter.cut(&mut Fate::Chance(chance.fork())));
    [platter.cut(&mut Fate::Lost), platter.cut(&mut Fate::Kept)].into_iter().chain(by_chance).collect()
}

/// Plays a history, and calls for each moment, with the disk and what is promised then.
fn moments(
    history: &History,
    seed: u64,
    mut at: impl FnMut(&Platter, &Promised<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut platter = Platter::default();
    let mut fate = Fate::Chance(fastrand::Rng::with_seed(seed));
    let mut promised = Promised { history, stored: 0, acknowledged: BTreeSet::new() };
    for (number, op) in history.tape.iter().enumerate() {
        platter.play(op, &mut fate);
        match op {
            Op::Acknowledged(position) => drop(promised.acknowledged.insert(*position)),
            Op::Stored(position) => promised.stored = *position,
            _ => {}
        }
        at(&platter, &promised)
            .map_err(|problem| format!("seed {seed}, after operation {number} ({op:?}): {problem}"))?;
    }
    Ok(())
}

/// Cuts the power at every moment, in every way, and once more while the journal is opened again. How many disks were tried.
fn everywhere(history: &History, seed: u64) -> Result<usize, String> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut tried = 0;
    moments(history, seed, |platter, promised| {
        for left in cuts(platter, &mut chance) {
            let (mut again, tape) = promised.check(&left)?;
            tried += 1;
            // Opening has done this much when the power goes again.
            let done = chance.usize(..=tape.len());
            tape.iter().take(done).for_each(|op| again.play(op, &mut Fate::Kept));
            let left = again.cut(&mut Fate::Chance(chance.fork()));
            promised.check(&left).map_err(|problem| format!("on the second cut: {problem}"))?;
            tried += 1;
        }
        Ok(())
    })?;
    Ok(tried)
}

/// Short histories with everything that a journal does.
fn short() -> Vec<Vec<Act>> {
    vec![
        vec![Append(1, 1), Append(1, 100), Append(1, 470), Append(1, 600), Append(3, 300)],
        vec![Append(4, 2000), Append(6, 2000), LetGo, Append(2, 100)],
        vec![Append(2, 700), Close, LetGo, Append(2, 700), Close, Append(1, 50), LetGo, Append(1, 9)],
        vec![Append(2, 100), Fail, Append(1, 700), Append(2, 100), LetGo, Append(1, 100)],
        vec![Append(1, 100), Close, Fail, Append(2, 100), Append(1, 100), Fail, Close, Append(1, 30)],
        vec![Append(1, 40_000), Append(1, 5), LetGo, Append(1, 20_000)],
        vec![Append(2, 500), Restart, Append(2, 500), LetGo, Restart, Append(1, 500)],
        vec![Append(3, 300), Fail, Append(2, 300), Restart, Append(2, 300)],
    ]
}

/// How many of something to try: what a variable says, else the usual.
fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged() {
    let mut tried = 0;
    for (number, acts) in short().into_iter().enumerate() {
        let history = play(&acts, false).await;
        tried += everywhere(&history, number as u64).unwrap_or_else(|problem| panic!("history {number}, {problem}"));
    }
    assert!(tried > 3_000, "{tried}");
}

/// The next process still reads a batch whose sync failed, and the disk does not have it. An example of what followed: the frame
/// that closed the segment named the batch as synced, a power cut took the batch, and the journal was damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_sync_failed_is_written_again_before_its_segment_is_closed() {
    let history = play(&[Append(1, 100), Fail, Append(2, 700), Restart, LetGo, Append(1, 100)], false).await;
    for seed in 0..10 {
        everywhere(&history, seed).unwrap_or_else(|problem| panic!("{problem}"));
    }
}

/// The control: where a position is given out before its bytes are on the disk, the same cuts find it out.
#[tokio::test(flavor = "multi_thread")]
async fn to_acknowledge_before_the_sync_is_found_out_by_these_cuts() {
    for (number, acts) in short().into_iter().enumerate() {
        let problem = everywhere(&play(&acts, true).await, 0).expect_err("what was not synced is lost");
        assert!(
            ["was acknowledged, and is None", "damage"].iter().any(|said| problem.contains(said)),
            "history {number}: {problem}"
        );
    }
}

fn long(chance: &mut fastrand::Rng) -> Vec<Act> {
    let mut act = || match chance.u8(..20) {
        0..=11 => Append(chance.u64(1..12), chance.usize(1..4000)),
        12..=14 => LetGo,
        15..=16 => Close,
        17..=18 => Fail,
        _ => Restart,
    };
    (0..40).map(|_| act()).collect()
}

/// The last byte that counts of the last segment.
fn end_of(left: &Left) -> Option<(String, usize)> {
    let (name, bytes) = left.iter().rfind(|(name, _)| name.ends_with(".segment"))?;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let mut cursor = cursor::Cursor::open(&path).unwrap();
    while let cursor::Step::Record(_) = cursor.step(bytes.len() as u64).unwrap() {}
    Some((name.clone(), usize::try_from(cursor.offset).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn long_histories_survive_cuts_and_rot_behind_what_was_synced() {
    let mut rotten = 0;
    for seed in 0..number("PROOF_HISTORIES", 12) as u64 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let history = play(&long(&mut chance), false).await;
        moments(&history, seed, |platter, promised| {
            if chance.u8(..8) > 0 {
                return Ok(());
            }
            let mut left = platter.cut(&mut Fate::Chance(chance.fork()));
            promised.check(&left)?;
            // A bit goes over behind everything that was written whole: nothing there was promised.
            if let Some((name, end)) = end_of(&left) {
                let bytes = left.get_mut(&name).unwrap();
                if end < bytes.len() {
                    let at = chance.usize(end..bytes.len().min(end + 600));
                    bytes[at] ^= 1 << chance.u8(..8);
                    promised.check(&left).map_err(|problem| format!("with a changed bit in {name}: {problem}"))?;
                    rotten += 1;
                }
            }
            Ok(())
        })
        .unwrap_or_else(|problem| panic!("{problem}"));
    }
    assert!(rotten > 100, "{rotten}");
}
