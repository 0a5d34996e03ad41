//! The table `stage`: loads a stage, applies a rule to it, stores it, and does what follows for its line and its entry.

use super::{
    attempts,
    codes::{self, Kind},
    happenings::Noted,
    readings,
    shared::Shared,
    tx::Tx,
};
use crate::{
    Doubts, Fetch, Outcome, Stage, Token,
    rules::{self, Follows, Progress, Standing},
};
use base::clock::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

/// A stage as it is stored.
#[derive(Clone, Debug)]
pub(super) struct StageRow {
    pub(super) seq: i64,
    pub(super) kind: Kind,
    /// Which line it stands in. Its place there is the number of its entry, as one writer gives the numbers away.
    pub(super) line: i64,
    pub(super) progress: Progress,
}

/// A query of stages by what stands behind `FROM stage`; its columns are what [`read`] reads, in its order.
macro_rules! select {
    ($($rest:tt)+) => {
        concat!(
            "SELECT seq, kind, line, state, due, attempts, losses, token, failing_since, doubts, doubts_since, changed,
                    reason, cause, credentials, resumed
             FROM stage ",
            $($rest)+
        )
    };
}

/// A condition: a parked stage in front of the entry `$seq` holds up line ?2 of kind ?1, whose sink keeps strict order.
macro_rules! is_held_up {
    ($seq:literal) => {
        concat!(
            "(EXISTS (SELECT 1 FROM sink WHERE id = ?1 AND strict = 1)
              AND EXISTS (SELECT 1 FROM stage AS before INDEXED BY stage_parked
                          WHERE before.kind = ?1 AND before.line = ?2 AND before.state = 'parked' AND before.seq < ",
            $seq,
            "))"
        )
    };
}

fn read(row: &Row<'_>) -> rusqlite::Result<StageRow> {
    let time = |index| row.get::<_, Option<i64>>(index).map(|millis| millis.map(Timestamp::from_millis));
    Ok(StageRow {
        seq: row.get(0)?,
        kind: row.get(1)?,
        line: row.get(2)?,
        progress: Progress {
            standing: row.get(3)?,
            due: Timestamp::from_millis(row.get(4)?),
            attempts: row.get(5)?,
            losses: row.get(6)?,
            token: row.get::<_, Option<i64>>(7)?.map(Token),
            failing_since: time(8)?,
            doubts: Doubts { tries: row.get(9)?, since: time(10)? },
            changed: Timestamp::from_millis(row.get(11)?),
            reason: row.get(12)?,
            cause: codes::cause(row, 13, 14)?,
            resumed: time(15)?,
        },
    })
}

/// Rows of a [`select!`].
fn query(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<Vec<StageRow>> {
    connection.prepare_cached(sql)?.query_map(values, read)?.collect()
}

/// The stage of an entry.
pub(super) fn load(connection: &Connection, seq: i64, kind: Kind) -> rusqlite::Result<Option<StageRow>> {
    Ok(query(connection, select!("WHERE seq = ?1 AND kind = ?2"), params![seq, kind])?.pop())
}

/// The stage of an entry, if it is leased under this token.
pub(super) fn load_held(
    connection: &Connection,
    seq: i64,
    kind: Kind,
    token: Token,
) -> rusqlite::Result<Option<StageRow>> {
    Ok(load(connection, seq, kind)?.filter(|row| row.progress.is_held_by(token)))
}

/// Every stage of an entry, fetches first.
pub(super) fn of_entry(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<StageRow>> {
    query(connection, select!("WHERE seq = ?1 ORDER BY kind"), [seq])
}

/// The fetches of an entry that the end of a delivery puts back in line.
pub(super) fn to_fetch_again(connection: &Connection, seq: i64, outcome: &Outcome) -> rusqlite::Result<Vec<StageRow>> {
    // Nearly every delivery ends otherwise.
    if *outcome != Outcome::Unfetched {
        return Ok(Vec::new());
    }
    let mut found = of_entry(connection, seq)?;
    found.retain(|row| row.kind.is_fetch() && rules::fetches_again(outcome, row.progress.standing));
    Ok(found)
}

/// Stages of a kind that can be leased at a time, the longest due first; at the end those whose due time is too far ahead to be
/// meant ([`rules::LONGEST_PAUSE`]).
pub(super) fn due(
    connection: &Connection,
    kind: Kind,
    now: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<StageRow>> {
    let at_most = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
    let mut found = query(
        connection,
        select!("WHERE kind = ?1 AND state IN ('due', 'leased') AND due <= ?2 ORDER BY due, seq LIMIT ?3"),
        params![kind, now.as_millis(), at_most(limit)],
    )?;
    if found.len() < limit {
        let far = now.after(rules::LONGEST_PAUSE).as_millis();
        found.extend(query(
            connection,
            select!("WHERE kind = ?1 AND state IN ('due', 'leased') AND due > ?2 ORDER BY due, seq LIMIT ?3"),
            params![kind, far, at_most(limit - found.len())],
        )?);
    }
    Ok(found)
}

/// When the next stage of a kind can be leased.
pub(super) fn next_due(connection: &Connection, kind: Kind) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached("SELECT due FROM stage WHERE kind = ?1 AND state IN ('due', 'leased') ORDER BY due LIMIT 1")?
        .query_row(params![kind], |row| row.get(0).map(Timestamp::from_millis))
        .optional()
}

/// Stages of a sink that were parked because of its trouble and have not gone back in line by themselves since then, the
/// oldest first.
pub(super) fn resumable(
    connection: &Connection,
    kind: Kind,
    before: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<StageRow>> {
    query(
        connection,
        select!(
            "INDEXED BY stage_resumable
             WHERE kind = ?1 AND state = 'parked' AND cause IN ('outage', 'gave_up') AND (resumed IS NULL OR resumed <= ?2)
             ORDER BY seq LIMIT ?3"
        ),
        params![kind, before.as_millis(), i64::try_from(limit).unwrap_or(i64::MAX)],
    )
}

/// Every leased stage.
pub(super) fn leased(connection: &Connection) -> rusqlite::Result<Vec<StageRow>> {
    query(connection, select!("INDEXED BY stage_due WHERE state IN ('due', 'leased') AND state = 'leased'"), [])
}

/// Applies a rule to a stage that is stored, and does what follows: the stage stands in its line again, or it has left it,
/// and then the next one of the line, and the stages that need this one, move.
pub(super) fn apply(tx: &mut Tx<'_>, row: &mut StageRow, rule: impl FnOnce(&mut Progress)) -> rusqlite::Result<()> {
    let before = row.progress.clone();
    let was = before.standing;
    rule(&mut row.progress);
    stand(tx.connection, row)?;
    store(tx, row, &before)?;
    if was != Standing::Parked && row.progress.standing == Standing::Parked {
        note_parked(tx, row);
    }
    if rules::frees(was, row.progress.standing) {
        move_up(tx, row.kind, row.line)?;
        if was.is_in_line() && row.kind.is_fetch() {
            // A list that was begun and will not be finished would hold bank data for no use.
            readings::drop_open(tx, row.seq)?;
            dependents(tx, row)?;
        }
    }
    Ok(())
}

/// Adds a stage. One that begins in line is due where it is first and its needs are done, else queued. A stage that begins
/// parked is stored as it is.
pub(super) fn insert(tx: &mut Tx<'_>, row: &mut StageRow, needs_are_done: bool) -> rusqlite::Result<()> {
    if row.progress.standing == Standing::Queued && needs_are_done {
        let is_first = is_first(tx.connection, row)?;
        row.progress.stand(is_first, true);
    }
    tx.connection
        .prepare_cached(
            "INSERT INTO stage (seq, kind, line, state, due, changed, cause, reason, ended)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            row.seq,
            row.kind,
            row.line,
            row.progress.standing,
            row.progress.due.as_millis(),
            row.progress.changed.as_millis(),
            row.progress.cause.as_ref().map(crate::Cause::as_str),
            row.progress.reason,
            !row.progress.standing.is_in_line(),
        ])?;
    count(tx, row, Standing::Done);
    if row.progress.standing == Standing::Parked {
        note_parked(tx, row);
    }
    Ok(())
}

/// Does again what was done or parked; later ones of the line wait for it again.
pub(super) fn requeue(tx: &mut Tx<'_>, row: &mut StageRow) -> rusqlite::Result<()> {
    let now = tx.now;
    if row.progress.standing == Standing::Done {
        // A failed attempt was noted when it ended. A success was not, and the replay would wipe it out.
        attempts::remember(tx, row.seq, row.kind, &row.progress)?;
    }
    put_back(tx, row, |progress| progress.requeue(now))
}

/// Puts a stage that has left its line back in it, as a rule says.
pub(super) fn put_back(tx: &mut Tx<'_>, row: &mut StageRow, rule: impl FnOnce(&mut Progress)) -> rusqlite::Result<()> {
    apply(tx, row, rule)?;
    step_back(tx, row)
}

/// Lets later stages of the line that were due, and not begun, wait behind this one.
pub(super) fn step_back(tx: &mut Tx<'_>, row: &StageRow) -> rusqlite::Result<()> {
    let later = query(
        tx.connection,
        select!("WHERE kind = ?1 AND line = ?2 AND ended = 0 AND state = 'due' AND seq > ?3"),
        params![row.kind, row.line, row.seq],
    )?;
    for mut later in later {
        // What has gone in parked holds up others only where order is strict.
        if !is_first(tx.connection, &later)? {
            change(tx, &mut later, Progress::step_back)?;
        }
    }
    Ok(())
}

/// Makes a queued stage due where the rules say so.
fn stand(connection: &Connection, row: &mut StageRow) -> rusqlite::Result<()> {
    if row.progress.standing == Standing::Queued && is_first(connection, row)? {
        let needs_are_done = needs_are_done(connection, row)?;
        row.progress.stand(true, needs_are_done);
    }
    Ok(())
}

/// Makes the first stage of a line due, if it is queued, nothing parked holds it up, and its needs are done.
pub(super) fn move_up(tx: &mut Tx<'_>, kind: Kind, line: i64) -> rusqlite::Result<()> {
    // One query for the line: nearly every delivery that ends asks this.
    let first = query(
        tx.connection,
        select!(
            "WHERE kind = ?1 AND state = 'queued'
                   AND seq = (SELECT seq FROM stage WHERE kind = ?1 AND line = ?2 AND ended = 0 ORDER BY seq LIMIT 1)
                   AND NOT ",
            is_held_up!("stage.seq")
        ),
        params![kind, line],
    )?;
    for mut row in first {
        let needs_are_done = needs_are_done(tx.connection, &row)?;
        let was = row.progress.clone();
        if row.progress.move_up(needs_are_done, tx.now) {
            store(tx, &row, &was)?;
        }
    }
    Ok(())
}

/// What the end of a fetch does to the other stages of its entry.
fn dependents(tx: &mut Tx<'_>, fetch: &StageRow) -> rusqlite::Result<()> {
    let now = tx.now;
    for mut row in of_entry(tx.connection, fetch.seq)? {
        if row.kind.is_fetch() {
            continue;
        }
        match rules::follows(fetch.progress.standing, row.progress.standing) {
            Follows::Nothing => {}
            Follows::MayGo => move_up(tx, row.kind, row.line)?,
            Follows::IsParked => apply(tx, &mut row, |progress| progress.park_for_needs(now))?,
        }
    }
    Ok(())
}

/// What stands right behind a stage in its line, in order.
pub(super) fn behind(connection: &Connection, row: &StageRow, limit: i64) -> rusqlite::Result<Vec<StageRow>> {
    let sql = select!("WHERE kind = ?1 AND line = ?2 AND ended = 0 AND seq > ?3 ORDER BY seq LIMIT ?4");
    query(connection, sql, params![row.kind, row.line, row.seq, limit])
}

/// The entry that is first in a line.
pub(super) fn first(connection: &Connection, kind: Kind, line: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT seq FROM stage WHERE kind = ?1 AND line = ?2 AND ended = 0
             ORDER BY seq LIMIT 1",
        )?
        .query_row(params![kind, line], |row| row.get(0))
        .optional()
}

/// Whether no earlier stage holds up the line (`rules::Order`).
pub(super) fn is_first(connection: &Connection, row: &StageRow) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(concat!(
            "SELECT NOT EXISTS (SELECT 1 FROM stage WHERE kind = ?1 AND line = ?2 AND ended = 0 AND seq < ?3) AND NOT ",
            is_held_up!("?3")
        ))?
        .query_row(params![row.kind, row.line, row.seq], |row| row.get(0))
}

/// The parked entry that holds up a stage, where its sink keeps strict order.
pub(super) fn held_by(connection: &Connection, row: &StageRow) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT stage.seq FROM sink JOIN stage INDEXED BY stage_parked ON stage.kind = sink.id
             WHERE sink.id = ?1 AND strict = 1 AND line = ?2 AND state = 'parked' AND seq < ?3 ORDER BY seq LIMIT 1",
        )?
        .query_row(params![row.kind, row.line, row.seq], |row| row.get(0))
        .optional()
}

/// Arranges the lines of a sink anew in which something is parked, after its order was changed.
pub(super) fn arrange(tx: &mut Tx<'_>, kind: Kind) -> rusqlite::Result<()> {
    let lines: Vec<i64> = tx
        .connection
        .prepare_cached("SELECT DISTINCT line FROM stage INDEXED BY stage_parked WHERE kind = ?1 AND state = 'parked'")?
        .query_map([kind], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for line in lines {
        let due = query(
            tx.connection,
            select!("WHERE kind = ?1 AND line = ?2 AND ended = 0 AND state = 'due'"),
            params![kind, line],
        )?;
        for mut row in due {
            if !is_first(tx.connection, &row)? {
                change(tx, &mut row, Progress::step_back)?;
            }
        }
        move_up(tx, kind, line)?;
    }
    Ok(())
}

/// Whether every fetch of the entry that a stage needs is done.
pub(super) fn needs_are_done(connection: &Connection, row: &StageRow) -> rusqlite::Result<bool> {
    if row.kind.is_fetch() {
        return Ok(true);
    }
    connection
        .prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM stage WHERE seq = ?1 AND kind <= ?2 AND state <> ?3)")?
        .query_row(params![row.seq, Kind::LAST_FETCH, Standing::Done], |row| row.get(0))
}

/// Applies a rule after which nothing moves: the stage stays in its line.
pub(super) fn change(tx: &mut Tx<'_>, row: &mut StageRow, rule: impl FnOnce(&mut Progress)) -> rusqlite::Result<()> {
    let was = row.progress.clone();
    rule(&mut row.progress);
    store(tx, row, &was)
}

/// An update of a stage; `$more` is what only some changes write.
macro_rules! update {
    ($more:literal) => {
        concat!(
            "UPDATE stage SET state = ?3, due = ?4, attempts = ?5, losses = ?6, token = ?7, changed = ?8",
            $more,
            " WHERE seq = ?1 AND kind = ?2"
        )
    };
}

/// Writes what changes of a stage, and counts the change. `was` is what it was before.
fn store(tx: &mut Tx<'_>, row: &StageRow, was: &Progress) -> rusqlite::Result<()> {
    let is = &row.progress;
    let ended = !is.standing.is_in_line();
    let (due, token, changed) = (is.due.as_millis(), is.token.map(|token| token.0), is.changed.as_millis());
    let values: [&dyn ToSql; 9] =
        [&row.seq, &row.kind, &is.standing, &due, &is.attempts, &is.losses, &token, &changed, &ended];
    // What is not named is not written, nor is an index that asks for it.
    let [usual @ .., _] = &values;
    let (sql, written) = if ended == was.standing.is_in_line() {
        (update!(", ended = ?9"), &values[..])
    } else {
        (update!(""), &usual[..])
    };
    tx.connection.prepare_cached(sql)?.execute(written)?;
    if trouble(is) != trouble(was) {
        store_trouble(tx.connection, row)?;
    }
    count(tx, row, was.standing);
    Ok(())
}

/// What is stored only where it changes: nearly every stage goes from its first lease to its end without trouble.
fn trouble(progress: &Progress) -> impl PartialEq {
    let Progress { failing_since, doubts, cause, reason, resumed, .. } = progress;
    (failing_since, doubts, cause, reason, resumed)
}

fn store_trouble(connection: &Connection, row: &StageRow) -> rusqlite::Result<()> {
    let progress = &row.progress;
    connection
        .prepare_cached(
            "UPDATE stage SET failing_since = ?3, doubts = ?4, doubts_since = ?5, reason = ?6, cause = ?7, credentials = ?8,
                              resumed = ?9
             WHERE seq = ?1 AND kind = ?2",
        )?
        .execute(params![
            row.seq,
            row.kind,
            progress.failing_since.map(Timestamp::as_millis),
            progress.doubts.tries,
            progress.doubts.since.map(Timestamp::as_millis),
            progress.reason,
            progress.cause.as_ref().map(crate::Cause::as_str),
            codes::credentials(progress.cause.as_ref()),
            progress.resumed.map(Timestamp::as_millis),
        ])?;
    Ok(())
}

fn note_parked(tx: &mut Tx<'_>, row: &StageRow) {
    tx.touched.happened.push(Noted::parked(row.seq, row.kind, row.progress.reason.as_deref(), tx.now));
}

fn count(tx: &mut Tx<'_>, row: &StageRow, was: Standing) {
    let is = row.progress.standing;
    if was != is {
        tx.touched.stands(row.kind, Some(was), Some(is));
    }
    if is == Standing::Due && was != Standing::Due {
        tx.touched.due(row.kind);
    }
}

/// Gives back leases that are in the file although nobody holds them. This happens when a commit is reported as failed and is
/// in the file all the same.
pub(super) fn give_back_unheld(tx: &mut Tx<'_>, shared: &Shared) -> rusqlite::Result<()> {
    let now = tx.now;
    for mut row in leased(tx.connection)? {
        if !row.progress.token.is_some_and(|token| shared.is_held(token)) {
            apply(tx, &mut row, |progress| progress.give_back(now, now))?;
        }
    }
    Ok(())
}

/// Ends every lease: nobody can hold one when the owner has just opened the store. Returns how many there were.
pub(super) fn end_all(tx: &mut Tx<'_>) -> rusqlite::Result<usize> {
    let now = tx.now;
    let leased = leased(tx.connection)?;
    let count = leased.len();
    for mut row in leased {
        apply(tx, &mut row, |progress| progress.lose(now))?;
    }
    Ok(count)
}

/// The stage that a kind stands for; a sink by its stored name, configured or not.
pub(super) fn name(connection: &Connection, kind: Kind) -> rusqlite::Result<Stage> {
    match kind.fetch() {
        Some(fetch) => Ok(Stage::Fetch(fetch)),
        None => connection
            .prepare_cached("SELECT name FROM sink WHERE id = ?1")?
            .query_row(params![kind], |row| row.get::<_, String>(0))
            .map(|name| Stage::deliver(&name)),
    }
}

/// The kind of a fetch's or a sink's stage by its word; `None` for a sink that this store has never seen.
pub(super) fn kind_of(connection: &Connection, word: &str) -> rusqlite::Result<Option<Kind>> {
    if let Some(fetch) = Fetch::ALL.into_iter().find(|fetch| fetch.as_str() == word) {
        return Ok(Some(Kind::of_fetch(fetch)));
    }
    connection.query_row("SELECT id FROM sink WHERE name = ?1", [word], |row| row.get(0)).optional()
}
