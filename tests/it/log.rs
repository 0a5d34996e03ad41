//! The log of the true program: what a reader that stops, and a panic, do not do to it.

use crate::support::{LIMIT, Site, event_json, eventually};
use linxo_webhook::{
    config::{Level, Log, LogFormat},
    observe::log,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{env, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{ChildStderr, Command},
    time::timeout,
};

/// The next line, which is one JSON object.
async fn line(log: &mut BufReader<ChildStderr>) -> Value {
    let mut line = String::new();
    timeout(LIMIT, log.read_line(&mut line)).await.expect("a line in time").unwrap();
    assert!(line.len() < 8 * 1024, "a line of {} bytes", line.len());
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
}

/// Megabytes that a process has held at most.
fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_no_event_and_takes_no_memory() {
    const EVENTS: usize = 4000;
    let mut site = Site::new();
    site.file_sink("file");
    site.set("log.level", "\"trace\"");
    let mut command = site.command(&["serve"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let address = loop {
        let line = line(&mut log).await;
        if line["message"] == "listening" {
            break line["address"].as_str().unwrap().parse().unwrap();
        }
    };
    // From here on nobody reads. Ids are as long as they may be, so that the lines are.
    let door = site.door(address);
    let mut client = door.connect().await;
    let padding = "x".repeat(240);
    // A pipe takes 64 KiB, and the queue before it 2 MiB: more lines than both can take, of which none may wait.
    for number in 0..EVENTS {
        let answer = client.post(event_json(&format!("{padding}{number}"), &padding, 1, false)).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let peak = peak_memory(id);
    assert!(peak < 150, "{peak} MiB");

    // When somebody reads again, the log goes on, and says what it left out.
    let dropped = loop {
        let line = line(&mut log).await;
        if line["message"] == "log lines were dropped: standard error did not keep up" {
            break line["lines"].as_u64().unwrap();
        }
    };
    assert!(dropped > 0);
    kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
    // Not even the end waits for a reader.
    let status = timeout(LIMIT, child.wait()).await.expect("it ends in time").unwrap();
    assert_eq!(status.code(), Some(0));
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).await.unwrap();
    assert_eq!(output, "", "standard output is not the log's");
}

/// Says to this test, when it is run in a process of its own, that it shall panic, and with what log.
const PANIC: &str = "LINXO_TEST_PANICS_WITH_LOG";

#[tokio::test]
async fn a_panic_is_told_by_its_place_and_without_its_message() {
    if let Some(with_log) = env::var_os(PANIC) {
        log::note_panics();
        let log = Log { format: LogFormat::Json, level: Level::Info };
        let _log = (with_log == "yes").then(|| log::start(&log).unwrap());
        panic!("canary: what somebody sent");
    }
    for with_log in ["yes", "no"] {
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "log::a_panic_is_told_by_its_place_and_without_its_message", "--nocapture"])
            .env(PANIC, with_log)
            .output()
            .await
            .unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.contains("canary"), "{text}");
        let told = text.lines().find(|line| line.contains("panicked: this is a defect")).unwrap();
        assert!(told.contains("tests/it/log.rs:"), "{told}");
        if with_log == "yes" {
            let line: Value = serde_json::from_str(told).unwrap();
            assert_eq!((&line["level"], &line["target"]), (&"ERROR".into(), &"linxo_webhook::observe::log".into()));
        }
    }
}

/// What a person must act upon is said, also where no work was ever begun.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_parked_from_the_beginning_is_an_error_in_the_log() {
    let mut site = Site::new();
    site.file_sink("file");
    let process = site.spawn().await;
    let whole = event_json("whole", "7", 1, false);
    let unclear = event_json("unclear", "7", 50, true).replace("\"account_count\":50", "\"account_count\":\"fifty\"");
    assert!(unclear.contains("fifty"), "{unclear}");
    for event in [whole, unclear] {
        assert_eq!(process.door.post(event).await.status, 200);
    }
    eventually("it is said", async || process.output().contains("event_parked").then_some(())).await;
    let output = process.output();
    let said: Vec<&str> = output.lines().filter(|line| line.contains("event_parked")).collect();
    assert!(
        said.len() == 1 && said[0].contains("\"event.id\":\"unclear\"") && said[0].contains("cannot be understood"),
        "{said:?}"
    );
    assert!(said[0].contains("\"level\":\"ERROR\""), "{said:?}");
    process.kill().await;
}
