//! Overwrites what rows left behind in the file that were moved and then deleted.
//!
//! `secure_delete` overwrites a row where it stands when it is deleted. Before that SQLite may have moved the row to another page,
//! because its neighbours were deleted; the copy that it was moved from stays in the unused part of a page that is in use. A pass over
//! all pages finds such parts ([`gaps`]) and overwrites them. Free pages need no look: `secure_delete` empties them.
//!
//! No page is taken for what it is not. A page is overwritten only when the writer, in the same transaction, was led to it from the
//! root of a table or an index: of any other page it cannot be told what its bytes mean. Pages are read by another connection, a
//! few at a time, and only those are brought to the writer that have something to overwrite. So the writer is held up for some
//! milliseconds at a time and takes events in between, a crash leaves a whole transaction or none, and the log never waits for a
//! long reader. The pages that are in use when the pass begins are enough: SQLite writes only rows that are there to other pages.

use super::{gaps, store::Sqlite};
use crate::Error;
use rusqlite::{CachedStatement, Connection, config::DbConfig, params, types::Type};
use std::mem;

/// Pages read in one transaction.
const LOOK: usize = 500;
/// Pages overwritten in one transaction: 2 MB, as much as a large batch of events.
const OVERWRITE: usize = 256;

/// A page of the file that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("page {number} of the inbox file is damaged")]
struct Damaged {
    number: u32,
    source: gaps::Malformed,
}

impl Sqlite {
    /// Sees to it that nothing of what was deleted before the call is left in the file and its log.
    pub(super) async fn clear(&self) -> Result<(), Error> {
        // The log last: it holds what was overwritten. A log that stays would hold more than the file.
        let swept = self.sweep().await;
        self.fold_log().await.and(swept)
    }

    /// Sees to it that nothing of what was deleted before the call is left in a page that is in use. Takes as long as it takes to
    /// read the file.
    async fn sweep(&self) -> Result<(), Error> {
        let _alone = self.sweeping.lock().await;
        let pages = self.read(|connection| in_use(&*connection.unchecked_transaction()?)).await?;
        let mut found = Vec::new();
        for some in pages.chunks(LOOK) {
            let some = some.to_vec();
            found.extend(self.read(move |connection| look(&*connection.unchecked_transaction()?, some)).await?);
            if found.len() >= OVERWRITE {
                self.overwrite(mem::take(&mut found)).await?;
            }
        }
        if found.is_empty() { Ok(()) } else { self.overwrite(found).await }
    }

    async fn overwrite(&self, pages: Vec<u32>) -> Result<(), Error> {
        self.write(move |tx| {
            // Otherwise SQLite lets nobody write pages.
            tx.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
            let overwritten = overwrite(tx.connection, &pages);
            tx.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            overwritten
        })
        .await
    }
}

/// All pages of tables and indexes, in the order of the file.
fn in_use(connection: &Connection) -> rusqlite::Result<Vec<u32>> {
    let mut pages = Vec::new();
    each_in_use(connection, |page| pages.push(page))?;
    pages.sort_unstable();
    Ok(pages)
}

/// Of these pages, those that must be brought to the writer. One that makes no sense may have been given away since.
fn look(connection: &Connection, pages: Vec<u32>) -> rusqlite::Result<Vec<u32>> {
    let mut file = Pages::new(connection)?;
    let mut found = Vec::new();
    for page in pages {
        // One that is gone is left out.
        let read = file.read(page, |bytes, usable| !matches!(gaps::cleared(bytes, page, usable), Ok(None)));
        if matches!(read, Err(rusqlite::Error::QueryReturnedNoRows)) {
            continue;
        }
        if read? {
            found.push(page);
        }
    }
    Ok(found)
}

/// Overwrites what is unused of those of these pages, given in their order, that are pages of a table or an index now.
fn overwrite(connection: &Connection, pages: &[u32]) -> rusqlite::Result<()> {
    let mut known = Vec::with_capacity(pages.len());
    each_in_use(connection, |page| {
        if pages.binary_search(&page).is_ok() {
            known.push(page);
        }
    })?;
    let mut file = Pages::new(connection)?;
    let mut write = connection.prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?;
    for page in known {
        let cleared = file.read(page, |bytes, usable| gaps::cleared(bytes, page, usable))?;
        if let Some(bytes) = cleared.map_err(|source| damaged(page, source))? {
            write.execute(params![page, bytes])?;
        }
    }
    Ok(())
}

/// Follows every table and index from its root. Only pages that have others below them are read: the leaves of a tree are all
/// equally deep.
fn each_in_use(connection: &Connection, mut see: impl FnMut(u32)) -> rusqlite::Result<()> {
    let mut file = Pages::new(connection)?;
    let mut unseen: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let mut roots =
        connection.prepare_cached("SELECT 1 UNION ALL SELECT rootpage FROM sqlite_schema WHERE rootpage > 0")?;
    for root in roots.query_map([], |row| row.get(0))? {
        let mut level: Vec<u32> = vec![root?];
        while let Some(first) = level.first().copied() {
            level.iter().copied().for_each(&mut see);
            // In a damaged file a way may lead round in a circle.
            unseen = u32::try_from(level.len())
                .ok()
                .and_then(|seen| unseen.checked_sub(seen))
                .ok_or_else(|| damaged(first, gaps::Malformed))?;
            if file.page(first, |page| Ok(page.is_leaf()))? {
                break;
            }
            let mut below = Vec::new();
            for number in level {
                let children =
                    file.page(number, |page| if page.is_leaf() { Err(gaps::Malformed) } else { page.children() });
                below.append(&mut children?);
            }
            level = below;
        }
    }
    Ok(())
}

/// The pages of the file, as a connection sees them.
struct Pages<'a> {
    select: CachedStatement<'a>,
    usable: usize,
}

impl<'a> Pages<'a> {
    fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        let select = connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        let mut pages = Self { select, usable: 0 };
        // Byte 20 of the file: bytes at the end of each page that SQLite does not use.
        pages.usable =
            pages.read(1, |bytes, _| bytes.len().saturating_sub(bytes.get(20).copied().map_or(0, usize::from)))?;
        Ok(pages)
    }

    fn read<T>(&mut self, number: u32, look: impl FnOnce(&[u8], usize) -> T) -> rusqlite::Result<T> {
        let usable = self.usable;
        self.select.query_row([number], |row| Ok(look(row.get_ref(0)?.as_blob()?, usable)))
    }

    /// Reads a page that must be one of a table or an index.
    fn page<T>(
        &mut self,
        number: u32,
        look: impl FnOnce(gaps::Page<'_>) -> Result<T, gaps::Malformed>,
    ) -> rusqlite::Result<T> {
        let looked = self.read(number, |bytes, usable| gaps::Page::new(bytes, number, usable).and_then(look))?;
        looked.map_err(|source| damaged(number, source))
    }
}

/// Not as SQLite's own error: the writer would take the whole file for suspect and check it each time.
fn damaged(number: u32, source: gaps::Malformed) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(Damaged { number, source }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection, prelude::*};
    use std::{
        collections::{BTreeMap, BTreeSet},
        path::Path,
    };

    /// What is done to a row: its key, and how long its content is then; `None`: it is deleted.
    fn changes() -> impl Strategy<Value = Vec<(i64, Option<usize>)>> {
        let length = prop_oneof![3 => 20..400_usize, 1 => 400..3000_usize];
        collection::vec((0..120_i64, prop_oneof![2 => length.prop_map(Some), 1 => Just(None)]), 1..400)
    }

    /// Content that says whose it is wherever it is cut.
    fn content(change: usize, length: usize) -> Vec<u8> {
        format!("<{change:05}>").into_bytes().into_iter().cycle().take(length).collect()
    }

    /// The changes that bytes of a file hold something of: `<00017>`.
    fn found(bytes: &[u8]) -> BTreeSet<usize> {
        let digits = |seen: &[u8]| std::str::from_utf8(&seen[1..6]).ok()?.parse().ok();
        bytes.windows(7).filter(|seen| seen[0] == b'<' && seen[6] == b'>').filter_map(digits).collect()
    }

    fn bytes(file: &Connection) -> Vec<Vec<u8>> {
        let mut select = file.prepare("SELECT data FROM sqlite_dbpage ORDER BY pgno").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    type Rows = Vec<(i64, Vec<u8>)>;

    fn rows(file: &Connection, table: &str) -> Rows {
        let mut select = file.prepare(&format!("SELECT k, v FROM {table} ORDER BY k")).unwrap();
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }

    /// A file after these changes, and the changes whose content is still there.
    fn changed(path: &Path, page_size: usize, changes: &[(i64, Option<usize>)]) -> (Connection, BTreeMap<i64, usize>) {
        let file = Connection::open(path).unwrap();
        file.execute_batch(&format!(
            "PRAGMA page_size = {page_size}; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA secure_delete = ON;
             CREATE TABLE rows (k INTEGER PRIMARY KEY, v BLOB); CREATE INDEX by_content ON rows (v);
             CREATE TABLE keys (k INTEGER, v BLOB, PRIMARY KEY (k)) WITHOUT ROWID; BEGIN"
        ))
        .unwrap();
        let mut kept = BTreeMap::new();
        for (change, (key, length)) in changes.iter().enumerate() {
            for table in ["rows", "keys"] {
                match length {
                    Some(length) => file.execute(
                        &format!("REPLACE INTO {table} VALUES (?1, ?2)"),
                        params![key, content(change, *length)],
                    ),
                    None => file.execute(&format!("DELETE FROM {table} WHERE k = ?1"), [key]),
                }
                .unwrap();
            }
            match length {
                Some(_) => drop(kept.insert(*key, change)),
                None => drop(kept.remove(key)),
            }
        }
        file.execute_batch("COMMIT").unwrap();
        (file, kept)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// Whatever was done to the rows: those that are there stay, the file stays whole, no page but those of tables and indexes
        /// is touched, and nothing is left of other rows.
        #[test]
        fn only_what_was_deleted_is_overwritten(changes in changes(), size in prop_oneof![Just(512_usize), Just(1024), Just(8192)]) {
            let folder = tempfile::TempDir::new().unwrap();
            let path = folder.path().join("some.db");
            let (file, kept) = changed(&path, size, &changes);
            let before = (rows(&file, "rows"), rows(&file, "keys"));
            let (pages, used) = (bytes(&file), in_use(&file).unwrap());
            let all: Vec<u32> = (1..).take(pages.len()).collect();
            overwrite(&file, &all).unwrap();
            prop_assert_eq!(look(&file, used.clone()).unwrap(), [0_u32; 0], "a second look finds nothing");
            for ((number, before), after) in all.iter().zip(&pages).zip(bytes(&file)) {
                prop_assert!(used.binary_search(number).is_ok() || *before == after, "page {}", number);
            }
            file.close().unwrap();

            let file = Connection::open(&path).unwrap();
            let verdict: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            prop_assert_eq!(verdict, "ok");
            prop_assert_eq!((rows(&file, "rows"), rows(&file, "keys")), before);
            for change in found(&bytes(&file).concat()) {
                prop_assert!(kept.values().any(|kept| *kept == change), "something of change {} is left", change);
            }
        }
    }

    /// Without the pass there is something to be found, or the test above could not fail.
    #[test]
    fn secure_delete_leaves_copies_of_rows_that_were_moved() {
        let folder = tempfile::TempDir::new().unwrap();
        let length = |n: usize| 150 + n * n * 28 % 61 * 45;
        let all = (0..60).zip((0..60).map(|n| Some(length(n))));
        let changes: Vec<_> = all.chain((0..30).map(|n| (n * 11 % 30, None))).collect();
        let (mut before, mut after) = (0, 0);
        for until in 60..=changes.len() {
            let (file, kept) = changed(&folder.path().join(format!("{until}.db")), 8192, &changes[..until]);
            let left = |file: &Connection| {
                let found = found(&bytes(file).concat());
                found.into_iter().filter(|change| kept.values().all(|kept| kept != change)).count()
            };
            before += left(&file);
            let pages = in_use(&file).unwrap();
            overwrite(&file, &look(&file, pages).unwrap()).unwrap();
            after += left(&file);
        }
        assert!(before > 0);
        assert_eq!(after, 0);
    }

    /// In a damaged file nothing is written, and the way from page to page ends.
    #[test]
    fn a_damaged_file_is_left_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("some.db");
        let all: Vec<_> = (0..120).map(|key| (key, Some(200))).collect();
        let (file, _) = changed(&path, 512, &all);
        let root: u32 =
            file.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'rows'", [], |row| row.get(0)).unwrap();
        let mut page = bytes(&file)[root as usize - 1].clone();
        let first_cell = usize::from(u16::from_be_bytes([page[12], page[13]]));
        page[first_cell..first_cell + 4].copy_from_slice(&root.to_be_bytes());
        file.execute("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1", params![root, page]).unwrap();
        let before = bytes(&file);
        let all: Vec<u32> = (1..).take(before.len()).collect();
        let error = overwrite(&file, &all).unwrap_err();
        assert!(base::error::chain(&error).contains("is damaged"), "{error:?}");
        assert_eq!(bytes(&file), before);
    }
}
