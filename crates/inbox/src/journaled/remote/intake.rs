//! The way in: the store, or the journal where the server does not answer.

use super::state::Remote;
use crate::{Error, Folded, Intake, NewEntry, Receipt, Refused, fold, intake::Told, postgres::connect};
use async_trait::async_trait;
use std::time::Duration;
use tokio::time::timeout;

/// How long a commit is waited for where no journal takes the event.
const ALONE: Duration = Duration::from_secs(2);

#[async_trait]
impl Intake for Remote {
    async fn accept(&self, entry: NewEntry) -> Result<Receipt, Error> {
        self.is_right()?;
        let line = fold::line(entry.event.connection.as_str());
        let beside = self.beside.get();
        let store = self.opened().filter(|_| beside.is_none_or(|beside| beside.lets_pass(line)));
        let failed = match store {
            None => self.away(),
            Some(store) => {
                let patience = if beside.is_some() { connect::PATIENCE } else { ALONE };
                match timeout(patience, store.accept(entry.clone())).await {
                    Ok(Ok(receipt)) => return Ok(receipt),
                    Ok(Err(error)) => error,
                    // It may be stored all the same; the content tells.
                    Err(_elapsed) => Error::Away(format!("PostgreSQL did not commit within {patience:?}").into()),
                }
            }
        };
        let Some(beside) = beside.filter(|_| is_taken_beside(&failed)) else { return Err(failed) };
        self.is_right()?;
        beside.note_away();
        beside.accept(entry, line, self.keys.get()).await
    }

    fn ready(&self) -> Result<(), Error> {
        self.is_right()?;
        let store = self.opened();
        let failed = match &store {
            None => self.away(),
            Some(store) => match store.ready() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
        };
        match self.beside.get().filter(|_| is_taken_beside(&failed)) {
            Some(beside) => beside.ready(store.map_or(0, |store| store.backlog())),
            None => Err(failed),
        }
    }

    async fn fate(&self, receipt: &Receipt) -> Result<Option<Folded>, Error> {
        // Positions of the store and of the journal have nothing to do with each other: one that says what became of it is the store's.
        match (receipt.folded, self.beside.get()) {
            (None, Some(beside)) if beside.progress.wait(receipt.position).await => {
                Ok(beside.progress.fate(receipt.position))
            }
            (None, Some(_)) => Err(Error::Closed),
            (folded, _) => Ok(folded),
        }
    }

    fn on_fold(&self, told: Told) {
        // The first to ask is told.
        self.told.set(told).ok();
    }

    async fn refuse(&self, refused: Vec<Refused>) -> Result<(), Error> {
        self.store()?.refuse(refused).await
    }
}

impl Remote {
    /// Whether the server is not known to hold another inbox.
    fn is_right(&self) -> Result<(), Error> {
        self.pool.foreign().map_or(Ok(()), |fault| Err(fault.into()))
    }
}

/// Whether an event that the store did not take for this reason goes to the journal. Too much unfinished work is no reason: the journal would
/// only put off what the limit is for. A seal that this receiver does not have is none either: the journal would be in clear.
const fn is_taken_beside(error: &Error) -> bool {
    !matches!(error, Error::Backlog | Error::Closed | Error::Seal { .. })
}
