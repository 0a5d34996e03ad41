//! The page for the person on call: HTML from the binary, with a little script.
//!
//! ```text
//! html, assets    how an answer becomes a page
//! login           a token against a cookie
//! ```

mod assets;
mod html;
mod login;

use super::door::{Door, people};
use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{get, post},
};
use std::sync::Arc;

/// Every path of the page.
pub(super) fn router(door: &Arc<Door>) -> Router {
    let open = Router::new()
        .route("/login", get(login::form).post(login::log_in))
        .route("/static/page.css", get(assets::page_css))
        .route("/static/page.js", get(assets::page_js))
        .route("/static/icon.svg", get(assets::icon_svg))
        .with_state(Arc::clone(door));
    let closed = Router::new()
        .route("/logout", post(login::log_out))
        .with_state(Arc::clone(door))
        .layer(from_fn_with_state(Arc::clone(door), people));
    open.merge(closed)
}
