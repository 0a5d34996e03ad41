//! One request: from its head to the answer.
//!
//! | request | answer |
//! | --- | --- |
//! | POST on the configured path, an event | 200 `accepted`, or `duplicate` for a repeat |
//! | a caller outside of `sender.networks` | 403 |
//! | another path, a wrong path secret | 404 |
//! | another method | 405 with `Allow` |
//! | a transfer coding that is not one `chunked` | 400 |
//! | a content type that is not JSON, a content encoding | 415 |
//! | more requests, or more memory for bodies, than allowed | 503 with `Retry-After` |
//! | a body over `max_body`, too slow, cut | 413, 408, 400 |
//! | not JSON or no object; without what makes an event | 400; 422 |
//! | the inbox cannot take it, or not in time | 503 with `Retry-After` |
//!
//! Checks are made in this order. Routing looks at the path alone; a query is ignored and never logged, because people put
//! secrets there. The commit runs in a task of its own: when the caller hangs up, the event is stored all the same.

use super::settings as config;
use super::{
    Limits, Receiver,
    activity::OpenRequest,
    budget::Place,
    caller::Caller,
    ledger,
    problem::{Refusal, RequestId},
    refusals::{Fault, count, count_answer, log_refusal},
};
use crate::{
    inbox::{self, Accepted, NewEntry},
    metrics::Outcome,
};
use base::{clock, secret::Secret};
use bytes::Bytes;
use event::Event;
use futures_util::FutureExt as _;
use http::{
    HeaderMap, Method, Request, Response, Version,
    header::{self, HeaderValue},
    request::Parts,
};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// From the hand-over to the inbox to a 503. Callers wait for seconds, not for minutes.
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(4);

/// Least room that is made for a body of several pieces; more only as it comes, whatever the caller announced.
const FIRST_ROOM: usize = 4 * 1024;

/// Read and thrown away of a body that nobody wants.
const DISCARDED: u64 = 64 * 1024;
/// From the answer to a refused HTTP/2 request to the reset of its stream.
const GRACE: Duration = Duration::from_secs(1);

/// Answers a request. A panic becomes a 500 and ends neither the connection nor the process.
pub(super) async fn serve(
    receiver: Arc<Receiver>,
    caller: Arc<Caller>,
    open: OpenRequest,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let id = RequestId::new();
    let (head, mut body) = request.into_parts();
    let version = head.version;
    let mut seen = Seen::default();
    let outcome = AssertUnwindSafe(receive(&receiver, &caller, id, &head, &mut body, &mut seen)).catch_unwind().await;
    let mut response = match outcome.unwrap_or(Err(Refusal::Internal)) {
        Ok(body) => {
            receiver.hot.ok.inc();
            let mut response = Response::new(Full::new(body));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(refusal) => {
            note_refusal(&receiver, &caller, id, &refusal, &seen);
            let_go(body, version);
            refuse(&refusal, id, version)
        }
    };
    if (receiver.is_draining() || receiver.is_outdated(caller.generation)) && version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    drop(open);
    Ok(response)
}

/// What of a body was seen when its request is refused.
#[derive(Debug, Default)]
struct Seen {
    /// Bytes that came, or that were announced where none was read.
    size: Option<u64>,
    body: Bytes,
}

/// Takes a request up to the commit; returns the body of the 200.
async fn receive(
    receiver: &Arc<Receiver>,
    caller: &Arc<Caller>,
    id: RequestId,
    head: &Parts,
    body: &mut Incoming,
    seen: &mut Seen,
) -> Result<Bytes, Refusal> {
    seen.size = body.size_hint().exact();
    let sender = receiver.sender.load_full();
    if let Err(refusal) = check(receiver, &sender, caller.peer.ip(), head) {
        // A caller that waits for "100 Continue" must not be asked for what nobody wants.
        if !refusal.closes() && !head.headers.contains_key(header::EXPECT) {
            discard(body, receiver.limits.body_timeout).await;
        }
        return Err(refusal);
    }
    let mut place = receiver.budget.begin()?;
    let mut collected = Collected::default();
    let read = read(body, &receiver.limits, &mut place, &mut collected).await;
    let size = collected.size;
    let body = collected.finish();
    let arrived = clock::now();
    let since = Instant::now();
    let event = match read.and_then(|()| Event::parse(&body).map_err(Refusal::Malformed)) {
        Ok(event) => event,
        Err(refusal) => {
            // Of one that was too large from the outset nothing was read.
            seen.size = Some(size).filter(|size| *size > 0).or(seen.size);
            seen.body = body;
            return Err(refusal);
        }
    };
    let entry =
        NewEntry { event, body, received: arrived, confirm: sender.confirm, sender: Some(caller.sender.clone()) };
    let commit = commit(Arc::clone(receiver), Arc::clone(caller), id, entry, since);
    let commit = tokio::spawn(async move {
        let outcome = commit.await;
        // The body is held until here, whatever was answered meanwhile.
        drop(place);
        outcome
    });
    match timeout(receiver.limits.commit_timeout, commit).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(join)) if join.is_panic() => Err(Refusal::Internal),
        // The runtime is ending.
        Ok(Err(_cancelled)) => Err(Refusal::Draining),
        // The task goes on; a repeat of the event will be recognised.
        Err(_elapsed) => Err(Refusal::StoreSlow),
    }
}

/// Everything that can be said before the body is read.
fn check(receiver: &Receiver, sender: &config::Sender, from: IpAddr, head: &Parts) -> Result<(), Refusal> {
    if !sender.networks.is_empty() && !sender.networks.contains(from) {
        return Err(Refusal::Network);
    }
    if !is_ours(head.uri.path(), &receiver.path, &sender.path_secrets) {
        return Err(Refusal::NotFound);
    }
    if head.method != Method::POST {
        return Err(Refusal::Method);
    }
    if head.version < Version::HTTP_2 && !is_plainly_framed(&head.headers) {
        return Err(Refusal::TransferEncoding);
    }
    if !head.headers.get_all(header::CONTENT_TYPE).iter().all(is_json) {
        return Err(Refusal::MediaType);
    }
    if !head.headers.get_all(header::CONTENT_ENCODING).iter().all(is_identity) {
        return Err(Refusal::ContentEncoding);
    }
    Ok(())
}

/// Whether a path is the webhook's, with one of its secrets as last segment where there are any.
fn is_ours(path: &str, ours: &str, secrets: &[Secret]) -> bool {
    if secrets.is_empty() {
        return path == ours;
    }
    let Some(segment) = path.strip_prefix(ours.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/')) else {
        return false;
    };
    // No early end: which of several secrets it was must not show in the time either.
    secrets.iter().fold(false, |found, secret| found | secret.matches(segment.as_bytes()))
}

/// Hyper takes `chunked, chunked` and `gzip, chunked` for chunked; a proxy in front may see other borders between requests.
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

fn is_json(content_type: &HeaderValue) -> bool {
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        return true;
    }
    let essence = essence.to_ascii_lowercase();
    essence
        .strip_prefix(b"application/")
        .and_then(|rest| rest.strip_suffix(b"+json"))
        .is_some_and(|subtype| !subtype.is_empty())
}

fn is_identity(content_encoding: &HeaderValue) -> bool {
    let coding = content_encoding.as_bytes().trim_ascii();
    coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
}

/// Reads what is left of a refused request, within bounds. Many callers look for an answer only after they have sent
/// everything; one that is ended in between (HTTP/2: its stream reset) reports a broken connection, and not what we said.
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

/// Gives up the rest of a refused request. With HTTP/2 that resets its stream, and a caller that is still sending may report
/// the reset and not our answer, as curl does: it has a moment to see that first. It can send no more than its window
/// meanwhile, because nothing is read any more.
fn let_go(body: Incoming, version: Version) {
    if version >= Version::HTTP_2 && !body.is_end_stream() {
        tokio::spawn(async move {
            sleep(GRACE).await;
            drop(body);
        });
    }
}

/// Reads a body of at most `limits.body` bytes, and pays for its memory as it comes.
async fn read(
    body: &mut Incoming,
    limits: &Limits,
    place: &mut Place,
    collected: &mut Collected,
) -> Result<(), Refusal> {
    let limit = limits.body;
    let announced = body.size_hint().lower();
    // With a `Content-Length` this is known before a byte is read.
    if announced > limit {
        return Err(Refusal::BodyTooLarge { limit });
    }
    let all = async {
        while let Some(frame) = body.frame().await {
            // Trailers mean nothing to us.
            let Ok(data) = frame.map_err(|_broken| Refusal::BodyCut)?.into_data() else { continue };
            collected.size = collected.size.saturating_add(data.len() as u64);
            if collected.size > limit {
                return Err(Refusal::BodyTooLarge { limit });
            }
            let room = collected.room_with(data.len(), announced, limit);
            place.cover(room)?;
            collected.push(data, room);
        }
        Ok(())
    };
    timeout(limits.body_timeout, all).await.unwrap_or(Err(Refusal::BodyTimeout))
}

/// A body as far as it has come. One that comes in one piece is not copied.
#[derive(Debug, Default)]
struct Collected {
    first: Bytes,
    joined: Vec<u8>,
    /// Bytes that came, including those over the limit.
    size: u64,
}

impl Collected {
    /// Memory that the body takes with `more` bytes: what is needed, and room to grow where it does not come in one piece.
    /// A body never takes more than it announced, or more than is allowed.
    fn room_with(&self, more: usize, announced: u64, limit: u64) -> usize {
        let needed = self.first.len() + self.joined.len() + more;
        let room = self.joined.capacity();
        if needed == more || needed <= room {
            return needed.max(room);
        }
        let most = usize::try_from(if announced > 0 { announced } else { limit }).unwrap_or(usize::MAX);
        needed.saturating_mul(2).max(FIRST_ROOM).min(most).max(needed)
    }

    /// Adds a piece, in `room` bytes of memory altogether.
    fn push(&mut self, data: Bytes, room: usize) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = data;
            return;
        }
        self.joined.reserve_exact(room.saturating_sub(self.joined.len()));
        self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(&data);
    }

    fn finish(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.into() }
    }
}

/// Stores an event, counts it, logs it, and renders the answer. Runs to its end whatever becomes of the caller.
async fn commit(
    receiver: Arc<Receiver>,
    caller: Arc<Caller>,
    id: RequestId,
    entry: NewEntry,
    since: Instant,
) -> Result<Bytes, Refusal> {
    let facts = Facts::of(&entry);
    let accepted = match receiver.inbox.accept(entry).await {
        Ok(accepted) => accepted,
        Err(error) => {
            let refusal = refusal_of(&error);
            if receiver.refusals.is_first_fault(Fault::Inbox) {
                tracing::error!(error = base::error::chain(&error), request.id = %id, "the inbox did not take an event");
            }
            return Err(refusal);
        }
    };
    let took = since.elapsed();
    receiver.metrics.accept_seconds.observe(took.as_secs_f64());
    if facts.drift {
        receiver.metrics.schema_drift.inc();
    }
    let (outcome, seq, status) = match accepted {
        Accepted::Stored { seq, conflict } => {
            receiver.hot.accepted.inc();
            if conflict {
                receiver.metrics.events.get_or_create(&Outcome { outcome: "conflict" }).inc();
            }
            (if conflict { "conflict" } else { "accepted" }, seq, "accepted")
        }
        Accepted::Duplicate { seq } => {
            receiver.hot.duplicate.inc();
            ("duplicate", seq, "duplicate")
        }
    };
    tracing::info!(
        event.id = facts.event,
        entry = seq.0,
        outcome,
        connection.id = facts.connection,
        user.id = facts.user,
        accounts.announced = facts.announced,
        accounts.listed = facts.listed,
        bytes = facts.bytes,
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        peer = %caller.peer,
        request.id = %id,
        "event accepted"
    );
    Ok(rendered(status, &facts.event))
}

/// What is said of an event after the inbox took it.
struct Facts {
    event: String,
    connection: String,
    user: Option<String>,
    announced: Option<u64>,
    listed: u64,
    bytes: usize,
    drift: bool,
}

impl Facts {
    fn of(entry: &NewEntry) -> Self {
        let event = &entry.event;
        Self {
            event: event.id.as_str().to_owned(),
            connection: event.connection.as_str().to_owned(),
            user: event.user.as_ref().map(|user| user.as_str().to_owned()),
            announced: event.account_count,
            listed: event.listed,
            bytes: entry.body.len(),
            drift: event.drift.is_some(),
        }
    }
}

fn rendered(status: &str, event: &str) -> Bytes {
    let mut body = Vec::with_capacity(32 + status.len() + event.len());
    body.extend_from_slice(b"{\"status\":\"");
    body.extend_from_slice(status.as_bytes());
    body.extend_from_slice(b"\",\"id\":");
    // A text always serialises, and a Vec takes everything.
    if serde_json::to_writer(&mut body, event).is_err() {
        body.extend_from_slice(b"null");
    }
    body.push(b'}');
    body.into()
}

fn refusal_of(error: &inbox::Error) -> Refusal {
    match error {
        inbox::Error::Full(_) => Refusal::StoreFull,
        inbox::Error::Backlog => Refusal::Backlog,
        inbox::Error::Closed => Refusal::Draining,
        inbox::Error::Store(_) | inbox::Error::LeaseLost(_) | inbox::Error::Open { .. } => Refusal::StoreUnavailable,
    }
}

fn note_refusal(receiver: &Receiver, caller: &Caller, id: RequestId, refusal: &Refusal, seen: &Seen) {
    let (reason, status) = (refusal.reason(), refusal.status());
    count(&receiver.metrics, reason);
    count_answer(receiver, status);
    if !refusal.is_of_the_store() {
        let sender = receiver.sender.load();
        let knew_the_path = !sender.path_secrets.is_empty()
            && !matches!(refusal, Refusal::Network | Refusal::NotFound | Refusal::Internal);
        let is_listed = sender.networks.is_selective() && sender.networks.contains(caller.peer.ip());
        let is_known = caller.is_proven || knew_the_path || is_listed;
        let start = is_known.then_some(&seen.body).filter(|body| !body.is_empty());
        ledger::keep(receiver, caller, reason, Some(status), seen.size, start);
    }
    let peer = caller.peer;
    if *refusal == Refusal::Internal {
        // What the panic said is not repeated here: it may quote what was sent.
        if receiver.refusals.is_first(reason) {
            tracing::error!(%peer, request.id = %id, "answering a request panicked");
        }
    } else {
        let detail = refusal.detail();
        log_refusal!(receiver, reason, status = status.as_u16(), %detail, %peer, request.id = %id, "request refused");
    }
}

fn refuse(refusal: &Refusal, id: RequestId, version: Version) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(refusal.render(id)));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::new((*text).to_owned())).collect()
    }

    #[test]
    fn only_the_exact_path_is_ours() {
        assert!(is_ours("/webhooks/linxo", "/webhooks/linxo", &[]));
        for other in ["/", "/webhooks", "/webhooks/linxo/", "/webhooks/linxo/x", "/Webhooks/linxo", "//webhooks/linxo"]
        {
            assert!(!is_ours(other, "/webhooks/linxo", &[]), "{other}");
        }
    }

    #[test]
    fn each_of_several_secrets_opens_the_path() {
        let secrets = secrets(&["old-secret", "new-secret"]);
        assert!(is_ours("/hook/old-secret", "/hook", &secrets));
        assert!(is_ours("/hook/new-secret", "/hook", &secrets));
        assert!(is_ours("/new-secret", "/", &secrets));
        for other in ["/hook", "/hook/", "/hook/old-secre", "/hook/old-secret/", "/hook/x/old-secret", "/old-secret"] {
            assert!(!is_ours(other, "/hook", &secrets), "{other}");
        }
    }

    #[test]
    fn json_media_types() {
        for yes in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/cloudevents+json",
            " application/json ",
        ] {
            assert!(is_json(&HeaderValue::from_str(yes).unwrap()), "{yes}");
        }
        for no in
            ["", "text/json", "application/+json", "application/jsonp", "application/x-www-form-urlencoded", "json"]
        {
            assert!(!is_json(&HeaderValue::from_str(no).unwrap()), "{no}");
        }
    }

    #[test]
    fn one_chunked_and_nothing_else() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::TRANSFER_ENCODING, HeaderValue::from_static(value));
            }
            is_plainly_framed(&headers)
        };
        assert!(with(&[]) && with(&["chunked"]) && with(&["Chunked"]));
        assert!(!with(&["chunked, chunked"]) && !with(&["gzip, chunked"]) && !with(&["chunked", "chunked"]));
    }

    #[test]
    fn answers_escape_ids() {
        assert_eq!(rendered("accepted", "a\"b\n"), r#"{"status":"accepted","id":"a\"b\n"}"#);
    }
}
