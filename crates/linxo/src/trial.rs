//! Tries out what `[linxo]` says, for a person: is there a token, can the servers be reached.
//!
//! How far their clocks are from ours is asked here as well.
//!
//! In: a client and its settings. Out: what was tried and what came of it, and what was not tried and why not. No account is
//! asked for, and of a table of users one is tried only, because each try is a login at the vendor's.

use crate::{
    client::Client,
    error::{Error, Peer},
    exchange::untold,
    settings::{Linxo, Passwords, UserEndpoint, Users},
    transport::{date, reach},
    users::{Table, USER_ID},
};
use base::clock::{self, Timestamp};
use event::{ConnectionId, UserId};
use reqwest::Url;
use std::time::{Duration, Instant};

/// A connection that the vendor does not have.
const NO_CONNECTION: &str = "0";

/// What came of a try, in words for people: what was found, or what was left out and why.
pub type Tried = Result<String, Error>;

/// Tries everything that can be tried without an event.
///
/// # Cancel safety
/// When dropped, calls are given up.
pub async fn try_out(client: &Client, settings: &Linxo) -> Vec<Tried> {
    let api = reach_of(Peer::Linxo, &settings.api, settings).await;
    let token = match &settings.users {
        Users::Client(_) => given(client.token(None).await, settings, "for the client"),
        Users::Password(Passwords::Table(file)) => match Table::read(file) {
            Ok(table) => of_table(client, settings, &table).await,
            Err(error) => Err(Error::Build(format!("linxo.users.table: {error}"))),
        },
        Users::Password(Passwords::Derived { .. }) => {
            let said = "not tried: a token, because user names and passwords are made of the ids of users in events";
            reach_of(Peer::Auth, &settings.auth, settings).await.map(|reached| format!("{reached}\n{said}"))
        }
        Users::Endpoint(endpoint) => of_endpoint(settings, endpoint).await,
        Users::Static(_) => fixed(client, settings).await,
    };
    vec![token, api]
}

/// How far the clock of this machine is from that of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// By how much, to a second and what the answer took.
    pub by: Duration,
    /// Whether this machine is ahead.
    pub is_ahead: bool,
    /// How long the answer took.
    pub took: Duration,
}

/// Asks the vendor's servers for the time (`HEAD /`, without credentials), by the keys that name them. `None`: the server does
/// not say.
///
/// # Cancel safety
/// When dropped, calls are given up.
pub async fn skews(settings: &Linxo) -> Vec<(&'static str, Result<Option<Skew>, Error>)> {
    let mut skews = vec![("linxo.api", skew(Peer::Linxo, &settings.api, settings).await)];
    if matches!(settings.users, Users::Client(_) | Users::Password(_)) {
        skews.push(("linxo.auth", skew(Peer::Auth, &settings.auth, settings).await));
    }
    skews
}

async fn skew(peer: Peer, url: &str, settings: &Linxo) -> Result<Option<Skew>, Error> {
    let (began, before) = (Instant::now(), clock::now());
    let told = date(peer, &parsed(url)?, settings.timeout, &settings.authorities).await?;
    let took = began.elapsed();
    Ok(told.map(|told| Skew::between(before.after(took / 2), told, took)))
}

impl Skew {
    /// `Date` has whole seconds, cut: on average the server's time is half a second later.
    fn between(ours: Timestamp, theirs: Timestamp, took: Duration) -> Self {
        let theirs = theirs.after(Duration::from_millis(500));
        let (ahead, behind) = (ours.since(theirs), theirs.since(ours));
        Self { by: ahead.max(behind), is_ahead: ahead > Duration::ZERO, took }
    }
}

async fn reach_of(peer: Peer, url: &str, settings: &Linxo) -> Tried {
    let host = reach(peer, &parsed(url)?, settings.timeout, (&settings.authorities, None)).await?;
    Ok(format!("{peer} can be reached ({host}); nothing was asked of it"))
}

fn given(token: Result<(), Error>, settings: &Linxo, whom: &str) -> Tried {
    let host = base::reach::host(&parsed(&settings.auth)?);
    token.map(|()| format!("{} gave a token {whom} ({host})", Peer::Auth))
}

async fn of_table(client: &Client, settings: &Linxo, table: &Table) -> Tried {
    let count = table.len();
    let Some(user) = table.any() else {
        return Ok("not tried: a token, because the table of linxo.users.table has no user".to_owned());
    };
    let token = client.token(Some(&UserId::new(user))).await;
    given(token, settings, &format!("for one user of the table, which has {count}; the others were not tried"))
}

async fn of_endpoint(settings: &Linxo, endpoint: &UserEndpoint) -> Tried {
    let url = parsed(&endpoint.url.replace(USER_ID, "0"))?;
    let files = (endpoint.authorities.as_slice(), endpoint.identity());
    let host = reach(Peer::Users, &url, settings.timeout, files).await?;
    let peer = Peer::Users;
    Ok(format!(
        "{peer} can be reached ({host})\nnot tried: a token, because it is asked for by the id of an event's user"
    ))
}

/// A fixed token shows whether it is good only where it is used. Who may not see a connection, which is not there anyway, was
/// recognised all the same.
async fn fixed(client: &Client, settings: &Linxo) -> Tried {
    let host = base::reach::host(&parsed(&settings.api)?);
    match client.connection(None, &ConnectionId::new(NO_CONNECTION), &untold).await {
        Err(error @ (Error::Status { status: 401 | 429 | 500.., .. } | Error::Network { .. })) => Err(error),
        _ => Ok(format!("{} did not refuse the token of linxo.users.token ({host})", Peer::Linxo)),
    }
}

fn parsed(url: &str) -> Result<Url, Error> {
    Url::parse(url).map_err(|error| Error::Build(format!("[linxo] has a URL that cannot be read: {error}")))
}
