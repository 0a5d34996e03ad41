//! The sink on a real PostgreSQL. The server of this machine, or the one that `LINXO_WEBHOOK_TEST_POSTGRES` names, serves most
//! tests, each in a schema of its own. Those that stop, freeze or refuse start a server of their own.

use super::{Settings, sink::Postgres, sql::Tables};
use crate::{
    Body, Delivery, Failure, FailureKind, Sink,
    contract::{Place, contract},
    fixture,
    opens::Opens,
    sink::Error,
    tls::Tls,
};
use async_trait::async_trait;
use base::{clock::Timestamp, secret::Secret};
use double::{
    pki::Authority,
    servers::{self, Options, Proxy, Weather},
};
use event::ConnectionId;
use settings::postgres::Server;
use std::{collections::BTreeSet, fs, process::Command, sync::Arc, time::Duration};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

const SERVER: &str = "LINXO_WEBHOOK_TEST_POSTGRES";

/// Where the tests that only need some server find one.
fn server() -> String {
    std::env::var(SERVER).unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable".to_owned())
}

fn settings(url: &str, accounts: bool) -> Settings {
    Settings {
        server: Server::parse(url).unwrap(),
        password: None,
        table: "linxo_event".to_owned(),
        accounts,
        accounts_table: "linxo_account".to_owned(),
        timeout: Duration::from_secs(30),
        connections: 4,
        max_event: 64 * 1024 * 1024,
        tls: Tls { authorities: Vec::new(), certificate: None, key: None },
    }
}

/// A schema of a test's own, with the tables in it.
struct Site {
    settings: Settings,
    schema: String,
    client: Client,
}

impl Site {
    /// On the shared server.
    async fn new(accounts: bool) -> Self {
        Self::on(&server(), accounts).await
    }

    async fn on(url: &str, accounts: bool) -> Self {
        let schema = format!("sink_{:016x}", fastrand::u64(..));
        let joint = if url.contains('?') { '&' } else { '?' };
        let settings = settings(&format!("{url}{joint}schema={schema}"), accounts);
        let (client, connection) = settings.server.config().connect(NoTls).await.unwrap_or_else(|error| {
            panic!(
                "no PostgreSQL at {url} ({error}): start one (`apt-get install postgresql`), or name one in {SERVER}"
            )
        });
        tokio::spawn(connection);
        let site = Self { settings, schema, client };
        site.settings.init().unwrap().run.await.unwrap();
        // Twice is once.
        site.settings.init().unwrap().run.await.unwrap();
        site
    }

    fn sink(&self) -> Postgres {
        Postgres::new(&self.settings).unwrap()
    }

    /// The rows that a query gives, each as a line. `EVENTS` and `ACCOUNTS` stand for the tables.
    async fn rows(&self, query: &str) -> Vec<String> {
        let answer = self.client.simple_query(&self.named(query)).await.unwrap();
        let line = |row: &SimpleQueryRow| {
            (0..row.len()).map(|column| row.get(column).unwrap_or("null")).collect::<Vec<_>>().join(" ")
        };
        answer
            .iter()
            .filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(line(row)) } else { None })
            .collect()
    }

    async fn run(&self, statements: &str) {
        self.client.batch_execute(&self.named(statements)).await.unwrap();
    }

    fn named(&self, sql: &str) -> String {
        let of = |table: &str| format!("\"{}\".{table}", self.schema);
        sql.replace("EVENTS", &of("linxo_event")).replace("ACCOUNTS", &of("linxo_account"))
    }

    async fn clear(self) {
        self.run(&format!("DROP SCHEMA \"{}\" CASCADE", self.schema)).await;
    }
}

#[async_trait]
impl Place for Site {
    async fn open() -> (Box<dyn Sink>, Self) {
        let site = Self::new(true).await;
        (Box::new(site.sink()), site)
    }

    async fn arrived(self, _: Box<dyn Sink>) -> Vec<(String, Vec<u8>)> {
        let query = self.named("SELECT id, data::text FROM EVENTS ORDER BY stored_at, id");
        let rows = self.client.query(&query, &[]).await.unwrap();
        self.clear().await;
        rows.iter().map(|row| (row.get(0), row.get::<_, String>(1).into_bytes())).collect()
    }
}

contract!(Site);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// An event of a connection with these accounts, each with a balance, as of a moment.
fn event(id: &str, connection: &str, as_of: i64, accounts: &[(&str, &str)]) -> Delivery {
    let accounts: Vec<_> =
        accounts.iter().map(|(id, balance)| format!("{{\"id\": \"{id}\", \"balance\": {balance}}}")).collect();
    let body = format!("{{\"resource\": {{\"accounts\": [{}]}}}}", accounts.join(","));
    let mut delivery = fixture::whole(id, b"");
    delivery.body = Body::whole(body);
    delivery.attributes.subject = ConnectionId::new(connection);
    delivery.as_of = at(as_of);
    delivery
}

async fn all(sink: &Postgres, deliveries: &[Delivery]) {
    for result in sink.deliver_many(deliveries).await {
        result.unwrap();
    }
}

const ACCOUNTS: &str = "SELECT connection_id, id, data ->> 'balance', CASE WHEN listed THEN 'listed' ELSE 'gone' END FROM ACCOUNTS ORDER BY 1, 2";

#[tokio::test]
async fn an_event_is_one_row_with_its_attributes_however_often_it_comes() {
    let site = Site::new(false).await;
    let sink = site.sink();
    let mut delivery = fixture::whole("e1", b"{ \"amount\" : 10.50, \"a\" : 1, \"text\" : \"\\u0000 \\ud800\" }");
    delivery.as_of = at(100);
    sink.deliver(&delivery).await.unwrap();
    sink.deliver(&delivery).await.unwrap();
    let columns = "id, type, connection_id, user_id, channel_id, coalesce(mode, '-') AS mode, time AT TIME ZONE 'UTC' AS time, \
                   completion, account_count, mismatch, stale, extract(epoch FROM as_of)::int AS as_of, data";
    let row = "e1 com.linxo.connections.updated 123 321 24601 - 2017-11-06 08:04:08 event 2 f f 100 \
               { \"amount\" : 10.50, \"a\" : 1, \"text\" : \"\\u0000 \\ud800\" }";
    assert_eq!(site.rows(&format!("SELECT {columns} FROM EVENTS")).await, [row]);
    // A replay after its accounts were read anew is newer; one with older accounts changes nothing.
    let mut newer = fixture::whole("e1", b"{\"b\":2}");
    newer.as_of = at(101);
    newer.attributes.linxostale = true;
    sink.deliver(&newer).await.unwrap();
    sink.deliver(&delivery).await.unwrap();
    assert_eq!(site.rows("SELECT id, stale, data FROM EVENTS").await, ["e1 t {\"b\":2}"]);
    site.clear().await;
}

#[tokio::test]
async fn of_one_id_in_a_batch_the_newest_is_stored_and_each_is_delivered() {
    for accounts in [false, true] {
        let site = Site::new(accounts).await;
        let sink = site.sink();
        let batch = [("e2", 10), ("e1", 20), ("e1", 30), ("e1", 10)];
        all(&sink, &batch.map(|(id, at)| event(id, "1", at, &[("a", &at.to_string())]))).await;
        let balances = site.rows("SELECT id, data #> '{resource,accounts}' -> 0 ->> 'balance' FROM EVENTS ORDER BY id");
        assert_eq!(balances.await, ["e1 30", "e2 10"]);
        if accounts {
            assert_eq!(site.rows(ACCOUNTS).await, ["1 a 30 listed"]);
        }
        site.clear().await;
    }
}

#[tokio::test]
async fn an_account_has_its_latest_state_in_whatever_order_events_come() {
    let site = Site::new(true).await;
    let sink = site.sink();
    all(&sink, &[event("e2", "1", 20, &[("a", "2.50"), ("b", "7")]), event("f1", "2", 20, &[("a", "9")])]).await;
    assert_eq!(site.rows(ACCOUNTS).await, ["1 a 2.50 listed", "1 b 7 listed", "2 a 9 listed"]);
    // Older news change nothing, and bring nothing back that newer news do not have.
    sink.deliver(&event("e1", "1", 10, &[("a", "1"), ("c", "1")])).await.unwrap();
    assert_eq!(site.rows(ACCOUNTS).await, ["1 a 2.50 listed", "1 b 7 listed", "2 a 9 listed"]);
    assert_eq!(site.rows("SELECT id FROM EVENTS ORDER BY id").await, ["e1", "e2", "f1"]);
    // What a complete list has no more is marked; what an incomplete one leaves out is not.
    sink.deliver(&event("e3", "1", 30, &[("a", "3")])).await.unwrap();
    let mut incomplete = event("f2", "2", 30, &[]);
    incomplete.attributes.linxomismatch = true;
    sink.deliver(&incomplete).await.unwrap();
    assert_eq!(site.rows(ACCOUNTS).await, ["1 a 3 listed", "1 b 7 gone", "2 a 9 listed"]);
    sink.deliver(&event("e4", "1", 40, &[("b", "8")])).await.unwrap();
    let mut gone = event("f3", "2", 40, &[]);
    gone.attributes.linxocompletion = crate::Completion::Gone;
    gone.attributes.linxomismatch = true;
    sink.deliver(&gone).await.unwrap();
    assert_eq!(site.rows(ACCOUNTS).await, ["1 a 3 gone", "1 b 8 listed", "2 a 9 gone"]);
    // Two events that were accepted in one millisecond: the later one holds, and a repeat of it changes nothing.
    sink.deliver(&event("g1", "5", 50, &[("a", "1"), ("b", "1")])).await.unwrap();
    sink.deliver(&event("g2", "5", 50, &[("a", "2")])).await.unwrap();
    let of_five = format!("SELECT * FROM ({ACCOUNTS}) q WHERE connection_id = '5'");
    assert_eq!(site.rows(&of_five).await, ["5 a 2 listed", "5 b 1 gone"]);
    let changed = site.rows("SELECT id, changed_at FROM ACCOUNTS WHERE connection_id = '5' ORDER BY id").await;
    sink.deliver(&event("g2", "5", 50, &[("a", "2")])).await.unwrap();
    assert_eq!(site.rows("SELECT id, changed_at FROM ACCOUNTS WHERE connection_id = '5' ORDER BY id").await, changed);
    // What PostgreSQL has no character for is stored in the event as it is, and keeps no account away.
    let mut unreadable = event("h1", "6", 50, &[]);
    unreadable.body =
        Body::whole(&br#"{"x\u0000":"\ud800","resource":{"accounts":[{"id":"a","n":"b\u0000"},{"id":"\udc00"}]}}"#[..]);
    sink.deliver(&unreadable).await.unwrap();
    assert_eq!(
        site.rows("SELECT id, data ->> 'n' FROM ACCOUNTS WHERE connection_id = '6' ORDER BY id").await,
        ["a b\u{fffd}", "\u{fffd} null"]
    );
    // Odd lists: what is no account is left out, what is listed twice counts once, a test has none.
    let mut odd = event("e5", "3", 50, &[]);
    odd.body =
        Body::whole(&b"{\"resource\":{\"accounts\":[null,1,{\"x\":1},{\"id\":7},{\"id\":7},{\"id\":null}]}}"[..]);
    let mut none = event("e6", "4", 50, &[]);
    none.body = Body::whole(&b"{\"resource\":{\"accounts\":\"none\"}}"[..]);
    all(&sink, &[odd, none]).await;
    assert_eq!(
        site.rows(&format!("SELECT * FROM ({ACCOUNTS}) q WHERE connection_id IN ('3', '4')")).await,
        ["3 7 null listed"]
    );
    site.clear().await;
}

#[tokio::test]
async fn a_row_that_is_refused_keeps_no_other_out() {
    let site = Site::new(true).await;
    site.run("ALTER TABLE EVENTS ADD CONSTRAINT canary CHECK (connection_id <> 'bad')").await;
    let sink = site.sink();
    let mut nul = event("e3", "3", 10, &[]);
    nul.attributes.linxouser = Some(event::UserId::new("a\0b"));
    let mut latin = event("e4", "4", 10, &[]);
    latin.body = Body::whole(&b"{\"a\":\"\xe9\"}"[..]);
    let mut large = event("e5", "5", 10, &[]);
    large.body = Body::whole(vec![b' '; 64 * 1024 * 1024 + 1]);
    let batch = [
        event("e1", "1", 10, &[("a", "1")]),
        event("e2", "bad", 10, &[]),
        nul,
        latin,
        large,
        event("e6", "6", 10, &[]),
    ];
    let told: Vec<_> = sink
        .deliver_many(&batch)
        .await
        .into_iter()
        .map(|result| match result {
            Ok(()) => String::new(),
            Err(Error::Failed(Failure { kind: FailureKind::Refused { .. }, reason, .. })) => reason,
            Err(error) => panic!("{error:?}"),
        })
        .collect();
    assert!(told[0].is_empty() && told[5].is_empty(), "{told:?}");
    assert!(told[1].starts_with("PostgreSQL refuses the row of this event (SQLSTATE 23514)"), "{told:?}");
    assert!(told[2].starts_with("PostgreSQL refuses the row of this event (SQLSTATE 22"), "{told:?}");
    assert!(told[3].starts_with("the event is not valid UTF-8"), "{told:?}");
    assert!(told[4].starts_with("the event has 67108865 bytes, and the sink's max_event is 64 MiB"), "{told:?}");
    assert!(!told.concat().contains("canary"), "{told:?}");
    assert_eq!(site.rows("SELECT id FROM EVENTS ORDER BY id").await, ["e1", "e6"]);
    site.clear().await;
}

/// The reason of a failure that is nobody's for good.
async fn passing(sink: &Postgres) -> String {
    match sink.deliver(&event("e9", "9", 10, &[])).await {
        Err(Error::Failed(Failure { kind: FailureKind::Transient { after: None }, reason, .. })) => reason,
        other => panic!("{other:?}"),
    }
}

/// As [`passing`]; it is found out without a delivery, too.
async fn refused(settings: &Settings) -> String {
    let told = passing(&Postgres::new(settings).unwrap()).await;
    assert_eq!(settings.server().unwrap().reach.await, Err(told.clone()));
    told
}

#[tokio::test]
async fn says_what_is_wrong_with_the_tables() {
    let site = Site::new(true).await;
    let sink = site.sink();
    let role = format!("{}_role", site.schema);
    site.run(&format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA \"{}\" TO {role}", site.schema)).await;
    let stranger = Settings {
        server: Server::parse(&site.settings.server.to_string().replace("//postgres@", &format!("//{role}@"))).unwrap(),
        ..site.settings.clone()
    };
    let told = refused(&stranger).await;
    assert!(told.contains("lacks a right: grant it SELECT, INSERT and UPDATE") && told.contains("42501"), "{told}");
    // What a server says whose disk is full; a trigger says it here.
    let full = format!("\"{}\".full()", site.schema);
    site.run(&format!(
        "CREATE FUNCTION {full} RETURNS trigger LANGUAGE plpgsql AS
           $$BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END$$;
         CREATE TRIGGER full_disk BEFORE INSERT ON EVENTS EXECUTE FUNCTION {full}"
    ))
    .await;
    assert_eq!(passing(&sink).await, "PostgreSQL: its disk is full: make room there (SQLSTATE 53100)");
    site.run("DROP TRIGGER full_disk ON EVENTS; ALTER TABLE ACCOUNTS DROP COLUMN user_id").await;
    assert!(refused(&site.settings).await.contains("a table has other columns than this sink fills"));
    site.run("ALTER TABLE ACCOUNTS ADD COLUMN user_id text, DROP CONSTRAINT linxo_account_pkey").await;
    assert!(refused(&site.settings).await.contains("a table has no unique key to recognise repeats by"));
    site.run("DROP TABLE ACCOUNTS").await;
    assert!(passing(&sink).await.contains("a table is missing: `linxo-webhook sink init` makes it"));
    let told = site.settings.server().unwrap().reach.await.unwrap_err();
    assert!(told.contains("linxo_account\" is missing: `linxo-webhook sink init` makes it"), "{told}");
    site.settings.init().unwrap().run.await.unwrap();
    assert_eq!(site.settings.server().unwrap().reach.await, Ok(Vec::new()));
    sink.deliver(&event("e9", "9", 10, &[])).await.unwrap();
    site.run(&format!("REVOKE USAGE ON SCHEMA \"{}\" FROM {role}; DROP ROLE {role}", site.schema)).await;
    site.clear().await;
}

/// A commit is waited for although the server's configuration says otherwise. A commit beside it is lost, as it should be.
#[tokio::test]
async fn a_commit_is_synchronous_whatever_the_server_is_told() {
    let server = servers::Postgres::start(&Options { settings: &["synchronous_commit = off"], ..Options::default() });
    let mut server = server.unwrap();
    let site = Site::on(&server.url(), false).await;
    let sink = site.sink();
    // Who writes what nobody waits for is kept from it.
    let writer = server.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'").unwrap();
    assert!(Command::new("kill").args(["-STOP", &writer]).status().unwrap().success());
    sink.deliver(&event("e1", "1", 10, &[])).await.unwrap();
    site.run(
        "CREATE TEMPORARY TABLE another AS SELECT * FROM EVENTS; UPDATE another SET id = 'e2'; INSERT INTO EVENTS SELECT * FROM another",
    )
    .await;
    server.kill();
    server.restart().unwrap();
    let stored = server.sql(&format!("SELECT id FROM \"{}\".linxo_event", site.schema)).unwrap();
    assert_eq!(stored, "e1");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_missing_after_restarts_in_mid_stream() {
    const EVENTS: usize = 2000;
    let mut server = servers::Postgres::start(&Options::default()).unwrap();
    let site = Site::on(&server.url(), true).await;
    let sink = Arc::new(site.sink());
    let (acknowledge, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    // Each connection has its events in order, and the next one only when the one before is acknowledged.
    let lines: Vec<_> = (0..8)
        .map(|line| {
            let (sink, acknowledge) = (Arc::clone(&sink), acknowledge.clone());
            tokio::spawn(async move {
                for number in 0..EVENTS / 8 {
                    let (id, connection) = (format!("{line}-{number}"), format!("c{line}"));
                    let delivery =
                        event(&id, &connection, i64::try_from(number).unwrap() + 1, &[("a", &number.to_string())]);
                    while sink.deliver(&delivery).await.is_err() {
                        tokio::task::yield_now().await;
                    }
                    acknowledge.send(id).unwrap();
                }
            })
        })
        .collect();
    drop(acknowledge);
    let mut known = BTreeSet::new();
    while let Some(id) = acknowledged.recv().await {
        known.insert(id);
        match known.len() {
            300 => server.kill(),
            900 => server.stop(),
            _ => continue,
        }
        server.restart().unwrap();
    }
    for line in lines {
        line.await.unwrap();
    }
    assert_eq!(known.len(), EVENTS);
    let stored: BTreeSet<_> = server
        .sql(&format!("SELECT id FROM \"{}\".linxo_event", site.schema))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(stored == known, "{} of {}", stored.len(), known.len());
    let latest =
        server.sql(&format!("SELECT DISTINCT data ->> 'balance' FROM \"{}\".linxo_account WHERE listed", site.schema));
    assert_eq!(latest.unwrap(), (EVENTS / 8 - 1).to_string());
}

#[tokio::test]
async fn a_server_that_hangs_resets_or_is_away_is_told_apart() {
    let mut server = servers::Postgres::start(&Options::default()).unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    let site = Site::on(&server.url(), false).await;
    let behind = format!("{}&schema={}", proxy.postgres_url(), site.schema);
    let behind = Settings { server: Server::parse(&behind).unwrap(), ..site.settings.clone() };
    let settings = Settings { timeout: Duration::from_millis(500), ..behind.clone() };
    let sink = Postgres::new(&settings).unwrap();
    sink.deliver(&event("e1", "1", 10, &[])).await.unwrap();
    proxy.set(Weather::Stalled);
    assert_eq!(passing(&sink).await, "PostgreSQL did not answer within 500ms");
    proxy.set(Weather::Reset);
    let told = passing(&sink).await;
    assert!(told.contains("connection reset") || told.contains("connection closed"), "{told}");
    proxy.set(Weather::Fair);
    // The next connection is a new one.
    let patient = Postgres::new(&behind).unwrap();
    patient.deliver(&event("e2", "2", 10, &[])).await.unwrap();
    // A statement that waits for a lock is given up here, and at the server too.
    site.run("BEGIN; LOCK TABLE EVENTS").await;
    assert_eq!(passing(&sink).await, "PostgreSQL did not answer within 500ms");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let given_up = async {
        while server.sql(waiting).unwrap() != "0" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), given_up).await.expect("the statement is cancelled");
    site.run("ROLLBACK").await;
    server.sql("ALTER SYSTEM SET default_transaction_read_only = on").unwrap();
    server.sql("SELECT pg_reload_conf()").unwrap();
    let fresh = Postgres::new(&site.settings).unwrap();
    let told = passing(&fresh).await;
    assert!(told.contains("takes no writes: name the primary in the url"), "{told}");
    server.stop();
    assert_eq!(passing(&fresh).await, "could not connect: connection refused");
}

#[tokio::test]
async fn encrypted_with_the_right_authority_and_password_alone() {
    let authority = Authority::new("test").unwrap();
    let identity = authority.server(&["localhost"]).unwrap();
    let server = servers::Postgres::start(&Options {
        identity: Some(&identity),
        password: Some("canary-right"),
        settings: &["fsync = off"],
    })
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, authority: &Authority| {
        fs::write(folder.path().join(name), authority.certificate_pem()).unwrap();
        folder.path().join(name)
    };
    let (right, wrong) = (write("right", &authority), write("wrong", &Authority::new("other").unwrap()));
    let open = |host: &str, authority: &std::path::PathBuf, password: Option<&str>| {
        let settings = Settings {
            server: Server::parse(&format!("postgres://postgres@{host}:{}/postgres", server.port())).unwrap(),
            password: password.map(|text| Secret::new(text.to_owned())),
            tls: Tls { authorities: vec![authority.clone()], certificate: None, key: None },
            ..settings("postgres://a@localhost/b?sslmode=disable", false)
        };
        assert!(!format!("{settings:?}").contains("canary"));
        settings
    };
    let good = open("localhost", &right, Some("canary-right"));
    good.init().unwrap().run.await.unwrap();
    let sink = Postgres::new(&good).unwrap();
    sink.deliver(&event("e1", "1", 10, &[])).await.unwrap();
    let notes = good.server().unwrap().reach.await.unwrap();
    assert!(notes.len() == 1 && notes[0].starts_with("fsync is off in PostgreSQL"), "{notes:?}");
    for (settings, told) in [
        (
            open("localhost", &right, Some("canary-wrong")),
            "PostgreSQL: it refuses the password: correct the sink's `password` (SQLSTATE 28P01)",
        ),
        (open("localhost", &right, None), "could not connect: it asks for a password: set the sink's `password`"),
        (
            open("localhost", &wrong, Some("canary-right")),
            "could not connect: the endpoint's certificate is not accepted (unknown issuer)",
        ),
        (
            open("127.0.0.1", &right, Some("canary-right")),
            "could not connect: the endpoint's certificate is not accepted (made for another host name)",
        ),
    ] {
        assert_eq!(passing(&Postgres::new(&settings).unwrap()).await, told);
    }
    let missing = Server::parse(&format!("postgres://postgres@localhost:{}/none", server.port())).unwrap();
    let told = passing(&Postgres::new(&Settings { server: missing, ..good }).unwrap()).await;
    assert!(told.contains("the database of the url is missing"), "{told}");
}

#[test]
fn the_statements_are_what_the_documents_say() {
    let document = fs::read_to_string("../../docs/delivery.md").unwrap();
    let statements = Tables::new("public", "linxo_event", Some("linxo_account")).create();
    assert!(document.contains(statements.trim()), "docs/delivery.md has other statements than:\n{statements}");
    let quoted = Tables::new("order", "select", None).create();
    assert!(quoted.starts_with("CREATE SCHEMA IF NOT EXISTS \"order\";") && quoted.contains("\"order\".\"select\""));
}
