//! The routes of the admin listener, and who may see the figures.
//!
//! | path | answer |
//! | --- | --- |
//! | `/livez` | 200 while the process serves at all |
//! | `/readyz` | 200 `{"status":"ready"}`, or 503 with the reasons: starting, draining, an ended certificate, what the inbox says |
//! | `/metrics` | OpenMetrics text; needs the bearer token where one is configured |
//!
//! The probes need no token, even where one is configured: an orchestrator's probe has none, and the answers show only a
//! state.

use super::Figures;
use crate::observe::{
    metrics::Exposition,
    readiness::{Phase, Readiness},
};
use arc_swap::ArcSwapOption;
use axum::{
    Extension, Router, extract,
    response::{IntoResponse, Response},
    routing::get,
};
use base::{error::chain, secret::Secret, sync::lock};
use http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde::Serialize;
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{self, Instant},
};

/// Longest wait for the store's figures during a scrape.
pub const STATS_TIME: Duration = Duration::from_secs(2);

/// A caller without the right token waits this long for its answer. A socket carries one request, and the number of sockets is
/// bounded; so the wait bounds how fast a token can be guessed. Whoever has the token is not held up.
pub(super) const WRONG_TOKEN_TIME: Duration = Duration::from_millis(500);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the listener shows.
#[derive(Clone, Debug)]
pub struct State {
    /// Asked for readiness and figures.
    pub intake: Arc<dyn inbox::Intake>,
    /// Asked for its figures.
    pub upkeep: Arc<dyn inbox::Upkeep>,
    /// All figures, to be read.
    pub exposition: Arc<Exposition>,
    /// Those of the inbox, refreshed before they are read.
    pub inbox: inbox::Figures,
    /// Those of this listener.
    pub figures: Figures,
    /// Where the process is in its life.
    pub readiness: Readiness,
    /// What else keeps events from being taken.
    pub hindrance: Hindrance,
}

/// Says why no event is taken though the inbox would take it; asked anew each time.
#[derive(Clone)]
pub struct Hindrance(Arc<dyn Fn() -> Option<String> + Send + Sync>);

impl Hindrance {
    /// What this function says.
    #[must_use]
    pub fn new(says: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(says))
    }
}

/// Nothing.
impl Default for Hindrance {
    fn default() -> Self {
        Self::new(|| None)
    }
}

impl fmt::Debug for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hindrance").field(&(self.0)()).finish()
    }
}

/// The state behind the routes.
struct Shown {
    state: State,
    access: Access,
    wrong_tokens: Seldom,
    /// One scrape at a time: the store is not asked by many at once.
    scrape: Mutex<()>,
}

/// Who may read the figures. Clones share one token, so that a rotation is seen by the listener.
#[derive(Clone, Debug)]
pub struct Access(Arc<ArcSwapOption<Secret>>);

impl Access {
    pub(super) fn new(token: Option<Secret>) -> Self {
        Self(Arc::new(ArcSwapOption::from_pointee(token)))
    }

    /// Asks for another bearer token from now on; `None`: for none.
    pub fn replace_token(&self, token: Option<Secret>) {
        self.0.store(token.map(Arc::new));
    }

    fn allows(&self, headers: &HeaderMap) -> bool {
        self.0.load().as_ref().is_none_or(|token| bearer(headers).is_some_and(|candidate| token.matches(candidate)))
    }
}

pub(super) fn router(state: State, access: Access) -> Router {
    Router::new()
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "not_found", "there is nothing under this path") })
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path is only read")
        })
        .with_state(Arc::new(Shown { state, access, wrong_tokens: Seldom::default(), scrape: Mutex::new(()) }))
}

async fn alive() -> Response {
    json(StatusCode::OK, "application/json", &Status { status: "alive", reasons: Vec::new() })
}

impl State {
    /// Why an event sent now would not be accepted.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match self.readiness.phase() {
            Phase::Starting => reasons.push("starting".to_owned()),
            Phase::Ready => {}
            Phase::Draining => reasons.push("draining".to_owned()),
        }
        if let Err(error) = self.intake.ready() {
            // Without its source, which may name files and hosts.
            reasons.push(error.to_string());
        }
        reasons.extend((self.hindrance.0)());
        reasons
    }
}

async fn ready(extract::State(shown): extract::State<Arc<Shown>>) -> Response {
    let reasons = shown.state.obstacles();
    if reasons.is_empty() {
        json(StatusCode::OK, "application/json", &Status { status: "ready", reasons })
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, "application/json", &Status { status: "not_ready", reasons })
    }
}

async fn figures(
    extract::State(shown): extract::State<Arc<Shown>>,
    Extension(peer): Extension<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    if !shown.access.allows(&headers) {
        shown.state.figures.unauthorized.inc();
        if shown.wrong_tokens.is_due() {
            tracing::warn!(code = "admin_token_wrong", %peer, "somebody asked for the figures with a wrong admin token, or none; said once a minute");
        }
        time::sleep(WRONG_TOKEN_TIME).await;
        let mut refused =
            problem(StatusCode::UNAUTHORIZED, "unauthorized", "the admin token is needed as bearer token");
        refused.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
        return refused;
    }
    let _alone = shown.scrape.lock().await;
    let State { upkeep, inbox, exposition, figures, .. } = &shown.state;
    let unknown = match tokio::time::timeout(STATS_TIME, upkeep.stats()).await {
        Ok(Ok(stats)) => {
            inbox.show(stats);
            None
        }
        Ok(Err(error)) => Some(chain(&error)),
        Err(_elapsed) => Some(format!("it did not tell them within {} s", STATS_TIME.as_secs())),
    };
    if let Some(error) = unknown {
        inbox.forget();
        tracing::warn!(
            code = "figures_unknown",
            error,
            "the inbox's figures are missing in /metrics: the inbox could not tell them"
        );
    }
    figures.ready.set(shown.state.obstacles().is_empty().into());
    ([(CONTENT_TYPE, OPENMETRICS), (CACHE_CONTROL, "no-store")], exposition.encode()).into_response()
}

/// Lets one log line a minute through.
#[derive(Debug, Default)]
pub(super) struct Seldom(std::sync::Mutex<Option<Instant>>);

impl Seldom {
    const EVERY: Duration = Duration::from_mins(1);

    pub(super) fn is_due(&self) -> bool {
        let mut last = lock(&self.0);
        let is_due = last.is_none_or(|last| last.elapsed() >= Self::EVERY);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// The token of `Authorization: Bearer ...`; the scheme's case does not matter.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

/// A problem document (RFC 9457).
#[derive(Serialize)]
struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
    code: &'static str,
}

fn problem(status: StatusCode, code: &'static str, detail: &'static str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let document = Problem { r#type: "about:blank", title, status: status.as_u16(), detail, code };
    json(status, "application/problem+json", &document)
}

fn json(status: StatusCode, content_type: &'static str, document: &impl Serialize) -> Response {
    // These types hold nothing that JSON cannot write.
    let text = serde_json::to_string(document).unwrap_or_default();
    (status, [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], text).into_response()
}
