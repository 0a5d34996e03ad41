//! The table `stage`: reads a row of it, and writes what changed of many in one statement.

use super::{
    codes,
    connect::Pool,
    tally::{Changes, Snapshot},
    tx::{self, Statement, Trouble, statement},
};
use crate::{
    Cause, Doubts, Fetch, Stage, Token,
    kind::Kind,
    numbers::Numbers,
    rules::{Progress, Standing},
};
use base::clock::Timestamp;
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// A stage as it is stored.
#[derive(Clone, Debug)]
pub(super) struct StageRow {
    pub(super) seq: i64,
    pub(super) kind: Kind,
    /// Which line it stands in. Its place there is the number of its entry: numbers are given away while the line is locked.
    pub(super) line: i64,
    pub(super) progress: Progress,
}

/// Reads where a stage stands.
pub(super) fn standing(row: &Row) -> Result<Standing, Trouble> {
    let word: &str = row.try_get("state")?;
    Standing::parse(word).ok_or_else(|| codes::Unknown("a state").into())
}

/// Reads a row of the table.
pub(super) fn read(row: &Row) -> Result<StageRow, Trouble> {
    let count = |column: &str| -> Result<u32, Trouble> {
        Ok(u32::try_from(row.try_get::<_, i64>(column)?).unwrap_or(u32::MAX))
    };
    Ok(StageRow {
        seq: row.try_get("seq")?,
        kind: Kind(row.try_get("kind")?),
        line: row.try_get("line")?,
        progress: Progress {
            standing: standing(row)?,
            due: Timestamp::from_millis(row.try_get("due")?),
            attempts: count("attempts")?,
            losses: count("losses")?,
            token: row.try_get::<_, Option<i64>>("token")?.map(Token),
            failing_since: codes::time(row, "failing_since")?,
            doubts: Doubts { tries: count("doubts")?, since: codes::time(row, "doubts_since")? },
            changed: Timestamp::from_millis(row.try_get("changed")?),
            cause: codes::cause(row)?,
            reason: codes::read_maybe(row, "reason")?,
            resumed: codes::time(row, "resumed")?,
        },
    })
}

/// Writes all that changes of stages.
pub(super) fn update(rows: &[StageRow]) -> Option<Statement> {
    let columns = Columns::of(rows)?;
    Some(statement!(
        "UPDATE stage SET state = n.state, due = n.due, attempts = n.attempts, losses = n.losses, token = n.token,
                failing_since = n.failing_since, doubts = n.doubts, doubts_since = n.doubts_since, changed = n.changed,
                cause = n.cause, reason = n.reason, credentials = n.credentials, resumed = n.resumed
         FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
                     $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::bigint[])
              AS n (seq, kind, state, due, attempts, losses, token, failing_since, doubts, doubts_since, changed, cause, reason,
                    credentials, resumed)
         WHERE stage.seq = n.seq AND stage.kind = n.kind",
        columns.seq,
        columns.kind,
        columns.state,
        columns.due,
        columns.attempts,
        columns.losses,
        columns.token,
        columns.failing_since,
        columns.doubts,
        columns.doubts_since,
        columns.changed,
        columns.cause,
        columns.reason,
        columns.credentials,
        columns.resumed,
    ))
}

/// Adds stages.
pub(super) fn insert(rows: &[StageRow]) -> Option<Statement> {
    let columns = Columns::of(rows)?;
    Some(statement!(
        "INSERT INTO stage (seq, kind, line, state, due, changed, cause, reason)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[],
                              $8::text[])",
        columns.seq,
        columns.kind,
        columns.line,
        columns.state,
        columns.due,
        columns.changed,
        columns.cause,
        columns.reason,
    ))
}

/// Makes stages due, or lets them step back, that still stand as they did: their rows are not locked.
pub(super) fn moved(rows: &[(StageRow, Standing)]) -> Option<Statement> {
    if rows.is_empty() {
        return None;
    }
    let column = |value: fn(&StageRow) -> i64| rows.iter().map(|(row, _)| value(row)).collect::<Vec<i64>>();
    Some(statement!(
        "UPDATE stage SET state = n.state, due = n.due
         FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[]) AS n (seq, kind, state, due, was)
         WHERE stage.seq = n.seq AND stage.kind = n.kind AND stage.state = n.was",
        column(|row| row.seq),
        column(|row| row.kind.0),
        rows.iter().map(|(row, _)| row.progress.standing.as_str()).collect::<Vec<_>>(),
        column(|row| row.progress.due.as_millis()),
        rows.iter().map(|(_, was)| was.as_str()).collect::<Vec<_>>(),
    ))
}

/// Counts what changed.
pub(super) fn tally(changes: &Changes, slot: i64) -> Option<Statement> {
    let (mut kinds, mut unfinished, mut leased, mut parked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (kind, numbers) in changes.by_kind() {
        kinds.push(kind.0);
        unfinished.push(numbers.unfinished);
        leased.push(numbers.leased);
        parked.push(numbers.parked);
    }
    if kinds.is_empty() {
        return None;
    }
    Some(statement!(
        "INSERT INTO tally (slot, kind, unfinished, leased, parked)
         SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
         ON CONFLICT (slot, kind) DO UPDATE SET unfinished = tally.unfinished + excluded.unfinished,
             leased = tally.leased + excluded.leased, parked = tally.parked + excluded.parked",
        slot,
        kinds,
        unfinished,
        leased,
        parked,
    ))
}

/// What [`tally`] has counted so far, and which transactions are in it.
pub(super) async fn count(pool: &Pool) -> Result<(Snapshot, BTreeMap<Kind, Numbers>), Trouble> {
    let rows = tx::query(
        pool,
        statement!(
            "SELECT pg_current_snapshot()::text AS snapshot, t.*
             FROM (SELECT 1) AS one LEFT JOIN (
                 SELECT kind, sum(unfinished)::bigint AS unfinished, sum(leased)::bigint AS leased, sum(parked)::bigint AS parked
                 FROM tally GROUP BY kind) AS t ON true"
        ),
    )
    .await?;
    let (mut snapshot, mut numbers) = (Snapshot::default(), BTreeMap::new());
    for row in &rows {
        snapshot = Snapshot::parse(row.try_get("snapshot")?).ok_or(codes::Unknown("a snapshot"))?;
        if let Some(kind) = row.try_get::<_, Option<i64>>("kind")? {
            let number = |column| row.try_get::<_, i64>(column);
            let found =
                Numbers { unfinished: number("unfinished")?, leased: number("leased")?, parked: number("parked")? };
            numbers.insert(Kind(kind), found);
        }
    }
    Ok((snapshot, numbers))
}

/// The stages that kinds stand for; a sink by its stored name, configured or not.
pub(super) async fn names(pool: &Pool) -> Result<BTreeMap<Kind, Stage>, Trouble> {
    let mut names: BTreeMap<Kind, Stage> =
        Fetch::ALL.into_iter().map(|fetch| (Kind::of_fetch(fetch), Stage::Fetch(fetch))).collect();
    for row in tx::query(pool, statement!("SELECT id, name FROM sink")).await? {
        names.insert(Kind(row.try_get(0)?), Stage::deliver(row.try_get(1)?));
    }
    Ok(names)
}

/// Stages by column, as arrays.
#[derive(Default)]
struct Columns {
    seq: Vec<i64>,
    kind: Vec<i64>,
    line: Vec<i64>,
    state: Vec<&'static str>,
    due: Vec<i64>,
    attempts: Vec<i64>,
    losses: Vec<i64>,
    token: Vec<Option<i64>>,
    failing_since: Vec<Option<i64>>,
    doubts: Vec<i64>,
    doubts_since: Vec<Option<i64>>,
    changed: Vec<i64>,
    cause: Vec<Option<&'static str>>,
    reason: Vec<Option<String>>,
    credentials: Vec<Option<String>>,
    resumed: Vec<Option<i64>>,
}

impl Columns {
    /// `None`: there are no rows.
    fn of(rows: &[StageRow]) -> Option<Self> {
        if rows.is_empty() {
            return None;
        }
        let mut columns = Self::default();
        for StageRow { seq, kind, line, progress } in rows {
            columns.seq.push(*seq);
            columns.kind.push(kind.0);
            columns.line.push(*line);
            columns.state.push(progress.standing.as_str());
            columns.due.push(progress.due.as_millis());
            columns.attempts.push(progress.attempts.into());
            columns.losses.push(progress.losses.into());
            columns.token.push(progress.token.map(|token| token.0));
            columns.failing_since.push(progress.failing_since.map(Timestamp::as_millis));
            columns.doubts.push(progress.doubts.tries.into());
            columns.doubts_since.push(progress.doubts.since.map(Timestamp::as_millis));
            columns.changed.push(progress.changed.as_millis());
            columns.cause.push(progress.cause.as_ref().map(Cause::as_str));
            columns.reason.push(codes::maybe(progress.reason.as_deref()));
            columns.credentials.push(codes::maybe(codes::credentials(progress.cause.as_ref())));
            columns.resumed.push(progress.resumed.map(Timestamp::as_millis));
        }
        Some(columns)
    }
}
