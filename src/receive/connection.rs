//! One socket from its handshake to its end.
//!
//! In: an accepted TCP socket. Out: requests for `handler`, each with the [`Caller`] they came from.
//!
//! ALPN alone decides between HTTP/1 and HTTP/2: detection by the first bytes would wait without limit for a caller that
//! sends none. Deadlines are kept here (see `deadlines`).

use super::{
    Receiver,
    activity::{Activity, Overdue},
    caller::Caller,
    deadlines::{Deadlines, Due, FAREWELL},
    handler, handshake, ledger,
    problem::{Refusal, RequestId},
    reason::Reason,
    refusals::{count, count_answer, log_refusal, turn_away},
    shares::Share,
    slot::{Phase, Slot},
    socket::{Socket, linger},
};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use std::{
    convert::Infallible, error::Error as _, future::poll_fn, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};
use tokio_rustls::server::TlsStream;

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
    let peer = handshake::caller_behind(receiver, &mut tcp, peer, deadline).await?;
    let Some(share) = receiver.shares.take(peer.ip()) else {
        let why = "its address has as many open as listener.max_connections_per_address allows";
        turn_away(receiver, peer, Reason::AddressLimit, why);
        return None;
    };
    let generation = receiver.tls.load_full();
    let (stream, admitted) = handshake::shake_hands(receiver, &generation, tcp, peer, deadline).await?;
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

fn serve_http1(
    socket: TokioIo<Socket>,
    service: Service,
    mut phase: watch::Receiver<Phase>,
) -> impl Future<Output = ()> + Send {
    let limits = &service.receiver.limits;
    let max_head = limits.head as usize;
    let mut builder = http1::Builder::new();
    if limits.headers != HEADERS {
        builder.max_headers(limits.headers);
    }
    let mut connection = builder
        .timer(TokioTimer::new())
        // A caller that ends its side after the last byte of a request has sent an event all the same.
        .half_close(true)
        // Hyper's own limit would also end idle connections; `activity` tells the two apart.
        .header_read_timeout(None)
        .max_header_size(max_head)
        .max_buf_size(BUFFER.max(max_head.saturating_mul(2)))
        .serve_connection(socket, service.clone());
    async move {
        match run(&mut connection, &service, &mut phase).await {
            End::Over => Box::pin(linger(socket_of(connection).into_tcp())).await,
            // A caller that does not take its farewell in time is left.
            End::SlowHead => drop(timeout(FAREWELL, Box::pin(say_too_slow(socket_of(connection)))).await),
            End::Cut => {}
        }
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
    let limits = &service.receiver.limits;
    let mut connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(limits.head)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(HTTP2_RESETS)
        .max_local_error_reset_streams(HTTP2_RESETS)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING)
        .serve_connection(socket, service.clone());
    async move {
        run(&mut connection, &service, &mut phase).await;
    }
}

/// How a connection ended.
enum End {
    /// By hyper, which has said everything.
    Over,
    /// The head of a request did not end in time, and hyper has no answer for it.
    SlowHead,
    /// By us, without another word.
    Cut,
}

/// Drives a connection to its end beside its deadlines, and tells the caller when the end has come.
///
/// # Cancel safety
/// When dropped, nothing is lost but the connection's deadlines.
async fn run<C>(connection: &mut C, service: &Service, phase: &mut watch::Receiver<Phase>) -> End
where
    C: GracefulConnection<Error = hyper::Error> + Unpin,
{
    let Service { receiver, caller, activity } = service;
    let mut deadlines = Deadlines::new(Arc::clone(activity));
    let mut retired = receiver.retired.subscribe();
    loop {
        // All branches are cancel safe: the connection and its deadlines are outside, and a watched value stays.
        tokio::select! {
            biased;
            ended = &mut *connection => {
                if let Err(error) = &ended {
                    note_end(receiver, caller, error);
                }
                return End::Over;
            }
            due = poll_fn(|cx| deadlines.poll(cx)) => {
                match due {
                    Due::FarewellOver => return End::Cut,
                    Due::Overdue(why) => {
                        refuse_overdue(receiver, caller, why);
                        if why == Overdue::Head {
                            return End::SlowHead;
                        }
                    }
                    Due::Retired => {}
                }
                deadlines.say_farewell();
            }
            changed = phase.changed() => {
                // An error says that the listener was dropped without a drain.
                let phase = changed.map_or(Phase::Cut, |()| *phase.borrow_and_update());
                if phase == Phase::Cut {
                    return End::Cut;
                }
                if !is_told_of(phase, activity) {
                    continue;
                }
            }
            Ok(_) = retired.wait_for(|retired| *retired >= caller.generation), if !deadlines.is_retiring() => {
                deadlines.retire();
                continue;
            }
        }
        Pin::new(&mut *connection).graceful_shutdown();
    }
}

/// Whether a phase of the drain tells a connection of its end.
///
/// One that has had no request yet is probably about to send it. With HTTP/1 its first request is due soon anyway, and the
/// answer to it ends the connection; GOAWAY still takes what is on its way, but a preface that is on its way would be lost.
fn is_told_of(phase: Phase, activity: &Activity) -> bool {
    match phase {
        Phase::Serving | Phase::Cut => false,
        Phase::Notice => activity.is_http2() && activity.has_served(),
        Phase::Closing => activity.is_http2() || activity.has_served(),
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
    let (reason, status) = match why {
        // The usual end of a kept connection.
        Overdue::Idle => return,
        Overdue::Silent => (Reason::Silent, None),
        Overdue::Head => (Reason::HeadTimeout, Some(Refusal::HeadTimeout.status())),
    };
    refuse_connection(receiver, caller, reason, status);
    log_refusal!(receiver, reason, peer = %caller.peer, "connection ended: no complete request in time");
}

/// Notes why hyper ended a connection. Its answers to heads that it cannot read (400, 414, 431) are its own, without a body.
fn note_end(receiver: &Receiver, caller: &Caller, error: &hyper::Error) {
    // What another's GOAWAY says is not repeated: it may be anything.
    let is_quoting = http2_error(error).is_some_and(h2::Error::is_remote);
    let text = if is_quoting { error.to_string() } else { base::error::chain(error) };
    let (reason, status) = if error.is_parse_too_large() {
        // Hyper has a limit of its own on paths, and tells the two apart in its text only.
        let is_path = text == "URI too long";
        let status = if is_path { StatusCode::URI_TOO_LONG } else { StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE };
        (Reason::HeadTooLarge, Some(status))
    } else if error.is_parse_version_h2() {
        // HTTP/2 where HTTP/1 was agreed on.
        (Reason::HeadMalformed, None)
    } else if error.is_parse() {
        (Reason::HeadMalformed, Some(StatusCode::BAD_REQUEST))
    } else if let Some(reason) = http2_offence(error) {
        (reason, None)
    } else {
        // Callers leave without ceremony all the time; that is no refusal.
        return tracing::debug!(peer = %caller.peer, error = text, "connection broke");
    };
    refuse_connection(receiver, caller, reason, status);
    log_refusal!(receiver, reason, peer = %caller.peer, error = text, "connection ended: it cannot be understood");
}

fn http2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

/// What a caller did to HTTP/2, where that made h2 end the connection.
fn http2_offence(error: &hyper::Error) -> Option<Reason> {
    let reason = http2_error(error).filter(|error| error.is_library())?.reason()?;
    Some(if reason == h2::Reason::ENHANCE_YOUR_CALM { Reason::Http2Abuse } else { Reason::Http2Malformed })
}

/// Counts and keeps a connection that is ended for what its caller did; `status`, if it was answered.
fn refuse_connection(receiver: &Receiver, caller: &Caller, reason: Reason, status: Option<StatusCode>) {
    count(&receiver.metrics, reason);
    if let Some(status) = status {
        count_answer(receiver, status);
    }
    // Of one that never said anything there is nothing to keep.
    if reason != Reason::Silent {
        ledger::keep(receiver, caller, reason, status, None, None);
    }
}
