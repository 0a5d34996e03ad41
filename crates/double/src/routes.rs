//! One call to the double, from its head to its answer: who asks, what for, and what goes wrong this time.

use crate::{
    accounts::{account_json, connection_json},
    bodies::{self, Body},
    faults::{Endpoint, Fault, Target},
    script::Call,
    state::{Request, Shared},
    token::Holder,
    wire::{ApiVersion, pairs},
};
use base::clock::{self, Timestamp};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

/// Longest token request that is read.
const LONGEST_REQUEST: usize = 64 * 1024;
const HTML: &str = "<!doctype html><html><body><h1>Service unavailable</h1></body></html>";
/// Marks the far end of a redirect within the origin, so that it is not redirected again.
const HOP: &str = "hop";

/// Answers one call; an error makes hyper drop the connection without an answer.
pub(crate) async fn answer(shared: Arc<Shared>, request: http::Request<Incoming>) -> io::Result<Response<Body>> {
    let in_flight = shared.in_flight.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    shared.peak_in_flight.fetch_max(in_flight, Ordering::Relaxed);
    let _leave = Leave(Arc::clone(&shared));
    let at = clock::now();
    let (parts, body) = request.into_parts();
    let content = match Limited::new(body, LONGEST_REQUEST).collect().await {
        Ok(content) => content.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let asked = Asked::read(&shared, &parts);
    let (faults, rng) = shared.player().decide(&asked.call());
    let kinds: Vec<_> = faults.iter().map(Fault::kind).collect();
    let mut entry = Entry { shared: &shared, request: Some(asked.record(at, &parts, None, kinds)) };
    let mut turn = Turn { shared: &shared, parts: &parts, asked: &asked, content, faults, rng };
    let result = turn.play().await;
    if let Some(request) = &mut entry.request {
        request.status = result.as_ref().ok().map(|response| response.status().as_u16());
    }
    result
}

/// Comes into the journal when dropped, also when the caller hung up before the answer.
struct Entry<'a> {
    shared: &'a Shared,
    request: Option<Request>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            self.shared.record(request);
        }
    }
}

/// Lowers the number of calls in flight, also when the caller hung up.
struct Leave(Arc<Shared>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request asks for.
struct Asked {
    endpoint: Endpoint,
    query: HashMap<String, String>,
    page: Option<u64>,
    /// From the path, or from the filter.
    connection: Option<String>,
    /// As far as the request and its token say.
    user: Option<String>,
    authorised: bool,
}

impl Asked {
    fn read(shared: &Shared, parts: &Parts) -> Self {
        let settings = &shared.settings;
        let query: HashMap<_, _> = pairs(parts.uri.query().unwrap_or_default()).collect();
        let path = parts.uri.path();
        let below = path.strip_prefix(shared.api_path()).and_then(|rest| rest.strip_prefix('/'));
        let (endpoint, connection) = match (&parts.method, below) {
            (&Method::POST, _) if path == "/token" => (Endpoint::Token, None),
            (&Method::GET, Some("accounts")) => {
                (Endpoint::Accounts, query.get(&settings.connection_parameter).cloned())
            }
            (&Method::GET, Some("connections")) => (Endpoint::Connections, None),
            (&Method::GET, Some(rest)) => match rest.strip_prefix("connections/") {
                Some(id) if !id.is_empty() && !id.contains('/') => (Endpoint::Connection, Some(id.to_owned())),
                _ => (Endpoint::Any, None),
            },
            _ => (Endpoint::Any, None),
        };
        let token = text(&parts.headers, "authorization").and_then(|value| value.strip_prefix("Bearer "));
        let holder = token.and_then(|token| {
            let fixed = settings.fixed_token.as_ref().is_some_and(|fixed| fixed.matches(token.as_bytes()));
            if fixed { Some(Holder::Client) } else { shared.tokens().holder(token).cloned() }
        });
        let named = match settings.version {
            ApiVersion::V2_1 => text(&parts.headers, "x-linxo-user-id"),
            ApiVersion::V3 => query.get("user_id").map(String::as_str),
        };
        let authorised = holder.is_some();
        let user = match (holder, named) {
            // A token of one user shows no one else's accounts.
            (Some(Holder::User(user)), named) => named.is_none_or(|named| named == user).then_some(user),
            (_, named) => named.map(str::to_owned),
        };
        let page = query.get("page").and_then(|page| page.parse().ok());
        Self { endpoint, query, page, connection, user, authorised }
    }

    fn call(&self) -> Call<'_> {
        Call {
            endpoint: self.endpoint,
            page: self.page,
            connection: self.connection.as_deref(),
            user: self.user.as_deref(),
        }
    }

    fn record(&self, at: Timestamp, parts: &Parts, status: Option<StatusCode>, faults: Vec<&'static str>) -> Request {
        let mut headers: Vec<String> = parts.headers.keys().map(ToString::to_string).collect();
        headers.sort_unstable();
        Request {
            at_ms: at.as_millis(),
            endpoint: self.endpoint,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            page: self.page,
            connection: self.connection.clone(),
            user: self.user.clone(),
            headers,
            status: status.map(|status| status.as_u16()),
            faults,
        }
    }
}

/// One call with the faults that it meets.
struct Turn<'a> {
    shared: &'a Shared,
    parts: &'a Parts,
    asked: &'a Asked,
    content: Bytes,
    faults: Vec<Fault>,
    rng: fastrand::Rng,
}

impl Turn<'_> {
    async fn play(&mut self) -> io::Result<Response<Body>> {
        if !self.shared.settings.latency.is_zero() {
            tokio::time::sleep(self.shared.settings.latency).await;
        }
        for fault in &self.faults {
            match fault {
                Fault::Delay { ms } | Fault::StallHead { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
                Fault::ExpireTokens => self.shared.tokens().forget_all(),
                Fault::Change { insert, remove } => {
                    self.shared.world().change(self.asked.connection.as_deref(), *insert, *remove, &mut self.rng);
                }
                Fault::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
                _ => {}
            }
        }
        if let Some(instead) = self.faults.iter().find_map(|fault| self.instead(fault)) {
            return Ok(instead);
        }
        let (status, content) = self.right_answer();
        Ok(self.send(status, content))
    }

    /// The answer of a fault that does not even look at the question.
    fn instead(&self, fault: &Fault) -> Option<Response<Body>> {
        let connection = self.asked.connection.as_deref();
        Some(match fault {
            Fault::Status { status, retry_after, html } => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let mut response =
                    if *html { page(status) } else { json(status, error("INTERNAL_ERROR", "Simulated failure", None)) };
                if let Some(value) = retry_after.as_deref().and_then(retry_after_value) {
                    response.headers_mut().insert(header::RETRY_AFTER, value);
                }
                response
            }
            // Tokens of before may have been forgotten by this very call.
            Fault::ExpireTokens if self.asked.endpoint != Endpoint::Token => unauthorised(),
            Fault::Unauthorized => unauthorised(),
            Fault::TermsRequired => {
                json(StatusCode::FORBIDDEN, error("FORBIDDEN", "ACCEPT_TERMS_AND_CONDITIONS_REQUIRED", None))
            }
            Fault::UnknownConnection => {
                json(StatusCode::NOT_FOUND, error("RESOURCE_UNKNOWN", "Unknown connection", connection))
            }
            Fault::NoContent => response(StatusCode::NO_CONTENT, None, bodies::whole(Bytes::new())),
            Fault::Html => page(StatusCode::OK),
            Fault::Body { body } => json(StatusCode::OK, body.clone()),
            Fault::Endless => response(StatusCode::OK, Some("application/json"), bodies::endless()),
            Fault::GzipBomb { bytes } => {
                let mut bomb = response(StatusCode::OK, Some("application/json"), bodies::gzip_bomb(*bytes));
                bomb.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                bomb
            }
            Fault::Redirect { to, location } => self.redirect(*to, location.as_deref())?,
            _ => return None,
        })
    }

    fn redirect(&self, to: Target, location: Option<&str>) -> Option<Response<Body>> {
        let here = self.parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str).unwrap_or_default();
        let location = match to {
            Target::Same if self.asked.query.contains_key(HOP) => return None,
            Target::Same => {
                format!("{}{here}{}{HOP}=1", self.shared.origin, if here.contains('?') { '&' } else { '?' })
            }
            Target::Loop => format!("{}{here}", self.shared.origin),
            Target::Other => location.unwrap_or("https://elsewhere.invalid/").to_owned(),
        };
        let mut redirect = response(StatusCode::FOUND, None, bodies::whole(Bytes::new()));
        redirect.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&location).ok()?);
        Some(redirect)
    }

    fn right_answer(&self) -> (StatusCode, String) {
        match self.asked.endpoint {
            Endpoint::Token => self.token(),
            Endpoint::Any => (StatusCode::NOT_FOUND, error("RESOURCE_UNKNOWN", "Unknown path", None)),
            Endpoint::Accounts | Endpoint::Connection | Endpoint::Connections => {
                if !self.asked.authorised {
                    return (StatusCode::UNAUTHORIZED, error("invalid_token", "The access token expired", None));
                }
                let Some(user) = self.user() else {
                    return (StatusCode::FORBIDDEN, error("FORBIDDEN", "No user is selected", None));
                };
                match self.asked.endpoint {
                    Endpoint::Accounts => self.accounts(&user),
                    Endpoint::Connection => self.connection(&user),
                    _ => self.connections(&user),
                }
            }
        }
    }

    /// A fixed token selects no user; then the connection's owner is meant.
    fn user(&self) -> Option<String> {
        let by_connection = || {
            self.shared.settings.fixed_token.as_ref()?;
            self.shared.world().owner(self.asked.connection.as_deref()?).map(str::to_owned)
        };
        self.asked.user.clone().or_else(by_connection)
    }

    fn token(&self) -> (StatusCode, String) {
        let (status, mut answer) =
            self.shared.tokens().answer(&self.shared.settings, &self.parts.headers, &self.content);
        for fault in &self.faults {
            if let (Fault::ExpiresIn { value }, Some(members)) = (fault, answer.as_object_mut())
                && members.remove("expires_in").is_some()
                && let Some(value) = value
            {
                members.insert("expires_in".to_owned(), value.clone());
            }
        }
        (status, answer.to_string())
    }

    fn accounts(&self, user: &str) -> (StatusCode, String) {
        let settings = &self.shared.settings;
        let world = self.shared.world();
        let connection = self.asked.connection.as_deref();
        if let Some(connection) = connection
            && world.owner(connection) != Some(user)
        {
            return (StatusCode::NOT_FOUND, error("RESOURCE_UNKNOWN", "Unknown connection", Some(connection)));
        }
        let late = self.lateness(connection.unwrap_or_default());
        if late == Some(Late::Unknown) {
            return (StatusCode::NOT_FOUND, error("RESOURCE_UNKNOWN", "Unknown connection", connection));
        }
        let filter = if self.has(&Fault::IgnoreFilter) { None } else { connection };
        let mut all = world.accounts(user, filter);
        if let Some(Late::Listed { percent }) = late {
            // Lists begin with the newest account: what is missing is missing there.
            all.drain(..all.len() - all.len() * percent / 100);
        }
        let asked_limit = self.asked.query.get("limit").and_then(|limit| limit.parse().ok());
        let forced = self.faults.iter().find_map(|fault| match fault {
            Fault::IgnoreLimit { size } => Some(size.unwrap_or(usize::MAX)),
            _ => None,
        });
        let limit =
            forced.unwrap_or_else(|| asked_limit.unwrap_or(settings.default_page).min(settings.page_cap)).max(1);
        let page = if self.has(&Fault::RepeatPage) { 1 } else { self.asked.page.unwrap_or(1).max(1) };
        let skip = usize::try_from(page.saturating_sub(1)).unwrap_or(usize::MAX).saturating_mul(limit);
        let integer_ids = self.has(&Fault::IntegerIds);
        if page > 1
            && skip >= all.len()
            && let Some(status) = self.faults.iter().find_map(Fault::behind_the_end)
        {
            return match status {
                StatusCode::OK | StatusCode::NO_CONTENT => (status, String::new()),
                status => (status, error("RESOURCE_UNKNOWN", "Unknown page", None)),
            };
        }
        let mut items: Vec<String> = all
            .into_iter()
            .skip(skip)
            .take(limit)
            .map(|(connection, number)| account_json(connection, number, settings.version, integer_ids))
            .collect();
        for fault in &self.faults {
            if let Fault::BadItem { at, item } = fault
                && let Some(place) = items.get_mut(*at)
            {
                place.clone_from(item);
            }
        }
        (StatusCode::OK, self.list("accounts", &items))
    }

    /// How far the API has caught up with the event.
    fn lateness(&self, connection: &str) -> Option<Late> {
        let (unknown_ms, ms) = self.faults.iter().find_map(|fault| match fault {
            Fault::Late { unknown_ms, ms } => Some((*unknown_ms, *ms)),
            _ => None,
        })?;
        let since = self.shared.since_first_asked(connection).as_millis();
        if since < u128::from(unknown_ms) {
            return Some(Late::Unknown);
        }
        let percent = since.saturating_sub(u128::from(unknown_ms)).saturating_mul(100)
            / u128::from(ms.saturating_sub(unknown_ms).max(1));
        Some(Late::Listed { percent: usize::try_from(percent).unwrap_or(100).min(100) })
    }

    fn connection(&self, user: &str) -> (StatusCode, String) {
        let id = self.asked.connection.as_deref().unwrap_or_default();
        if self.lateness(id) != Some(Late::Unknown) && self.shared.world().owner(id) == Some(user) {
            (StatusCode::OK, connection_json(id, user, "SUCCESS", "SUCCESS", "SUCCESS"))
        } else {
            (StatusCode::NOT_FOUND, error("RESOURCE_UNKNOWN", "Unknown connection", Some(id)))
        }
    }

    fn connections(&self, user: &str) -> (StatusCode, String) {
        let items: Vec<String> = self
            .shared
            .world()
            .connections_of(user)
            .map(|id| connection_json(id, user, "SUCCESS", "SUCCESS", "SUCCESS"))
            .collect();
        (StatusCode::OK, self.list("connections", &items))
    }

    fn list(&self, name: &str, items: &[String]) -> String {
        let items = items.join(",");
        match self.shared.settings.version {
            ApiVersion::V2_1 => format!("[{items}]"),
            ApiVersion::V3 => format!(r#"{{"{name}":[{items}]}}"#),
        }
    }

    fn has(&self, fault: &Fault) -> bool {
        self.faults.contains(fault)
    }

    /// The right answer, through whatever damages it on the way.
    fn send(&self, status: StatusCode, content: String) -> Response<Body> {
        let content = Bytes::from(content);
        let mut content_type = "application/json";
        let mut coding = None;
        let mut body = None;
        for fault in &self.faults {
            match fault {
                Fault::WrongType { content_type: other } => content_type = other,
                Fault::Truncate => body = Some(bodies::whole(content.slice(..content.len() / 2))),
                Fault::Cut { after } => body = Some(bodies::cut(&content, *after)),
                Fault::StallBody { ms } => body = Some(bodies::stall(&content, Duration::from_millis(*ms))),
                Fault::Drip { bytes, every_ms } => {
                    body = Some(bodies::drip(content.clone(), *bytes, Duration::from_millis(*every_ms)));
                }
                Fault::Huge { bytes } => body = Some(bodies::huge(content.clone(), *bytes)),
                Fault::Gzip => {
                    coding = Some("gzip");
                    body = Some(bodies::whole(bodies::gzip(&content)));
                }
                Fault::Coding { value } => coding = Some(value),
                _ => {}
            }
        }
        let mut response = response(status, Some(content_type), body.unwrap_or_else(|| bodies::whole(content)));
        if let Some(coding) = coding.and_then(|coding| HeaderValue::from_str(coding).ok()) {
            response.headers_mut().insert(header::CONTENT_ENCODING, coding);
        }
        response
    }
}

/// How far a list is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// The connection is not known yet.
    Unknown,
    /// So much of the list is there.
    Listed {
        /// 100: all of it.
        percent: usize,
    },
}

fn response(status: StatusCode, content_type: Option<&str>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(value) = content_type.and_then(|text| HeaderValue::from_str(text).ok()) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

fn json(status: StatusCode, content: String) -> Response<Body> {
    response(status, Some("application/json"), bodies::whole(content))
}

fn page(status: StatusCode) -> Response<Body> {
    response(status, Some("text/html"), bodies::whole(HTML))
}

fn unauthorised() -> Response<Body> {
    json(StatusCode::UNAUTHORIZED, error("invalid_token", "The access token expired", None))
}

/// The vendor's error body (`docs/linxo-api.md` section 5).
fn error(code: &str, description: &str, id: Option<&str>) -> String {
    let mut body = serde_json::json!({ "error": code, "error_description": description });
    if let (Some(id), Some(members)) = (id, body.as_object_mut()) {
        members.insert("id".to_owned(), id.into());
    }
    body.to_string()
}

fn retry_after_value(text: &str) -> Option<HeaderValue> {
    let date = text.strip_prefix("date:").and_then(|seconds| {
        let at = clock::now().after(Duration::from_secs(seconds.parse().ok()?));
        let since_epoch = Duration::from_millis(u64::try_from(at.as_millis()).ok()?);
        Some(httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since_epoch))
    });
    HeaderValue::from_str(date.as_deref().unwrap_or(text)).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
