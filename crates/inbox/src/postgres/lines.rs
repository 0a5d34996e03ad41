//! Lines: locks them, and loads the [`Board`] of some entries under these locks, in one round trip.

use super::{
    board::Board,
    clock::Clock,
    codes,
    connect::Pool,
    merging,
    stages::read,
    tx::{self, Trouble, Tx, statement},
};
use crate::kind::Kind;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Row;

/// Locks lines. In the order of their numbers, as everybody does, so that nobody waits in a circle.
pub(super) const LOCK: &str = "SELECT key FROM line WHERE key = ANY($1) ORDER BY key FOR UPDATE";
/// All stages of some entries, locked.
const OF_ENTRIES: &str = "SELECT * FROM stage WHERE seq = ANY($1) ORDER BY seq, kind FOR UPDATE";
/// Of each line, and each kind of stage, the first ones that stand in it. What is asked of each row is a value and not an EXISTS here and
/// elsewhere: that a planner may answer by reading the stages of all entries first.
const FIRST: &str = "
    SELECT s.*, s.kind <= 0 OR (
               SELECT 1 FROM stage AS f WHERE f.seq = s.seq AND f.kind <= 0 AND f.state <> 'done' LIMIT 1) IS NULL AS needs_are_done
    FROM unnest($1::bigint[], $2::bigint[]) AS l (line, most)
         CROSS JOIN (SELECT 0::bigint AS kind UNION ALL SELECT id FROM sink) AS k
         CROSS JOIN LATERAL (
             SELECT * FROM stage WHERE stage.kind = k.kind AND stage.line = l.line AND state IN ('queued', 'due', 'leased')
             ORDER BY seq LIMIT l.most) AS s";
/// The sinks that keep strict order.
pub(super) const STRICT: &str = "SELECT id FROM sink WHERE strict";
/// Of each line, and each of these sinks, the first ones that are parked.
const PARKED: &str = "
    SELECT s.* FROM unnest($1::bigint[], $2::bigint[]) AS l (line, most) CROSS JOIN unnest($3::bigint[]) AS k (kind)
         CROSS JOIN LATERAL (
             SELECT * FROM stage WHERE stage.kind = k.kind AND stage.line = l.line AND state = 'parked'
             ORDER BY seq LIMIT l.most) AS s";

/// The lines of entries.
pub(super) const LINES: &str = "SELECT DISTINCT seq, line FROM stage WHERE seq = ANY($1)";

/// Begins a transaction with the board of these entries, each with its line; the lines are locked.
pub(super) async fn load(pool: &Pool, clock: &Clock, entries: &[(i64, i64)]) -> Result<(Tx, Board), Trouble> {
    let mut lines: BTreeMap<i64, i64> = BTreeMap::new();
    for (_, line) in entries {
        *lines.entry(*line).or_default() += 1;
    }
    let seqs: Vec<i64> = entries.iter().map(|(seq, _)| *seq).collect();
    let keys: Vec<i64> = lines.keys().copied().collect();
    // Each entry may leave its line, and then the next one is needed.
    let most: Vec<i64> = lines.values().map(|count| count + 1).collect();
    let first = [
        statement!(LOCK, keys.clone()),
        statement!(OF_ENTRIES, seqs),
        statement!(FIRST, keys.clone(), most.clone()),
        statement!(STRICT),
    ];
    let (tx, found) = Tx::begin(pool, clock, &first).await?;
    let [locked, entries, heads, strict] = found.as_slice() else { return Err(Trouble::Again) };
    let locked: Result<BTreeSet<i64>, tokio_postgres::Error> = locked.iter().map(|row| row.try_get(0)).collect();
    let board = board(&tx, clock, &locked?, (keys, most), [entries, heads, strict]).await?;
    Ok((tx, board))
}

/// As [`load`], in a transaction that has locked these lines.
pub(super) async fn load_in(
    tx: &Tx,
    clock: &Clock,
    locked: &BTreeSet<i64>,
    entries: &[(i64, i64)],
) -> Result<Board, Trouble> {
    let seqs: Vec<i64> = entries.iter().map(|(seq, _)| *seq).collect();
    let keys: Vec<i64> = locked.iter().copied().collect();
    let most = vec![codes::signed(entries.len() + 1); keys.len()];
    let entries = tx.query(statement!(OF_ENTRIES, seqs)).await?;
    let heads = tx.query(statement!(FIRST, keys.clone(), most.clone())).await?;
    let strict = tx.query(statement!(STRICT)).await?;
    board(tx, clock, locked, (keys, most), [&entries, &heads, &strict]).await
}

/// The board of what was found. `keys` are the lines, and `most` how many of the first ones of each are needed.
async fn board(
    tx: &Tx,
    clock: &Clock,
    locked: &BTreeSet<i64>,
    (keys, most): (Vec<i64>, Vec<i64>),
    [entries, heads, strict]: [&[Row]; 3],
) -> Result<Board, Trouble> {
    let strict: Result<Vec<i64>, tokio_postgres::Error> = strict.iter().map(|row| row.try_get(0)).collect();
    let strict = strict?;
    let mut board = Board::new(tx.now, clock.local(tx.now), strict.iter().copied().map(Kind).collect());
    for row in entries {
        let row = read(row)?;
        // An erasure removed the line while this waited for it, and an event has made it anew since.
        if !locked.contains(&row.line) {
            return Err(Trouble::Again);
        }
        board.put(row);
    }
    for row in heads {
        board.put_first(read(row)?, row.try_get("needs_are_done")?);
    }
    // Few sinks do it, and then it is one round trip more.
    if !strict.is_empty() {
        for row in tx.query(statement!(PARKED, keys, most, strict)).await? {
            board.put_first(read(&row)?, false);
        }
    }
    Ok(board)
}

/// As [`load`], also with the entries that leave as one delivery with these at some sink: what is done with one stage of such a group
/// is done with all.
pub(super) async fn load_with_groups(
    pool: &Pool,
    clock: &Clock,
    entries: &[(i64, i64)],
) -> Result<(Tx, Board), Trouble> {
    let all = merging::widened(pool, entries).await?;
    let (tx, mut board) = load(pool, clock, &all).await?;
    let groups = merging::groups(&tx, entries).await?;
    // A group was made since, or is larger than it was.
    let known: BTreeSet<i64> = all.iter().map(|(seq, _)| *seq).collect();
    if groups.values().flatten().any(|seq| !known.contains(seq)) {
        return Err(Trouble::Again);
    }
    board.put_groups(groups);
    Ok((tx, board))
}

/// The lines of entries that are known by their numbers alone.
pub(super) async fn lines_of(pool: &Pool, seqs: &[i64]) -> Result<Vec<(i64, i64)>, Trouble> {
    let rows = tx::query(pool, statement!(LINES, seqs.to_vec())).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
