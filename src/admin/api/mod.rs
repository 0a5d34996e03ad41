//! The API for programs: what the page shows and does, as JSON under `/api/v1`.
//!
//! `docs/schema/openapi.json` describes it and is given out under `/api/v1/openapi.json`; a test compares it with the paths here. What
//! changes something needs a token or a certificate that may act, and is written to the audit trail under its name.
//!
//! ```text
//! params    what is asked for: query and body
//! lists     what only reads
//! acts      what changes or reveals something
//! ```

mod acts;
mod lists;
mod params;

pub(super) use lists::Back;
pub(super) use params::{Asked, At, Search};

use super::{
    desk::Desk,
    door::{Door, programs},
    problem::Problem,
};
use axum::{
    Router,
    middleware::from_fn_with_state,
    response::IntoResponse,
    routing::{get, post},
};
use http::header::CONTENT_TYPE;
use std::sync::Arc;

const DOCUMENT: &str = include_str!("../../../docs/schema/openapi.json");

/// Every path of the API.
pub(super) fn router(door: &Arc<Door>, desk: Desk) -> Router {
    Router::new()
        .route("/api/v1/openapi.json", get(document))
        .route("/api/v1/overview", get(lists::overview))
        .route("/api/v1/charts", get(lists::charts))
        .route("/api/v1/sinks", get(lists::sinks))
        .route("/api/v1/sinks/{name}/pause", post(acts::pause))
        .route("/api/v1/sinks/{name}/resume", post(acts::resume))
        .route("/api/v1/sinks/{name}/test", post(acts::test))
        .route("/api/v1/happenings", get(lists::happenings))
        .route("/api/v1/entries", get(lists::entries))
        .route("/api/v1/entries/replay", post(acts::replay))
        .route("/api/v1/entries/park", post(acts::park))
        .route("/api/v1/entries/purge", post(acts::purge))
        .route("/api/v1/entries/export", post(acts::export))
        .route("/api/v1/entries/{number}", get(lists::entry))
        .route("/api/v1/entries/{number}/body", get(lists::body))
        .route("/api/v1/entries/{number}/reveal", post(acts::reveal))
        .route("/api/v1/entries/{number}/document", get(lists::masked_document))
        .route("/api/v1/entries/{number}/document/reveal", post(acts::reveal_document))
        .route("/api/v1/erase", post(acts::erase))
        .route("/api/v1/refused", get(lists::refused))
        .route("/api/v1/refused/reveal", post(acts::reveal_refused))
        .route("/api/v1/audit", get(lists::audit))
        .route("/api/v1/{*rest}", get(async || Problem::not_found()).post(async || Problem::not_found()))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(desk)
        .layer(from_fn_with_state(Arc::clone(door), programs))
}

async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use super::DOCUMENT;
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// What is described is there, and what is there is described.
    #[test]
    fn the_document_has_the_paths_of_the_code() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let described: BTreeSet<String> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
            .filter(|operation| !operation.starts_with("parameters "))
            .collect();
        let code = include_str!("mod.rs");
        let routes = code.split(".route(\"").skip(1).filter_map(|rest| {
            let (path, rest) = rest.split_once("\", ")?;
            let (method, _) = rest.split_once('(')?;
            (!path.contains("{*")).then(|| format!("{method} {path}"))
        });
        let routes: BTreeSet<String> = routes.filter(|route| route.contains("/api/")).collect();
        assert!(routes.len() > 10, "{routes:?}");
        assert_eq!(described, routes);
    }
}
