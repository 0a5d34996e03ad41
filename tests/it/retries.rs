//! How often, and for how long, what failed is tried again before a person is asked.

use crate::{
    support::{self, Site, event_json, eventually, inbox_at, new_entry},
    support_api::{Service, assert_complete, connection, truncated, until},
};
use base::clock::Timestamp;
use double::{Fault, Rule, Script, Settings, Target};
use inbox::{Access, Filter, Inbox, Outcome, SinkName, Stage, StageView, State};
use rusqlite::Connection;
use std::path::Path;

fn always(fault: Fault) -> Script {
    Script::of([Rule::always(double::Endpoint::Accounts, fault)])
}

const DOWN: Fault = Fault::Status { status: 503, retry_after: None, html: false };
const ELSEWHERE: Fault = Fault::Redirect { to: Target::Other, location: None };

/// Accepts an event whose work of this stage has failed six times, each time for the lack of an answer.
async fn failed_six_times(path: &Path, sink: &str, json: &str, stage: Stage) {
    let inbox = inbox::open(&inbox_at(path), &[SinkName::new(sink)], Access::Owner).unwrap();
    let receipt = inbox.intake.accept(new_entry(json)).await.unwrap();
    inbox.intake.fate(&receipt).await.unwrap();
    for _ in 0..6 {
        let lease = inbox.queue.claim(&stage, 1, std::time::Duration::from_mins(1)).await.unwrap().leases.remove(0);
        let due = Timestamp::from_millis(0);
        let outcome = Outcome::Retry { due, reason: "503".to_owned(), is_doubtful: false };
        inbox.queue.settle(&[(&lease, outcome)]).await.remove(0).unwrap();
    }
    inbox.upkeep.close().await;
}

/// Makes the run of doubtful failures of the one entry longer by some hours, and its next try due.
fn age_doubts(path: &Path, tries: u32, hours: i64) {
    let sql = "UPDATE stage SET doubts = ?1, doubts_since = doubts_since - ?2, due = 0 WHERE kind = 0 AND doubts > 0";
    assert_eq!(Connection::open(path).unwrap().execute(sql, (tries, hours * 3_600_000)).unwrap(), 1);
}

async fn first_stage(inbox: &Inbox) -> StageView {
    inbox.desk.list(&Filter::default(), 1).await.unwrap().remove(0).stages.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_doubt_is_believed_after_some_in_a_row_over_some_time() {
    for (fault, hours, reason) in [(ELSEWHERE, 1, "a redirect"), (Fault::Html, 24, "is not a list of accounts")] {
        let settings =
            Settings { connections: vec![connection("7", 150)], script: always(fault), ..Settings::default() };
        let mut service = Service::set(settings, "").await;
        let path = service.path("inbox.db");
        failed_six_times(&path, "lines", &truncated("7", 150), Stage::ACCOUNTS).await;
        service.run().await;
        let asked_again = async |attempts| {
            let stage = first_stage(&service.running().inbox).await;
            (stage.state == State::Waiting && stage.attempts == attempts).then(|| stage.reason.unwrap())
        };
        let waits_for = until("the first doubt", async || asked_again(7).await).await;
        assert!(waits_for.contains(reason), "{waits_for}");
        age_doubts(&path, 9, hours - 1);
        until("many doubts in a short time", async || asked_again(8).await).await;
        age_doubts(&path, 2, 2);
        until("few doubts in a long time", async || asked_again(9).await).await;
        age_doubts(&path, 4, 0);
        let parked = service.parked(1).await.remove(0);
        assert!(parked.contains(reason) && parked.contains("; given up after 10 attempts in "), "{parked}");
        assert!(service.deliveries().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_sink_after_an_outage_is_the_first_of_some() {
    let endpoint = support::Endpoint::start(|_| Some(404)).await;
    let mut site = Site::new();
    site.http_sink("app", &endpoint.url());
    let config = site.config();
    let path = config.inbox.file().unwrap();
    failed_six_times(path, "app", &event_json("e", "7", 1, false), Stage::deliver("app")).await;
    let service = site.start().await;
    let stage = eventually("a seventh try", async || {
        let stage = first_stage(&service.running.inbox).await;
        (stage.attempts == 7 && stage.state != State::Leased).then_some(stage)
    })
    .await;
    assert_eq!(stage.state, State::Waiting, "{stage:?}");
    assert!(stage.reason.unwrap().contains("404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_had_is_given_up_in_the_end_and_says_what_to_do() {
    for (fault, what, remedy) in [
        (DOWN, "answered 503", "when it answers again, replay"),
        (Fault::Reset, "could not be reached", "when it answers again, replay"),
        (Fault::Html, "is not a list of accounts", "ask the vendor about these answers, then replay"),
        (ELSEWHERE, "a redirect", "check the [linxo] section, then replay"),
        (Fault::Unauthorized, "answered 401", "replayed when they change"),
    ] {
        let settings =
            Settings { connections: vec![connection("7", 150)], script: always(fault), ..Settings::default() };
        let service = Service::start(settings, "retry_for = \"1s\"").await;
        service.accept(&truncated("7", 150)).await;
        let reason = service.parked(1).await.remove(0);
        let is_right = reason.contains("; given up after ") && reason.ends_with(remedy);
        assert!(is_right && (reason.contains(what) || what.starts_with("could")), "{reason}");
        // Behind it the line goes on.
        service.simulator.script(Script::default());
        service.accept(&event_json("later", "7", 150, true)).await;
        assert_complete(&service.simulator, &service.delivered(1).await[0]);
    }
}
