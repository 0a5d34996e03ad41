//! The client of the vendor's API against servers that write whatever they like.

use crate::{
    AccountsPage, Client, Disposition, Error, Figures,
    credentials::Lacking,
    exchange::untold,
    fixture::{CLIENT_SECRET, encoded, figures, key, secret, settings},
    settings::{self, Linxo, Passwords, StaticToken, UserEndpoint, Users},
    users::USER_ID,
};
use double::pki::{self, Authority};
use event::{ConnectionId, UserId};
use prometheus_client::registry::Registry;
use std::{
    error::Error as _,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const TOKEN: &str = "CANARY_TOKEN";
const IBAN: &str = "FR7630006000011234567890189";

fn client(settings: Linxo) -> Client {
    Client::new(settings, key(), figures()).unwrap()
}

/// Settings with one fixed token.
fn fixed(origin: &str) -> Linxo {
    settings(origin, Users::Static(StaticToken { token: secret(TOKEN) }))
}

/// Settings with a token of the client.
fn by_client(origin: &str) -> Linxo {
    settings(origin, Users::Client(settings::Client {}))
}

async fn page(client: &Client) -> Result<AccountsPage, Error> {
    client.accounts(Some(&UserId::new("u7")), &ConnectionId::new("7"), 1, &untold).await
}

/// An error with its sources, as it is logged.
fn said(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// A server whose answers are these, one for each request, the last one again and again.
struct Server {
    url: String,
    /// Heads and bodies of the requests.
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn with(answers: &[&str]) -> Self {
        let answers: Arc<Vec<Vec<u8>>> = Arc::new(answers.iter().map(|answer| answer.as_bytes().to_vec()).collect());
        Self::of(answers).await
    }

    async fn of(answers: Arc<Vec<Vec<u8>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, connections) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (seen, opened) = (Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::Relaxed);
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                tokio::spawn(async move { serve(socket, &answers, &seen).await });
            }
        });
        Self { url, requests, connections }
    }

    fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// Answers requests until one answer says that it is the last.
async fn serve(mut socket: TcpStream, answers: &[Vec<u8>], seen: &Mutex<Vec<String>>) {
    let mut got = Vec::new();
    loop {
        while !is_whole(&got) {
            if socket.read_buf(&mut got).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(String::from_utf8_lossy(&got).into_owned());
            seen.len() - 1
        };
        got.clear();
        let answer = &answers[number.min(answers.len() - 1)];
        if socket.write_all(answer).await.is_err() || !answer.starts_with(b"HTTP/1.1 200 Kept") {
            return;
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn every_broken_answer_is_an_error_that_quotes_nothing() {
    let canary = format!(r#"{{"id":"1","iban":"{IBAN}","token":"{TOKEN}"}}"#);
    let deep = format!("[{{\"id\":1,\"x\":{}{}}}]", "[".repeat(200), "]".repeat(200));
    let many = format!("[{}{{\"id\":0}}]", "{\"id\":1},".repeat(1000));
    let huge = format!("X-Huge: {}\r\n", "x".repeat(600_000));
    let ok = |body: &str| answer("200 OK", "", body).into_bytes();
    for (name, bytes, part) in [
        ("bad UTF-8", [&b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"[..], b"[\xff]"].concat(), "is not UTF-8"),
        ("cut", ok(&format!("[{canary}")), "is not a list of accounts"),
        ("deep", ok(&deep), "is nested deeper"),
        ("many", ok(&many), "holds more than 1000 items"),
        ("a text", ok(&canary), "is not a list of accounts"),
        (
            "a broken chunk",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz{IBAN}\r\n").into(),
            "broke off",
        ),
        ("half a chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n[".to_vec(), "broke off"),
        ("half a body", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[".to_vec(), "broke off"),
        ("no HTTP", format!("{canary}\r\n\r\n").into_bytes(), "broke off"),
        ("a huge head", answer("200 OK", &huge, "[]").into_bytes(), "broke off"),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]".to_vec(), "broke off"),
        ("a switch of protocols", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_vec(), ""),
    ] {
        let server = Server::of(Arc::new(vec![bytes])).await;
        let client = client(fixed(&server.url));
        let said = said(&page(&client).await.expect_err(name));
        assert!(said.contains(part), "{name}: {said}");
        assert!(!said.contains(IBAN) && !said.contains(TOKEN), "{name}: {said}");
    }
}

#[tokio::test]
async fn hints_before_an_answer_are_passed_over() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n".repeat(3);
    let server = Server::with(&[&format!("{hints}{}", answer("200 OK", "", r#"[{"id":1}]"#))]).await;
    let client = client(fixed(&server.url));
    assert_eq!(page(&client).await.unwrap().received, 1);
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped_and_an_answer_that_breaks_off_names_the_server() {
    let half = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let server = Server::with(&[&answer("200 OK", "", "\u{feff}[{\"id\":1}]"), half]).await;
    let client = client(fixed(&server.url));
    assert_eq!(page(&client).await.unwrap().received, 1);
    let broken = said(&page(&client).await.unwrap_err());
    let host = server.url.strip_prefix("http://").unwrap();
    assert!(broken.contains(&format!("broke off its answer ({host})")), "{broken}");
}

#[tokio::test]
async fn no_error_answer_brings_a_secret_or_bank_data_along() {
    for text in
        [TOKEN, IBAN, "CANARY_SECRET", "Your token CANARY_TOKEN is bad", "PRE_CANARY_TOKEN_POST", "canary_token"]
    {
        let body = format!(r#"{{"error":"{text}","error_description":"{text}"}}"#);
        let refusal = answer("403 Forbidden", "", &body);
        let server = Server::with(&[&refusal]).await;
        let error = page(&client(fixed(&server.url))).await.unwrap_err();
        if text != "CANARY_SECRET" {
            assert_eq!(said(&error), "the Linxo API answered 403", "{text}");
        }
        if text == TOKEN {
            continue;
        }
        let error = page(&client(by_client(&server.url))).await.unwrap_err();
        assert!(!said(&error).contains("CANARY_SECRET") && !said(&error).contains(IBAN), "{error}");
    }
    // Such as a password that is derived for a user, and the user's name.
    let derived = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
    let passwords = Passwords::Derived { username: format!("NAME_{USER_ID}"), secret: secret(CLIENT_SECRET) };
    for text in [derived, "NAME_U"] {
        let server =
            Server::with(&[&answer("400 Bad Request", "", &format!(r#"{{"error_description":"{text}"}}"#))]).await;
        let client = client(settings(&server.url, Users::Password(passwords.clone())));
        let error = client.accounts(Some(&UserId::new("U")), &ConnectionId::new("7"), 1, &untold).await.unwrap_err();
        assert_eq!(said(&error), "no token: the token endpoint of linxo.auth answered 400");
    }
}

#[tokio::test]
async fn a_connection_that_broke_is_not_used_again_and_a_good_one_is() {
    let kept = answer("200 Kept", "", "[]");
    let half = "HTTP/1.1 200 Kept\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let server = Server::with(&[&kept, &kept, half, &kept]).await;
    let client = client(fixed(&server.url));
    for is_fine in [true, true, false, true, true] {
        assert_eq!(page(&client).await.is_ok(), is_fine);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_told_apart_within_their_time() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = client(fixed(&format!("http://{closed}")));
    assert!(said(&page(&refused).await.unwrap_err()).contains("could not be reached"));
    // Takes the connection and never speaks TLS.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let silent_client = client(Linxo { timeout: Duration::from_secs(30), ..fixed(&url) });
    let started = Instant::now();
    let error = page(&silent_client).await.unwrap_err();
    assert!(said(&error).contains("did not answer in time"), "{}", said(&error));
    let took = started.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&took), "{took:?}");
}

/// (A7) No coding is asked for, and gzip is taken all the same, also around a code.
#[tokio::test]
async fn answers_may_be_packed_although_they_are_asked_for_as_they_are() {
    use std::io::Write as _;
    let packed = |status: &str, plain: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        let body = encoder.finish().unwrap();
        let head = format!("HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), &body].concat()
    };
    let server = Server::of(Arc::new(vec![packed("200 OK", br#"[{"id":1}]"#)])).await;
    assert_eq!(page(&client(fixed(&server.url))).await.unwrap().received, 1);
    let request = server.requests.lock().unwrap()[0].to_lowercase();
    assert!(request.contains("\r\naccept-encoding: identity\r\n"), "{request}");
    let server = Server::of(Arc::new(vec![packed("404 Not Found", br#"{"error":"RESOURCE_UNKNOWN"}"#)])).await;
    assert_eq!(page(&client(fixed(&server.url))).await.unwrap_err().disposition(), Disposition::Gone);
    let bomb = packed("200 OK", &vec![b' '; 9 << 20]);
    assert!(bomb.len() < 100_000);
    let server = Server::of(Arc::new(vec![bomb])).await;
    let error = page(&client(fixed(&server.url))).await.unwrap_err();
    assert_eq!(error.to_string(), "the answer of the Linxo API is packed and holds more than 8 MiB");
    for coding in ["br", "gzip, gzip", "deflate"] {
        let server = Server::with(&[&answer("200 OK", &format!("Content-Encoding: {coding}\r\n"), "[]")]).await;
        let error = page(&client(fixed(&server.url))).await.unwrap_err();
        assert!(error.to_string().contains("packed in a way that was not asked for"), "{error}");
    }
    let server = Server::with(&[&answer("200 OK", "Content-Encoding: identity\r\n", "[]")]).await;
    assert_eq!(page(&client(fixed(&server.url))).await.unwrap().received, 0);
}

#[tokio::test]
async fn gone_and_unknown_are_believed_with_a_code_of_the_vendors_only() {
    for (status, body, expected) in [
        ("404 Not Found", r#"{"error":"RESOURCE_UNKNOWN"}"#, Disposition::Gone),
        ("410 Gone", r#"{"error":"RESOURCE_GONE"}"#, Disposition::Gone),
        ("404 Not Found", "<html>", Disposition::Doubtful),
        ("410 Gone", "", Disposition::Doubtful),
    ] {
        let server = Server::with(&[&answer(status, "", body)]).await;
        let client = client(fixed(&server.url));
        assert_eq!(page(&client).await.unwrap_err().disposition(), expected, "{status} {body}");
    }
}

#[tokio::test]
async fn a_token_that_is_none_is_not_used() {
    for text in ["", "a\\nb", "a b", "\\u00e9"] {
        let token = answer("200 OK", "", &format!(r#"{{"access_token":"{text}","expires_in":3600}}"#));
        let server = Server::with(&[&token]).await;
        let client = client(by_client(&server.url));
        let error = page(&client).await.unwrap_err();
        assert!(error.to_string().contains("empty or cannot stand in a header"), "{text:?}: {error}");
        assert_eq!(server.asked(), 1, "{text:?}");
    }
}

#[tokio::test]
async fn a_fixed_token_that_is_refused_is_not_tried_twice() {
    let server = Server::with(&[&answer("401 Unauthorized", "", r#"{"error":"invalid_token"}"#)]).await;
    let client = client(fixed(&server.url));
    assert!(matches!(page(&client).await, Err(Error::Status { status: 401, .. })));
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_before_anything_is_asked() {
    let server = Server::with(&[&answer("200 OK", "", r#"{"access_token":"t"}"#)]).await;
    let mut registry = Registry::default();
    let figures = Figures::new(&mut registry);
    let client = Client::new(by_client(&server.url), key(), figures).unwrap();
    for _ in 0..10 {
        for user in ["", " ", "u 1", " u1", "u1 ", "u\n1", "\u{e9}", "u\u{0}", "\u{1f600}"] {
            let asked = client.accounts(Some(&UserId::new(user)), &ConnectionId::new("7"), 1, &untold).await;
            assert_eq!(asked.unwrap_err().disposition(), Disposition::Permanent, "{user:?}");
        }
        for connection in ["", ".", ".."] {
            let asked = client.connection(Some(&UserId::new("u1")), &ConnectionId::new(connection), &untold).await;
            assert_eq!(asked.unwrap_err().disposition(), Disposition::Permanent, "{connection:?}");
        }
    }
    assert_eq!((server.asked(), client.room()), (0, (None, usize::MAX)));
    assert!(encoded(&registry).contains("api_breaker_open{peer=\"linxo\"} 0"));
    // Ids with a meaning in URLs stay one segment.
    for connection in ["../users", "a/b", "%2e%2e", ".\n.", "x?y#z"] {
        let _unread = client.connection(Some(&UserId::new("u1")), &ConnectionId::new(connection), &untold).await;
        let last = server.requests.lock().unwrap().last().unwrap().clone();
        let path = last.split(' ').nth(1).unwrap();
        let id = path.strip_prefix("/v2.1/connections/").unwrap_or_else(|| panic!("{path}"));
        assert!(!id.contains(['/', '?', '#']) && !matches!(id, "." | ".."), "{path}");
    }
}

#[tokio::test]
async fn other_settings_take_over_the_token_the_limits_and_the_rest_that_was_asked_for() {
    let token = answer("200 Kept", "", r#"{"access_token":"t","expires_in":3600}"#);
    let throttled = answer("429 Too Many Requests", "Retry-After: 100\r\n", "");
    let server = Server::with(&[&token, &answer("200 OK", "", "[]"), &answer("200 OK", "", "[]"), &throttled]).await;
    let first = client(by_client(&server.url));
    page(&first).await.unwrap();
    let second = first
        .reconfigured(Linxo { max_requests: 1, timeout: Duration::from_secs(5), ..by_client(&server.url) })
        .unwrap();
    page(&second).await.unwrap();
    assert_eq!(server.asked(), 3, "one token, two pages");
    let Err(Error::Status { after: Some(after), .. }) = page(&second).await else { panic!("not throttled") };
    assert!((100..=105).contains(&after.as_secs()), "{after:?}");
    let third = second.reconfigured(Linxo { rate: NonZeroU32::new(5), ..by_client(&server.url) }).unwrap();
    for client in [&first, &second, &third] {
        let Err(Error::Paused { after, .. }) = page(client).await else { panic!("not paused") };
        assert!((90..=100).contains(&after.as_secs()), "{after:?}");
    }
    assert_eq!(server.asked(), 4);
    // A second connection that is told to rest makes all of them rest.
    let other = third.accounts(Some(&UserId::new("u8")), &ConnectionId::new("8"), 1, &untold).await;
    assert!(matches!(other, Err(Error::Status { status: 429, .. })), "{other:?}");
    assert!(first.room().0.is_some());
    // Other credentials have other tokens.
    let fourth = third.reconfigured(Linxo { scope: "other".to_owned(), ..by_client(&server.url) }).unwrap();
    assert!(fourth.room().0.is_some() && server.asked() == 5);
}

#[tokio::test]
async fn no_redirect_leads_anywhere() {
    let elsewhere = Server::with(&[&answer("200 OK", "", "[]")]).await;
    for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        for location in [format!("{}/x", elsewhere.url), "/x".to_owned(), "http://169.254.169.254/latest".to_owned()] {
            let redirect = answer(status, &format!("Location: {location}\r\n"), "");
            for settings in [fixed, by_client] {
                let server = Server::with(&[&redirect]).await;
                let client = client(settings(&server.url));
                let error = page(&client).await.unwrap_err();
                assert!(matches!(error, Error::Redirect { .. }), "{error}");
                let user = UserId::new("u7");
                let error = client.connection(Some(&user), &ConnectionId::new("7"), &untold).await.unwrap_err();
                assert!(matches!(error, Error::Redirect { .. }), "{error}");
                assert_eq!(server.asked(), 2, "neither is anything asked again at the same server");
            }
        }
    }
    assert_eq!(elsewhere.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn another_client_certificate_is_another_credential() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("app").unwrap();
    let (certificate, key) = (folder.path().join("client.pem"), folder.path().join("client.key"));
    let fingerprint = async || {
        let identity = authority.client::<&str>("linxo-webhook", &[]).unwrap();
        for file in [&certificate, &key] {
            std::fs::remove_file(file).ok();
        }
        pki::write_identity(&certificate, &key, &identity).unwrap();
        let users = Users::Endpoint(UserEndpoint {
            url: format!("https://localhost/{USER_ID}"),
            bearer: None,
            certificate: Some(certificate.clone()),
            key: Some(key.clone()),
            authorities: Vec::new(),
        });
        let made = client(settings("https://localhost", users.clone()));
        let again = client(settings("https://localhost", users));
        let fingerprint = made.fingerprint(Some(&UserId::new("u7"))).await;
        assert_eq!(again.fingerprint(Some(&UserId::new("u7"))).await, fingerprint);
        fingerprint
    };
    assert_ne!(fingerprint().await, fingerprint().await);
}

#[tokio::test]
async fn each_of_the_credentials_shows_in_the_fingerprint_and_nothing_else_does() {
    let user = UserId::new("u7");
    let of = async |settings: Linxo| client(settings).fingerprint(Some(&user)).await;
    let base = || by_client("https://localhost");
    let fingerprint = of(base()).await;
    let other = |text: &str| text.to_owned();
    for (name, changed) in [
        ("secret", Linxo { client_secret: Some(secret("other")), ..base() }),
        ("id", Linxo { client_id: Some(other("other")), ..base() }),
        ("scope", Linxo { scope: other("other"), ..base() }),
        ("api", Linxo { api: other("https://localhost/v3"), ..base() }),
        ("auth", Linxo { auth: other("https://127.0.0.1"), ..base() }),
        ("provider", Linxo { provider: Some(other("p")), ..base() }),
        ("users", Linxo { users: Users::Static(StaticToken { token: secret(CLIENT_SECRET) }), ..base() }),
    ] {
        assert_ne!(of(changed).await, fingerprint, "{name}");
    }
    let same = Linxo { timeout: Duration::from_secs(1), max_requests: 1, page_limit: 7, ..base() };
    assert_eq!(of(same).await, fingerprint);
    let password = |text: &str| {
        let passwords = Passwords::Derived { username: other(USER_ID), secret: secret(text) };
        settings("https://localhost", Users::Password(passwords))
    };
    assert_ne!(of(password("a")).await, of(password("b")).await);
    assert_ne!(client(password("a")).fingerprint(Some(&UserId::new("u8"))).await, of(password("a")).await);
}

#[tokio::test]
async fn other_credentials_may_help_and_the_same_do_not() {
    let server = Server::with(&[&answer("403 Forbidden", "", r#"{"error":"FORBIDDEN"}"#)]).await;
    let (user, client) = (UserId::new("u7"), client(fixed(&server.url)));
    let error = page(&client).await.unwrap_err();
    let lacking = error.lacking(client.fingerprint(Some(&user)).await).unwrap();
    assert!(matches!(lacking, Lacking::Access(_)), "{lacking:?}");
    let other =
        client.reconfigured(settings(&server.url, Users::Static(StaticToken { token: secret("other") }))).unwrap();
    for lacking in [lacking, lacking.to_string().parse().unwrap()] {
        assert!(!client.may_help(Some(&user), lacking).await);
        assert!(other.may_help(Some(&user), lacking).await);
    }
    assert!(client.may_help(Some(&user), Lacking::Api).await);
    // Read from a store that an earlier version wrote.
    assert!(client.may_help(Some(&user), "0123456789abcdef no token".parse().unwrap()).await);
    assert_eq!(server.asked(), 1, "to answer that, nothing is asked");
}

#[tokio::test]
async fn a_name_that_leads_to_no_server_is_not_connected_to() {
    let client = client(fixed("https://metadata.test"));
    let said = said(&page(&client).await.unwrap_err());
    assert!(said.starts_with("the Linxo API could not be reached") && said.contains("link-local"), "{said}");
}
