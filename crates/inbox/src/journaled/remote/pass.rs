//! Every other interface: hands on to the store, or says that it is away.
//!
//! Without a store there is no work, and that is no error: the work loops would log one every second for as long as it lasts.

use super::{beside::Beside, state::Remote};
use crate::{
    Act, ActView, Audit, Awaiting, Batch, Charts, Claimed, Desk, EntryPage, EntryView, Erased, Error, Expired, Fill,
    Filter, Held, Lease, Merging, Minute, Outcome, Page, Persons, Place, Queue, Reading, ReadingId, Readings, Receiver,
    ReceiverView, Receivers, RefusedView, Resealed, Resume, Seen, Seq, Shelf, Shortfall, SinkName, Sinks, Span, Stage,
    Stats, Story, Subject, Upkeep, Watch, rules::Order,
};
use async_trait::async_trait;
use base::{clock::Timestamp, sync::lock};
use bytes::Bytes;
use event::UserId;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;

/// How long the figures of the store are waited for.
const STORE_TIME: Duration = Duration::from_millis(1500);
/// How long retention is waited for.
const EXPIRE_TIME: Duration = Duration::from_secs(5);
/// For the fold to come to an end when the service ends.
const DRAIN_TIME: Duration = Duration::from_secs(10);

#[async_trait]
impl Queue for Remote {
    async fn claim_merged(
        &self,
        stage: &Stage,
        limit: usize,
        lease_for: Duration,
        merging: Option<&Merging>,
    ) -> Result<Claimed, Error> {
        let Some(store) = self.opened() else { return Ok(Claimed::default()) };
        // A store that was opened late may know of pauses that nobody here has seen yet.
        if matches!(stage, Stage::Deliver(_)) && !self.knows_pauses.load(Ordering::Acquire) {
            return Ok(Claimed::default());
        }
        store.claim_merged(stage, limit, lease_for, merging).await
    }

    async fn wake(&self, stage: &Stage) {
        let mut opened = self.store.subscribe();
        // The sender is this value's own.
        if let Ok(store) = opened.wait_for(Option::is_some).await.map(|store| store.clone())
            && let Some(store) = store
        {
            store.wake(stage).await;
        }
    }

    async fn renew(&self, lease: &Lease, lease_for: Duration) -> Result<(), Error> {
        self.store()?.renew(lease, lease_for).await
    }

    async fn settle(&self, ended: &[(&Lease, Outcome)]) -> Vec<Result<(), Error>> {
        match self.store() {
            Ok(store) => store.settle(ended).await,
            Err(error) => error.shared_by(ended.len()),
        }
    }

    async fn awaiting(&self, user: Option<&UserId>) -> Result<Vec<Awaiting>, Error> {
        let Some(store) = self.opened() else { return Ok(Vec::new()) };
        store.awaiting(user).await
    }

    async fn resume(&self, which: &Resume, limit: usize) -> Result<u64, Error> {
        let Some(store) = self.opened() else { return Ok(0) };
        Queue::resume(&*store, which, limit).await
    }
}

#[async_trait]
impl Sinks for Remote {
    async fn paused(&self) -> Result<BTreeMap<SinkName, Timestamp>, Error> {
        let Some(store) = self.opened() else { return Ok(BTreeMap::new()) };
        let paused = store.paused().await?;
        self.knows_pauses.store(true, Ordering::Release);
        Ok(paused)
    }

    async fn pause(&self, sink: &SinkName, pause: bool) -> Result<bool, Error> {
        self.store()?.pause(sink, pause).await
    }

    async fn set_order(&self, sink: &SinkName, order: Order) -> Result<bool, Error> {
        self.store()?.set_order(sink, order).await
    }

    async fn resume(&self, sink: &SinkName, before: Timestamp, limit: usize) -> Result<u64, Error> {
        let Some(store) = self.opened() else { return Ok(0) };
        Sinks::resume(&*store, sink, before, limit).await
    }
}

#[async_trait]
impl Watch for Remote {
    fn next(&self) -> u64 {
        self.opened().map_or(0, |store| store.next())
    }

    async fn seen(&self, from: u64, limit: usize) -> Result<Seen, Error> {
        self.store()?.seen(from, limit).await
    }
}

#[async_trait]
impl Readings for Remote {
    async fn find_or_begin(&self, lease: &Lease, resume_within: Duration) -> Result<Reading, Error> {
        Readings::find_or_begin(&*self.store()?, lease, resume_within).await
    }

    async fn begin(&self, lease: &Lease) -> Result<Reading, Error> {
        Readings::begin(&*self.store()?, lease).await
    }

    async fn abandon(&self, lease: &Lease) -> Result<(), Error> {
        Readings::abandon(&*self.store()?, lease).await
    }

    async fn last_shortfall(&self, lease: &Lease) -> Result<Option<Shortfall>, Error> {
        Readings::last_shortfall(&*self.store()?, lease).await
    }

    async fn keep_page(&self, lease: &Lease, reading: ReadingId, page: Page) -> Result<(), Error> {
        Readings::keep_page(&*self.store()?, lease, reading, page).await
    }

    async fn replace_accounts(
        &self,
        lease: &Lease,
        reading: ReadingId,
        number: u32,
        accounts: Bytes,
    ) -> Result<(), Error> {
        Readings::replace_accounts(&*self.store()?, lease, reading, number, accounts).await
    }

    async fn keep_connection(&self, lease: &Lease, reading: ReadingId, connection: Bytes) -> Result<(), Error> {
        Readings::keep_connection(&*self.store()?, lease, reading, connection).await
    }
}

#[async_trait]
impl Shelf for Remote {
    async fn pages(&self, reading: ReadingId) -> Result<Vec<(u32, u64)>, Error> {
        Shelf::pages(&*self.store()?, reading).await
    }

    async fn page(&self, reading: ReadingId, number: u32) -> Result<Bytes, Error> {
        Shelf::page(&*self.store()?, reading, number).await
    }

    async fn connection(&self, reading: ReadingId) -> Result<Option<Bytes>, Error> {
        Shelf::connection(&*self.store()?, reading).await
    }
}

#[async_trait]
impl Desk for Remote {
    async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<EntryView>, Error> {
        Desk::list(&*self.store()?, filter, limit).await
    }

    async fn page(
        &self,
        filter: &Filter,
        behind: Option<Place>,
        looked: usize,
        limit: usize,
    ) -> Result<EntryPage, Error> {
        Desk::page(&*self.store()?, filter, behind, looked, limit).await
    }

    async fn body(&self, seq: Seq) -> Result<Option<Bytes>, Error> {
        Desk::body(&*self.store()?, seq).await
    }

    async fn between(&self, span: Span) -> Result<Option<(Seq, Seq)>, Error> {
        Desk::between(&*self.store()?, span).await
    }

    async fn story(&self, seq: Seq) -> Result<Story, Error> {
        Desk::story(&*self.store()?, seq).await
    }

    async fn replay(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        Desk::replay(&*self.store()?, filter, limit).await
    }

    async fn fill(&self, sink: &SinkName, filter: &Filter, limit: usize, how: Fill) -> Result<Option<Batch>, Error> {
        Desk::fill(&*self.store()?, sink, filter, limit, how).await
    }

    async fn hand_over(&self, filter: &Filter, to: &SinkName, limit: usize) -> Result<Option<Batch>, Error> {
        Desk::hand_over(&*self.store()?, filter, to, limit).await
    }

    async fn park(&self, filter: &Filter, limit: usize, reason: &str) -> Result<Batch, Error> {
        Desk::park(&*self.store()?, filter, limit, reason).await
    }

    async fn purge(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        Desk::purge(&*self.store()?, filter, limit).await
    }

    async fn refused(&self, span: Span, limit: usize) -> Result<Vec<RefusedView>, Error> {
        Desk::refused(&*self.store()?, span, limit).await
    }
}

#[async_trait]
impl Persons for Remote {
    async fn held(&self, subject: &Subject) -> Result<Held, Error> {
        Persons::held(&*self.store()?, subject).await
    }

    async fn erase(&self, subject: &Subject) -> Result<Erased, Error> {
        Persons::erase(&*self.store()?, subject).await
    }
}

#[async_trait]
impl Audit for Remote {
    async fn begin(&self, act: &Act) -> Result<i64, Error> {
        Audit::begin(&*self.store()?, act).await
    }

    async fn end(&self, number: i64, entries: u64) -> Result<(), Error> {
        Audit::end(&*self.store()?, number, entries).await
    }

    async fn acts(&self, span: Span, limit: usize) -> Result<Vec<ActView>, Error> {
        Audit::acts(&*self.store()?, span, limit).await
    }

    async fn forget(&self, cutoff: Timestamp) -> Result<u64, Error> {
        let Some(store) = self.usable() else { return Ok(0) };
        Audit::forget(&*store, cutoff).await
    }
}

#[async_trait]
impl Charts for Remote {
    async fn note(&self, receiver: &str, minute: &Minute) -> Result<(), Error> {
        Charts::note(&*self.store()?, receiver, minute).await
    }

    async fn minutes(&self, span: Span, step: u32) -> Result<Vec<Minute>, Error> {
        Charts::minutes(&*self.store()?, span, step).await
    }
}

#[async_trait]
impl Receivers for Remote {
    async fn report(&self, receiver: &Receiver) -> Result<(), Error> {
        Receivers::report(&*self.store()?, receiver).await
    }

    async fn leave(&self, id: &str) -> Result<(), Error> {
        Receivers::leave(&*self.store()?, id).await
    }

    async fn receivers(&self) -> Result<Vec<ReceiverView>, Error> {
        Receivers::receivers(&*self.store()?).await
    }
}

#[async_trait]
impl Upkeep for Remote {
    async fn stats(&self) -> Result<Stats, Error> {
        let is_foreign = self.pool.foreign().is_some();
        let found = match self.opened() {
            Some(store) => timeout(STORE_TIME, store.stats()).await.ok(),
            None => None,
        };
        let is_away = !matches!(found, Some(Ok(_))) || self.usable().is_none();
        let stats = match found {
            Some(Ok(stats)) => stats,
            // A store that tells nothing is when those of the journal are needed most.
            _ => Stats::default(),
        };
        let stats = Stats { is_away, is_foreign, ..stats };
        Ok(self.beside.get().map_or(stats.clone(), |beside| beside.stats(stats)))
    }

    async fn expire(&self, cutoff: Timestamp, limit: usize) -> Result<Expired, Error> {
        // The figures wait for this, and they are wanted most when the server is away.
        let Some(store) = self.usable() else { return Ok(Expired { deleted: 0, is_done: true }) };
        let late = |_elapsed| Error::Away("it did not delete old entries in time".into());
        timeout(EXPIRE_TIME, store.expire(cutoff, limit)).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }

    async fn checkpoint(&self) -> Result<(), Error> {
        let Some(store) = self.opened() else { return Ok(()) };
        store.checkpoint().await
    }

    async fn seal(&self, limit: usize) -> Result<Resealed, Error> {
        Upkeep::seal(&*self.store()?, limit).await
    }

    async fn unseal(&self, limit: usize) -> Result<Resealed, Error> {
        Upkeep::unseal(&*self.store()?, limit).await
    }

    async fn fold_log(&self) -> Result<(), Error> {
        if let Some(beside) = self.beside.get() {
            // What was deleted was in the store, so its record is folded; only its segment may still be there.
            beside.journal.close_segment().await;
            beside.journal.let_go(beside.progress.folded());
            beside.journal.cleared().await;
        }
        let Some(store) = self.opened() else { return Ok(()) };
        store.fold_log().await
    }

    async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
        if let Some(beside) = self.beside.get() {
            beside.close().await;
        }
        if let Some(store) = self.opened() {
            store.close().await;
        }
        self.pool.close();
    }
}

impl Beside {
    /// The figures of the store, with those of the journal.
    fn stats(&self, stats: Stats) -> Stats {
        Stats {
            // Events are taken as long as the journal's disk has room.
            free_bytes: self.space.known_free(),
            journal_bytes: self.journal.size(),
            unfolded: self.unfolded(),
            oldest_unfolded: self.oldest(),
            is_fold_stuck: self.progress.is_stuck(),
            ..stats
        }
    }

    /// First nothing more comes in, then everything is folded where the server answers, then what was folded is cleared.
    async fn close(&self) {
        let journal = Arc::clone(&self.journal);
        let stopped = tokio::task::spawn_blocking(move || journal.stop()).await;
        self.progress.end();
        self.called.notify_one();
        let folding = lock(&self.folding).take();
        if let Some(folding) = folding {
            // It says itself what it had to leave.
            drop(timeout(DRAIN_TIME, folding).await);
        }
        drop(stopped);
        let (journal, folded) = (Arc::clone(&self.journal), self.progress.folded());
        let ended = tokio::task::spawn_blocking(move || {
            journal.let_go(folded);
            journal.end();
        });
        if let Err(error) = ended.await {
            tracing::error!(code = "journal_not_closed", error = %error, "the journal could not be closed");
        }
    }
}
