//! The public listener as an axum application: the webhook's route, its fallbacks, and the layers around them.
//!
//! ```text
//! Answers    request id, panic -> 500, problem documents, counting, log, `Connection: close` while draining
//! Networks   403 for callers outside of `sender.networks`
//! Router     POST on the path: `accept`; another method: 405; another path: 404
//! ```
//!
//! | request | answer |
//! | --- | --- |
//! | POST on the configured path, an event | 200 `accepted`, or `duplicate` for a repeat |
//! | a head with too many fields; one without one good `Host` | 431; 400 |
//! | a connection whose certificates have changed | 503 with `Retry-After` |
//! | a caller outside of `sender.networks` | 403 |
//! | another path, a wrong path secret | 404 |
//! | another method | 405 with `Allow` |
//! | a transfer coding that is not one `chunked` | 400 |
//! | a content encoding | 415 |
//! | more requests, or more memory for bodies, than allowed | 503 with `Retry-After` |
//! | a body over `max_body`, too slow, cut | 413, 408, 400 |
//! | not JSON or no object; without what makes an event | 400; 422 |
//! | the inbox cannot take it, or not in time | 503 with `Retry-After` |
//!
//! Checks are made in this order. The content decides, and not its wrapping: any `Content-Type` is taken, and an odd one is
//! noted with the event as drift. Routing looks at the path alone; a query is ignored and never logged, because people put
//! secrets there.
//!
//! Handlers and extractors only say why they refuse ([`Refusal`] is a response); `Answers` makes the problem document of it,
//! because that needs the request's id. The layers are types of their own around the router, and not functions inside it
//! (`Router::layer`, `middleware::from_fn`): a layer inside costs eight allocations for each request (decision 0004).

mod accept;
mod answers;
mod body;
mod head;
mod lent;
mod networks;

pub(super) use accept::{COMMIT_TIMEOUT, Commits};
pub(super) use answers::Answering;
pub(super) use body::Bodies;

use super::{caller::Caller, problem::Refusal, problem::RequestId};
use crate::receive::settings;
use answers::Answers;
use axum::{
    Router,
    body::Body,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use head::KnownPath;
use http::request::Parts;
use networks::Networks;
use std::sync::Arc;
use tower::ServiceBuilder;

/// The application. Clones are cheap, and share everything.
pub(super) type Application = Answers<Networks<Router>>;

/// What the handlers and extractors share.
#[derive(Debug)]
pub(super) struct Webhook {
    /// `listener.path`
    pub(super) path: String,
    pub(super) bodies: Bodies,
    pub(super) commits: Commits,
}

/// Puts routes and layers together.
pub(super) fn application(webhook: Webhook, answering: Answering) -> Application {
    let path = webhook.path.trim_end_matches('/').to_owned();
    // The secret is the last segment. It is compared by `KnownPath` and not by the router: the comparison takes the same
    // time whatever was sent, and the secrets change while the router stays.
    let with_secret = format!("{path}/{{secret}}");
    let mut routes = Router::new()
        // A path may have segments that begin with `:` or `*`; they mean nothing to this version of axum.
        .without_v07_checks()
        .route(&with_secret, post(accept::accept))
        // People write a slash at the end, or their tools do.
        .route(&format!("{with_secret}/"), post(accept::accept))
        .route(&format!("{path}/"), post(accept::accept));
    if !path.is_empty() {
        routes = routes.route(&path, post(accept::accept));
    }
    let routes = routes
        .method_not_allowed_fallback(other_method)
        .fallback(async || Refusal::NotFound)
        .with_state(Arc::new(webhook));
    let answering = Arc::new(answering);
    ServiceBuilder::new()
        .layer_fn(move |inner| Answers::new(Arc::clone(&answering), inner))
        .layer_fn(Networks::new)
        .service(routes)
}

/// A method other than POST. With a wrong path secret that is 404 as well.
async fn other_method(_: KnownPath) -> Refusal {
    Refusal::Method
}

/// What is known of a request before it is looked at; an extension of every request, made by `Answers`.
#[derive(Clone, Debug)]
struct Asked {
    id: RequestId,
    caller: Arc<Caller>,
    /// `[sender]` as it was when the request came: one request is judged by one set.
    sender: Arc<settings::Sender>,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        // Without the layer `Answers` there is none.
        parts.extensions.get().cloned().ok_or(Refusal::Internal)
    }
}

/// A refused request, and what of its body was seen; an extension of the response, for `Answers`.
#[derive(Clone, Debug)]
struct Refused {
    refusal: Refusal,
    /// Bytes of the body that came; `None` where none was read.
    size: Option<u64>,
    /// The body as far as it was read.
    body: Bytes,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, size: None, body: Bytes::new() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.refusal.status();
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        Refused::from(self).into_response()
    }
}
