//! What the client of the vendor's API is told: `[linxo]` and `[linxo.users]`.

use crate::users::{Table, USER_ID};
use base::secret::Secret;
use settings::{
    At, Branch, Flaw, Page, Read, Reported, Section, Words as _, authorities, certificate, duration, header_safe,
    number, path, private_file, secret, section, size, text, url, urls, variants, word, words,
};
use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

section! {
    /// The vendor's API, from which truncated events are completed. Without this section they are parked.
    pub struct Linxo {
        /// Base of the API with its version, without a slash at the end. Sandbox: `https://sandbox-api.oxlin.io/v2.1`.
        /// An address of a private network is accepted only together with `authorities`.
        pub api: String = url(urls::base).default("https://api.oxlin.io/v2.1"),
        /// Base of the authorisation server. Sandbox: `https://sandbox-auth.oxlin.io`.
        pub auth: String = url(urls::base).default("https://auth.oxlin.io"),
        /// Version of the API, which decides on shapes and parameter names.
        pub version: ApiVersion = word().default("v2.1"),
        /// OAuth2 client id. Required where users.mode is "client" or "password".
        pub client_id: Option<String> = text(plain).example("\"your client id\"").optional(),
        /// OAuth2 client secret. Required where users.mode is "client" or "password".
        pub client_secret: Option<Secret> =
            secret(header_safe).example("{ env = \"LINXO_CLIENT_SECRET\" }").optional(),
        /// How token requests carry the credentials of the client.
        pub token_body: TokenBody = word().default("json"),
        /// OAuth2 scope that is asked for.
        pub scope: String = text(plain).default("accounts_read"),
        /// The `provider` member of token requests, where the vendor asks for one. Without this key none is sent.
        pub provider: Option<String> = text(plain).example("\"linxoConnect\"").optional(),
        /// Query parameter that selects the connection in GET /accounts.
        pub connection_parameter: String = text(parameter).default("connection_id"),
        /// Accounts asked for on one page. The server may give fewer.
        pub page_limit: u32 = number().default("100").between("1", "10000"),
        /// Pages of one listing that are fetched side by side.
        pub page_concurrency: usize = number().default("8").between("1", "64"),
        /// When a list of accounts is read a second time.
        pub reread: Reread = word().default("doubt"),
        /// Requests to the API under way at once, over all events. Token requests may be as many again.
        pub max_requests: usize = number().default("16").between("1", "1000"),
        /// Requests to the vendor a second, over all events, token requests included. 0: no limit.
        pub rate: Option<NonZeroU32> = number().default("0").between("0", "100000"),
        /// Accounts of one connection above which its events are parked.
        pub max_accounts: u64 = number().default("200000").between("1", "10000000"),
        /// Size of the JSON of one connection's accounts above which its events are parked.
        pub max_size: u64 = size().default("1 GiB").between("1 KiB", "100 GiB"),
        /// Longest time for one request to the vendor, from connecting to the last byte.
        pub timeout: Duration = duration().default("10s").between("100ms", "10m"),
        /// Longest time for one attempt at the whole list of a connection. An event whose list takes longer is parked.
        pub list_timeout: Duration = duration().default("1h").between("1s", "7d"),
        /// How long a list is tried again after its first failed attempt. Then its event is parked.
        pub retry_for: Duration = duration().default("3d").between("1s", "365d"),
        /// An event may be ahead of the API. For this long after it was accepted, a list that is shorter than announced, or a
        /// connection that the API does not know, means "not yet" and is asked for again. Then the event is delivered with
        /// what there is.
        pub settle_for: Duration = duration().default("10m").between("0s", "1d"),
        /// PEM files of extra root certificates, for a test double. With them, `api` and `auth` may be addresses of a
        /// private network.
        pub authorities: Vec<PathBuf> = authorities(),
        /// Where the token for an event's user comes from.
        pub users: Users = section(),
    }
    check(at) {
        same_version(at, &api, version);
        for (name, url) in [("api", &api), ("auth", &auth)] {
            public_address(at, name, url);
        }
        credentials(at, &users, &client_id, &client_secret);
    }
}

words! {
    /// Wire version of the vendor's API (`docs/linxo-api.md` section 8).
    pub enum ApiVersion {
        /// Lists are bare arrays, and the token selects the user.
        V2_1 = "v2.1",
        /// Lists are wrapped, and `user_id` is a query parameter.
        V3 = "v3",
    }
}

words! {
    /// Encoding of the token request (`docs/linxo-api.md` section 2: clients of the vendor disagree).
    pub enum TokenBody {
        /// A JSON object.
        Json = "json",
        /// `application/x-www-form-urlencoded`, with the credentials in the body.
        Form = "form",
        /// `application/x-www-form-urlencoded`, with the credentials in an `Authorization: Basic` header.
        Basic = "basic",
    }
}

words! {
    /// When a list of accounts is read a second time.
    pub enum Reread {
        /// Where the number of accounts is not the announced one, or the list moved while it was read.
        Doubt = "doubt",
        /// Until two readings in a row agree, for twice the requests.
        Always = "always",
    }
}

variants! {
    /// Where the token for an event's user comes from.
    pub enum Users by "mode" = "client" {
        /// The client's own credentials, which act for the user.
        Client(Client) = "client",
        /// The password grant, with the credentials of the event's user, from a table or derived.
        Password(Passwords) = "password",
        /// An endpoint of yours that gives out the token.
        Endpoint(UserEndpoint) = "endpoint",
        /// One fixed token for everything.
        Static(StaticToken) = "static",
    }
}

section! {
    /// `[linxo.users]` with mode "client".
    pub struct Client {}
}

section! {
    /// `[linxo.users]` with mode "static".
    pub struct StaticToken {
        /// The fixed token.
        pub token: Secret = secret(header_safe).example("{ file = \"secrets/linxo-token\" }"),
    }
}

section! {
    /// `[linxo.users]` with mode "endpoint".
    pub struct UserEndpoint {
        /// Where to ask for the token of a user, with {user_id} in it. GET gives
        /// `{"access_token": "...", "expires_in": 3600}`, or 404 for an unknown user.
        pub url: String = url(user_url).example("\"https://app.internal/linxo-token/{user_id}\""),
        /// Bearer token for your endpoint.
        pub bearer: Option<Secret> = secret(header_safe).example("{ file = \"secrets/app-token\" }").optional(),
        /// PEM file of a client certificate for your endpoint. Needs `key`.
        pub certificate: Option<PathBuf> = certificate().example("\"certs/app-client.pem\"").optional(),
        /// PEM file of the private key of that certificate.
        pub key: Option<PathBuf> = private_file().example("\"certs/app-client.key\"").optional(),
        /// PEM files of extra root certificates for your endpoint.
        pub authorities: Vec<PathBuf> = authorities(),
    }
    check(at) {
        at.together("certificate", "key");
    }
}

/// Where a user's password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passwords {
    /// A CSV file of user ids, user names and passwords; read again when it changes.
    Table(PathBuf),
    /// Both follow from the user's id.
    Derived {
        /// With `{user_id}` in it.
        username: String,
        /// The password is HMAC-SHA256 of the user's id under this key, in hexadecimal.
        secret: Secret,
    },
}

section! {
    /// The keys of [`Passwords`]: a table, or the other two.
    struct PasswordKeys {
        /// CSV file whose first line is `user_id,username,password`. It is read again when it changes.
        table: Option<PathBuf> = path().example("\"secrets/users.csv\"").optional(),
        /// Instead of a table: the user name, with {user_id} in it.
        username: Option<String> = text(plain).example("\"{user_id}@example.com\"").optional(),
        /// Instead of a table: the key under which HMAC-SHA256 makes the password of the user id, in hexadecimal.
        password_secret: Option<Secret> = secret(|_| Ok(())).example("{ file = \"secrets/linxo-passwords\" }").optional(),
    }
}

impl Section for Passwords {
    const DOC: &'static str = PasswordKeys::DOC;

    fn declare(branch: &mut Branch<'_>) {
        PasswordKeys::declare(branch);
    }

    fn read(at: &mut At<'_, '_>) -> Read<Self> {
        let keys = PasswordKeys::read(at)?;
        match (keys.table, keys.username, keys.password_secret) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Err(at.flawed(
                "table",
                Flaw::new(
                    "is given besides username and password_secret",
                    "remove the table, or remove the other two: passwords come from one place",
                ),
            )),
            (Some(path), None, None) => table(at, &path).map(Self::Table),
            (None, Some(username), Some(secret)) if username.contains(USER_ID) => {
                Ok(Self::Derived { username, secret })
            }
            (None, Some(_), Some(_)) => Err(at.flawed(
                "username",
                Flaw::new("must contain {user_id}", "write a user name such as \"{user_id}@example.com\""),
            )),
            (None, Some(_), None) => Err(missing_half(at, "password_secret")),
            (None, None, Some(_)) => Err(missing_half(at, "username")),
            (None, None, None) => Err(at.flawed(
                "table",
                Flaw::new(
                    "is required where mode = \"password\"",
                    "write table = \"secrets/users.csv\", or username = \"{user_id}@example.com\" and password_secret",
                ),
            )),
        }
    }

    fn show(&self, page: &mut Page) {
        let (table, username, password_secret) = match self.clone() {
            Self::Table(path) => (Some(path), None, None),
            Self::Derived { username, secret } => (None, Some(username), Some(secret)),
        };
        PasswordKeys { table, username, password_secret }.show(page);
    }
}

impl Linxo {
    /// The servers that are called, each as a key and a URL.
    #[must_use]
    pub fn servers(&self) -> Vec<(&'static str, String)> {
        let mut servers = vec![("linxo.api", self.api.clone())];
        match &self.users {
            Users::Client(_) | Users::Password(_) => servers.push(("linxo.auth", self.auth.clone())),
            Users::Endpoint(endpoint) => servers.push(("linxo.users.url", endpoint.url.replace(USER_ID, "0"))),
            Users::Static(_) => {}
        }
        servers
    }

    /// The files that a client of the API is built from, secrets apart. A table of users is none: it is watched where
    /// it is used.
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

/// A base URL that ends with one version while the shapes of the other are expected would fail at every call.
fn same_version(at: &mut At<'_, '_>, api: &Read<String>, version: Read<ApiVersion>) {
    let (Ok(api), Ok(version)) = (api, version) else { return };
    let other = match version {
        ApiVersion::V2_1 => ApiVersion::V3,
        ApiVersion::V3 => ApiVersion::V2_1,
    };
    let (expected, other) = (version.word(), other.word());
    if api.rsplit('/').next() == Some(other) {
        let hint = format!("end linxo.api with /{expected}, or set linxo.version = \"{other}\"");
        at.flawed("version", Flaw::new(format!("is not the version that linxo.api ends with ({other})"), hint));
    }
}

/// The vendor has no address of a private network; a double of it may.
fn public_address(at: &mut At<'_, '_>, name: &str, url: &Read<String>) {
    if !at.is_given("authorities") && url.as_ref().is_ok_and(|url| urls::is_private(url)) {
        let hint =
            "the vendor is on the public internet; for a double of your own, name its authority in linxo.authorities";
        at.flawed(name, Flaw::new("is an address of a private network", hint));
    }
}

/// Two of the ways to a token need the credentials of the client.
fn credentials(at: &mut At<'_, '_>, users: &Read<Users>, id: &Read<Option<String>>, secret: &Read<Option<Secret>>) {
    if !matches!(users, Ok(Users::Client(_) | Users::Password(_))) {
        return;
    }
    for (name, is_missing) in [("client_id", *id == Ok(None)), ("client_secret", *secret == Ok(None))] {
        if is_missing {
            let hint = "take it from the vendor's console, or remove [linxo]: truncated events are then parked";
            at.flawed(name, Flaw::new("is required", hint));
        }
    }
}

fn missing_half(at: &mut At<'_, '_>, name: &str) -> Reported {
    at.flawed(name, Flaw::new("is required", "give username and password_secret together"))
}

fn table(at: &mut At<'_, '_>, path: &Path) -> Read<PathBuf> {
    let path = at.must_be_private("table", path)?;
    match Table::read(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(at.flawed(
            "table",
            Flaw::new(
                format!("names a table that cannot be used: {error}"),
                "write user_id,username,password first, then a line for each user; quote fields that hold commas",
            ),
        )),
    }
}

fn user_url(text: &str) -> Result<String, Flaw> {
    if !text.contains(USER_ID) {
        return Err(Flaw::new(
            "must contain {user_id}",
            "write a URL such as \"https://app.internal/linxo-token/{user_id}\"",
        ));
    }
    let example = urls::destination(&text.replace(USER_ID, "0"))?;
    // In the host the user's id would choose whom a bearer token is sent to.
    let other = urls::destination(&text.replace(USER_ID, "1"))?;
    if example.origin() != other.origin() {
        return Err(Flaw::new("has {user_id} in its host", "put it into the path or the query"));
    }
    Ok(text.to_owned())
}

fn parameter(text: &str) -> Result<String, Flaw> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err("may have letters, digits, `_`, `-`, `.` and brackets only".into())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one of several functions that check a text")]
fn plain(text: &str) -> Result<String, Flaw> {
    Ok(text.to_owned())
}
