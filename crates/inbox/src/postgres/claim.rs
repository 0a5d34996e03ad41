//! Leasing: which stages a worker gets.
//!
//! What is due is leased by one statement, which passes over rows that others have locked. Leases that have expired, and stages that
//! lost too many, are few. They change their lines, so they go through the rules on a [`Board`](super::board::Board) whose lines are
//! locked.

use super::{
    codes, lines, merging,
    shared::{Shared, Touched},
    stages::{self, StageRow},
    store::Core,
    stored::{self, Stored},
    tx::{self, Trouble, Tx, Value, statement},
    vault,
};
use crate::{
    Cause, Claimed, Hold, Lease, Merging, Outcome, Seq, Stage, Token,
    kind::Kind,
    rules::{self, LONGEST_PAUSE, MOST_LOSSES, Standing, merging::Gathered},
};
use base::clock::Timestamp;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio_postgres::Row;

/// Bodies handed out by one claim, in bytes; at least one entry is handed out.
const CLAIM_BYTES: i64 = 8 * 1024 * 1024;
/// Lines that one transaction looks at where events are merged.
const MOST_LOOKS: usize = 500;
/// Expired leases that are looked at in one go.
const ODD: i64 = 500;

/// Leases what is due, the longest due first; at the end what lies too far ahead to be meant ([`LONGEST_PAUSE`]).
const CLAIM: &str = "
    WITH clock AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now),
         ready AS MATERIALIZED (
             SELECT seq, due FROM stage
             WHERE kind = $1::bigint AND state = 'due' AND due <= (SELECT now FROM clock) AND losses < $6::bigint
             ORDER BY due, seq LIMIT $2::bigint FOR UPDATE SKIP LOCKED),
         far AS MATERIALIZED (
             SELECT seq, due FROM stage
             WHERE kind = $1::bigint AND state = 'due' AND due > (SELECT now FROM clock) + $5::bigint AND losses < $6::bigint
             ORDER BY due, seq LIMIT (SELECT greatest($2::bigint - count(*), 0) FROM ready) FOR UPDATE SKIP LOCKED),
         chosen AS MATERIALIZED (
             SELECT seq, row_number() OVER w AS place, sum(size) OVER w - size AS before
             FROM (SELECT seq, due FROM ready UNION ALL SELECT seq, due FROM far) AS found JOIN entry USING (seq)
             WINDOW w AS (ORDER BY due, seq ROWS UNBOUNDED PRECEDING))
    UPDATE stage SET state = 'leased', token = ($3::bigint[])[place::integer], due = now + $4::bigint, attempts = attempts + 1,
                     changed = now
    FROM chosen, clock
    WHERE stage.kind = $1::bigint AND stage.seq = chosen.seq AND before < $7::bigint
    RETURNING stage.*, place";

/// What the rules must look at: leases that have expired, and what lost too many.
const FIND_ODD: &str = "
    WITH clock AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now),
         expired AS MATERIALIZED (
             SELECT seq, line, token, due FROM stage
             WHERE kind = $1::bigint AND state = 'leased' AND due <= (SELECT now FROM clock) ORDER BY due LIMIT $3::bigint),
         far AS MATERIALIZED (
             SELECT seq, line, token, due FROM stage
             WHERE kind = $1::bigint AND state = 'leased' AND due > (SELECT now FROM clock) + $2::bigint ORDER BY due LIMIT $3::bigint),
         lost AS MATERIALIZED (
             SELECT seq, line, token, due FROM stage
             WHERE kind = $1::bigint AND state = 'due' AND losses >= 10 AND due <= (SELECT now FROM clock) ORDER BY due LIMIT $3::bigint)
    SELECT * FROM expired UNION ALL SELECT * FROM far UNION ALL SELECT * FROM lost ORDER BY due, seq";

/// When the next stage of a kind can be leased.
const NEXT_DUE: &str = "
    SELECT least((SELECT due FROM stage WHERE kind = $1 AND state = 'due' ORDER BY due LIMIT 1),
                 (SELECT due FROM stage WHERE kind = $1 AND state = 'leased' ORDER BY due LIMIT 1))";

/// A claim of one worker.
pub(super) struct Claiming {
    pub(super) core: Arc<Core>,
    pub(super) stage: Stage,
    pub(super) kind: Kind,
    pub(super) lease_for: Duration,
    /// Of a sink whose events are merged.
    pub(super) merging: Option<Merging>,
}

/// What the rules must look at.
struct Odd {
    seq: i64,
    line: i64,
    token: Option<Token>,
}

/// A stage that was leased, before its transaction is committed.
struct Taken {
    row: StageRow,
    token: Token,
    hold: Hold,
}

impl Claiming {
    pub(super) async fn run(&self, limit: usize) -> Result<Claimed, Trouble> {
        let mut claimed = Claimed::default();
        loop {
            let room = limit - claimed.leases.len();
            let (mut leases, mut odd, next_due, is_whole) = match &self.merging {
                None => tx::until_done(|| self.take_due(room)).await?,
                Some(merging) => self.take_merged(room, merging).await?,
            };
            claimed.leases.append(&mut leases);
            // A lease of this claim may have no length at all.
            odd.retain(|odd| claimed.leases.iter().all(|lease| odd.token != Some(lease.token)));
            claimed.next_due = next_due.map(|due| self.core.clock.local(due));
            if odd.is_empty() && is_whole {
                return Ok(claimed);
            }
            // Only a stage that left its line, or went back into it, can have made another one due.
            let (mut leases, has_changed) = self.take_odd(&odd, limit - claimed.leases.len()).await?;
            claimed.leases.append(&mut leases);
            if !has_changed && is_whole {
                return Ok(claimed);
            }
        }
    }

    fn values(&self, limit: usize, tokens: &[Token]) -> Vec<Value> {
        vec![
            Box::new(self.kind.0),
            Box::new(codes::signed(limit)),
            Box::new(tokens.iter().map(|token| token.0).collect::<Vec<_>>()),
            Box::new(codes::signed(self.lease_for.as_millis())),
            Box::new(codes::signed(LONGEST_PAUSE.as_millis())),
            Box::new(i64::from(MOST_LOSSES)),
            Box::new(CLAIM_BYTES),
        ]
    }

    /// Leases what is due. Says what is left for the rules, when the next stage falls due, and whether every body was whole.
    async fn take_due(&self, limit: usize) -> Result<(Vec<Lease>, Vec<Odd>, Option<Timestamp>, bool), Trouble> {
        let tokens: Vec<Token> = (0..limit).map(|_| Shared::token()).collect();
        let pause = codes::signed(LONGEST_PAUSE.as_millis());
        let first = [
            tx::Statement { sql: CLAIM.into(), values: self.values(limit, &tokens) },
            statement!(FIND_ODD, self.kind.0, pause, ODD),
            statement!(NEXT_DUE, self.kind.0),
            statement!(vault::SEALED),
        ];
        let (tx, found) = Tx::begin(&self.core.pool, &self.core.clock, &first).await?;
        let [claimed, odd, next_due, sealed] = found.as_slice() else { return Err(Trouble::Again) };
        // What it cannot open it does not lease.
        self.core.vault.must_suit(sealed)?;
        let mut taken = Vec::with_capacity(claimed.len());
        for row in claimed {
            let place: i64 = row.try_get("place")?;
            taken.push((place, self.taken(stages::read(row)?)));
        }
        taken.sort_by_key(|(place, _)| *place);
        let (odd, next_due) = (odd_of(odd)?, time_of(next_due)?);
        let mut touched = Touched::default();
        touched.numbers.leased(self.kind, taken.len());
        let writes: Vec<_> = stages::tally(&touched.numbers, tx.slot).into_iter().collect();
        let taken: Vec<Taken> = taken.into_iter().map(|(_, taken)| taken).collect();
        let (leases, is_whole) = self.hand_out(tx, taken, writes, touched).await?;
        Ok((leases, odd, next_due, is_whole))
    }

    /// As [`take_due`](Self::take_due), where events that wait together are merged.
    async fn take_merged(
        &self,
        limit: usize,
        merging: &Merging,
    ) -> Result<(Vec<Lease>, Vec<Odd>, Option<Timestamp>, bool), Trouble> {
        let (leases, is_whole) = tx::until_done(|| self.take_gathered(limit, merging)).await?;
        let pool = &self.core.pool;
        let pause = codes::signed(LONGEST_PAUSE.as_millis());
        let odd = odd_of(&tx::query(pool, statement!(FIND_ODD, self.kind.0, pause, ODD)).await?)?;
        let next_due = time_of(&tx::query(pool, statement!(NEXT_DUE, self.kind.0)).await?)?;
        Ok((leases, odd, next_due, is_whole))
    }

    /// Leases what is due and need not wait for more, with its group. Says whether every body was whole and nothing else was due.
    async fn take_gathered(&self, limit: usize, merging: &Merging) -> Result<(Vec<Lease>, bool), Trouble> {
        // Some of what is due only begins to wait.
        let looks = limit.saturating_mul(2).saturating_add(16).min(MOST_LOOKS);
        let queues = merging::due(&self.core.pool, self.kind, looks).await?;
        if queues.is_empty() {
            return Ok((Vec::new(), true));
        }
        let entries: Vec<(i64, i64)> = queues
            .iter()
            .flat_map(|queue| {
                [queue.first].into_iter().chain(queue.behind.iter().copied()).map(|seq| (seq, queue.line))
            })
            .collect();
        let (tx, mut board) = lines::load(&self.core.pool, &self.core.clock, &entries).await?;
        let seqs: Vec<i64> = entries.iter().map(|(seq, _)| *seq).collect();
        let known = merging::known(&tx, self.kind, &seqs).await?;
        let (now, kind) = (board.now, self.kind);
        let far = now.after(LONGEST_PAUSE);
        let (mut going, mut bytes) = (Vec::new(), 0);
        for queue in &queues {
            let is_due = board.get(queue.first, kind).is_some_and(|row| {
                let progress = &row.progress;
                progress.standing == Standing::Due && (progress.due <= now || progress.due > far)
            });
            if !is_due || bytes >= CLAIM_BYTES {
                continue;
            }
            let count = match merging::gather(&board, kind, queue, &known, merging.window) {
                Some(Gathered::Wait(until)) => {
                    board.apply(queue.first, kind, |progress| progress.wait_until(until));
                    continue;
                }
                _ if going.len() >= limit => continue,
                Some(Gathered::Go(count)) => Some(count),
                None => None,
            };
            bytes += known.get(&queue.first).map_or(0, |known| known.size);
            going.push((queue, count));
        }
        let groups = self.groups(&tx, &going, merging).await?;
        let mut rows = Vec::with_capacity(going.len());
        for (queue, _) in &going {
            let token = Shared::token();
            board.apply(queue.first, kind, |progress| {
                progress.claim(token, now.after(self.lease_for), now, true);
            });
            rows.extend(board.get(queue.first, kind).cloned());
        }
        let is_all = queues.len() < looks || rows.len() == limit || bytes >= CLAIM_BYTES;
        let rows = rows.into_iter().map(|row| self.taken(row)).collect();
        if let Some(store) = merging::store(kind, &groups) {
            // Before the entries are loaded, which go by what is stored.
            tx.execute(&[store]).await?;
        }
        let (writes, touched) = board.end(tx.slot, Touched::default());
        let (leases, is_whole) = self.hand_out(tx, rows, writes, touched).await?;
        Ok((leases, is_whole && is_all))
    }

    /// The groups of those that get one now: the first of a line, and those of the next ones that leave with it.
    async fn groups(
        &self,
        tx: &Tx,
        going: &[(&merging::Queue, Option<usize>)],
        merging: &Merging,
    ) -> Result<Vec<Vec<i64>>, Trouble> {
        let group = |(queue, count): &(&merging::Queue, Option<usize>)| {
            let group: Vec<i64> =
                [queue.first].into_iter().chain(queue.behind.iter().copied().take((*count)?)).collect();
            Some((queue.line, group))
        };
        let mut groups: Vec<(i64, Vec<i64>)> = going.iter().filter_map(group).collect();
        if let Some(takes) = &merging.takes {
            let several = groups.iter().filter(|(_, group)| group.len() > 1);
            let at: Vec<(i64, i64)> = several.flat_map(|(line, group)| group.iter().map(|seq| (*seq, *line))).collect();
            let facts = if at.is_empty() {
                HashMap::new()
            } else {
                stored::facts_of(&self.core, &tx.query(stored::select(&at, self.kind)).await?)?
            };
            let is_taken = |seq: &i64| facts.get(seq).is_some_and(|facts| takes(facts));
            for (_, group) in &mut groups {
                let first = group.first().copied();
                let is_first_taken = first.as_ref().is_some_and(is_taken);
                group.retain(|seq| Some(*seq) == first || (is_first_taken && is_taken(seq)));
            }
        }
        Ok(groups.into_iter().map(|(_, group)| group).collect())
    }

    fn taken(&self, row: StageRow) -> Taken {
        let token = row.progress.token.unwrap_or(Token(0));
        // Held before the commit: a lease that is in the store belongs to somebody, or its claim was answered with an error.
        let hold = self.core.shared.give(token, row.seq, row.kind, self.lease_for);
        Taken { row, token, hold }
    }

    /// Leases, puts back or parks what the rules must look at; says whether anything changed.
    async fn take_odd(&self, odd: &[Odd], limit: usize) -> Result<(Vec<Lease>, bool), Trouble> {
        let (held, others): (Vec<&Odd>, Vec<&Odd>) =
            odd.iter().partition(|odd| odd.token.is_some_and(|token| self.core.shared.is_held(token)));
        if !held.is_empty() {
            tx::until_done(|| self.prolong_held(&held)).await?;
        }
        if others.is_empty() {
            return Ok((Vec::new(), !held.is_empty()));
        }
        tx::until_done(|| self.apply_rules(&others, limit)).await
    }

    /// Prolongs leases that have expired although they are worked on here: the process was stopped for a while, or the clock was set.
    /// Their work goes on; to give them to others too would do it twice.
    async fn prolong_held(&self, held: &[&Odd]) -> Result<(), Trouble> {
        // For a moment at least, so that they are not found again.
        let prolong = statement!(
            "UPDATE stage SET due = (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $4::bigint
             FROM unnest($2::bigint[], $3::bigint[]) AS n (seq, token)
             WHERE stage.kind = $1 AND stage.seq = n.seq AND state = 'leased' AND stage.token = n.token",
            self.kind.0,
            held.iter().map(|odd| odd.seq).collect::<Vec<_>>(),
            held.iter().map(|odd| odd.token.map(|token| token.0)).collect::<Vec<_>>(),
            codes::signed(self.lease_for.max(Duration::from_millis(100)).as_millis()),
        );
        let (tx, _) = Tx::begin_with(&self.core.pool, &self.core.clock, prolong).await?;
        tx.commit(&[]).await.map(drop)
    }

    async fn apply_rules(&self, odd: &[&Odd], limit: usize) -> Result<(Vec<Lease>, bool), Trouble> {
        let entries: Vec<(i64, i64)> = odd.iter().map(|odd| (odd.seq, odd.line)).collect();
        let (tx, mut board) = lines::load_with_groups(&self.core.pool, &self.core.clock, &entries).await?;
        let (now, kind) = (board.now, self.kind);
        let far = now.after(LONGEST_PAUSE);
        let (mut taken, mut has_changed) = (Vec::new(), false);
        for odd in odd {
            let Some(row) = board.get(odd.seq, kind) else { continue };
            let progress = &row.progress;
            let has_ended = progress.due <= now || progress.due > far;
            let is_odd = match progress.standing {
                Standing::Leased => progress.token == odd.token,
                Standing::Due => progress.losses >= MOST_LOSSES,
                _ => false,
            };
            if !is_odd || !has_ended {
                continue;
            }
            let is_first = progress.token.is_none() || board.is_first(odd.seq, kind);
            let would_be_leased = is_first && progress.losses + u32::from(progress.token.is_some()) < MOST_LOSSES;
            if would_be_leased && taken.len() >= limit {
                continue;
            }
            has_changed = true;
            let mut after = progress.clone();
            let claim = after.claim(Shared::token(), now.after(self.lease_for), now, is_first);
            if claim == rules::Claim::Parked {
                let others = board.group(odd.seq, kind).into_iter().filter(|other| *other != odd.seq);
                board.follow(kind, others, &after);
            }
            board.apply(odd.seq, kind, |progress| *progress = after);
            match claim {
                rules::Claim::Leased => taken.extend(board.get(odd.seq, kind).cloned()),
                rules::Claim::Waits => {}
                rules::Claim::Parked => board.remember(odd.seq, kind, true),
            }
        }
        let taken = taken.into_iter().map(|row| self.taken(row)).collect();
        let (writes, touched) = board.end(tx.slot, Touched::default());
        let (leases, _) = self.hand_out(tx, taken, writes, touched).await?;
        Ok((leases, has_changed))
    }

    /// Loads what work needs of the entries, and commits. A body that is not what was accepted is parked; says whether all were whole.
    async fn hand_out(
        &self,
        tx: Tx,
        taken: Vec<Taken>,
        mut writes: Vec<tx::Statement>,
        touched: Touched,
    ) -> Result<(Vec<Lease>, bool), Trouble> {
        let now = tx.now;
        let at: Vec<(i64, i64)> = taken.iter().map(|taken| (taken.row.seq, taken.row.line)).collect();
        let mut stored = if taken.is_empty() {
            self.core.commit(tx, &writes, touched).await?;
            HashMap::new()
        } else if self.core.vault.is_on() {
            // Opened before the commit: what cannot be opened, because the keys store is away, is not leased in vain.
            let rows = tx.query(stored::select(&at, self.kind)).await?;
            let stored = stored::read(&self.core, &rows, now).await?;
            self.core.commit(tx, &writes, touched).await?;
            stored
        } else {
            writes.push(stored::select(&at, self.kind));
            let mut rows = self.core.commit(tx, &writes, touched).await?;
            stored::read(&self.core, &rows.pop().unwrap_or_default(), now).await?
        };
        let (mut leases, mut damaged) = (Vec::with_capacity(taken.len()), Vec::new());
        for Taken { row, token, hold } in taken {
            let Some(Stored { entry, body, is_stale, is_no_news }) = stored.remove(&row.seq) else { continue };
            let clock = &self.core.clock;
            match body {
                Ok(body) => leases.push(Lease {
                    seq: Seq(row.seq),
                    stage: self.stage.clone(),
                    token,
                    expires: clock.local(row.progress.due),
                    attempts: row.progress.attempts,
                    failing_since: row.progress.failing_since.map(|at| clock.local(at)),
                    doubts: crate::Doubts {
                        since: row.progress.doubts.since.map(|at| clock.local(at)),
                        ..row.progress.doubts
                    },
                    resumed: row.progress.resumed.map(|at| clock.local(at)),
                    is_stale,
                    is_no_news,
                    entry: Arc::new(entry),
                    body,
                    hold,
                }),
                Err(reason) => {
                    let outcome = Outcome::Park { cause: Cause::Damaged, reason: reason.to_owned() };
                    let ending = super::settle::Ending {
                        held: super::store::Held { seq: row.seq, kind: row.kind, token: token.0 },
                        line: row.line,
                        entry: Arc::new(entry),
                        outcome,
                    };
                    damaged.push(ending);
                }
            }
        }
        if !damaged.is_empty() {
            super::settle::settle(&self.core, &damaged).await?;
        }
        Ok((leases, damaged.is_empty()))
    }
}

fn odd_of(rows: &[Row]) -> Result<Vec<Odd>, Trouble> {
    let odd = |row: &Row| {
        let token = row.try_get::<_, Option<i64>>("token")?.map(Token);
        Ok(Odd { seq: row.try_get("seq")?, line: row.try_get("line")?, token })
    };
    rows.iter().map(odd).collect()
}

/// The time in the only column of the only row.
fn time_of(rows: &[Row]) -> Result<Option<Timestamp>, Trouble> {
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(row.try_get::<_, Option<i64>>(0)?.map(Timestamp::from_millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_lost_stages_is_that_of_the_rule() {
        assert_eq!(MOST_LOSSES, 10, "tables.sql and FIND_ODD name it");
    }
}
