//! [`Queue`] on the file: who works on what, until when.

use super::{
    attempts,
    codes::{Kind, unsigned},
    happenings::Noted,
    merging, readings,
    select::resume,
    shared::Shared,
    sinks,
    stages::{self, StageRow},
    store::Sqlite,
    tx::Tx,
};
use crate::{
    AsOf, Awaiting, Cause, Certainty, Claimed, CredentialsMark, DeliveryId, Error, Facts, Fetched, Found, Lease,
    Merging, Outcome, Queue, ReadingId, Resume, Seq, Stage, Token, TraceParent,
    merging::unite,
    rules::{self, Standing},
    seal::{Flaw, NO_KEY, Owner, Place, Seal},
};
use async_trait::async_trait;
use base::clock::Timestamp;
use bytes::Bytes;
use event::{ChannelDefinitionId, ConnectionId, EventId, UserId};
use futures_util::future::join_all;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::{slice, sync::Arc, time::Duration};

/// Bodies handed out by one claim, in bytes; at least one entry is handed out.
const CLAIM_BYTES: usize = 8 * 1024 * 1024;
/// Stages that one claim looks at, those included that are not to go yet: others wait for the writer meanwhile.
const MOST_LOOKS: usize = 2_000;
/// Why an entry is parked whose body does not have the digest that it was stored with.
const DAMAGED: &str = "the stored event is not the one that was accepted: the inbox's file or its disk is damaged; restore \
                       the file from a backup, then replay the entry";
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
        let (shared, seal, stage) = (Arc::clone(&self.shared), Arc::clone(&self.seal), stage.clone());
        let merging = merging.cloned();
        self.write(move |tx| {
            Claiming { stage: &stage, kind, lease_for, merging: merging.as_ref(), shared: &shared, seal: &seal }
                .run(tx, limit)
        })
        .await
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
    /// Settles all in one transaction, or none.
    async fn settle_together(&self, ended: &[(&Lease, Outcome)]) -> Result<Vec<Result<(), Error>>, Error> {
        let seqs = ended.iter().map(|(lease, _)| lease.seq);
        let ending: Vec<_> = ended
            .iter()
            .map(|(lease, outcome)| Ending {
                seq: lease.seq.0,
                kind: self.sinks.kind(&lease.stage),
                token: lease.token,
                entry: Arc::clone(&lease.entry),
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
    entry: Arc<Facts>,
    outcome: Outcome,
}

impl Ending {
    /// Settles, unless the lease is no longer held; returns whether it was.
    fn run(&self, tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
        let Some(kind) = self.kind else { return Ok(false) };
        let Some(mut row) = stages::load_held(tx.connection, self.seq, kind, self.token)? else { return Ok(false) };
        settle(tx, &mut row, &self.outcome, Some(&*self.entry))?;
        if self.outcome == Outcome::Done && !kind.is_fetch() {
            sinks::note_delivered(tx, kind, row.line, &self.entry)?;
        }
        Ok(true)
    }
}

/// One claim.
struct Claiming<'a> {
    stage: &'a Stage,
    kind: Kind,
    lease_for: Duration,
    /// Of a sink whose events are merged.
    merging: Option<&'a Merging>,
    shared: &'a Arc<Shared>,
    seal: &'a Seal,
}

impl Claiming<'_> {
    fn run(&self, tx: &mut Tx<'_>, limit: usize) -> rusqlite::Result<Claimed> {
        let mut leases = Vec::new();
        let (mut bytes, mut is_over, mut looks) = (0, false, 0);
        while !is_over && looks < MOST_LOOKS {
            let found = self.found(tx, limit - leases.len())?;
            // Only a stage that left its line, or went back into it, can have made another one due.
            is_over = true;
            looks += found.len();
            for row in found {
                if bytes >= CLAIM_BYTES {
                    is_over = true;
                    break;
                }
                match self.lease(tx, row)? {
                    Some(lease) => {
                        bytes += lease.body.len();
                        leases.push(lease);
                    }
                    None => is_over = false,
                }
            }
        }
        Ok(Claimed { leases, next_due: stages::next_due(tx.connection, self.kind)? })
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

    fn lease(&self, tx: &mut Tx<'_>, mut row: StageRow) -> rusqlite::Result<Option<Lease>> {
        if let Some(asked) = self.merging {
            let connection = tx.connection;
            let facts = |seq| Ok(stored(connection, (seq, row.kind, row.line), self.seal)?.entry);
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
        let (stored, is_no_news) = self.stored(tx.connection, &row, now)?;
        let is_stale = stored.is_stale(now);
        let Stored { entry, body, .. } = stored;
        let body = match body {
            Ok(body) => body,
            Err(reason) => {
                let damaged = Outcome::Park { cause: Cause::Damaged, reason: reason.to_owned() };
                settle(tx, &mut row, &damaged, Some(&entry))?;
                return Ok(None);
            }
        };
        Ok(Some(Lease {
            seq: Seq(row.seq),
            stage: self.stage.clone(),
            token,
            expires,
            attempts: row.progress.attempts,
            failing_since: row.progress.failing_since,
            doubts: row.progress.doubts,
            resumed: row.progress.resumed,
            is_stale,
            is_no_news,
            entry: Arc::new(entry),
            body,
            hold,
        }))
    }

    /// What work needs of the entries that leave together with a stage, one delivery; and whether all of them are stale.
    fn stored(&self, connection: &Connection, row: &StageRow, now: Timestamp) -> rusqlite::Result<(Stored, bool)> {
        let stored = |seq| stored(connection, (seq, row.kind, row.line), self.seal);
        let own = stored(row.seq)?;
        if !own.is_grouped {
            let is_stale = own.is_stale(now);
            return Ok((own, is_stale));
        }
        let members = merging::in_line(connection, row)?;
        let mut found = Vec::with_capacity(members.len());
        for seq in members {
            found.push((Seq(seq), stored(seq)?));
        }
        let is_no_news = found.iter().all(|(_, stored)| stored.is_stale(now));
        let facts: Vec<(Seq, &Facts)> = found.iter().map(|(seq, stored)| (*seq, &stored.entry)).collect();
        let Some((newest, entry)) = unite(&facts) else { return Ok((own, is_no_news)) };
        let (_, stored) = found.swap_remove(newest);
        Ok((Stored { entry, ..stored }, is_no_news))
    }
}

/// What work needs of an entry.
struct Stored {
    entry: Facts,
    /// The body that was accepted, or why it is not to be had.
    body: Result<Bytes, &'static str>,
    /// How new the newest accounts are that the same sink was given of the same connection and channel.
    delivered: Option<AsOf>,
    /// Whether it was decided with which others it leaves.
    is_grouped: bool,
}

impl Stored {
    /// Whether the same sink was given something newer of the same connection and channel.
    fn is_stale(&self, now: Timestamp) -> bool {
        self.delivered.is_some_and(|delivered| self.entry.as_of.is_late_behind(delivered, now))
    }
}

/// The facts of an entry, for who looks on.
pub(super) fn facts(connection: &Connection, seq: i64, seal: &Seal) -> rusqlite::Result<Option<Facts>> {
    // Of no stage, and no line: nothing was delivered there.
    Ok(stored(connection, (seq, Kind(i64::MIN), 0), seal).optional()?.map(|stored| stored.entry))
}

/// What work at a kind of stage needs of an entry, whose connection has this line.
fn stored(connection: &Connection, (seq, kind, line): (i64, Kind, i64), seal: &Seal) -> rusqlite::Result<Stored> {
    connection
        .prepare_cached(
            "SELECT entry.id, coalesce(delivery_id, entry.id), event_type, resource_type, entry.connection, entry.user, entry.channel,
                    mode, created, accepted, account_count, listed, confirm, trace, body.bytes,
                    fetched.seq IS NOT NULL, fetched.reading, reading.accounts, reading.certainty, reading.unusable, digest,
                    fetched.snapshot,
                    delivered.as_of,
                    entry.key, entry.status, entry.provider, entry.new_transactions,
                    EXISTS (SELECT 1 FROM merged WHERE merged.seq = ?1 AND merged.kind = ?3), delivered.seq
             FROM entry JOIN body USING (seq)
                  LEFT JOIN fetched ON fetched.seq = entry.seq AND fetched.kind = ?2
                  LEFT JOIN reading ON reading.id = fetched.reading
                  LEFT JOIN delivered ON delivered.kind = ?3 AND delivered.line = ?4 AND delivered.channel = coalesce(entry.channel, '')
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
        as_of: time(21)?.map_or(AsOf { at: accepted, listed_by: Some(Seq(seq)) }, |at| AsOf { at, listed_by: None }),
        merged: Vec::new(),
    };
    let body = whole_body(row, seal, Place::Body(seq), &Owner::of_ids(&entry.connection, entry.user.as_ref()))?;
    let delivered = time(22)?.map(|at| Ok::<_, rusqlite::Error>(AsOf::of(at, row.get(28)?))).transpose()?;
    Ok(Stored { entry, body, delivered, is_grouped: row.get(27)? })
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
