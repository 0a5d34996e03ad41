//! How a double behaves.

use crate::{
    accounts::Connection,
    pki::Identity,
    script::Script,
    wire::{ApiVersion, TokenBody},
};
use base::secret::Secret;
use std::{net::SocketAddr, time::Duration};

/// How the double behaves; [`Settings::default`] is a plain-HTTP server on a free port of the loopback interface.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address to bind; port 0 picks a free one.
    pub address: SocketAddr,
    /// Serves TLS with this certificate (it should name `localhost`); `None`: plain HTTP.
    pub identity: Option<Identity>,
    /// Offers HTTP/2 besides HTTP/1.1 over TLS.
    pub http2: bool,
    /// Shapes and parameter names.
    pub version: ApiVersion,
    /// The one client id that gets tokens.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// The one encoding of token requests that is accepted; `None`: any.
    pub token_body: Option<TokenBody>,
    /// Life of a token.
    pub token_lifetime: Duration,
    /// Writes `expires_in` as a JSON string, as the vendor's own example does.
    pub expires_in_text: bool,
    /// A token that always holds, for every user.
    pub fixed_token: Option<Secret>,
    /// Who can log in with the password grant.
    pub users: Vec<User>,
    /// What the bank holds.
    pub connections: Vec<Connection>,
    /// Name of the connection filter; any other name is ignored, so that every account of the user is listed.
    pub connection_parameter: String,
    /// Largest page, whatever `limit` asks for.
    pub page_cap: usize,
    /// Page size without a `limit`.
    pub default_page: usize,
    /// Before every answer.
    pub latency: Duration,
    /// What goes wrong.
    pub script: Script,
    /// How many requests the journal keeps; older ones are forgotten.
    pub journal: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            identity: None,
            http2: true,
            version: ApiVersion::V2_1,
            client_id: "demo".to_owned(),
            client_secret: Secret::new("demo-secret".to_owned()),
            token_body: None,
            token_lifetime: Duration::from_hours(1),
            expires_in_text: false,
            fixed_token: None,
            users: Vec::new(),
            connections: vec![Connection::documented()],
            connection_parameter: "connection_id".to_owned(),
            page_cap: 100,
            default_page: 100,
            latency: Duration::ZERO,
            script: Script::default(),
            journal: 100_000,
        }
    }
}

/// A user who can log in with the password grant.
#[derive(Clone, Debug)]
pub struct User {
    /// The `user_id` of events.
    pub id: String,
    /// An email address, as a rule.
    pub username: String,
    /// The password that the integrator chose for this user.
    pub password: Secret,
}
