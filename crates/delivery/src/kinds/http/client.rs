//! The HTTP client of one sink: whom it trusts, where it may connect to, how long it waits.

use super::settings::Settings;
use crate::signature::SecretError;
use base::outbound::Resolver;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Proxy, Url, redirect};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{self, CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

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
    #[error("the file {} cannot be read as PEM", path.display())]
    Pem { path: PathBuf, source: pki_types::pem::Error },
    #[error("the certificate in {} and the key in {} cannot be used together", certificate.display(), key.display())]
    Identity { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("the proxy cannot be used")]
    Proxy(#[source] reqwest::Error),
    #[error("a header cannot be sent")]
    Header(#[source] http::Error),
    #[error("the url cannot be read")]
    Url(#[source] url::ParseError),
    #[error(transparent)]
    Secret(SecretError),
    #[error("cannot build the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Reads the files and builds the client; connects to nothing.
pub(super) fn build(url: &Url, settings: &Settings) -> Result<Client, Problem> {
    builder(url, settings)?.build().map_err(Problem::Client)
}

/// The client before it is built.
pub(super) fn builder(url: &Url, settings: &Settings) -> Result<ClientBuilder, Problem> {
    let builder = Client::builder()
        .user_agent(concat!("linxo-webhook/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers(settings)?)
        .connect_timeout(CONNECT.min(settings.timeout))
        .timeout(settings.timeout)
        .pool_idle_timeout(POOL_IDLE)
        .redirect(redirect::Policy::none())
        .referer(false)
        .dns_resolver(Resolver)
        .no_proxy()
        .tcp_nodelay(true);
    if url.scheme() != "https" {
        // Plain HTTP never reaches TLS; without this an image that has no CA certificates could not build the client.
        return Ok(builder.tls_certs_only([]));
    }
    let mut builder = builder.https_only(true).tls_certs_merge(roots(&settings.authorities)?);
    if let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) {
        builder = builder.identity(identity(certificate, key)?);
    }
    if let Some(proxy) = proxy(settings)? {
        builder = builder.proxy(proxy);
    }
    Ok(builder)
}

/// Those of the settings. A header that the delivery has itself goes before one of these.
fn headers(settings: &Settings) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::with_capacity(settings.headers.len() + 1);
    let value = |text: &str, is_secret| {
        let mut value = HeaderValue::from_str(text).map_err(|error| Problem::Header(error.into()))?;
        value.set_sensitive(is_secret);
        Ok(value)
    };
    for pair in &settings.headers {
        let name = HeaderName::from_bytes(pair.name.as_bytes()).map_err(|error| Problem::Header(error.into()))?;
        headers.insert(name, value(pair.value.expose(), pair.value.is_secret())?);
    }
    if let Some(token) = &settings.bearer {
        let text = Zeroizing::new(format!("Bearer {}", token.expose()));
        headers.insert(AUTHORIZATION, value(&text, true)?);
    }
    Ok(headers)
}

fn proxy(settings: &Settings) -> Result<Option<Proxy>, Problem> {
    let Some(url) = &settings.proxy else { return Ok(None) };
    let proxy = Proxy::https(url).map_err(Problem::Proxy)?;
    let credentials = settings.proxy_credentials.as_ref().and_then(|secret| secret.expose().split_once(':'));
    Ok(Some(match credentials {
        Some((user, password)) => proxy.basic_auth(user, password),
        None => proxy,
    }))
}

/// The client certificate. That its key is its own is looked at here, because the client says only that it cannot be built.
fn identity(certificate: &Path, key: &Path) -> Result<Identity, Problem> {
    let [chain, secret] = [certificate, key].map(|path| {
        fs::read(path).map(Zeroizing::new).map_err(|source| Problem::File { path: path.to_owned(), source })
    });
    let (chain, secret) = (chain?, secret?);
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| Problem::Pem { path, source }
    };
    let certificates =
        CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>().map_err(pem(certificate))?;
    let private = PrivateKeyDer::from_pem_slice(&secret).map_err(pem(key))?;
    CertifiedKey::from_der(certificates, private, &aws_lc_rs::default_provider())
        .map_err(|source| Problem::Identity { certificate: certificate.to_owned(), key: key.to_owned(), source })?;
    let both = Zeroizing::new([chain.as_slice(), b"\n", secret.as_slice()].concat());
    Identity::from_pem(&both).map_err(Problem::Client)
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
