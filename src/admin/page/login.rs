//! Login and logout: a token against a cookie.

use super::{assets, html::html};
use crate::admin::{
    caller::Caller,
    door::{Door, cookie_name, cross_origin, is_of_ours, session},
    problem::Problem,
    sessions::AGE,
};
use askama::Template;
use axum::{
    Extension, Form,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode, Uri,
    header::{RETRY_AFTER, SET_COOKIE},
};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "login.html")]
struct Page<'a> {
    style: &'static str,
    /// Where to go after the login.
    next: &'a str,
    /// What was wrong with the last try.
    wrong: Option<&'a str>,
    has_tokens: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    #[serde(default)]
    token: String,
    #[serde(default)]
    next: String,
}

/// The form.
pub(super) async fn form(State(door): State<Arc<Door>>, Query(Wanted { next }): Query<Wanted>) -> Response {
    page(&door, StatusCode::OK, &next, None)
}

fn page(door: &Door, status: StatusCode, next: &str, wrong: Option<&str>) -> Response {
    let page = Page { style: assets::style(), next, wrong, has_tokens: door.access.guards().has_tokens() };
    (status, html(&page)).into_response()
}

/// Takes a token, and gives a cookie for it.
pub(super) async fn log_in(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    Form(Credentials { token, next }): Form<Credentials>,
) -> Response {
    if !is_of_ours(&uri, &headers) {
        return cross_origin().into_response();
    }
    if let Some(wait) = door.failures.wait(caller.address()) {
        let wrong = "too many wrong tokens from this address: wait a minute";
        let mut refused = page(&door, StatusCode::TOO_MANY_REQUESTS, &next, Some(wrong));
        refused.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
        return refused;
    }
    let guards = door.access.guards();
    let Some(token) = guards.token(token.trim().as_bytes()) else {
        door.failures.note(caller.address());
        door.turn_away(&caller).await;
        return page(&door, StatusCode::UNAUTHORIZED, &next, Some("this is no token of admin.token"));
    };
    let Ok(id) = door.sessions.begin(token) else {
        let detail = "the system gives no randomness for a session";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_randomness", detail).into_response();
    };
    with_cookie(Redirect::to(here(&next)), &id, AGE.as_secs(), caller.is_tls)
}

/// Ends the session.
pub(super) async fn log_out(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    if let Some(id) = session(&headers, caller.is_tls) {
        door.sessions.end(id);
    }
    with_cookie(Redirect::to("/login"), "", 0, caller.is_tls)
}

/// A page of this listener; whatever else was asked for is the first one.
fn here(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n']);
    if is_path && next.is_ascii() { next } else { "/" }
}

fn with_cookie(answer: Redirect, id: &str, seconds: u64, is_tls: bool) -> Response {
    let name = cookie_name(is_tls);
    let secure = if is_tls { "; Secure" } else { "" };
    let cookie = format!("{name}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut answer = answer.into_response();
    // Hexadecimal digits and fixed text.
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::here;

    #[test]
    fn the_way_after_the_login_leads_nowhere_else() {
        for path in ["/", "/entries?state=parked&sink=app", "/entries/7"] {
            assert_eq!(here(path), path);
        }
        for other in
            ["", "https://evil.example/", "//evil.example/", "/\\evil.example", "/a\r\nb", "javascript:0", "/é"]
        {
            assert_eq!(here(other), "/", "{other}");
        }
    }
}
