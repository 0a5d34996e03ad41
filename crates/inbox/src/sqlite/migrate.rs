//! From one version of the tables to the next.
//!
//! The present version keeps bodies apart from what is known of them, recognises the same content by narrow keys, and hands
//! out places in lines. Everything of a file of version 1 is moved, in batches of one transaction each. What was moved is
//! deleted from the old tables, and its pages are used again, so the file hardly grows. When the process is killed
//! half-way, the next start goes on where this one stopped; until then the file is of version [`schema::MOVING`].

use super::{codes::Kind, entries::EntryRow, schema};
use crate::{Keys, fold::ContentKey};
use event::{ChannelDefinitionId, ConnectionId, Event, EventId, Shape, UserId};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

/// Entries moved in one transaction.
const BATCH: usize = 500;
/// Entries between two lines of the log.
const TELL_EVERY: u64 = 50_000;

/// Brings a store of version `from` to [`schema::VERSION`].
pub(super) fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    match from {
        schema::VERSION => Ok(()),
        0 => create(connection),
        schema::MOVING => {
            move_all(connection)?;
            step_up(connection, schema::BASE)
        }
        schema::BASE.. => step_up(connection, from),
        _ => {
            tracing::warn!(
                code = "migration_began",
                "the inbox is of an earlier version: it is brought to the present one, which takes a while where it is large"
            );
            set_aside(connection)?;
            move_all(connection)?;
            step_up(connection, schema::BASE)
        }
    }
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(schema::TABLES)?;
    schema::make_keys(&tx)?;
    for (_, step) in schema::STEPS {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", schema::VERSION)?;
    tx.commit()
}

/// Adds what came after a version, one transaction for each step.
fn step_up(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    for (version, step) in schema::STEPS.into_iter().filter(|(version, _)| *version > from) {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "user_version", version)?;
        tx.commit()?;
    }
    Ok(())
}

fn move_all(connection: &mut Connection) -> rusqlite::Result<()> {
    let keys = schema::keys(connection, None)?;
    let mut moved = 0;
    loop {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let count = move_batch(&tx, &keys, BATCH)?;
        tx.commit()?;
        if count == 0 {
            break;
        }
        let before = moved / TELL_EVERY;
        moved += count;
        if moved / TELL_EVERY > before {
            tracing::info!(code = "migration_moved", entries = moved, "entries of the earlier version were moved");
        }
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch("DROP TABLE event_v1; DROP TABLE stage_v1; DROP TABLE completion_v1;")?;
    tx.pragma_update(None, "user_version", schema::BASE)?;
    tx.commit()?;
    tracing::info!(code = "migration_done", entries = moved, "the inbox is of the present version now");
    Ok(())
}

/// Puts the old tables aside and makes the new ones.
fn set_aside(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "DROP INDEX event_content; DROP INDEX stage_due; DROP INDEX stage_line; DROP INDEX stage_parked;
         DROP INDEX stage_awaiting; DROP INDEX completion_reading;
         ALTER TABLE event RENAME TO event_v1;
         ALTER TABLE stage RENAME TO stage_v1;
         ALTER TABLE completion RENAME TO completion_v1;
         ALTER TABLE reading ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE page ADD COLUMN size INTEGER;",
    )?;
    tx.execute_batch(schema::TABLES)?;
    schema::make_keys(&tx)?;
    // Numbers are never used again.
    tx.execute_batch(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'entry', seq FROM sqlite_sequence WHERE name = 'event_v1';",
    )?;
    tx.pragma_update(None, "user_version", schema::MOVING)?;
    tx.commit()
}

/// An entry as version 1 kept it.
struct First {
    seq: i64,
    delivery_id: Option<String>,
    event: Event,
    drift: Option<String>,
    accepted: i64,
    confirm: bool,
    sender: Option<String>,
    body: Vec<u8>,
}

/// Moves the oldest entries that are left; returns how many there were.
fn move_batch(connection: &Connection, keys: &Keys, limit: usize) -> rusqlite::Result<u64> {
    let batch: Vec<First> = connection
        .prepare_cached(
            "SELECT seq, delivery_id, accepted, confirm, sender, body, id, event_type, resource_type, connection, user, channel,
                    mode, created, account_count, listed, drift
             FROM event_v1 ORDER BY seq LIMIT ?1",
        )?
        .query_map([i64::try_from(limit).unwrap_or(i64::MAX)], read)?
        .collect::<rusqlite::Result<_>>()?;
    for entry in &batch {
        move_entry(connection, keys, entry)?;
        move_work(connection, entry.seq)?;
    }
    Ok(batch.len() as u64)
}

fn read(row: &Row<'_>) -> rusqlite::Result<First> {
    let body: Vec<u8> = row.get(5)?;
    // The body says more than version 1 kept. Where it cannot be parsed any more, the columns of version 1 are taken.
    let (event, drift) = match Event::parse(&body) {
        Ok(event) => {
            let drift = event.drift.as_ref().map(ToString::to_string);
            (event, drift)
        }
        Err(_unreadable) => (kept(row)?, row.get(16)?),
    };
    Ok(First {
        seq: row.get(0)?,
        delivery_id: row.get(1)?,
        accepted: row.get(2)?,
        confirm: row.get(3)?,
        sender: row.get(4)?,
        event,
        drift,
        body,
    })
}

/// What version 1 kept of an event beside its body.
fn kept(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: EventId::new(row.get::<_, String>(6)?),
        event_type: row.get(7)?,
        resource_type: row.get(8)?,
        connection: ConnectionId::new(row.get::<_, String>(9)?),
        user: row.get::<_, Option<String>>(10)?.map(UserId::new),
        channel: row.get::<_, Option<String>>(11)?.map(ChannelDefinitionId::new),
        mode: row.get(12)?,
        channel_status: None,
        status: None,
        provider: None,
        created: row.get(13)?,
        new_transactions: None,
        account_count: row.get::<_, Option<i64>>(14)?.and_then(|count| u64::try_from(count).ok()),
        listed: row.get::<_, i64>(15)?.try_into().unwrap_or(0),
        shape: Shape::Unclear,
        drift: None,
    })
}

fn move_entry(connection: &Connection, keys: &Keys, entry: &First) -> rusqlite::Result<()> {
    use sha2::{Digest, Sha256};
    let content = content_key(connection, keys, entry)?;
    let digest: [u8; 32] = Sha256::digest(&entry.body).into();
    let row = EntryRow {
        event: &entry.event,
        drift: entry.drift.as_deref(),
        delivery_id: entry.delivery_id.as_deref(),
        conflict: entry.delivery_id.is_some(),
        content,
        digest: &digest,
        size: entry.body.len(),
        accepted: entry.accepted,
        confirm: entry.confirm,
        sender: entry.sender.as_deref(),
        trace: None,
        key: None,
    };
    row.insert(connection, Some(entry.seq))?;
    connection
        .prepare_cached("INSERT INTO body (seq, bytes) VALUES (?1, ?2)")?
        .execute(params![entry.seq, entry.body])?;
    connection.prepare_cached("INSERT INTO known (id_key, body_key, seq) VALUES (?1, ?2, ?3)")?.execute([
        content.id,
        content.body,
        entry.seq,
    ])?;
    connection.prepare_cached("DELETE FROM event_v1 WHERE seq = ?1")?.execute([entry.seq])?;
    Ok(())
}

/// How an entry is recognised. Version 1 took the same content with other white space for another event. The first of them
/// is the one that is recognised; the others get the key of their bytes as they came, so that they are found by their id.
fn content_key(connection: &Connection, keys: &Keys, entry: &First) -> rusqlite::Result<ContentKey> {
    let content = ContentKey::new(keys, entry.event.id.as_str(), &entry.body);
    let is_known = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM known WHERE id_key = ?1 AND body_key = ?2)")?
        .query_row([content.id, content.body], |row| row.get(0))?;
    Ok(if is_known { content.of_bytes(keys, &entry.body) } else { content })
}

/// Moves what is to be done about an entry. Its place in its line is its number: that was the order of version 1.
fn move_work(connection: &Connection, seq: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO stage (seq, kind, line, place, state, due, attempts, losses, token, failing_since, doubts, doubts_since,
                                changed, cause, reason, credentials)
             SELECT seq, kind, line, seq,
                    CASE state WHEN 0 THEN 'queued' WHEN 1 THEN 'due' WHEN 2 THEN 'leased' WHEN 3 THEN 'done' ELSE 'parked' END,
                    due, attempts, losses, token, failing_since, doubts, doubts_since, changed,
                    CASE WHEN credentials IS NOT NULL THEN 'credentials'
                         WHEN state <> 4 THEN NULL
                         WHEN kind <> 0 AND reason = 'its accounts could not be fetched: see the completion' THEN 'needs'
                         WHEN kind = 0 AND reason LIKE 'the event leaves its accounts out and cannot be understood (%' THEN 'unclear'
                         WHEN reason LIKE 'the service ended or hung % times in a row while it worked on this entry:%' THEN 'lost'
                    END,
                    reason, credentials
             FROM stage_v1 WHERE seq = ?1",
        )?
        .execute([seq])?;
    let line: Option<i64> = connection
        .prepare_cached("SELECT line FROM stage_v1 WHERE seq = ?1 LIMIT 1")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    if let Some(line) = line {
        connection
            .prepare_cached(
                "INSERT INTO line (key, tail) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET tail = max(tail, excluded.tail)",
            )?
            .execute([line, seq])?;
    }
    connection
        .prepare_cached(
            "INSERT INTO fetched (seq, kind, reading, snapshot)
             SELECT seq, ?2, reading, (SELECT started FROM reading WHERE id = completion_v1.reading)
             FROM completion_v1 WHERE seq = ?1",
        )?
        .execute(params![seq, Kind::of_fetch(crate::Fetch::Accounts)])?;
    for sql in ["DELETE FROM stage_v1 WHERE seq = ?1", "DELETE FROM completion_v1 WHERE seq = ?1"] {
        connection.prepare_cached(sql)?.execute([seq])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
