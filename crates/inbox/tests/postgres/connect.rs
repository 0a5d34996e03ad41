//! The way to the server: whom it believes, and what it refuses.

use super::{accepted, at, event, open, secret, server, try_open};
use base::error::chain;
use double::{
    pki::Authority,
    servers::{Options, Postgres},
};
use inbox::{Error, Settings};
use std::fs;
use tempfile::TempDir;

/// A server with a certificate for `localhost` and a password, and settings that know both.
fn guarded(folder: &TempDir, authority: &Authority, password: &str) -> (Postgres, Settings) {
    let identity = authority.server(&["localhost"]).unwrap();
    let options = Options { identity: Some(&identity), password: Some(password), settings: &[] };
    let server = Postgres::start(&options).unwrap();
    let file = folder.path().join("authority.pem");
    fs::write(&file, authority.certificate_pem()).unwrap();
    let url = format!("postgres://postgres@localhost:{}/postgres", server.port());
    (server, Settings { password: Some(secret(password)), authorities: vec![file], ..at(&url) })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_certificate_is_checked_and_so_is_its_name() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new("ours").unwrap());
    let (server, settings) = guarded(&folder, &authority, "first");
    inbox::init(&settings).await.unwrap();
    accepted(&open(&settings).await, "e1", "c").await;

    let other = folder.path().join("other.pem");
    fs::write(&other, Authority::new("theirs").unwrap().certificate_pem()).unwrap();
    let stranger = Settings { authorities: vec![other], ..settings.clone() };
    assert_unusable(&stranger, "certificate").await;
    // The certificate is for localhost.
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
    assert_unusable(&Settings { store: url.parse().unwrap(), ..settings.clone() }, "certificate").await;
    assert_unusable(&Settings { password: Some(secret("canary")), ..settings }, "inbox.password").await;
}

/// A start is refused, in words that help.
async fn assert_unusable(settings: &Settings, words: &str) {
    let error = try_open(settings).await.unwrap_err();
    let told = chain(&error);
    assert!(matches!(error, Error::Unusable { .. }) && told.contains(words) && !told.contains("canary"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_exchanged_is_used_for_new_connections() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new("ours").unwrap());
    let (mut server, settings) = guarded(&folder, &authority, "first");
    inbox::init(&settings).await.unwrap();
    let inbox = open(&settings).await;
    accepted(&inbox, "e1", "c").await;

    server.sql("ALTER ROLE postgres PASSWORD 'second'").unwrap();
    let changed = Settings { password: Some(secret("second")), ..settings.clone() };
    let link = inbox.link.as_ref().unwrap();
    link.renew(link.prepare(&changed).unwrap());
    // No connection of before is left.
    server.kill();
    server.restart().unwrap();
    accepted(&inbox, "e2", "c").await;
    assert_unusable(&settings, "inbox.password").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_an_inbox_is_told_from_one_that_is_away() {
    let mut server = Postgres::start(&Options::default()).unwrap();
    assert_unusable(&at(&server.url()), "inbox init").await;
    server.stop();
    let inbox = open(&at(&server.url())).await;
    assert!(matches!(inbox.intake.accept(event("e1", "c")).await, Err(Error::Away(_))));
    assert!(matches!(inbox.intake.ready(), Err(Error::Away(_))));
    server.restart().unwrap();
    inbox::init(&at(&server.url())).await.unwrap();
    accepted(&inbox, "e1", "c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_makes_one_inbox_however_often_it_is_called() {
    let server = Postgres::start(&Options::default()).unwrap();
    let settings = at(&server.url());
    let (one, other) = tokio::join!(inbox::init(&settings), inbox::init(&settings));
    let (one, other) = (one.unwrap().unwrap(), other.unwrap().unwrap());
    assert!(one.0 == other.0 && one.1 != other.1, "{one:?} {other:?}");
    assert_eq!(inbox::init(&settings).await.unwrap().unwrap(), (one.0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused() {
    let server = Postgres::start(&Options { settings: &["fsync = off"], ..Options::default() }).unwrap();
    assert_unusable(&at(&server.url()), "fsync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_durable_whatever_the_server_is_set_to() {
    let server = Postgres::start(&Options { settings: &["synchronous_commit = off"], ..Options::default() }).unwrap();
    inbox::init(&at(&server.url())).await.unwrap();
    let inbox = open(&at(&server.url())).await;
    accepted(&inbox, "e1", "c").await;
    let mut server = server;
    server.kill();
    server.restart().unwrap();
    assert_eq!(super::stored(&inbox, 1).await, ["e1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_schema_does_not_see_the_other() {
    let server = server().await;
    let there = at(&format!("{}&schema=other", server.url()));
    assert_unusable(&there, "schema other").await;
    let (made, is_new) = inbox::init(&there).await.unwrap().unwrap();
    let known = inbox::init(&at(&server.url())).await.unwrap().unwrap();
    assert!(is_new && made != known.0);
}
