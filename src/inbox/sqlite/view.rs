//! What commands ask for: lists, replays, parking, deletion.

use super::{SinkRow, accept, lease, reading, tally::COMPLETION, writer::Tx};
use crate::inbox::{Awaiting, Batch, EntryView, Filter, Seq, StageView, State};
use base::clock::Timestamp;
use rusqlite::{Connection, OptionalExtension, ToSql, params, params_from_iter};

pub(super) const COUNT_LEASED: &str = "SELECT count(*) FROM stage WHERE kind = ?1 AND state IN (1, 2) AND state = 2";
pub(super) const COUNT_PARKED: &str = "SELECT count(*) FROM stage WHERE kind = ?1 AND state = 4";

/// Rows looked at by one call of [`expire`] at most.
const EXPIRE_SCAN: usize = 5_000;

/// When the oldest unfinished entry was accepted.
pub(super) fn oldest_unfinished(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached(
            "SELECT accepted FROM event WHERE seq = (SELECT min(seq) FROM stage INDEXED BY stage_line WHERE state IN (0, 1, 2))",
        )?
        .query_row([], |row| row.get(0).map(Timestamp::from_millis))
        .optional()
}

pub(super) fn list(connection: &Connection, filter: &Filter, limit: usize) -> rusqlite::Result<Vec<EntryView>> {
    select(connection, filter, limit, "DESC")?.into_iter().map(|seq| view(connection, seq)).collect()
}

/// Numbers of the entries that match.
fn select(connection: &Connection, filter: &Filter, limit: usize, order: &str) -> rusqlite::Result<Vec<i64>> {
    // Each `?` of the conditions takes the next value.
    let mut conditions: Vec<&str> = Vec::new();
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(seq) = filter.seq {
        conditions.push("event.seq = ?");
        values.push(Box::new(seq.0));
    }
    if let Some(before) = filter.before {
        conditions.push("event.seq < ?");
        values.push(Box::new(before.0));
    }
    if let Some(after) = filter.after {
        conditions.push("event.seq > ?");
        values.push(Box::new(after.0));
    }
    if let Some(connection) = &filter.connection {
        conditions.push("event.connection = ?");
        values.push(Box::new(connection.clone()));
    }
    if let Some(user) = &filter.user {
        conditions.push("event.user = ?");
        values.push(Box::new(user.clone()));
    }
    if let Some(credentials) = &filter.credentials {
        conditions.push("event.seq IN (SELECT seq FROM stage WHERE credentials = ?)");
        values.push(Box::new(credentials.clone()));
    }
    if let Some(id) = &filter.id {
        // A delivery id is the event's id, or begins with it and a dot: both are found through the index on ids.
        let event_id = id.rsplit_once('.').map_or(id.as_str(), |(event_id, _)| event_id).to_owned();
        conditions.push("event.id IN (?, ?) AND ? IN (event.id, event.delivery_id)");
        values.push(Box::new(id.clone()));
        values.push(Box::new(event_id));
        values.push(Box::new(id.clone()));
    }
    if let Some(sink) = &filter.sink {
        let kind = kind_of(connection, sink)?;
        conditions.push(match filter.state {
            None => "EXISTS (SELECT 1 FROM stage WHERE stage.seq = event.seq AND kind = ?)",
            Some(State::Waiting) => {
                "event.seq IN (SELECT seq FROM stage WHERE kind = ? AND state IN (0, 1, 2) AND state IN (0, 1))"
            }
            Some(State::Leased) => {
                "event.seq IN (SELECT seq FROM stage WHERE kind = ? AND state IN (1, 2) AND state = 2)"
            }
            Some(State::Done) => "EXISTS (SELECT 1 FROM stage WHERE stage.seq = event.seq AND kind = ? AND state = 3)",
            Some(State::Parked) => "event.seq IN (SELECT seq FROM stage WHERE kind = ? AND state = 4)",
        });
        values.push(Box::new(kind));
    } else if let Some(state) = filter.state {
        conditions.push(match state {
            State::Parked => "event.seq IN (SELECT seq FROM stage WHERE state = 4)",
            State::Leased => {
                "event.seq IN (SELECT seq FROM stage WHERE state IN (1, 2) AND state = 2)
                 AND event.seq NOT IN (SELECT seq FROM stage WHERE state = 4)"
            }
            State::Waiting => {
                "event.seq IN (SELECT seq FROM stage WHERE state IN (0, 1, 2))
                 AND event.seq NOT IN (SELECT seq FROM stage WHERE state IN (1, 2) AND state = 2)
                 AND event.seq NOT IN (SELECT seq FROM stage WHERE state = 4)"
            }
            State::Done => "NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = event.seq AND state <> 3)",
        });
    }
    let condition = if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    let sql = format!("SELECT event.seq FROM event {condition} ORDER BY event.seq {order} LIMIT {limit}");
    connection.prepare_cached(&sql)?.query_map(params_from_iter(values.iter()), |row| row.get(0))?.collect()
}

/// The number of a stage by its name; one that no stage has, where the name is unknown.
fn kind_of(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    if name == "completion" {
        return Ok(COMPLETION);
    }
    let kind = connection.query_row("SELECT id FROM sink WHERE name = ?1", [name], |row| row.get(0)).optional()?;
    Ok(kind.unwrap_or(-1))
}

fn view(connection: &Connection, seq: i64) -> rusqlite::Result<EntryView> {
    let stages = stages(connection, seq)?;
    connection
        .prepare_cached(
            "SELECT id, coalesce(delivery_id, id), delivery_id IS NOT NULL, connection, user, channel, event_type, resource_type,
                    accepted, account_count, listed, drift, length(body), sender,
                    (SELECT accounts FROM reading JOIN completion ON reading.id = completion.reading WHERE completion.seq = event.seq)
             FROM event WHERE seq = ?1",
        )?
        .query_row([seq], |row| {
            let unsigned = |index: usize| -> rusqlite::Result<Option<u64>> {
                Ok(row.get::<_, Option<i64>>(index)?.and_then(|count| u64::try_from(count).ok()))
            };
            let sender: Option<String> = row.get(13)?;
            Ok(EntryView {
                seq: Seq(seq),
                id: row.get(0)?,
                delivery_id: row.get(1)?,
                state: together(&stages),
                connection_id: row.get(3)?,
                user_id: row.get(4)?,
                channel_definition_id: row.get(5)?,
                event_type: row.get(6)?,
                resource_type: row.get(7)?,
                accepted: rfc3339(row.get(8)?),
                account_count: unsigned(9)?,
                accounts_listed: unsigned(10)?.unwrap_or(0),
                accounts_fetched: unsigned(14)?,
                conflict: row.get(2)?,
                drift: row.get(11)?,
                bytes: unsigned(12)?.unwrap_or(0),
                sender: sender.and_then(|json| serde_json::from_str(&json).ok()),
                stages,
            })
        })
}

fn stages(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<StageView>> {
    connection
        .prepare_cached(
            "SELECT CASE kind WHEN 0 THEN 'completion' ELSE (SELECT name FROM sink WHERE id = kind) END,
                    state, attempts, due, changed, reason
             FROM stage WHERE seq = ?1 ORDER BY kind",
        )?
        .query_map([seq], |row| {
            let (code, due): (i64, i64) = (row.get(1)?, row.get(3)?);
            Ok(StageView {
                stage: row.get(0)?,
                state: match code {
                    2 => State::Leased,
                    3 => State::Done,
                    4 => State::Parked,
                    _ => State::Waiting,
                },
                attempts: row.get(2)?,
                due: matches!(code, 1 | 2).then(|| rfc3339(due)),
                changed: rfc3339(row.get(4)?),
                reason: match row.get(5)? {
                    None if code == 0 => {
                        Some("waits for an earlier entry of its connection or for its accounts".to_owned())
                    }
                    reason => reason,
                },
            })
        })?
        .collect()
}

/// An entry's state from its stages' states.
fn together(stages: &[StageView]) -> State {
    let any = |state| stages.iter().any(|stage| stage.state == state);
    [State::Parked, State::Leased, State::Waiting].into_iter().find(|state| any(*state)).unwrap_or(State::Done)
}

pub(super) fn rfc3339(millis: i64) -> String {
    Timestamp::from_millis(millis).to_rfc3339().unwrap_or_else(|| millis.to_string())
}

/// A stage's row as replays and parking need it.
struct Row {
    kind: i64,
    state: i64,
}

fn rows(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<Vec<Row>> {
    tx.connection
        .prepare_cached("SELECT kind, state FROM stage WHERE seq = ?1 ORDER BY kind")?
        .query_map([seq], |row| Ok(Row { kind: row.get(0)?, state: row.get(1)? }))?
        .collect()
}

pub(super) fn replay(tx: &mut Tx<'_>, filter: &Filter, limit: usize, sinks: &[SinkRow]) -> rusqlite::Result<Batch> {
    let only = filter.sink.as_deref().map(|name| kind_of(tx.connection, name)).transpose()?;
    let mut batch = Batch::default();
    // By number without the sink, so that a sink that was added later can be given earlier entries.
    let wanted = match (filter.sink.as_deref(), filter.state) {
        (Some(_), None) => Filter { sink: None, ..filter.clone() },
        _ => filter.clone(),
    };
    for seq in select(tx.connection, &wanted, limit, "ASC")? {
        batch.last = Some(Seq(seq));
        let rows = rows(tx, seq)?;
        let connection: String = tx
            .connection
            .prepare_cached("SELECT connection FROM event WHERE seq = ?1")?
            .query_row([seq], |row| row.get(0))?;
        let line = accept::line(&connection);
        let any_parked = rows.iter().any(|row| row.state == 4);
        let mut changed = false;
        let completion_parked = rows.iter().any(|row| row.kind == COMPLETION && row.state == 4);
        if completion_parked {
            requeue(tx, seq, COMPLETION, line)?;
            changed = true;
        }
        for sink in sinks {
            let state = rows.iter().find(|row| row.kind == sink.id).map(|row| row.state);
            let meant = match only {
                Some(kind) => kind == sink.id || (completion_parked && state == Some(4)),
                None => state == Some(4) || !any_parked,
            };
            match state {
                Some(3 | 4) if meant => {
                    requeue(tx, seq, sink.id, line)?;
                    changed = true;
                }
                None if meant => {
                    accept::insert(tx, seq, sink.id, line, Some(0), tx.now.as_millis(), None)?;
                    first_again(tx, seq, sink.id, line)?;
                    changed = true;
                }
                _ => {}
            }
        }
        batch.changed += u64::from(changed);
    }
    Ok(batch)
}

/// Puts a stage that left its line back in, as if it had never been tried.
fn requeue(tx: &mut Tx<'_>, seq: i64, kind: i64, line: i64) -> rusqlite::Result<()> {
    tx.connection
        .prepare_cached(
            "UPDATE stage SET state = 0, attempts = 0, losses = 0, failing_since = NULL, doubts = 0,
                              doubts_since = NULL, reason = NULL, credentials = NULL, changed = ?3
             WHERE seq = ?1 AND kind = ?2",
        )?
        .execute(params![seq, kind, tx.now.as_millis()])?;
    tx.touched.unfinished(kind, 1);
    first_again(tx, seq, kind, line)
}

/// Lets later entries of the line wait again, then lets its first one be due.
fn first_again(tx: &mut Tx<'_>, seq: i64, kind: i64, line: i64) -> rusqlite::Result<()> {
    tx.connection
        .prepare_cached(
            "UPDATE stage SET state = 0 WHERE kind = ?1 AND line = ?2 AND state IN (0, 1, 2) AND state = 1 AND seq > ?3",
        )?
        .execute([kind, line, seq])?;
    lease::promote(tx, kind, line)
}

/// What parked stages wait for, each once.
pub(super) fn awaiting(connection: &Connection, user: Option<&str>) -> rusqlite::Result<Vec<Awaiting>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT event.user, event.connection, stage.credentials
             FROM stage INDEXED BY stage_awaiting JOIN event USING (seq)
             WHERE stage.credentials IS NOT NULL AND (?1 IS NULL OR event.user = ?1)",
        )?
        .query_map([user], |row| Ok(Awaiting { user: row.get(0)?, connection: row.get(1)?, credentials: row.get(2)? }))?
        .collect()
}

pub(super) fn park(tx: &mut Tx<'_>, filter: &Filter, limit: usize, reason: &str) -> rusqlite::Result<Batch> {
    let only = filter.sink.as_deref().map(|name| kind_of(tx.connection, name)).transpose()?;
    let mut batch = Batch::default();
    for seq in select(tx.connection, filter, limit, "ASC")? {
        batch.last = Some(Seq(seq));
        let mut changed = false;
        for row in rows(tx, seq)? {
            let unfinished: bool = tx
                .connection
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM stage WHERE seq = ?1 AND kind = ?2 AND state IN (0, 1, 2))",
                )?
                .query_row([seq, row.kind], |row| row.get(0))?;
            if unfinished && only.is_none_or(|kind| kind == row.kind) {
                lease::end(tx, seq, row.kind, 4, Some(reason))?;
                changed = true;
            }
        }
        batch.changed += u64::from(changed);
    }
    Ok(batch)
}

pub(super) fn purge(tx: &mut Tx<'_>, filter: &Filter, limit: usize) -> rusqlite::Result<Batch> {
    let mut batch = Batch::default();
    for seq in select(tx.connection, filter, limit, "ASC")? {
        batch.last = Some(Seq(seq));
        if rows(tx, seq)?.iter().all(|row| matches!(row.state, 3 | 4)) {
            delete(tx, seq)?;
            batch.changed += 1;
        }
    }
    Ok(batch)
}

/// Entries are numbered in the order in which they were accepted, so the old ones stand first.
pub(super) fn expire(tx: &mut Tx<'_>, cutoff: Timestamp, limit: usize) -> rusqlite::Result<u64> {
    let mut old: Vec<i64> = Vec::new();
    {
        let mut statement = tx.connection.prepare_cached(
            "SELECT seq, accepted,
                    NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = event.seq AND (state <> 3 OR changed >= ?1))
             FROM event ORDER BY seq LIMIT ?2",
        )?;
        let mut rows = statement.query(params![cutoff.as_millis(), i64::try_from(EXPIRE_SCAN).unwrap_or(i64::MAX)])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(1)? >= cutoff.as_millis() || old.len() >= limit {
                break;
            }
            if row.get(2)? {
                old.push(row.get(0)?);
            }
        }
    }
    for seq in &old {
        delete(tx, *seq)?;
    }
    Ok(old.len() as u64)
}

fn delete(tx: &mut Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let reading: Option<Option<i64>> = tx
        .connection
        .prepare_cached("DELETE FROM completion WHERE seq = ?1 RETURNING reading")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    if let Some(reading) = reading.flatten() {
        reading::release(tx, reading)?;
    }
    tx.connection.prepare_cached("DELETE FROM stage WHERE seq = ?1")?.execute([seq])?;
    tx.connection.prepare_cached("DELETE FROM event WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}
