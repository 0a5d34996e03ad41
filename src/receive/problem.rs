//! What is answered when an event is not accepted: problem details (RFC 9457).
//!
//! The `code` is stable: people and programs may rely on it, and it is the label of the metric `refused`. The detail says
//! what to do. Neither ever quotes what was sent.

use super::reason::Reason;
use bytes::Bytes;
use event::Malformed;
use http::StatusCode;
use serde::Serialize;
use std::{borrow::Cow, fmt};

/// Names a request in answers and logs. Not a secret, and not unique for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId(u64);

impl RequestId {
    pub(super) fn new() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Why a request is not answered 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The caller's address is not in `sender.networks`.
    Network,
    /// Another path, or a wrong path secret: never told apart.
    NotFound,
    /// Another method than POST.
    Method,
    /// A transfer coding other than one `chunked`.
    TransferEncoding,
    /// No field `Host`, several, or one that names no host; HTTP/1.
    Host,
    /// A head with too many fields; HTTP/2. Other heads that are too large are refused by the library.
    HeadTooLarge,
    /// A compressed body.
    ContentEncoding,
    /// The body is over the limit.
    BodyTooLarge {
        /// `listener.max_body`
        limit: u64,
    },
    /// The body did not end in time.
    BodyTimeout,
    /// The connection or stream broke within the body.
    BodyCut,
    /// The head did not end in time.
    HeadTimeout,
    /// The body is no event.
    Malformed(Malformed),
    /// As many requests as `listener.max_requests` allows.
    Overloaded,
    /// The bodies under way take all of `listener.body_memory`.
    BodyMemory,
    /// No room in the store.
    StoreFull,
    /// As many unfinished entries as allowed.
    Backlog,
    /// The store failed.
    StoreUnavailable,
    /// The commit takes too long; it may still succeed.
    StoreSlow,
    /// The connection is over: its certificate has ended, or the TLS settings were replaced that it began with.
    ConnectionOver,
    /// The inbox is closed: the process is ending.
    Draining,
    /// A fault of the program.
    Internal,
}

impl Refusal {
    /// Its label is the stable `code`.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Network => Reason::Network,
            Self::NotFound => Reason::NotFound,
            Self::Method => Reason::Method,
            Self::TransferEncoding => Reason::TransferEncoding,
            Self::Host => Reason::Host,
            Self::HeadTooLarge => Reason::HeadTooLarge,
            Self::ConnectionOver => Reason::ConnectionOver,
            Self::ContentEncoding => Reason::ContentEncoding,
            Self::BodyTooLarge { .. } => Reason::BodyTooLarge,
            Self::BodyTimeout => Reason::BodyTimeout,
            Self::BodyCut => Reason::BodyCut,
            Self::HeadTimeout => Reason::HeadTimeout,
            Self::Malformed(Malformed::Syntax { .. }) => Reason::NotJson,
            Self::Malformed(Malformed::NotAnObject { .. }) => Reason::NotAnObject,
            Self::Malformed(Malformed::Field { .. }) => Reason::InvalidField,
            Self::Overloaded => Reason::Overloaded,
            Self::BodyMemory => Reason::BodyMemory,
            Self::StoreFull => Reason::StoreFull,
            Self::Backlog => Reason::Backlog,
            Self::StoreUnavailable => Reason::StoreUnavailable,
            Self::StoreSlow => Reason::StoreSlow,
            Self::Draining => Reason::Draining,
            Self::Internal => Reason::Internal,
        }
    }

    /// Status of the answer.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Network => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout | Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Host
            | Self::TransferEncoding
            | Self::BodyCut
            | Self::Malformed(Malformed::Syntax { .. } | Malformed::NotAnObject { .. }) => StatusCode::BAD_REQUEST,
            Self::Malformed(Malformed::Field { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Overloaded
            | Self::BodyMemory
            | Self::StoreFull
            | Self::Backlog
            | Self::StoreUnavailable
            | Self::StoreSlow
            | Self::ConnectionOver
            | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds after which to try again, of every 503: soon where it passes by itself, later where a person must act.
    pub(super) const fn retry_after(&self) -> Option<&'static str> {
        match self {
            Self::Overloaded | Self::BodyMemory | Self::ConnectionOver => Some("1"),
            Self::StoreUnavailable | Self::StoreSlow | Self::Draining => Some("5"),
            Self::StoreFull | Self::Backlog => Some("30"),
            _ => None,
        }
    }

    /// Whether the connection cannot be used for another request: the rest of this one is unread, cannot be told from the
    /// next, or would be refused as well.
    pub(super) const fn closes(&self) -> bool {
        matches!(
            self,
            Self::Network
                | Self::Host
                | Self::ConnectionOver
                | Self::TransferEncoding
                | Self::BodyTooLarge { .. }
                | Self::BodyTimeout
                | Self::BodyCut
                | Self::BodyMemory
        )
    }

    /// Whether it was said of the head alone, of a request whose body would have been welcome with another head.
    pub(super) const fn is_of_the_head(&self) -> bool {
        matches!(self, Self::NotFound | Self::Method | Self::ContentEncoding)
    }

    /// Whether the store itself is the trouble: then nothing about the refusal can be kept in it.
    pub(super) const fn is_of_the_store(&self) -> bool {
        matches!(self, Self::StoreFull | Self::StoreUnavailable | Self::StoreSlow | Self::Draining)
    }

    const fn title(&self) -> &'static str {
        match self {
            Self::Network => "The address is not allowed",
            Self::NotFound => "Nothing is here",
            Self::Method => "The method is not allowed",
            Self::TransferEncoding => "The transfer coding is not supported",
            Self::Host => "The Host field is missing or wrong",
            Self::HeadTooLarge => "The head is too large",
            Self::ConnectionOver => "The connection is over",
            Self::ContentEncoding => "The content encoding is not supported",
            Self::BodyTooLarge { .. } => "The body is too large",
            Self::BodyTimeout => "The body came too slowly",
            Self::BodyCut => "The body is incomplete",
            Self::HeadTimeout => "The head came too slowly",
            Self::Malformed(Malformed::Syntax { .. }) => "The body is not JSON",
            Self::Malformed(Malformed::NotAnObject { .. }) => "The body is not a JSON object",
            Self::Malformed(Malformed::Field { .. }) => "The body is not an event",
            Self::Overloaded | Self::BodyMemory => "The service is overloaded",
            Self::StoreFull => "There is no room for the event",
            Self::Backlog => "Too many events are waiting",
            Self::StoreUnavailable => "The event cannot be stored",
            Self::StoreSlow => "Storing the event takes too long",
            Self::Draining => "The service is stopping",
            Self::Internal => "The service failed",
        }
    }

    /// What happened to this request, for the caller and the log.
    pub(super) fn detail(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Network => "events are taken from other networks only",
            Self::NotFound => "no webhook is received at this path",
            Self::Method => "events are sent with POST",
            Self::TransferEncoding => "the only transfer coding that is understood is a single chunked",
            Self::Host => "a request of HTTP/1.1 has one Host field, with a host and at most a port",
            Self::HeadTooLarge => "the head of the request has more fields than are allowed",
            Self::ConnectionOver => {
                "certificates have changed since this connection began; nothing was stored; connect again and send the event again"
            }
            Self::ContentEncoding => "send the body without compression",
            Self::BodyTooLarge { limit } => return Cow::Owned(format!("the limit is {limit} bytes")),
            Self::BodyTimeout => "the body did not end within the time allowed for it",
            Self::BodyCut => "the connection broke before the end of the body",
            Self::HeadTimeout => "the head of the request did not end within the time allowed for it",
            Self::Malformed(malformed) => return Cow::Owned(malformed.to_string()),
            Self::Overloaded => {
                "as many requests are under way as are allowed; nothing was stored; send the event again later"
            }
            Self::BodyMemory => {
                "the bodies under way take all the memory they may; nothing was stored; send the event again later"
            }
            Self::StoreFull => "the disk is full; nothing was stored; send the event again later",
            Self::Backlog => {
                "as many events are waiting as are allowed; nothing was stored; send the event again later"
            }
            Self::StoreUnavailable => "the store failed; nothing was promised; send the event again later",
            Self::StoreSlow => "the event may be stored yet; send it again later, a repeat is recognised",
            Self::Draining => "nothing was stored; send the event again later",
            Self::Internal => "the fault is ours and was logged; send the event again later",
        })
    }

    /// The answer's body.
    pub(super) fn render(&self, request: RequestId) -> Bytes {
        let code = self.reason().label();
        let problem = Problem {
            r#type: format_args!("urn:linxo-webhook:problem:{code}"),
            title: self.title(),
            status: self.status().as_u16(),
            detail: &self.detail(),
            code,
            request_id: format_args!("{request}"),
        };
        // Texts and a number always serialise.
        serde_json::to_vec(&problem).map(Bytes::from).unwrap_or_default()
    }
}

/// RFC 9457, with `code` and `request_id` beside its own members.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: fmt::Arguments<'a>,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: fmt::Arguments<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Refusal> {
        vec![
            Refusal::Network,
            Refusal::NotFound,
            Refusal::Method,
            Refusal::TransferEncoding,
            Refusal::Host,
            Refusal::HeadTooLarge,
            Refusal::ConnectionOver,
            Refusal::ContentEncoding,
            Refusal::BodyTooLarge { limit: 8_388_608 },
            Refusal::BodyTimeout,
            Refusal::BodyCut,
            Refusal::HeadTimeout,
            Refusal::Malformed(Malformed::Syntax { problem: "expected value", line: 3, column: 7 }),
            Refusal::Malformed(Malformed::NotAnObject { found: "an array" }),
            Refusal::Malformed(Malformed::Field { path: "$.resource.id", problem: "is missing".to_owned() }),
            Refusal::Overloaded,
            Refusal::BodyMemory,
            Refusal::StoreFull,
            Refusal::Backlog,
            Refusal::StoreUnavailable,
            Refusal::StoreSlow,
            Refusal::Draining,
            Refusal::Internal,
        ]
    }

    #[test]
    fn problem_documents() {
        let rendered: Vec<String> = all()
            .iter()
            .map(|refusal| {
                let body = refusal.render(RequestId(0x1234_5678));
                let retry = refusal.retry_after().map_or(String::new(), |after| format!(" retry-after={after}"));
                let close = if refusal.closes() { " close" } else { "" };
                format!("{}{retry}{close}\n{}\n", refusal.status().as_u16(), String::from_utf8(body.to_vec()).unwrap())
            })
            .collect();
        insta::assert_snapshot!(rendered.join("\n"));
    }

    #[test]
    fn our_own_trouble_says_when_to_come_back() {
        for refusal in all() {
            assert_eq!(refusal.status() == StatusCode::SERVICE_UNAVAILABLE, refusal.retry_after().is_some());
            assert!(refusal.retry_after().is_none_or(|after| after.parse::<u32>().unwrap() >= 1));
        }
    }

    /// (F1) An alert on a status must see its first answer.
    #[test]
    fn every_status_has_a_figure_from_the_start() {
        let statuses = crate::receive::figures::STATUSES;
        assert!(all().iter().all(|refusal| statuses.contains(&refusal.status().as_u16())));
    }

    #[test]
    fn codes_are_distinct() {
        let codes: std::collections::HashSet<_> = all().iter().map(Refusal::reason).collect();
        assert_eq!(codes.len(), all().len());
    }
}
