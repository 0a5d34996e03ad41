//! Leases: who works on what, until when; and the lines that keep each connection in order.
//!
//! A stage stands in line behind earlier unfinished entries of its connection (state 0) and becomes due (state 1) when it
//! is first and its completion is no longer unfinished. [`promote`] decides that, and is called whenever a stage leaves a
//! line. An expired lease is simply due again.

use super::{
    reading,
    tally::{COMPLETION, Shared, kind},
    writer::Tx,
};
use crate::inbox::{Certainty, Claimed, Completion, Doubts, EntryFacts, Found, Lease, Outcome, ReadingId, Seq, Stage};
use base::clock::Timestamp;
use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};
use std::{sync::Arc, time::Duration};

/// After this many leases in a row that ended without a word, an entry is parked: it may be what ends the process.
const MAX_LOSSES: u32 = 10;
/// Bodies handed out by one claim, in bytes; at least one entry is handed out.
const CLAIM_BYTES: usize = 8 * 1024 * 1024;

/// Why a sink's stage is parked when its completion is.
pub(super) const fn park_reason_waits() -> &'static str {
    "its accounts could not be fetched: see the completion"
}

/// Leases due stages of a kind.
pub(super) fn claim(
    tx: &mut Tx<'_>,
    stage: Stage,
    limit: usize,
    lease_for: Duration,
    shared: &Arc<Shared>,
) -> rusqlite::Result<Claimed> {
    let (now, kind) = (tx.now, kind(stage));
    let mut found = due(tx, kind, limit)?;
    while prolong_held(tx, kind, &found, lease_for, shared)? {
        found = due(tx, kind, limit)?;
    }
    let mut leases = Vec::with_capacity(found.len());
    let mut bytes = 0;
    for due in found {
        if bytes >= CLAIM_BYTES {
            break;
        }
        let is_expired = due.token.is_some();
        let due = Due { losses: due.losses + u32::from(is_expired), ..due };
        if is_expired && !is_first(tx, due.seq, kind, due.line)? {
            // An earlier entry was replayed while this one was leased: it waits behind that one now.
            put_back(tx, due.seq, kind, now, due.losses)?;
            continue;
        }
        if due.losses >= MAX_LOSSES {
            let reason = format!(
                "the service ended or hung {} times in a row while it worked on this entry: look at the logs of those times before you replay it",
                due.losses
            );
            end(tx, due.seq, kind, 4, Some(&reason))?;
            continue;
        }
        let lease = lease(tx, stage, &due, now.after(lease_for), shared)?;
        bytes += lease.body.len();
        leases.push(lease);
    }
    let next_due = tx
        .connection
        .prepare_cached("SELECT due FROM stage WHERE kind = ?1 AND state IN (1, 2) ORDER BY due LIMIT 1")?
        .query_row([kind], |row| row.get(0).map(Timestamp::from_millis))
        .optional()?;
    Ok(Claimed { leases, next_due })
}

/// A stage that can be leased.
struct Due {
    seq: i64,
    line: i64,
    /// Of a lease that was not settled in time.
    token: Option<i64>,
    /// Leases in a row that ended without a word.
    losses: u32,
    /// Before this lease.
    attempts: u32,
    failing_since: Option<Timestamp>,
    doubts: Doubts,
}

/// The first stages of a kind that are due.
fn due(tx: &Tx<'_>, kind: i64, limit: usize) -> rusqlite::Result<Vec<Due>> {
    tx.connection
        .prepare_cached(
            "SELECT seq, token, losses, line, attempts, failing_since, doubts, doubts_since FROM stage
             WHERE kind = ?1 AND state IN (1, 2) AND due <= ?2 ORDER BY due, seq LIMIT ?3",
        )?
        .query_map(params![kind, tx.now.as_millis(), i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(Due {
                seq: row.get(0)?,
                token: row.get(1)?,
                losses: row.get(2)?,
                line: row.get(3)?,
                attempts: row.get(4)?,
                failing_since: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_millis),
                doubts: Doubts { tries: row.get(6)?, since: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_millis) },
            })
        })?
        .collect()
}

/// Prolongs those of the leases found that have expired although they are worked on here: the process was stopped for a
/// while, or the clock was set. Their work goes on; to give them to others too would do it twice. Returns whether there
/// were any.
fn prolong_held(
    tx: &mut Tx<'_>,
    kind: i64,
    found: &[Due],
    lease_for: Duration,
    shared: &Shared,
) -> rusqlite::Result<bool> {
    let mut any = false;
    for due in found {
        if let Some(token) = due.token.filter(|token| shared.is_held(*token)) {
            // For a moment at least, so that it is not found again.
            renew(tx, &Held { seq: due.seq, kind, token }, lease_for.max(Duration::from_millis(1)))?;
            any = true;
        }
    }
    Ok(any)
}

fn lease(
    tx: &mut Tx<'_>,
    stage: Stage,
    due: &Due,
    expires: Timestamp,
    shared: &Arc<Shared>,
) -> rusqlite::Result<Lease> {
    let kind = kind(stage);
    // Held before the commit: a lease that is in the file belongs to somebody, or its claim was answered with an error.
    let (token, hold) = shared.hold();
    let attempts = due.attempts.saturating_add(1);
    tx.connection
        .prepare_cached(
            "UPDATE stage SET state = 2, due = ?3, token = ?4, attempts = ?5, losses = ?6, changed = ?7
             WHERE seq = ?1 AND kind = ?2",
        )?
        .execute(params![due.seq, kind, expires.as_millis(), token, attempts, due.losses, tx.now.as_millis()])?;
    let (entry, body) = tx
        .connection
        .prepare_cached(
            "SELECT event.id, coalesce(delivery_id, event.id), cloud_type, event.connection, event.user, channel, mode,
                    created, accepted, account_count, listed, body, completion.seq IS NOT NULL, completion.reading,
                    reading.accounts, reading.certainty, confirm
             FROM event LEFT JOIN completion USING (seq) LEFT JOIN reading ON reading.id = completion.reading WHERE seq = ?1",
        )?
        .query_row([due.seq], entry_facts)?;
    Ok(Lease {
        seq: Seq(due.seq),
        stage,
        token,
        expires,
        attempts,
        failing_since: due.failing_since,
        doubts: due.doubts,
        entry: Arc::new(entry),
        body,
        _hold: hold,
    })
}

fn entry_facts(row: &Row<'_>) -> rusqlite::Result<(EntryFacts, Bytes)> {
    let count = |index: usize| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(index)?.and_then(|count| u64::try_from(count).ok()))
    };
    let completion = match (row.get(12)?, row.get::<_, Option<i64>>(13)?) {
        (false, _) => None,
        (true, None) => Some(Completion::Gone),
        (true, Some(reading)) => {
            let found = reading::found(row, 14)?.unwrap_or(Found { accounts: 0, certainty: Certainty::Unsettled });
            Some(Completion::Fetched { reading: ReadingId(reading), found })
        }
    };
    Ok((
        EntryFacts {
            event_id: row.get(0)?,
            delivery_id: row.get(1)?,
            cloud_type: row.get(2)?,
            connection: row.get(3)?,
            user: row.get(4)?,
            channel: row.get(5)?,
            mode: row.get(6)?,
            created: row.get(7)?,
            accepted: Timestamp::from_millis(row.get(8)?),
            account_count: count(9)?,
            listed: count(10)?.unwrap_or(0),
            confirm: row.get(16)?,
            completion,
        },
        Bytes::from(row.get::<_, Vec<u8>>(11)?),
    ))
}

/// A lease as the store knows it.
pub(super) struct Held {
    pub(super) seq: i64,
    pub(super) kind: i64,
    pub(super) token: i64,
}

/// Whether nobody else was given the work meanwhile.
pub(super) fn is_held(tx: &Tx<'_>, held: &Held) -> rusqlite::Result<bool> {
    tx.connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM stage WHERE seq = ?1 AND kind = ?2 AND state = 2 AND token = ?3)",
        )?
        .query_row([held.seq, held.kind, held.token], |row| row.get(0))
}

/// Prolongs a lease that is held.
pub(super) fn renew(tx: &mut Tx<'_>, held: &Held, lease_for: Duration) -> rusqlite::Result<()> {
    tx.connection.prepare_cached("UPDATE stage SET due = ?3 WHERE seq = ?1 AND kind = ?2")?.execute([
        held.seq,
        held.kind,
        tx.now.after(lease_for).as_millis(),
    ])?;
    Ok(())
}

/// Ends a lease that is held.
pub(super) fn settle(tx: &mut Tx<'_>, held: &Held, outcome: &Outcome) -> rusqlite::Result<()> {
    let (seq, kind) = (held.seq, held.kind);
    match outcome {
        Outcome::Done => end(tx, seq, kind, 3, None)?,
        Outcome::Completed { reading, found } => {
            reading::finish(tx, *reading, *found)?;
            reading::completed(tx, seq, Some(reading.0))?;
            end(tx, seq, kind, 3, None)?;
        }
        Outcome::Gone => {
            reading::completed(tx, seq, None)?;
            end(tx, seq, kind, 3, Some("the API does not know the connection any more"))?;
        }
        Outcome::Park { reason } => end(tx, seq, kind, 4, Some(reason))?,
        Outcome::ParkUntil { reason, credentials } => {
            end(tx, seq, kind, 4, Some(reason))?;
            tx.connection
                .prepare_cached("UPDATE stage SET credentials = ?3 WHERE seq = ?1 AND kind = ?2")?
                .execute(params![seq, kind, credentials])?;
        }
        Outcome::Retry { due, reason, is_doubtful } => {
            tx.connection
                .prepare_cached(
                    "UPDATE stage SET reason = ?3, changed = ?4, failing_since = coalesce(failing_since, ?4),
                                      doubts = iif(?5, doubts + 1, 0), doubts_since = iif(?5, coalesce(doubts_since, ?4), NULL)
                     WHERE seq = ?1 AND kind = ?2",
                )?
                .execute(params![seq, kind, reason, tx.now.as_millis(), is_doubtful])?;
            put_back(tx, seq, kind, *due, 0)?;
        }
        Outcome::Postpone { due, reason } => {
            tx.connection
                .prepare_cached("UPDATE stage SET reason = ?3 WHERE seq = ?1 AND kind = ?2")?
                .execute(params![seq, kind, reason])?;
            give_back(tx, seq, kind, *due)?;
        }
        Outcome::GiveBack => give_back(tx, seq, kind, tx.now)?,
    }
    Ok(())
}

/// Ends a lease as if it had never been given out.
fn give_back(tx: &mut Tx<'_>, seq: i64, kind: i64, due: Timestamp) -> rusqlite::Result<()> {
    tx.connection
        .prepare_cached("UPDATE stage SET attempts = max(attempts - 1, 0), changed = ?3 WHERE seq = ?1 AND kind = ?2")?
        .execute(params![seq, kind, tx.now.as_millis()])?;
    put_back(tx, seq, kind, due, 0)
}

/// Ends a lease without ending the stage: due at a time where it is first in its line, else queued.
fn put_back(tx: &mut Tx<'_>, seq: i64, kind: i64, due: Timestamp, losses: u32) -> rusqlite::Result<()> {
    let line: i64 = tx
        .connection
        .prepare_cached(
            "UPDATE stage SET state = 0, due = ?3, token = NULL, losses = ?4 WHERE seq = ?1 AND kind = ?2 RETURNING line",
        )?
        .query_row(params![seq, kind, due.as_millis(), losses], |row| row.get(0))?;
    if is_first(tx, seq, kind, line)? {
        tx.connection
            .prepare_cached("UPDATE stage SET state = 1 WHERE seq = ?1 AND kind = ?2")?
            .execute([seq, kind])?;
        tx.touched.due(kind);
    }
    Ok(())
}

/// Whether no earlier entry of the line is unfinished.
fn is_first(tx: &Tx<'_>, seq: i64, kind: i64, line: i64) -> rusqlite::Result<bool> {
    tx.connection
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM stage WHERE kind = ?1 AND line = ?2 AND state IN (0, 1, 2) AND seq < ?3)",
        )?
        .query_row([kind, line, seq], |row| row.get(0))
}

/// Takes an unfinished stage out of its line (state 3 or 4) and lets the next one move up.
pub(super) fn end(tx: &mut Tx<'_>, seq: i64, kind: i64, state: i64, reason: Option<&str>) -> rusqlite::Result<()> {
    let line: i64 = tx
        .connection
        .prepare_cached("SELECT line FROM stage WHERE seq = ?1 AND kind = ?2")?
        .query_row([seq, kind], |row| row.get(0))?;
    tx.connection
        .prepare_cached(
            "UPDATE stage SET state = ?3, reason = ?4, token = NULL, losses = 0, failing_since = NULL, doubts = 0,
                              doubts_since = NULL, changed = ?5
             WHERE seq = ?1 AND kind = ?2",
        )?
        .execute(params![seq, kind, state, reason, tx.now.as_millis()])?;
    tx.touched.unfinished(kind, -1);
    promote(tx, kind, line)?;
    if kind == COMPLETION {
        // A list that was begun and is not gone on with holds bank data for nothing.
        reading::drop_open(tx, seq)?;
        let sinks: Vec<i64> = tx
            .connection
            .prepare_cached("SELECT kind FROM stage WHERE seq = ?1 AND kind <> 0 AND state = 0")?
            .query_map([seq], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for sink in sinks {
            if state == 4 {
                end(tx, seq, sink, 4, Some(park_reason_waits()))?;
            } else {
                promote(tx, sink, line)?;
            }
        }
    }
    Ok(())
}

/// Makes the first stage of a line due, if it is queued and its completion is not unfinished.
pub(super) fn promote(tx: &mut Tx<'_>, kind: i64, line: i64) -> rusqlite::Result<()> {
    let first: Option<(i64, i64)> = tx
        .connection
        .prepare_cached(
            "SELECT seq, state FROM stage WHERE kind = ?1 AND line = ?2 AND state IN (0, 1, 2) ORDER BY seq LIMIT 1",
        )?
        .query_row([kind, line], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((seq, 0)) = first else { return Ok(()) };
    if kind != COMPLETION {
        let incomplete: bool = tx
            .connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM stage WHERE seq = ?1 AND kind = 0 AND state <> 3)")?
            .query_row([seq], |row| row.get(0))?;
        if incomplete {
            return Ok(());
        }
    }
    tx.connection
        .prepare_cached("UPDATE stage SET state = 1, due = ?3 WHERE seq = ?1 AND kind = ?2")?
        .execute(params![seq, kind, tx.now.as_millis()])?;
    tx.touched.due(kind);
    Ok(())
}

/// Gives back the leases that are in the file and that nobody holds: a commit that was answered with an error may be
/// there all the same.
pub(super) fn give_back_unheld(tx: &mut Tx<'_>, shared: &Shared) -> rusqlite::Result<()> {
    let leased: Vec<(i64, i64, i64)> = tx
        .connection
        .prepare("SELECT seq, kind, token FROM stage INDEXED BY stage_due WHERE state IN (1, 2) AND state = 2")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (seq, kind, _) in leased.into_iter().filter(|(_, _, token)| !shared.is_held(*token)) {
        give_back(tx, seq, kind, tx.now)?;
    }
    Ok(())
}

/// Ends every lease: nobody can hold one when the owner has just opened the store. Returns how many there were.
pub(super) fn end_all(tx: &mut Tx<'_>) -> rusqlite::Result<usize> {
    let leased: Vec<(i64, i64, u32)> = tx
        .connection
        .prepare("SELECT seq, kind, losses FROM stage INDEXED BY stage_due WHERE state IN (1, 2) AND state = 2")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (seq, kind, losses) in &leased {
        put_back(tx, *seq, *kind, tx.now, losses + 1)?;
    }
    Ok(leased.len())
}
