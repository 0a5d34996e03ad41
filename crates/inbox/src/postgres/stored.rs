//! What work needs of entries: their facts, and their bodies, compared with what was accepted.

use super::{
    codes,
    store::Core,
    tx::{Statement, Trouble, statement},
    vault::Opening,
};
use crate::{
    AsOf, DeliveryId, Facts, Fetched, Found, ReadingId, Seq, TraceParent,
    kind::Kind,
    merging::unite,
    seal::{Flaw, NO_KEY, Owner, Place},
};
use base::clock::Timestamp;
use bytes::Bytes;
use event::{ChannelDefinitionId, ConnectionId, EventId, UserId};
use std::collections::HashMap;
use tokio_postgres::Row;

/// Why an entry is parked whose body does not have the digest that it was stored with.
const DAMAGED: &str = "the stored event is not the one that was accepted: the database or its disk is damaged; restore it from a \
                       backup, then replay the entry";

/// See the head of this file.
pub(super) struct Stored {
    pub(super) entry: Facts,
    /// The body that was accepted, or why it is not to be had.
    pub(super) body: Result<Bytes, &'static str>,
    /// Whether the same sink was given something newer of the same connection and channel.
    pub(super) is_stale: bool,
    /// Whether that holds for every event that leaves with it.
    pub(super) is_no_news: bool,
}

/// The query for some entries, each with its line, at one kind of stage; also for those that leave as one delivery with them. Those are
/// looked for entry by entry (`OFFSET 0`), and the state of each is a value: a planner may otherwise read all that waits first.
pub(super) fn select(at: &[(i64, i64)], kind: Kind) -> Statement {
    statement!(
        "SELECT n.seq AS first, entry.*, body.bytes, fetched.seq IS NOT NULL AS is_fetched, fetched.reading, fetched.snapshot, reading.accounts,
                reading.certainty, reading.unusable, delivered.as_of AS delivered, delivered.seq AS delivered_seq
         FROM unnest($1::bigint[], $2::bigint[]) AS n (seq, line)
              LEFT JOIN LATERAL (
                  SELECT other.seq FROM merged AS own JOIN merged AS other ON other.kind = own.kind AND other.first = own.first
                  WHERE own.seq = n.seq AND own.kind = $3
                        AND (SELECT state FROM stage WHERE stage.seq = other.seq AND stage.kind = other.kind) IN ('queued', 'due', 'leased')
                  OFFSET 0) AS member ON true
              JOIN entry ON entry.seq = coalesce(member.seq, n.seq) JOIN body ON body.seq = entry.seq
              LEFT JOIN fetched ON fetched.seq = entry.seq AND fetched.kind = 0
              LEFT JOIN reading ON reading.id = fetched.reading
              LEFT JOIN delivered ON delivered.kind = $3 AND delivered.line = n.line AND delivered.channel = coalesce(entry.channel, '')
         ORDER BY entry.seq",
        at.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
        at.iter().map(|(_, line)| *line).collect::<Vec<_>>(),
        kind.0,
    )
}

/// Reads the rows of [`select`]: for each entry that was asked for, what is known of its delivery.
pub(super) async fn read(core: &Core, rows: &[Row], now: Timestamp) -> Result<HashMap<i64, Stored>, Trouble> {
    let opening = core.vault.opening(codes::keys(rows)?).await?;
    let mut found: HashMap<i64, Vec<(Seq, Stored)>> = HashMap::with_capacity(rows.len());
    for row in rows {
        let seq = Seq(row.try_get("seq")?);
        let entry = facts(core, row)?;
        let owner = Owner::of_ids(&entry.connection, entry.user.as_ref());
        let body = whole_body(row, &opening, Place::Body(seq.0), &owner)?;
        let is_stale = match codes::time(row, "delivered")? {
            Some(at) => {
                let delivered = AsOf::of(core.clock.local(at), row.try_get("delivered_seq")?);
                entry.as_of.is_late_behind(delivered, core.clock.local(now))
            }
            None => false,
        };
        let stored = Stored { entry, body, is_stale, is_no_news: is_stale };
        found.entry(row.try_get("first")?).or_default().push((seq, stored));
    }
    Ok(found.into_iter().filter_map(|(first, members)| Some((first, united(members)?))).collect())
}

/// The facts alone, by entry: no body is opened.
pub(super) fn facts_of(core: &Core, rows: &[Row]) -> Result<HashMap<i64, Facts>, Trouble> {
    rows.iter().map(|row| Ok((row.try_get("seq")?, facts(core, row)?))).collect()
}

/// One delivery of all of these.
fn united(mut members: Vec<(Seq, Stored)>) -> Option<Stored> {
    let facts: Vec<(Seq, &Facts)> = members.iter().map(|(seq, stored)| (*seq, &stored.entry)).collect();
    let (newest, entry) = unite(&facts)?;
    let is_no_news = members.iter().all(|(_, stored)| stored.is_stale);
    let (_, stored) = members.swap_remove(newest);
    Some(Stored { entry, is_no_news, ..stored })
}

/// The body, compared with what was accepted.
fn whole_body(
    row: &Row,
    opening: &Opening,
    place: Place,
    owner: &Owner,
) -> Result<Result<Bytes, &'static str>, Trouble> {
    let (stored, key, accepted): (_, _, &[u8]) = (row.try_get("bytes")?, row.try_get("key")?, row.try_get("digest")?);
    let opened = opening.open(key, owner, place, stored);
    match opened.and_then(|body| Ok((opening.digest(key, &body)? == *accepted, body))) {
        Ok((true, body)) => Ok(Ok(body)),
        Ok((false, _)) | Err(Flaw::Changed) => Ok(Err(DAMAGED)),
        Err(Flaw::Missing | Flaw::Erased) => Ok(Err(NO_KEY)),
        Err(other) => Err(other.into()),
    }
}

fn facts(core: &Core, row: &Row) -> Result<Facts, Trouble> {
    let fetched = match (row.try_get("is_fetched")?, row.try_get::<_, Option<i64>>("reading")?) {
        (false, _) => None,
        (true, None) => Some(Fetched::Gone),
        (true, Some(reading)) => {
            let certainty = codes::certainty(row.try_get("certainty")?);
            let accounts = codes::unsigned(row, "accounts")?.unwrap_or(0);
            let unusable = codes::unsigned(row, "unusable")?.unwrap_or(0);
            Some(Fetched::Read { reading: ReadingId(reading), found: Found { accounts, unusable, certainty } })
        }
    };
    let accepted = core.clock.local(codes::time(row, "accepted")?.unwrap_or_default());
    let event_id = codes::read(row, "id")?;
    Ok(Facts {
        delivery_id: DeliveryId::new(codes::read_maybe(row, "delivery_id")?.unwrap_or_else(|| event_id.clone())),
        event_id: EventId::new(event_id),
        event_type: codes::read(row, "event_type")?,
        resource_type: codes::read(row, "resource_type")?,
        connection: ConnectionId::new(codes::read(row, "connection")?),
        user: codes::read_maybe(row, "user")?.map(UserId::new),
        channel: codes::read_maybe(row, "channel")?.map(ChannelDefinitionId::new),
        mode: codes::read_maybe(row, "mode")?,
        status: codes::read_maybe(row, "status")?,
        provider: codes::read_maybe(row, "provider")?,
        new_transactions: row.try_get("new_transactions")?,
        created: row.try_get("created")?,
        accepted,
        account_count: codes::unsigned(row, "account_count")?,
        listed: codes::unsigned(row, "listed")?.unwrap_or(0),
        confirm: row.try_get("confirm")?,
        trace: codes::read_maybe(row, "trace")?.and_then(|text| TraceParent::parse(&text)),
        fetched,
        as_of: match codes::time(row, "snapshot")? {
            Some(snapshot) => AsOf { at: core.clock.local(snapshot), listed_by: None },
            None => AsOf { at: accepted, listed_by: Some(Seq(row.try_get("seq")?)) },
        },
        merged: Vec::new(),
    })
}
