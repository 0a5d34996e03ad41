//! The routes of the admin listener, and what probes and scrapers are answered.
//!
//! | path | answer |
//! | --- | --- |
//! | `/livez` | 200 while the process serves at all |
//! | `/readyz` | 200 `{"status":"ready"}`, or 503 with the reasons: starting, draining, an ended certificate, what the inbox says |
//! | `/metrics` | OpenMetrics text; needs a token or a client certificate where any is configured |
//! | `/login`, `/logout`, `/static/...` and the rest | the page ([`page`]) |
//!
//! The probes need no token, even where one is configured: an orchestrator's probe has none, and the answers show only a
//! state.

use super::{
    Figures, api,
    caller::Caller,
    desk::Desk,
    door::{Door, bearer, named, strict},
    page,
    problem::Problem,
};
use crate::observe::{
    metrics::Exposition,
    readiness::{Phase, Readiness},
};
use axum::{
    Extension, Router, extract,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use base::error::chain;
use http::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde::Serialize;
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// Longest wait for the store's figures during a scrape.
pub const STATS_TIME: Duration = Duration::from_secs(2);

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
    /// What the page and the API work on; `None`: there are only health and figures.
    pub desk: Option<Desk>,
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
    door: Arc<Door>,
    /// One scrape at a time: the store is not asked by many at once.
    scrape: Mutex<()>,
}

/// Every path of the listener.
pub(super) fn router(state: State, door: Door) -> Router {
    let door = Arc::new(door);
    let api = state.desk.clone().map_or_else(Router::new, |desk| api::router(&door, desk));
    let guarded = page::router(&door, state.desk.clone())
        .merge(api)
        .layer(from_fn_with_state(Arc::clone(&door), named))
        .layer(from_fn(strict));
    Router::new()
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .with_state(Arc::new(Shown { state, door, scrape: Mutex::new(()) }))
        .merge(guarded)
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
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
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    let guards = shown.door.access.guards();
    let is_known = bearer(&headers).is_some_and(|token| guards.is_for_metrics(token))
        || guards.certified(&caller.names).is_some()
        || !guards.knows_somebody();
    if !is_known {
        shown.door.turn_away(&caller).await;
        let detail = "admin.metrics_token or another admin token is needed as bearer token";
        return Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).into_response();
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
    figures.certificate.set(guards.tls().map_or(0, |loaded| loaded.certificate.not_after.as_seconds()));
    ([(CONTENT_TYPE, OPENMETRICS), (CACHE_CONTROL, "no-store")], exposition.encode()).into_response()
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

fn json(status: StatusCode, content_type: &'static str, document: &impl Serialize) -> Response {
    // These types hold nothing that JSON cannot write.
    let text = serde_json::to_string(document).unwrap_or_default();
    (status, [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], text).into_response()
}
