//! [`Queue`] on the server.

use super::{
    claim::Claiming,
    codes, lines,
    settle::{self, Ending},
    shared::Touched,
    store::{Core, Postgres},
    tx::{self, Trouble, statement},
};
use crate::{
    Awaiting, Cause, Claimed, CredentialsMark, Error, Lease, Merging, Outcome, Queue, Resume, Stage, fold,
    rules::Standing,
};
use async_trait::async_trait;
use event::{ConnectionId, UserId};
use std::{sync::Arc, time::Duration};

#[async_trait]
impl Queue for Postgres {
    async fn claim_merged(
        &self,
        stage: &Stage,
        limit: usize,
        lease_for: Duration,
        merging: Option<&Merging>,
    ) -> Result<Claimed, Error> {
        self.0.is_open()?;
        let Some(kind) = self.0.sinks.kind(stage) else { return Ok(Claimed::default()) };
        let (stage, merging) = (stage.clone(), merging.cloned());
        self.detached(move |core| async move { Claiming { core, stage, kind, lease_for, merging }.run(limit).await })
            .await
    }

    async fn wake(&self, stage: &Stage) {
        match self.0.sinks.kind(stage) {
            Some(kind) => self.0.shared.waker(kind).notified().await,
            None => std::future::pending().await,
        }
    }

    async fn renew(&self, lease: &Lease, lease_for: Duration) -> Result<(), Error> {
        let held = self.0.held(lease)?;
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let (tx, _) = core.begin_held(&held).await?;
                let due = tx.now.after(lease_for).as_millis();
                let renew =
                    statement!("UPDATE stage SET due = $3 WHERE seq = $1 AND kind = $2", held.seq, held.kind.0, due);
                tx.commit(&[renew]).await.map(drop)
            })
            .await
        })
        .await
    }

    async fn settle(&self, ended: &[(&Lease, Outcome)]) -> Vec<Result<(), Error>> {
        match self.settle_together(ended).await {
            Ok(settled) => settled,
            // One of them may be at fault; it must not take its neighbours with it.
            Err(Error::Store(_)) if ended.len() > 1 => {
                let mut settled = Vec::with_capacity(ended.len());
                for one in ended {
                    settled.extend(
                        self.settle_together(std::slice::from_ref(one)).await.unwrap_or_else(|error| vec![Err(error)]),
                    );
                }
                settled
            }
            Err(error) => error.shared_by(ended.len()),
        }
    }

    async fn awaiting(&self, user: Option<&UserId>) -> Result<Vec<Awaiting>, Error> {
        self.0.is_open()?;
        let rows = tx::query(
            &self.0.pool,
            statement!(
                "SELECT DISTINCT entry.\"user\", entry.connection, stage.credentials
                 FROM stage JOIN entry USING (seq)
                 WHERE stage.credentials IS NOT NULL AND ($1::text IS NULL OR entry.\"user\" = $1)",
                codes::maybe(user.map(UserId::as_str))
            ),
        )
        .await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push(Awaiting {
                user: codes::read_maybe(row, "user")?.map(UserId::new),
                connection: ConnectionId::new(codes::read(row, "connection")?),
                credentials: CredentialsMark::new(codes::read(row, "credentials")?),
            });
        }
        Ok(found)
    }

    async fn resume(&self, which: &Resume, limit: usize) -> Result<u64, Error> {
        let which = which.clone();
        self.detached(move |core| async move { tx::until_done(|| resume(&core, &which, limit)).await }).await
    }
}

impl Postgres {
    /// Ends leases, in one transaction; says of each whether it was still held.
    async fn settle_together(&self, ended: &[(&Lease, Outcome)]) -> Result<Vec<Result<(), Error>>, Error> {
        self.0.is_open()?;
        // A sink that is not configured has no leases.
        let endings: Vec<Option<Ending>> = ended
            .iter()
            .map(|(lease, outcome)| {
                let line = fold::line(lease.entry.connection.as_str());
                let (entry, outcome) = (Arc::clone(&lease.entry), outcome.clone());
                self.0.held(lease).ok().map(|held| Ending { held, line, entry, outcome })
            })
            .collect();
        let known: Vec<Ending> = endings.iter().flatten().cloned().collect();
        let mut settled =
            self.detached(move |core| async move { settle::settle(&core, &known).await }).await?.into_iter();
        let of = |(ending, (lease, _)): (&Option<Ending>, &(&Lease, Outcome))| {
            let lost = Err(Error::LeaseLost(lease.seq));
            if ending.is_some() { settled.next().unwrap_or(lost) } else { lost }
        };
        Ok(endings.iter().zip(ended).map(of).collect())
    }
}

/// Puts work back in line that was parked with this fingerprint of credentials, and the deliveries that need it. Work that was
/// parked for another reason stays parked.
async fn resume(core: &Core, which: &Resume, limit: usize) -> Result<u64, Trouble> {
    let found = tx::query(
        &core.pool,
        statement!(
            "SELECT DISTINCT stage.seq, stage.line FROM stage JOIN entry USING (seq)
             WHERE stage.credentials = $1 AND ($2::text IS NULL OR entry.\"user\" = $2)
                   AND ($3::text IS NULL OR entry.connection = $3)
             ORDER BY stage.seq LIMIT $4",
            codes::text(which.credentials.as_str()),
            codes::maybe(which.user.as_ref().map(UserId::as_str)),
            codes::maybe(which.connection.as_ref().map(ConnectionId::as_str)),
            codes::signed(limit),
        ),
    )
    .await?;
    if found.is_empty() {
        return Ok(0);
    }
    let entries: Result<Vec<(i64, i64)>, Trouble> =
        found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
    let entries = entries?;
    let (tx, mut board) = lines::load(&core.pool, &core.clock, &entries).await?;
    let mut resumed = 0;
    for (seq, _) in &entries {
        let waits =
            |cause: &Option<Cause>| matches!(cause, Some(Cause::Credentials(mark)) if *mark == which.credentials);
        let parked: Vec<_> =
            board.of_entry(*seq).iter().filter(|row| waits(&row.progress.cause)).map(|row| row.kind).collect();
        // Another receiver may have been first.
        resumed += u64::from(!parked.is_empty());
        for kind in parked {
            board.requeue(*seq, kind);
        }
        let stages = board.of_entry(*seq);
        if stages.iter().any(|row| row.kind.is_fetch() && row.progress.standing == Standing::Parked) {
            continue;
        }
        let needed: Vec<_> =
            stages.iter().filter(|row| row.progress.cause == Some(Cause::Needs)).map(|row| row.kind).collect();
        for kind in needed {
            board.requeue(*seq, kind);
        }
    }
    core.store(tx, board, Default::default(), Touched::default()).await?;
    Ok(resumed)
}
