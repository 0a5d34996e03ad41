//! Storing an event: one row that is never touched again, and one small row for each part of its work.

use super::{SinkRow, lease::park_reason_waits, tally::COMPLETION, writer::Tx};
use crate::inbox::{Accepted, NewEntry, Seq};
use event::{ChannelDefinitionId, Shape, UserId};
use rusqlite::params;
use sha2::{Digest, Sha256};

/// Everything that can be computed outside the writer thread.
pub(super) struct Prepared {
    entry: NewEntry,
    digest: [u8; 32],
    line: i64,
    cloud_type: String,
    drift: Option<String>,
    /// Used where another event came first under the same id.
    distinct_id: String,
}

impl Prepared {
    pub(super) fn new(entry: NewEntry) -> Self {
        let digest: [u8; 32] = Sha256::digest(&entry.body).into();
        let [a, b, c, d, ..] = digest;
        let suffix = u32::from_be_bytes([a, b, c, d]);
        Self {
            digest,
            line: line(entry.event.connection.as_str()),
            cloud_type: entry.event.cloud_type(),
            drift: entry.event.drift.as_ref().map(ToString::to_string),
            distinct_id: format!("{}.{suffix:08x}", entry.event.id),
            entry,
        }
    }
}

/// The line that entries of a connection stand in. Two connections in one line would only wait for each other.
pub(super) fn line(connection: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(connection.as_bytes()).into();
    digest.iter().take(8).fold(0, |line, byte| (line << 8) | i64::from(*byte))
}

pub(super) fn accept(tx: &mut Tx<'_>, new: &Prepared, sinks: &[SinkRow]) -> rusqlite::Result<Accepted> {
    let event = &new.entry.event;
    // No RETURNING in statements that run for every event: SQLite collects its rows in a temporary table, which costs more
    // than the whole insert.
    let conflict: bool = tx
        .connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM event WHERE id = ?1)")?
        .query_row([event.id.as_str()], |row| row.get(0))?;
    let inserted = tx
        .connection
        .prepare_cached(
            "INSERT INTO event (id, digest, delivery_id, event_type, resource_type, connection, user, channel, mode, created,
                                account_count, listed, cloud_type, drift, accepted, confirm, sender, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            event.id.as_str(),
            new.digest,
            conflict.then_some(&new.distinct_id),
            event.event_type,
            event.resource_type,
            event.connection.as_str(),
            event.user.as_ref().map(UserId::as_str),
            event.channel.as_ref().map(ChannelDefinitionId::as_str),
            event.mode,
            event.created,
            event.account_count.and_then(|count| i64::try_from(count).ok()),
            i64::try_from(event.listed).unwrap_or(i64::MAX),
            new.cloud_type,
            new.drift,
            new.entry.received.as_millis(),
            new.entry.confirm,
            new.entry.sender,
            &new.entry.body[..],
        ])?;
    if inserted == 0 {
        let seq = tx
            .connection
            .prepare_cached("SELECT seq FROM event WHERE id = ?1 AND digest = ?2")?
            .query_row(params![event.id.as_str(), new.digest], |row| row.get(0))?;
        return Ok(Accepted::Duplicate { seq: Seq(seq) });
    }
    let seq = tx.connection.last_insert_rowid();

    let now = tx.now.as_millis();
    // Of a hint nothing but the addresses is used, so its shape does not matter.
    let shape = if new.entry.confirm { &Shape::Truncated { expected: 0 } } else { &event.shape };
    let parked = match shape {
        Shape::Unclear => {
            let what = event.drift.as_ref().map(ToString::to_string).unwrap_or_default();
            Some(format!(
                "the event leaves its accounts out and cannot be understood ({what}): a newer version may know this form; then replay it"
            ))
        }
        Shape::Whole | Shape::Truncated { .. } => None,
    };
    if let Some(reason) = &parked {
        insert(tx, seq, COMPLETION, new.line, Some(4), now, Some(reason))?;
    } else if *shape != Shape::Whole {
        insert(tx, seq, COMPLETION, new.line, None, now, None)?;
    }
    for sink in sinks {
        match shape {
            Shape::Whole => insert(tx, seq, sink.id, new.line, None, now, None)?,
            Shape::Truncated { .. } => insert(tx, seq, sink.id, new.line, Some(0), now, None)?,
            Shape::Unclear => insert(tx, seq, sink.id, new.line, Some(4), now, Some(park_reason_waits()))?,
        }
    }
    Ok(Accepted::Stored { seq: Seq(seq), conflict })
}

/// Adds a stage: in the given state, or due where its line is empty and queued where it is not.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    seq: i64,
    kind: i64,
    line: i64,
    state: Option<i64>,
    now: i64,
    reason: Option<&str>,
) -> rusqlite::Result<()> {
    let state = match state {
        Some(state) => state,
        None => tx
            .connection
            .prepare_cached(
                "SELECT NOT EXISTS (SELECT 1 FROM stage WHERE kind = ?1 AND line = ?2 AND state IN (0, 1, 2))",
            )?
            .query_row([kind, line], |row| row.get(0))?,
    };
    tx.connection
        .prepare_cached(
            "INSERT INTO stage (seq, kind, line, state, due, changed, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)",
        )?
        .execute(params![seq, kind, line, state, now, reason])?;
    if state != 4 {
        tx.touched.unfinished(kind, 1);
    }
    if state == 1 {
        tx.touched.due(kind);
    }
    Ok(())
}
