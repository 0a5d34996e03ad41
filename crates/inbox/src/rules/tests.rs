//! The rules with right values. What holds whatever happens is in `model`.

use super::*;
use crate::CredentialsMark;
use event::Event;

pub(super) const fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

const TOKEN: Token = Token(7);

/// A stage that was leased at 100, until 200, for the first time.
fn leased() -> Progress {
    let mut progress = Progress::queued(at(50));
    progress.stand(true, true);
    assert_eq!(progress.claim(TOKEN, at(200), at(100), true), Claim::Leased);
    progress
}

pub(super) fn park(cause: Cause) -> Outcome {
    Outcome::Park { cause, reason: "why".to_owned() }
}

pub(super) fn retry(due: i64, is_doubtful: bool) -> Outcome {
    Outcome::Retry { due: at(due), reason: "503".to_owned(), is_doubtful }
}

fn event(count: u64, listed: bool) -> Event {
    let accounts = if listed { r#"[{"id":"1"}]"# } else { "[]" };
    let json = format!(
        r#"{{"id":"e","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{{"id":"c","account_count":{count},"accounts":{accounts}}}}}"#
    );
    Event::parse(json.as_bytes()).unwrap()
}

#[test]
fn a_stage_is_due_when_it_is_first_and_its_needs_are_done() {
    for (is_first, needs_are_done) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut progress = Progress::queued(at(50));
        progress.stand(is_first, needs_are_done);
        let expected = if is_first && needs_are_done { Standing::Due } else { Standing::Queued };
        assert_eq!((progress.standing, progress.due), (expected, at(50)));
    }
    let mut done = leased();
    done.settle(&Outcome::Done, at(150));
    done.stand(true, true);
    assert_eq!(done.standing, Standing::Done, "what has left its line stays out");
}

#[test]
fn a_parked_stage_holds_up_its_line_where_order_is_strict() {
    use Standing::{Done, Due, Leased, Parked, Queued};
    for (standing, resume, strict) in
        [(Queued, true, true), (Due, true, true), (Leased, true, true), (Done, false, false), (Parked, false, true)]
    {
        assert_eq!((Order::Resume.holds(standing), Order::Strict.holds(standing)), (resume, strict), "{standing:?}");
    }
    assert!(frees(Leased, Done) && frees(Leased, Parked) && frees(Parked, Done));
    assert!(!frees(Done, Queued) && !frees(Parked, Due) && !frees(Due, Leased));
}

#[test]
fn what_another_sink_takes_over_begins_anew_or_stays_parked() {
    let mut parked = leased();
    parked.settle(&park(Cause::Gone), at(150));
    let taken = parked.taken_over(at(300));
    assert_eq!((taken.standing, taken.attempts, taken.changed), (Standing::Parked, 0, at(300)));
    assert_eq!((&taken.cause, taken.reason.as_deref()), (&Some(Cause::Gone), Some("why")));
    let mut waits = leased();
    assert!(!waits.is_free(at(199)) && waits.is_free(at(200)), "its lease ends at 200");
    waits.settle(&retry(900, true), at(150));
    assert!(waits.is_free(at(150)) && taken.is_free(at(300)));
    assert_eq!(waits.taken_over(at(300)), Progress::queued(at(300)));
    waits.close("moved to books", at(300));
    assert_eq!((waits.standing, waits.reason.as_deref()), (Standing::Done, Some("moved to books")));
}

#[test]
fn only_a_fetch_that_was_not_needed_before_is_made_after_all() {
    use Standing::{Done, Due, Leased, Parked, Queued};
    for standing in [Queued, Due, Leased, Done, Parked] {
        assert_eq!(fetches_again(&Outcome::Unfetched, standing), standing == Done, "{standing:?}");
        for other in [Outcome::Done, Outcome::Unneeded, Outcome::GiveBack, park(Cause::Gone)] {
            assert!(!fetches_again(&other, standing), "{other:?} {standing:?}");
        }
    }
}

#[test]
fn what_moves_up_is_due_at_once_or_at_its_later_time() {
    for (due, expected) in [(50, 90), (120, 120)] {
        let mut progress = Progress { due: at(due), ..Progress::queued(at(50)) };
        assert!(!progress.move_up(false, at(90)));
        assert!(progress.move_up(true, at(90)));
        assert_eq!((progress.standing, progress.due), (Standing::Due, at(expected)));
        assert!(!progress.move_up(true, at(95)), "it was due already");
        progress.step_back();
        assert_eq!((progress.standing, progress.due), (Standing::Queued, at(expected)));
    }
    let mut progress = leased();
    progress.step_back();
    assert_eq!(progress.standing, Standing::Leased, "what was begun goes on");
}

#[test]
fn a_lease_is_held_by_its_token() {
    let mut progress = leased();
    assert_eq!((progress.standing, progress.due, progress.attempts), (Standing::Leased, at(200), 1));
    assert!(progress.is_held_by(TOKEN) && !progress.is_held_by(Token(8)));
    progress.renew(at(300));
    assert_eq!(progress.due, at(300));
    progress.settle(&Outcome::GiveBack, at(150));
    assert!(!progress.is_held_by(TOKEN));
}

#[test]
fn an_expired_lease_is_given_to_the_next_or_waits_behind_an_earlier_entry() {
    let mut progress = leased();
    assert_eq!(progress.claim(Token(8), at(400), at(300), true), Claim::Leased);
    assert_eq!((progress.token, progress.attempts, progress.losses), (Some(Token(8)), 2, 1));
    assert_eq!(progress.claim(Token(9), at(600), at(500), false), Claim::Waits);
    assert_eq!((progress.standing, progress.token, progress.losses), (Standing::Queued, None, 2));
}

#[test]
fn what_loses_its_lease_too_often_is_parked() {
    let mut progress = leased();
    for loss in 1..MOST_LOSSES {
        assert_eq!(progress.claim(TOKEN, at(200), at(100), true), Claim::Leased, "{loss}");
    }
    assert_eq!((progress.losses, progress.attempts), (9, 10));
    assert_eq!(progress.claim(TOKEN, at(200), at(100), true), Claim::Parked);
    assert_eq!((progress.standing, &progress.cause), (Standing::Parked, &Some(Cause::Lost)));
    assert!(progress.reason.as_ref().unwrap().contains("hung 10 times in a row"));

    let mut progress = leased();
    (0..MOST_LOSSES).for_each(|_| progress.lose(at(120)));
    progress.stand(true, true);
    assert_eq!(progress.claim(TOKEN, at(200), at(130), true), Claim::Parked, "crashes count as well");
}

#[test]
fn any_answer_ends_a_run_of_losses() {
    for outcome in [retry(150, false), Outcome::GiveBack, park(Cause::Refused), Outcome::Done] {
        let mut progress = Progress { losses: 9, ..leased() };
        progress.settle(&outcome, at(150));
        assert_eq!(progress.losses, 0, "{outcome:?}");
    }
}

#[test]
fn a_failure_begins_or_prolongs_a_run() {
    let mut progress = leased();
    progress.settle(&retry(500, true), at(150));
    assert_eq!((progress.standing, progress.due, progress.token), (Standing::Queued, at(500), None));
    assert_eq!((progress.attempts, progress.failing_since), (1, Some(at(150))));
    assert_eq!(progress.doubts, Doubts { tries: 1, since: Some(at(150)) });
    assert_eq!(progress.reason.as_deref(), Some("503"));
    progress.settle(&retry(600, true), at(160));
    assert_eq!(progress.failing_since, Some(at(150)));
    assert_eq!(progress.doubts, Doubts { tries: 2, since: Some(at(150)) });
    progress.settle(&retry(700, false), at(170));
    assert_eq!((progress.failing_since, progress.doubts), (Some(at(150)), Doubts::default()));
}

#[test]
fn what_was_not_tried_counts_for_nothing() {
    let run = Progress { failing_since: Some(at(10)), doubts: Doubts { tries: 2, since: Some(at(10)) }, ..leased() };
    let mut postponed = run.clone();
    postponed.settle(&Outcome::Postpone { due: at(900), reason: "left alone".to_owned() }, at(150));
    let mut given_back = run.clone();
    given_back.settle(&Outcome::GiveBack, at(150));
    for (progress, due, reason) in [(postponed, 900, Some("left alone")), (given_back, 150, None)] {
        assert_eq!((progress.standing, progress.due, progress.attempts), (Standing::Queued, at(due), 0));
        assert_eq!((progress.failing_since, progress.doubts), (run.failing_since, run.doubts));
        assert_eq!(progress.reason.as_deref(), reason);
    }
}

#[test]
fn what_leaves_its_line_says_why_and_forgets_its_run() {
    let cause = Cause::Credentials(CredentialsMark::new("mark"));
    let reading = crate::ReadingId(1);
    let found = crate::Found { accounts: 1, unusable: 0, certainty: crate::Certainty::Agreed };
    for (outcome, standing, cause, reason) in [
        (Outcome::Done, Standing::Done, None, None),
        (Outcome::Fetched { reading, found }, Standing::Done, None, None),
        (Outcome::Gone, Standing::Done, None, Some("the API does not know the connection any more")),
        (park(Cause::Refused), Standing::Parked, Some(Cause::Refused), Some("why")),
        (park(cause.clone()), Standing::Parked, Some(cause), Some("why")),
    ] {
        let mut progress = leased();
        progress.settle(&retry(150, true), at(140));
        progress.stand(true, true);
        progress.claim(TOKEN, at(200), at(150), true);
        progress.settle(&outcome, at(160));
        let expected =
            Progress { standing, attempts: 2, cause, reason: reason.map(str::to_owned), ..Progress::queued(at(160)) };
        assert_eq!(progress, expected, "{outcome:?}");
        progress.requeue(at(170));
        assert_eq!(progress, Progress::queued(at(170)), "as if it had never been tried");
    }
}

#[test]
fn what_a_sinks_trouble_parked_goes_back_once_a_while() {
    let parked = |cause| {
        let mut progress = leased();
        progress.settle(&park(cause), at(150));
        progress
    };
    for cause in [Cause::Outage, Cause::GaveUp] {
        let mut progress = parked(cause.clone());
        assert!(progress.may_resume(at(0)), "it never went back");
        progress.resume(at(200));
        assert_eq!(progress, Progress { resumed: Some(at(200)), ..Progress::queued(at(200)) });
        assert!(!progress.may_resume(at(300)), "it is not parked");
        progress.stand(true, true);
        progress.claim(TOKEN, at(300), at(210), true);
        progress.settle(&park(cause), at(220));
        assert_eq!(progress.resumed, Some(at(200)), "parked again, it remembers when it went back");
        assert!(!progress.may_resume(at(199)) && progress.may_resume(at(200)));
    }
    for cause in [Cause::Refused, Cause::Gone, Cause::Operator, Cause::Needs, Cause::Damaged] {
        assert!(!parked(cause.clone()).may_resume(at(1_000)), "{cause:?} is no trouble that passes");
    }
}

#[test]
fn parking_by_hand_and_for_needs_says_so() {
    let mut progress = leased();
    progress.park_by_hand("stop", at(150));
    assert_eq!((progress.standing, progress.token), (Standing::Parked, None));
    assert_eq!((&progress.cause, progress.reason.as_deref()), (&Some(Cause::Operator), Some("stop")));
    let mut progress = Progress::queued(at(50));
    progress.park_for_needs(at(150));
    assert_eq!((progress.standing, &progress.cause), (Standing::Parked, &Some(Cause::Needs)));
    assert_eq!(progress.reason.as_deref(), Some("its accounts could not be fetched: see the completion"));
}

#[test]
fn an_event_is_delivered_fetched_first_or_parked() {
    assert_eq!(plan(&event(1, true), false), Plan::Deliver);
    assert_eq!(plan(&event(0, false), false), Plan::Deliver, "there is nothing to fetch");
    assert_eq!(plan(&event(3, false), false), Plan::Fetch(&[Fetch::Accounts]));
    assert_eq!(plan(&event(1, true), true), Plan::Fetch(&[Fetch::Accounts]), "a hint is never believed");
    let unclear =
        r#"{"id":"e","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{"id":"c","account_count":{}}}"#;
    let unclear = Event::parse(unclear.as_bytes()).unwrap();
    assert_eq!(plan(&unclear, true), Plan::Fetch(&[Fetch::Accounts]));
    let parked = plan(&unclear, false);
    assert!(matches!(&parked, Plan::Park(reason) if reason.contains("$.resource.account_count")), "{parked:?}");

    // (B4) Whatever else it says, nobody can say whose it is.
    let long = format!(
        r#"{{"id":"e","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{{"id":"c","user_id":"{}","account_count":0}}}}"#,
        "u".repeat(257)
    );
    for confirm in [false, true] {
        let parked = plan(&Event::parse(long.as_bytes()).unwrap(), confirm);
        assert!(matches!(&parked, Plan::Park(reason) if reason.contains("$.resource.user_id is longer")), "{parked:?}");
    }

    let begins = |plan: &Plan| {
        let fetches: Vec<_> = plan.fetches(at(1)).map(|(_, progress)| (progress.standing, progress.cause)).collect();
        let delivery = plan.delivery(at(1));
        (fetches, (delivery.standing, delivery.cause), plan.is_ready())
    };
    let queued = || (Standing::Queued, None);
    assert_eq!(begins(&Plan::Deliver), (vec![], queued(), true));
    assert_eq!(begins(&Plan::Fetch(&[Fetch::Accounts])), (vec![queued()], queued(), false));
    let of_parked = |cause| (Standing::Parked, Some(cause));
    assert_eq!(begins(&parked), (vec![of_parked(Cause::Unclear)], of_parked(Cause::Needs), false));
}

#[test]
fn what_needs_a_fetch_follows_its_end() {
    let all = [Standing::Queued, Standing::Due, Standing::Leased, Standing::Done, Standing::Parked];
    for fetch in all {
        for dependent in all {
            let expected = match (fetch, dependent) {
                (Standing::Done, Standing::Queued) => Follows::MayGo,
                (Standing::Parked, Standing::Queued) => Follows::IsParked,
                _ => Follows::Nothing,
            };
            assert_eq!(follows(fetch, dependent), expected, "{fetch:?} {dependent:?}");
        }
    }
    assert_eq!(needs(&Stage::deliver("app")), [Fetch::Accounts]);
    assert_eq!(needs(&Stage::ACCOUNTS), []);
}

#[test]
fn an_entry_is_as_its_worst_stage() {
    use State::{Done, Leased, Parked, Waiting};
    for (stages, expected) in [
        (&[][..], Done),
        (&[Done, Done][..], Done),
        (&[Done, Waiting][..], Waiting),
        (&[Waiting, Leased, Done][..], Leased),
        (&[Leased, Parked, Waiting][..], Parked),
    ] {
        assert_eq!(together(stages.iter().copied()), expected, "{stages:?}");
    }
}

#[test]
fn failures_are_remembered_and_successes_are_not() {
    for (outcome, expected) in [
        (retry(1, false), true),
        (park(Cause::Refused), true),
        (Outcome::Done, false),
        (Outcome::Gone, false),
        (Outcome::GiveBack, false),
        (Outcome::Postpone { due: at(1), reason: String::new() }, false),
    ] {
        assert_eq!(is_remembered(&outcome), expected, "{outcome:?}");
    }
}
