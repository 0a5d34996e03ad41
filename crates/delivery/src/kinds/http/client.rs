//! The HTTP client of one sink: whom it trusts, where it may connect to, how long it waits.

use crate::signature::SecretError;
use base::outbound::Resolver;
use reqwest::{Certificate, Client, ClientBuilder, Url, redirect};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// To reach the endpoint, TLS included; less where the whole attempt may take less.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// Below what load balancers and servers commonly allow, so that a connection is not taken that they are about to close.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// Why the sink cannot be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("cannot use the file {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the file {} holds no PEM certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("the url cannot be read")]
    Url(#[source] url::ParseError),
    #[error(transparent)]
    Secret(SecretError),
    #[error("cannot build the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Reads the authorities and builds the client; connects to nothing.
pub(super) fn build(url: &Url, timeout: Duration, authorities: &[PathBuf]) -> Result<Client, Problem> {
    builder(url, timeout, authorities)?.build().map_err(Problem::Client)
}

/// The client before it is built.
pub(super) fn builder(url: &Url, timeout: Duration, authorities: &[PathBuf]) -> Result<ClientBuilder, Problem> {
    let builder = Client::builder()
        .user_agent(concat!("linxo-webhook/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT.min(timeout))
        .timeout(timeout)
        .pool_idle_timeout(POOL_IDLE)
        .redirect(redirect::Policy::none())
        .referer(false)
        .dns_resolver(Resolver)
        .no_proxy()
        .tcp_nodelay(true);
    Ok(if url.scheme() == "https" {
        builder.https_only(true).tls_certs_merge(roots(authorities)?)
    } else {
        // Plain HTTP never reaches TLS; without this an image that has no CA certificates could not build the client.
        builder.tls_certs_only([])
    })
}

fn roots(authorities: &[PathBuf]) -> Result<Vec<Certificate>, Problem> {
    let mut roots = Vec::new();
    for path in authorities {
        roots.extend(bundle(path)?);
    }
    Ok(roots)
}

fn bundle(path: &Path) -> Result<Vec<Certificate>, Problem> {
    let pem = fs::read(path).map_err(|source| Problem::File { path: path.to_owned(), source })?;
    let bundle = Certificate::from_pem_bundle(&pem).map_err(Problem::Client)?;
    if bundle.is_empty() {
        return Err(Problem::NoCertificate { path: path.to_owned() });
    }
    Ok(bundle)
}
