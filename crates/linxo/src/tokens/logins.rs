//! The credentials of users for the password grant: from a table that may change, or derived from the user's id.
//!
//! The file of the table is looked at when a token is needed, at most once a second, and read again when it changed. A table
//! that cannot be used is logged once, and the last good one is kept. It is read again when its file changes, or, where the
//! file could not be opened, at the next look.

use crate::{
    error::Error,
    keyed::keyed,
    settings::Passwords,
    users::{Login, Table, TableError, USER_ID},
};
use arc_swap::ArcSwap;
use base::{clock, secret::Secret, stamp::Stamp};
use data_encoding::HEXLOWER;
use event::UserId;
use hmac::Mac;
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Between two looks at the table.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Credentials by user.
#[derive(Debug)]
pub(super) enum Logins {
    Table(Watched),
    Derived { username: String, secret: Secret },
}

/// A table and what its file looked like when it was read.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    table: ArcSwap<Table>,
    /// Held while the table is read, so that the newer reading is the one that stays.
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// When it was looked at.
    at: Instant,
    stamp: Option<Stamp>,
    /// Whether it is to be read again though it looks the same.
    again: bool,
    /// What was wrong with it, as it was logged.
    problem: Option<String>,
}

impl Logins {
    pub(super) fn new(passwords: &Passwords) -> Result<Self, Error> {
        match passwords {
            Passwords::Derived { username, secret } => {
                Ok(Self::Derived { username: username.clone(), secret: secret.clone() })
            }
            Passwords::Table(path) => {
                // The stamp first: what changes in between is seen at the next look.
                let stamp = Stamp::of(path);
                let table = Table::read(path).map_err(|error| Error::Build(format!("{}: {error}", path.display())))?;
                let seen = Seen { at: Instant::now(), again: is_young(stamp), stamp, problem: None };
                Ok(Self::Table(Watched {
                    path: path.clone(),
                    table: ArcSwap::from_pointee(table),
                    seen: Mutex::new(seen),
                }))
            }
        }
    }

    /// The credentials of a user.
    pub(super) fn login(&self, user: &UserId) -> Option<Login> {
        match self {
            Self::Table(watched) => watched.table.load().login(user.as_str()).cloned(),
            Self::Derived { username, secret } => {
                let mut mac = keyed(secret.expose().as_bytes());
                mac.update(user.as_str().as_bytes());
                let password = HEXLOWER.encode(&mac.finalize().into_bytes());
                let username = username.replace(USER_ID, user.as_str());
                Some(Login { username, password: Secret::new(password) })
            }
        }
    }

    /// Reads the table again if its file changed; returns the users whose credentials are other ones now.
    ///
    /// # Cancel safety
    /// May be dropped at any point: a table counts as seen only once it is in use, so the next caller reads it instead.
    pub(super) async fn refresh(&self) -> Vec<String> {
        let Self::Table(watched) = self else { return Vec::new() };
        // A caller that comes while the table is read goes on with the last good one.
        let Ok(mut seen) = watched.seen.try_lock() else { return Vec::new() };
        if seen.at.elapsed() < LOOK_EVERY {
            return Vec::new();
        }
        let stamp = Stamp::of(&watched.path);
        let is_other = seen.stamp != stamp;
        if !is_other && !seen.again {
            seen.at = Instant::now();
            return Vec::new();
        }
        let path = watched.path.clone();
        let read = tokio::task::spawn_blocking(move || Table::read(&path)).await;
        let (changed, problem, cannot_be_opened) = match read {
            Ok(Ok(table)) => (watched.take(table), None, false),
            Ok(Err(error)) => (Vec::new(), Some(error.to_string()), matches!(error, TableError::Unreadable(_))),
            Err(error) => (Vec::new(), Some(format!("reading it ended abruptly: {error}")), true),
        };
        if let Some(problem) = problem.as_ref().filter(|problem| is_other || seen.problem.as_ref() != Some(*problem)) {
            tracing::error!(
                code = "users_table_refused",
                path = %watched.path.display(),
                error = problem,
                "the table of linxo.users.table cannot be used; the last good one is kept"
            );
        }
        *seen = Seen { at: Instant::now(), again: is_young(stamp) || cannot_be_opened, stamp, problem };
        changed
    }
}

impl Watched {
    /// Takes another table into use; returns the users whose credentials are other ones now.
    fn take(&self, table: Table) -> Vec<String> {
        let table = Arc::new(table);
        let before = self.table.swap(Arc::clone(&table));
        let changed = table.changed_since(&before);
        if !changed.is_empty() {
            let (users, changed) = (table.len(), changed.len());
            tracing::info!(code = "users_table_read", users, changed, "the table of linxo.users.table was read again");
        }
        changed
    }
}

/// Whether another change could look the same.
fn is_young(stamp: Option<Stamp>) -> bool {
    stamp.is_some_and(|stamp| stamp.is_young(clock::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_what_the_integrator_derives() {
        let logins = Logins::new(&Passwords::Derived {
            username: "{user_id}@example.com".to_owned(),
            secret: Secret::new("key".to_owned()),
        })
        .unwrap();
        let login = logins.login(&UserId::new("The quick brown fox jumps over the lazy dog")).unwrap();
        assert_eq!(login.username, "The quick brown fox jumps over the lazy dog@example.com");
        // The well-known test vector of HMAC-SHA256.
        assert_eq!(login.password.expose(), "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
    }

    fn table(folder: &tempfile::TempDir, lines: &str) -> PathBuf {
        let path = folder.path().join("users.csv");
        std::fs::write(&path, format!("user_id,username,password\n{lines}")).unwrap();
        path
    }

    /// Looks until the table was taken in again, as after a second.
    async fn changed(logins: &Logins) -> Vec<String> {
        let Logins::Table(watched) = logins else { panic!("no table") };
        watched.seen.lock().await.at -= LOOK_EVERY;
        logins.refresh().await
    }

    #[test]
    fn a_caller_that_gives_up_while_the_table_is_read_loses_nothing() {
        use futures_util::FutureExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = table(&folder, "1,a,b\n");
        let logins = Logins::new(&Passwords::Table(path)).unwrap();
        table(&folder, "1,a,c\n2,d,e\n");
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            // Nothing is read before this ends.
            let (go, wait) = std::sync::mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || wait.recv());
            assert!(changed(&logins).now_or_never().is_none(), "it is being read");
            go.send(()).unwrap();
            let mut users = changed(&logins).await;
            users.sort();
            assert_eq!(users, ["1", "2"]);
        });
        assert_eq!(logins.login(&UserId::new("1")).unwrap().password.expose(), "c");
    }

    #[tokio::test]
    async fn a_table_that_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = table(&folder, "1,a,b\n");
        let logins = Logins::new(&Passwords::Table(path.clone())).unwrap();
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(changed(&logins).await.is_empty());
        assert_eq!(logins.login(&UserId::new("1")).unwrap().password.expose(), "b");
        let Logins::Table(watched) = &logins else { panic!("no table") };
        let problem = watched.seen.lock().await.problem.clone();
        assert_eq!(problem.unwrap(), "line 1 must be `user_id,username,password`");
    }

    #[tokio::test]
    async fn a_table_that_can_be_opened_again_is_read_though_it_looks_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = table(&folder, "1,a,b\n");
        let logins = Logins::new(&Passwords::Table(path.clone())).unwrap();
        // What cannot be opened, whatever the rights of who runs this.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(changed(&logins).await.is_empty());
        let Logins::Table(watched) = &logins else { panic!("no table") };
        {
            let seen = watched.seen.lock().await;
            assert!(seen.again && seen.problem.is_some(), "{seen:?}");
        }
        assert!(logins.login(&UserId::new("1")).is_some(), "the last good one is kept");
        std::fs::remove_dir(&path).unwrap();
        table(&folder, "2,a,b\n");
        assert_eq!(changed(&logins).await.len(), 2);
    }
}
