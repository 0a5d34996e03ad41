//! [`Intake`] on the file: without a journal the record of an event and its fold are one transaction, so a receipt says at
//! once what became of the event. With a journal, [`Sqlite::fold`] takes many records in one transaction.

use super::{
    attach,
    codes::{Kind, Sinks},
    entries,
    happenings::Noted,
    refused, schema,
    stages::{self, StageRow},
    store::Sqlite,
    tx::{self, Tx},
};
use crate::{
    Error, Folded, Intake, NewEntry, Position, Receipt, Refused, Seq,
    fold::Record,
    seal::{Owner, Seal},
};
use async_trait::async_trait;
use rusqlite::OptionalExtension;
use std::sync::Arc;

#[async_trait]
impl Intake for Sqlite {
    async fn accept(&self, entry: NewEntry) -> Result<Receipt, Error> {
        self.ready()?;
        let (sinks, seal) = (Arc::clone(&self.sinks), Arc::clone(&self.seal));
        let record = Record::new(entry, &self.keys);
        let accepted = self
            .write(move |tx| {
                let position = tx.next_position()?;
                let folded = fold(tx, &record, &sinks, &seal)?;
                note_keys(tx, &seal)?;
                let repeats = matches!(folded, Folded::Duplicate { .. });
                Ok(Receipt { position, folded: Some(folded), repeats })
            })
            .await;
        if matches!(accepted, Err(Error::Full(_))) {
            self.space.note_full();
        }
        accepted
    }

    fn ready(&self) -> Result<(), Error> {
        self.is_sound()?;
        if !self.space.has_room() {
            return Err(Error::Full(None));
        }
        if self.shared.backlog() >= self.max_waiting { Err(Error::Backlog) } else { Ok(()) }
    }

    async fn refuse(&self, refused: Vec<Refused>) -> Result<(), Error> {
        if self.refused == 0 {
            return Ok(());
        }
        // Not through `ready`: a backlog is no reason to look away.
        if !self.space.has_room() {
            return Err(Error::Full(None));
        }
        let (keep, seal) = (self.refused, Arc::clone(&self.seal));
        self.write(move |tx| refused::keep(tx, &refused, keep, &seal)).await
    }
}

impl Sqlite {
    /// Folds records of the journal in one transaction, together with the position that they reach. Says of each record what
    /// became of it; `None`: an earlier transaction had it already, whose answer was lost.
    pub(crate) async fn fold(&self, records: Arc<Vec<(Position, Record)>>) -> Result<Vec<Option<Folded>>, Error> {
        let (sinks, seal) = (Arc::clone(&self.sinks), Arc::clone(&self.seal));
        // Before the transaction, so that the keys of new connections share a commit.
        seal.prepare(records.iter().map(|(_, record)| Owner::of(&record.entry.event)))?;
        self.write(move |tx| {
            let reached = tx.reached()?;
            let mut folded = Vec::with_capacity(records.len());
            for (position, record) in &*records {
                folded.push(if *position > reached { Some(fold(tx, record, &sinks, &seal)?) } else { None });
            }
            if let Some((last, _)) = records.last().filter(|(last, _)| *last > reached) {
                tx.reach(*last);
            }
            note_keys(tx, &seal)?;
            Ok(folded)
        })
        .await
    }

    /// How far the record of accepted events is in the store.
    pub(crate) async fn reached(&self) -> Result<Position, Error> {
        self.read(tx::reached).await
    }
}

/// Notes the newest key that a row may have, so that a keys store that is older than the rows is noticed.
fn note_keys(tx: &Tx<'_>, seal: &Seal) -> rusqlite::Result<()> {
    let Some(file) = seal.keys() else { return Ok(()) };
    let newest = file.newest_made();
    if schema::number(tx.connection, attach::KEYS)?.unwrap_or(0) < newest {
        schema::set_number(tx.connection, attach::KEYS, Some(newest))?;
    }
    Ok(())
}

/// Makes an entry and its stages of a record, unless the same content is there already.
fn fold(tx: &mut Tx<'_>, record: &Record, sinks: &Sinks, seal: &Seal) -> rusqlite::Result<Folded> {
    let content = record.content;
    let known = tx
        .connection
        .prepare_cached(
            "SELECT seq FROM known WHERE id_key = ?1 AND body_key = ?2
             UNION ALL SELECT NULL FROM known WHERE id_key = ?1 LIMIT 1",
        )?
        .query_row([content.id, content.body], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    let conflict = match known {
        Some(Some(seq)) => return Ok(Folded::Duplicate { seq: Seq(seq) }),
        // The id is there, with other content.
        Some(None) => true,
        None => false,
    };
    let seq = entries::insert(tx, record, conflict, seal)?;
    // The constraint decides, and not the look-up: a row that came in between makes this fail, and the whole operation.
    tx.connection.prepare_cached("INSERT INTO known (id_key, body_key, seq) VALUES (?1, ?2, ?3)")?.execute([
        content.id,
        content.body,
        seq,
    ])?;
    tx.touched.happened.push(Noted::accepted(seq, record.entry.received));
    let stage = |kind, progress| StageRow { seq, kind, line: record.line, progress };
    for (fetch, progress) in record.plan.fetches(tx.now) {
        stages::insert(tx, &mut stage(Kind::of_fetch(fetch), progress), true)?;
    }
    for (kind, _) in &sinks.0 {
        stages::insert(tx, &mut stage(*kind, record.plan.delivery(tx.now)), record.plan.is_ready())?;
    }
    Ok(Folded::Stored { seq: Seq(seq), conflict })
}
