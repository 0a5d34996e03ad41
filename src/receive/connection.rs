//! One socket from its handshake to its end.
//!
//! In: an accepted TCP socket. Out: requests for the application (`app`), each with the [`Caller`] they came from.
//!
//! ALPN alone decides between HTTP/1 and HTTP/2: detection by the first bytes would wait without limit for a caller that
//! sends none. Deadlines are kept here (see `deadlines`).

use super::{
    activity::{Activity, OpenRequest, Overdue},
    app::Application,
    budget::Budget,
    caller::Caller,
    deadlines::{Deadlines, Due, FAREWELL},
    drain::Phase,
    endings,
    handshake::{Arrived, Entrance},
    heads,
    lobby::Ticket,
    problem::{Refusal, RequestId},
    refusals::Refusals,
    shares::Share,
    slot::Slot,
    socket::{Rest, Socket, linger},
    trust::Trust,
};
use axum::response::Response;
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::server::TlsStream;
use tower::Service as _;

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

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) entrance: Entrance,
    pub(super) application: Application,
    pub(super) budget: Arc<Budget>,
    pub(super) limits: Limits,
    pub(super) trust: Arc<Trust>,
    pub(super) refusals: Arc<Refusals>,
}

/// Bounds on one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a head.
    pub(super) head: u32,
    /// Fields of a head.
    pub(super) headers: usize,
    pub(super) http2_streams: u32,
    pub(super) header_timeout: Duration,
    pub(super) idle_timeout: Duration,
    /// From telling a caller of the end to the end: the longest that an open request takes.
    pub(super) farewell: Duration,
    /// What is read of a request and after its answer, where that is the last one.
    pub(super) rest: Rest,
}

/// Serves a socket to its end.
///
/// # Cancel safety
/// When dropped, the socket is closed at once; commits that were begun go on.
pub(super) async fn serve(
    connections: Arc<Connections>,
    tcp: TcpStream,
    peer: SocketAddr,
    phase: watch::Receiver<Phase>,
    ticket: Ticket,
    slot: Slot,
) {
    // Small answers must not wait for an acknowledgement. A socket that cannot be set so still works.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(code = "nodelay_failed", %peer, %error, "cannot set TCP_NODELAY");
    }
    // Boxed: most of a connection's life is idle, and must not carry the room of its handshake along.
    let Some((conversation, share)) = Box::pin(begin(connections, tcp, peer, phase, ticket)).await else {
        return;
    };
    conversation.await;
    drop((share, slot));
}

/// The requests of a connection, up to its end.
type Conversation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lets a caller in, and begins with HTTP.
async fn begin(
    connections: Arc<Connections>,
    tcp: TcpStream,
    peer: SocketAddr,
    phase: watch::Receiver<Phase>,
    ticket: Ticket,
) -> Option<(Conversation, Share)> {
    let Arrived { stream, caller, share } = connections.entrance.arrive(tcp, peer, ticket).await?;
    Some((converse(connections, stream, Arc::new(caller), phase), share))
}

/// Begins with HTTP. Not async, as is what it calls: an async function keeps a second copy of what it is given, and idle
/// connections are counted by the thousand.
fn converse(
    connections: Arc<Connections>,
    stream: TlsStream<TcpStream>,
    caller: Arc<Caller>,
    phase: watch::Receiver<Phase>,
) -> Conversation {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let limits = &connections.limits;
    let activity = Arc::new(Activity::new(is_http2, limits.header_timeout, limits.idle_timeout));
    let socket = TokioIo::new(Socket::new(stream, Arc::clone(&activity)));
    let service = Service { connections, caller, activity };
    if is_http2 { Box::pin(serve_http2(socket, service, phase)) } else { Box::pin(serve_http1(socket, service, phase)) }
}

/// Answers the requests of one connection; clones are of the same connection.
#[derive(Clone)]
struct Service {
    connections: Arc<Connections>,
    caller: Arc<Caller>,
    activity: Arc<Activity>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Answering {
        let open = self.activity.begin();
        let Connections { application, limits, budget, .. } = &*self.connections;
        if self.activity.is_http2() {
            heads::weigh(&mut request, limits.headers, budget);
        }
        request.extensions_mut().insert(Arc::clone(&self.caller));
        Answering { answer: application.clone().call(request), open: Some(open) }
    }
}

/// A request that is being answered. It is as large as three pointers, and should stay so: hyper keeps its room for as long
/// as the connection lives.
struct Answering {
    answer: <Application as tower::Service<Request<Incoming>>>::Future,
    /// `None` once there is an answer.
    open: Option<OpenRequest>,
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(self.answer.as_mut().poll(cx));
        self.open = None;
        Poll::Ready(answer)
    }
}

fn serve_http1(
    socket: TokioIo<Socket>,
    service: Service,
    mut phase: watch::Receiver<Phase>,
) -> impl Future<Output = ()> + Send {
    let limits = &service.connections.limits;
    let (max_head, rest) = (limits.head as usize, limits.rest);
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
            End::Over => {
                Box::pin(linger(socket_of(connection).into_tcp(), rest.after(service.activity.received()))).await;
            }
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
    let limits = &service.connections.limits;
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

/// How a connection ended. A caller that does not go when it is told to is cut, whatever it has open.
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
    let Service { connections, caller, activity } = service;
    let refusals = &connections.refusals;
    let mut deadlines = Deadlines::new(Arc::clone(activity), connections.limits.farewell);
    if let Some(ends) = caller.ends {
        deadlines.retire_at(ends);
    }
    let mut is_retired = false;
    let mut retired = connections.trust.retired();
    loop {
        // All branches are cancel safe: the connection and its deadlines are outside, and a watched value stays.
        tokio::select! {
            biased;
            ended = &mut *connection => {
                if let Err(error) = &ended {
                    endings::note_end(refusals, caller, error);
                }
                return End::Over;
            }
            due = poll_fn(|cx| deadlines.poll(cx)) => {
                match due {
                    Due::FarewellOver => return End::Cut,
                    Due::Overdue(why) => {
                        endings::refuse_overdue(refusals, caller, why);
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
            Ok(_) = retired.wait_for(|retired| *retired >= caller.generation.number), if !is_retired => {
                is_retired = true;
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
        linger(socket.into_tcp(), Rest::SHORT).await;
    }
}
