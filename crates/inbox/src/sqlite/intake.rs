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
    fold::{ContentKey, Record},
    seal::{Owner, Seal},
};
use async_trait::async_trait;
use rusqlite::OptionalExtension;
use std::{collections::BTreeMap, sync::Arc};

#[async_trait]
impl Intake for Sqlite {
    async fn accept(&self, entry: NewEntry) -> Result<Receipt, Error> {
        self.ready()?;
        let (sinks, seal) = (Arc::clone(&self.sinks), Arc::clone(&self.seal));
        let record = Record::new(entry, &self.keys);
        let accepted = self
            .write(move |tx| {
                let position = tx.next_position()?;
                let mut contents = Contents::default();
                let folded = fold(tx, &record, &mut contents, &sinks, &seal)?;
                contents.store(tx)?;
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
            let (mut folded, mut contents) = (Vec::with_capacity(records.len()), Contents::default());
            for (position, record) in &*records {
                let is_new = *position > reached;
                folded.push(is_new.then(|| fold(tx, record, &mut contents, &sinks, &seal)).transpose()?);
            }
            contents.store(tx)?;
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

/// Entries that a transaction adds, by their content, in the order of the table `known`, in which they are not yet.
#[derive(Default)]
struct Contents(BTreeMap<ContentKey, i64>);

impl Contents {
    /// What is known of a content: its entry, or that its id came with another content.
    fn find(&self, tx: &Tx<'_>, content: ContentKey) -> rusqlite::Result<Known> {
        if let Some(seq) = self.0.get(&content) {
            return Ok(Known::As(Seq(*seq)));
        }
        let stored = tx
            .connection
            .prepare_cached(
                "SELECT seq FROM known WHERE id_key = ?1 AND body_key = ?2
                 UNION ALL SELECT NULL FROM known WHERE id_key = ?1 LIMIT 1",
            )?
            .query_row([content.id, content.body], |row| row.get::<_, Option<i64>>(0))
            .optional()?;
        Ok(match stored {
            Some(Some(seq)) => Known::As(Seq(seq)),
            Some(None) => Known::Id,
            None if self.has_id(content.id) => Known::Id,
            None => Known::Not,
        })
    }

    fn has_id(&self, id: i64) -> bool {
        let any = ContentKey { id, body: i64::MIN }..=ContentKey { id, body: i64::MAX };
        self.0.range(any).next().is_some()
    }

    fn add(&mut self, content: ContentKey, seq: i64) {
        self.0.insert(content, seq);
    }

    /// Stores them in the order of the index: keys of many contents lie anywhere in it, and each page is then found once.
    fn store(self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        // The constraint decides, and not the look-up: a row that came in between makes this fail, and the whole operation.
        let mut insert =
            tx.connection.prepare_cached("INSERT INTO known (id_key, body_key, seq) VALUES (?1, ?2, ?3)")?;
        self.0.into_iter().try_for_each(|(content, seq)| insert.execute([content.id, content.body, seq]).map(drop))
    }
}

/// What is known of a content.
enum Known {
    /// It is stored, as this entry.
    As(Seq),
    /// Its id is there, with another content.
    Id,
    Not,
}

/// Makes an entry and its stages of a record, unless the same content is there already.
fn fold(
    tx: &mut Tx<'_>,
    record: &Record,
    contents: &mut Contents,
    sinks: &Sinks,
    seal: &Seal,
) -> rusqlite::Result<Folded> {
    let content = record.content;
    let conflict = match contents.find(tx, content)? {
        Known::As(seq) => return Ok(Folded::Duplicate { seq }),
        Known::Id => true,
        Known::Not => false,
    };
    let seq = entries::insert(tx, record, conflict, seal)?;
    contents.add(content, seq);
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
