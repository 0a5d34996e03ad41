//! Everything that can go wrong with one call, as a script names it.

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// An endpoint of the double.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// In a rule: every endpoint. In the journal: a path that the double does not know.
    #[default]
    Any,
    /// `POST /token`
    Token,
    /// `GET /accounts`
    Accounts,
    /// `GET /connections/{id}`
    Connection,
    /// `GET /connections`
    Connections,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// This status, with the vendor's error body or with HTML.
    Status {
        /// 400 to 599.
        status: u16,
        /// `Retry-After`: sent as it stands, except `date:N`, which becomes the HTTP date N seconds from now.
        #[serde(default)]
        retry_after: Option<String>,
        /// An HTML body, as a proxy in between would send.
        #[serde(default)]
        html: bool,
    },
    /// 401 `invalid_token`, whatever the token.
    Unauthorized,
    /// Every token given out so far expires before this call is looked at.
    ExpireTokens,
    /// 403: the user must accept new terms and conditions.
    TermsRequired,
    /// 404: the connection is gone.
    UnknownConnection,
    /// 204 without a body.
    NoContent,
    /// 200 with an HTML page.
    Html,
    /// 200 with this body, as `application/json`.
    Body {
        /// The body.
        body: String,
    },
    /// The right answer after this time.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Nothing at all for this time, then the right answer.
    StallHead {
        /// Milliseconds; an hour, if not given.
        #[serde(default = "an_hour")]
        ms: u64,
    },
    /// Half of the body, then nothing for this time.
    StallBody {
        /// Milliseconds; an hour, if not given.
        #[serde(default = "an_hour")]
        ms: u64,
    },
    /// The body a few bytes at a time.
    Drip {
        /// Bytes at a time.
        #[serde(default = "one")]
        bytes: usize,
        /// Milliseconds between.
        #[serde(default = "a_hundred")]
        every_ms: u64,
    },
    /// The connection breaks in the body (over HTTP/2: the stream).
    Cut {
        /// After this many bytes; half, if not given.
        #[serde(default)]
        after: Option<usize>,
    },
    /// The connection breaks without an answer (over HTTP/2: the stream).
    Reset,
    /// The body stops in the middle, though the HTTP message is whole.
    Truncate,
    /// A JSON array without end.
    Endless,
    /// `Content-Encoding: gzip`, which inflates to this much.
    GzipBomb {
        /// Bytes after inflating; 1 GiB, if not given.
        #[serde(default = "a_gibibyte")]
        bytes: u64,
    },
    /// The right body, padded with spaces.
    Huge {
        /// Bytes in all; 1 GiB, if not given.
        #[serde(default = "a_gibibyte")]
        bytes: u64,
    },
    /// 302.
    Redirect {
        /// Where to.
        to: Target,
        /// The `Location` for `other`; a host that does not exist, if not given.
        #[serde(default)]
        location: Option<String>,
    },
    /// Page 1 again, whatever page is asked for.
    RepeatPage,
    /// Pages of this size, whatever limit is asked for; the whole list at once, if not given.
    IgnoreLimit {
        /// Accounts a page.
        #[serde(default)]
        size: Option<usize>,
    },
    /// Every account of the user, whatever connection is asked for.
    IgnoreFilter,
    /// Ids as JSON integers.
    IntegerIds,
    /// The right body under this `Content-Type`.
    WrongType {
        /// Such as `text/plain`.
        content_type: String,
    },
    /// Accounts come and go before this call is answered.
    Change {
        /// How many come.
        #[serde(default)]
        insert: u32,
        /// How many go.
        #[serde(default)]
        remove: u32,
    },
    /// The event is ahead of the API: from the first call for a connection on, the connection is unknown for a while, then its
    /// list grows, and at last it is whole. Behind its present end a list is empty, as ever.
    Late {
        /// Milliseconds for which the connection is unknown.
        #[serde(default)]
        unknown_ms: u64,
        /// Milliseconds after which the list is whole.
        ms: u64,
    },
    /// On pages behind the end of the list, instead of an empty list: this status. 200 has no body, and neither has 204.
    BehindTheEnd {
        /// 200 to 599.
        status: u16,
    },
    /// The right body, packed with gzip.
    Gzip,
    /// The right body as it is, under this `Content-Encoding`.
    Coding {
        /// Such as `identity`.
        value: String,
    },
    /// Instead of an account of the page: this JSON.
    BadItem {
        /// Which account, from 0.
        #[serde(default)]
        at: usize,
        /// Such as `{"name":"x"}`; `null`, if not given.
        #[serde(default = "null")]
        item: String,
    },
    /// `expires_in` of a token answer: any JSON value, or absent.
    ExpiresIn {
        /// The value.
        #[serde(default)]
        value: Option<serde_json::Value>,
    },
}

impl Fault {
    /// The kind, as a script spells it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Unauthorized => "unauthorized",
            Self::ExpireTokens => "expire_tokens",
            Self::TermsRequired => "terms_required",
            Self::UnknownConnection => "unknown_connection",
            Self::NoContent => "no_content",
            Self::Html => "html",
            Self::Body { .. } => "body",
            Self::Delay { .. } => "delay",
            Self::StallHead { .. } => "stall_head",
            Self::StallBody { .. } => "stall_body",
            Self::Drip { .. } => "drip",
            Self::Cut { .. } => "cut",
            Self::Reset => "reset",
            Self::Truncate => "truncate",
            Self::Endless => "endless",
            Self::GzipBomb { .. } => "gzip_bomb",
            Self::Huge { .. } => "huge",
            Self::Redirect { .. } => "redirect",
            Self::RepeatPage => "repeat_page",
            Self::IgnoreLimit { .. } => "ignore_limit",
            Self::IgnoreFilter => "ignore_filter",
            Self::IntegerIds => "integer_ids",
            Self::WrongType { .. } => "wrong_type",
            Self::Change { .. } => "change",
            Self::Late { .. } => "late",
            Self::BehindTheEnd { .. } => "behind_the_end",
            Self::Gzip => "gzip",
            Self::Coding { .. } => "coding",
            Self::BadItem { .. } => "bad_item",
            Self::ExpiresIn { .. } => "expires_in",
        }
    }
}

impl Fault {
    /// The status of a page behind the end of a list.
    pub(crate) fn behind_the_end(&self) -> Option<StatusCode> {
        match self {
            Self::BehindTheEnd { status } => StatusCode::from_u16(*status).ok(),
            _ => None,
        }
    }
}

/// Where a redirect leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The same origin, where the right answer waits.
    Same,
    /// Another origin, which must never see a token.
    Other,
    /// Itself.
    Loop,
}

fn null() -> String {
    "null".to_owned()
}

fn one() -> usize {
    1
}

fn a_hundred() -> u64 {
    100
}

fn an_hour() -> u64 {
    3_600_000
}

fn a_gibibyte() -> u64 {
    1 << 30
}
