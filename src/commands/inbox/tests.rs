//! The `inbox` command: what it prints, and what it refuses.

use super::*;
use base::clock::Timestamp;
use bytes::Bytes;
use clap::Parser;
use event::{ChannelDefinitionId, ConnectionId, EventId, UserId};
use inbox::{AttemptView, Cause, DeliveryId, RefusedView, SinkName, Stage, StageView, State};

/// 2026-11-23T10:00:00Z and some seconds.
const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis((1_795_428_000 + seconds) * 1000)
}

fn stage(name: &str, state: State, reason: Option<&str>) -> StageView {
    StageView {
        stage: if name == "completion" { Stage::ACCOUNTS } else { Stage::deliver(name) },
        state,
        attempts: 3,
        due: (state == State::Waiting).then_some(at(300)),
        changed: at(1),
        cause: (state == State::Parked).then_some(Cause::Refused),
        reason: reason.map(str::to_owned),
        is_queued: false,
    }
}

fn entry(seq: i64, state: State, stages: Vec<StageView>) -> EntryView {
    EntryView {
        seq: Seq(seq),
        event_id: EventId::new("abc123456"),
        delivery_id: DeliveryId::new(if seq == 1 { "abc123456".to_owned() } else { format!("abc123456~{seq}") }),
        state,
        connection: ConnectionId::new("123"),
        user: (seq == 1).then(|| UserId::new("321")),
        channel: Some(ChannelDefinitionId::new("24601")),
        event_type: "UPDATED".to_owned(),
        resource_type: "CONNECTIONS".to_owned(),
        accepted: at(0),
        account_count: Some(102),
        listed: 0,
        fetched: (state == State::Done).then_some(102),
        conflict: seq != 1,
        drift: None,
        bytes: 1193,
        sender: Some(r#"{"peer":"192.0.2.7:5000"}"#.to_owned()),
        stages,
        attempts: Vec::new(),
    }
}

#[test]
fn lists_entries_in_columns() {
    let entries = [
        entry(
            2,
            State::Parked,
            vec![
                stage("completion", State::Parked, Some("the API answered 404 Not Found for the connection")),
                stage("app", State::Waiting, None),
            ],
        ),
        entry(1, State::Done, vec![stage("completion", State::Done, None), stage("app", State::Done, None)]),
    ];
    insta::assert_snapshot!(view::table(&entries, view::Width::Terminal), @r#"
    NUMBER  STATE   ACCEPTED              ID           CONNECTION  USER  ACCOUNTS     WORK
    2       parked  2026-11-23T10:00:00Z  abc123456~2  123         -     0 of 102     completion parked: the API answered 404 Not Fou…
                                                                                      app waiting
    1       done    2026-11-23T10:00:00Z  abc123456    123         321   102 fetched  -
    "#);
    assert_eq!(view::table(&[], view::Width::Terminal), "no entries\n");
}

#[test]
fn text_from_outside_cannot_move_the_cursor() {
    let mut hostile = entry(1, State::Parked, vec![stage("app", State::Parked, Some("\u{1b}[2J\r\nforged"))]);
    hostile.connection = ConnectionId::new("1\u{202e}2\0");
    for shown in [view::page(&hostile), view::table(&[hostile.clone()], view::Width::Terminal)] {
        assert!(!shown.contains(['\u{1b}', '\r', '\0', '\u{202e}']), "{shown}");
        assert!(shown.contains("\\u{1b}[2J"), "{shown}");
    }
}

#[test]
fn shows_everything_about_an_entry() {
    let stages = vec![
        stage("completion", State::Done, None),
        stage("app", State::Waiting, Some("the endpoint answered 500 Internal Server Error")),
    ];
    insta::assert_snapshot!(view::page(&entry(2, State::Waiting, stages)), @r#"
    number        2
    state         waiting
    event id      abc123456
    delivered as  abc123456~2
    type          CONNECTIONS UPDATED
    connection    123
    user          -
    channel       24601
    accepted      2026-11-23T10:00:00Z
    bytes         1193
    accounts      0 of 102
    conflict      another entry with other content came first under this event id
    sender        {"peer":"192.0.2.7:5000"}

    WORK        STATE    ATTEMPTS  CHANGED               DUE                   REASON
    completion  done     3         2026-11-23T10:00:01Z  -                     -
    app         waiting  3         2026-11-23T10:00:01Z  2026-11-23T10:05:00Z  the endpoint answered 500 Internal Server Error
    "#);
}

#[test]
fn shows_what_became_of_earlier_attempts() {
    let mut replayed = entry(1, State::Waiting, vec![stage("app", State::Waiting, None)]);
    let attempt = |seconds, state, reason: Option<&str>| AttemptView {
        stage: Stage::deliver("app"),
        at: at(seconds),
        state,
        reason: reason.map(str::to_owned),
    };
    replayed.attempts =
        vec![attempt(1, State::Waiting, Some("the endpoint answered 503")), attempt(2, State::Done, None)];
    let page = view::page(&replayed);
    let (_, earlier) = page.split_once("\nEARLIER").unwrap();
    insta::assert_snapshot!(format!("EARLIER{earlier}"), @r#"
    EARLIER               WORK  ENDED    REASON
    2026-11-23T10:00:01Z  app   waiting  the endpoint answered 503
    2026-11-23T10:00:02Z  app   done     -
    "#);
}

#[test]
fn lists_refused_requests() {
    let request = RefusedView {
        number: 3,
        at: at(0),
        reason: "not_json".to_owned(),
        status: 400,
        bytes: Some(2009),
        sender: serde_json::json!({ "peer": "192.0.2.7:5000", "certificate": { "subject": "CN=Linxo\u{1b}[2J" } })
            .to_string(),
        start: Some(Bytes::from("{\"id\":\u{202e}\r\n")),
    };
    let other = RefusedView { number: 2, bytes: None, sender: "?".to_owned(), start: None, ..request.clone() };
    let requests = [request, other];
    insta::assert_snapshot!(view::refused(&requests, true, view::Width::Terminal), @r#"
    NUMBER  REFUSED               STATUS  REASON    BYTES  SENDER                            START
    3       2026-11-23T10:00:00Z  400     not_json  2009   192.0.2.7:5000 CN=Linxo\u{1b}[2J  {"id":\u{202e}\u{d}\u{a}
    2       2026-11-23T10:00:00Z  400     not_json  -      -                                 -
    "#);
    assert!(!view::refused(&requests, false, view::Width::Terminal).contains("START"));
    assert_eq!(view::refused(&[], true, view::Width::Terminal), "no refused requests\n");
}

#[test]
fn exports_one_line_with_the_event_untouched_but_for_white_space() {
    let mut line = Vec::new();
    let body = b"{\n \"id\": \"abc123456\",\n \"amount\": 10000.50 }\n";
    json::entry(&entry(1, State::Done, vec![stage("app", State::Done, None)]), Some(body), None, &mut line).unwrap();
    insta::assert_snapshot!(String::from_utf8(line).unwrap(), @r#"{"seq":1,"id":"abc123456","delivery_id":"abc123456","state":"done","connection_id":"123","user_id":"321","channel_definition_id":"24601","event_type":"UPDATED","resource_type":"CONNECTIONS","accepted":"2026-11-23T10:00:00Z","account_count":102,"accounts_listed":0,"accounts_fetched":102,"conflict":false,"drift":null,"bytes":1193,"sender":{"peer":"192.0.2.7:5000"},"stages":[{"stage":"app","state":"done","attempts":3,"due":null,"changed":"2026-11-23T10:00:01Z","cause":null,"reason":null}],"attempts":[],"event":{"id":"abc123456","amount":10000.50}}"#);
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &str) -> Result<Action, clap::Error> {
    Line::try_parse_from(["inbox"].into_iter().chain(line.split(' '))).map(|line| line.args.action)
}

#[test]
fn refuses_to_change_everything_by_accident() {
    for line in ["replay", "park --limit 5", "purge --yes", "purge --state done", "purge --all"] {
        let failure = parse(line).unwrap().check().unwrap_err();
        assert_eq!(failure.code, 64, "{line}");
        assert!(failure.message.contains("\nhint: "), "{line}");
    }
    for line in
        ["replay --state parked", "park --all", "purge --connection 1 --yes", "purge --all --yes", "ls", "show 7"]
    {
        parse(line).unwrap().check().unwrap();
    }
    assert!(parse("ls --state broken").is_err());
    assert!(parse("ls --limit 5 --all").is_err());
}

#[test]
fn turns_options_into_a_filter() {
    let Action::Ls { selection, json } =
        parse("ls --state parked --sink app --connection 1 --user 2 --id 3 --seq 4 --json").unwrap()
    else {
        panic!("not a list")
    };
    assert!(json);
    assert_eq!(selection.limit(), 50);
    let filter = selection.filter();
    assert_eq!(filter.state, Some(State::Parked));
    assert_eq!(filter.sink.as_ref().map(SinkName::as_str), Some("app"));
    assert_eq!(filter.connection.as_ref().map(ConnectionId::as_str), Some("1"));
    assert_eq!(filter.user.as_ref().map(UserId::as_str), Some("2"));
    assert_eq!(filter.id.as_deref(), Some("3"));
    assert_eq!(filter.seq, Some(Seq(4)));
}

/// (C12) What a terminal would obey is shown, and JSON stays the same JSON.
#[test]
fn data_on_a_terminal_cannot_move_it() {
    let body = "{\"name\":\"a\u{9b}2J\u{202e}b\u{7f}\u{e0041}\u{e9}\",\r\n\t\"x\":1}";
    let shown = view::for_terminal(body.as_bytes());
    assert_eq!(shown, "{\"name\":\"a\\u009b2J\\u202eb\\u007f\\udb40\\udc41\u{e9}\",\r\n\t\"x\":1}");
    let line = "{\"name\":\"a\u{9b}2J\u{202e}b\u{e0041}\"}\n";
    let same = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(same(&view::for_terminal(line.as_bytes())), same(line));
}
