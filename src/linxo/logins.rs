//! The credentials of users for the password grant: from a table that may change, or derived from the user's id.
//!
//! The table is looked at when a token is needed, at most once a second: its time, size and inode. What cannot be read
//! is logged once, and the last good table is kept.

use super::{Error, token::keyed};
use crate::{
    config::{
        Passwords,
        users::{Login, Table, USER_ID},
    },
    event::UserId,
    secret::Secret,
};
use arc_swap::ArcSwap;
use hmac::Mac;
use std::{
    fmt::Write as _,
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

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
    seen: Mutex<(Instant, Stamp)>,
}

/// Changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    seconds: i64,
    nanoseconds: i64,
    bytes: u64,
    inode: u64,
}

impl Logins {
    pub(super) fn new(passwords: &Passwords) -> Result<Self, Error> {
        match passwords {
            Passwords::Derived { username, secret } => {
                Ok(Self::Derived { username: username.clone(), secret: secret.clone() })
            }
            Passwords::Table(path) => {
                // The stamp first: what changes in between is seen at the next look.
                let stamp = stamp_of(path);
                let table = Table::read(path).map_err(|error| Error::Build(format!("{}: {error}", path.display())))?;
                Ok(Self::Table(Watched {
                    path: path.clone(),
                    table: ArcSwap::from_pointee(table),
                    seen: Mutex::new((Instant::now(), stamp)),
                }))
            }
        }
    }

    /// The credentials of a user.
    pub(super) fn login(&self, user: &UserId) -> Option<Login> {
        match self {
            Self::Table(watched) => watched.table.load().login(user.as_str()).cloned(),
            Self::Derived { username, secret } => {
                let mut mac = keyed(secret);
                mac.update(user.as_str().as_bytes());
                let mut password = String::with_capacity(64);
                for byte in mac.finalize().into_bytes() {
                    // Writing into a String does not fail.
                    write!(password, "{byte:02x}").ok();
                }
                let username = username.replace(USER_ID, user.as_str());
                Some(Login { username, password: Secret::new(password) })
            }
        }
    }

    /// Reads the table again if its file changed; returns the users whose credentials are other ones now.
    pub(super) async fn refresh(&self) -> Vec<String> {
        let Self::Table(watched) = self else { return Vec::new() };
        let stamp = {
            let mut seen = watched.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.0.elapsed() < LOOK_EVERY {
                return Vec::new();
            }
            let stamp = stamp_of(&watched.path);
            let changed = seen.1 != stamp;
            *seen = (Instant::now(), stamp);
            if !changed {
                return Vec::new();
            }
            stamp
        };
        let path = watched.path.clone();
        let read = tokio::task::spawn_blocking(move || Table::read(&path)).await;
        match read {
            Ok(Ok(table)) => {
                let table = Arc::new(table);
                let before = watched.table.swap(Arc::clone(&table));
                tracing::info!(users = table.len(), "the table of linxo.users.table was read again");
                table.changed_since(&before)
            }
            Ok(Err(error)) => {
                tracing::error!(
                    path = %watched.path.display(),
                    bytes = stamp.bytes,
                    error = %error,
                    "the table of linxo.users.table cannot be used; the last good one is kept"
                );
                Vec::new()
            }
            Err(error) => {
                tracing::error!(error = %error, "reading the table of linxo.users.table ended abruptly");
                Vec::new()
            }
        }
    }
}

/// All zero for a file that is not there.
fn stamp_of(path: &Path) -> Stamp {
    let stamp = |about: Metadata| Stamp {
        seconds: about.mtime(),
        nanoseconds: about.mtime_nsec(),
        bytes: about.size(),
        inode: about.ino(),
    };
    std::fs::metadata(path).map_or(Stamp { seconds: 0, nanoseconds: 0, bytes: 0, inode: 0 }, stamp)
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
}
