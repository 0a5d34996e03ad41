//! [`Persons`] on the server: what is held of somebody, and its erasure.
//!
//! Entries go in batches, and the last transaction deletes what is left. It may be done again at any time, also after a failure.

use super::{
    codes, delete, erasures, lines, refused,
    shared::Touched,
    store::{Core, Postgres},
    tx::{self, Trouble, Tx, statement},
    vault,
};
use crate::{
    Erased, Error, Held, HeldReading, Persons, ReadingId, RefusedView, Seq, Span, Subject, fold, persons::names_it,
};
use async_trait::async_trait;
use base::error::chain;
use event::{ConnectionId, UserId};
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

/// Entries deleted in one transaction.
const BATCH: usize = 500;

/// What no deletion in PostgreSQL reaches.
const BACKUPS: &str = "PostgreSQL keeps what was deleted in its log, its backups and on its standbys for as long as those are kept, and in \
                       free room of its files until that is used again: let them expire";

#[async_trait]
impl Persons for Postgres {
    async fn held(&self, subject: &Subject) -> Result<Held, Error> {
        self.0.is_open()?;
        let found = gather(&self.0, subject, 0, &BTreeSet::new()).await?;
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
        erased.left.push(BACKUPS.to_owned());
        Ok(erased)
    }
}

/// What is held of somebody, and under whose keys.
#[derive(Debug)]
struct Found {
    connections: BTreeSet<String>,
    entries: Vec<i64>,
    readings: Vec<HeldReading>,
    refused: Vec<RefusedView>,
}

async fn erase(core: &Arc<Core>, subject: &Subject) -> Result<Erased, Trouble> {
    core.is_to_be_cleaned.store(true, Ordering::Release);
    let first = gather(core, subject, 0, &BTreeSet::new()).await?;
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
    let after = first.entries.iter().max().copied().unwrap_or(0);
    let rest = gather(core, subject, after, &first.connections).await?;
    for batch in rest.entries.chunks(BATCH) {
        entries += tx::until_done(|| erase_entries(core, batch)).await?;
    }
    tx::until_done(|| finish(core, &rest)).await?;
    // With the last entry that needs it a reading goes by itself.
    let readings: BTreeSet<i64> = first.readings.iter().chain(&rest.readings).map(|reading| reading.id.0).collect();
    Ok(Erased {
        entries,
        readings: readings.len() as u64,
        refused: rest.refused.len() as u64,
        keys: 0,
        is_sealed: false,
        left: Vec::new(),
    })
}

/// Deletes entries whatever their state; what waits behind them in their lines goes on.
pub(super) async fn erase_entries(core: &Core, seqs: &[i64]) -> Result<u64, Trouble> {
    let entries = lines::lines_of(&core.pool, seqs).await?;
    let (tx, mut board) = lines::load(&core.pool, &core.clock, &entries).await?;
    let (now, mut touched, mut deleted) = (board.now, Touched::default(), Vec::with_capacity(seqs.len()));
    for (seq, _) in &entries {
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
    core.store(tx, board, (Vec::new(), delete::entries(&deleted)), touched).await?;
    Ok(deleted.len() as u64)
}

/// The last transaction.
async fn finish(core: &Core, rest: &Found) -> Result<(), Trouble> {
    let readings: Vec<i64> = rest.readings.iter().map(|reading| reading.id.0).collect();
    let refused: Vec<i64> = rest.refused.iter().map(|request| request.number).collect();
    let names: Vec<String> = rest.connections.iter().map(|name| codes::text(name)).collect();
    let lines: Vec<i64> = rest.connections.iter().map(|name| fold::line(name)).collect();
    // Locked first, so that the statements after it see every entry that was about to be committed.
    let lock = statement!(lines::LOCK, lines.clone());
    let (tx, _) = Tx::begin_with(&core.pool, &core.clock, lock).await?;
    let mut writes = vec![
        statement!("DELETE FROM page WHERE reading = ANY($1)", readings.clone()),
        statement!("DELETE FROM fetched WHERE reading = ANY($1)", readings.clone()),
        statement!("DELETE FROM reading WHERE id = ANY($1)", readings),
        statement!("DELETE FROM refused WHERE number = ANY($1)", refused),
    ];
    // What is kept of a connection that nobody has entries of any more. A receiver that waits for the line finds it gone, and makes it
    // anew.
    for sql in [
        "DELETE FROM shortfall USING unnest($1::bigint[], $2::text[]) AS n (line, name)
         WHERE shortfall.line = n.line AND NOT EXISTS (SELECT 1 FROM entry WHERE connection = n.name)",
        "DELETE FROM delivered USING unnest($1::bigint[], $2::text[]) AS n (line, name)
         WHERE delivered.line = n.line AND NOT EXISTS (SELECT 1 FROM entry WHERE connection = n.name)",
        "DELETE FROM line USING unnest($1::bigint[], $2::text[]) AS n (line, name)
         WHERE line.key = n.line AND NOT EXISTS (SELECT 1 FROM entry WHERE connection = n.name)",
    ] {
        writes.push(statement!(sql, lines.clone(), names.clone()));
    }
    tx.commit(&writes).await.map(drop)
}

/// Finds what is held of somebody: entries behind `after`, and everything else. `known` are connections of theirs that rows may not
/// tell any more.
async fn gather(core: &Core, subject: &Subject, after: i64, known: &BTreeSet<String>) -> Result<Found, Trouble> {
    let mut connections = connections(core, subject).await?;
    connections.extend(known.iter().cloned());
    let names: Vec<String> = connections.iter().map(|name| codes::text(name)).collect();
    let (condition, id) = match subject {
        Subject::User(user) => {
            ("(\"user\" = $1 OR (\"user\" IS NULL AND connection = ANY($2::text[])))", user.as_str())
        }
        Subject::Connection(id) => ("(connection = $1 AND $2::text[] IS NOT NULL)", id.as_str()),
    };
    // Those without a user first: should this end half-way, the others still tell the connections.
    let entries = tx::query(
        &core.pool,
        statement!(
            format!("SELECT seq FROM entry WHERE {condition} AND seq > $3 ORDER BY \"user\" IS NOT NULL, seq"),
            codes::text(id),
            names.clone(),
            after
        ),
    )
    .await?;
    let entries: Result<Vec<i64>, _> = entries.iter().map(|row| row.try_get(0)).collect();
    let rows = tx::query(
        &core.pool,
        statement!(format!("SELECT * FROM reading WHERE {condition} ORDER BY id"), codes::text(id), names),
    )
    .await?;
    let mut readings = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: i64 = row.try_get("id")?;
        let resource = row.try_get::<_, Option<Vec<u8>>>("resource")?;
        let key = row.try_get("key")?;
        readings.push(HeldReading {
            id: ReadingId(id),
            connection: ConnectionId::new(codes::read(row, "connection")?),
            user: codes::read_maybe(row, "user")?.map(UserId::new),
            started: core.clock.local(codes::time(row, "started")?.unwrap_or_default()),
            resource: resource.map(|stored| vault::open(key, stored)).transpose()?,
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
    Ok(found)
}
