//! [`Desk`] on the server.

use super::{
    board::Board,
    delete, lines,
    page::page,
    refused,
    select::{Order, kind_of, select},
    shared::Touched,
    shelf,
    stages::StageRow,
    store::{Core, Postgres},
    tx::{self, Trouble, statement},
    views,
};
use crate::{
    Batch, Cause, Desk, EntryPage, EntryView, Error, Fill, Filter, Place, RefusedView, Seq, SinkName, Span, Story,
    kind::Kind,
    rules::{self, Progress, Standing},
    seal,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::{Arc, atomic::Ordering};

#[async_trait]
impl Desk for Postgres {
    async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<EntryView>, Error> {
        self.0.is_open()?;
        let found = select(&self.0, filter, limit, Order::NewestFirst).await?;
        Ok(views::entries(&self.0, &found).await?)
    }

    async fn page(
        &self,
        filter: &Filter,
        behind: Option<Place>,
        looked: usize,
        limit: usize,
    ) -> Result<EntryPage, Error> {
        self.0.is_open()?;
        let (found, next) = page(&self.0, filter, behind, (looked, limit)).await?;
        Ok(EntryPage { entries: views::entries(&self.0, &found).await?, next })
    }

    async fn body(&self, seq: Seq) -> Result<Option<Bytes>, Error> {
        let sql = "SELECT bytes AS stored, key, connection, \"user\" FROM entry JOIN body USING (seq) WHERE seq = $1";
        Ok(shelf::open(&self.0, statement!(sql, seq.0), seal::Place::Body(seq.0)).await?)
    }

    async fn between(&self, span: Span) -> Result<Option<(Seq, Seq)>, Error> {
        self.0.is_open()?;
        let [from, to] = self.0.clock.span(span);
        // Numbers and times go up together but for moments, and where a clock was set, so both ends are looked for among all that the
        // index of times has of the span.
        let sql = "SELECT min(seq), max(seq) FROM entry WHERE accepted BETWEEN $1 AND $2";
        let rows = tx::query(&self.0.pool, statement!(sql, from, to)).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let ends: (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(ends.0.zip(ends.1).map(|(first, last)| (Seq(first), Seq(last))))
    }

    async fn story(&self, seq: Seq) -> Result<Story, Error> {
        self.0.is_open()?;
        Ok(views::story(&self.0, seq.0).await?)
    }

    async fn replay(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        let filter = filter.clone();
        self.detached(move |core| async move { tx::until_done(|| replay(&core, &filter, limit)).await }).await
    }

    async fn fill(&self, sink: &SinkName, filter: &Filter, limit: usize, how: Fill) -> Result<Option<Batch>, Error> {
        let (sink, filter) = (sink.clone(), Filter { sink: None, ..filter.clone() });
        self.detached(move |core| async move {
            let Some(kind) = kind_of(&core, sink.as_str()).await? else { return Ok(None) };
            let batch = match how {
                Fill::Trial => try_fill(&core, kind, &filter, limit).await?,
                Fill::Real => {
                    tx::until_done(|| each(&core, &filter, limit, |board, rows| Some(fill(board, rows, kind)))).await?
                }
            };
            Ok(Some(batch))
        })
        .await
    }

    async fn hand_over(&self, filter: &Filter, to: &SinkName, limit: usize) -> Result<Option<Batch>, Error> {
        let (filter, to) = (filter.clone(), to.clone());
        self.detached(move |core| async move {
            let Some(from) = only(&core, &filter).await? else { return Ok(None) };
            let Some(kind) = kind_of(&core, to.as_str()).await? else { return Ok(None) };
            let moved = || each(&core, &filter, limit, |board, rows| Some(hand_over(board, rows, from, (kind, &to))));
            tx::until_done(moved).await.map(Some)
        })
        .await
    }

    async fn park(&self, filter: &Filter, limit: usize, reason: &str) -> Result<Batch, Error> {
        let (filter, reason) = (filter.clone(), reason.to_owned());
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let only = only(&core, &filter).await?;
                each(&core, &filter, limit, |board, rows| Some(park(board, rows, only, &reason))).await
            })
            .await
        })
        .await
    }

    async fn purge(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        let filter = filter.clone();
        self.detached(move |core| async move {
            let purged = tx::until_done(|| {
                each(&core, &filter, limit, |_, rows| {
                    let is_over = rows.iter().all(|row| !row.progress.standing.is_in_line());
                    if is_over { None } else { Some(false) }
                })
            })
            .await?;
            if purged.changed > 0 {
                core.is_to_be_cleaned.store(true, Ordering::Release);
            }
            Ok(purged)
        })
        .await
    }

    async fn refused(&self, span: Span, limit: usize) -> Result<Vec<RefusedView>, Error> {
        self.0.is_open()?;
        Ok(refused::list(&self.0, self.0.clock.span(span), limit).await?)
    }
}

/// Does something to each matching entry, the oldest first; it says whether it changed the entry, or nothing where the entry is to be
/// deleted.
async fn each(
    core: &Arc<Core>,
    filter: &Filter,
    limit: usize,
    change: impl Fn(&mut Board, &[StageRow]) -> Option<bool>,
) -> Result<Batch, Trouble> {
    let seqs = select(core, filter, limit, Order::OldestFirst).await?;
    let mut batch = Batch { last: seqs.last().copied().map(Seq), ..Batch::default() };
    if seqs.is_empty() {
        return Ok(batch);
    }
    let entries = lines::lines_of(&core.pool, &seqs).await?;
    let (tx, mut board) = lines::load_with_groups(&core.pool, &core.clock, &entries).await?;
    let (mut touched, mut deleted) = (Touched::default(), Vec::new());
    for seq in seqs {
        let rows: Vec<StageRow> = board.of_entry(seq).into_iter().cloned().collect();
        // It was deleted since it was selected.
        if rows.is_empty() {
            batch.left += 1;
            continue;
        }
        match change(&mut board, &rows) {
            Some(true) => batch.changed += 1,
            Some(false) => batch.left += 1,
            None => {
                board.forget(seq, &mut touched);
                deleted.push(seq);
                batch.changed += 1;
            }
        }
    }
    core.store(tx, board, (Vec::new(), delete::entries(&deleted)), touched).await?;
    Ok(batch)
}

/// The kind of the one sink that a filter names.
async fn only(core: &Core, filter: &Filter) -> Result<Option<Kind>, Trouble> {
    let Some(sink) = &filter.sink else { return Ok(None) };
    Ok(Some(kind_of(core, sink.as_str()).await?.unwrap_or(Kind(i64::MIN))))
}

fn park(board: &mut Board, rows: &[StageRow], only: Option<Kind>, reason: &str) -> bool {
    for StageRow { seq, kind, .. } in rows {
        // Parking a fetch parks what needs it: that is parked no second time.
        if only.is_none_or(|only| only == *kind) {
            board.park(*seq, *kind, reason);
        }
    }
    rows.first().is_some_and(|row| board.has_changed(row.seq))
}

async fn replay(core: &Arc<Core>, filter: &Filter, limit: usize) -> Result<Batch, Trouble> {
    let only = only(core, filter).await?;
    // By number without the sink, so that a sink that was added later can be given earlier entries.
    let wanted = match (&filter.sink, filter.state) {
        (Some(_), None) => Filter { sink: None, ..filter.clone() },
        _ => filter.clone(),
    };
    let sinks: Vec<Kind> = core.sinks.0.iter().map(|(kind, _)| *kind).collect();
    each(core, &wanted, limit, |board, rows| Some(replay_one(board, rows, only, &sinks))).await
}

fn replay_one(board: &mut Board, rows: &[StageRow], only: Option<Kind>, sinks: &[Kind]) -> bool {
    let is_parked = |row: &StageRow| row.progress.standing == Standing::Parked;
    let needs_fetch = |row: &StageRow| row.progress.cause == Some(Cause::Needs);
    let any_parked = rows.iter().any(is_parked);
    let fetch_parked = rows.iter().any(|row| row.kind.is_fetch() && is_parked(row));
    for row in rows.iter().filter(|row| row.kind.is_fetch() && is_parked(row)) {
        board.requeue(row.seq, row.kind);
    }
    for kind in sinks {
        let found = rows.iter().find(|row| row.kind == *kind);
        let is_meant = match only {
            // What needs the fetch goes on with it, also at other sinks.
            Some(only) => only == *kind || (fetch_parked && found.is_some_and(needs_fetch)),
            None => found.is_some_and(is_parked) || !any_parked,
        };
        match (found, rows.first()) {
            (Some(row), _) if is_meant => board.requeue(row.seq, row.kind),
            (None, Some(other)) if is_meant => {
                add(board, other, *kind);
            }
            _ => {}
        }
    }
    rows.first().is_some_and(|row| board.has_changed(row.seq))
}

/// Gives an entry a stage for a sink that it has none for.
fn add(board: &mut Board, other: &StageRow, kind: Kind) {
    let stages = board.of_entry(other.seq);
    let fetches: Vec<Standing> =
        stages.iter().filter(|row| row.kind.is_fetch()).map(|row| row.progress.standing).collect();
    let progress = Progress::added(&fetches, board.now);
    board.add(StageRow { seq: other.seq, kind, line: other.line, progress });
}

/// Gives an entry a stage for a sink, unless it has one; says whether it had none.
fn fill(board: &mut Board, rows: &[StageRow], kind: Kind) -> bool {
    match rows.first() {
        Some(other) if rows.iter().all(|row| row.kind != kind) => {
            add(board, other, kind);
            true
        }
        _ => false,
    }
}

/// How many entries have no stage for a sink.
async fn try_fill(core: &Core, kind: Kind, filter: &Filter, limit: usize) -> Result<Batch, Trouble> {
    let seqs = select(core, filter, limit, Order::OldestFirst).await?;
    let sql = "SELECT count(*) FROM stage WHERE seq = ANY($1) AND kind = $2";
    let rows = tx::query(&core.pool, statement!(sql, seqs.clone(), kind.0)).await?;
    let left = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))?.unsigned_abs();
    Ok(Batch { changed: (seqs.len() as u64).saturating_sub(left), left, last: seqs.last().copied().map(Seq) })
}

/// Hands what a sink has left behind of an entry over to another sink; says whether it could.
fn hand_over(board: &mut Board, rows: &[StageRow], from: Kind, (to, name): (Kind, &SinkName)) -> bool {
    let now = board.now;
    let free = rows.iter().find(|row| row.kind == from && row.progress.is_free(now));
    let Some(old) = free else { return false };
    let has_it = rows.iter().any(|row| row.kind == to);
    if !has_it {
        board.add(StageRow { kind: to, progress: old.progress.taken_over(now), ..old.clone() });
    }
    board.apply(old.seq, from, |progress| progress.close(&rules::moved(name, has_it), now));
    board.leave(old.seq, from);
    true
}
