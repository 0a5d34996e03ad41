//! Who may use the admin listener: tokens, client certificates, host names.
//!
//! In: `[admin]`. Out: [`Guards`], with everything loaded, and [`Access`], which hands the present ones to every request. A reload
//! replaces them as a whole.

use super::settings::{Admin, May, Token};
use crate::receive::tls::{self, Loaded};
use arc_swap::ArcSwap;
use base::secret::Secret;
use http::{HeaderMap, Uri, header::HOST, uri::Authority};
use rustls::ServerConfig;
use std::{net::IpAddr, sync::Arc};

/// Somebody who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// For the audit trail.
    pub(super) name: String,
    pub(super) may: May,
}

impl Who {
    pub(super) fn may_act(&self) -> bool {
        self.may == May::Act
    }
}

/// What requests are held against.
#[derive(Debug)]
pub struct Guards {
    tokens: Vec<Token>,
    metrics_token: Option<Secret>,
    hosts: Vec<String>,
    readers: Vec<String>,
    actors: Vec<String>,
    tls: Option<Loaded>,
    knows_somebody: bool,
}

impl Guards {
    /// Reads the certificates. Blocking; a few small files.
    ///
    /// # Errors
    /// What is wrong with them; keys are named as those of `[tls]`.
    pub fn load(admin: &Admin) -> Result<Self, tls::Error> {
        let tls = admin.tls.as_ref();
        Ok(Self {
            tokens: admin.tokens.clone(),
            metrics_token: admin.metrics_token.clone(),
            hosts: admin.hosts.clone(),
            readers: tls.map(|tls| tls.read.clone()).unwrap_or_default(),
            actors: tls.map(|tls| tls.act.clone()).unwrap_or_default(),
            tls: tls.map(|tls| tls::load_optional(&tls.as_tls())).transpose()?,
            knows_somebody: admin.knows_somebody(),
        })
    }

    /// Logs which certificate is used.
    pub fn log(&self) {
        if let Some(loaded) = &self.tls {
            loaded.log();
        }
    }

    /// The listener's certificates; `None` for plain HTTP.
    #[must_use]
    pub fn tls(&self) -> Option<&Loaded> {
        self.tls.as_ref()
    }

    /// Whether callers can be told apart. Otherwise everybody reads the figures, and nobody the rest.
    pub(super) fn knows_somebody(&self) -> bool {
        self.knows_somebody
    }

    /// Whether there is a token to log in with.
    pub(super) fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    pub(super) fn handshakes(&self) -> Option<Arc<ServerConfig>> {
        self.tls.as_ref().map(|loaded| Arc::clone(&loaded.config))
    }

    /// Whose token this is. Every token is compared, so that the time says nothing.
    pub(super) fn token(&self, candidate: &[u8]) -> Option<&Token> {
        self.tokens.iter().fold(None, |found, token| if token.secret.matches(candidate) { Some(token) } else { found })
    }

    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    pub(super) fn is_for_metrics(&self, candidate: &[u8]) -> bool {
        self.metrics_token.as_ref().is_some_and(|token| token.matches(candidate)) | self.token(candidate).is_some()
    }

    /// Who shows a certificate of these names.
    pub(super) fn certified(&self, names: &[String]) -> Option<Who> {
        let among =
            |list: &[String]| names.iter().find(|name| list.iter().any(|known| known.eq_ignore_ascii_case(name)));
        let who = |name: &String, may| Who { name: name.to_ascii_lowercase(), may };
        let actor = among(&self.actors).map(|name| who(name, May::Act));
        actor.or_else(|| among(&self.readers).map(|name| who(name, May::Read)))
    }

    /// Whether the listener goes by the name that a request calls it. A name that is none of ours may be one of a stranger's,
    /// which points here so that pages of theirs count as ours (DNS rebinding). An address cannot point anywhere else.
    pub(super) fn is_called(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Some(authority) = called(uri, headers) else { return false };
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let is_ours = name == "localhost" || name.ends_with(".localhost");
        is_ours || name.parse::<IpAddr>().is_ok() || self.hosts.contains(&name)
    }
}

/// What a request calls the listener.
pub(super) fn called(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let of_header = || headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    uri.authority().cloned().or_else(of_header)
}

/// The guards in use. Clones share them, so that a rotation is seen by the listener.
#[derive(Clone, Debug)]
pub struct Access(Arc<ArcSwap<Guards>>);

impl Access {
    pub(super) fn new(guards: Guards) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(guards)))
    }

    /// Holds requests against other guards from now on. Sessions of tokens that are gone end.
    pub fn replace(&self, guards: Guards) {
        self.0.store(Arc::new(guards));
    }

    /// The present ones.
    #[must_use]
    pub fn guards(&self) -> Arc<Guards> {
        self.0.load_full()
    }
}
