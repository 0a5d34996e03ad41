//! The Redis sink against real servers.

use super::{
    connection::Durability,
    sink::{Redis, reach},
    *,
};
use crate::{
    Sink,
    broker::testing::{
        self, Pki, Proxy, TRANSIENT, Way, check_all, deliver_all, failure, refused, shared, size, unique, until,
    },
    contract::{self, Place, contract},
    fixture,
    sink::{Error, Failure},
    tls::Tls,
};
use ::redis::{Client, aio::MultiplexedConnection, cmd};
use ::settings::{Given, Pair, urls};
use async_trait::async_trait;
use base::secret::Secret;
use double::servers::Program;
use std::{fs, num::NonZeroU32, sync::Arc, sync::atomic::Ordering, time::Duration};

const SCHEMES: urls::Schemes = urls::Schemes { encrypted: ("rediss", 6379), plain: ("redis", 6379) };

fn settings(server: &str, stream: &str) -> Settings {
    let server = if server.contains("://") { server.to_owned() } else { format!("redis://{server}") };
    Settings {
        server: urls::server(&server, &SCHEMES).unwrap(),
        database: 0,
        stream: crate::template::stream_key(stream).unwrap(),
        maxlen: None,
        fields: Vec::new(),
        user: None,
        password: None,
        timeout: Duration::from_secs(20),
        max_message: 8 << 20,
        tls: Tls { authorities: Vec::new(), certificate: None, key: None },
    }
}

fn sink(settings: &Settings) -> Redis {
    Redis::new(settings).unwrap()
}

async fn client(server: &str) -> MultiplexedConnection {
    let client = Client::open(format!("redis://{server}/")).unwrap();
    until("the server answers", || async {
        let mut redis = client.get_multiplexed_async_connection().await.ok()?;
        cmd("PING").query_async::<String>(&mut redis).await.ok()?;
        Some(redis)
    })
    .await
}

type Fields = Vec<(String, String)>;

/// The entries of a stream: their fields. Read in pages, because a long answer takes longer than the client waits.
async fn entries(redis: &mut MultiplexedConnection, stream: &str) -> Vec<Fields> {
    let (mut all, mut start) = (Vec::new(), "-".to_owned());
    loop {
        let mut range = cmd("XRANGE");
        range.arg(stream).arg(&start).arg("+").arg("COUNT").arg(1000);
        let page: Vec<(String, Fields)> = range.query_async(redis).await.unwrap();
        let Some((last, _)) = page.last() else { return all };
        start = format!("({last}");
        all.extend(page.into_iter().map(|(_, fields)| fields));
    }
}

async fn run(redis: &mut MultiplexedConnection, words: &[&str]) {
    let mut command = cmd(words[0]);
    for word in &words[1..] {
        command.arg(word);
    }
    command.query_async::<()>(redis).await.unwrap();
}

/// A server of a test's own, with these options.
async fn own(options: &[&str]) -> Program {
    testing::own("redis-server", |folder, port| {
        let (port, folder) = (port.to_string(), folder.display().to_string());
        let own = ["--bind", "127.0.0.1", "--port", &port, "--dir", &folder, "--save", ""];
        own.iter().chain(options).map(|word| (*word).to_owned()).collect()
    })
    .await
}

#[tokio::test]
async fn appends_entries_with_their_fields() {
    let server = shared("redis", 6379);
    let name = unique();
    let mut settings = settings(&server, &format!("{name}:{{user}}"));
    let pair = |name: &str, value| Pair { name: name.to_owned(), value };
    settings.fields = vec![
        pair("key", Given::Secret(Secret::new("s3cret".to_owned()))),
        pair("mode", Given::Text("{mode}".to_owned())),
    ];
    sink(&settings).deliver(&fixture::whole("e 1", b"{ \"amount\": 10.50 }")).await.unwrap();
    let (mut redis, key) = (client(&server).await, format!("{name}:321"));
    let entries = entries(&mut redis, &key).await;
    let [fields] = entries.as_slice() else { panic!("{entries:?}") };
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["id", "content-type", "key", "mode", "event"]);
    let values: Vec<_> = fields.iter().take(4).map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["e 1", "application/cloudevents+json", "s3cret", "-"]);
    assert!(fields[4].1.ends_with("\"data\":{\"amount\":10.50}}"), "{}", fields[4].1);
    run(&mut redis, &["DEL", &key]).await;
}

#[tokio::test]
async fn a_stream_is_cut_only_where_that_is_configured() {
    let server = shared("redis", 6379);
    let mut redis = client(&server).await;
    let deliveries: Vec<_> = (0..600).map(|number| fixture::whole(&number.to_string(), b"{}")).collect();
    for (maxlen, kept) in [(None, 600..=600), (NonZeroU32::new(100), 100..=250)] {
        let name = unique();
        let sink = sink(&Settings { maxlen, ..settings(&server, &name) });
        assert!(sink.deliver_many(&deliveries).await.iter().all(Result::is_ok));
        let left = entries(&mut redis, &name).await;
        assert!(kept.contains(&left.len()), "{maxlen:?}: {}", left.len());
        assert_eq!(left.last().unwrap()[0].1, "599", "in the order of the batch");
        run(&mut redis, &["DEL", &name]).await;
    }
}

#[tokio::test]
async fn says_how_durable_the_server_is() {
    let own = own(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let settings = settings(&own.address(), "a");
    assert_eq!(reach(&settings).await, Ok(Vec::new()));
    let mut redis = client(&own.address()).await;
    run(&mut redis, &["CONFIG", "SET", "appendfsync", "everysec"]).await;
    let warning = reach(&settings).await.unwrap();
    assert!(warning[0].contains("(appendonly yes, appendfsync everysec)"), "{warning:?}");
    run(&mut redis, &["ACL", "SETUSER", "linxo", "on", ">right", "~*", "+xadd"]).await;
    let of = |password: &str, stream: &str| Settings {
        user: Some("linxo".to_owned()),
        password: Some(Secret::new(password.to_owned())),
        stream: crate::template::stream_key(stream).unwrap(),
        ..settings.clone()
    };
    let unseen = reach(&of("right", "a")).await.unwrap();
    assert_eq!(Some(&unseen[0]), Durability::Unseen.warning().as_ref());
    sink(&of("right", "a")).deliver(&fixture::whole("e1", b"{}")).await.unwrap();
    run(&mut redis, &["ACL", "SETUSER", "linxo", "resetkeys", "~other"]).await;
    let forbidden = failure(&sink(&of("right", "a{user}"))).await;
    assert_eq!(forbidden.kind, refused(403));
    assert!(
        forbidden.reason.starts_with("the server does not let this user append to \"a{user}\""),
        "{}",
        forbidden.reason
    );
    let login = Failure::transient("the server refused to log the sink in: check `user` and `password`");
    assert_eq!(failure(&sink(&of("canary", "a"))).await, login);
}

#[tokio::test]
async fn says_what_keeps_the_server_from_taking_entries() {
    let own = own(&["--requirepass", "right"]).await;
    let plain = settings(&own.address(), "a");
    let login = |with: &str| Failure::transient(format!("the server refused to log the sink in: check {with}"));
    assert_eq!(failure(&sink(&plain)).await, login("`password`, which is not configured"));
    let of = |password: &str| Settings { password: Some(Secret::new(password.to_owned())), ..plain.clone() };
    assert_eq!(failure(&sink(&of("canary"))).await, login("`password`"));
    let sink = sink(&of("right"));
    sink.deliver(&fixture::whole("e0", b"{}")).await.unwrap();
    let mut redis = client(&format!(":right@{}", own.address())).await;
    run(&mut redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(failure(&sink).await.reason, "the server has no memory left (maxmemory): make room, or raise it");
    run(&mut redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    run(&mut redis, &["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_eq!(failure(&sink).await.reason, "the server is a replica that takes no writes: name the primary");
    run(&mut redis, &["REPLICAOF", "NO", "ONE"]).await;
    run(&mut redis, &["DEL", "a"]).await;
    run(&mut redis, &["SET", "a", "text"]).await;
    let other = failure(&sink).await;
    assert_eq!(other.kind, refused(409));
    assert_eq!(other.reason, "the key \"a\" holds something else than a stream: choose another key, or remove it");
    run(&mut redis, &["DEL", "a"]).await;
    sink.deliver(&fixture::whole("e1", b"{}")).await.unwrap();
}

/// Redis takes nothing more once it cannot write its snapshot. Its folder is gone, since a full disk is not to be had here.
#[tokio::test]
async fn a_server_that_cannot_write_to_its_disk_says_so() {
    let own = own(&[]).await;
    let mut redis = client(&own.address()).await;
    let (_, folder): (String, String) = cmd("CONFIG").arg("GET").arg("dir").query_async(&mut redis).await.unwrap();
    fs::remove_dir_all(folder).unwrap();
    run(&mut redis, &["CONFIG", "SET", "save", "3600 1"]).await;
    run(&mut redis, &["BGSAVE"]).await;
    let sink = sink(&settings(&own.address(), "a"));
    until("the snapshot has failed", || async {
        let delivered = sink.deliver(&fixture::whole("e1", b"{}")).await;
        let Err(Error::Failed(failure)) = delivered else { return None };
        assert_eq!(failure.kind, TRANSIENT);
        assert!(
            failure.reason.starts_with("the server cannot write to its disk: make room there"),
            "{}",
            failure.reason
        );
        Some(())
    })
    .await;
}

#[tokio::test]
async fn trusts_configured_authorities_and_nobody_else() {
    let (server, pki, name) = (shared("redis", 6379), Pki::new(), unique());
    let proxy = Proxy::tls(&server, &pki).await;
    let of = |host: &str, tls| Settings { tls, ..settings(&format!("rediss://{host}:{}", proxy.port), &name) };
    sink(&of("localhost", pki.tls())).deliver(&fixture::whole("e1", b"{}")).await.unwrap();
    let start = "could not connect: the endpoint's certificate is not accepted";
    for (settings, why) in [
        (of("localhost", Pki::new().tls()), "unknown issuer"),
        (of("127.0.0.1", pki.tls()), "made for another host name"),
    ] {
        let failure = failure(&sink(&settings)).await;
        assert_eq!(failure.reason, format!("{start} ({why})"));
    }
    run(&mut client(&server).await, &["DEL", &name]).await;
}

#[tokio::test]
async fn a_server_that_is_away_hangs_or_cuts_is_tried_again() {
    let (server, name) = (shared("redis", 6379), unique());
    let proxy = Proxy::new(&server).await;
    let of =
        |port: u16| Settings { timeout: Duration::from_millis(300), ..settings(&format!("127.0.0.1:{port}"), &name) };
    let through = sink(&of(proxy.port));
    through.deliver(&fixture::whole("e0", b"{}")).await.unwrap();
    proxy.set(Way::Hung);
    let hung = failure(&through).await;
    assert_eq!(hung, Failure::transient("no answer came within 300ms: the server hangs or is slow"));
    let hung = failure(&sink(&of(proxy.port))).await;
    assert!(hung.kind == TRANSIENT && hung.reason.starts_with("could not connect within 300ms"), "{}", hung.reason);
    proxy.set(Way::Open);
    proxy.cut();
    until("it is taken", || async { through.deliver(&fixture::whole("e1", b"{}")).await.ok() }).await;
    let port = proxy.port;
    drop(proxy);
    until("the port is closed", || async {
        (failure(&sink(&of(port))).await.reason == "could not connect: connection refused").then_some(())
    })
    .await;
    run(&mut client(&server).await, &["DEL", &name]).await;
}

/// No acknowledged event is missing after crashes of a server that syncs always, and each connection keeps its order.
#[tokio::test(flavor = "multi_thread")]
async fn crashes_of_the_server_lose_nothing() {
    let size = size();
    let mut own = own(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let settings = Settings { timeout: Duration::from_secs(5), ..settings(&own.address(), "all") };
    deliver_all(Arc::new(sink(&settings)), size, async |taken| {
        for crash in 1..=3 {
            until("some are taken", || async { (taken.load(Ordering::Relaxed) >= crash * 4).then_some(()) }).await;
            own.crash().await.unwrap();
        }
    })
    .await;
    let entries = entries(&mut client(&own.address()).await, "all").await;
    let ids: Vec<_> = entries.iter().map(|fields| fields[0].1.clone()).collect();
    check_all(&ids, size);
}

/// A stream of a test's own.
struct Stream(String, String);

#[async_trait]
impl Place for Stream {
    async fn open() -> (Box<dyn Sink>, Self) {
        let (server, name) = (shared("redis", 6379), unique());
        (Box::new(sink(&settings(&server, &name))), Self(server, name))
    }

    async fn arrived(self, _: Box<dyn Sink>) -> Vec<(String, Vec<u8>)> {
        let mut redis = client(&self.0).await;
        let entries = entries(&mut redis, &self.1).await;
        run(&mut redis, &["DEL", &self.1]).await;
        entries.iter().map(|fields| contract::parsed(&fields.last().unwrap().1).unwrap()).collect()
    }

    fn written(body: &[u8]) -> Vec<u8> {
        event::compact(body)
    }
}

contract!(Stream);
