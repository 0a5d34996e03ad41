//! The `inbox` command: what it prints, and what it refuses.

use super::*;
use crate::story::{
    find::may_concern,
    json,
    told::{self, Told},
};
use base::clock::Timestamp;
use bytes::Bytes;
use clap::Parser;
use event::{ChannelDefinitionId, ConnectionId, EventId, UserId};
use inbox::{
    Act, ActView, AttemptView, Cause, Certainty, DeliveryId, EntryView, Found, ReadingView, RefusedView, SinkName,
    Stage, StageView, State, Story,
};

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
        held_by: None,
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

fn act(seconds: i64, what: &str, which: &str, entries: Option<u64>) -> ActView {
    let act = Act { who: "ann (uid 1000)".to_owned(), what: what.to_owned(), which: which.to_owned() };
    ActView { number: 1, at: at(seconds), act, entries }
}

/// What `show` tells of an entry whose list was read, which was refused, parked and replayed.
fn replayed() -> (EntryView, Told) {
    let app = StageView { attempts: 0, ..stage("app", State::Waiting, None) };
    let audit = stage("audit", State::Parked, Some("the endpoint answered 422"));
    let mut entry = entry(1, State::Parked, vec![stage("completion", State::Done, None), app, audit]);
    entry.drift = Some("no JSON: text/plain".to_owned());
    entry.sender = Some(
        r#"{"peer":"192.0.2.7:5000","tls":"1.3","certificate":{"subject":"CN=Linxo","names":["hooks.linxo.example"]}}"#
            .to_owned(),
    );
    let attempt = |seconds, state, reason: &str| AttemptView {
        stage: Stage::deliver("app"),
        at: at(seconds),
        state,
        reason: Some(reason.to_owned()),
    };
    entry.attempts = vec![
        attempt(4, State::Waiting, "the endpoint answered 503"),
        attempt(9, State::Parked, "the endpoint answered 410"),
    ];
    let found = Found { accounts: 102, unusable: 1, certainty: Certainty::Agreed };
    let reading = ReadingView { started: at(0), changed: at(1), pages: 2, found: Some(found) };
    let told = Told {
        story: Story {
            reading: Some(reading),
            behind: vec![(Stage::deliver("app"), Seq(7))],
            facts: None,
            merged: Vec::new(),
        },
        acts: vec![act(20, "replay", "--state parked --sink app", Some(12))],
        ..Told::default()
    };
    (entry, told)
}

#[test]
fn tells_the_story_of_an_entry() {
    let (entry, mut told) = replayed();
    insta::assert_snapshot!(view::story(&entry, &told));
    told.paused.insert(SinkName::new("app"), at(30));
    let next = told::next(&entry, &told);
    assert_eq!(next[0].what, "the sink is paused since 2026-11-23T10:00:30Z: `sink resume app`");
    let mut line = Vec::new();
    json::entry(&entry, Some(&told), None, None, &mut line).unwrap();
    let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
    let told = ["reading", "acts", "next"].map(|member| line[member].clone());
    insta::assert_snapshot!("tells_the_story_as_json", serde_json::to_string_pretty(&told).unwrap());
}

#[test]
fn says_what_comes_next_for_each_state() {
    let next = |stage: StageView, told: &Told| {
        let next = told::next(&entry(3, stage.state, vec![stage]), told);
        next.into_iter().map(|next| (next.what, next.at)).next()
    };
    let nothing = Told::default();
    let parked = |cause| StageView { cause: Some(cause), ..stage("app", State::Parked, Some("why")) };
    let (what, when) = next(stage("app", State::Waiting, Some("503")), &nothing).unwrap();
    assert_eq!((what.as_str(), when), ("is tried again", Some(at(300))));
    let queued = StageView { is_queued: true, due: None, ..stage("app", State::Waiting, None) };
    assert_eq!(next(queued, &nothing).unwrap().0, "waits for its accounts");
    let queued = StageView { is_queued: true, due: None, ..stage("app", State::Waiting, None) };
    let group = |members: &[i64]| {
        let merged = vec![(Stage::deliver("app"), members.iter().copied().map(Seq).collect())];
        Told { story: Story { merged, ..Story::default() }, ..Told::default() }
    };
    assert_eq!(next(queued, &group(&[1, 3])).unwrap().0, "leaves together with entry 1, as one delivery");
    let (what, _) = next(stage("app", State::Waiting, Some("503")), &group(&[3, 4, 5])).unwrap();
    assert_eq!(what, "is tried again, together with entries 4, 5 as one delivery");
    let leased = StageView { due: Some(at(60)), ..stage("app", State::Leased, None) };
    assert_eq!(next(leased, &nothing).unwrap().1, Some(at(60)));
    assert_eq!(next(stage("app", State::Done, None), &nothing), None);
    assert!(next(parked(Cause::Outage), &nothing).unwrap().0.starts_with("goes on by itself when the sink is well"));
    assert_eq!(next(parked(Cause::Needs), &nothing).unwrap().0, "goes on together with the completion");
    let refused = next(parked(Cause::Refused), &nothing).unwrap().0;
    assert!(
        refused.starts_with("nothing, until a person") && refused.ends_with("`inbox replay --seq 3 --sink app`"),
        "{refused}"
    );
    let fetch = StageView { cause: Some(Cause::GaveUp), ..stage("completion", State::Parked, Some("why")) };
    assert_eq!(next(fetch, &nothing).unwrap().0, "`inbox replay --seq 3`");
}

#[test]
fn knows_which_acts_may_have_concerned_an_entry() {
    let (entry, _) = replayed();
    for (what, which, is_meant) in [
        ("replay", "--state parked --sink app", true),
        ("replay", "--sink other", false),
        ("replay", "--all", true),
        ("park", "--connection 123 --limit 7 --reason \"moved to --connection 9\"", true),
        ("park", "--connection 9 --reason \"x\"", false),
        ("purge", "--user 321", true),
        ("purge", "--user 9", false),
        ("export", "--id abc123456", true),
        ("export", "--seq 2", false),
        ("replay", "--since 2026-11-23T09:00:00Z --until 2026-11-23T11:00:00Z", true),
        ("replay", "--since 2026-11-23T10:00:01Z", false),
        ("replay", "--until 2026-11-23T10:00:00Z", false),
        ("show --body", "abc123456", true),
        ("show --body", "2", false),
        ("sink pause", "app", false),
        ("backup", "/backup/inbox.db", false),
    ] {
        assert_eq!(may_concern(&act(1, what, which, Some(1)), &entry), is_meant, "{what} {which}");
    }
    assert!(!may_concern(&act(1, "replay", "--all", Some(0)), &entry), "it changed nothing");
    assert!(may_concern(&act(1, "replay", "--all", None), &entry), "it may have begun");
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
    json::entry(&entry(1, State::Done, vec![stage("app", State::Done, None)]), None, Some(body), None, &mut line)
        .unwrap();
    insta::assert_snapshot!(String::from_utf8(line).unwrap(), @r#"{"seq":1,"id":"abc123456","delivery_id":"abc123456","state":"done","connection_id":"123","user_id":"321","channel_definition_id":"24601","event_type":"UPDATED","resource_type":"CONNECTIONS","accepted":"2026-11-23T10:00:00Z","account_count":102,"accounts_listed":0,"accounts_fetched":102,"conflict":false,"drift":null,"bytes":1193,"sender":{"peer":"192.0.2.7:5000"},"stages":[{"stage":"app","state":"done","attempts":3,"due":null,"changed":"2026-11-23T10:00:01Z","cause":null,"reason":null}],"attempts":[],"event":{"id":"abc123456","amount":10000.50}}"#);
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &str) -> Result<Entries, clap::Error> {
    Line::try_parse_from(["inbox"].into_iter().chain(line.split(' '))).map(|line| match line.args.action {
        Action::Entries(action) => action,
        other => panic!("{other:?}"),
    })
}

#[test]
fn refuses_to_change_everything_by_accident() {
    for line in ["replay", "park --limit 5", "purge --yes", "purge --state done", "purge --all"] {
        let failure = parse(line).unwrap().check().unwrap_err();
        assert_eq!(failure.code, 64, "{line}");
        assert!(failure.message.contains("\nhint: "), "{line}");
    }
    for line in [
        "replay --state parked",
        "replay --since 2h",
        "park --all",
        "purge --connection 1 --yes",
        "purge --all --yes",
        "ls",
        "show 7",
    ] {
        parse(line).unwrap().check().unwrap();
    }
    assert!(parse("ls --state broken").is_err());
    assert!(parse("ls --limit 5 --all").is_err());
}

#[test]
fn turns_options_into_a_filter() {
    let Entries::Ls { selection, json } = parse(
        "ls --state parked --sink app --connection 1 --user 2 --id 3 --seq 4 --since 2026-11-23T10:00:00Z --json",
    )
    .unwrap() else {
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
    assert_eq!((filter.accepted.since, filter.accepted.until), (Some(at(0)), None));
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
