//! The outermost layer: whatever happens inside, the caller gets an answer of ours, and it is counted and logged.
//!
//! In: a request with its [`Caller`] as extension. Out: the response of the routes; for a refusal the problem document, with
//! the headers that belong to it. A panic is answered 500, and ends neither the connection nor the process.

use super::{
    asked::{Asked, Refused},
    head::names_one_host,
    lent::Lender,
};
use crate::receive::{
    caller::{Caller, Term},
    drain::Drain,
    heads::Unfit,
    ledger::Record,
    problem::{Refusal, RequestId},
    refusals::{Refusals, log_refusal},
};
use arc_swap::ArcSwap;
use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http::{
    HeaderMap, Method, Request, Version,
    header::{self, HeaderValue},
    request::Parts,
};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};
use tower::Service;

/// Read and thrown away of a body that nobody wants.
const DISCARDED: u64 = 64 * 1024;
/// From the answer to a refused HTTP/2 request to the reset of its stream.
const GRACE: Duration = Duration::from_secs(1);

/// What answers depend on.
#[derive(Debug)]
pub(in crate::receive) struct Answering {
    /// Read with each request, so that a change holds on open connections too.
    pub(in crate::receive) sender: Arc<ArcSwap<crate::receive::settings::Sender>>,
    pub(in crate::receive) drain: Arc<Drain>,
    pub(in crate::receive) refusals: Arc<Refusals>,
    /// For the rest of a refused body, as for a whole one.
    pub(in crate::receive) body_timeout: Duration,
}

/// Answers with what the inner service says, or refuses.
#[derive(Clone, Debug)]
pub(in crate::receive) struct Answers<S> {
    answering: Arc<Answering>,
    inner: S,
}

impl<S> Answers<S> {
    pub(super) fn new(answering: Arc<Answering>, inner: S) -> Self {
        Self { answering, inner }
    }
}

impl<S> Service<Request<Incoming>> for Answers<S>
where
    S: Service<Request<super::lent::Lent>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    /// Boxed: hyper keeps the room of this future for as long as the connection lives.
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The copy of the inner service that a request gets says for itself when it is ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let (answering, inner) = (Arc::clone(&self.answering), self.inner.clone());
        Box::pin(async move {
            let Some(caller) = request.extensions_mut().remove::<Arc<Caller>>() else {
                // Every connection names its caller.
                return Ok(Refusal::Internal.into_response());
            };
            Ok(answering.answer(inner, caller, request).await)
        })
    }
}

impl Answering {
    async fn answer<S>(&self, mut inner: S, caller: Arc<Caller>, request: Request<Incoming>) -> Response
    where
        S: Service<Request<super::lent::Lent>, Response = Response, Error = Infallible>,
    {
        let (mut head, body) = request.into_parts();
        let (version, is_head) = (head.version, head.method == Method::HEAD);
        // A caller that waits for "100 Continue" must not be asked for what nobody wants.
        let is_waiting = head.headers.contains_key(header::EXPECT);
        let announced = body.size_hint().exact();
        let term = caller.term();
        let asked = Asked { id: RequestId::new(), caller, sender: self.sender.load_full(), since: Instant::now() };
        let lender = Lender::default();
        let body = lender.lend(body);
        let mut response = if let Some(refusal) = unfit(&mut head, term) {
            drop(body);
            refusal.into_response()
        } else {
            head.extensions.insert(asked.clone());
            let request = Request::from_parts(head, body);
            let routed = async {
                std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
                inner.call(request).await
            };
            let outcome = AssertUnwindSafe(routed).catch_unwind().await;
            match outcome {
                Ok(Ok(response)) => response,
                Err(_panic) => Refusal::Internal.into_response(),
            }
        };
        if let Some(mut refused) = response.extensions_mut().remove::<Refused>() {
            // Of a body that was too large from the outset nothing was read.
            refused.size = refused.size.filter(|size| *size > 0).or(announced);
            let rest = lender.take_rest();
            if let Some(rest) = rest {
                self.let_go(rest, &refused.refusal, version, is_waiting).await;
            }
            self.note(&asked, &refused);
            response = problem(&refused.refusal, asked.id, version);
        }
        self.refusals.count_answer(response.status());
        if (self.drain.has_begun() || term != Term::Open) && version < Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if is_head { without_body(response) } else { response }
    }

    /// Decides on the rest of a refused request's body.
    ///
    /// Many callers look for an answer only after they have sent everything, so what was refused by its head is read on
    /// within bounds. A larger rest is read after the answer (`socket::linger`). With HTTP/2, giving up the rest resets the stream, and a caller that is still sending may report the
    /// reset and not our answer, as curl does: it has a moment to see the answer first. It can send no more than its window
    /// meanwhile, because nothing is read any more.
    async fn let_go(&self, mut rest: Incoming, refusal: &Refusal, version: Version, is_waiting: bool) {
        if refusal.is_of_the_head() && !is_waiting {
            discard(&mut rest, self.body_timeout).await;
        }
        if version >= Version::HTTP_2 && !rest.is_end_stream() {
            tokio::spawn(async move {
                sleep(GRACE).await;
                drop(rest);
            });
        }
    }

    /// Counts, keeps and logs a refusal.
    fn note(&self, asked: &Asked, refused: &Refused) {
        let Asked { id, caller, sender, .. } = asked;
        let refusal = &refused.refusal;
        let (reason, status) = (refusal.reason(), refusal.status());
        self.refusals.count(reason);
        if !refusal.is_of_the_store() {
            let knew_the_path = !sender.path_secrets.is_empty()
                && !matches!(refusal, Refusal::Network | Refusal::NotFound | Refusal::Internal);
            let is_listed = sender.networks.is_selective() && sender.networks.contains(caller.peer.ip());
            let is_known = caller.is_proven || knew_the_path || is_listed;
            let (size, body) = (refused.size, Some(&refused.body));
            self.refusals.keep(caller, &Record { reason, status: Some(status), size, is_known, body });
        }
        let peer = caller.peer;
        if *refusal == Refusal::Internal {
            // What the panic said is not repeated here: it may quote what was sent.
            if self.refusals.is_first(reason) {
                tracing::error!(code = "request_panicked", %peer, request.id = %id, "answering a request panicked");
            }
        } else {
            let (detail, status) = (refusal.detail(), status.as_u16());
            log_refusal!(self.refusals, reason, code = "request_refused", status, %detail, %peer, request.id = %id, "request refused");
        }
    }
}

/// Why a request cannot be answered, whatever it asks for.
fn unfit(head: &mut Parts, term: Term) -> Option<Refusal> {
    if let Some(Unfit(refusal)) = head.extensions.remove() {
        return Some(refusal);
    }
    if term == Term::Over {
        return Some(Refusal::ConnectionOver);
    }
    (!names_one_host(head.version, &head.headers)).then_some(Refusal::Host)
}

/// Reads what is left of a body, within bounds.
async fn discard(body: &mut Incoming, within: Duration) {
    if body.size_hint().lower() > DISCARDED {
        return;
    }
    let mut left = DISCARDED;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            let read = frame.data_ref().map_or(0, |data| data.len() as u64);
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    };
    // Whether all of it came or not, the answer is the same.
    drop(timeout(within, all).await);
}

/// The problem document of a refusal.
fn problem(refusal: &Refusal, id: RequestId, version: Version) -> Response {
    let mut response = Response::new(Body::from(refusal.render(id)));
    *response.status_mut() = refusal.status();
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    match refusal {
        Refusal::Method => drop(headers.insert(header::ALLOW, HeaderValue::from_static("POST"))),
        Refusal::ContentEncoding => {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        _ => {}
    }
    if refusal.closes() && version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to HEAD: with the length of the body that it stands for, and without that body. Hyper sees to it with HTTP/1
/// only; with HTTP/2 a caller that is sent a body reports a broken protocol.
fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    Response::from_parts(head, Body::empty())
}
