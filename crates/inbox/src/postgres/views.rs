//! Entries as operators see them.

use super::{
    clock::Clock,
    codes, readings, stages,
    store::Core,
    stored,
    tx::{self, Trouble, statement},
};
use crate::{
    AttemptView, DeliveryId, EntryView, ReadingView, Seq, Stage, StageView, Story,
    kind::Kind,
    rules::{self, Standing},
};
use event::{ChannelDefinitionId, ConnectionId, EventId, UserId};
use std::collections::{BTreeMap, HashMap};
use tokio_postgres::Row;

/// Nothing was delivered at this kind of stage, nor in this line.
const NO_STAGE: Kind = Kind(i64::MIN);
const NO_LINE: i64 = 0;

/// Everything about these entries, in this order. One that has been deleted since is left out.
pub(super) async fn entries(core: &Core, seqs: &[i64]) -> Result<Vec<EntryView>, Trouble> {
    let names = stages::names(&core.pool).await?;
    let mut stages = stage_views(core, seqs, &names).await?;
    let mut attempts = attempts(core, seqs, &names).await?;
    let rows = tx::query(
        &core.pool,
        statement!(
            "SELECT entry.*,
                    (SELECT accounts FROM reading JOIN fetched ON reading.id = fetched.reading
                     WHERE fetched.seq = entry.seq AND fetched.kind = 0) AS fetched
             FROM entry WHERE entry.seq = ANY($1)",
            seqs.to_vec()
        ),
    )
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let seq: i64 = row.try_get("seq")?;
        let stages = stages.remove(&seq).unwrap_or_default();
        found.insert(seq, entry(&core.clock, row, stages, attempts.remove(&seq).unwrap_or_default())?);
    }
    Ok(seqs.iter().filter_map(|seq| found.remove(seq)).collect())
}

fn entry(clock: &Clock, row: &Row, stages: Vec<StageView>, attempts: Vec<AttemptView>) -> Result<EntryView, Trouble> {
    let event_id = codes::read(row, "id")?;
    Ok(EntryView {
        seq: Seq(row.try_get("seq")?),
        delivery_id: DeliveryId::new(codes::read_maybe(row, "delivery_id")?.unwrap_or_else(|| event_id.clone())),
        event_id: EventId::new(event_id),
        conflict: row.try_get("conflict")?,
        connection: ConnectionId::new(codes::read(row, "connection")?),
        user: codes::read_maybe(row, "user")?.map(UserId::new),
        channel: codes::read_maybe(row, "channel")?.map(ChannelDefinitionId::new),
        event_type: codes::read(row, "event_type")?,
        resource_type: codes::read(row, "resource_type")?,
        accepted: clock.local(codes::time(row, "accepted")?.unwrap_or_default()),
        account_count: codes::unsigned(row, "account_count")?,
        listed: codes::unsigned(row, "listed")?.unwrap_or(0),
        drift: codes::read_maybe(row, "drift")?,
        bytes: codes::unsigned(row, "size")?.unwrap_or(0),
        sender: codes::read_maybe(row, "sender")?,
        fetched: codes::unsigned(row, "fetched")?,
        state: rules::together(stages.iter().map(|stage| stage.state)),
        stages,
        attempts,
    })
}

async fn stage_views(
    core: &Core,
    seqs: &[i64],
    names: &BTreeMap<Kind, Stage>,
) -> Result<HashMap<i64, Vec<StageView>>, Trouble> {
    let sql = "SELECT stage.*,
                      (SELECT held.seq FROM sink JOIN stage AS held ON held.kind = sink.id
                       WHERE sink.id = stage.kind AND strict AND stage.state = 'queued' AND held.line = stage.line
                             AND held.state = 'parked' AND held.seq < stage.seq
                       ORDER BY held.seq LIMIT 1) AS held_by
               FROM stage WHERE seq = ANY($1) ORDER BY seq, kind";
    let mut found: HashMap<i64, Vec<StageView>> = HashMap::new();
    for row in tx::query(&core.pool, statement!(sql, seqs.to_vec())).await? {
        let held_by = row.try_get::<_, Option<i64>>("held_by")?.map(Seq);
        let row = stages::read(&row)?;
        let Some(stage) = names.get(&row.kind) else { continue };
        let progress = row.progress;
        let has_time = matches!(progress.standing, Standing::Due | Standing::Leased);
        found.entry(row.seq).or_default().push(StageView {
            stage: stage.clone(),
            state: progress.standing.state(),
            attempts: progress.attempts,
            due: has_time.then(|| core.clock.local(progress.due)),
            changed: core.clock.local(progress.changed),
            cause: progress.cause,
            is_queued: progress.standing == Standing::Queued,
            held_by,
            reason: progress.reason,
        });
    }
    Ok(found)
}

async fn attempts(
    core: &Core,
    seqs: &[i64],
    names: &BTreeMap<Kind, Stage>,
) -> Result<HashMap<i64, Vec<AttemptView>>, Trouble> {
    let sql = "SELECT * FROM attempt WHERE seq = ANY($1) ORDER BY at, kind, number";
    let mut found: HashMap<i64, Vec<AttemptView>> = HashMap::new();
    for row in tx::query(&core.pool, statement!(sql, seqs.to_vec())).await? {
        let Some(stage) = names.get(&Kind(row.try_get("kind")?)) else { continue };
        found.entry(row.try_get("seq")?).or_default().push(AttemptView {
            stage: stage.clone(),
            at: core.clock.local(codes::time(&row, "at")?.unwrap_or_default()),
            state: stages::standing(&row)?.state(),
            reason: codes::read_maybe(&row, "reason")?,
        });
    }
    Ok(found)
}

/// What an entry's list of accounts and its lines say.
pub(super) async fn story(core: &Core, seq: i64) -> Result<Story, Trouble> {
    let names = stages::names(&core.pool).await?;
    let rows = tx::query(
        &core.pool,
        statement!(
            "SELECT stage.kind, first.seq AS first
             FROM stage CROSS JOIN LATERAL (
                 SELECT seq FROM stage AS s WHERE s.kind = stage.kind AND s.line = stage.line
                        AND s.state IN ('queued', 'due', 'leased') ORDER BY seq LIMIT 1) AS first
             WHERE stage.seq = $1 AND stage.state = 'queued' AND first.seq <> $1 ORDER BY stage.kind",
            seq
        ),
    )
    .await?;
    let merged = merged(core, seq, &names).await?;
    let mut behind = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(stage) = names.get(&Kind(row.try_get("kind")?)) {
            let first = Seq(row.try_get("first")?);
            if !merged.iter().any(|(of, members)| of == stage && members.contains(&first)) {
                behind.push((stage.clone(), first));
            }
        }
    }
    let rows = tx::query(&core.pool, stored::select(&[(seq, NO_LINE)], NO_STAGE)).await?;
    let facts = stored::facts_of(core, &rows)?.remove(&seq);
    Ok(Story { reading: reading(core, seq).await?, behind, facts, merged })
}

/// For each sink that gets an entry together with others: all of these.
async fn merged(core: &Core, seq: i64, names: &BTreeMap<Kind, Stage>) -> Result<Vec<(Stage, Vec<Seq>)>, Trouble> {
    let sql = "SELECT own.kind, array_agg(other.seq ORDER BY other.seq) AS members
               FROM merged AS own JOIN merged AS other ON other.kind = own.kind AND other.first = own.first
               WHERE own.seq = $1 GROUP BY own.kind HAVING count(*) > 1 ORDER BY own.kind";
    let mut merged = Vec::new();
    for row in &tx::query(&core.pool, statement!(sql, seq)).await? {
        let members: Vec<i64> = row.try_get("members")?;
        if let Some(stage) = names.get(&Kind(row.try_get("kind")?)) {
            merged.push((stage.clone(), members.into_iter().map(Seq).collect()));
        }
    }
    Ok(merged)
}

/// The reading that an entry was given; else the one that is under way for it.
async fn reading(core: &Core, seq: i64) -> Result<Option<ReadingView>, Trouble> {
    let rows = tx::query(
        &core.pool,
        statement!(
            "SELECT started, changed, (SELECT count(*) FROM page WHERE page.reading = reading.id) AS pages, accounts, certainty,
                    unusable
             FROM reading WHERE id = coalesce(
                 (SELECT reading FROM fetched WHERE seq = $1 AND kind = 0),
                 (SELECT open.id FROM entry JOIN stage USING (seq)
                      JOIN reading AS open ON open.connection = entry.connection
                           AND open.\"user\" IS NOT DISTINCT FROM entry.\"user\"
                  WHERE entry.seq = $1 AND stage.kind = 0 AND stage.state IN ('due', 'leased') AND open.kind = 0
                      AND open.accounts IS NULL
                  ORDER BY open.id DESC LIMIT 1))",
            seq
        ),
    )
    .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let time = |column| codes::time(row, column).map(|at| core.clock.local(at.unwrap_or_default()));
    Ok(Some(ReadingView {
        started: time("started")?,
        changed: time("changed")?,
        pages: codes::unsigned(row, "pages")?.unwrap_or(0),
        found: readings::found(row)?,
    }))
}
