//! [`Queue`] on the file: who works on what, until when.

use super::{
    attempts,
    codes::Kind,
    entries,
    happenings::Noted,
    merging, readings,
    select::resume,
    shared::Shared,
    sinks,
    stages::{self, StageRow},
    store::Sqlite,
    stored::{self, Stored},
    tx::Tx,
};
use crate::{
    Awaiting, Cause, Claimed, CredentialsMark, Error, Facts, Hold, Lease, Merging, Outcome, Queue, Resume, Seq, Stage,
    Token,
    rules::{self, Standing},
    seal::Seal,
};
use async_trait::async_trait;
use base::clock::{self, Timestamp};
use event::{ConnectionId, UserId};
use futures_util::future::join_all;
use rusqlite::Connection;
use std::{slice, sync::Arc, time::Duration};

/// Bodies handed out by one claim, in bytes; at least one entry is handed out.
const CLAIM_BYTES: i64 = 8 * 1024 * 1024;
/// Stages that one claim looks at, those included that are not to go yet: others wait for the writer meanwhile.
const MOST_LOOKS: usize = 2_000;
/// Until an entry may be leased again that could not be read.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

#[async_trait]
impl Queue for Sqlite {
    async fn claim_merged(
        &self,
        stage: &Stage,
        limit: usize,
        lease_for: Duration,
        merging: Option<&Merging>,
    ) -> Result<Claimed, Error> {
        let Some(kind) = self.sinks.kind(stage) else { return Ok(Claimed::default()) };
        let (shared, seal) = (Arc::clone(&self.shared), Arc::clone(&self.seal));
        let merging = merging.cloned();
        loop {
            let (shared, seal, merging) = (Arc::clone(&shared), Arc::clone(&seal), merging.clone());
            let (taken, next_due) = self
                .write(move |tx| {
                    Claiming { kind, lease_for, merging: merging.as_ref(), shared: &shared, seal: &seal }.run(tx, limit)
                })
                .await?;
            let is_all = taken.is_empty();
            let leases = self.read_taken(stage, taken).await?;
            // What is damaged has left its line, and the next one may go.
            if is_all || !leases.is_empty() {
                return Ok(Claimed { leases, next_due });
            }
        }
    }

    async fn wake(&self, stage: &Stage) {
        match self.sinks.kind(stage) {
            Some(kind) => self.shared.waker(kind).notified().await,
            None => std::future::pending().await,
        }
    }

    async fn renew(&self, lease: &Lease, lease_for: Duration) -> Result<(), Error> {
        self.write_held(lease, move |tx, row| {
            let until = tx.now.after(lease_for);
            stages::change(tx, row, |progress| progress.renew(until))
        })
        .await
    }

    async fn settle(&self, ended: &[(&Lease, Outcome)]) -> Vec<Result<(), Error>> {
        match self.settle_together(ended).await {
            Ok(settled) => settled,
            Err(error) if ended.len() == 1 => vec![Err(error)],
            // One of them may be at fault. The others are not to fail with it.
            Err(_) => {
                let alone = ended.iter().map(|one| async {
                    self.settle_together(slice::from_ref(one)).await?.pop().unwrap_or(Err(Error::Closed))
                });
                join_all(alone).await
            }
        }
    }

    async fn awaiting(&self, user: Option<&UserId>) -> Result<Vec<Awaiting>, Error> {
        let user = user.cloned();
        self.read(move |connection| awaiting(connection, user.as_ref())).await
    }

    async fn resume(&self, which: &Resume, limit: usize) -> Result<u64, Error> {
        let which = which.clone();
        self.write(move |tx| {
            let found = resume(tx.connection, &which, limit)?;
            for seq in &found {
                go_on(tx, *seq, &which.credentials)?;
            }
            Ok(found.len() as u64)
        })
        .await
    }
}

impl Sqlite {
    /// Reads what was leased, which the thread that writes need not wait for.
    async fn read_taken(&self, stage: &Stage, taken: Vec<Taken>) -> Result<Vec<Lease>, Error> {
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let mut held: Vec<Ending> = taken.iter().map(|taken| taken.ending(None, Outcome::GiveBack)).collect();
        let (seal, stage) = (Arc::clone(&self.seal), stage.clone());
        let read = self
            .read(move |connection| {
                Ok(taken.into_iter().map(|taken| taken.read(connection, &stage, &seal)).collect::<Vec<_>>())
            })
            .await;
        let (mut leases, mut ending, mut failed) = (Vec::new(), Vec::new(), None);
        match read {
            Ok(read) => {
                for (ending_of, read) in held.iter_mut().zip(read) {
                    match read {
                        Ok(Ok(lease)) => leases.push(lease),
                        Ok(Err(damaged)) => ending.push(damaged),
                        // It was deleted meanwhile.
                        Err(rusqlite::Error::QueryReturnedNoRows) => {}
                        Err(error) => {
                            let due = clock::now().after(AFTER_FAILURE);
                            let reason = format!("the stored event could not be read: {error}");
                            ending_of.outcome = Outcome::Postpone { due, reason };
                            failed = Some(Error::Store(Box::new(error)));
                        }
                    }
                }
            }
            Err(error) => failed = Some(error),
        }
        if failed.is_some() {
            ending = held;
        }
        if !ending.is_empty() {
            // Where this fails, the writer says why, and the leases end by themselves.
            self.write(move |tx| ending.iter().try_for_each(|ending| ending.run(tx).map(drop)))
                .await
                .unwrap_or_default();
        }
        failed.map_or(Ok(leases), Err)
    }

    /// Settles all in one transaction, or none.
    async fn settle_together(&self, ended: &[(&Lease, Outcome)]) -> Result<Vec<Result<(), Error>>, Error> {
        let seqs = ended.iter().map(|(lease, _)| lease.seq);
        let ending: Vec<_> = ended
            .iter()
            .map(|(lease, outcome)| Ending {
                seq: lease.seq.0,
                kind: self.sinks.kind(&lease.stage),
                token: lease.token,
                entry: Some(Arc::clone(&lease.entry)),
                outcome: outcome.clone(),
            })
            .collect();
        let held: Vec<bool> = self.write(move |tx| ending.iter().map(|ending| ending.run(tx)).collect()).await?;
        Ok(seqs.zip(held).map(|(seq, held)| if held { Ok(()) } else { Err(Error::LeaseLost(seq)) }).collect())
    }
}

/// The end of one lease.
struct Ending {
    seq: i64,
    /// `None`: of a sink that is not configured.
    kind: Option<Kind>,
    token: Token,
    /// `None`: it could not be read.
    entry: Option<Arc<Facts>>,
    outcome: Outcome,
}

impl Ending {
    /// Settles, unless the lease is no longer held; returns whether it was.
    fn run(&self, tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
        let Some(kind) = self.kind else { return Ok(false) };
        let Some(mut row) = stages::load_held(tx.connection, self.seq, kind, self.token)? else { return Ok(false) };
        settle(tx, &mut row, &self.outcome, self.entry.as_deref())?;
        if let Some(entry) = self.entry.as_ref().filter(|_| self.outcome == Outcome::Done && !kind.is_fetch()) {
            sinks::note_delivered(tx, kind, row.line, entry)?;
        }
        Ok(true)
    }
}

/// A stage that was leased.
struct Taken {
    row: StageRow,
    token: Token,
    hold: Hold,
    at: Timestamp,
    expires: Timestamp,
}

impl Taken {
    fn ending(&self, entry: Option<Arc<Facts>>, outcome: Outcome) -> Ending {
        Ending { seq: self.row.seq, kind: Some(self.row.kind), token: self.token, entry, outcome }
    }

    /// The lease, with what work needs; or how it ends, because what is stored is not what was accepted.
    fn read(self, connection: &Connection, stage: &Stage, seal: &Seal) -> rusqlite::Result<Result<Lease, Ending>> {
        let Stored { entry, body, delivered, .. } = stored::together(connection, &self.row, seal)?;
        let entry = Arc::new(entry);
        let body = match body {
            Ok(body) => body,
            Err(reason) => {
                let damaged = Outcome::Park { cause: Cause::Damaged, reason: reason.to_owned() };
                return Ok(Err(self.ending(Some(entry), damaged)));
            }
        };
        let progress = &self.row.progress;
        Ok(Ok(Lease {
            seq: Seq(self.row.seq),
            stage: stage.clone(),
            token: self.token,
            expires: self.expires,
            attempts: progress.attempts,
            failing_since: progress.failing_since,
            doubts: progress.doubts,
            resumed: progress.resumed,
            // One from the future was noted before the clock was set back, and says nothing.
            is_stale: delivered.is_some_and(|delivered| delivered > entry.as_of && delivered <= self.at),
            entry,
            body,
            hold: self.hold,
        }))
    }
}

/// One claim.
struct Claiming<'a> {
    kind: Kind,
    lease_for: Duration,
    /// Of a sink whose events are merged.
    merging: Option<&'a Merging>,
    shared: &'a Arc<Shared>,
    seal: &'a Seal,
}

impl Claiming<'_> {
    /// Leases, and says when the next stage can be leased.
    fn run(&self, tx: &mut Tx<'_>, limit: usize) -> rusqlite::Result<(Vec<Taken>, Option<Timestamp>)> {
        let mut leased = Vec::new();
        let (mut bytes, mut is_over, mut looks) = (0, false, 0);
        while !is_over && looks < MOST_LOOKS {
            let found = self.found(tx, limit - leased.len())?;
            // Only a stage that left its line, or went back into it, can have made another one due.
            is_over = true;
            looks += found.len();
            for row in found {
                if bytes >= CLAIM_BYTES {
                    is_over = true;
                    break;
                }
                match self.lease(tx, row)? {
                    Some(taken) => {
                        bytes += entries::size(tx.connection, taken.row.seq)?;
                        leased.push(taken);
                    }
                    None => is_over = false,
                }
            }
        }
        Ok((leased, stages::next_due(tx.connection, self.kind)?))
    }

    /// Stages that can be leased.
    fn found(&self, tx: &mut Tx<'_>, limit: usize) -> rusqlite::Result<Vec<StageRow>> {
        loop {
            let found = stages::due(tx.connection, self.kind, tx.now, limit)?;
            if !self.prolong_held(tx, &found)? {
                return Ok(found);
            }
        }
    }

    /// Prolongs those of the leases found that have expired although they are worked on here: the process was stopped for a
    /// while, or the clock was set. Their work goes on; to give them to others too would do it twice. Returns whether there
    /// were any.
    fn prolong_held(&self, tx: &mut Tx<'_>, found: &[StageRow]) -> rusqlite::Result<bool> {
        let mut any = false;
        for row in found.iter().filter(|row| row.progress.token.is_some_and(|token| self.shared.is_held(token))) {
            // For a moment at least, so that it is not found again.
            let until = tx.now.after(self.lease_for.max(Duration::from_millis(1)));
            stages::change(tx, &mut row.clone(), |progress| progress.renew(until))?;
            any = true;
        }
        Ok(any)
    }

    fn lease(&self, tx: &mut Tx<'_>, mut row: StageRow) -> rusqlite::Result<Option<Taken>> {
        if let Some(asked) = self.merging {
            let connection = tx.connection;
            let facts = |seq| Ok(stored::alone(connection, (seq, row.kind, row.line), self.seal)?.entry);
            if !merging::gather(tx, &row, asked, facts)? {
                return Ok(None);
            }
        }
        // Held before the commit: a lease that is in the file belongs to somebody, or its claim was answered with an error.
        let (token, hold) = self.shared.hold();
        let (now, expires) = (tx.now, tx.now.after(self.lease_for));
        let is_first = row.progress.token.is_none() || stages::is_first(tx.connection, &row)?;
        let mut after = row.progress.clone();
        let claim = after.claim(token, expires, now, is_first);
        if claim == rules::Claim::Parked {
            merging::follow(tx, &row, &after)?;
        }
        stages::apply(tx, &mut row, |progress| *progress = after)?;
        match claim {
            rules::Claim::Leased => {}
            rules::Claim::Waits => return Ok(None),
            rules::Claim::Parked => {
                attempts::failed(tx, row.seq, row.kind, &row.progress)?;
                return Ok(None);
            }
        }
        Ok(Some(Taken { row, token, hold, at: now, expires }))
    }
}

/// Ends a lease, and does with the others of its group what follows. `entry`: what the worker knew of it.
fn settle(tx: &mut Tx<'_>, row: &mut StageRow, outcome: &Outcome, entry: Option<&Facts>) -> rusqlite::Result<()> {
    match outcome {
        Outcome::Fetched { reading, found } => {
            readings::finish(tx, *reading, *found)?;
            readings::note_fetched(tx, row.seq, row.kind, Some(*reading))?;
            readings::note_shortfall(tx, row.seq, row.line, Some(*found))?;
        }
        Outcome::Gone => {
            readings::note_fetched(tx, row.seq, row.kind, None)?;
            readings::note_shortfall(tx, row.seq, row.line, None)?;
        }
        _ => {}
    }
    let now = tx.now;
    for mut fetch in stages::to_fetch_again(tx.connection, row.seq, outcome)? {
        stages::put_back(tx, &mut fetch, |progress| progress.requeue(now))?;
    }
    let merged = entry.filter(|entry| !entry.merged.is_empty()).map(|entry| &entry.delivery_id);
    if merged.is_some() {
        let mut ended = row.progress.clone();
        ended.settle_merged(outcome, merged, now);
        for other in merging::follow(tx, row, &ended)? {
            let noted = Noted::settled((other.seq, other.kind), outcome, other.progress.reason.as_deref(), now);
            tx.touched.happened.extend(noted);
        }
    }
    stages::apply(tx, row, |progress| progress.settle_merged(outcome, merged, now))?;
    let noted = Noted::settled((row.seq, row.kind), outcome, row.progress.reason.as_deref(), now);
    tx.touched.happened.extend(noted);
    if rules::is_remembered(outcome) {
        attempts::failed(tx, row.seq, row.kind, &row.progress)?;
    }
    Ok(())
}

/// Puts work back in line that was parked with this fingerprint of credentials, and the deliveries that need it. Work that was
/// parked for another reason stays parked.
fn go_on(tx: &mut Tx<'_>, seq: i64, credentials: &CredentialsMark) -> rusqlite::Result<()> {
    for mut row in stages::of_entry(tx.connection, seq)? {
        if matches!(&row.progress.cause, Some(Cause::Credentials(mark)) if mark == credentials) {
            stages::requeue(tx, &mut row)?;
        }
    }
    let rows = stages::of_entry(tx.connection, seq)?;
    if rows.iter().any(|row| row.kind.is_fetch() && row.progress.standing == Standing::Parked) {
        return Ok(());
    }
    for mut row in rows.into_iter().filter(|row| row.progress.cause == Some(Cause::Needs)) {
        stages::requeue(tx, &mut row)?;
    }
    Ok(())
}

fn awaiting(connection: &Connection, user: Option<&UserId>) -> rusqlite::Result<Vec<Awaiting>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT entry.user, entry.connection, stage.credentials
             FROM stage INDEXED BY stage_awaiting JOIN entry USING (seq)
             WHERE stage.credentials IS NOT NULL AND (?1 IS NULL OR entry.user = ?1)",
        )?
        .query_map([user.map(UserId::as_str)], |row| {
            Ok(Awaiting {
                user: row.get::<_, Option<String>>(0)?.map(UserId::new),
                connection: ConnectionId::new(row.get::<_, String>(1)?),
                credentials: CredentialsMark::new(row.get::<_, String>(2)?),
            })
        })?
        .collect()
}
