//! The tables `reading`, `page`, `fetched` and `shortfall`.

use super::{
    codes,
    store::Core,
    tx::{Statement, Trouble, Tx, statement},
};
use crate::{Facts, Found, Page, PageFacts, Reading, ReadingId, Shortfall, kind::Kind, seal::Sealed};
use event::{AccountId, UserId};
use std::{collections::BTreeMap, time::Duration};
use tokio_postgres::Row;

/// `shortfall.missing` of a connection that the API did not know.
const UNKNOWN: i64 = -1;

/// Finds a reading younger than the entry, or begins one. Fetches of one connection are leased one after the other, and only the one
/// who holds the lease may write: an open reading that is found belongs to nobody else, whichever receiver began it.
pub(super) async fn find_or_begin(
    core: &Core,
    tx: &Tx,
    entry: &Facts,
    resume_within: Duration,
) -> Result<Reading, Trouble> {
    let youngest = tx
        .query(statement!(
            "SELECT id, started, changed, accounts, certainty, unusable FROM reading
             WHERE connection = $1 AND \"user\" IS NOT DISTINCT FROM $2 AND kind = 0 AND started >= $3
             ORDER BY started DESC, id DESC LIMIT 1",
            codes::text(entry.connection.as_str()),
            codes::maybe(entry.user.as_ref().map(UserId::as_str)),
            core.clock.server(entry.accepted).as_millis(),
        ))
        .await?;
    if let Some(row) = youngest.first() {
        let (id, changed): (i64, i64) = (row.try_get("id")?, row.try_get("changed")?);
        let found = found(row)?;
        if found.is_some() || changed >= tx.now.before(resume_within).as_millis() {
            let pages = if found.is_some() { Vec::new() } else { page_facts(tx, id).await? };
            let started = core.clock.local(codes::time(row, "started")?.unwrap_or_default());
            return Ok(Reading { id: ReadingId(id), started, found, pages });
        }
    }
    begin(core, tx, entry).await
}

/// Begins another reading.
pub(super) async fn begin(core: &Core, tx: &Tx, entry: &Facts) -> Result<Reading, Trouble> {
    tx.execute(&[drop_unfinished(entry)]).await?;
    let rows = tx
        .query(statement!(
            "INSERT INTO reading (connection, \"user\", started, changed, kind) VALUES ($1, $2, $3, $3, 0) RETURNING id",
            codes::text(entry.connection.as_str()),
            codes::maybe(entry.user.as_ref().map(UserId::as_str)),
            tx.now.as_millis(),
        ))
        .await?;
    let id = ReadingId(rows.first().ok_or(Trouble::Again)?.try_get(0)?);
    Ok(Reading { id, started: core.clock.local(tx.now), found: None, pages: Vec::new() })
}

/// What a finished reading holds.
pub(super) fn found(row: &Row) -> Result<Option<Found>, tokio_postgres::Error> {
    let certainty = codes::certainty(row.try_get("certainty")?);
    let unusable = codes::unsigned(row, "unusable")?.unwrap_or(0);
    Ok(codes::unsigned(row, "accounts")?.map(|accounts| Found { accounts, unusable, certainty }))
}

/// Removes what was read for an entry's connection and never finished.
pub(super) fn drop_unfinished(entry: &Facts) -> Statement {
    statement!(
        "WITH gone AS (
             DELETE FROM reading WHERE connection = $1 AND \"user\" IS NOT DISTINCT FROM $2 AND kind = 0 AND accounts IS NULL
             RETURNING reading.id)
         DELETE FROM page USING gone WHERE reading = gone.id",
        codes::text(entry.connection.as_str()),
        codes::maybe(entry.user.as_ref().map(UserId::as_str)),
    )
}

async fn page_facts(tx: &Tx, reading: i64) -> Result<Vec<PageFacts>, Trouble> {
    let rows = tx
        .query(statement!(
            "SELECT number, ids, foreign_ids, fresh, received, size, unusable FROM page WHERE reading = $1 ORDER BY number",
            reading
        ))
        .await?;
    let count = |row: &Row, column: &str| -> Result<u32, Trouble> {
        Ok(u32::try_from(row.try_get::<_, i64>(column)?).unwrap_or(u32::MAX))
    };
    rows.iter()
        .map(|row| {
            Ok(PageFacts {
                number: count(row, "number")?,
                ids: ids(row, "ids")?,
                foreign: ids(row, "foreign_ids")?,
                fresh: count(row, "fresh")?,
                received: count(row, "received")?,
                bytes: codes::unsigned(row, "size")?.unwrap_or(0),
                unusable: count(row, "unusable")?,
            })
        })
        .collect()
}

/// Reads a list of ids. JSON writes U+0000 as an escape, so the text needs none of [`codes`].
fn ids(row: &Row, column: &str) -> Result<Vec<AccountId>, Trouble> {
    let ids: Vec<String> =
        serde_json::from_str(row.try_get(column)?).map_err(|_unreadable| codes::Unknown("a list of accounts"))?;
    Ok(ids.into_iter().map(AccountId::new).collect())
}

/// Keeps a page, in place of the one that was kept before.
pub(super) fn keep_page(tx: &Tx, reading: ReadingId, page: &Page, sealed: Sealed<'_>) -> Vec<Statement> {
    let json =
        |ids: &[AccountId]| serde_json::Value::from(ids.iter().map(AccountId::as_str).collect::<Vec<_>>()).to_string();
    vec![
        statement!(
            "INSERT INTO page (reading, number, received, fresh, ids, foreign_ids, accounts, size, unusable, key)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (reading, number) DO UPDATE SET received = excluded.received, fresh = excluded.fresh,
                 ids = excluded.ids, foreign_ids = excluded.foreign_ids, accounts = excluded.accounts, size = excluded.size,
                 unusable = excluded.unusable, key = excluded.key",
            reading.0,
            i64::from(page.number),
            i64::from(page.received),
            i64::from(page.fresh),
            json(&page.ids),
            json(&page.foreign),
            sealed.bytes.into_owned(),
            codes::signed(page.accounts.len()),
            i64::from(page.unusable),
            sealed.key,
        ),
        statement!("UPDATE reading SET changed = $2 WHERE id = $1", reading.0, tx.now.as_millis()),
    ]
}

/// An entry, its fetch, and the reading that the fetch ended with; none where the connection is gone.
pub(super) type FetchEnd = (i64, Kind, Option<(ReadingId, Found)>);

/// Notes which readings entries were given, finished with what was found, or that the connection is gone. Readings that entries had
/// before, and that nobody needs any more, go.
pub(super) async fn finish(tx: &Tx, ends: &[FetchEnd]) -> Result<Vec<Statement>, Trouble> {
    let (seqs, kinds) =
        (ends.iter().map(|end| end.0).collect::<Vec<_>>(), ends.iter().map(|end| end.1.0).collect::<Vec<_>>());
    let readings: Vec<Option<i64>> = ends.iter().map(|end| end.2.map(|(reading, _)| reading.0)).collect();
    let earlier = tx
        .query(statement!(
            "SELECT fetched.reading FROM fetched JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n (seq, kind, reading)
                 ON fetched.seq = n.seq AND fetched.kind = n.kind
             WHERE fetched.reading IS NOT NULL AND fetched.reading IS DISTINCT FROM n.reading",
            seqs.clone(),
            kinds.clone(),
            readings.clone(),
        ))
        .await?;
    let earlier: Result<Vec<i64>, _> = earlier.iter().map(|row| row.try_get(0)).collect();
    let earlier = earlier?;
    // Events of one connection may share a reading; it holds the same for all of them.
    let found: BTreeMap<i64, Found> =
        ends.iter().filter_map(|end| end.2.map(|(reading, found)| (reading.0, found))).collect();
    let mut statements = Vec::new();
    if !found.is_empty() {
        statements.push(statement!(
            "UPDATE reading SET accounts = n.accounts, certainty = n.certainty, unusable = n.unusable
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS n (id, accounts, certainty, unusable)
             WHERE reading.id = n.id",
            found.keys().copied().collect::<Vec<_>>(),
            found.values().map(|found| codes::signed(found.accounts)).collect::<Vec<_>>(),
            found.values().map(|found| codes::number(found.certainty)).collect::<Vec<_>>(),
            found.values().map(|found| codes::signed(found.unusable)).collect::<Vec<_>>(),
        ));
    }
    statements.push(statement!(
        "INSERT INTO fetched (seq, kind, reading, snapshot)
         SELECT seq, kind, reading, coalesce((SELECT started FROM reading WHERE id = n.reading), $4)
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n (seq, kind, reading)
         ON CONFLICT (seq, kind) DO UPDATE SET reading = excluded.reading, snapshot = excluded.snapshot",
        seqs,
        kinds,
        readings,
        tx.now.as_millis(),
    ));
    statements.extend(release(earlier));
    Ok(statements)
}

/// Removes those of these readings that no entry has.
pub(super) fn release(readings: Vec<i64>) -> Option<Statement> {
    if readings.is_empty() {
        return None;
    }
    Some(statement!(
        "WITH gone AS (
             DELETE FROM reading WHERE id = ANY($1) AND NOT EXISTS (SELECT 1 FROM fetched WHERE fetched.reading = reading.id)
             RETURNING reading.id)
         DELETE FROM page USING gone WHERE reading = gone.id",
        readings
    ))
}

/// What was missing when the connection of a line was last completed.
pub(super) async fn shortfall(tx: &Tx, line: i64) -> Result<Option<Shortfall>, Trouble> {
    let rows = tx.query(statement!("SELECT missing FROM shortfall WHERE line = $1", line)).await?;
    let missing: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?;
    Ok(missing.map(|missing| match u64::try_from(missing) {
        Ok(missing) => Shortfall::Accounts(missing),
        Err(_negative) => Shortfall::Connection,
    }))
}

/// Notes what was missing now, by line; `None`: nothing was.
pub(super) fn note_shortfalls(shortfalls: &BTreeMap<i64, Option<Shortfall>>) -> Vec<Statement> {
    let (mut whole, mut lines, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (line, shortfall) in shortfalls {
        match shortfall {
            None => whole.push(*line),
            Some(short) => {
                lines.push(*line);
                missing.push(match short {
                    Shortfall::Accounts(missing) => codes::signed(*missing),
                    Shortfall::Connection => UNKNOWN,
                });
            }
        }
    }
    let mut statements = Vec::new();
    if !whole.is_empty() {
        statements.push(statement!("DELETE FROM shortfall WHERE line = ANY($1)", whole));
    }
    if !lines.is_empty() {
        statements.push(statement!(
            "INSERT INTO shortfall (line, missing) SELECT * FROM unnest($1::bigint[], $2::bigint[])
             ON CONFLICT (line) DO UPDATE SET missing = excluded.missing WHERE shortfall.missing <> excluded.missing",
            lines,
            missing,
        ));
    }
    statements
}
