//! Where `send` posts: the given URL, the `listen` that is under way, or the receiver that the configuration describes.

use super::args::Args;
use crate::{
    commands::{Failure, Global, chain, guest::note, throwaway},
    config::{self, Config},
    control::{self, Client},
};
use double::{load::Target, pki::Identity};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

/// What the receiver makes for itself on its first start, and what is trusted when nothing else is said.
const OWN_CERTIFICATE: &str = "certs/server.pem";

/// Where to post.
pub(super) struct Receiver {
    pub(super) target: Target,
    /// Of a receiver that was found by its configuration: its inbox may say what became of events.
    pub(super) config: Option<Config>,
}

/// Finds the receiver, and what to trust and show there.
pub(super) async fn find(args: &Args, global: &Global) -> Result<Receiver, Failure> {
    if let Some(url) = &args.url {
        // The configuration then only says what to trust, where nothing else does.
        let config = if args.ca.is_none() { global.load().ok() } else { None };
        return Ok(Receiver { target: target(args, url, config.as_ref())?, config: None });
    }
    let config = configuration(global)?;
    let url = url_of(&config, address(&config).await);
    Ok(Receiver { target: target(args, &url, Some(&config))?, config: Some(config) })
}

fn target(args: &Args, url: &str, config: Option<&Config>) -> Result<Target, Failure> {
    let tls = if url.starts_with("https:") { Some(trust(args, config)?) } else { None };
    Target::new(url, tls).map_err(|error| Failure::usage(format_args!("--url: {}", chain(&error))))
}

/// That which is named, else that of the `listen` that is under way, else the usual one. Made-up events in the inbox of a real
/// service would be worse than the other way round.
fn configuration(global: &Global) -> Result<Config, Failure> {
    if global.is_named() {
        return global.load();
    }
    match throwaway::under_way("listen").as_slice() {
        [] => global.load(),
        [file] => {
            note(format_args!("note: to the `listen` that runs on this machine; --config names another receiver"));
            config::load(Some(file), []).map_err(Failure::configuration)
        }
        several => {
            let files: Vec<String> = several.iter().map(|file| format!("\n  --config {}", file.display())).collect();
            Err(Failure::usage(format_args!("several `listen` run\nhint: say which one is meant:{}", files.concat())))
        }
    }
}

/// Where the configured receiver listens. Port 0 is whichever the running service was given.
async fn address(config: &Config) -> SocketAddr {
    let configured = config.listener.address();
    if configured.port() != 0 {
        return configured;
    }
    let Ok(Some(service)) = Client::find(&control::path(&config.inbox)) else { return configured };
    let held = service.held().await.unwrap_or_default();
    // The public listener comes first.
    held.addresses.first().and_then(|address| address.parse().ok()).unwrap_or(configured)
}

/// Where the configured receiver takes events, as this machine reaches it. Never printed: it may end in a secret.
fn url_of(config: &Config, address: SocketAddr) -> String {
    let host = if address.ip().is_unspecified() || address.ip().is_loopback() {
        "localhost".to_owned()
    } else {
        // An IPv6 address stands between brackets there.
        SocketAddr::new(address.ip(), 0).to_string().trim_end_matches(":0").to_owned()
    };
    let secret = config.sender.path_secrets.first().map(|secret| format!("/{}", secret.expose())).unwrap_or_default();
    let path = config.listener.path.trim_end_matches('/');
    format!("https://{host}:{}{path}{secret}", address.port())
}

fn trust(args: &Args, config: Option<&Config>) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let own = config.map_or_else(|| PathBuf::from(OWN_CERTIFICATE), |config| config.tls.certificate.clone());
    let file = match &args.ca {
        Some(file) => file.as_path(),
        None if own.exists() => &own,
        None => {
            return Err(Failure::usage(format_args!(
                "there is no {} to trust\nhint: give the receiver's certificate, or its authority's, with --ca",
                own.display()
            )));
        }
    };
    let unusable = |error: &dyn std::fmt::Display| Failure::usage(format_args!("{}: {error}", file.display()));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unusable(&error))? {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"no certificate in it"));
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Failure::ours)?
        .with_root_certificates(roots);
    let config = match (&args.cert, &args.key) {
        (Some(certificate), Some(key)) => {
            let identity = Identity::read(certificate, key).map_err(|error| Failure::usage(chain(&error)))?;
            let certificates = identity.certificates().map_err(|error| Failure::usage(chain(&error)))?;
            let private = identity.key().map_err(|error| Failure::usage(chain(&error)))?;
            builder.with_client_auth_cert(certificates, private).map_err(|error| {
                Failure::usage(format_args!("{} and {}: {error}", certificate.display(), key.display()))
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}
