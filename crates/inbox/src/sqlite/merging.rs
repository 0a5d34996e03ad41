//! The table `merged`: which entries leave a line as one delivery ([`rules::merging`]), and what is done with all of them at once.
//!
//! A row is written with the first lease of a stage at a sink that merges, also where the stage goes by itself: then it is a group of
//! one. So what was decided once stays, whatever happens to the stage later.

use super::{
    attempts,
    codes::Kind,
    stages::{self, StageRow},
    tx::Tx,
};
use crate::{
    Facts, Merging,
    merging::{Candidate, Likeness},
    rules::{
        self, Progress, Standing,
        merging::{Behind, Gathered, MOST_MERGED},
    },
};
use base::clock::Timestamp;
use rusqlite::{Connection, params};

/// The entries that leave as one delivery with an entry at a kind of stage, itself included, in the order of their line.
pub(super) fn group(connection: &Connection, seq: i64, kind: Kind) -> rusqlite::Result<Vec<i64>> {
    let found: Vec<i64> = connection
        .prepare_cached(
            "SELECT other.seq FROM merged AS own JOIN merged AS other ON other.kind = own.kind AND other.first = own.first
             WHERE own.seq = ?1 AND own.kind = ?2 ORDER BY other.seq",
        )?
        .query_map(params![seq, kind], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(if found.is_empty() { vec![seq] } else { found })
}

/// Takes an entry out of its group, as it goes to another sink by itself.
pub(super) fn leave(connection: &Connection, seq: i64, kind: Kind) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM merged WHERE seq = ?1 AND kind = ?2")?.execute(params![seq, kind])?;
    Ok(())
}

/// The stages of a group that are in line, in order.
pub(super) fn in_line(connection: &Connection, row: &StageRow) -> rusqlite::Result<Vec<i64>> {
    let mut members = group(connection, row.seq, row.kind)?;
    if members.len() > 1 {
        let mut found = Vec::with_capacity(members.len());
        for seq in members {
            let stage = stages::load(connection, seq, row.kind)?;
            found.extend(stage.filter(|stage| stage.progress.standing.is_in_line()).map(|stage| stage.seq));
        }
        members = found;
    }
    Ok(members)
}

/// Decides with which others a stage leaves that is about to be leased, unless that is decided already, and stores it. Returns whether
/// it goes now; if not, it is due later.
pub(super) fn gather(
    tx: &mut Tx<'_>,
    row: &StageRow,
    merging: &Merging,
    facts: impl Fn(i64) -> rusqlite::Result<Facts>,
) -> rusqlite::Result<bool> {
    if !is_fresh(tx.connection, row)? {
        return Ok(true);
    }
    let first = candidate(tx.connection, row.seq)?;
    let followers = stages::behind(tx.connection, row, i64::try_from(MOST_MERGED - 1).unwrap_or(i64::MAX))?;
    let mut behind = Vec::with_capacity(followers.len());
    for follower in &followers {
        behind.push(behind_of(tx.connection, follower, &first.likeness)?);
    }
    let gathered = if first.likeness.is_mergeable() {
        rules::merging::gather(first.accepted, &behind, merging.window, tx.now)
    } else {
        Gathered::Go(0)
    };
    let count = match gathered {
        Gathered::Wait(until) => {
            stages::apply(tx, &mut row.clone(), |progress| progress.wait_until(until))?;
            return Ok(false);
        }
        Gathered::Go(count) => count,
    };
    let is_taken =
        |seq| -> rusqlite::Result<bool> { merging.takes.as_ref().map_or(Ok(true), |takes| Ok(takes(&facts(seq)?))) };
    let mut members = vec![row.seq];
    if count > 0 && is_taken(row.seq)? {
        for follower in followers.iter().take(count) {
            if is_taken(follower.seq)? {
                members.push(follower.seq);
            }
        }
    }
    for seq in members {
        tx.connection
            .prepare_cached("INSERT INTO merged (seq, kind, first) VALUES (?1, ?2, ?3)")?
            .execute(params![seq, row.kind, row.seq])?;
    }
    Ok(true)
}

/// Whether a stage was never tried, and is in no group.
fn is_fresh(connection: &Connection, row: &StageRow) -> rusqlite::Result<bool> {
    if !row.progress.is_untried() {
        return Ok(false);
    }
    connection
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM merged WHERE seq = ?1 AND kind = ?2)
                    AND NOT EXISTS (SELECT 1 FROM attempt WHERE seq = ?1 AND kind = ?2)",
        )?
        .query_row(params![row.seq, row.kind], |row| row.get(0))
}

fn candidate(connection: &Connection, seq: i64) -> rusqlite::Result<Candidate> {
    connection
        .prepare_cached(
            "SELECT resource_type, event_type, connection, user, confirm, accepted FROM entry WHERE seq = ?1",
        )?
        .query_row([seq], |row| {
            let words: [String; 2] = [row.get(0)?, row.get(1)?];
            Ok(Candidate {
                likeness: Likeness {
                    cloud_type: event::cloud_type(&words[0], &words[1]),
                    connection: row.get(2)?,
                    user: row.get(3)?,
                    confirm: row.get(4)?,
                },
                accepted: Timestamp::from_millis(row.get(5)?),
            })
        })
}

fn behind_of(connection: &Connection, row: &StageRow, first: &Likeness) -> rusqlite::Result<Behind> {
    let is_held = stages::held_by(connection, row)?.is_some();
    if row.progress.standing != Standing::Queued || is_held || !is_fresh(connection, row)? {
        return Ok(Behind::Ends);
    }
    let Candidate { likeness, accepted } = candidate(connection, row.seq)?;
    if likeness != *first {
        return Ok(Behind::Ends);
    }
    Ok(Behind::Joins { accepted, is_ready: stages::needs_are_done(connection, row)? })
}

/// Lets the others of a group leave their line as the first one is about to: before it does, so that none of them becomes due.
pub(super) fn follow(tx: &mut Tx<'_>, row: &StageRow, first: &Progress) -> rusqlite::Result<Vec<StageRow>> {
    let mut followed = Vec::new();
    if first.standing.is_in_line() {
        return Ok(followed);
    }
    let now = tx.now;
    for seq in group(tx.connection, row.seq, row.kind)?.into_iter().filter(|seq| *seq != row.seq) {
        let Some(mut other) = stages::load(tx.connection, seq, row.kind)? else { continue };
        if other.progress.standing.is_in_line() {
            stages::apply(tx, &mut other, |progress| progress.follow(first, now))?;
            followed.push(other);
        }
    }
    Ok(followed)
}

/// Does again what was done or parked, with all of its group. Returns whose stages changed.
pub(super) fn requeue(tx: &mut Tx<'_>, row: &StageRow) -> rusqlite::Result<Vec<i64>> {
    each(tx, row, false, stages::requeue)
}

/// Puts a stage back in line because its sink is well again, with all of its group. Returns whose stages changed.
pub(super) fn resume(tx: &mut Tx<'_>, row: &StageRow) -> rusqlite::Result<Vec<i64>> {
    let now = tx.now;
    each(tx, row, false, |tx, row| stages::put_back(tx, row, |progress| progress.resume(now)))
}

/// Takes a stage out of its line because an operator says so, with all of its group. Returns whose stages changed.
pub(super) fn park(tx: &mut Tx<'_>, row: &StageRow, reason: &str) -> rusqlite::Result<Vec<i64>> {
    let now = tx.now;
    each(tx, row, true, |tx, row| {
        stages::apply(tx, row, |progress| progress.park_by_hand(reason, now))?;
        attempts::remember(tx, row.seq, row.kind, &row.progress)
    })
}

/// Changes those stages of a group that are in line, or those that are not. What leaves its line leaves from behind.
fn each(
    tx: &mut Tx<'_>,
    row: &StageRow,
    in_line: bool,
    mut change: impl FnMut(&mut Tx<'_>, &mut StageRow) -> rusqlite::Result<()>,
) -> rusqlite::Result<Vec<i64>> {
    let mut members = group(tx.connection, row.seq, row.kind)?;
    if in_line {
        members.reverse();
    }
    let mut changed = Vec::with_capacity(members.len());
    for seq in members {
        let Some(mut member) = stages::load(tx.connection, seq, row.kind)? else { continue };
        if member.progress.standing.is_in_line() == in_line {
            change(tx, &mut member)?;
            changed.push(seq);
        }
    }
    Ok(changed)
}
