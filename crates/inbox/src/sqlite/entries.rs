//! The tables `entry`, `body` and `known`.

use super::{readings, stages, tx::Tx};
use crate::{
    TraceParent,
    fold::{self, Record},
    rules::Standing,
    seal::{DataKey, Owner, Place, Seal},
};
use bytes::Bytes;
use event::{ChannelDefinitionId, Event, UserId};
use rusqlite::{Connection, OptionalExtension, params};

/// Adds an entry and its body; returns its number.
pub(super) fn insert(tx: &Tx<'_>, record: &Record, conflict: bool, seal: &Seal) -> rusqlite::Result<i64> {
    let entry = &record.entry;
    let owner = Owner::of(&entry.event);
    let key = seal.key(&owner)?;
    let digest = key.as_ref().map_or(record.digest, |key| key.digest(&entry.body));
    let delivery_id = fold::delivery_id(entry.event.id.as_str(), record.content, !conflict);
    let drift = entry.event.drift.as_ref().map(ToString::to_string);
    let row = EntryRow {
        event: &entry.event,
        drift: drift.as_deref(),
        delivery_id: (delivery_id.as_str() != entry.event.id.as_str()).then_some(delivery_id.as_str()),
        conflict,
        content: record.content,
        digest: &digest,
        key: key.as_deref().map(DataKey::id),
        size: entry.body.len(),
        accepted: entry.received.as_millis(),
        confirm: entry.confirm,
        sender: entry.sender.as_deref(),
        trace: entry.trace.as_ref().map(TraceParent::as_str),
    };
    row.insert(tx.connection, None)?;
    let seq = tx.connection.last_insert_rowid();
    tx.connection
        .prepare_cached("INSERT INTO body (seq, bytes) VALUES (?1, ?2)")?
        .execute(params![seq, seal.seal(&owner, Place::Body(seq), &entry.body)?.bytes])?;
    Ok(seq)
}

/// The body of an entry; `None`: there is no such entry.
pub(super) fn body(connection: &Connection, seq: i64, seal: &Seal) -> rusqlite::Result<Option<Bytes>> {
    let found: Option<(Vec<u8>, Option<i64>, Owner)> = connection
        .prepare_cached("SELECT bytes, key, connection, user FROM entry JOIN body USING (seq) WHERE seq = ?1")?
        .query_row([seq], |row| {
            let owner = Owner::new(&row.get::<_, String>(2)?, row.get::<_, Option<String>>(3)?.as_deref());
            Ok((row.get(0)?, row.get(1)?, owner))
        })
        .optional()?;
    let Some((stored, key, owner)) = found else { return Ok(None) };
    Ok(Some(seal.open(key, &owner, Place::Body(seq), stored)?))
}

/// What is written to the table `entry`.
pub(super) struct EntryRow<'a> {
    pub(super) event: &'a Event,
    /// What could not be typed of it.
    pub(super) drift: Option<&'a str>,
    pub(super) delivery_id: Option<&'a str>,
    pub(super) conflict: bool,
    pub(super) content: fold::ContentKey,
    pub(super) digest: &'a [u8],
    pub(super) size: usize,
    pub(super) accepted: i64,
    pub(super) confirm: bool,
    pub(super) sender: Option<&'a str>,
    pub(super) trace: Option<&'a str>,
    /// The key that seals its body.
    pub(super) key: Option<i64>,
}

/// The statement, with or without a further column.
macro_rules! insert_into_entry {
    ($column:literal, $value:literal) => {
        concat!(
            "INSERT INTO entry (seq, id, delivery_id, conflict, id_key, body_key, digest, size, event_type, resource_type,
                                connection, user, channel, mode, status, provider, new_transactions, created, account_count,
                                listed, drift, accepted, confirm, sender, trace",
            $column,
            ")
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
                     ?24, ?25",
            $value,
            ")"
        )
    };
}

impl EntryRow<'_> {
    /// Adds the row, under the next number where none is given.
    pub(super) fn insert(&self, connection: &Connection, seq: Option<i64>) -> rusqlite::Result<()> {
        let event = self.event;
        // While a file of version 1 is moved, the column of the key is not there yet.
        let sql = if self.key.is_some() { insert_into_entry!(", key", ", ?26") } else { insert_into_entry!("", "") };
        let mut insert = connection.prepare_cached(sql)?;
        let values = params![
            seq,
            event.id.as_str(),
            self.delivery_id,
            self.conflict,
            self.content.id,
            self.content.body,
            self.digest,
            i64::try_from(self.size).unwrap_or(i64::MAX),
            event.event_type,
            event.resource_type,
            event.connection.as_str(),
            event.user.as_ref().map(UserId::as_str),
            event.channel.as_ref().map(ChannelDefinitionId::as_str),
            event.mode,
            event.status,
            event.provider,
            event.new_transactions,
            event.created,
            event.account_count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
            i64::try_from(event.listed).unwrap_or(i64::MAX),
            self.drift,
            self.accepted,
            self.confirm,
            self.sender,
            self.trace,
            self.key,
        ];
        let values = if self.key.is_some() { values } else { values.get(..values.len() - 1).unwrap_or(values) };
        insert.execute(values)?;
        Ok(())
    }
}

/// As [`delete`], also of an entry that is not finished: what waits behind it in its lines goes on.
pub(super) fn erase(tx: &mut Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let now = tx.now;
    for row in stages::of_entry(tx.connection, seq)? {
        // To park a fetch parks what needs it: look again.
        let Some(mut row) = stages::load(tx.connection, row.seq, row.kind)? else { continue };
        if row.progress.standing.is_in_line() {
            stages::apply(tx, &mut row, |progress| progress.park_by_hand("erased", now))?;
        }
    }
    delete(tx, seq)
}

/// Deletes an entry and all that belongs to it alone.
pub(super) fn delete(tx: &mut Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    readings::forget_fetched(tx, seq)?;
    let content: [i64; 2] = tx
        .connection
        .prepare_cached("SELECT id_key, body_key FROM entry WHERE seq = ?1")?
        .query_row([seq], |row| Ok([row.get(0)?, row.get(1)?]))?;
    tx.connection
        .prepare_cached("DELETE FROM known WHERE id_key = ?1 AND body_key = ?2 AND seq = ?3")?
        .execute([content[0], content[1], seq])?;
    let rows = stages::of_entry(tx.connection, seq)?;
    for row in &rows {
        tx.touched.stands(row.kind, Some(row.progress.standing), None);
    }
    for sql in [
        "DELETE FROM attempt WHERE seq = ?1",
        "DELETE FROM merged WHERE seq = ?1",
        "DELETE FROM stage WHERE seq = ?1",
        "DELETE FROM body WHERE seq = ?1",
        "DELETE FROM entry WHERE seq = ?1",
    ] {
        tx.connection.prepare_cached(sql)?.execute([seq])?;
    }
    // Where order is strict, others may have waited behind what was parked.
    for row in rows.iter().filter(|row| row.progress.standing == Standing::Parked) {
        stages::move_up(tx, row.kind, row.line)?;
    }
    Ok(())
}
