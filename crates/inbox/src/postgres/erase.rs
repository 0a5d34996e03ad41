//! [`Persons`] on the server: what is held of somebody, and its erasure.
//!
//! Entries go in batches, and the last transaction deletes what is left. It may be done again at any time, also after a failure.

use super::{
    board::Board,
    codes, delete, erasures, intake,
    keys::Keys,
    lines, refused, schema,
    shared::Touched,
    store::{Core, Postgres},
    tx::{self, Trouble, Tx, statement},
    vault::ERASURES,
};
use crate::{
    Erased, Error, Held, HeldReading, Persons, ReadingId, RefusedView, Seq, Span, Subject, fold,
    persons::names_it,
    seal::{Owner, Place},
};
use async_trait::async_trait;
use base::{clock::Timestamp, error::chain};
use event::{ConnectionId, UserId};
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};
use tokio_postgres::Row;

/// Entries deleted in one transaction.
const BATCH: usize = 500;

/// What no deletion in PostgreSQL reaches.
const BACKUPS: &str = "the log of PostgreSQL, its backups and its standbys, which keep what was deleted for as long as they are kept, and free \
                       room of its files until that is used again: let them expire";

#[async_trait]
impl Persons for Postgres {
    async fn held(&self, subject: &Subject) -> Result<Held, Error> {
        self.0.is_open()?;
        let found = gather(&self.0, subject, &BTreeSet::new()).await?;
        Ok(Held {
            entries: found.entries.into_iter().map(Seq).collect(),
            readings: found.readings,
            refused: found.refused,
        })
    }

    async fn erase(&self, subject: &Subject) -> Result<Erased, Error> {
        let subject = subject.clone();
        let mut erased = self.detached(move |core| async move { erase(&core, &subject).await }).await?;
        if let Err(error) = self.0.clean_up().await {
            erased.left.push(format!(
                "the tables could not be cleaned of what was deleted ({}): run the command again, or VACUUM them",
                chain(&error)
            ));
        }
        erased.out_of_reach.push(BACKUPS.to_owned());
        Ok(erased)
    }
}

/// What is held of somebody.
#[derive(Debug)]
struct Found {
    connections: BTreeSet<String>,
    entries: Vec<i64>,
    readings: Vec<HeldReading>,
    refused: Vec<RefusedView>,
}

async fn erase(core: &Arc<Core>, subject: &Subject) -> Result<Erased, Trouble> {
    core.is_to_be_cleaned.store(true, Ordering::Release);
    let first = gather(core, subject, &BTreeSet::new()).await?;
    // Before anything is deleted: from here on no journal brings back what it holds of them.
    tx::until_done(|| async {
        let (tx, _) = Tx::begin(&core.pool, &core.clock, &[]).await?;
        let note = erasures::note(&core.keys, subject, &first.connections, tx.now);
        tx.commit(&[note]).await
    })
    .await?;
    let mut entries = 0;
    for batch in first.entries.chunks(BATCH) {
        entries += tx::until_done(|| erase_entries(core, batch)).await?;
    }
    // What came meanwhile, such as an event that a receiver was about to commit.
    let (rest, last) = tx::until_done(|| async {
        let rest = gather(core, subject, &first.connections).await?;
        let last = finish(core, subject, &rest).await?;
        Ok((rest, last))
    })
    .await?;
    let is_sealed = core.vault.keys().is_some();
    if is_sealed {
        let day = |request: &RefusedView| Owner::day(core.clock.server(request.at));
        let days: BTreeSet<Owner> = rest.refused.iter().map(day).collect();
        tx::until_done(|| refused::exchange_keys(core, &days, last.at)).await?;
        note_erasures(core).await?;
    }
    // With the last entry that needs it a reading goes by itself.
    let readings: BTreeSet<i64> = first.readings.iter().map(|reading| reading.id.0).chain(last.readings).collect();
    Ok(Erased {
        entries: entries + last.entries,
        readings: readings.len() as u64,
        refused: rest.refused.len() as u64,
        keys: last.keys,
        is_sealed,
        left: Vec::new(),
        out_of_reach: Vec::new(),
    })
}

/// Deletes entries whatever their state; what waits behind them in their lines goes on.
async fn erase_entries(core: &Core, seqs: &[i64]) -> Result<u64, Trouble> {
    let entries = lines::lines_of(&core.pool, seqs).await?;
    let (tx, board) = lines::load(&core.pool, &core.clock, &entries).await?;
    let (board, touched, deleted) = take_out(board, &entries);
    core.store(tx, board, (Vec::new(), delete::entries(&deleted)), touched).await?;
    Ok(deleted.len() as u64)
}

/// Takes entries out of their lines; says which were still there.
fn take_out(mut board: Board, entries: &[(i64, i64)]) -> (Board, Touched, Vec<i64>) {
    let (now, mut touched, mut deleted) = (board.now, Touched::default(), Vec::with_capacity(entries.len()));
    for (seq, _) in entries {
        let kinds: Vec<_> = board.of_entry(*seq).iter().map(|row| row.kind).collect();
        // Retention, or a purge, may have been first.
        if kinds.is_empty() {
            continue;
        }
        for kind in kinds {
            // To park a fetch parks what needs it: look again.
            if board.get(*seq, kind).is_some_and(|row| row.progress.standing.is_in_line()) {
                board.apply(*seq, kind, |progress| progress.park_by_hand("erased", now));
            }
        }
        board.forget(*seq, &mut touched);
        deleted.push(*seq);
    }
    (board, touched, deleted)
}

/// What the last transaction did.
struct Last {
    entries: u64,
    readings: Vec<i64>,
    keys: u64,
    at: Timestamp,
}

/// The last transaction: deletes what came in between, and everything else, with the keys. It has the lines of all connections that are
/// concerned locked, so nothing is sealed with these keys any more when they go. They go before its commit: after a crash in between rows
/// without keys are left, which the next erasure or the next start removes; never keys whose rows are gone.
async fn finish(core: &Core, subject: &Subject, rest: &Found) -> Result<Last, Trouble> {
    let refused: Vec<i64> = rest.refused.iter().map(|request| request.number).collect();
    let names: Vec<String> = rest.connections.iter().map(|name| codes::text(name)).collect();
    let lines: BTreeSet<i64> = rest.connections.iter().map(|name| fold::line(name)).collect();
    let numbers: Vec<i64> = lines.iter().copied().collect();
    // A line that is not there is made, to be locked: an event that is about to come makes it, too.
    let first = [statement!(intake::LINES, numbers.clone()), statement!(lines::LOCK, numbers.clone())];
    let (tx, _) = Tx::begin(&core.pool, &core.clock, &first).await?;
    let (condition, id) = condition(subject);
    let of_them = |what: &str| statement!(format!("{what} WHERE {condition}"), codes::text(id), names.clone());
    let entries = tx.query(of_them("SELECT DISTINCT stage.seq, stage.line FROM stage JOIN entry USING (seq)")).await?;
    let entries: Result<Vec<(i64, i64)>, Trouble> =
        entries.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
    let entries = entries?;
    // Of a connection that nobody knew of when this began.
    if entries.iter().any(|(_, line)| !lines.contains(line)) {
        return Err(Trouble::Again);
    }
    let readings = tx.query(of_them("SELECT id FROM reading")).await?;
    let readings: Result<Vec<i64>, _> = readings.iter().map(|row| row.try_get(0)).collect();
    let readings = readings?;
    let board = lines::load_in(&tx, &core.clock, &lines, &entries).await?;
    let (board, touched, deleted) = take_out(board, &entries);
    let mut writes = delete::entries(&deleted);
    writes.extend([
        statement!("DELETE FROM page WHERE reading = ANY($1)", readings.clone()),
        statement!("DELETE FROM fetched WHERE reading = ANY($1)", readings.clone()),
        statement!("DELETE FROM reading WHERE id = ANY($1)", readings.clone()),
        statement!("DELETE FROM refused WHERE number = ANY($1)", refused),
    ]);
    // What is kept of a connection that nobody has entries of any more. A receiver that waits for the line finds it gone, and makes it
    // anew.
    let numbers: Vec<i64> = rest.connections.iter().map(|name| fold::line(name)).collect();
    for sql in [
        "DELETE FROM shortfall USING unnest($1::bigint[], $2::text[]) AS n (line, name)
         WHERE shortfall.line = n.line AND NOT EXISTS (SELECT 1 FROM entry WHERE connection = n.name)",
        "DELETE FROM delivered USING unnest($1::bigint[], $2::text[]) AS n (line, name)
         WHERE delivered.line = n.line AND NOT EXISTS (SELECT 1 FROM entry WHERE connection = n.name)",
        "DELETE FROM line USING unnest($1::bigint[], $2::text[]) AS n (line, name)
         WHERE line.key = n.line AND NOT EXISTS (SELECT 1 FROM entry WHERE connection = n.name)",
    ] {
        writes.push(statement!(sql, numbers.clone(), names.clone()));
    }
    let (at, mut keys) = (tx.now, 0);
    if let Some(store) = core.vault.keys() {
        keys = store.erase(&owners(store, subject, &rest.connections).await?, at).await?;
    }
    core.store(tx, board, (Vec::new(), writes), touched).await?;
    Ok(Last { entries: deleted.len() as u64, readings, keys, at })
}

/// Whose keys go.
async fn owners(keys: &Keys, subject: &Subject, connections: &BTreeSet<String>) -> Result<Vec<Owner>, Trouble> {
    Ok(match subject {
        Subject::User(user) => connections
            .iter()
            .flat_map(|connection| [Owner::new(connection, Some(user.as_str())), Owner::new(connection, None)])
            .collect(),
        Subject::Connection(connection) => {
            let users = keys.users_of(connection.as_str()).await?;
            users.iter().map(|user| Owner::new(connection.as_str(), user.as_deref())).collect()
        }
    })
}

/// This store has seen every erasure so far.
async fn note_erasures(core: &Core) -> Result<(), Trouble> {
    let Some(keys) = core.vault.keys() else { return Ok(()) };
    let (_, newest) = keys.newest().await?;
    let (tx, _) = Tx::begin(&core.pool, &core.clock, &[]).await?;
    tx.commit(&[schema::set_number(ERASURES, newest)]).await.map(drop)
}

/// Deletes every row that one of these keys seals; says how many entries, readings and requests that were.
pub(super) async fn rows_of(core: &Core, keys: &[i64]) -> Result<u64, Trouble> {
    if keys.is_empty() {
        return Ok(0);
    }
    let find = |sql: &'static str| tx::query(&core.pool, statement!(sql, keys.to_vec()));
    let numbers =
        |rows: Vec<Row>| -> Result<Vec<i64>, tokio_postgres::Error> { rows.iter().map(|row| row.try_get(0)).collect() };
    let entries = numbers(find("SELECT seq FROM entry WHERE key = ANY($1)").await?)?;
    let mut removed = 0;
    for batch in entries.chunks(BATCH) {
        removed += tx::until_done(|| erase_entries(core, batch)).await?;
    }
    let readings = numbers(
        find("SELECT id FROM reading WHERE key = ANY($1) UNION SELECT reading FROM page WHERE key = ANY($1)").await?,
    )?;
    let (tx, _) = Tx::begin(&core.pool, &core.clock, &[]).await?;
    let removals = [
        statement!("DELETE FROM page WHERE reading = ANY($1)", readings.clone()),
        statement!("DELETE FROM fetched WHERE reading = ANY($1)", readings.clone()),
        statement!("DELETE FROM reading WHERE id = ANY($1)", readings.clone()),
        statement!("DELETE FROM refused WHERE key = ANY($1)", keys.to_vec()),
    ];
    let refused = tx.execute(&removals).await?.pop().unwrap_or(0);
    tx.commit(&[]).await?;
    core.is_to_be_cleaned.store(true, Ordering::Release);
    Ok(removed + readings.len() as u64 + refused)
}

/// Which rows are of somebody: `$1` is the id, `$2` the connections of a user.
fn condition(subject: &Subject) -> (&'static str, &str) {
    match subject {
        Subject::User(user) => {
            ("(\"user\" = $1 OR (\"user\" IS NULL AND connection = ANY($2::text[])))", user.as_str())
        }
        Subject::Connection(id) => ("(connection = $1 AND $2::text[] IS NOT NULL)", id.as_str()),
    }
}

/// Finds what is held of somebody. `known` are connections of theirs that rows may not tell any more.
async fn gather(core: &Core, subject: &Subject, known: &BTreeSet<String>) -> Result<Found, Trouble> {
    let mut connections = connections(core, subject).await?;
    connections.extend(known.iter().cloned());
    let names: Vec<String> = connections.iter().map(|name| codes::text(name)).collect();
    let (condition, id) = condition(subject);
    // Those without a user first: should this end half-way, the others still tell the connections.
    let sql = format!("SELECT seq FROM entry WHERE {condition} ORDER BY \"user\" IS NOT NULL, seq");
    let entries = tx::query(&core.pool, statement!(sql, codes::text(id), names.clone())).await?;
    let entries: Result<Vec<i64>, _> = entries.iter().map(|row| row.try_get(0)).collect();
    let sql = format!("SELECT * FROM reading WHERE {condition} ORDER BY id");
    let rows = tx::query(&core.pool, statement!(sql, codes::text(id), names)).await?;
    let opening = core.vault.opening(codes::keys(&rows)?).await?;
    let mut readings = Vec::with_capacity(rows.len());
    for row in &rows {
        let (id, key): (i64, Option<i64>) = (row.try_get("id")?, row.try_get("key")?);
        let open = |stored| opening.open(key, &codes::owner(row)?, Place::Resource(id), stored).map_err(Trouble::from);
        readings.push(HeldReading {
            id: ReadingId(id),
            connection: ConnectionId::new(codes::read(row, "connection")?),
            user: codes::read_maybe(row, "user")?.map(UserId::new),
            started: core.clock.local(codes::time(row, "started")?.unwrap_or_default()),
            resource: row.try_get::<_, Option<Vec<u8>>>("resource")?.map(open).transpose()?,
        });
    }
    let mut refused = refused::list(core, Span::default().bounds(), usize::MAX >> 1).await?;
    refused.retain(|request| {
        let start = request.start.as_deref().unwrap_or_default();
        connections.iter().map(String::as_str).chain([id]).any(|id| names_it(start, id.as_bytes()))
    });
    Ok(Found { connections, entries: entries?, readings, refused })
}

/// The connections that somebody has, as rows and keys tell.
async fn connections(core: &Core, subject: &Subject) -> Result<BTreeSet<String>, Trouble> {
    let user = match subject {
        Subject::User(user) => user.as_str(),
        Subject::Connection(id) => return Ok(BTreeSet::from([id.as_str().to_owned()])),
    };
    let sql =
        "SELECT connection FROM entry WHERE \"user\" = $1 UNION SELECT connection FROM reading WHERE \"user\" = $1";
    let rows = tx::query(&core.pool, statement!(sql, codes::text(user))).await?;
    let mut found = BTreeSet::new();
    for row in &rows {
        found.insert(codes::read(row, "connection")?);
    }
    if let Some(keys) = core.vault.keys() {
        found.extend(keys.connections_of(user).await?);
    }
    Ok(found)
}
