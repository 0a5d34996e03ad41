//! Sockets that were opened for this process before it began (`sd_listen_fds(3)`).
//!
//! They are told apart by name, which is `FileDescriptorName=` in a socket unit: `public` and `admin`. A single socket of any
//! other name is the public one, because a socket unit that names none calls it by the unit's own name.

use base::text::printable;
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use std::{env, io, net::TcpListener};

/// Names of the sockets, one for each, with colons between.
const NAMES: &str = "LISTEN_FDNAMES";

/// Why sockets that were handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not clear what one of several sockets is for.
    #[error(
        "cannot tell which of the sockets that were handed over is for whom, by the names {names:?}\n\
         hint: hand over one socket with FileDescriptorName=public, and for the admin listener another one with \
         FileDescriptorName=admin"
    )]
    Names {
        /// What they are called.
        names: Vec<String>,
    },
    /// It is something else.
    #[error(
        "the {role} socket that was handed over is no TCP socket that listens\n\
         hint: use ListenStream= with an address and a port, and Accept=no"
    )]
    Kind {
        /// What it was for.
        role: &'static str,
        /// The system's reason, where it has one.
        #[source]
        source: Option<io::Error>,
    },
}

/// What was handed over.
#[derive(Debug, Default)]
pub struct Sockets {
    pub(crate) public: Option<TcpListener>,
    pub(crate) admin: Option<TcpListener>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Public,
    Admin,
}

impl Sockets {
    /// Takes what was handed over to this very process. Call it before the first thread is started: it takes the variables
    /// out of the environment, so that no other process takes the sockets for its own.
    ///
    /// # Errors
    /// [`Error`]; the unit that hands them over must be mended.
    pub fn inherit() -> Result<Self, Error> {
        let names = env::var(NAMES).unwrap_or_default();
        let mut handed = ListenFd::from_env();
        let mut sockets = Self::default();
        for (place, role) in roles(handed.len(), &names)?.into_iter().enumerate() {
            let (word, slot) = match role {
                Role::Public => ("public", &mut sockets.public),
                Role::Admin => ("admin", &mut sockets.admin),
            };
            let wrong = |source| Error::Kind { role: word, source };
            let socket = handed.take_tcp_listener(place).map_err(|error| wrong(Some(error)))?.ok_or(wrong(None))?;
            // Accept=yes hands over a caller.
            if !socket_acceptconn(&socket).map_err(|error| wrong(Some(error.into())))? {
                return Err(wrong(None));
            }
            *slot = Some(socket);
        }
        Ok(sockets)
    }
}

/// What each of so many sockets is for.
fn roles(count: usize, names: &str) -> Result<Vec<Role>, Error> {
    let names: Vec<&str> = names.split(':').collect();
    let role = |name: &str| match name {
        "public" => Some(Role::Public),
        "admin" => Some(Role::Admin),
        _ => None,
    };
    if count < 2 {
        return Ok(names.into_iter().take(count).map(|name| role(name).unwrap_or(Role::Public)).collect());
    }
    let roles: Option<Vec<Role>> = names.iter().copied().map(role).collect();
    match roles {
        Some(roles) if matches!(roles[..], [Role::Public, Role::Admin] | [Role::Admin, Role::Public]) && count == 2 => {
            Ok(roles)
        }
        _ => Err(Error::Names { names: names.into_iter().map(printable).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_apart_by_name() {
        use Role::{Admin, Public};
        for (count, names, found) in [
            (0, "", vec![]),
            (1, "", vec![Public]),
            (1, "linxo-webhook.socket", vec![Public]),
            (1, "public", vec![Public]),
            (1, "admin", vec![Admin]),
            (2, "public:admin", vec![Public, Admin]),
            (2, "admin:public", vec![Admin, Public]),
        ] {
            assert_eq!(roles(count, names).unwrap(), found, "{count} {names}");
        }
        for (count, names) in [(2, ""), (2, "public:public"), (2, "public:other"), (3, "public:admin"), (2, "public")] {
            assert!(matches!(roles(count, names), Err(Error::Names { .. })), "{count} {names}");
        }
    }
}
