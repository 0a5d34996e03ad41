//! Access tokens: where they come from, how long they are used, and that only one call at a time asks for one.
//!
//! In: the user whom an event names. Out: a token that lives for a while yet. Callers that need a token while it is being
//! asked for wait for the one answer, and take it even if it lasts for no time at all. A refusal is believed for a few
//! seconds, so that a hundred waiting callers do not become a hundred tries with a wrong password. Tokens and passwords are
//! wiped when dropped; the copies that the HTTP library makes are not in our hands.
//!
//! | file | what |
//! | --- | --- |
//! | `token` | one token |
//! | `answer` | the answer to a request for one |
//! | `refusal` | a refused request for one |
//! | `slots` | the tokens that are held, by user |
//! | `probes` | when to ask again for a token that was refused |
//! | `logins` | users' names and passwords |
//! | `grants` | requests to the vendor's token endpoint |
//! | `endpoint` | requests to the integrator's endpoint |
//! | `parts` | what the credentials are recognised by |

mod answer;
mod endpoint;
mod grants;
mod logins;
mod parts;
mod probes;
mod refusal;
mod slots;
mod token;

pub(crate) use token::Token;

use crate::{
    credentials::{Fingerprint, FingerprintKey, Lacking, Parts},
    error::{Error, Missing, Peer, outcome},
    figures::Figures,
    lane::{Lane, Limits},
    settings::{Linxo, UserEndpoint, Users},
    transport::{Transport, Way},
};
use base::secret::Secret;
use endpoint::Endpoint;
use event::UserId;
use grants::Grants;
use logins::Logins;
use probes::Probes;
use refusal::Refusal;
use slots::{Kept, Key, Slots};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use token::Granted;

/// How long a refusal is believed without asking again.
const REFUSAL_BELIEVED: Duration = Duration::from_secs(5);

/// Gives out tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    auth: Transport,
    source: Source,
    /// What the source was made of.
    users: Users,
    slots: Arc<Slots>,
    probes: Probes,
    /// What the fingerprint of every user's credentials begins with.
    parts: Parts,
    figures: Figures,
}

#[derive(Debug)]
enum Source {
    Static(Token),
    Client(Grants),
    Password(Grants, Arc<Logins>),
    Endpoint(Endpoint),
}

impl Source {
    /// Prepares where tokens come from. `before` is the source of the same settings that was used until now.
    fn new(settings: &Linxo, before: Option<&Self>, figures: &Figures) -> Result<Self, Error> {
        Ok(match (&settings.users, before) {
            (Users::Static(of), _) => Self::Static(fixed(&of.token)?),
            (Users::Client(_), _) => Self::Client(Grants::new(settings)),
            (Users::Password(_), Some(Self::Password(_, logins))) => {
                Self::Password(Grants::new(settings), Arc::clone(logins))
            }
            (Users::Password(passwords), _) => Self::Password(Grants::new(settings), Arc::new(Logins::new(passwords)?)),
            (Users::Endpoint(endpoint), before) => {
                let lane = match before {
                    Some(Self::Endpoint(before)) => Arc::clone(before.transport.lane()),
                    _ => Lane::new(Peer::Users, figures),
                };
                Self::Endpoint(self::endpoint(settings, endpoint, lane)?)
            }
        })
    }
}

fn endpoint(settings: &Linxo, endpoint: &UserEndpoint, lane: Arc<Lane>) -> Result<Endpoint, Error> {
    let way = Way {
        lane,
        limits: Limits { at_once: settings.max_requests, rate: None, pace: Arc::default() },
        timeout: settings.timeout,
        authorities: &endpoint.authorities,
        identity: endpoint.identity(),
    };
    Ok(Endpoint {
        transport: Transport::new(way)?,
        url: endpoint.url.clone(),
        bearer: endpoint.bearer.as_ref().map(fixed).transpose()?,
    })
}

/// A token of the configuration.
fn fixed(text: &Secret) -> Result<Token, Error> {
    let problem = || Error::Build("a token of [linxo.users] cannot stand in a header".to_owned());
    Token::new(text.clone()).ok_or_else(problem)
}

impl Tokens {
    /// Prepares tokens; `auth` leads to the vendor's token endpoint. Tokens that `before` holds are used on where the
    /// credentials are the same.
    ///
    /// # Errors
    /// [`Error::Build`] when a file or a fixed token is unusable.
    pub(crate) fn new(
        settings: &Linxo,
        auth: Transport,
        key: &FingerprintKey,
        figures: &Figures,
        before: Option<&Self>,
    ) -> Result<Self, Error> {
        let parts = parts::of_all_users(settings, key)?;
        // Another table, endpoint or secret has nothing to do with what was before.
        let before = before.filter(|before| before.users == settings.users);
        let source = Source::new(settings, before.map(|before| &before.source), figures)?;
        let slots = match before {
            Some(before) if before.parts.fingerprint() == parts.fingerprint() => Arc::clone(&before.slots),
            _ => Arc::default(),
        };
        let (users, figures) = (settings.users.clone(), figures.clone());
        Ok(Self { auth, source, users, slots, probes: Probes::default(), parts, figures })
    }

    /// The way to the vendor's token endpoint.
    pub(crate) fn auth(&self) -> &Transport {
        &self.auth
    }

    /// A token for a user that lives for a while yet, for work of the connection `who`.
    pub(crate) async fn get(&self, user: Option<&UserId>, who: &str) -> Result<Granted, Error> {
        let came = Instant::now();
        let key = match (&self.source, user) {
            (Source::Static(token), _) => return Ok(Granted { token: token.clone(), until: None }),
            (Source::Password(..) | Source::Endpoint(_), None) => return Err(Error::NoCredentials(Missing::User)),
            (_, user) => self.key(user),
        };
        self.refresh().await;
        let slot = self.slots.slot(key);
        let mut current = slot.current.lock().await;
        if let Some(kept) = &*current
            && kept.serves(came)
        {
            let token = kept.result.clone()?;
            // A token that has ended already is still for those who waited for it, and for nothing later.
            return Ok(Granted { token, until: Some(kept.until).filter(|until| Instant::now() < *until) });
        }
        let result = self.ask(user, who).await;
        if let (Ok(_), Some(lane)) = (&result, self.lane()) {
            lane.succeeded(who);
        }
        self.figures.count_token_request(outcome(&result));
        let came = Instant::now();
        match result {
            Ok((token, until)) => {
                *current = Some(Kept { result: Ok(token.clone()), came, until });
                Ok(Granted { token, until: Some(until).filter(|until| came < *until) })
            }
            Err(Error::Credentials { peer, status, code }) => {
                let refusal = Refusal { peer, status, code };
                *current = Some(Kept { result: Err(refusal.clone()), came, until: came + REFUSAL_BELIEVED });
                Err(refusal.into())
            }
            Err(error) => {
                *current = None;
                Err(error)
            }
        }
    }

    /// Forgets a token that was refused, unless it was renewed in the meantime; false where there is no other to be had.
    pub(crate) async fn discard(&self, user: Option<&UserId>, refused: &Token) -> bool {
        if matches!(self.source, Source::Static(_)) {
            return false;
        }
        let slot = self.slots.slot(self.key(user));
        let mut current = slot.current.lock().await;
        if current.as_ref().is_some_and(|kept| kept.result.as_ref().is_ok_and(|token| token == refused)) {
            *current = None;
        }
        true
    }

    /// For how long no work need be taken up because no token can be asked for, and how much may be taken up else. That
    /// concerns all work only where one token serves all users, and that one is lacking.
    pub(crate) fn room(&self) -> (Option<Duration>, usize) {
        // Looked at in any case, for its figure.
        let room = self.auth.lane().room();
        if matches!(self.source, Source::Client(_)) && !self.slots.holds(&None) { room } else { (None, usize::MAX) }
    }

    /// What is known of the server that gives tokens.
    fn lane(&self) -> Option<&Lane> {
        match &self.source {
            Source::Static(_) => None,
            Source::Client(_) | Source::Password(..) => Some(self.auth.lane()),
            Source::Endpoint(endpoint) => Some(endpoint.transport.lane()),
        }
    }

    /// How many pieces of work are done at once.
    pub(crate) fn set_hands(&self, hands: usize) {
        self.lane().into_iter().for_each(|lane| lane.set_hands(hands));
    }

    /// Nothing waits for a token.
    pub(crate) fn nothing_waits(&self) {
        match &self.source {
            Source::Static(_) => {}
            Source::Client(_) | Source::Password(..) => self.auth.lane().nothing_waits(),
            Source::Endpoint(Endpoint { transport, .. }) => transport.lane().nothing_waits(),
        }
    }

    /// Gives up calls that hang, because other work finds no room.
    pub(crate) fn make_room(&self) {
        match &self.source {
            Source::Static(_) => {}
            Source::Client(_) | Source::Password(..) => self.auth.lane().make_room(self.auth.limits()),
            Source::Endpoint(Endpoint { transport, .. }) => transport.lane().make_room(transport.limits()),
        }
    }

    /// The fingerprint of the credentials that a user's token is asked for with.
    pub(crate) async fn fingerprint(&self, user: Option<&UserId>) -> Fingerprint {
        self.refresh().await;
        let mut parts = self.parts.clone();
        if let (Source::Password(_, logins), Some(user)) = (&self.source, user)
            && let Some(login) = logins.login(user)
        {
            parts.add(login.username.as_bytes());
            parts.add(login.password.expose().as_bytes());
        }
        parts.fingerprint()
    }

    /// Whether another try may end better than the one that was lacking these credentials: there are others now, or a token
    /// is given where none was.
    pub(crate) async fn may_help(&self, user: Option<&UserId>, lacking: Lacking) -> bool {
        match lacking {
            Lacking::Api => true,
            Lacking::Access(before) => before != self.fingerprint(user).await,
            Lacking::Token(before) => before != self.fingerprint(user).await || self.can_be_had(user).await,
        }
    }

    /// Whether there is a token; asks for one, if it is time to.
    async fn can_be_had(&self, user: Option<&UserId>) -> bool {
        // Not with a user's password: a wrong one that is tried again and again locks the user out.
        let is_to_be_asked = match &self.source {
            Source::Client(_) => true,
            Source::Endpoint(_) => user.is_some(),
            Source::Password(..) | Source::Static(_) => false,
        };
        let key = self.key(user);
        is_to_be_asked
            && (self.slots.holds(&key)
                || (self.probes.is_due(&key) && self.get(user, user.map_or("", UserId::as_str)).await.is_ok()))
    }

    fn key(&self, user: Option<&UserId>) -> Key {
        if matches!(self.source, Source::Client(_)) { None } else { user.cloned() }
    }

    /// Looks whether the table of passwords changed; users with other credentials lose their tokens.
    async fn refresh(&self) {
        if let Source::Password(_, logins) = &self.source {
            self.slots.forget(logins.refresh().await);
        }
    }

    async fn ask(&self, user: Option<&UserId>, who: &str) -> Result<(Token, Instant), Error> {
        let asked = Instant::now();
        let (peer, body) = match (&self.source, user) {
            (Source::Client(grants), _) => (Peer::Auth, grants.send(&self.auth, who, None).await?),
            (Source::Password(grants, logins), Some(user)) => {
                let login = logins.login(user).ok_or(Error::NoCredentials(Missing::Login))?;
                (Peer::Auth, grants.send(&self.auth, who, Some(&login)).await?)
            }
            (Source::Endpoint(endpoint), Some(user)) => (Peer::Users, endpoint.send(user, who).await?),
            (Source::Static(_), _) | (_, None) => return Err(Error::NoCredentials(Missing::User)),
        };
        answer::read(peer, &body, asked)
    }
}
