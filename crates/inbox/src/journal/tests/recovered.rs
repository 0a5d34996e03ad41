//! What a start finds out of a journal, and what it leaves of it on the disk.

use super::*;

/// Lets go of everything, and looks at the file of the first segment by another name: `None`, or the place of a byte that was not
/// overwritten.
async fn left_of_the_first(folder: &Path, journal: &Journal, last: u64) -> Option<usize> {
    let link = folder.join("link");
    fs::hard_link(&files(folder, ".segment")[0], &link).unwrap();
    journal.let_go(Position(last));
    journal.cleared().await;
    let bytes = fs::read(&link).unwrap();
    fs::remove_file(link).unwrap();
    bytes.iter().position(|byte| *byte != 0)
}

#[tokio::test]
async fn what_is_missing_before_the_first_segment_is_damage() {
    let folder = TempDir::new().unwrap();
    // The store has 100 records that were in the journal once.
    let journal = open_with(folder.path(), 100, limits());
    append(&journal, 1..5, 100).await;
    journal.end();
    drop(journal);
    assert_eq!(verify(folder.path(), IDENTITY, 100).unwrap().damage, []);
    // An older copy of the store has 50.
    let report = verify(folder.path(), IDENTITY, 50).unwrap();
    assert_eq!((report.damage.len(), report.damage[0].position), (1, 51));
    let journal = open_with(folder.path(), 50, limits());
    let (found, damage) = read_behind(&journal, 50);
    assert_eq!((found.len(), damage), (0, Some(report.damage[0].clone())));
    assert!(report.damage[0].to_string().contains("is missing"), "{}", report.damage[0]);
}

#[tokio::test]
async fn the_last_segment_of_a_crash_is_read_to_its_end_and_overwritten_to_its_end() {
    for ends_well in [true, false] {
        let folder = TempDir::new().unwrap();
        let journal = open(folder.path());
        append(&journal, 1..5, 100).await;
        if ends_well {
            journal.end();
        } else {
            crash(folder.path(), journal);
        }
        let journal = open(folder.path());
        assert_eq!(read(&journal).len(), 4);
        assert_eq!(left_of_the_first(folder.path(), &journal, 4).await, None, "ends well: {ends_well}");
        journal.end();
    }
}

/// `check` must not pass what a start refuses, however far the store is.
#[tokio::test]
async fn a_journal_of_another_inbox_is_told_wherever_its_positions_are() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..5, 100).await;
    journal.end();
    drop(journal);
    for stored in [0, 2, 1000] {
        let report = verify(folder.path(), [8; 16], stored).unwrap();
        assert_eq!(report.damage.iter().map(|damage| damage.kind).collect::<Vec<_>>(), [Kind::Foreign], "{stored}");
        let refused = Journal::open(folder.path(), [8; 16], Some(Position(stored)), limits(), None).unwrap_err();
        assert!(refused.to_string().contains("belongs to another inbox"), "{refused}");
    }
}

/// A segment under the name of another is damage, not one of the other: nothing is let go for it, and all is well once it has
/// its name again.
#[tokio::test]
async fn a_segment_under_the_name_of_another_is_damage_until_it_has_its_own() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    let appended = append(&journal, 1..60, 2000).await;
    journal.end();
    drop(journal);
    let segments = files(folder.path(), ".segment");
    let (last, away) = (segments.last().unwrap(), folder.path().join("away"));
    let swap = || {
        fs::rename(&segments[0], &away).unwrap();
        fs::rename(&segments[1], &segments[0]).unwrap();
        fs::rename(&away, &segments[1]).unwrap();
    };
    swap();
    let report = verify(folder.path(), IDENTITY, 0).unwrap();
    assert_eq!((&report.damage[0].file, report.damage[0].kind), (&segments[0], Kind::Misnamed(2)));
    assert!(report.damage[0].to_string().contains("wrong name"), "{}", report.damage[0]);
    let journal = open(folder.path());
    assert_eq!(read_behind(&journal, 0).0.len(), 0);
    let more = append(&journal, 60..62, 100).await;
    journal.end();
    drop(journal);
    swap();
    let journal = open(folder.path());
    assert_eq!(damage_of(&journal), []);
    let mut all: BTreeMap<_, _> =
        appended.iter().chain(&more).map(|(position, payload)| (*position, payload.clone())).collect();
    assert_eq!(read(&journal), all);
    journal.end();
    drop(journal);
    // A copy of an old one behind the last.
    let copy = folder.path().join(format!("{:016x}.segment", segments.len() + 2));
    fs::copy(&segments[0], &copy).unwrap();
    let journal = open(folder.path());
    assert_eq!(damage_of(&journal).iter().map(|damage| &damage.file).collect::<Vec<_>>(), [&copy]);
    assert_eq!(read_behind(&journal, 0).0, all);
    assert!(last.exists());
    all.append(&mut append(&journal, 62..64, 100).await);
    journal.end();
    drop(journal);
    fs::rename(&copy, format!("{}.lost", copy.display())).unwrap();
    let journal = open(folder.path());
    assert_eq!((damage_of(&journal), read(&journal)), (vec![], all));
    journal.end();
}

/// A store that has everything makes damage harmless; what cannot be read is bank data all the same.
#[tokio::test]
async fn a_damaged_segment_counts_whole_and_is_overwritten_whole() {
    for place in ["header", "<record 1>", "<record 2>", "<record 4>"] {
        let folder = TempDir::new().unwrap();
        let journal = open(folder.path());
        append(&journal, 1..5, 100).await;
        crash(folder.path(), journal);
        let file = files(folder.path(), ".segment").remove(0);
        flip(&file, if place == "header" { 0 } else { find(&file, place).unwrap() });
        // There is no room for a second file, which would count too.
        let journal = open_with(folder.path(), 4, Limits { most: 20 << 10, ..limits() });
        assert_eq!(journal.size(), fs::metadata(&file).unwrap().len(), "{place}");
        // Where nothing can be read, as many positions are given up as it can have held.
        assert_eq!(left_of_the_first(folder.path(), &journal, u64::MAX).await, None, "{place}");
        journal.end();
    }
}

#[tokio::test]
async fn what_was_not_promised_is_overwritten_too() {
    let folder = TempDir::new().unwrap();
    let (journal, faults) = open_faulty(folder.path());
    append(&journal, 1..3, 100).await;
    faults.sync.store(true, Ordering::SeqCst);
    assert!(matches!(journal.append(payload(99, 100)).await, Err(Error::Store(_))));
    faults.sync.store(false, Ordering::SeqCst);
    wait_until_ready(&journal).await;
    let file = files(folder.path(), ".segment").remove(0);
    assert!(find(&file, "<record 99>").is_some(), "it was written");
    assert_eq!(left_of_the_first(folder.path(), &journal, 2).await, None);
    crash(folder.path(), journal);
}

#[tokio::test]
async fn a_torn_tail_is_overwritten_by_the_next_start() {
    let folder = TempDir::new().unwrap();
    let (journal, faults) = open_faulty(folder.path());
    let appended = append(&journal, 1..3, 100).await;
    faults.sync.store(true, Ordering::SeqCst);
    assert!(matches!(journal.append(payload(99, 100)).await, Err(Error::Store(_))));
    crash(folder.path(), journal);
    let file = files(folder.path(), ".segment").remove(0);
    // Only the beginning of its frame came to the disk.
    flip(&file, find(&file, "<record 99>").unwrap() + 50);
    let journal = open(folder.path());
    assert_eq!((damage_of(&journal), read(&journal)), (vec![], appended));
    assert_eq!(find(&file, "<record 99>"), None);
    journal.end();
}
