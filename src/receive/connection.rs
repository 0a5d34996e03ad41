//! One socket from its handshake to its end.
//!
//! In: an accepted TCP socket. Out: requests for `handler`, each with the [`Caller`] they came from.
//!
//! ALPN alone decides between HTTP/1 and HTTP/2: detection by the first bytes would wait without limit for a caller that
//! sends none. Deadlines are kept here (see `activity`), by one timer per socket that is moved only when it must ring
//! earlier, or has rung.

use super::{
    Generation, Receiver,
    activity::{Activity, Overdue},
    caller::Caller,
    clients::{self, Reason},
    handler,
    identity::{Certificate, Sender},
    problem::{Refusal, RequestId},
    proxy,
    refusals::{count, count_answer, turn_away},
    shares::Share,
    slot::{NOTICE, Phase, Slot},
    socket::{Socket, linger},
    tls::Failure,
};
use crate::{
    clock,
    metrics::{Outcome, Verdict},
};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::watch,
    time::{Instant, Sleep, sleep_until, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Hyper's own limit on the fields of a head. It is faster than another one, because it needs no room on the heap.
const HEADERS: usize = 100;
/// Read buffer of an HTTP/1 connection at least: a head, and room for a body to come in big pieces.
const BUFFER: usize = 128 * 1024;
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const HTTP2_RESETS: usize = 32;
/// Answers are short: what is not taken by a caller must not pile up.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;
const HTTP2_PING: Duration = Duration::from_secs(20);
/// For the farewell of a connection that is being closed: close-notify, GOAWAY, a 408.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves a socket to its end.
///
/// # Cancel safety
/// When dropped, the socket is closed at once; commits that were begun go on.
pub(super) async fn serve(
    receiver: Arc<Receiver>,
    tcp: TcpStream,
    peer: SocketAddr,
    phase: watch::Receiver<Phase>,
    mut slot: Slot,
) {
    // Small answers must not wait for an acknowledgement. A socket that cannot be set so still works.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    // Boxed: most of a connection's life is idle, and must not carry the room of its handshake along.
    let Some(Arrived { conversation, share }) = Box::pin(arrive(&receiver, tcp, peer, phase)).await else {
        return;
    };
    slot.handshake_is_over();
    conversation.await;
    drop((share, slot));
}

/// A socket that has got through its handshake.
struct Arrived {
    conversation: Conversation,
    /// Its place among the connections of its address.
    share: Share,
}

/// The requests of a connection, up to its end.
type Conversation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Finds out who is there, takes a place for that address, and shakes hands: all within `handshake_timeout`.
async fn arrive(
    receiver: &Arc<Receiver>,
    mut tcp: TcpStream,
    peer: SocketAddr,
    phase: watch::Receiver<Phase>,
) -> Option<Arrived> {
    let deadline = Instant::now() + receiver.limits.handshake_timeout;
    let peer = caller_behind(receiver, &mut tcp, peer, deadline).await?;
    let Some(share) = receiver.shares.take(peer.ip()) else {
        let why = "its address has as many open as listener.max_connections_per_address allows";
        turn_away(receiver, peer, "address_limit", why);
        return None;
    };
    let generation = receiver.tls.load_full();
    let (stream, admitted) = handshake(receiver, &generation, tcp, peer, deadline).await?;
    let caller = Caller {
        peer,
        is_proven: admitted.is_proven,
        sender: admitted.sender.to_json(),
        generation: generation.number,
    };
    Some(Arrived { conversation: converse(receiver, stream, Arc::new(caller), phase), share })
}

/// Begins with HTTP. Not async, as is what it calls: an async function keeps a second copy of what it is given, and idle
/// connections are counted by the thousand.
fn converse(
    receiver: &Arc<Receiver>,
    stream: TlsStream<TcpStream>,
    caller: Arc<Caller>,
    phase: watch::Receiver<Phase>,
) -> Conversation {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let limits = &receiver.limits;
    let activity = Arc::new(Activity::new(is_http2, limits.header_timeout, limits.idle_timeout));
    let socket = TokioIo::new(Socket::new(stream, Arc::clone(&activity)));
    let service = Service { receiver: Arc::clone(receiver), caller, activity };
    if is_http2 { Box::pin(serve_http2(socket, service, phase)) } else { Box::pin(serve_http1(socket, service, phase)) }
}

/// Answers the requests of one connection; clones are of the same connection.
#[derive(Clone)]
struct Service {
    receiver: Arc<Receiver>,
    caller: Arc<Caller>,
    activity: Arc<Activity>,
}

impl hyper::service::Service<hyper::Request<Incoming>> for Service {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    /// Boxed: hyper keeps the room of a request's future for as long as the connection lives.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let open = self.activity.begin();
        Box::pin(handler::serve(Arc::clone(&self.receiver), Arc::clone(&self.caller), open, request))
    }
}

/// The true address behind a socket: its own, or the one that a configured balancer names.
async fn caller_behind(
    receiver: &Receiver,
    tcp: &mut TcpStream,
    peer: SocketAddr,
    deadline: Instant,
) -> Option<SocketAddr> {
    let Some(proxies) = &receiver.proxies else { return Some(peer) };
    if !proxies.contains(peer.ip()) {
        turn_away(receiver, peer, "proxy_untrusted", "it does not come from listener.proxy_networks");
        return None;
    }
    match timeout_at(deadline, proxy::read(tcp)).await {
        Ok(Ok(proxy::Source::Caller(caller))) => Some(SocketAddr::new(caller.ip().to_canonical(), caller.port())),
        Ok(Ok(proxy::Source::Balancer)) => Some(peer),
        // A balancer that looks whether the port is open.
        Ok(Err(proxy::Error::Nothing)) => None,
        Ok(Err(error)) => {
            tracing::debug!(%peer, error = crate::error::chain(&error), "no PROXY header");
            turn_away(receiver, peer, "proxy_invalid", "it does not begin with a PROXY header of version 1 or 2");
            None
        }
        Err(_elapsed) => {
            turn_away(
                receiver,
                peer,
                "proxy_timeout",
                "its PROXY header did not come within listener.handshake_timeout",
            );
            None
        }
    }
}

async fn handshake(
    receiver: &Receiver,
    generation: &Generation,
    tcp: TcpStream,
    peer: SocketAddr,
    deadline: Instant,
) -> Option<(TlsStream<TcpStream>, Admitted)> {
    let acceptor = TlsAcceptor::from(Arc::clone(&generation.loaded.config));
    let outcome = |outcome| {
        receiver.metrics.handshakes.get_or_create(&Outcome { outcome }).inc();
    };
    let accepting = clients::noting(acceptor.accept(tcp).into_fallible());
    let Ok((accepted, note)) = timeout_at(deadline, accepting).await else {
        outcome("timeout");
        count(&receiver.metrics, "handshake_timeout");
        tracing::debug!(%peer, reason = "handshake_timeout", "handshake not finished in time");
        return None;
    };
    let (failure, error, subject, tcp) = match accepted {
        Ok(stream) => match admit(receiver, generation, &note, &stream, peer) {
            Ok(admitted) => {
                outcome("ok");
                return Some((stream, admitted));
            }
            Err(reason) => (Failure::Client(reason), None, None, stream.into_inner().0),
        },
        Err((error, tcp)) => {
            let failure = note.reason.map_or_else(|| Failure::of(&error), Failure::Client);
            (failure, Some(error), note.subject, tcp)
        }
    };
    outcome("failed");
    let error = error.map(tracing::field::display);
    match failure {
        Failure::Client(reason) => {
            judged(receiver, reason.code());
            count(&receiver.metrics, "client_certificate");
            // Whose certificate is refused is a matter for people: a sender may have changed its authority.
            let reason = reason.code();
            if receiver.refusals.is_first(reason) {
                tracing::warn!(%peer, reason, subject, error, "handshake refused for the client's certificate");
            } else {
                tracing::debug!(%peer, reason, subject, error, "handshake refused for the client's certificate");
            }
        }
        Failure::Other(reason) => {
            count(&receiver.metrics, reason);
            tracing::debug!(%peer, reason, error, "handshake failed");
        }
    }
    linger(tcp).await;
    None
}

/// A caller that got through its handshake.
struct Admitted {
    sender: Sender,
    /// Whether a certificate that is accepted says who it is.
    is_proven: bool,
}

/// Says who has finished a handshake. It may yet be refused: a resumed session is not verified again, and its certificate
/// may have ended meanwhile.
fn admit(
    receiver: &Receiver,
    generation: &Generation,
    note: &clients::Note,
    stream: &TlsStream<TcpStream>,
    peer: SocketAddr,
) -> Result<Admitted, Reason> {
    let tls = stream.get_ref().1;
    if generation.loaded.authorities.is_empty() {
        return Ok(Admitted { sender: Sender::of(peer, tls, None, None), is_proven: false });
    }
    let own = tls.peer_certificates().and_then(<[_]>::first);
    if generation.loaded.is_observing {
        let reason = note.reason.or_else(|| own.is_none().then_some(Reason::NoCertificate));
        judged(receiver, reason.map_or("ok", Reason::code));
        if let Some(reason) = reason
            && receiver.refusals.is_first(reason.observed())
        {
            tracing::warn!(
                %peer,
                reason = reason.code(),
                subject = note.subject,
                "a caller was let in that would be refused if client certificates were required"
            );
        }
        let vouched_for = own.filter(|_| note.is_vouched_for).map(|der| Certificate::of(der));
        let sender = Sender::of(peer, tls, vouched_for, reason.map(Reason::code));
        return Ok(Admitted { sender, is_proven: reason.is_none() });
    }
    let certificate = Certificate::of(own.ok_or(Reason::NoCertificate)?);
    let now = clock::now();
    if certificate.ends < now {
        return Err(Reason::Expired);
    }
    judged(receiver, "ok");
    let (ends, earliest) = (certificate.ends.as_millis().div_euclid(1000), &receiver.metrics.client_certificate_expiry);
    let known = earliest.get();
    // One that has ended was probably renewed: those that are still in use say when it is urgent.
    if ends < known || known < now.as_millis().div_euclid(1000) {
        earliest.set(ends);
    }
    Ok(Admitted { sender: Sender::of(peer, tls, Some(certificate), None), is_proven: true })
}

fn judged(receiver: &Receiver, verdict: &'static str) {
    receiver.metrics.client_certificates.get_or_create(&Verdict { verdict }).inc();
}

fn serve_http1(
    socket: TokioIo<Socket>,
    service: Service,
    mut phase: watch::Receiver<Phase>,
) -> impl Future<Output = ()> + Send {
    let Service { receiver, caller, activity } = service.clone();
    let max_head = receiver.limits.head as usize;
    let mut builder = http1::Builder::new();
    if receiver.limits.headers != HEADERS {
        builder.max_headers(receiver.limits.headers);
    }
    let mut connection = builder
        .timer(TokioTimer::new())
        // A caller that ends its side after the last byte of a request has sent an event all the same.
        .half_close(true)
        // Hyper's own limit would also end idle connections; `activity` tells the two apart.
        .header_read_timeout(None)
        .max_header_size(max_head)
        .max_buf_size(BUFFER.max(max_head.saturating_mul(2)))
        .serve_connection(socket, service);
    async move {
        let mut watcher = Watcher::new(&caller, &activity);
        let mut retired = receiver.retired.subscribe();
        let ended = loop {
            match watcher.turn(&mut connection, &mut phase, &mut retired).await {
                Turn::Ended(ended) => break ended,
                Turn::Phase(Phase::Serving | Phase::Notice) => {}
                Turn::Phase(Phase::Closing) => {
                    // One that has had no request yet is probably about to send it: its first request is due soon anyway,
                    // and the answer to it ends the connection.
                    if activity.has_served() {
                        Pin::new(&mut connection).graceful_shutdown();
                    }
                }
                Turn::Retired => {
                    Pin::new(&mut connection).graceful_shutdown();
                    watcher.say_farewell();
                }
                Turn::Phase(Phase::Cut) | Turn::FarewellOver => return,
                Turn::Overdue(Overdue::Head) => {
                    refuse_overdue(&receiver, &caller, Overdue::Head);
                    // A caller that does not take its farewell in time is left.
                    drop(timeout(FAREWELL, Box::pin(say_too_slow(socket_of(connection)))).await);
                    return;
                }
                Turn::Overdue(why) => {
                    refuse_overdue(&receiver, &caller, why);
                    Pin::new(&mut connection).graceful_shutdown();
                    watcher.say_farewell();
                }
            }
        };
        if let Err(error) = &ended {
            note_end(&receiver, &caller, error);
        }
        Box::pin(linger(socket_of(connection).into_tcp())).await;
    }
}

/// Apart, so that no future keeps the room of the other parts.
fn socket_of(connection: http1::Connection<TokioIo<Socket>, Service>) -> Socket {
    connection.into_parts().io.into_inner()
}

fn serve_http2(
    socket: TokioIo<Socket>,
    service: Service,
    mut phase: watch::Receiver<Phase>,
) -> impl Future<Output = ()> + Send {
    let Service { receiver, caller, activity } = service.clone();
    let mut connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(receiver.limits.http2_streams)
        .max_header_list_size(receiver.limits.head)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(HTTP2_RESETS)
        .max_local_error_reset_streams(HTTP2_RESETS)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING)
        .serve_connection(socket, service);
    async move {
        let mut watcher = Watcher::new(&caller, &activity);
        let mut retired = receiver.retired.subscribe();
        loop {
            match watcher.turn(&mut connection, &mut phase, &mut retired).await {
                Turn::Ended(ended) => {
                    if let Err(error) = &ended {
                        note_end(&receiver, &caller, error);
                    }
                    return;
                }
                Turn::Phase(Phase::Serving) => {}
                // GOAWAY announces the end and still takes what is on its way, but a preface that is on its way would be lost.
                Turn::Phase(Phase::Notice) if !activity.has_served() => {}
                Turn::Phase(Phase::Notice | Phase::Closing) => Pin::new(&mut connection).graceful_shutdown(),
                Turn::Retired => {
                    Pin::new(&mut connection).graceful_shutdown();
                    watcher.say_farewell();
                }
                Turn::Phase(Phase::Cut) | Turn::FarewellOver => return,
                Turn::Overdue(why) => {
                    refuse_overdue(&receiver, &caller, why);
                    Pin::new(&mut connection).graceful_shutdown();
                    watcher.say_farewell();
                }
            }
        }
    }
}

/// What a connection's task has to act on next.
enum Turn {
    Ended(hyper::Result<()>),
    Phase(Phase),
    Overdue(Overdue),
    /// The TLS settings it was accepted with were replaced.
    Retired,
    FarewellOver,
}

/// Drives a connection beside its deadlines.
struct Watcher<'a> {
    activity: &'a Activity,
    alarm: Pin<Box<Sleep>>,
    farewell: Option<Instant>,
    generation: u64,
    retirement: Retirement,
}

/// How far the end of a connection with old TLS settings has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retirement {
    /// The settings are in use.
    None,
    /// They were replaced: the connection is told at this time, and after its first request.
    Due(Instant),
    /// The connection was told.
    Told,
}

impl<'a> Watcher<'a> {
    fn new(caller: &Caller, activity: &'a Activity) -> Self {
        let first = activity.deadline().map_or_else(Instant::now, |(at, _)| at);
        Self {
            activity,
            alarm: Box::pin(sleep_until(first)),
            farewell: None,
            generation: caller.generation,
            retirement: Retirement::None,
        }
    }

    /// From now on only the farewell has a deadline.
    fn say_farewell(&mut self) {
        self.farewell = Some(Instant::now() + FAREWELL);
    }

    /// Drives the connection until something has to be done.
    ///
    /// # Cancel safety
    /// Nothing is lost when dropped; the connection stays with the caller.
    async fn turn<C>(
        &mut self,
        connection: &mut C,
        phase: &mut watch::Receiver<Phase>,
        retired: &mut watch::Receiver<u64>,
    ) -> Turn
    where
        C: Future<Output = hyper::Result<()>> + Unpin,
    {
        loop {
            let (generation, retirement) = (self.generation, self.retirement);
            tokio::select! {
                biased;
                turn = poll_fn(|cx| self.poll(connection, cx)) => return turn,
                changed = phase.changed() => return match changed {
                    Ok(()) => Turn::Phase(*phase.borrow_and_update()),
                    // The listener was dropped without a drain.
                    Err(_closed) => Turn::Phase(Phase::Cut),
                },
                Ok(_) = retired.wait_for(|retired| *retired >= generation), if retirement == Retirement::None => {
                    // Until then answers announce it: a caller that writes into a closing socket sees a reset.
                    self.retirement = Retirement::Due(Instant::now() + NOTICE);
                }
            }
        }
    }

    fn poll<C>(&mut self, connection: &mut C, cx: &mut Context<'_>) -> Poll<Turn>
    where
        C: Future<Output = hyper::Result<()>> + Unpin,
    {
        if let Poll::Ready(ended) = Pin::new(connection).poll(cx) {
            return Poll::Ready(Turn::Ended(ended));
        }
        loop {
            let due = match (self.activity.deadline(), &mut self.farewell) {
                (Some((at, why)), None) => Some((at, Turn::Overdue(why))),
                (Some(_), Some(at)) => Some((*at, Turn::FarewellOver)),
                // A request came in before the farewell reached the caller: it is answered first.
                (None, farewell) => {
                    *farewell = farewell.map(|_| Instant::now() + FAREWELL);
                    None
                }
            };
            let due = match due {
                Some((at, turn)) if at <= Instant::now() => return Poll::Ready(turn),
                due => due.map(|(at, _)| at),
            };
            let retired = match self.retirement {
                Retirement::Due(at) if self.activity.has_served() => Some(at),
                _ => None,
            };
            if retired.is_some_and(|at| at <= Instant::now()) {
                self.retirement = Retirement::Told;
                return Poll::Ready(Turn::Retired);
            }
            match due.into_iter().chain(retired).min() {
                Some(at) if at < self.alarm.deadline() || self.alarm.is_elapsed() => self.alarm.as_mut().reset(at),
                // A request is open; the alarm looks again later, and the connection is polled when the request ends.
                None if self.alarm.is_elapsed() => self.alarm.as_mut().reset(Instant::now() + FAREWELL),
                _ => {}
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// Answers 408 by hand: hyper has no answer for a head that it has not read.
async fn say_too_slow(mut socket: Socket) {
    let (body, status) = (Refusal::HeadTimeout.render(RequestId::new()), Refusal::HeadTimeout.status());
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let said: io::Result<()> = async {
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(&body).await?;
        socket.shutdown().await
    }
    .await;
    if said.is_ok() {
        linger(socket.into_tcp()).await;
    }
}

fn refuse_overdue(receiver: &Receiver, caller: &Caller, why: Overdue) {
    let reason = match why {
        // The usual end of a kept connection.
        Overdue::Idle => return,
        Overdue::Silent => "silent",
        Overdue::Head => Refusal::HeadTimeout.code(),
    };
    count(&receiver.metrics, reason);
    if why == Overdue::Head {
        count_answer(receiver, Refusal::HeadTimeout.status());
        handler::keep(receiver, caller, reason, Refusal::HeadTimeout.status(), None, None);
    }
    tracing::debug!(peer = %caller.peer, reason, "connection ended: no complete request in time");
}

/// Counts connections that hyper ended. Its answers to heads that it cannot read (400, 414, 431) are its own.
fn note_end(receiver: &Receiver, caller: &Caller, error: &hyper::Error) {
    let error_text = crate::error::chain(error);
    let (reason, status) = if error.is_parse_too_large() {
        ("head_too_large", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    } else if error.is_parse() {
        ("head_malformed", StatusCode::BAD_REQUEST)
    } else {
        // Callers leave without ceremony all the time; that is no refusal.
        tracing::debug!(peer = %caller.peer, error = error_text, "connection broke");
        return;
    };
    count(&receiver.metrics, reason);
    count_answer(receiver, status);
    handler::keep(receiver, caller, reason, status, None, None);
    tracing::debug!(peer = %caller.peer, reason, error = error_text, "connection ended: its head cannot be read");
}
