//! Operators' questions, asked once everything that was accepted before the question is in the store. So a list shows what a
//! sender was answered a moment ago, in the service and in a command beside it.
//!
//! While the fold cannot go on nobody waits for long: the answer is then that of the store, and a warning says how much is
//! missing.

use super::progress::Progress;
use crate::{
    Batch, Desk, EntryPage, EntryView, Erased, Error, Fill, Filter, Held, Persons, Place, Position, RefusedView, Seq,
    SinkName, Span, Story, Subject,
    journal::{self, Journal},
    sqlite::Sqlite,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a question waits for the fold.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks of a command at how far the service has folded.
const LOOK: Duration = Duration::from_millis(10);

/// A store's desk that waits for the fold.
#[derive(Debug)]
pub(crate) struct PatientDesk {
    store: Arc<Sqlite>,
    fold: Fold,
}

/// Where the fold runs.
#[derive(Debug)]
pub(super) enum Fold {
    /// In this process.
    Here { journal: Arc<Journal>, progress: Arc<Progress> },
    /// In the service beside this process, whose journal is in this folder.
    Beside(PathBuf),
}

impl PatientDesk {
    pub(super) const fn new(store: Arc<Sqlite>, fold: Fold) -> Self {
        Self { store, fold }
    }

    /// For a command beside the service.
    pub(crate) const fn beside(store: Arc<Sqlite>, folder: PathBuf) -> Self {
        Self::new(store, Fold::Beside(folder))
    }

    /// Waits until what is in the journal now is in the store; says so where it is not.
    async fn catch_up(&self) {
        if let Some(events) = self.rest().await {
            tracing::warn!(
                code = "entries_not_shown",
                entries = events,
                "accepted events are in the journal and not yet in the inbox's store; they are not shown"
            );
        }
    }

    /// Waits until what is in the journal now is in the store; returns how many events are not in it after that.
    async fn rest(&self) -> Option<u64> {
        match &self.fold {
            Fold::Here { journal, progress } => {
                let end = journal.synced();
                let is_late = tokio::time::timeout(PATIENCE, progress.wait(end)).await.is_err();
                is_late.then(|| between(progress.folded(), end))
            }
            Fold::Beside(folder) => self.rest_beside(folder.clone()).await,
        }
    }

    async fn rest_beside(&self, folder: PathBuf) -> Option<u64> {
        let identity = self.store.keys().identity.0;
        let found = tokio::task::spawn_blocking(move || journal::tail(&folder, identity)).await;
        // What cannot be read now is the service's business, which says so.
        let Ok(Ok(tail)) = found else { return None };
        let until = Instant::now() + PATIENCE;
        while let Ok(folded) = self.store.reached().await {
            if folded >= tail.last {
                return None;
            }
            // Without a service nothing is folded.
            if !tail.is_owned || Instant::now() >= until {
                return Some(between(folded, tail.last));
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }
}

fn between(folded: Position, end: Position) -> u64 {
    end.0.saturating_sub(folded.0)
}

/// For a command beside the service.
#[async_trait]
impl Persons for PatientDesk {
    async fn held(&self, subject: &Subject) -> Result<Held, Error> {
        // An answer to a person must not leave out what came last.
        if let Some(events) = self.rest().await {
            let rest =
                format!("{events} accepted events are in its journal alone: let the service run, then ask again");
            return Err(Error::Store(rest.into()));
        }
        self.store.held(subject).await
    }

    async fn erase(&self, _subject: &Subject) -> Result<Erased, Error> {
        Err(Error::Store("only who has its journal can erase something".into()))
    }
}

#[async_trait]
impl Desk for PatientDesk {
    async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<EntryView>, Error> {
        self.catch_up().await;
        self.store.list(filter, limit).await
    }

    async fn page(
        &self,
        filter: &Filter,
        behind: Option<Place>,
        looked: usize,
        limit: usize,
    ) -> Result<EntryPage, Error> {
        self.catch_up().await;
        self.store.page(filter, behind, looked, limit).await
    }

    async fn body(&self, seq: Seq) -> Result<Option<Bytes>, Error> {
        self.store.body(seq).await
    }

    async fn between(&self, span: Span) -> Result<Option<(Seq, Seq)>, Error> {
        self.catch_up().await;
        self.store.between(span).await
    }

    async fn story(&self, seq: Seq) -> Result<Story, Error> {
        self.store.story(seq).await
    }

    async fn replay(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        self.catch_up().await;
        self.store.replay(filter, limit).await
    }

    async fn fill(&self, sink: &SinkName, filter: &Filter, limit: usize, how: Fill) -> Result<Option<Batch>, Error> {
        self.catch_up().await;
        self.store.fill(sink, filter, limit, how).await
    }

    async fn hand_over(&self, filter: &Filter, to: &SinkName, limit: usize) -> Result<Option<Batch>, Error> {
        self.catch_up().await;
        self.store.hand_over(filter, to, limit).await
    }

    async fn park(&self, filter: &Filter, limit: usize, reason: &str) -> Result<Batch, Error> {
        self.catch_up().await;
        self.store.park(filter, limit, reason).await
    }

    async fn purge(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        self.catch_up().await;
        let purged = self.store.purge(filter, limit).await;
        if let Fold::Here { progress, .. } = &self.fold {
            progress.forget_contents();
        }
        purged
    }

    async fn refused(&self, span: Span, limit: usize) -> Result<Vec<RefusedView>, Error> {
        self.store.refused(span, limit).await
    }
}
