//! The `inbox` command: what it prints, and what it refuses.

use super::*;
use crate::inbox::{RefusedView, StageView};
use clap::Parser;

fn stage(name: &str, state: State, reason: Option<&str>) -> StageView {
    StageView {
        stage: name.to_owned(),
        state,
        attempts: 3,
        due: (state == State::Waiting).then(|| "2026-11-23T10:05:00Z".to_owned()),
        changed: "2026-11-23T10:00:01Z".to_owned(),
        reason: reason.map(str::to_owned),
    }
}

fn entry(seq: i64, state: State, stages: Vec<StageView>) -> EntryView {
    EntryView {
        seq: Seq(seq),
        id: "abc123456".to_owned(),
        delivery_id: if seq == 1 { "abc123456".to_owned() } else { format!("abc123456~{seq}") },
        state,
        connection_id: "123".to_owned(),
        user_id: (seq == 1).then(|| "321".to_owned()),
        channel_definition_id: Some("24601".to_owned()),
        event_type: "UPDATED".to_owned(),
        resource_type: "CONNECTIONS".to_owned(),
        accepted: "2026-11-23T10:00:00Z".to_owned(),
        account_count: Some(102),
        accounts_listed: 0,
        accounts_fetched: (state == State::Done).then_some(102),
        conflict: seq != 1,
        drift: None,
        bytes: 1193,
        sender: Some(serde_json::json!({ "peer": "192.0.2.7:5000" })),
        stages,
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
    insta::assert_snapshot!(view::table(&entries), @r#"
    NUMBER  STATE   ACCEPTED              ID           CONNECTION  USER  ACCOUNTS     WORK
    2       parked  2026-11-23T10:00:00Z  abc123456~2  123         -     0 of 102     completion parked: the API answered 404 Not Fou…
                                                                                      app waiting
    1       done    2026-11-23T10:00:00Z  abc123456    123         321   102 fetched  -
    "#);
    assert_eq!(view::table(&[]), "no entries\n");
}

#[test]
fn text_from_outside_cannot_move_the_cursor() {
    let mut hostile = entry(1, State::Parked, vec![stage("app", State::Parked, Some("\u{1b}[2J\r\nforged"))]);
    hostile.connection_id = "1\u{202e}2\0".to_owned();
    for shown in [view::page(&hostile), view::table(&[hostile.clone()])] {
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
fn lists_refused_requests() {
    let request = RefusedView {
        number: 3,
        refused: "2026-11-23T10:00:00Z".to_owned(),
        reason: "not_json".to_owned(),
        status: 400,
        bytes: Some(2009),
        sender: Some(
            serde_json::json!({ "peer": "192.0.2.7:5000", "certificate": { "subject": "CN=Linxo\u{1b}[2J" } }),
        ),
        start: Some("{\"id\":\u{202e}\r\n".to_owned()),
    };
    let other = RefusedView { number: 2, bytes: None, sender: None, start: None, ..request.clone() };
    let requests = [request, other];
    insta::assert_snapshot!(view::refused(&requests, true), @r#"
    NUMBER  REFUSED               STATUS  REASON    BYTES  SENDER                            START
    3       2026-11-23T10:00:00Z  400     not_json  2009   192.0.2.7:5000 CN=Linxo\u{1b}[2J  {"id":\u{202e}\u{d}\u{a}
    2       2026-11-23T10:00:00Z  400     not_json  -      -                                 -
    "#);
    assert!(!view::refused(&requests, false).contains("START"));
    assert_eq!(view::refused(&[], true), "no refused requests\n");
}

#[test]
fn exports_one_line_with_the_event_untouched_but_for_white_space() {
    let mut line = Vec::new();
    let body = b"{\n \"id\": \"abc123456\",\n \"amount\": 10000.50 }\n";
    view::json(&entry(1, State::Done, vec![stage("app", State::Done, None)]), Some(body), &mut line).unwrap();
    insta::assert_snapshot!(String::from_utf8(line).unwrap(), @r#"{"seq":1,"id":"abc123456","delivery_id":"abc123456","state":"done","connection_id":"123","user_id":"321","channel_definition_id":"24601","event_type":"UPDATED","resource_type":"CONNECTIONS","accepted":"2026-11-23T10:00:00Z","account_count":102,"accounts_listed":0,"accounts_fetched":102,"conflict":false,"drift":null,"bytes":1193,"sender":{"peer":"192.0.2.7:5000"},"stages":[{"stage":"app","state":"done","attempts":3,"due":null,"changed":"2026-11-23T10:00:01Z","reason":null}],"event":{"id":"abc123456","amount":10000.50}}"#);
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
    assert_eq!(filter.sink.as_deref(), Some("app"));
    assert_eq!(filter.connection.as_deref(), Some("1"));
    assert_eq!(filter.user.as_deref(), Some("2"));
    assert_eq!(filter.id.as_deref(), Some("3"));
    assert_eq!(filter.seq, Some(Seq(4)));
}
