//! The routes of the application and the layers around them.

use super::{
    accept,
    answers::{Answering, Answers},
    head::KnownPath,
    networks::Networks,
    webhook::Webhook,
};
use crate::receive::problem::Refusal;
use axum::{Router, routing::post};
use std::sync::Arc;
use tower::ServiceBuilder;

/// The application. Clones are cheap, and share everything.
pub(in crate::receive) type Application = Answers<Networks<Router>>;

/// Puts routes and layers together.
pub(in crate::receive) fn application(webhook: Webhook, answering: Answering) -> Application {
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
