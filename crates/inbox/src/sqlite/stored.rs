//! What work needs of entries: their facts, and their bodies, compared with what was accepted.

use super::{
    codes::{Kind, unsigned},
    merging, readings,
    stages::StageRow,
};
use crate::{
    Certainty, DeliveryId, Facts, Fetched, Found, ReadingId, Seq, TraceParent,
    merging::unite,
    seal::{Flaw, NO_KEY, Owner, Place, Seal},
};
use base::clock::Timestamp;
use bytes::Bytes;
use event::{ChannelDefinitionId, ConnectionId, EventId, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Why an entry is parked whose body does not have the digest that it was stored with.
const DAMAGED: &str = "the stored event is not the one that was accepted: the inbox's file or its disk is damaged; restore \
                       the file from a backup, then replay the entry";

/// What work needs of an entry.
pub(super) struct Stored {
    pub(super) entry: Facts,
    /// The body that was accepted, or why it is not to be had.
    pub(super) body: Result<Bytes, &'static str>,
    /// For which time the newest accounts hold that the same sink was given of the same connection and channel.
    pub(super) delivered: Option<Timestamp>,
    /// Whether it was decided with which others it leaves.
    is_grouped: bool,
}

/// The facts of an entry, for who looks on.
pub(super) fn facts(connection: &Connection, seq: i64, seal: &Seal) -> rusqlite::Result<Option<Facts>> {
    // Of no stage, and no line: nothing was delivered there.
    Ok(alone(connection, (seq, Kind(i64::MIN), 0), seal).optional()?.map(|stored| stored.entry))
}

/// What work needs of the entries that leave together with a stage: one delivery.
pub(super) fn together(connection: &Connection, row: &StageRow, seal: &Seal) -> rusqlite::Result<Stored> {
    let own = alone(connection, (row.seq, row.kind, row.line), seal)?;
    if !own.is_grouped {
        return Ok(own);
    }
    let members = merging::in_line(connection, row)?;
    let mut found = Vec::with_capacity(members.len());
    for seq in members {
        found.push((Seq(seq), alone(connection, (seq, row.kind, row.line), seal)?));
    }
    let facts: Vec<(Seq, &Facts)> = found.iter().map(|(seq, stored)| (*seq, &stored.entry)).collect();
    let Some((newest, entry)) = unite(&facts) else { return Ok(own) };
    let (_, stored) = found.swap_remove(newest);
    Ok(Stored { entry, ..stored })
}

/// What work at a kind of stage needs of an entry, whose connection has this line.
pub(super) fn alone(
    connection: &Connection,
    (seq, kind, line): (i64, Kind, i64),
    seal: &Seal,
) -> rusqlite::Result<Stored> {
    connection
        .prepare_cached(
            "SELECT entry.id, coalesce(delivery_id, entry.id), event_type, resource_type, entry.connection, entry.user, channel,
                    mode, created, accepted, account_count, listed, confirm, trace, body.bytes,
                    fetched.seq IS NOT NULL, fetched.reading, reading.accounts, reading.certainty, reading.unusable, digest,
                    fetched.snapshot,
                    (SELECT as_of FROM delivered WHERE kind = ?3 AND line = ?4 AND delivered.channel = coalesce(entry.channel, '')),
                    entry.key, entry.status, entry.provider, entry.new_transactions,
                    EXISTS (SELECT 1 FROM merged WHERE merged.seq = ?1 AND merged.kind = ?3)
             FROM entry JOIN body USING (seq)
                  LEFT JOIN fetched ON fetched.seq = entry.seq AND fetched.kind = ?2
                  LEFT JOIN reading ON reading.id = fetched.reading
             WHERE entry.seq = ?1",
        )?
        .query_row(params![seq, Kind::of_fetch(crate::Fetch::Accounts), kind, line], |row| read_stored(row, seq, seal))
}

fn read_stored(row: &Row<'_>, seq: i64, seal: &Seal) -> rusqlite::Result<Stored> {
    let fetched = match (row.get(15)?, row.get::<_, Option<i64>>(16)?) {
        (false, _) => None,
        (true, None) => Some(Fetched::Gone),
        (true, Some(reading)) => {
            let found = readings::found(row, 17)?.unwrap_or(Found {
                accounts: 0,
                unusable: 0,
                certainty: Certainty::Unsettled,
            });
            Some(Fetched::Read { reading: ReadingId(reading), found })
        }
    };
    let time = |index| row.get::<_, Option<i64>>(index).map(|millis| millis.map(Timestamp::from_millis));
    let accepted = Timestamp::from_millis(row.get(9)?);
    let entry = Facts {
        event_id: EventId::new(row.get::<_, String>(0)?),
        delivery_id: DeliveryId::new(row.get::<_, String>(1)?),
        event_type: row.get(2)?,
        resource_type: row.get(3)?,
        connection: ConnectionId::new(row.get::<_, String>(4)?),
        user: row.get::<_, Option<String>>(5)?.map(UserId::new),
        channel: row.get::<_, Option<String>>(6)?.map(ChannelDefinitionId::new),
        mode: row.get(7)?,
        status: row.get(24)?,
        provider: row.get(25)?,
        new_transactions: row.get(26)?,
        created: row.get(8)?,
        accepted,
        account_count: unsigned(row, 10)?,
        listed: unsigned(row, 11)?.unwrap_or(0),
        confirm: row.get(12)?,
        trace: row.get::<_, Option<String>>(13)?.and_then(|text| TraceParent::parse(&text)),
        fetched,
        as_of: time(21)?.unwrap_or(accepted),
        merged: Vec::new(),
    };
    let body = whole_body(row, seal, Place::Body(seq), &Owner::of_ids(&entry.connection, entry.user.as_ref()))?;
    Ok(Stored { entry, body, delivered: time(22)?, is_grouped: row.get(27)? })
}

/// The body, compared with what was accepted.
fn whole_body(
    row: &Row<'_>,
    seal: &Seal,
    place: Place,
    owner: &Owner,
) -> rusqlite::Result<Result<Bytes, &'static str>> {
    let (stored, accepted, key) = (row.get(14)?, row.get::<_, [u8; 32]>(20)?, row.get(23)?);
    let opened = seal.open(key, owner, place, stored).and_then(|body| Ok((seal.digest(key, &body)? == accepted, body)));
    match opened {
        Ok((true, body)) => Ok(Ok(body)),
        Ok((false, _)) | Err(Flaw::Changed) => Ok(Err(DAMAGED)),
        Err(Flaw::Missing | Flaw::Erased) => Ok(Err(NO_KEY)),
        Err(other) => Err(other.into()),
    }
}
