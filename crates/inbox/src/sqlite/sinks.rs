//! [`Sinks`](crate::Sinks) on the file, and the table `delivered`: what a sink was given last.

use super::{codes::Kind, merging, stages, store::Sqlite, tx::Tx};
use crate::{Error, Facts, SinkName, Stage, rules::Order};
use async_trait::async_trait;
use base::clock::Timestamp;
use event::ChannelDefinitionId;
use rusqlite::params;
use std::collections::BTreeMap;

#[async_trait]
impl crate::Sinks for Sqlite {
    async fn paused(&self) -> Result<BTreeMap<SinkName, Timestamp>, Error> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT name, paused FROM sink WHERE paused IS NOT NULL")?
                .query_map([], |row| {
                    Ok((SinkName::new(row.get::<_, String>(0)?), Timestamp::from_millis(row.get(1)?)))
                })?
                .collect()
        })
        .await
    }

    async fn pause(&self, sink: &SinkName, pause: bool) -> Result<bool, Error> {
        let sink = sink.clone();
        self.write(move |tx| {
            let since = pause.then_some(tx.now.as_millis());
            let changed = tx
                .connection
                .prepare_cached("UPDATE sink SET paused = ?2 WHERE name = ?1 AND (paused IS NULL) <> (?2 IS NULL)")?
                .execute(params![sink.as_str(), since])?;
            Ok(changed > 0)
        })
        .await
    }

    async fn set_order(&self, sink: &SinkName, order: Order) -> Result<bool, Error> {
        let Some(kind) = self.sinks.kind(&Stage::Deliver(sink.clone())) else { return Ok(false) };
        self.write(move |tx| {
            let changed = tx
                .connection
                .prepare_cached("UPDATE sink SET strict = ?2 WHERE id = ?1 AND strict <> ?2")?
                .execute(params![kind, order == Order::Strict])?;
            if changed > 0 {
                stages::arrange(tx, kind)?;
            }
            Ok(changed > 0)
        })
        .await
    }

    async fn resume(&self, sink: &SinkName, before: Timestamp, limit: usize) -> Result<u64, Error> {
        let Some(kind) = self.sinks.kind(&Stage::Deliver(sink.clone())) else { return Ok(0) };
        self.write(move |tx| {
            let mut resumed = 0;
            for row in stages::resumable(tx.connection, kind, before, crate::sinks::entries_of(limit))? {
                if resumed == limit as u64 {
                    break;
                }
                if row.progress.may_resume(before) {
                    // One whose group has brought it along is in line already.
                    resumed += u64::from(!merging::resume(tx, &row)?.is_empty());
                }
            }
            Ok(resumed)
        })
        .await
    }
}

/// Notes what a sink was given.
pub(super) fn note_delivered(tx: &mut Tx<'_>, kind: Kind, line: i64, entry: &Facts) -> rusqlite::Result<()> {
    for channel in entry.channels() {
        tx.connection
            .prepare_cached(
                "INSERT INTO delivered (kind, line, channel, as_of, seq) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (kind, line, channel) DO UPDATE SET as_of = excluded.as_of, seq = excluded.seq
                 WHERE (excluded.as_of, excluded.seq) > (as_of, seq)",
            )?
            .execute(params![
                kind,
                line,
                channel.map_or("", ChannelDefinitionId::as_str),
                entry.as_of.at.as_millis(),
                entry.as_of.number(),
            ])?;
    }
    Ok(())
}
