//! The end of a receiver loses nothing that was begun.

use super::support::{Client, EVENT, Script, Site, Wanted, post, shake_hands, wait_for};
use crate::receive::Drained;
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::net::TcpStream;

#[tokio::test]
async fn half_sent_and_just_connected_requests_are_finished_and_told_to_close() {
    let site = Site::start(Wanted::default()).await;
    let request = post(EVENT);
    let (begin, end) = request.split_at(request.len() - 40);
    let (mut body, mut head, mut fresh) = (site.connect().await, site.connect().await, site.connect().await);
    body.send(begin).await;
    head.send(&request[..30]).await;
    let mut idle = site.connect().await;
    idle.send(&request).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    site.stop();
    wait_for(|| site.receiver.drain.has_begun()).await;
    // Beyond the notice, an idle connection is closed, and these are not.
    assert!(idle.is_closed().await);
    body.send(end).await;
    head.send(&request[30..]).await;
    fresh.send(&request).await;
    for mut client in [body, head, fresh] {
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert!(client.is_closed().await);
    }
    assert_eq!(site.stopped().await, Drained { cut: 0 });
}

/// More than a task of the runtime may do in one turn.
#[tokio::test]
async fn callers_that_wait_in_the_kernel_are_all_served() {
    const CALLERS: usize = 300;
    let mut wanted = Wanted::default();
    let listener = &mut wanted.listener;
    (listener.max_connections, listener.max_connections_per_address, listener.max_handshakes) = (400, 400, 400);
    let site = Site::start(wanted).await;
    // Nothing else runs in this thread until the next await: the receiver sees all of them and the signal at once.
    let waiting: Vec<_> = (0..CALLERS).map(|_| std::net::TcpStream::connect(site.address).unwrap()).collect();
    site.stop();
    for tcp in waiting {
        tcp.set_nonblocking(true).unwrap();
        let tcp = TcpStream::from_std(tcp).unwrap();
        let config = site.client_builder().with_no_client_auth();
        let mut client = Client(shake_hands(tcp, config, b"http/1.1").await.expect("it was accepted"));
        client.send(&post(EVENT)).await;
        assert_eq!(client.answer().await.unwrap().status, 200);
    }
    assert_eq!(site.stopped().await, Drained { cut: 0 });
}

/// A socket that was handed over outlives its receiver: what waits in it is for the next one.
#[tokio::test]
async fn callers_that_wait_in_a_socket_that_was_handed_over_are_left_to_the_next_receiver() {
    const CALLERS: usize = 50;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = || Wanted { socket: Some(socket.try_clone().unwrap()), ..Wanted::default() };
    let first = Site::start(wanted()).await;
    assert_eq!(first.address, socket.local_addr().unwrap());
    assert_eq!(first.exchange(&post(EVENT)).await.status, 200);
    // Nothing else runs in this thread until the next await: the receiver sees all of them and the signal at once.
    let waiting: Vec<_> = (0..CALLERS).map(|_| std::net::TcpStream::connect(first.address).unwrap()).collect();
    first.stop();
    assert_eq!(first.stopped().await, Drained { cut: 0 });
    let next = Site::start(wanted()).await;
    for tcp in waiting {
        tcp.set_nonblocking(true).unwrap();
        let tcp = TcpStream::from_std(tcp).unwrap();
        let config = next.client_builder().with_no_client_auth();
        let mut client = Client(shake_hands(tcp, config, b"http/1.1").await.expect("it was accepted"));
        client.send(&post(EVENT)).await;
        assert_eq!(client.answer().await.unwrap().status, 200);
    }
    assert_eq!(next.inbox.begun(), CALLERS);
}

#[tokio::test]
async fn a_kept_connection_is_told_before_it_is_closed() {
    let site = Site::start(Wanted::default()).await;
    let (mut busy, mut idle) = (site.connect().await, site.connect().await);
    for client in [&mut busy, &mut idle] {
        client.send(&post(EVENT)).await;
        assert_eq!(client.answer().await.unwrap().header("connection"), None);
    }
    site.stop();
    wait_for(|| site.receiver.drain.has_begun()).await;
    busy.send(&post(EVENT)).await;
    let answer = busy.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(busy.is_closed().await);
    assert!(idle.is_closed().await);
    assert!(TcpStream::connect(site.address).await.is_err());
    assert_eq!(site.stopped().await, Drained { cut: 0 });
}

#[tokio::test]
async fn http2_finishes_its_streams() {
    let site = Site::start(Wanted::default()).await;
    site.inbox.set(Script::Slow(Duration::from_millis(200)));
    let stream = site.tls(site.client_builder().with_no_client_auth(), b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post("https://localhost/webhooks/linxo").body(Full::new(Bytes::from(EVENT))).unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    wait_for(|| site.inbox.begun() == 1).await;
    site.stop();
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    connection.await.unwrap().unwrap();
    assert_eq!(site.stopped().await, Drained { cut: 0 });
}

#[tokio::test]
async fn what_does_not_end_is_cut() {
    let mut wanted = Wanted::default();
    wanted.listener.drain_timeout = Duration::from_millis(300);
    let site = Site::start(wanted).await;
    let mut client = site.connect().await;
    let request = post(EVENT);
    client.send(&request[..request.len() - 1]).await;
    // An answer on another connection shows that the accept loop has come past this one.
    assert_eq!(site.exchange(&request).await.status, 200);
    site.stop();
    assert_eq!(site.stopped().await, Drained { cut: 1 });
    assert!(client.is_closed().await);
}
