//! The promises at the head of this folder, on real files.

use super::*;
use damage::{Damage, Kind};
use disk::faults::Faults;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::PathBuf,
    sync::atomic::Ordering,
    time::Duration,
};
use tempfile::TempDir;

mod model;
mod platter;
mod power;
mod recovered;

const IDENTITY: [u8; 16] = [7; 16];
/// How long a test waits for something that comes by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Small segments that do not age, so that a few records make several.
fn limits() -> Limits {
    Limits {
        most: 8 << 20,
        smallest: 16 << 10,
        largest: 64 << 10,
        age: Duration::from_hours(1),
        pause: Duration::from_millis(5),
    }
}

fn open_with(folder: &Path, stored: u64, limits: Limits) -> Journal {
    Journal::open(folder, IDENTITY, Some(Position(stored)), limits, None).unwrap()
}

fn open(folder: &Path) -> Journal {
    open_with(folder, 0, limits())
}

/// What was found damaged when it was opened.
fn damage_of(journal: &Journal) -> Vec<Damage> {
    journal.shared.state().parts.iter().filter_map(|part| part.damage.clone()).collect()
}

/// A payload that tells records apart, of so many bytes.
fn payload(number: u64, length: usize) -> Bytes {
    let mut text = format!("<record {number}>").into_bytes();
    text.resize(length.max(text.len()), b'.');
    text.into()
}

/// Everything behind a position that can be read, and what ends it.
fn read_behind(journal: &Journal, behind: u64) -> (BTreeMap<u64, Bytes>, Option<Damage>) {
    let mut reader = journal.reader(Position(behind));
    let mut found = BTreeMap::new();
    loop {
        match reader.read(3, 10_000) {
            Ok(records) if records.is_empty() => return (found, None),
            Ok(records) => {
                for record in records {
                    assert!(found.last_key_value().is_none_or(|(last, _)| *last < record.position), "out of order");
                    found.insert(record.position, record.payload);
                }
            }
            Err(ReadError::Damage(damage)) => return (found, Some(damage)),
            Err(error) => panic!("{error}"),
        }
    }
}

fn read(journal: &Journal) -> BTreeMap<u64, Bytes> {
    let (found, damage) = read_behind(journal, 0);
    assert_eq!(damage, None);
    found
}

/// Appends so many records one after the other; their positions and payloads.
async fn append(journal: &Journal, numbers: std::ops::Range<u64>, length: usize) -> BTreeMap<u64, Bytes> {
    let mut appended = BTreeMap::new();
    for number in numbers {
        let payload = payload(number, length);
        appended.insert(journal.append(payload.clone()).await.unwrap().0, payload);
    }
    appended
}

fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = all.filter(|path| path.to_str().unwrap().ends_with(kind)).collect();
    found.sort();
    found
}

/// Ends a journal without closing its segment, as a crash does: the segment gets back what it held before the end.
fn crash(folder: &Path, journal: Journal) {
    let before: Vec<(PathBuf, Vec<u8>)> =
        files(folder, ".segment").into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    journal.end();
    drop(journal);
    for (path, bytes) in before {
        fs::write(path, bytes).unwrap();
    }
}

/// Changes one byte of a file.
fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
}

/// Where a text stands in a file.
fn find(path: &Path, text: &str) -> Option<u64> {
    let bytes = fs::read(path).unwrap();
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).map(|at| at as u64)
}

#[tokio::test]
async fn what_was_appended_is_read_again_across_segments_and_starts() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a/journal");
    let journal = open(&path);
    let mut appended = append(&journal, 1..40, 2000).await;
    assert_eq!(appended.keys().copied().collect::<Vec<_>>(), (1..40).collect::<Vec<_>>());
    assert_eq!(read(&journal), appended, "while it is open");
    assert!(files(&path, ".segment").len() > 2);
    journal.end();
    assert!(matches!(journal.append(payload(1, 1)).await, Err(Error::Closed)));
    drop(journal);
    let journal = open(&path);
    assert_eq!(journal.synced(), Position(39));
    assert_eq!(read(&journal), appended, "after a start");
    appended.extend(append(&journal, 40..50, 10).await);
    appended.extend(append(&journal, 50..51, 200_000).await);
    assert_eq!(read(&journal), appended, "one that is larger than any segment so far too");
    assert_eq!(read_behind(&journal, 45).0, appended.split_off(&46));
    journal.end();
    let report = verify(&path, IDENTITY, 0).unwrap();
    assert_eq!((report.records, report.last, report.damage), (50, 50, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_share_a_sync_and_each_gets_its_own_position() {
    let folder = TempDir::new().unwrap();
    let journal = Arc::new(open(folder.path()));
    let mut callers = Vec::new();
    for number in 0..500 {
        let journal = Arc::clone(&journal);
        callers.push(tokio::spawn(async move {
            (journal.append(payload(number, 100)).await.unwrap().0, payload(number, 100))
        }));
    }
    let mut appended = BTreeMap::new();
    for caller in callers {
        let (position, payload) = caller.await.unwrap();
        assert!(appended.insert(position, payload).is_none(), "position {position} twice");
    }
    assert_eq!(read(&journal), appended);
    journal.end();
}

/// A segment that grew beyond the room that was set aside for it would have to be made longer on the way to an answer, and a full
/// disk would then take nothing where there was room.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_never_makes_a_segment_longer_than_it_was_made() {
    let folder = TempDir::new().unwrap();
    let journal = Arc::new(open(folder.path()));
    let sizes = [16 << 10, 32 << 10, 64 << 10];
    for round in 0..40 {
        // Up to a third of a segment each, so that batches end at every distance from its end.
        let lengths = (0..16).map(|number| 1 + (number * 977 + round * 131) % 5_500);
        let appends = lengths.map(|length| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move { journal.append(payload(1, length)).await.unwrap() })
        });
        for append in appends.collect::<Vec<_>>() {
            append.await.unwrap();
        }
        for path in files(folder.path(), ".segment") {
            let size = fs::metadata(&path).unwrap().len();
            assert!(sizes.contains(&size), "{size} bytes in {}", path.display());
        }
    }
    assert_eq!(read(&journal).len(), 40 * 16);
}

#[tokio::test]
async fn its_files_are_for_their_owner_alone_and_for_one_process() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("journal");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let journal = open(&path);
    append(&journal, 1..30, 2000).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in files(&path, "") {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let Err(Error::Open { problem, .. }) = Journal::open(&path, IDENTITY, Some(Position(0)), limits(), None) else {
        panic!()
    };
    assert!(problem.contains("another linxo-webhook has this journal open"), "{problem}");
    journal.end();
}

#[tokio::test]
async fn the_journal_of_another_inbox_is_refused() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..2, 10).await;
    journal.end();
    drop(journal);
    let other = Journal::open(folder.path(), [8; 16], Some(Position(0)), limits(), None);
    let Err(Error::Open { problem, .. }) = other else { panic!("{other:?}") };
    assert!(problem.contains("belongs to another inbox"), "{problem}");
    assert_eq!(read(&open(folder.path())).len(), 1, "and is left as it was");
}

#[tokio::test]
async fn nothing_of_what_was_let_go_is_left_on_the_disk() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..40, 2000).await;
    let holding = |text: &str| files(folder.path(), "").iter().filter(|path| find(path, text).is_some()).count();
    assert_eq!(holding("<record "), files(folder.path(), ".segment").len());
    let before = read_behind(&journal, 20).0;
    journal.let_go(Position(20));
    journal.cleared().await;
    assert_eq!(holding("<record 1>"), 0);
    assert_eq!(read_behind(&journal, 20).0, before, "what was not folded is still there");
    // On demand nothing is left, the newest record not either.
    journal.close_segment().await;
    journal.let_go(Position(39));
    journal.cleared().await;
    assert_eq!((holding("<record "), files(folder.path(), ".segment").len()), (0, 0));
    let more = append(&journal, 40..60, 2000).await;
    assert_eq!(read_behind(&journal, 39).0, more, "the room is used again");
    crash(folder.path(), journal);
    assert_eq!(read_behind(&open_with(folder.path(), 39, limits()), 39).0, more);
}

#[tokio::test]
async fn a_segment_closes_by_its_age() {
    let folder = TempDir::new().unwrap();
    let journal = open_with(folder.path(), 0, Limits { age: Duration::from_millis(20), ..limits() });
    append(&journal, 1..2, 100).await;
    let closed = async {
        loop {
            journal.let_go(Position(1));
            journal.cleared().await;
            if files(folder.path(), ".segment").is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    journal.end();
}

#[tokio::test]
async fn a_journal_that_is_full_takes_nothing_until_something_is_let_go() {
    let folder = TempDir::new().unwrap();
    let journal = open_with(folder.path(), 0, Limits { most: 200 << 10, ..limits() });
    let mut accepted = 0;
    let refused = loop {
        match journal.append(payload(accepted + 1, 2000)).await {
            Ok(position) => accepted = position.0,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::JournalFull), "{refused:?}");
    assert!(matches!(journal.ready(), Err(Error::JournalFull)));
    assert!(accepted > 50, "{accepted}");
    assert!(journal.size() <= 200 << 10, "{}", journal.size());
    journal.let_go(Position(accepted));
    tokio::time::timeout(PATIENCE, async {
        while journal.ready().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    let more = append(&journal, accepted + 1..accepted + 5, 2000).await;
    assert_eq!(read_behind(&journal, accepted).0, more);
    journal.end();
}

/// A journal on a disk that can be made to fail.
fn open_faulty(folder: &Path) -> (Journal, Arc<Faults>) {
    let disk = Disk::default();
    let faults = Arc::clone(&disk.faults);
    (Journal::open_on(disk, folder, IDENTITY, Some(Position(0)), limits(), None).unwrap(), faults)
}

async fn wait_until_ready(journal: &Journal) {
    let ready = async {
        while journal.ready().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
}

#[tokio::test]
async fn after_a_failed_sync_it_is_ready_again_by_itself_and_what_failed_is_not_there() {
    let folder = TempDir::new().unwrap();
    let (journal, faults) = open_faulty(folder.path());
    let mut appended = append(&journal, 1..5, 100).await;
    faults.sync.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(matches!(journal.append(payload(99, 100)).await, Err(Error::Store(_))));
        assert!(matches!(journal.ready(), Err(Error::Store(_))));
    }
    assert_eq!(read(&journal), appended);
    faults.sync.store(false, Ordering::SeqCst);
    wait_until_ready(&journal).await;
    appended.extend(append(&journal, 5..9, 100).await);
    assert_eq!(read(&journal), appended);
    crash(folder.path(), journal);
    assert!(find(&files(folder.path(), ".segment")[0], "<record 99>").is_some(), "it was written, and never promised");
    let journal = open(folder.path());
    assert_eq!((damage_of(&journal), read(&journal)), (vec![], appended));
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full_and_half_a_write_is_not_read() {
    let folder = TempDir::new().unwrap();
    let (journal, faults) = open_faulty(folder.path());
    let appended = append(&journal, 1..5, 100).await;
    faults.write.store(28, Ordering::SeqCst);
    assert!(matches!(journal.append(payload(99, 100)).await, Err(Error::Full(Some(_)))));
    assert!(matches!(journal.ready(), Err(Error::Full(Some(_)))));
    crash(folder.path(), journal);
    let journal = open(folder.path());
    assert_eq!((damage_of(&journal), read(&journal)), (vec![], appended));
}

#[tokio::test]
async fn damage_below_what_was_synced_is_said_and_new_records_are_taken_all_the_same() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    let appended = append(&journal, 1..5, 100).await;
    crash(folder.path(), journal);
    let file = files(folder.path(), ".segment").remove(0);
    let at = find(&file, "<record 2>").unwrap();
    flip(&file, at + 3);
    let bytes = fs::read(&file).unwrap();

    let report = verify(folder.path(), IDENTITY, 0).unwrap();
    assert_eq!((report.records, report.damage.len()), (1, 1));
    let journal = open(folder.path());
    let damage = damage_of(&journal)[0].clone();
    assert_eq!(report.damage[0], damage);
    assert_eq!((&damage.file, damage.position), (&file, 2));
    assert!((at - 40..at).contains(&damage.offset), "{damage}");
    assert!(damage.to_string().contains("rename the file"), "{damage}");
    let new = append(&journal, 5..7, 100).await;
    assert_eq!(new.keys().copied().collect::<Vec<_>>(), [5, 6], "no position is given away twice");
    let (before, found) = read_behind(&journal, 0);
    assert_eq!((before.len(), found), (1, Some(damage)));
    journal.end();
    drop(journal);
    assert_eq!(fs::read(&file).unwrap(), bytes, "what is damaged is untouched");
    // The file is put back as it was.
    flip(&file, at + 3);
    let journal = open(folder.path());
    assert_eq!(damage_of(&journal), []);
    assert_eq!(read(&journal), appended.into_iter().chain(new.clone()).collect());
    journal.end();
    drop(journal);
    // It is damaged again, and given up.
    flip(&file, at + 3);
    fs::rename(&file, format!("{}.lost", file.display())).unwrap();
    let journal = open(folder.path());
    assert_eq!((damage_of(&journal), read(&journal)), (vec![], new));
    journal.end();
}

#[tokio::test]
async fn a_changed_byte_in_a_closed_segment_or_in_a_header_is_damage() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    let appended = append(&journal, 1..40, 2000).await;
    journal.end();
    drop(journal);
    let segments = files(folder.path(), ".segment");
    for (index, file) in segments.iter().enumerate() {
        let header = fs::read(file).unwrap();
        let first = u64::from_le_bytes(header[36..44].try_into().unwrap());
        for at in [0, 20, 40, 4096, 4096 + 8, 4096 + 36, 4096 + 100] {
            flip(file, at);
            let report = verify(folder.path(), IDENTITY, 0).unwrap();
            let damage: Vec<_> = report.damage.iter().map(|damage| (&damage.file, damage.position)).collect();
            // Of the last segment only its end is looked for, so what is lost is counted from the place.
            assert_eq!(damage, [(file, first)], "segment {index}, byte {at}");
            let (found, damage) = read_behind(&open(folder.path()), 0);
            assert_eq!(found, appended.clone().into_iter().filter(|(position, _)| *position < first).collect());
            assert_eq!(damage.unwrap().position, first);
            flip(file, at);
        }
    }
    assert_eq!(read(&open(folder.path())), appended);
}

#[tokio::test]
async fn a_segment_that_is_missing_is_damage_until_it_is_given_up() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..40, 2000).await;
    journal.end();
    drop(journal);
    let segments = files(folder.path(), ".segment");
    for file in [&segments[0], &segments[1]] {
        let away = folder.path().join("away");
        fs::rename(file, &away).unwrap();
        let journal = open(folder.path());
        assert_eq!((damage_of(&journal).len(), &damage_of(&journal)[0].file), (1, file));
        assert!(read_behind(&journal, 0).1.unwrap().to_string().contains("is missing"));
        journal.end();
        drop(journal);
        let lost = format!("{}.lost", file.display());
        fs::write(&lost, "").unwrap();
        let journal = open(folder.path());
        let rest = read(&journal);
        assert!(rest.len() > 10 && rest.contains_key(&39) && damage_of(&journal).is_empty());
        journal.end();
        fs::remove_file(lost).unwrap();
        fs::rename(away, file).unwrap();
    }
}

#[tokio::test]
async fn a_store_that_has_folded_more_than_the_journal_holds_goes_on_behind_that() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..5, 100).await;
    journal.end();
    drop(journal);
    let journal = open_with(folder.path(), 100, limits());
    assert_eq!(damage_of(&journal), []);
    let new = append(&journal, 5..7, 100).await;
    assert_eq!(new.keys().copied().collect::<Vec<_>>(), [101, 102]);
    assert_eq!(read_behind(&journal, 100).0, new);
    journal.end();
    drop(journal);
    assert_eq!(verify(folder.path(), IDENTITY, 100).unwrap().damage, []);
}

#[tokio::test]
async fn a_reader_waits_for_what_is_synced() {
    let folder = TempDir::new().unwrap();
    let journal = Arc::new(open(folder.path()));
    let mut reader = journal.reader(Position(0));
    assert!(!reader.wait(Duration::ZERO));
    let waiting = tokio::task::spawn_blocking(move || {
        assert!(reader.wait(PATIENCE));
        reader.read(10, 1000).unwrap().len()
    });
    append(&journal, 1..2, 10).await;
    assert_eq!(waiting.await.unwrap(), 1);
    journal.end();
}
