//! What a client of the API is told: plain values, already checked.

use base::secret::Secret;
use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

/// `[linxo]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linxo {
    /// Base of the API with the version, no trailing slash: `https://api.oxlin.io/v2.1`.
    pub api: String,
    /// Base of the authorisation server, no trailing slash: `https://auth.oxlin.io`.
    pub auth: String,
    /// Shapes and parameter names.
    pub version: ApiVersion,
    /// OAuth2 client id; absent only with a static token.
    pub client_id: Option<String>,
    /// OAuth2 client secret; absent only with a static token.
    pub client_secret: Option<Secret>,
    /// How the token request carries the client's credentials.
    pub token_body: TokenBody,
    /// OAuth2 scope asked for.
    pub scope: String,
    /// The `provider` member of token requests, if one is sent (`docs/linxo-api.md` section 2).
    pub provider: Option<String>,
    /// Name of the connection filter of `GET /accounts`.
    pub connection_parameter: String,
    /// Page size asked for.
    pub page_limit: u32,
    /// Pages of one listing fetched side by side.
    pub page_concurrency: usize,
    /// Whether a list is read a second time.
    pub reread: Reread,
    /// Requests under way at once, over all entries.
    pub max_requests: usize,
    /// Requests a second, over all entries; `None`: no limit.
    pub rate: Option<NonZeroU32>,
    /// Accounts of one connection at most.
    pub max_accounts: u64,
    /// Bytes of one connection's accounts at most.
    pub max_size: u64,
    /// For one request, from connect to the last byte.
    pub timeout: Duration,
    /// For one attempt at a whole list.
    pub list_timeout: Duration,
    /// From the first failed attempt to parking.
    pub retry_for: Duration,
    /// PEM files of extra roots.
    pub authorities: Vec<PathBuf>,
    /// Where the token for an event's user comes from.
    pub users: Users,
}

/// Wire version of the vendor's API (`docs/linxo-api.md` section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    /// Bare arrays, the token selects the user.
    V2_1,
    /// Wrapped lists, `user_id` as a query parameter.
    V3,
}

/// Encoding of the token request (`docs/linxo-api.md` section 2: clients of the vendor disagree).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenBody {
    /// A JSON object.
    Json,
    /// `application/x-www-form-urlencoded`, credentials in the body.
    Form,
    /// `application/x-www-form-urlencoded`, credentials in an `Authorization: Basic` header.
    Basic,
}

/// When a list of accounts is read a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reread {
    /// Where the number of accounts is not the announced one, or the list moved while it was read.
    Doubt,
    /// Always: until two readings in a row agree.
    Always,
}

/// `[linxo.users]`: where the token for an event's user comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Users {
    /// The client's own credentials, which act for the event's user.
    Client(Client),
    /// The password grant, with the credentials of the event's user.
    Password(Passwords),
    /// An endpoint of the integrator that gives out the token.
    Endpoint(UserEndpoint),
    /// One fixed token for everything.
    Static(StaticToken),
}

/// `[linxo.users]` with `mode = "client"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {}

/// `[linxo.users]` with `mode = "static"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticToken {
    /// The fixed token.
    pub token: Secret,
}

/// Where a user's password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passwords {
    /// A CSV file, see [`Table`](crate::users::Table); read again when it changes.
    Table(PathBuf),
    /// Both follow from the user's id.
    Derived {
        /// With [`USER_ID`](crate::users::USER_ID) in it.
        username: String,
        /// The password is HMAC-SHA256 of the user's id under this key, in hexadecimal.
        secret: Secret,
    },
}

/// `[linxo.users]` with `mode = "endpoint"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEndpoint {
    /// With [`USER_ID`](crate::users::USER_ID) in it.
    pub url: String,
    /// Sent as a bearer token.
    pub bearer: Option<Secret>,
    /// PEM file of a client certificate; only together with `key`.
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    pub key: Option<PathBuf>,
    /// PEM files of extra roots.
    pub authorities: Vec<PathBuf>,
}

impl Linxo {
    /// The files that a client of the API is built from, secrets apart. A table of users is none: it is watched where it is
    /// used.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let endpoint = if let Users::Endpoint(endpoint) = &self.users { Some(endpoint) } else { None };
        let identity = endpoint.and_then(UserEndpoint::identity);
        let identity = identity.into_iter().flat_map(|(certificate, key)| [certificate, key]);
        let authorities = endpoint.into_iter().flat_map(|endpoint| &endpoint.authorities);
        self.authorities.iter().map(PathBuf::as_path).chain(identity).chain(authorities.map(PathBuf::as_path))
    }
}

impl UserEndpoint {
    /// PEM files of a client certificate and its key.
    #[must_use]
    pub fn identity(&self) -> Option<(&Path, &Path)> {
        self.certificate.as_deref().zip(self.key.as_deref())
    }
}
