//! Puts back in line what waited for other credentials.
//!
//! A fetch that the credentials are not good enough for is parked, together with a fingerprint of those credentials. When
//! the fingerprint of the present ones differs (a changed table of users, another client secret, a `[linxo]` section where
//! there was none), it is tried again. A change at the vendor's side shows in no fingerprint. It shows when another event
//! of the same user succeeds: that puts the user's other events back too.

use super::source::Source;
use base::{error::chain, sync::lock};
use event::{ConnectionId, UserId};
use inbox::{Awaiting, Error, Queue, Resume};
use linxo::credentials::Unreadable;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Between two looks whether credentials changed; longer where a look takes long.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Entries put back in line at once, so that accepting is never held up for long.
const BATCH: usize = 500;

/// Watches what is parked for credentials.
#[derive(Debug)]
pub struct Credentials {
    queue: Arc<dyn Queue>,
    source: Arc<Source>,
    /// Users of whom something waited at the last look, or was parked since. To ask the inbox at each success would read all that waits each time.
    waiting: Mutex<HashSet<UserId>>,
}

impl Credentials {
    /// Of this inbox, judged by the client that is in use.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>, source: Arc<Source>) -> Self {
        Self { queue, source, waiting: Mutex::default() }
    }

    /// Looks again and again whether credentials changed; runs until `draining` is cancelled.
    pub async fn watch(self: Arc<Self>, draining: CancellationToken) {
        loop {
            let started = Instant::now();
            if let Err(error) = self.look().await {
                tracing::warn!(code = "credentials_unknown", error = %chain(&error), "whether credentials changed could not be looked up; it is tried again");
            }
            let pause = LOOK_EVERY.max(started.elapsed() * 20);
            tokio::select! {
                () = draining.cancelled() => return,
                () = time::sleep(pause) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), Error> {
        let Some(client) = self.source.client() else { return Ok(()) };
        // The same credentials serve all connections of a user: they are judged once, and what waits goes on together.
        let before = lock(&self.waiting).clone();
        let waiting = self.queue.awaiting(None).await?;
        self.saw(&before, &waiting);
        let mut waiting: Vec<_> = waiting.into_iter().map(|waits| (waits.user, waits.credentials)).collect();
        waiting.sort_unstable();
        waiting.dedup();
        let mut entries = 0;
        for (user, credentials) in waiting {
            let may_help = match credentials.as_str().parse() {
                Ok(lacking) => client.may_help(user.as_ref(), lacking).await,
                // Another version wrote it: a try shows whether the present credentials do.
                Err(Unreadable) => true,
            };
            if may_help {
                entries += self.resume(&Resume { credentials, user, connection: None }).await?;
            }
        }
        if entries > 0 {
            tracing::info!(
                code = "parked_retried_for_credentials",
                entries,
                "parked events are tried again: the credentials for them changed, or give a token again"
            );
        }
        Ok(())
    }

    /// Takes in a look. Users that were noted since `before` stay until the next one.
    fn saw(&self, before: &HashSet<UserId>, waiting: &[Awaiting]) {
        let mut noted = lock(&self.waiting);
        noted.retain(|user| !before.contains(user));
        noted.extend(waiting.iter().filter_map(|waits| waits.user.clone()));
    }

    /// Something of this user is about to be parked for its credentials.
    pub fn waits(&self, user: &UserId) {
        lock(&self.waiting).insert(user.clone());
    }

    /// A user's accounts were read: what else of the user was refused may succeed now. Of that connection everything is put
    /// back in line, of each other one the first entry only: should that succeed, it brings the rest along.
    ///
    /// # Errors
    /// Those of the inbox.
    pub async fn are_good(&self, user: &UserId, connection: &ConnectionId) -> Result<(), Error> {
        if !lock(&self.waiting).contains(user) {
            return Ok(());
        }
        let mut entries = 0;
        let mut tried = HashSet::new();
        for waits in self.queue.awaiting(Some(user)).await? {
            let is_same = waits.connection == *connection;
            let which =
                Resume { credentials: waits.credentials, user: waits.user, connection: Some(waits.connection.clone()) };
            if is_same {
                entries += self.resume(&which).await?;
            } else if tried.insert(waits.connection) {
                entries += self.queue.resume(&which, 1).await?;
            }
        }
        if entries > 0 {
            tracing::info!(
                code = "parked_retried_for_user",
                entries,
                user.id = %user,
                "parked events are tried again: another one of the same user succeeded"
            );
        }
        Ok(())
    }

    /// Puts everything that matches back in line; says how many entries that were.
    async fn resume(&self, which: &Resume) -> Result<u64, Error> {
        let mut entries = 0;
        loop {
            // What was put back waits for nothing any more, so the next batch is another one.
            let batch = self.queue.resume(which, BATCH).await?;
            entries += batch;
            if batch < BATCH as u64 {
                return Ok(entries);
            }
        }
    }
}
