//! [`Desk`] on the file.

use super::{
    codes::{Kind, Sinks},
    entries, merging,
    page::page,
    refused,
    select::{Order, between, select},
    stages::{self, StageRow},
    store::Sqlite,
    tx::Tx,
    views,
};
use crate::{
    Batch, Cause, Desk, EntryPage, EntryView, Error, Fill, Filter, Keys, Place, RefusedView, Seq, SinkName, Span,
    Story,
    rules::{self, Progress, Standing},
};
use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Connection;
use std::{collections::BTreeSet, sync::Arc};

#[async_trait]
impl Desk for Sqlite {
    async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<EntryView>, Error> {
        let (filter, keys) = (filter.clone(), self.keys.clone());
        self.read(move |connection| {
            let found = select(connection, &keys, &filter, limit, Order::NewestFirst)?;
            found.into_iter().map(|seq| views::entry(connection, seq)).collect()
        })
        .await
    }

    async fn page(
        &self,
        filter: &Filter,
        behind: Option<Place>,
        looked: usize,
        limit: usize,
    ) -> Result<EntryPage, Error> {
        let (filter, keys) = (filter.clone(), self.keys.clone());
        self.read(move |connection| {
            let (found, next) = page(connection, &keys, &filter, behind, (looked, limit))?;
            let entries = found.into_iter().map(|seq| views::entry(connection, seq));
            Ok(EntryPage { entries: entries.collect::<Result<_, _>>()?, next })
        })
        .await
    }

    async fn body(&self, seq: Seq) -> Result<Option<Bytes>, Error> {
        let seal = Arc::clone(&self.seal);
        self.read(move |connection| entries::body(connection, seq.0, &seal)).await
    }

    async fn between(&self, span: Span) -> Result<Option<(Seq, Seq)>, Error> {
        self.read(move |connection| between(connection, span)).await
    }

    async fn story(&self, seq: Seq) -> Result<Story, Error> {
        let seal = Arc::clone(&self.seal);
        self.read(move |connection| views::story(connection, seq.0, &seal)).await
    }

    async fn replay(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        let (filter, keys, sinks) = (filter.clone(), self.keys.clone(), Arc::clone(&self.sinks));
        self.write(move |tx| replay(tx, &keys, &filter, limit, &sinks)).await
    }

    async fn fill(&self, sink: &SinkName, filter: &Filter, limit: usize, how: Fill) -> Result<Option<Batch>, Error> {
        let (sink, filter, keys) = (sink.clone(), Filter { sink: None, ..filter.clone() }, self.keys.clone());
        if how == Fill::Trial {
            return self.read(move |connection| try_fill(connection, &keys, &sink, &filter, limit)).await;
        }
        self.write(move |tx| {
            let Some(kind) = stages::kind_of(tx.connection, sink.as_str())? else { return Ok(None) };
            each(tx, &keys, &filter, limit, |tx, rows| {
                if rows.iter().any(|row| row.kind == kind) { Ok(false) } else { add(tx, &rows, kind) }
            })
            .map(Some)
        })
        .await
    }

    async fn hand_over(&self, filter: &Filter, to: &SinkName, limit: usize) -> Result<Option<Batch>, Error> {
        let (filter, to, keys) = (filter.clone(), to.clone(), self.keys.clone());
        self.write(move |tx| {
            let from = kind_of(tx, &filter)?.unwrap_or(Kind(i64::MIN));
            let Some(kind) = stages::kind_of(tx.connection, to.as_str())? else { return Ok(None) };
            each(tx, &keys, &filter, limit, |tx, rows| hand_over(tx, &rows, from, (kind, &to))).map(Some)
        })
        .await
    }

    async fn park(&self, filter: &Filter, limit: usize, reason: &str) -> Result<Batch, Error> {
        let (filter, keys, reason) = (filter.clone(), self.keys.clone(), reason.to_owned());
        self.write(move |tx| {
            let only = kind_of(tx, &filter)?;
            // Whose stages were parked, with those of their groups.
            let mut parked = BTreeSet::new();
            each(tx, &keys, &filter, limit, |tx, rows| {
                for row in &rows {
                    // Parking a fetch parks what needs it: look again.
                    let Some(row) = stages::load(tx.connection, row.seq, row.kind)? else { continue };
                    if row.progress.standing.is_in_line() && only.is_none_or(|kind| kind == row.kind) {
                        parked.extend(merging::park(tx, &row, &reason)?);
                    }
                }
                Ok(rows.first().is_some_and(|row| parked.contains(&row.seq)))
            })
        })
        .await
    }

    async fn purge(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        let (filter, keys) = (filter.clone(), self.keys.clone());
        self.write_to_free(move |tx| {
            each(tx, &keys, &filter, limit, |tx, rows| {
                let is_over = rows.iter().all(|row| !row.progress.standing.is_in_line());
                if is_over && let Some(row) = rows.first() {
                    entries::delete(tx, row.seq)?;
                }
                Ok(is_over)
            })
        })
        .await
    }

    async fn refused(&self, span: Span, limit: usize) -> Result<Vec<RefusedView>, Error> {
        let seal = Arc::clone(&self.seal);
        self.read(move |connection| refused::list(connection, &seal, span, limit)).await
    }
}

/// Does something to each matching entry, the oldest first; it says whether it changed the entry.
fn each(
    tx: &mut Tx<'_>,
    keys: &Keys,
    filter: &Filter,
    limit: usize,
    mut change: impl FnMut(&mut Tx<'_>, Vec<StageRow>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<Batch> {
    let mut batch = Batch::default();
    for seq in select(tx.connection, keys, filter, limit, Order::OldestFirst)? {
        batch.last = Some(Seq(seq));
        let rows = stages::of_entry(tx.connection, seq)?;
        if change(tx, rows)? {
            batch.changed += 1;
        } else {
            batch.left += 1;
        }
    }
    Ok(batch)
}

/// The kind of the one sink that a filter names.
fn kind_of(tx: &Tx<'_>, filter: &Filter) -> rusqlite::Result<Option<Kind>> {
    let Some(sink) = &filter.sink else { return Ok(None) };
    Ok(Some(stages::kind_of(tx.connection, sink.as_str())?.unwrap_or(Kind(i64::MIN))))
}

fn replay(tx: &mut Tx<'_>, keys: &Keys, filter: &Filter, limit: usize, sinks: &Sinks) -> rusqlite::Result<Batch> {
    let only = kind_of(tx, filter)?;
    // By number without the sink, so that a sink that was added later can be given earlier entries.
    let wanted = match (&filter.sink, filter.state) {
        (Some(_), None) => Filter { sink: None, ..filter.clone() },
        _ => filter.clone(),
    };
    // Whose stages went back in line, with those of their groups.
    let mut replayed = BTreeSet::new();
    each(tx, keys, &wanted, limit, |tx, rows| {
        let is_parked = |row: &StageRow| row.progress.standing == Standing::Parked;
        let needs_fetch = |row: &StageRow| row.progress.cause == Some(Cause::Needs);
        let any_parked = rows.iter().any(is_parked);
        let fetch_parked = rows.iter().any(|row| row.kind.is_fetch() && is_parked(row));
        let mut changed = rows.first().is_some_and(|row| replayed.contains(&row.seq));
        for mut row in rows.iter().filter(|row| row.kind.is_fetch() && is_parked(row)).cloned() {
            stages::requeue(tx, &mut row)?;
            changed = true;
        }
        for (kind, _) in &sinks.0 {
            let found = rows.iter().find(|row| row.kind == *kind);
            let is_meant = match only {
                // What needs the fetch goes on with it, also at other sinks.
                Some(only) => only == *kind || (fetch_parked && found.is_some_and(needs_fetch)),
                None => found.is_some_and(is_parked) || !any_parked,
            };
            match found {
                Some(row) if is_meant && !row.progress.standing.is_in_line() => {
                    replayed.extend(merging::requeue(tx, row)?);
                    changed = true;
                }
                None if is_meant => changed |= add(tx, &rows, *kind)?,
                _ => {}
            }
        }
        Ok(changed)
    })
}

/// Gives an entry a stage for a sink that it has none for, in its old place of the line.
fn add(tx: &mut Tx<'_>, rows: &[StageRow], kind: Kind) -> rusqlite::Result<bool> {
    let Some(other) = rows.first() else { return Ok(false) };
    let fetches: Vec<Standing> = stages::of_entry(tx.connection, other.seq)?
        .iter()
        .filter(|row| row.kind.is_fetch())
        .map(|row| row.progress.standing)
        .collect();
    insert(tx, other, kind, Progress::added(&fetches, tx.now), &fetches)
}

/// Puts a stage of an entry in its place of the line; those behind it that were due, and not begun, wait for it.
fn insert(
    tx: &mut Tx<'_>,
    other: &StageRow,
    kind: Kind,
    progress: Progress,
    fetches: &[Standing],
) -> rusqlite::Result<bool> {
    let mut row = StageRow { seq: other.seq, kind, line: other.line, progress };
    stages::insert(tx, &mut row, fetches.iter().all(|fetch| *fetch == Standing::Done))?;
    stages::step_back(tx, &row)?;
    Ok(true)
}

/// Hands what a sink has left behind of an entry over to another sink.
fn hand_over(tx: &mut Tx<'_>, rows: &[StageRow], from: Kind, (to, name): (Kind, &SinkName)) -> rusqlite::Result<bool> {
    let now = tx.now;
    let free = rows.iter().find(|row| row.kind == from && row.progress.is_free(now));
    let Some(old) = free else { return Ok(false) };
    let has_it = rows.iter().any(|row| row.kind == to);
    if !has_it {
        let fetches: Vec<Standing> =
            rows.iter().filter(|row| row.kind.is_fetch()).map(|row| row.progress.standing).collect();
        insert(tx, old, to, old.progress.taken_over(now), &fetches)?;
    }
    stages::apply(tx, &mut old.clone(), |progress| progress.close(&rules::moved(name, has_it), now))?;
    merging::leave(tx.connection, old.seq, from)?;
    Ok(true)
}

/// How many entries have no stage for a sink.
fn try_fill(
    connection: &Connection,
    keys: &Keys,
    sink: &SinkName,
    filter: &Filter,
    limit: usize,
) -> rusqlite::Result<Option<Batch>> {
    let Some(kind) = stages::kind_of(connection, sink.as_str())? else { return Ok(None) };
    let mut batch = Batch::default();
    for seq in select(connection, keys, filter, limit, Order::OldestFirst)? {
        batch.last = Some(Seq(seq));
        match stages::load(connection, seq, kind)? {
            Some(_) => batch.left += 1,
            None => batch.changed += 1,
        }
    }
    Ok(Some(batch))
}
