//! `listen` and `send`, as a developer of a consumer uses them: no file is written by hand, and none is left behind.

use crate::support::{Endpoint, LIMIT, Site, eventually};
use base::secret::Secret;
use delivery::kinds::http::KNOWN_SECRET;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// A running `listen`; it is killed when this value is dropped.
struct Listen {
    child: Child,
    said: Arc<Mutex<String>>,
    told: Arc<Mutex<String>>,
}

/// A command of the true program whose temporary files are below a folder of the site.
fn command(site: &Site, arguments: &[&str]) -> Command {
    let temporary = site.path("tmp");
    fs::create_dir_all(&temporary).unwrap();
    let mut command = site.default_command(arguments);
    command.env("TMPDIR", temporary).env_remove("WEBHOOK_SECRET");
    command
}

fn follow(stream: impl AsyncRead + Unpin + Send + 'static) -> Arc<Mutex<String>> {
    let text: Arc<Mutex<String>> = Arc::default();
    let kept = Arc::clone(&text);
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut text = kept.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}

impl Listen {
    /// Starts it, and waits until it says what to type.
    async fn start(site: &Site, options: &[&str]) -> Self {
        let mut child = command(site, &[&["listen"], options].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = follow(child.stdout.take().unwrap());
        let told = follow(child.stderr.take().unwrap());
        let this = Self { child, said, told };
        eventually("listen says what to type", async || this.told().contains("Ctrl-C ends it").then_some(())).await;
        this
    }

    /// Standard output.
    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Standard error.
    fn told(&self) -> String {
        self.told.lock().unwrap().clone()
    }

    /// Waits for the lines below the header.
    async fn lines(&self, number: usize) -> Vec<String> {
        eventually("a line for each attempt", async || {
            let lines: Vec<String> = self.said().lines().skip(1).map(str::to_owned).collect();
            (lines.len() >= number).then_some(lines)
        })
        .await
    }

    async fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap(), signal).unwrap();
        timeout(LIMIT, self.child.wait()).await.expect("it ends").unwrap().code()
    }
}

async fn send(site: &Site, options: &[&str]) -> (i32, String, String) {
    let run = command(site, &[&["send"], options].concat()).output();
    let Output { status, stdout, stderr } = timeout(LIMIT, run).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().count() == 0
}

/// From nothing to an own event delivered, and back to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_ones_own_reaches_the_application_and_nothing_is_left() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let site = Site::new();
        let application = Endpoint::start(|_| Some(200)).await;
        let url = format!("http://{}/linxo", application.address);
        let listen = Listen::start(&site, &["--forward-to", &url]).await;
        let told = listen.told();
        assert!(told.contains(&format!("WEBHOOK_SECRET={KNOWN_SECRET}")) && told.contains(&url), "{told}");

        let (code, said, told) = send(&site, &["--case", "truncated"]).await;
        assert_eq!(code, 0, "{said}{told}");
        assert!(told.contains("to the `listen` that runs on this machine"), "{told}");
        for part in ["truncated: 150 accounts are announced", "200 accepted", "150 fetched", "app: done, 1 attempt"] {
            assert!(said.contains(part), "no {part} in:\n{said}");
        }
        let received = application.attempts();
        assert_eq!((received.len(), received[0].header("ce-linxoaccounts")), (1, "150"));
        let signature = delivery::sign(
            &Secret::new(KNOWN_SECRET.to_owned()),
            received[0].header("webhook-id"),
            received[0].header("webhook-timestamp"),
            &received[0].body,
        );
        assert_eq!(signature.as_deref(), Some(received[0].header("webhook-signature")));
        let lines = listen.lines(1).await;
        assert!(lines[0].contains(received[0].header("webhook-id")) && lines[0].ends_with("taken (2xx)"), "{lines:?}");
        assert!(lines[0].contains("150 fetched"), "{lines:?}");

        assert_eq!(listen.end(signal).await, Some(0));
        assert!(is_empty(&site.path("tmp")), "nothing is left behind after {signal:?}");
        assert!(!site.path("data").exists());
    }
}

/// What every case promises of its deliveries is so.
#[tokio::test(flavor = "multi_thread")]
async fn every_case_is_delivered_as_it_says() {
    let site = Site::new();
    let application = Endpoint::start(|_| Some(200)).await;
    let url = format!("http://{}/linxo", application.address);
    let listen = Listen::start(&site, &["--forward-to", &url]).await;
    let (code, said, told) = send(&site, &["--case", "all", "--wait", "25s", "--json"]).await;
    assert_eq!(code, 0, "{said}{told}");
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let entries = report["entries"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["state"] == "done"), "{said}");
    let posts = report["posts"].as_array().unwrap();
    assert_eq!(posts.len(), entries.len() + 1, "the repeat is stored once");

    let received = application.attempts();
    assert_eq!(received.len(), entries.len());
    // Of a case, what its deliveries say of their accounts: number, origin, mismatch.
    let of = |case: &str| {
        let part = format!("-{case}");
        let ids =
            |id: &str| id.ends_with(&part) || id.contains(&format!("{part}-")) || id.contains(&format!("{part}~"));
        let found = received.iter().filter(|delivery| ids(delivery.header("webhook-id")));
        found
            .map(|delivery| {
                let text = |name| delivery.header(name).to_owned();
                (text("ce-linxoaccounts"), text("ce-linxocompletion"), text("ce-linxomismatch"))
            })
            .collect::<Vec<_>>()
    };
    let says = |accounts: &str, completion: &str, mismatch: &str| {
        (accounts.to_owned(), completion.to_owned(), mismatch.to_owned())
    };
    assert_eq!(of("new-transactions"), [says("2", "event", "")]);
    assert_eq!(of("two-channels"), vec![says("3", "event", ""); 2]);
    assert_eq!(of("truncated"), [says("150", "api", "")]);
    assert_eq!(of("large"), [says("3000", "api", "")]);
    assert_eq!(of("no-accounts"), [says("0", "event", "")]);
    assert_eq!(of("account-closed"), [says("3", "event", ""), says("2", "event", "")]);
    assert_eq!(of("duplicate"), [says("2", "event", "")]);
    assert_eq!(of("same-id-other-content"), [says("2", "event", ""), says("102", "api", "")]);
    assert_eq!(of("mismatch"), [says("150", "api", "true")]);
    assert_eq!(of("gone"), [says("0", "gone", "true")]);
    let kinds: Vec<&str> =
        received.iter().map(|delivery| delivery.header("ce-type")).filter(|kind| !kind.ends_with("updated")).collect();
    assert_eq!(kinds, ["com.linxo.transactions.created"]);
    let large = received.iter().map(|delivery| delivery.body.len()).max().unwrap();
    assert!(large > 1024 * 1024, "{large}");
    drop(listen);
}

/// What the application answers is shown, with the next try; a secret of one's own is used and not shown.
#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_has_a_line_and_an_own_secret_stays_one() {
    let site = Site::new();
    let mut answers = [500, 200].into_iter();
    let application = Endpoint::start(move |_| Some(answers.next().unwrap_or(200))).await;
    let url = format!("http://{}/linxo", application.address);
    let (newer, older) =
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDDVkTHDbtZPg=");
    fs::write(site.path("own"), format!("{newer}\n{older}\n")).unwrap();
    let own = site.path("own").display().to_string();
    let listen = Listen::start(&site, &["--forward-to", &url, "--secret-file", &own]).await;
    assert!(listen.told().contains(&format!("the secret in {own}")) && !listen.told().contains("whsec_"));
    // It does not wait for what is tried later.
    let (code, said, told) = send(&site, &["--wait", "0s"]).await;
    assert!(code == 0 && said.contains("200 accepted"), "{said}{told}");
    let lines = listen.lines(2).await;
    assert!(lines[0].contains("the endpoint answered 500 Internal Server Error"), "{lines:?}");
    assert!(lines[0].contains("; next try in "), "{lines:?}");
    assert!(lines[1].ends_with("taken (2xx)"), "{lines:?}");
    let attempt = |line: &str| line.split_whitespace().nth(4).unwrap().to_owned();
    assert_eq!([attempt(&lines[0]), attempt(&lines[1])], ["1", "2"]);
    assert!(!listen.said().contains('\u{1b}'), "no colours where no terminal is");

    let received = application.attempts();
    let signatures: Vec<&str> = received[0].header("webhook-signature").split(' ').collect();
    let signed = |secret: &str| {
        let secret = Secret::new(secret.to_owned());
        let (id, timestamp) = (received[0].header("webhook-id"), received[0].header("webhook-timestamp"));
        delivery::sign(&secret, id, timestamp, &received[0].body).unwrap()
    };
    assert_eq!(signatures, [signed(newer), signed(older)]);

    // Who runs two must say which one is meant.
    let another = Listen::start(&site, &["--forward-to", &url]).await;
    let (code, _, told) = send(&site, &[]).await;
    assert!(code == 64 && told.contains("several `listen` run") && told.contains("--config "), "{told}");
    assert_eq!(another.end(Signal::TERM).await, Some(0));
    let (code, ..) = send(&site, &[]).await;
    assert_eq!(code, 0);
}

/// What cannot work is said at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_listen_cannot_do_is_said() {
    let site = Site::new();
    fs::write(site.path("weak"), "whsec_short").unwrap();
    let weak = site.path("weak").display().to_string();
    let local = ["--forward-to", "http://localhost:1/linxo"];
    for (options, part) in [
        (vec![], "--forward-to <URL>"),
        (vec!["--forward-to", "http://app.internal/linxo"], "is not encrypted"),
        (vec!["--forward-to", "localhost:3000"], "http"),
        ([&local[..], &["--secret-file", &weak]].concat(), "openssl rand -base64 32"),
        ([&local[..], &["--secret-file", "none"]].concat(), "cannot read none"),
    ] {
        let run = command(&site, &[&["listen"], &options[..]].concat()).output();
        let Output { status, stderr, .. } = timeout(LIMIT, run).await.expect("it ends").unwrap();
        let told = String::from_utf8(stderr).unwrap();
        assert!(status.code() == Some(64) && told.contains(part), "{options:?}: {told}");
    }
    assert!(is_empty(&site.path("tmp")));
    let (code, said, _) = send(&site, &["--case", "list"]).await;
    assert!(code == 0 && said.lines().count() > 10 && said.contains("two-channels"), "{said}");
    let (code, _, told) = send(&site, &["--case", "nope"]).await;
    assert!(code == 64 && told.contains("possible values: new-transactions"), "{told}");
}
