//! What every request passes before it is answered: the name it calls us by, who sends it, whether it may change anything, and the
//! headers that keep browsers strict.
//!
//! Programs show a bearer token or a client certificate. People show a cookie, after they logged in, or a certificate too. A
//! browser sends cookies and certificates by itself, also when a page of somebody else asks it to. So what changes something
//! must come from our own page: it carries a token that only our pages have, and the browser's word on its origin must be right.

use super::{
    Figures,
    access::{Access, Guards, Who, called},
    caller::Caller,
    failures::Failures,
    problem::Problem,
    sessions::{Sessions, random},
};
use axum::{
    Extension,
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use base::seldom::Seldom;
use data_encoding::HEXLOWER;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
    },
};
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};
use subtle::ConstantTimeEq as _;
use tokio::time;

/// A caller without the right token waits this long for its answer. A socket carries one request, and the number of sockets is
/// bounded; so the wait bounds how fast a token can be guessed. Whoever has the token is not held up.
pub(super) const WRONG_TOKEN_TIME: Duration = Duration::from_millis(500);
/// Largest form.
const FORM: usize = 64 * 1024;
/// Nothing but what this listener gives out itself, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the door needs of the listener.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) access: Access,
    pub(super) sessions: Sessions,
    pub(super) failures: Failures,
    figures: Figures,
    wrong_tokens: Seldom,
    /// Makes the tokens of forms; another one with each start.
    key: [u8; 32],
}

/// What a form of this person must carry.
#[derive(Clone, Debug)]
pub(super) struct FormToken(pub(super) String);

impl Door {
    /// # Errors
    /// The system gives no randomness.
    pub(super) fn new(access: Access, figures: Figures) -> Result<Self, rustls::crypto::GetRandomFailed> {
        let (sessions, failures, wrong_tokens) = (Sessions::default(), Failures::default(), Seldom::default());
        Ok(Self { access, sessions, failures, figures, wrong_tokens, key: random()? })
    }

    /// Notes that somebody came with a wrong token, or none, and holds them up.
    pub(super) async fn turn_away(&self, caller: &Caller) {
        self.figures.unauthorized.inc();
        if self.wrong_tokens.is_due() {
            tracing::warn!(code = "admin_token_wrong", peer = %caller.peer, "somebody came to the admin listener with a wrong token, or none; said once a minute");
        }
        time::sleep(WRONG_TOKEN_TIME).await;
    }

    /// Who shows a bearer token, or else a certificate.
    fn program(guards: &Guards, caller: &Caller, headers: &HeaderMap) -> Option<Who> {
        match bearer(headers) {
            Some(token) => guards.token(token).map(|token| Who { name: token.name.clone(), may: token.may }),
            None => guards.certified(&caller.names),
        }
    }

    /// Who is logged in, or else shows a certificate; and by what, for the token of forms.
    fn person(&self, guards: &Guards, caller: &Caller, headers: &HeaderMap) -> Option<(Who, String)> {
        let session = session(headers, caller.is_tls);
        let logged_in = session.and_then(|id| Some((self.sessions.find(id, guards)?, id.to_owned())));
        logged_in.or_else(|| {
            let who = guards.certified(&caller.names)?;
            let by = format!("certificate {}", who.name);
            Some((who, by))
        })
    }

    fn form_token(&self, of: &str) -> String {
        HEXLOWER.encode(&Sha256::new().chain_update(self.key).chain_update(Sha256::digest(of)).finalize())
    }
}

/// Refuses requests that call the listener by a name of somebody else.
pub(super) async fn named(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    if door.access.guards().is_called(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "host_unknown",
        "the listener does not go by this name: call it by its address, or list the name in admin.hosts",
    )
    .into_response()
}

/// Lets in programs that are known.
pub(super) async fn programs(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    mut request: Request,
    next: Next,
) -> Response {
    let guards = door.access.guards();
    let Some(who) = Door::program(&guards, &caller, request.headers()) else {
        door.turn_away(&caller).await;
        let detail = "a bearer token of admin.token, or a client certificate of admin.tls, is needed";
        return Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).into_response();
    };
    if !is_safe(request.method()) {
        if !who.may_act() {
            return Problem::read_only().into_response();
        }
        if !is_of_ours(request.uri(), request.headers()) {
            return cross_origin().into_response();
        }
    }
    request.extensions_mut().insert(who);
    next.run(request).await
}

/// Lets in people who are known; others are shown the way to the login.
pub(super) async fn people(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    mut request: Request,
    next: Next,
) -> Response {
    let guards = door.access.guards();
    let Some((who, by)) = door.person(&guards, &caller, request.headers()) else {
        if request.method() == Method::GET && !request.uri().path().starts_with("/live") {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let next: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
            return Redirect::to(&format!("/login?next={next}")).into_response();
        }
        return Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "log in first").into_response();
    };
    let token = door.form_token(&by);
    if !is_safe(request.method()) {
        if !is_of_ours(request.uri(), request.headers()) {
            return cross_origin().into_response();
        }
        request = match with_token(request, &token).await {
            Ok(request) => request,
            Err(problem) => return problem.into_response(),
        };
    }
    request.extensions_mut().insert(who);
    request.extensions_mut().insert(FormToken(token));
    next.run(request).await
}

/// The same request, if its form carries the token.
async fn with_token(request: Request, token: &str) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let too_large = |_error| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the form is too large");
    let form = to_bytes(body, FORM).await.map_err(too_large)?;
    let is_right = form_urlencoded::parse(&form)
        .any(|(name, value)| name == "form_token" && bool::from(value.as_bytes().ct_eq(token.as_bytes())));
    if !is_right {
        let detail = "the form is not one of this session: go back, load the page again, and repeat it";
        return Err(Problem::new(StatusCode::FORBIDDEN, "form_token", detail));
    }
    Ok(Request::from_parts(parts, Body::from(form)))
}

/// Adds what keeps browsers strict.
pub(super) async fn strict(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With "no-referrer" a browser would also hide the origin of our own forms from us.
        (REFERRER_POLICY, "same-origin"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether a browser says that the request is of a page of ours. What is no browser says nothing.
pub(super) fn is_of_ours(uri: &Uri, headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_site = site.is_none_or(|site| matches!(site, b"same-origin" | b"none"));
    let is_origin = headers.get(ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        origin.as_ref().and_then(Uri::authority) == called(uri, headers).as_ref()
    });
    is_site && is_origin
}

pub(super) fn cross_origin() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "cross_origin", "a page of another origin asked for this")
}

/// The token of `Authorization: Bearer ...`; the scheme's case does not matter.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// The cookie's name. Over TLS, browsers take one with this prefix from nobody else.
pub(super) fn cookie_name(is_tls: bool) -> &'static str {
    if is_tls { "__Host-linxo-webhook" } else { "linxo-webhook" }
}

/// The id of the session that a cookie names.
pub(super) fn session(headers: &HeaderMap, is_tls: bool) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == cookie_name(is_tls)).map(|(_, id)| id)
}
