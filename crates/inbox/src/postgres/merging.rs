//! The table `merged`: which entries leave a line as one delivery ([`rules::merging`]).
//!
//! A row is written in the transaction of the first lease of a stage at a sink that merges, also where the stage goes by itself: then
//! it is a group of one. The line of a stage is locked meanwhile, so its group cannot change while a board with its line is open.

use super::{
    board::{Board, Groups},
    codes,
    connect::Pool,
    tx::{self, Statement, Trouble, Tx, statement},
};
use crate::{
    kind::Kind,
    merging::{Candidate, Likeness, Window},
    rules::{
        self, LONGEST_PAUSE, MOST_LOSSES, Standing,
        merging::{Behind, Gathered, MOST_MERGED},
    },
};
use std::collections::HashMap;

/// Stages that are due, the longest due first, each with what stands right behind it in its line.
const DUE: &str = "
    WITH clock AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now),
         ready AS MATERIALIZED (
             SELECT seq, line, due FROM stage
             WHERE kind = $1::bigint AND state = 'due' AND due <= (SELECT now FROM clock) AND losses < $4::bigint
             ORDER BY due, seq LIMIT $2::bigint),
         far AS MATERIALIZED (
             SELECT seq, line, due FROM stage
             WHERE kind = $1::bigint AND state = 'due' AND due > (SELECT now FROM clock) + $3::bigint AND losses < $4::bigint
             ORDER BY due, seq LIMIT (SELECT greatest($2::bigint - count(*), 0) FROM ready))
    SELECT found.seq AS first, found.line, behind.seq
    FROM (SELECT * FROM ready UNION ALL SELECT * FROM far) AS found
         CROSS JOIN LATERAL (
             SELECT seq FROM stage WHERE stage.kind = $1::bigint AND stage.line = found.line
                    AND state IN ('queued', 'due', 'leased') AND seq >= found.seq
             ORDER BY seq LIMIT $5::bigint) AS behind
    ORDER BY found.due, found.seq, behind.seq";

/// The entries of the groups that these entries are in, with their lines, which are looked for one by one (`OFFSET 0`): a planner may
/// otherwise read the stages of all entries first.
const GROUPS: &str = "
    SELECT DISTINCT own.kind, own.first, other.seq, stage.line
    FROM merged AS own JOIN merged AS other ON other.kind = own.kind AND other.first = own.first
         CROSS JOIN LATERAL (SELECT line FROM stage WHERE stage.seq = other.seq AND stage.kind = other.kind OFFSET 0) AS stage
    WHERE own.seq = ANY($1) ORDER BY own.kind, own.first, other.seq";

/// The first of a line, and what stands right behind it.
pub(super) struct Queue {
    pub(super) first: i64,
    pub(super) line: i64,
    pub(super) behind: Vec<i64>,
}

/// What is known of an entry that may be merged.
pub(super) struct Known {
    candidate: Candidate,
    /// It was tried before, or it is in a group, or it stands behind a parked one at a sink that keeps strict order.
    is_bound: bool,
    /// Bytes of its body.
    pub(super) size: i64,
}

/// Up to so many stages of a kind that are due, as they stand before any of their lines is locked.
pub(super) async fn due(pool: &Pool, kind: Kind, limit: usize) -> Result<Vec<Queue>, Trouble> {
    let asked = statement!(
        DUE,
        kind.0,
        codes::signed(limit),
        codes::signed(LONGEST_PAUSE.as_millis()),
        i64::from(MOST_LOSSES),
        codes::signed(MOST_MERGED)
    );
    let mut found: Vec<Queue> = Vec::new();
    for row in &tx::query(pool, asked).await? {
        let (first, line, seq) = (row.try_get("first")?, row.try_get("line")?, row.try_get("seq")?);
        match found.last_mut().filter(|queue| queue.first == first) {
            Some(queue) => queue.behind.push(seq),
            None => found.push(Queue { first, line, behind: Vec::new() }),
        }
    }
    Ok(found)
}

/// What is known of entries, for a kind of stage.
pub(super) async fn known(tx: &Tx, kind: Kind, seqs: &[i64]) -> Result<HashMap<i64, Known>, Trouble> {
    let sql = "SELECT seq, resource_type, event_type, connection, \"user\", confirm, accepted, size,
                      coalesce((SELECT 1 FROM merged WHERE merged.seq = entry.seq AND merged.kind = $2 LIMIT 1),
                               (SELECT 1 FROM attempt WHERE attempt.seq = entry.seq AND attempt.kind = $2 LIMIT 1),
                               (SELECT 1 FROM stage AS own JOIN sink ON sink.id = own.kind AND sink.strict
                                     JOIN stage AS held ON held.kind = own.kind AND held.line = own.line
                                          AND held.seq < own.seq AND held.state = 'parked'
                                WHERE own.seq = entry.seq AND own.kind = $2 LIMIT 1)) IS NOT NULL AS is_bound
               FROM entry WHERE seq = ANY($1)";
    let mut known = HashMap::with_capacity(seqs.len());
    for row in &tx.query(statement!(sql, seqs.to_vec(), kind.0)).await? {
        let words = [codes::read(row, "resource_type")?, codes::read(row, "event_type")?];
        let likeness = Likeness {
            cloud_type: event::cloud_type(&words[0], &words[1]),
            connection: codes::read(row, "connection")?,
            user: codes::read_maybe(row, "user")?,
            confirm: row.try_get("confirm")?,
        };
        let accepted = codes::time(row, "accepted")?.unwrap_or_default();
        let known_of = Known {
            candidate: Candidate { likeness, accepted },
            is_bound: row.try_get("is_bound")?,
            size: row.try_get("size")?,
        };
        known.insert(row.try_get("seq")?, known_of);
    }
    Ok(known)
}

/// When the first of a line goes, and with how many; `None`: that is decided already.
pub(super) fn gather(
    board: &Board,
    kind: Kind,
    queue: &Queue,
    known: &HashMap<i64, Known>,
    window: Window,
) -> Option<Gathered> {
    let is_fresh = |seq: &i64| {
        let of = known.get(seq).filter(|known| !known.is_bound)?;
        board.get(*seq, kind).filter(|row| row.progress.is_untried()).map(|row| (of, row.progress.standing))
    };
    let (first, _) = is_fresh(&queue.first)?;
    if !first.candidate.likeness.is_mergeable() {
        return Some(Gathered::Go(0));
    }
    let behind: Vec<Behind> = queue
        .behind
        .iter()
        .map(|seq| match is_fresh(seq) {
            Some((of, Standing::Queued)) if of.candidate.likeness == first.candidate.likeness => Behind::Joins {
                accepted: of.candidate.accepted,
                is_ready: board.needs_are_done(queue.line, kind, *seq),
            },
            _ => Behind::Ends,
        })
        .collect();
    Some(rules::merging::gather(first.candidate.accepted, &behind, window, board.now))
}

/// Stores groups: the entries of each, the first one first.
pub(super) fn store(kind: Kind, groups: &[Vec<i64>]) -> Option<Statement> {
    let (mut seqs, mut firsts) = (Vec::new(), Vec::new());
    for group in groups {
        let Some(first) = group.first() else { continue };
        seqs.extend_from_slice(group);
        firsts.extend(group.iter().map(|_| *first));
    }
    if seqs.is_empty() {
        return None;
    }
    Some(statement!(
        "INSERT INTO merged (seq, kind, first) SELECT seq, $2::bigint, first FROM unnest($1::bigint[], $3::bigint[]) AS n (seq, first)",
        seqs,
        kind.0,
        firsts
    ))
}

/// These entries and those of their groups, as they stand before any of their lines is locked, each with its line.
pub(super) async fn widened(pool: &Pool, entries: &[(i64, i64)]) -> Result<Vec<(i64, i64)>, Trouble> {
    let seqs: Vec<i64> = entries.iter().map(|(seq, _)| *seq).collect();
    let mut all = entries.to_vec();
    for row in &tx::query(pool, statement!(GROUPS, seqs)).await? {
        all.push((row.try_get("seq")?, row.try_get("line")?));
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The groups of entries whose lines are locked.
pub(super) async fn groups(tx: &Tx, entries: &[(i64, i64)]) -> Result<Groups, Trouble> {
    let seqs: Vec<i64> = entries.iter().map(|(seq, _)| *seq).collect();
    let mut groups: Groups = HashMap::new();
    for row in &tx.query(statement!(GROUPS, seqs)).await? {
        groups.entry((Kind(row.try_get("kind")?), row.try_get("first")?)).or_default().push(row.try_get("seq")?);
    }
    Ok(groups)
}
