//! Why the API did not give what was asked, and what that means for trying again.

use crate::credentials::{Fingerprint, Lacking};
use base::{
    reach,
    trust::{Kind, Why},
};
use std::{fmt, time::Duration};

/// Why the API did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client cannot be made.
    #[error("cannot prepare the client of the Linxo API: {0}")]
    Build(String),
    /// An answer other than 2xx.
    #[error("{peer} answered {status}{}", in_brackets(code.as_deref()))]
    Status {
        /// Who.
        peer: Peer,
        /// HTTP status.
        status: u16,
        /// The vendor's own code, if it gave one.
        code: Option<String>,
        /// What `Retry-After` asks for.
        after: Option<Duration>,
    },
    /// A token was refused, for this user or for all.
    #[error("no token: {peer} answered {status}{}", in_brackets(code.as_deref()))]
    Credentials {
        /// Who.
        peer: Peer,
        /// HTTP status.
        status: u16,
        /// The vendor's own code, if it gave one.
        code: Option<String>,
    },
    /// There is nothing to ask for a token with.
    #[error("no token: {0}")]
    NoCredentials(Missing),
    /// What the event says cannot be put into a request.
    #[error("nothing can be asked: {0}")]
    Unaskable(&'static str),
    /// Nothing was asked: the call has to wait.
    #[error("{peer} {why}: it is asked later")]
    Paused {
        /// Who.
        peer: Peer,
        /// For how long.
        after: Duration,
        /// What the call waits for.
        why: Why,
    },
    /// No answer for so long that the call was given up in favour of others.
    #[error("{peer} left a call without an answer for so long that others went first")]
    Hung {
        /// Who.
        peer: Peer,
    },
    /// A redirect, which is never followed.
    #[error("{peer} answered {status}, a redirect, which is not followed")]
    Redirect {
        /// Who.
        peer: Peer,
        /// HTTP status.
        status: u16,
    },
    /// No answer, or half of one.
    #[error("{peer} {what} ({host})")]
    Network {
        /// Who.
        peer: Peer,
        /// Host and port; of the URL nothing else is shown.
        host: String,
        /// `could not be reached`, `did not answer in time`, ...
        what: &'static str,
        /// The client's own error, without the URL.
        #[source]
        source: reqwest::Error,
    },
    /// A success that does not hold what it should.
    #[error("the answer of {peer} {problem}")]
    Answer {
        /// Who.
        peer: Peer,
        /// Continues "the answer".
        problem: String,
    },
    /// A success without a body.
    #[error("the answer of {peer} is empty")]
    Empty {
        /// Who.
        peer: Peer,
    },
    /// More bytes than are read.
    #[error("one answer of {peer} is larger than {} MiB", limit >> 20)]
    TooLarge {
        /// Who.
        peer: Peer,
        /// Bytes.
        limit: usize,
    },
}

/// What is lacking to ask for a user's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// A user.
    #[error("the event names no user, and [linxo.users] goes by the user")]
    User,
    /// The user's password.
    #[error("the user is not in the table of linxo.users.table")]
    Login,
    /// The user, at the integrator's endpoint.
    #[error("the endpoint of linxo.users.url does not know the user")]
    Endpoint,
}

/// Whom the client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The vendor's API.
    Linxo,
    /// The vendor's authorisation server.
    Auth,
    /// The integrator's own endpoint for tokens.
    Users,
}

impl Peer {
    /// Every one.
    pub(crate) const ALL: [Self; 3] = [Self::Linxo, Self::Auth, Self::Users];

    /// The word for it in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linxo => "linxo",
            Self::Auth => "auth",
            Self::Users => "users",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linxo => "the Linxo API",
            Self::Auth => "the token endpoint of linxo.auth",
            Self::Users => "the endpoint of linxo.users.url",
        })
    }
}

/// What an error means for trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Trying again can help; not before `after`, where the API said so.
    Transient {
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// Nothing was tried: the other side is left alone for this long.
    Paused {
        /// How long.
        after: Duration,
    },
    /// Trying again may help, but not often.
    Doubtful,
    /// A success that cannot be used: mostly an outage in disguise, but it may last.
    Unusable,
    /// It cannot help before credentials or rights change.
    Credentials,
    /// The API does not know what was asked for: the connection may be gone.
    Gone,
    /// A person must act first.
    Permanent,
}

impl Error {
    pub(crate) fn network(peer: Peer, error: reqwest::Error) -> Self {
        let what = if error.is_timeout() {
            "did not answer in time"
        } else if error.is_connect() {
            "could not be reached"
        } else {
            "broke off its answer"
        };
        let host = error.url().map(reach::host).unwrap_or_default();
        Self::Network { peer, host, what, source: error.without_url() }
    }

    pub(crate) fn answer(peer: Peer, problem: impl Into<String>) -> Self {
        Self::Answer { peer, problem: problem.into() }
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Status { status: 408 | 409 | 423 | 425 | 429 | 500.., after, .. } => {
                Disposition::Transient { after: *after }
            }
            Self::Network { .. } | Self::Hung { .. } => Disposition::Transient { after: None },
            // A page of HTML, half an answer.
            Self::Answer { .. } | Self::Empty { .. } => Disposition::Unusable,
            Self::Paused { after, .. } => Disposition::Paused { after: *after },
            Self::Credentials { code: Some(_), .. } | Self::NoCredentials(_) => Disposition::Credentials,
            // Without a code of the vendor's it may be any server that does not know the path.
            Self::Status { peer: Peer::Linxo, status: 404 | 410, code: Some(_), .. } => Disposition::Gone,
            // After a 401 the token was renewed, so it is not its age. A vendor that has just lost its keys answers 401 as
            // well, a portal answers with a redirect, a proxy refuses a token without a code of the vendor's, and a
            // deployment may answer with any 4xx.
            Self::Status { .. } | Self::Redirect { .. } | Self::Credentials { code: None, .. } => Disposition::Doubtful,
            Self::Build(_) | Self::TooLarge { .. } | Self::Unaskable(_) => Disposition::Permanent,
        }
    }

    /// What a refusal is recognised by when it comes again.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Status { status, code, .. } | Self::Credentials { status, code, .. } => {
                Kind::new(*status, code.as_deref())
            }
            Self::Redirect { status, .. } => Kind::new(*status, None),
            _ => Kind::new(200, None),
        }
    }

    /// Whether it says, behind the end of a list, that the list has ended there: a refusal, or nothing at all.
    #[must_use]
    pub fn is_an_end(&self) -> bool {
        matches!(self, Self::Status { status: 400..500, .. } | Self::Empty { .. })
    }

    /// Whether the server failed, or did not answer.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Status { status: 500.., .. } | Self::Network { .. } | Self::Hung { .. })
    }

    /// Status of the answer, where it is what is wrong.
    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } | Self::Credentials { status, .. } | Self::Redirect { status, .. } => {
                Some(*status)
            }
            _ => None,
        }
    }

    /// Which credentials were lacking; `None` where other credentials or rights would not have helped.
    ///
    /// `with` is the fingerprint of the credentials that were used
    /// ([`Client::fingerprint`](crate::Client::fingerprint)), taken before anything was asked. Were it taken afterwards, a
    /// change in between would go unnoticed.
    #[must_use]
    pub fn lacking(&self, with: Fingerprint) -> Option<Lacking> {
        match self {
            Self::Credentials { .. } | Self::NoCredentials(_) => Some(Lacking::Token(with)),
            Self::Status { status: 401 | 403, .. } => Some(Lacking::Access(with)),
            _ => None,
        }
    }

    /// Every word for how a call ends in metrics; the first is for one that went well.
    pub(crate) const OUTCOMES: [&str; 8] =
        ["ok", "unauthorized", "refused", "throttled", "server_error", "network", "invalid", "paused"];

    /// The word for it in metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Status { status: 401, .. } => "unauthorized",
            Self::Status { status: 429, .. } => "throttled",
            Self::Status { status: 500.., .. } => "server_error",
            Self::Paused { .. } => "paused",
            Self::Status { .. } | Self::Credentials { .. } | Self::NoCredentials(_) | Self::Redirect { .. } => {
                "refused"
            }
            Self::Network { .. } | Self::Hung { .. } => "network",
            Self::Answer { .. } | Self::Empty { .. } | Self::TooLarge { .. } | Self::Build(_) | Self::Unaskable(_) => {
                "invalid"
            }
        }
    }

    /// What a person can do about an error that trying again does not mend.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Status { code: Some(code), .. } | Self::Credentials { code: Some(code), .. }
                if code == "ACCEPT_TERMS_AND_CONDITIONS_REQUIRED" =>
            {
                "the user must accept the vendor's terms; replayed when another event of the user succeeds, or replay it"
            }
            Self::Credentials { peer: Peer::Users, .. } => {
                "check linxo.users.url, its bearer token or certificate, and what the endpoint says of this user; asked again from time to time and replayed when it gives a token"
            }
            Self::Status { peer: Peer::Users, .. } => "check linxo.users.url, then replay",
            Self::Credentials { .. } => {
                "check linxo.client_id, linxo.client_secret, linxo.token_body, linxo.auth and the user's credentials; replayed when they change"
            }
            Self::NoCredentials(Missing::User) => {
                "the event is of no use to this mode of [linxo.users]; purge the entry"
            }
            Self::NoCredentials(Missing::Login) => "add the user to the table; replayed when that is done",
            Self::NoCredentials(Missing::Endpoint) => {
                "let the endpoint know the user; asked again from time to time and replayed when it gives a token"
            }
            Self::Unaskable(_) => "the event is forged, or the vendor's data is wrong; purge the entry",
            Self::Status { status: 401, .. } => {
                "the token is not accepted: check linxo.users and the credentials; replayed when they change"
            }
            Self::Status { status: 403, .. } => {
                "the token may not read this user's accounts: check linxo.scope and the user's consent; replayed when the credentials change"
            }
            Self::Status { status: 404 | 410, .. } => "check linxo.api, then replay",
            Self::Status { status: 408 | 409 | 423 | 425 | 429 | 500.., .. }
            | Self::Network { .. }
            | Self::Hung { .. } => "when it answers again, replay",
            Self::Answer { .. } | Self::Empty { .. } => "ask the vendor about these answers, then replay",
            Self::TooLarge { .. } => "lower linxo.page_limit, then replay",
            _ => "check the [linxo] section, then replay",
        }
    }
}

/// The word for a result in metrics.
pub(crate) fn outcome<T>(result: &Result<T, Error>) -> &'static str {
    result.as_ref().map_or_else(Error::word, |_| "ok")
}

fn in_brackets(code: Option<&str>) -> String {
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::key;

    #[test]
    fn only_refusals_of_credentials_and_rights_are_lacking_them() {
        let with = key().parts().fingerprint();
        let status = |status| Error::Status { peer: Peer::Linxo, status, code: None, after: None };
        let refused = Error::Credentials { peer: Peer::Auth, status: 400, code: None };
        for error in [refused, Error::NoCredentials(Missing::Login)] {
            assert_eq!(error.lacking(with), Some(Lacking::Token(with)), "{error}");
        }
        for number in [401, 403] {
            assert_eq!(status(number).lacking(with), Some(Lacking::Access(with)));
        }
        for number in [400, 404, 410, 429, 500, 503] {
            assert_eq!(status(number).lacking(with), None, "{number}");
        }
        assert_eq!(Error::Empty { peer: Peer::Linxo }.lacking(with), None);
    }

    /// (A4) No refusal of the API is believed at its first word, and some are no refusals at all.
    #[test]
    fn refusals_are_doubted_and_moments_are_waited_for() {
        let status = |status, code: Option<&str>| {
            let code = code.map(str::to_owned);
            Error::Status { peer: Peer::Linxo, status, code, after: None }.disposition()
        };
        for number in [408, 409, 423, 425, 429, 500, 502, 503] {
            assert_eq!(status(number, None), Disposition::Transient { after: None }, "{number}");
        }
        for number in [400, 401, 403, 404, 405, 406, 410, 418, 422, 451] {
            assert_eq!(status(number, None), Disposition::Doubtful, "{number}");
        }
        for number in [400, 401, 403, 422] {
            assert_eq!(status(number, Some("FORBIDDEN")), Disposition::Doubtful, "{number}");
        }
        for number in [404, 410] {
            assert_eq!(status(number, Some("RESOURCE_UNKNOWN")), Disposition::Gone, "{number}");
        }
    }
}
