//! The page for the person on call: HTML from the binary, with a little script. Without the script everything works but that pages
//! look again by themselves.
//!
//! ```text
//! html, assets, words    how an answer becomes a page, and how values look
//! login                  a token against a cookie
//! frame                  what stands around every page
//! plot                   charts
//! now, views             what only shows
//! acts                   what changes something, after it was confirmed
//! live                   what happens, as server-sent events
//! ```

mod acts;
mod assets;
mod frame;
mod html;
mod live;
mod login;
mod now;
mod plot;
mod views;
mod words;

use super::{
    desk::Desk,
    door::{Door, people},
};
use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{get, post},
};
use std::sync::Arc;

/// Every path of the page.
pub(super) fn router(door: &Arc<Door>, desk: Option<Desk>) -> Router {
    let open = Router::new()
        .route("/login", get(login::form).post(login::log_in))
        .route("/static/page.css", get(assets::page_css))
        .route("/static/page.js", get(assets::page_js))
        .route("/static/icon.svg", get(assets::icon_svg))
        .with_state(Arc::clone(door));
    let closed = Router::new().route("/logout", post(login::log_out)).with_state(Arc::clone(door));
    let closed = closed.merge(desk.map_or_else(Router::new, pages));
    open.merge(closed.layer(from_fn_with_state(Arc::clone(door), people)))
}

fn pages(desk: Desk) -> Router {
    Router::new()
        .route("/", get(now::now))
        .route("/charts", get(views::charts))
        .route("/entries", get(views::entries))
        .route("/entries/{number}", get(views::entry))
        .route("/entries/{number}/reveal", post(views::reveal))
        .route("/refused", get(views::refused_requests))
        .route("/audit", get(views::acts))
        .route("/confirm", get(acts::confirm))
        .route("/act", post(acts::act))
        .route("/live", get(live::live))
        .with_state(desk)
}
