//! The AMQP sink against a real RabbitMQ. The broker is shared and slow to start: one test kills a broker of its own, for the others a
//! proxy stands for restarts.

use super::{
    sink::{Amqp, reach},
    *,
};
use crate::{
    Sink,
    broker::testing::{
        Pki, Proxy, TRANSIENT, Way, check_all, deliver_all, failure, failure_of, refused, shared, size, unique, until,
    },
    contract::{self, Place, contract},
    fixture,
    sink::{Delivery, Error},
    tls::Tls,
};
use ::settings::{Given, Pair, urls};
use async_trait::async_trait;
use base::secret::Secret;
use double::servers::{Program, free_port};
use event::UserId;
use lapin::{
    BasicProperties, Channel, ConnectionProperties, ExchangeKind,
    options::{
        BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

const SCHEMES: urls::Schemes = urls::Schemes { encrypted: ("amqps", 5671), plain: ("amqp", 5672) };

fn settings(server: &str, exchange: &str, key: &str) -> Settings {
    let server = if server.contains("://") { server.to_owned() } else { format!("amqp://{server}") };
    Settings {
        server: urls::server(&server, &SCHEMES).unwrap(),
        vhost: "/".to_owned(),
        exchange: crate::template::routing_key(exchange).unwrap(),
        routing_key: crate::template::routing_key(key).unwrap(),
        headers: Vec::new(),
        user: None,
        password: None,
        timeout: Duration::from_secs(20),
        max_message: 8 << 20,
        tls: Tls { authorities: Vec::new(), certificate: None, key: None },
    }
}

fn sink(settings: &Settings) -> Amqp {
    Amqp::new(settings).unwrap()
}

fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap()
}

/// A topic exchange with a durable queue that takes everything of it.
struct Queue {
    server: String,
    channel: Channel,
    _connection: lapin::Connection,
    name: String,
}

impl Queue {
    async fn new(arguments: &[(&str, AMQPValue)]) -> Self {
        Self::on(shared("amqp", 5672), arguments).await
    }

    async fn on(server: String, arguments: &[(&str, AMQPValue)]) -> Self {
        let queue = Self::connect(server, unique()).await;
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert(short(name), value.clone());
        }
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        queue.channel.queue_declare(short(&queue.name), durable, table).await.unwrap();
        queue.exchange(&queue.name, false).await;
        let (name, bind) = (short(&queue.name), QueueBindOptions::default());
        queue.channel.queue_bind(name.clone(), name, short("#"), bind, FieldTable::default()).await.unwrap();
        queue
    }

    async fn connect(server: String, name: String) -> Self {
        let connection =
            lapin::Connection::connect(&format!("amqp://{server}/%2f"), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { server, channel, _connection: connection, name }
    }

    async fn exchange(&self, name: &str, internal: bool) {
        let options = ExchangeDeclareOptions { internal, durable: true, ..ExchangeDeclareOptions::default() };
        self.channel.exchange_declare(short(name), ExchangeKind::Topic, options, FieldTable::default()).await.unwrap();
    }

    async fn messages(&self) -> Vec<(BasicProperties, String, Vec<u8>)> {
        let mut messages = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = self.channel.basic_get(short(&self.name), options).await.unwrap() {
            let message = message.delivery;
            messages.push((message.properties, message.routing_key.to_string(), message.data));
        }
        messages
    }

    async fn ids(&self) -> Vec<String> {
        let id = |properties: &BasicProperties| properties.message_id().as_ref().unwrap().to_string();
        self.messages().await.iter().map(|(properties, ..)| id(properties)).collect()
    }

    async fn remove(self) {
        self.channel.queue_delete(short(&self.name), QueueDeleteOptions::default()).await.unwrap();
        for exchange in [self.name.clone(), format!("{}.no", self.name)] {
            self.channel.exchange_delete(short(&exchange), ExchangeDeleteOptions::default()).await.unwrap();
        }
    }
}

fn of_user(id: &str, user: &str) -> Delivery {
    let mut delivery = fixture::whole(id, b"{}");
    delivery.attributes.linxouser = Some(UserId::new(user));
    delivery
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_persistent_documents_with_their_properties() {
    let queue = Queue::new(&[]).await;
    let mut settings = settings(&queue.server, &queue.name, "{type}.{connection}");
    let pair = |name: &str, value| Pair { name: name.to_owned(), value };
    settings.headers = vec![
        pair("X-Key", Given::Secret(Secret::new("s3cret".to_owned()))),
        pair("X-User", Given::Text("u {user}".to_owned())),
    ];
    sink(&settings).deliver(&fixture::whole("e 1", b"{ \"amount\": 10.50 }")).await.unwrap();
    let messages = queue.messages().await;
    let [(properties, key, document)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(key, "com.linxo.connections.updated.123");
    assert_eq!(*properties.content_type(), Some(short("application/cloudevents+json")));
    assert_eq!((*properties.delivery_mode(), properties.message_id().clone()), (Some(2), Some(short("e%201"))));
    let headers = properties.headers().as_ref().unwrap().inner();
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    assert_eq!((&headers["X-Key"], &headers["X-User"]), (&text("s3cret"), &text("u 321")));
    assert!(document.ends_with(b"\"data\":{\"amount\":10.50}}"));
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_takes_or_no_exchange_is_there_for_is_not_a_success() {
    let queue = Queue::new(&[]).await;
    let server = &queue.server;
    let missing = unique();
    let absent = failure(&sink(&settings(server, &missing, "a"))).await;
    assert_eq!(absent.kind, refused(404));
    let words = format!(
        "there is no exchange {missing:?} in the virtual host \"/\": declare it, durable, and bind a queue to it"
    );
    assert_eq!(absent.reason, words);
    let unrouted = failure(&sink(&settings(server, "amq.default", &missing))).await;
    assert_eq!(unrouted.kind, refused(312));
    let words = format!("with the routing key {missing:?}: bind one (312 NO_ROUTE)");
    assert!(unrouted.reason.ends_with(&words), "{}", unrouted.reason);
    assert_eq!(reach(&settings(server, &missing, "a")).await, Err(absent.reason));
    assert_eq!(reach(&settings(server, &queue.name, "a")).await, Ok(Vec::new()));
    sink(&settings(server, "amq.default", &queue.name)).deliver(&fixture::whole("e1", b"{}")).await.unwrap();
    assert_eq!(queue.ids().await, ["e1"]);
    queue.remove().await;
}

/// The broker closes the channel on which a forbidden message came. The others of its batch are delivered all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_closes_its_channel_fails_alone() {
    let queue = Queue::new(&[]).await;
    // An internal exchange takes nothing from publishers.
    queue.exchange(&format!("{}.no", queue.name), true).await;
    let sink = sink(&settings(&queue.server, "{user}", "a"));
    let name = queue.name.as_str();
    // The dot is escaped where it comes from an attribute, so for this one there is no exchange.
    let no = format!("{name}.no");
    let batch = [of_user("a", name), of_user("b", name), of_user("c", &no), of_user("d", name)];
    let results = sink.deliver_many(&batch).await;
    let words: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(words, [true, true, false, true]);
    let internal = self::sink(&settings(&queue.server, &no, "a"));
    let results = internal.deliver_many(&batch[..2]).await;
    for result in results {
        let Err(Error::Failed(failure)) = result else { panic!("{result:?}") };
        assert_eq!(failure.kind, refused(403));
        assert!(failure.reason.starts_with("the broker does not let this user publish on"), "{}", failure.reason);
    }
    let mut ids = queue.ids().await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids, ["a", "b", "d"]);
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_full_says_so() {
    let full = [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", AMQPValue::LongString(LongString::from("reject-publish"))),
    ];
    let queue = Queue::new(&full).await;
    let sink = sink(&settings(&queue.server, &queue.name, "a"));
    sink.deliver(&fixture::whole("e0", b"{}")).await.unwrap();
    let failure = failure(&sink).await;
    assert_eq!(failure.kind, TRANSIENT);
    assert!(failure.reason.starts_with("the broker did not keep the message: a queue is full"), "{}", failure.reason);
    queue.remove().await;
}

/// A broker that asks for more free disk than there is: its alarm is on from the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_disk_is_short_says_so() {
    let broker = own("disk_free_limit.absolute = 1000000GB\n").await;
    let sink = sink(&Settings { timeout: Duration::from_secs(5), ..settings(&broker.address(), "amq.topic", "a") });
    until("the broker blocks", || async {
        let failure = failure(&sink).await;
        let is_told =
            failure.reason.starts_with("the broker takes nothing from publishers just now: its memory or its disk");
        is_told.then(|| assert_eq!(failure.kind, TRANSIENT))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_keeps_it_from_logging_in() {
    let server = shared("amqp", 5672);
    let plain = settings(&server, "amq.topic", "a");
    let of = |user: &str, password: &str| Settings {
        user: Some(user.to_owned()),
        password: Some(Secret::new(password.to_owned())),
        ..plain.clone()
    };
    let wrong = failure(&sink(&of("guest", "canary"))).await;
    assert_eq!(wrong.kind, TRANSIENT);
    assert_eq!(wrong.reason, "the broker refused to log the sink in: check `user` and `password`");
    let vhost = failure(&sink(&Settings { vhost: unique(), ..of("guest", "guest") })).await;
    assert_eq!(vhost.kind, TRANSIENT);
    assert!(vhost.reason.starts_with("the broker does not let the sink use the virtual host"), "{}", vhost.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_sink_is_refused() {
    let server = shared("amqp", 5672);
    let (large, _) = fixture::paged("large", 40, 400);
    let settings = Settings { max_message: 64 << 10, ..settings(&server, "amq.default", "a") };
    let failure = failure_of(&sink(&settings), &large).await;
    assert_eq!(failure.kind, refused(413));
    assert!(failure.reason.contains("the sink's max_message is 64 KiB: raise it"), "{}", failure.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn trusts_configured_authorities_and_nobody_else() {
    let (queue, pki) = (Queue::new(&[]).await, Pki::new());
    let proxy = Proxy::tls(&queue.server, &pki).await;
    let of =
        |host: &str, tls| Settings { tls, ..settings(&format!("amqps://{host}:{}", proxy.port), &queue.name, "a") };
    sink(&of("localhost", pki.tls())).deliver(&fixture::whole("e1", b"{}")).await.unwrap();
    let start = "could not connect: the endpoint's certificate is not accepted";
    for (settings, why) in [
        (of("localhost", Pki::new().tls()), "unknown issuer"),
        (of("127.0.0.1", pki.tls()), "made for another host name"),
    ] {
        let failure = failure(&sink(&settings)).await;
        assert_eq!(failure.reason, format!("{start} ({why})"));
    }
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_hangs_or_cuts_is_tried_again() {
    let queue = Queue::new(&[]).await;
    let proxy = Proxy::new(&queue.server).await;
    let of = |port: u16| Settings {
        timeout: Duration::from_secs(1),
        ..settings(&format!("127.0.0.1:{port}"), &queue.name, "a")
    };
    let through = sink(&of(proxy.port));
    until("it is taken", || async { through.deliver(&fixture::whole("e0", b"{}")).await.ok() }).await;
    proxy.set(Way::Hung);
    let hung = failure(&through).await;
    assert_eq!(hung.kind, TRANSIENT);
    assert!(hung.reason.starts_with("no confirmation came within 1s"), "{}", hung.reason);
    let hung = failure(&sink(&of(proxy.port))).await;
    assert!(hung.reason.starts_with("could not connect within 1s"), "{}", hung.reason);
    proxy.set(Way::Open);
    proxy.cut();
    until("it is taken", || async { through.deliver(&fixture::whole("e1", b"{}")).await.ok() }).await;
    let port = proxy.port;
    drop(proxy);
    until("the port is closed", || async {
        (failure(&sink(&of(port))).await.reason == "could not connect: connection refused").then_some(())
    })
    .await;
    queue.remove().await;
}

/// No confirmed event is missing after connections that were cut in mid-stream, and each connection keeps its order.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_of_the_connection_lose_nothing() {
    let size = size();
    let queue = Queue::new(&[]).await;
    let proxy = Proxy::new(&queue.server).await;
    let settings = Settings {
        timeout: Duration::from_secs(5),
        ..settings(&format!("127.0.0.1:{}", proxy.port), &queue.name, "{connection}")
    };
    deliver_all(Arc::new(sink(&settings)), size, async |taken| {
        for cut in 1..=5 {
            until("some are taken", || async { (taken.load(Ordering::Relaxed) >= cut * 4).then_some(()) }).await;
            proxy.cut();
        }
    })
    .await;
    check_all(&queue.ids().await, size);
    queue.remove().await;
}

/// No confirmed event is missing after a crash of the broker in mid-stream, and each connection keeps its order.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_broker_loses_nothing() {
    let size = size();
    let mut broker = own("").await;
    let queue = Queue::on(broker.address(), &[]).await;
    let (server, name) = (queue.server.clone(), queue.name.clone());
    let settings = Settings { timeout: Duration::from_secs(5), ..settings(&server, &name, "{connection}") };
    deliver_all(Arc::new(sink(&settings)), size, async |taken| {
        until("some are taken", || async { (taken.load(Ordering::Relaxed) >= 8).then_some(()) }).await;
        broker.crash().await.unwrap();
    })
    .await;
    check_all(&Queue::connect(server, name).await.ids().await, size);
}

/// The user is the one that the client certificate names; there is no password.
#[tokio::test(flavor = "multi_thread")]
async fn logs_in_by_its_certificate() {
    let pki = Pki::new();
    let path = |name: &str| pki.path(name).display().to_string();
    let [authority, certificate, key] = ["ca.pem", "server.pem", "server.key"].map(path);
    let port = free_port().unwrap();
    let configuration = format!(
        "ssl_options.cacertfile = {authority}\nssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n\
         ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\nauth_mechanisms.1 = EXTERNAL\n\
         ssl_cert_login_from = subject_alternative_name\nssl_cert_login_san_type = dns\n\
         listeners.ssl.1 = 127.0.0.1:{port}\n"
    );
    let _broker = own(&configuration).await;
    let of = |tls| Settings { tls, ..settings(&format!("amqps://localhost:{port}"), "amq.topic", "a") };
    let known = sink(&of(pki.tls_with("client")));
    until("the user is there", || async { (failure(&known).await.kind == refused(312)).then_some(()) }).await;
    let unknown = failure(&sink(&of(pki.tls_with("server")))).await;
    assert_eq!(unknown.kind, TRANSIENT);
    assert_eq!(unknown.reason, "the broker refused to log the sink in: check the user that `certificate` names");
    let bare = failure(&sink(&of(pki.tls()))).await;
    assert!(bare.kind == TRANSIENT && bare.reason.starts_with("could not connect: "), "{}", bare.reason);
}

/// Users of a broker of a test's own: the usual one, and one that logs in by its certificate.
const DEFINITIONS: &str = r#"{
    "users": [{ "name": "guest", "password": "guest", "tags": "" }, { "name": "linxo-webhook", "password_hash": "", "tags": "" }],
    "vhosts": [{ "name": "/" }],
    "permissions": [
        { "user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*" },
        { "user": "linxo-webhook", "vhost": "/", "configure": "", "write": ".*", "read": "" }
    ]
}"#;

/// A broker of a test's own, started as by `.ci/services`.
async fn own(configuration: &str) -> Program {
    let command = |folder: &Path, port: u16| {
        let definitions = folder.join("definitions.json");
        let configuration = format!("load_definitions = {}\n{configuration}", definitions.display());
        for (path, text) in [
            (definitions.as_path(), DEFINITIONS),
            (&folder.join("rabbitmq.conf"), &configuration),
            (&folder.join("plugins"), "[rabbitmq_auth_mechanism_ssl]."),
        ] {
            fs::write(path, text).unwrap();
        }
        // Debian's wrapper runs the server as a user of its own, with that user's folders.
        let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        command.env("HOME", folder).env("RABBITMQ_NODENAME", format!("linxo-test-{port}@localhost"));
        command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1").env("RABBITMQ_NODE_PORT", port.to_string());
        command.env("RABBITMQ_DIST_PORT", free_port().unwrap().to_string());
        for (variable, name) in [
            ("MNESIA_BASE", "data"),
            ("LOG_BASE", "log"),
            ("PID_FILE", "pid"),
            ("ENABLED_PLUGINS_FILE", "plugins"),
            ("CONFIG_FILE", "rabbitmq"),
        ] {
            command.env(format!("RABBITMQ_{variable}"), folder.join(name));
        }
        // It is a script that starts the server.
        command.process_group(0);
        command
    };
    Program::start(&env::temp_dir(), command).await.expect("RabbitMQ is installed (see CONTRIBUTING.md)")
}

#[async_trait]
impl Place for Queue {
    async fn open() -> (Box<dyn Sink>, Self) {
        let queue = Self::new(&[]).await;
        (Box::new(sink(&settings(&queue.server, &queue.name, "{connection}"))), queue)
    }

    async fn arrived(self, _: Box<dyn Sink>) -> Vec<(String, Vec<u8>)> {
        let messages = self.messages().await;
        self.remove().await;
        messages
            .iter()
            .map(|(.., document)| contract::parsed(std::str::from_utf8(document).unwrap()).unwrap())
            .collect()
    }

    fn written(body: &[u8]) -> Vec<u8> {
        event::compact(body)
    }
}

contract!(Queue);
