//! Entries as operators see them.

use super::{
    codes::{Kind, unsigned},
    merging, queue, readings, stages,
};
use crate::{AttemptView, DeliveryId, EntryView, ReadingView, Seq, StageView, Story, rules, seal::Seal};
use base::clock::Timestamp;
use event::{ChannelDefinitionId, ConnectionId, EventId, UserId};
use rusqlite::{Connection, OptionalExtension, params};

/// Everything about one entry.
pub(super) fn entry(connection: &Connection, seq: i64) -> rusqlite::Result<EntryView> {
    let stages = stages(connection, seq)?;
    let attempts = attempts(connection, seq)?;
    connection
        .prepare_cached(
            "SELECT id, coalesce(delivery_id, id), conflict, connection, user, channel, event_type, resource_type, accepted,
                    account_count, listed, drift, size, sender,
                    (SELECT accounts FROM reading JOIN fetched ON reading.id = fetched.reading
                     WHERE fetched.seq = entry.seq AND fetched.kind = ?2)
             FROM entry WHERE seq = ?1",
        )?
        .query_row(params![seq, Kind::of_fetch(crate::Fetch::Accounts)], |row| {
            Ok(EntryView {
                seq: Seq(seq),
                event_id: EventId::new(row.get::<_, String>(0)?),
                delivery_id: DeliveryId::new(row.get::<_, String>(1)?),
                conflict: row.get(2)?,
                connection: ConnectionId::new(row.get::<_, String>(3)?),
                user: row.get::<_, Option<String>>(4)?.map(UserId::new),
                channel: row.get::<_, Option<String>>(5)?.map(ChannelDefinitionId::new),
                event_type: row.get(6)?,
                resource_type: row.get(7)?,
                accepted: Timestamp::from_millis(row.get(8)?),
                account_count: unsigned(row, 9)?,
                listed: unsigned(row, 10)?.unwrap_or(0),
                drift: row.get(11)?,
                bytes: unsigned(row, 12)?.unwrap_or(0),
                sender: row.get(13)?,
                fetched: unsigned(row, 14)?,
                state: rules::together(stages.iter().map(|stage: &StageView| stage.state)),
                stages,
                attempts,
            })
        })
}

fn stages(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<StageView>> {
    let view = |row: stages::StageRow| {
        let is_queued = row.progress.standing == rules::Standing::Queued;
        let held_by = if is_queued { stages::held_by(connection, &row)? } else { None };
        let progress = row.progress;
        let has_time = matches!(progress.standing, rules::Standing::Due | rules::Standing::Leased);
        Ok(StageView {
            stage: stages::name(connection, row.kind)?,
            state: progress.standing.state(),
            attempts: progress.attempts,
            due: has_time.then_some(progress.due),
            changed: progress.changed,
            cause: progress.cause,
            is_queued,
            held_by: held_by.map(Seq),
            reason: progress.reason,
        })
    };
    stages::of_entry(connection, seq)?.into_iter().map(view).collect()
}

fn attempts(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<AttemptView>> {
    connection
        .prepare_cached("SELECT kind, at, state, reason FROM attempt WHERE seq = ?1 ORDER BY at, kind, number")?
        .query_map([seq], |row| {
            Ok(AttemptView {
                stage: stages::name(connection, row.get(0)?)?,
                at: Timestamp::from_millis(row.get(1)?),
                state: row.get::<_, rules::Standing>(2)?.state(),
                reason: row.get(3)?,
            })
        })?
        .collect()
}

/// What an entry's list of accounts and its lines say.
pub(super) fn story(connection: &Connection, seq: i64, seal: &Seal) -> rusqlite::Result<Story> {
    let (mut behind, mut merged) = (Vec::new(), Vec::new());
    for row in stages::of_entry(connection, seq)? {
        let group = merging::group(connection, seq, row.kind)?;
        if group.len() > 1 {
            merged.push((stages::name(connection, row.kind)?, group.iter().copied().map(Seq).collect()));
        }
        if row.progress.standing == rules::Standing::Queued
            && let Some(first) = stages::first(connection, row.kind, row.line)?
            && !group.contains(&first)
        {
            behind.push((stages::name(connection, row.kind)?, Seq(first)));
        }
    }
    let facts = queue::facts(connection, seq, seal)?;
    Ok(Story { reading: reading(connection, seq)?, behind, facts, merged })
}

/// The reading that an entry was given; else the one that is under way for it.
fn reading(connection: &Connection, seq: i64) -> rusqlite::Result<Option<ReadingView>> {
    connection
        .prepare_cached(
            "SELECT started, changed, (SELECT count(*) FROM page WHERE page.reading = reading.id), accounts, certainty, unusable
             FROM reading WHERE id = coalesce(
                 (SELECT reading FROM fetched WHERE seq = ?1 AND kind = ?2),
                 (SELECT open.id FROM entry JOIN stage USING (seq)
                      JOIN reading AS open ON open.connection = entry.connection AND open.user IS entry.user
                  WHERE entry.seq = ?1 AND stage.kind = ?2 AND stage.state IN ('due', 'leased') AND open.kind = ?2
                      AND open.accounts IS NULL
                  ORDER BY open.id DESC LIMIT 1))",
        )?
        .query_row(params![seq, Kind::of_fetch(crate::Fetch::Accounts)], |row| {
            let time = |index| row.get(index).map(Timestamp::from_millis);
            Ok(ReadingView {
                started: time(0)?,
                changed: time(1)?,
                pages: unsigned(row, 2)?.unwrap_or(0),
                found: readings::found(row, 3)?,
            })
        })
        .optional()
}
