//! The two listeners of the service, on sockets that were handed over or on addresses of the configuration.
//!
//! A socket that was handed over goes before the configured address, and what holds of an address holds of it: where nothing
//! keeps strangers out that is said, and figures for other machines need a token.

use crate::{
    admin,
    config::Config,
    receive::{self, tls},
    supervisor::Sockets,
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
};

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port.
    #[error("cannot bind {key} = {address}: choose another address, or stop what uses it")]
    Bind {
        /// Configuration key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A socket that was handed over.
    #[error("cannot use the socket that was handed over for {key}")]
    Socket {
        /// Configuration key in whose place it stands.
        key: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Certificates or keys of the admin listener.
    #[error("the admin listener's TLS (admin.tls) cannot be used")]
    AdminTls(#[source] tls::Error),
    /// It contradicts the configuration.
    #[error(
        "a socket for the admin listener was handed over, but admin.address is \"off\"\n\
         hint: set admin.address, or remove the socket with FileDescriptorName=admin"
    )]
    AdminOff,
    /// Figures for everybody.
    #[error(
        "the socket for the admin listener, {address}, can be reached from other machines, but there is no admin.token\n\
         hint: set admin.token, or let the socket listen on 127.0.0.1"
    )]
    NoToken {
        /// Where it listens.
        address: SocketAddr,
    },
}

impl Error {
    /// Whether the configuration, or the unit that hands over, is at fault.
    pub(super) fn is_configuration(&self) -> bool {
        matches!(self, Self::AdminTls(_) | Self::AdminOff | Self::NoToken { .. })
    }
}

/// Both listeners, which take nothing yet.
pub(super) async fn bind(config: &Config, sockets: Sockets) -> Result<(receive::Bound, Option<admin::Bound>), Error> {
    Ok((public(config, sockets.public).await?, admin(config, sockets.admin).await?))
}

async fn public(config: &Config, socket: Option<TcpListener>) -> Result<receive::Bound, Error> {
    const KEY: &str = "listener.address";
    let Some(socket) = socket else {
        let address = config.listener.address();
        let bound = receive::bind(&config.listener).await;
        return bound.map_err(|source| Error::Bind { key: KEY, address, source });
    };
    let bound = receive::inherit(socket).map_err(|source| Error::Socket { key: KEY, source })?;
    say_inherited(KEY, bound.address());
    if let Some(warning) = config.exposure_of(bound.address()) {
        tracing::warn!(code = "config_warning", "{warning}");
    }
    Ok(bound)
}

async fn admin(config: &Config, socket: Option<TcpListener>) -> Result<Option<admin::Bound>, Error> {
    const KEY: &str = "admin.address";
    let guards = admin::Guards::load(&config.admin).map_err(Error::AdminTls)?;
    if config.admin.address.is_some() {
        guards.log();
    }
    match (config.admin.address, socket) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::AdminOff),
        (Some(address), None) => {
            let bound = admin::bind(address, guards).await;
            bound.map(Some).map_err(|source| Error::Bind { key: KEY, address, source })
        }
        (Some(_), Some(socket)) => {
            let bound = admin::inherit(socket, guards).map_err(|source| Error::Socket { key: KEY, source })?;
            let address = bound.address();
            if !config.admin.knows_somebody() && !address.ip().to_canonical().is_loopback() {
                return Err(Error::NoToken { address });
            }
            say_inherited(KEY, address);
            Ok(Some(bound))
        }
    }
}

fn say_inherited(key: &str, address: SocketAddr) {
    tracing::info!(
        code = "socket_inherited",
        key,
        %address,
        "a socket was handed over and is used in place of the configured address"
    );
}
