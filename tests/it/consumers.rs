//! The consumers in `examples/`, as whoever writes the other end of a delivery would run them: each behind the real service, and
//! before somebody who forges.

use crate::{
    readme::root,
    support::{LIMIT, Service, Site, event_json, eventually, secrets},
};
use base::{clock, secret::Secret};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Another secret, to which the service changes or which a forger uses.
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One of the examples.
#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    TypeScript,
    Rust,
}

impl Language {
    /// How it is started. What cannot be started as it is, is made ready below `folder`.
    async fn command(self, folder: &Path) -> Command {
        let source = |name: &str| root().join("examples").join(name);
        match self {
            Self::Python => {
                let mut command = Command::new("python3");
                command.arg(source("consumer.py"));
                command
            }
            Self::TypeScript => {
                let file = javascript(&source("consumer.ts"), folder).await;
                let mut command = Command::new("node");
                command.arg(file);
                command
            }
            Self::Rust => Command::new(built().await),
        }
    }
}

/// The program without its types. Node.js takes them out by itself from 22.18 on.
async fn javascript(source: &Path, folder: &Path) -> PathBuf {
    let version = output(Command::new("node").arg("--version")).await;
    let mut parts = version.trim().trim_start_matches('v').split('.').map_while(|part| part.parse::<u32>().ok());
    if (parts.next(), parts.next()) >= (Some(22), Some(18)) {
        return source.to_owned();
    }
    let file = folder.join("consumer.mjs");
    fs::write(&file, output(Command::new("esbuild").arg(source)).await).unwrap();
    file
}

/// The example's program, as it is now: `cargo test --test it` alone does not build it.
async fn built() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_linxo-webhook"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--workspace", "--example", "consumer"]).current_dir(root());
    let built = timeout(LIMIT * 20, cargo.output()).await.expect("it is built in time").unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program.with_file_name("examples").join("consumer")
}

async fn output(command: &mut Command) -> String {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.output().await.unwrap_or_else(|error| {
        panic!("{name}: {error}; the examples' tests need python3, nodejs and esbuild, which Debian has")
    });
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A running consumer; it is killed when this value is dropped.
struct Consumer {
    child: Child,
    url: String,
    said: Arc<Mutex<Vec<String>>>,
}

impl Consumer {
    async fn start(language: Language, folder: &Path, listen: &str) -> Self {
        let secret = folder.join("secret");
        fs::write(&secret, format!("{}\n", secrets::SIGNING)).unwrap();
        let mut command = language.command(folder).await;
        command
            .env("WEBHOOK_SECRET_FILE", &secret)
            .env("LISTEN", listen)
            .env("DATABASE", folder.join("database"))
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{language:?}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(LIMIT, lines.next_line()).await.expect("it starts").unwrap().unwrap_or_default();
        let url = first.strip_prefix("listening on ").unwrap_or_else(|| panic!("{language:?}: {first}")).to_owned();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, url, said }
    }

    /// Posts a delivery, signed at a time by these secrets; returns the status.
    async fn post(&self, id: &str, at: i64, keys: &[&str]) -> u16 {
        let body = event_json(id, "7", 1, false);
        let timestamp = at.to_string();
        let sign =
            |key: &&str| delivery::sign(&Secret::new((*key).to_owned()), id, &timestamp, body.as_bytes()).unwrap();
        let signatures: Vec<String> = keys.iter().map(sign).collect();
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
        let request = client
            .post(&self.url)
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp)
            .header("ce-type", "com.linxo.connections.updated")
            .header("ce-subject", "7");
        let request = if keys.is_empty() { request } else { request.header("webhook-signature", signatures.join(" ")) };
        request.body(body).send().await.unwrap().status().as_u16()
    }

    /// Waits until it has said what became of so many deliveries of an id.
    async fn said_of(&self, id: &str, number: usize) -> Vec<String> {
        eventually("the consumer says what became of a delivery", async || {
            let said = self.said.lock().unwrap().clone();
            let of: Vec<String> = said.into_iter().filter(|line| line.contains(id)).collect();
            (of.len() >= number).then_some(of)
        })
        .await
    }

    /// Ends it as a supervisor does; returns its status, and its address for the next one.
    async fn stop(mut self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = timeout(LIMIT, self.child.wait()).await.expect("it ends").unwrap();
        let address = self.url.trim_start_matches("http://").trim_end_matches("/linxo").to_owned();
        (status.code(), address)
    }
}

/// Replays an entry that was delivered, so that it is delivered again.
async fn replay(site: &Site, id: &str) {
    let output = site.run(&["inbox", "replay", "--id", id]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What every consumer must do.
async fn takes_each_delivery_once_and_refuses_forged_ones(language: Language) {
    let folder = tempfile::tempdir().unwrap();
    let consumer = Consumer::start(language, folder.path(), "127.0.0.1:0").await;

    // The real service.
    let mut site = Site::new();
    site.http_sink("app", &consumer.url);
    let service: Service = site.start().await;
    service.door.accept(event_json("first", "7", 3, false)).await;
    let said = consumer.said_of("first", 1).await;
    assert!(said[0].starts_with("200 ") && said[0].ends_with(" 3 accounts"), "{language:?}: {said:?}");
    service.settled().await;
    replay(&site, "first").await;
    let said = consumer.said_of("first", 2).await;
    assert!(said[1].starts_with("200 ") && said[1].ends_with(" repeat"), "{language:?}: {said:?}");

    // Somebody else.
    let now = clock::now().as_seconds();
    assert_eq!(consumer.post("forged", now, &[OTHER]).await, 401, "{language:?}");
    assert_eq!(consumer.post("unsigned", now, &[]).await, 401, "{language:?}");
    assert_eq!(consumer.post("old", now - 400, &[secrets::SIGNING]).await, 401, "{language:?}");
    assert_eq!(consumer.post("early", now + 400, &[secrets::SIGNING]).await, 401, "{language:?}");
    // During a change of secret.
    assert_eq!(consumer.post("changed", now, &[OTHER, secrets::SIGNING]).await, 200, "{language:?}");
    // What was refused left no trace: it is taken when it is signed.
    assert_eq!(consumer.post("forged", now, &[secrets::SIGNING]).await, 200, "{language:?}");
    let said = consumer.said_of("forged", 2).await;
    assert!(said[1].ends_with(" 1 accounts"), "{language:?}: {said:?}");

    // It remembers what it took.
    let (status, address) = consumer.stop().await;
    assert_eq!(status, Some(0), "{language:?}");
    let consumer = Consumer::start(language, folder.path(), &address).await;
    service.settled().await;
    replay(&site, "first").await;
    let said = consumer.said_of("first", 1).await;
    assert!(said[0].ends_with(" repeat"), "{language:?}: {said:?}");
    service.door.accept(event_json("second", "7", 2, false)).await;
    let said = consumer.said_of("second", 1).await;
    assert!(said[0].ends_with(" 2 accounts"), "{language:?}: {said:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_in_python() {
    takes_each_delivery_once_and_refuses_forged_ones(Language::Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_in_typescript() {
    takes_each_delivery_once_and_refuses_forged_ones(Language::TypeScript).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_in_rust() {
    takes_each_delivery_once_and_refuses_forged_ones(Language::Rust).await;
}
