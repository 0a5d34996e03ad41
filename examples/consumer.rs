//! Your side of linxo-webhook: verifies a delivery, stores it once, then answers. Copy what you need.
//!
//! ```sh
//! WEBHOOK_SECRET=whsec_... cargo run --example consumer
//! ```
//!
//! Needs `axum`, `rusqlite`, `serde_json`, `standardwebhooks` and `tokio`. Environment:
//!
//! | variable | what |
//! | --- | --- |
//! | `WEBHOOK_SECRET`, or `WEBHOOK_SECRET_FILE` | the sink's secret; several, separated by white space, while it is being changed |
//! | `LISTEN` | address and port (127.0.0.1:3000) |
//! | `DATABASE` | SQLite file (./events.db) |

#![expect(clippy::print_stdout, reason = "an example says what it does")]

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use rusqlite::{Connection, Transaction, params};
use serde::Deserialize;
use serde_json::value::RawValue;
use standardwebhooks::Webhook;
use std::{
    env,
    error::Error,
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

const PATH: &str = "/linxo";
/// An event with 10,000 accounts has several megabytes.
const LARGEST: usize = 64 * 1024 * 1024;

const SCHEMA: &str = "
pragma synchronous = extra; -- a commit outlives a power cut
create table if not exists delivery (id text primary key, type text not null, body blob not null);
create table if not exists connection (id text primary key, is_gone integer not null);
create table if not exists account (connection text, id text, balance text, primary key (connection, id));
";

/// What every request shares.
struct Consumer {
    /// One for each secret: during a change of secret one that matches is enough.
    keys: Vec<Webhook>,
    db: Mutex<Connection>,
}

/// What is read of an event. Everything else may change its shape.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    resource: Resource<'a>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow)]
    accounts: Option<Vec<&'a RawValue>>,
}

/// The balance stays text, because a binary float would lose its digits.
#[derive(Deserialize)]
struct Account<'a> {
    id: serde_json::Value,
    #[serde(borrow)]
    balance: Option<&'a RawValue>,
}

async fn take(State(consumer): State<Arc<Consumer>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let id = header(&headers, "webhook-id").to_owned();
    // The library compares in constant time, and refuses timestamps that are more than five minutes away.
    let (status, outcome) = if consumer.keys.iter().any(|key| key.verify(&body, &headers).is_ok()) {
        // SQLite waits for the disk, so it has a thread of its own.
        let stored = spawn_blocking(move || consumer.store(&headers, &body).map_err(|error| error.to_string()));
        match stored.await.unwrap_or_else(|error| Err(error.to_string())) {
            // Only now: a 2xx says that the delivery is on disk.
            Ok(outcome) => (StatusCode::OK, outcome),
            // Disk full, database locked: our own trouble, so the delivery must come again.
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error),
        }
    } else {
        (StatusCode::UNAUTHORIZED, "not signed by a secret of ours, or too old".to_owned())
    };
    // An id and a count; names, numbers and amounts do not belong into a log.
    println!("{} {id:?} {outcome}", status.as_u16());
    status
}

impl Consumer {
    /// Stores a delivery and its effects in one transaction; returns what became of it.
    fn store(&self, headers: &HeaderMap, body: &[u8]) -> rusqlite::Result<String> {
        let (id, kind) = (header(headers, "webhook-id"), header(headers, "ce-type"));
        let mut db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let tx = db.transaction()?;
        let insert = "insert into delivery values (?1, ?2, ?3) on conflict do nothing";
        let outcome = if tx.execute(insert, params![id, kind, body])? == 0 {
            // At least once: it was stored before, and the answer was lost.
            "repeat".to_owned()
        } else if kind != "com.linxo.connections.updated" {
            // A test delivery, or a kind that you do not know yet: take it, do nothing.
            "other kind".to_owned()
        } else if header(headers, "ce-linxostale") == "true" {
            // Something newer of this connection came before: keep what you have.
            "stale".to_owned()
        } else {
            update(&tx, headers, body)?
        };
        tx.commit()?;
        Ok(outcome)
    }
}

/// Your own effects. Here: the accounts of the connection.
fn update(tx: &Transaction<'_>, headers: &HeaderMap, body: &[u8]) -> rusqlite::Result<String> {
    // Percent-encoded where it is not ASCII. As a key it may stay so.
    let connection = header(headers, "ce-subject");
    let is_gone = header(headers, "ce-linxocompletion") == "gone";
    tx.execute("insert or replace into connection values (?1, ?2)", params![connection, is_gone])?;
    if is_gone {
        // The API does not know the connection any more; its accounts are history.
        return Ok("gone".to_owned());
    }
    let Ok(event) = serde_json::from_slice::<Event<'_>>(body) else {
        return Ok("stored, and not understood".to_owned());
    };
    let is_complete = header(headers, "ce-linxomismatch") != "true";
    if is_complete {
        // Only a complete list says which accounts are gone.
        tx.execute("delete from account where connection = ?1", [connection])?;
    }
    let mut count = 0;
    for account in event.resource.accounts.unwrap_or_default() {
        let Ok(Account { id, balance }) = serde_json::from_str(account.get()) else { continue };
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        let row = params![connection, id, balance.map(RawValue::get)];
        count += tx.execute("insert or replace into account values (?1, ?2, ?3)", row)?;
    }
    Ok(format!("{count} accounts{}", if is_complete { "" } else { ", may be incomplete" }))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn variable(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secrets = match env::var("WEBHOOK_SECRET_FILE") {
        Ok(file) => fs::read_to_string(file)?,
        Err(_) => variable("WEBHOOK_SECRET", ""),
    };
    let keys = secrets.split_whitespace().map(Webhook::new).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err("set WEBHOOK_SECRET, or WEBHOOK_SECRET_FILE, to the secret of the sink".into());
    }
    let database = variable("DATABASE", "./events.db");
    // Before SQLite makes it for everybody to read: it holds bank data.
    OpenOptions::new().append(true).create(true).mode(0o600).open(&database)?;
    let db = Connection::open(database)?;
    db.execute_batch(SCHEMA)?;

    let listener = TcpListener::bind(variable("LISTEN", "127.0.0.1:3000")).await?;
    println!("listening on http://{}{PATH}", listener.local_addr()?);
    let router = Router::new()
        .route(PATH, post(take))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(Arc::new(Consumer { keys, db: Mutex::new(db) }));
    axum::serve(listener, router).with_graceful_shutdown(told_to_stop(signal(SignalKind::terminate())?)).await?;
    Ok(())
}

async fn told_to_stop(mut terminate: tokio::signal::unix::Signal) {
    terminate.recv().await;
}
