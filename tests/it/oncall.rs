//! What the person on call looks at: `inbox stats`, `inbox tail`, `inbox show`, and lists of a span of time.

use crate::support::{Endpoint, LIMIT, Site, event_json, eventually};
use double::{Connection, Settings};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Child,
    time::timeout,
};

async fn run(site: &Site, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = timeout(LIMIT, site.run(arguments)).await.expect("it ends");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

async fn json(site: &Site, arguments: &[&str]) -> Value {
    let (code, said, told) = run(site, arguments).await;
    assert_eq!(code, 0, "{told}");
    serde_json::from_str(&said).unwrap()
}

/// A running `inbox tail`.
struct Tail {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Tail {
    fn start(site: &Site, arguments: &[&str]) -> Self {
        let mut command = site.command(&[&["inbox", "tail"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = collect(child.stdout.take().unwrap());
        let told = collect(child.stderr.take().unwrap());
        Self { child, said, told }
    }

    /// Waits for a line of standard output that a test likes.
    async fn line(&self, what: &str, is_meant: impl Fn(&str) -> bool) -> String {
        let found = eventually(what, async || self.said().into_iter().find(|line| is_meant(line))).await;
        assert_eq!(self.said().iter().filter(|line| **line == found).count(), 1, "said once");
        found
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Waits for a line of standard error.
    async fn told(&self, part: &str) {
        let is_told = || self.told.lock().unwrap().iter().any(|line| line.contains(part));
        eventually(part, async || is_told().then_some(())).await;
    }

    async fn end(mut self, signal: Signal) -> ExitStatus {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        timeout(LIMIT, self.child.wait()).await.expect("it ends").unwrap()
    }
}

fn collect(stream: impl AsyncRead + Unpin + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&lines);
    tokio::spawn(async move {
        let mut read = BufReader::new(stream).lines();
        while let Ok(Some(line)) = read.next_line().await {
            kept.lock().unwrap().push(line);
        }
    });
    lines
}

/// A sink that refuses what is about the connection `bad`.
async fn picky() -> Endpoint {
    Endpoint::start(|received| Some(if received.header("ce-subject") == "bad" { 410 } else { 200 })).await
}

/// A truncated event, a sink that parks and one that takes everything: each thing that happens is one line, also across a
/// restart of the service.
#[tokio::test(flavor = "multi_thread")]
async fn tail_tells_what_happens_across_a_restart() {
    let endpoint = picky().await;
    let mut site = Site::new();
    site.http_sink("app", &endpoint.url());
    let connections = vec![Connection { id: "7".to_owned(), user: "u7".to_owned(), accounts: 3 }];
    let _simulator = site.simulator(Settings { connections, ..Settings::default() }).await;
    let tail = Tail::start(&site, &["--json"]);
    tail.told("no service runs on this inbox: waiting for one").await;
    let service = site.start().await;
    tail.told("a service runs").await;
    service.door.accept(event_json("e1", "7", 3, true)).await;
    service.door.accept(event_json("e2", "bad", 1, false)).await;
    let of = |id: &'static str, what: &'static str| {
        move |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["delivery_id"] == id && line["what"] == what
        }
    };
    for (id, what) in [("e1", "accepted"), ("e1", "completed"), ("e1", "delivered"), ("e2", "accepted")] {
        tail.line(&format!("{id} {what}"), of(id, what)).await;
    }
    let parked: Value = serde_json::from_str(&tail.line("e2 parked", of("e2", "parked")).await).unwrap();
    assert_eq!((&parked["stage"], &parked["connection_id"]), (&"app".into(), &"bad".into()));
    assert!(parked["reason"].as_str().unwrap().contains("410"), "{parked}");
    service.stop().await;
    tail.told("the service has ended").await;
    let service = site.start().await;
    service.door.accept(event_json("e3", "8", 1, false)).await;
    tail.line("e3 delivered", of("e3", "delivered")).await;
    tail.line("e3 accepted", of("e3", "accepted")).await;
    assert_eq!(tail.end(Signal::INT).await.code(), Some(0), "ended by ctrl-c");
    service.stop().await;
}

/// Filters leave lines out at the service; what happened before is told as far as it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn tail_tells_what_is_asked_for() {
    let endpoint = picky().await;
    let mut site = Site::new();
    site.http_sink("app", &endpoint.url());
    site.file_sink("lines");
    let service = site.start().await;
    for (id, connection) in [("e1", "7"), ("e2", "bad"), ("e3", "8")] {
        service.door.accept(event_json(id, connection, 1, false)).await;
        service.settled().await;
    }
    for (arguments, expected) in [
        (&["--state", "parked"][..], &[("e2", "parked")][..]),
        (&["--connection", "7", "--state", "done"], &[("e1", "delivered"), ("e1", "delivered")]),
        (&["--sink", "app"], &[("e1", "delivered"), ("e2", "parked"), ("e3", "delivered")]),
        (&["--connection", "bad", "--state", "accepted", "--state", "parked"], &[("e2", "accepted"), ("e2", "parked")]),
    ] {
        let tail = Tail::start(&site, &[arguments, &["--last", "100", "--json"]].concat());
        eventually("the lines", async || (tail.said().len() >= expected.len()).then_some(())).await;
        let line = |line: &String| serde_json::from_str::<Value>(line).unwrap();
        let found: Vec<Value> = tail.said().iter().map(line).collect();
        let found: Vec<_> =
            found.iter().map(|line| (line["delivery_id"].as_str().unwrap(), line["what"].as_str().unwrap())).collect();
        assert_eq!(found, expected, "{arguments:?}");
        assert_eq!(tail.end(Signal::TERM).await.code(), Some(0));
    }
    let tail = Tail::start(&site, &["--last", "1", "--state", "accepted"]);
    tail.line("e3", |line| line.contains("e3")).await;
    service.door.accept(event_json("e4", "9", 1, false)).await;
    let line = tail.line("e4", |line| line.contains("e4")).await;
    assert!(line.contains("  accepted ") && line.ends_with("  e4  connection 9"), "{line}");
    assert_eq!(tail.said().len(), 2, "the last of what happened before that is wanted, and what came");
    drop(tail);
    service.stop().await;
}

/// A reader that has left ends the command, although nothing happens that it could fail to write.
#[tokio::test(flavor = "multi_thread")]
async fn tail_ends_with_its_reader() {
    let mut site = Site::new();
    site.file_sink("lines");
    let service = site.start().await;
    let mut command = site.command(&["inbox", "tail"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = timeout(LIMIT, child.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    service.stop().await;
}

/// The figures are the same beside a service and without one, but for what only the service knows.
#[tokio::test(flavor = "multi_thread")]
async fn stats_tell_what_waits_and_what_fails() {
    let endpoint = Endpoint::start(|received| match received.header("ce-subject") {
        "bad" => Some(410),
        "slow" => Some(503),
        _ => Some(200),
    })
    .await;
    let mut site = Site::new();
    site.http_sink("app", &endpoint.url());
    site.file_sink("lines");
    let service = site.start().await;
    for (id, connection) in [("e1", "7"), ("e2", "bad"), ("e3", "slow")] {
        service.door.accept(event_json(id, connection, 1, false)).await;
    }
    let of = |stats: &Value, stage: &str| {
        stats["stages"].as_array().unwrap().iter().find(|found| found["stage"] == stage).unwrap().clone()
    };
    let stats = eventually("two of them failed", async || {
        let stats = json(&site, &["inbox", "stats", "--json"]).await;
        let app = of(&stats, "app");
        let is_done = app["parked"] == 1 && app["last_error"]["seq"] == 3 && app["waiting"] == 1;
        let lines = of(&stats, "lines");
        (is_done && lines["waiting"] == 0 && lines["leased"] == 0).then_some(stats)
    })
    .await;
    assert_eq!((&stats["is_running"], &stats["unfolded"], &stats["parked"]), (&true.into(), &0.into(), &1.into()));
    let app = of(&stats, "app");
    assert_eq!((&app["type"], &app["state"]), (&"http".into(), &"well".into()));
    assert!(app["last_error"]["reason"].as_str().unwrap().contains("503"), "{app}");
    assert_eq!(app["oldest_waiting"], stats["oldest_waiting"]);
    assert!(app["oldest_waiting"].is_string() && app["oldest_waiting_seconds"].is_u64(), "{app}");
    assert_eq!(of(&stats, "completion")["state"], "unconfigured", "there is no [linxo] section");
    assert_eq!(of(&stats, "lines")["last_error"], Value::Null);
    let (_, page, told) = run(&site, &["inbox", "stats"]).await;
    assert!(told.is_empty() && page.lines().any(|line| line.starts_with("app ") && line.contains("503")), "{page}");
    run(&site, &["sink", "pause", "app"]).await;
    assert_eq!(of(&json(&site, &["inbox", "stats", "--json"]).await, "app")["state"], "paused");
    service.stop().await;

    let alone = json(&site, &["inbox", "stats", "--json"]).await;
    assert_eq!((&alone["is_running"], &alone["unfolded"]), (&false.into(), &Value::Null));
    let (before, after) = (of(&stats, "app"), of(&alone, "app"));
    for figure in ["waiting", "leased", "parked", "oldest_waiting", "type"] {
        assert_eq!(before[figure], after[figure], "{figure}");
    }
    assert_eq!((&after["state"], &after["failing_since"]), (&"paused".into(), &Value::Null));
    assert!(after["last_error"]["reason"].as_str().unwrap().contains("503"), "it outlives the service");
    assert_eq!(of(&alone, "lines")["state"], "stopped");
    // A sink that is not configured any more, and has work, is not forgotten.
    let renamed = site.renamed("app", "other");
    renamed.start().await.stop().await;
    let app = of(&json(&renamed, &["inbox", "stats", "--json"]).await, "app");
    assert_eq!((&app["state"], &app["type"], &app["parked"]), (&"unconfigured".into(), &Value::Null, &1.into()));
}

/// One entry's story: from the request to what comes next, the same for people and for programs.
#[tokio::test(flavor = "multi_thread")]
async fn show_tells_the_story() {
    let endpoint = Endpoint::start(|_| Some(410)).await;
    let mut site = Site::new();
    site.http_sink("app", &endpoint.url());
    let connections = vec![Connection { id: "7".to_owned(), user: "u7".to_owned(), accounts: 120 }];
    let _simulator = site.simulator(Settings { connections, ..Settings::default() }).await;
    let service = site.start().await;
    service.door.accept(event_json("e1", "7", 120, true)).await;
    service.settled().await;
    let (code, ..) = run(&site, &["inbox", "replay", "--state", "parked", "--connection", "7", "--since", "1h"]).await;
    assert_eq!(code, 0);
    run(&site, &["inbox", "replay", "--connection", "8"]).await;
    eventually("it is parked again", async || {
        let entries = service.settled().await;
        (entries[0].attempts.len() == 2).then_some(())
    })
    .await;
    let story = json(&site, &["inbox", "show", "e1", "--json"]).await;
    let reading = &story["reading"];
    assert_eq!((&reading["pages"], &reading["accounts"]), (&2.into(), &120.into()), "{reading}");
    assert_eq!(reading["certainty"], "as_announced");
    let acts = story["acts"].as_array().unwrap();
    assert_eq!((acts.len(), &acts[0]["what"], &acts[0]["entries"]), (1, &"replay".into(), &1.into()), "{acts:?}");
    let next = &story["next"][0];
    assert_eq!((&next["stage"], story["next"].as_array().unwrap().len()), (&"app".into(), 1));
    assert!(next["what"].as_str().unwrap().contains("`inbox replay --seq 1 --sink app`"), "{next}");
    let (_, page, _) = run(&site, &["inbox", "show", "e1"]).await;
    let lines: Vec<&str> = page.lines().skip_while(|line| !line.starts_with("WHEN")).collect();
    let parts = [
        "request",
        "began to read the accounts",
        "120 accounts in 2 pages, as many as announced",
        "done, at attempt 1",
        "parked: ",
        "inbox replay --state parked --connection 7 --since ",
        "parked: ",
        "`inbox replay --seq 1 --sink app`",
    ];
    let mut rest = lines.iter();
    for part in parts {
        assert!(rest.any(|line| line.contains(part)), "no {part}, or not in this order, in:\n{page}");
    }
    assert!(!page.contains("balance"), "no bank data");
    service.stop().await;
}

/// `--since` and `--until` mean the time of acceptance.
#[tokio::test(flavor = "multi_thread")]
async fn commands_take_a_span_of_time() {
    let mut site = Site::new();
    site.file_sink("lines");
    let service = site.start().await;
    for n in 0..3 {
        service.door.accept(event_json(&format!("e{n}"), &n.to_string(), 1, false)).await;
    }
    service.door.post("nothing").await;
    let entries = service.settled().await;
    eventually("the refused request is kept", async || {
        (run(&site, &["inbox", "refused", "--json"]).await.1.lines().count() == 1).then_some(())
    })
    .await;
    service.stop().await;
    let file = rusqlite::Connection::open(site.path("data/inbox.db")).unwrap();
    // e0 came two days ago.
    file.execute("UPDATE entry SET accepted = accepted - 172800000 WHERE seq = 1", []).unwrap();
    file.execute("UPDATE refused SET at = at - 172800000", []).unwrap();
    drop(file);
    let second = entries[1].accepted.to_rfc3339().unwrap();
    let until = ["--until", second.as_str()];
    for (arguments, expected) in [
        (&["ls", "--json", "--since", "1h"][..], 2),
        (&["ls", "--json", "--until", "1d"], 1),
        (&["ls", "--json", "--since", "3d", until[0], until[1]], 1),
        (&["export", "--since", "1d 12h"], 2),
        (&["ls", "--json", "--since", "9d", "--until", "8d"], 0),
        (&["refused", "--json", "--since", "1d"], 0),
        (&["refused", "--json", "--until", "1d"], 1),
        // The export above was noted.
        (&["audit", "--json", "--since", "1h"], 1),
        (&["audit", "--json", "--until", "1h"], 0),
    ] {
        let (code, said, told) = run(&site, &[&["inbox"], arguments].concat()).await;
        assert_eq!((code, said.lines().count()), (0, expected), "{arguments:?}: {said}{told}");
    }
    let (_, _, told) = run(&site, &["inbox", "replay", "--until", "1d"]).await;
    assert!(told.contains("1 entry put back in line"), "{told}");
    let (_, _, told) = run(&site, &["inbox", "park", "--since", "1h"]).await;
    assert!(told.contains("0 entries parked"), "the other two are done: {told}");
    let (_, _, told) = run(&site, &["inbox", "purge", "--since", "1h", "--yes"]).await;
    assert!(told.contains("2 entries deleted"), "{told}");
}
