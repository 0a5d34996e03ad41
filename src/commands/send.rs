//! `send`: makes events, or takes them from a file or a named case, posts them to a receiver, and says how it answered and what
//! became of them.
//!
//! The counts are of synchronisations: with two channels each makes two events, as with the vendor, and `--repeat` posts
//! each event again under the same id. Progress is drawn on a terminal only; what is found out is data, on standard output.

mod args;
mod became;
mod posts;
mod report;
mod target;

pub use args::Args;

use super::{Failure, Global, guest::note};
use base::sync::lock;
use double::load::{self, Answer, Load, Summary};
use indicatif::{ProgressBar, ProgressStyle};
use posts::Posts;
use report::Told;
use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};
use target::Receiver;

/// The answers to the posts that are told of, as they come.
type Answers = Vec<Option<Result<Answer, String>>>;

/// Posts, waits for every answer and for what becomes of the events, and prints it.
///
/// # Errors
/// 64 for a URL or a file that cannot be used, 70 when an event was not answered 2xx, 78 when the configuration is needed and
/// cannot be used.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    if args.case.as_deref() == Some(args::LIST) {
        return list();
    }
    let Receiver { target, config } = target::find(&args, global).await?;
    let posts = Posts::of(&args)?;
    let (ids, mut wanted) = posts.ids();
    let bar = progress(posts.number);
    let answers: Arc<Mutex<Answers>> = Arc::new(Mutex::new(vec![None; ids.len()]));
    let done = {
        let (bar, answers) = (bar.clone(), Arc::clone(&answers));
        move |post: u64, answer: Result<Answer, &str>| {
            bar.inc(1);
            let place = usize::try_from(post).unwrap_or(usize::MAX);
            if let Some(place) = lock(&answers).get_mut(place) {
                *place = Some(answer.map_err(str::to_owned));
            }
        }
    };
    let Posts { number, make, .. } = posts;
    let plan = Load { posts: number, concurrency: args.concurrency, rate: args.rate, reconnect: args.reconnect };
    let summary = load::load(&target, plan, make, done).await.map_err(Failure::ours)?;
    bar.finish_and_clear();
    let answers = std::mem::take(&mut *lock(&answers));
    // A sender that stopped left none; the summary counts it.
    let answers = answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err("no answer".to_owned())));
    let told: Vec<Told> = ids.into_iter().zip(answers).map(|(id, answer)| Told { id, answer }).collect();
    wanted.retain(|id, _| told.iter().any(|post| post.is_taken() && post.id.as_ref() == Some(id)));
    let entries = match &config {
        Some(config) if !wanted.is_empty() => match became::entries(config, &wanted, args.wait).await {
            Ok(entries) => Some(entries),
            Err(reason) => {
                note(format_args!("note: what became of the events is not known: {reason}"));
                None
            }
        },
        _ => None,
    };
    let printed = print(&args, &summary, &told, entries.as_deref());
    verdict(&summary, number)?;
    printed?;
    if let Some(needed) = posts::what_simulate_needs(&args) {
        note(format_args!("note: {needed}"));
    }
    Ok(())
}

fn print(args: &Args, summary: &Summary, told: &[Told], entries: Option<&[inbox::EntryView]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        return report::as_json(summary, told, entries, &mut out);
    }
    for case in args.case.as_deref().map(args::cases).unwrap_or_default() {
        writeln!(out, "{}: {}", case.name, case.lesson)?;
    }
    if args.case.is_some() {
        writeln!(out)?;
    }
    report::posts(told, entries, &mut out)?;
    report::summary(summary, &mut out)
}

/// The cases, and what each teaches.
fn list() -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for case in args::cases("all") {
        writeln!(out, "{:<22} {}", case.name, case.lesson)?;
    }
    Ok(())
}

/// Whether every event was taken; if not, what to do about it.
fn verdict(summary: &Summary, posts: u64) -> Result<(), Failure> {
    if summary.all_accepted() {
        return Ok(());
    }
    let mut reasons: Vec<String> = summary.failures.keys().cloned().collect();
    let refused = summary.statuses.iter().filter(|(status, _)| !(200..300).contains(*status));
    reasons.extend(refused.map(|(status, count)| format!("{count} answered {status}")));
    let mut message = format!("{} of {posts} events were not answered 2xx", summary.not_accepted());
    if !reasons.is_empty() {
        message = format!("{message}: {}", reasons.join("; "));
    }
    if reasons.iter().any(|reason| reason.contains("cannot connect: Connection refused")) {
        message.push_str("\nhint: nobody takes connections there: start the service, or say with --url where it is");
    }
    if reasons.iter().any(|reason| reason.contains("UnknownIssuer")) {
        message.push_str("\nhint: give the receiver's certificate, or its authority's, with --ca");
    }
    if reasons.iter().any(|reason| reason.contains("CertificateRequired") || reason.contains("AccessDenied")) {
        message.push_str("\nhint: the receiver requires a client certificate: give one with --cert and --key");
    }
    if reasons.iter().any(|reason| reason.contains("NotValidForName")) {
        message.push_str("\nhint: the receiver's certificate is for other names: give --url with one of them");
    }
    for hint in summary.statuses.keys().filter_map(|status| hint(*status)) {
        message.extend(["\nhint: ", hint]);
    }
    Err(Failure::ours(message))
}

/// What to do about a status.
const fn hint(status: u16) -> Option<&'static str> {
    Some(match status {
        400 | 422 => "the receiver says in the answer's body what is wrong with the event; `inbox refused` lists it",
        403 => "sender.networks does not hold the address that this command calls from",
        404 => {
            "the receiver has another path: that of listener.path, and with sender.path_secret the secret behind it; without \
             --url both are taken from the configuration (--config)"
        }
        413 => "the event is larger than listener.max_body",
        429 | 503 => "the receiver cannot take events now: `linxo-webhook health` says why",
        300..400 => "this is no receiver, or something stands before it: events are not redirected",
        _ => return None,
    })
}

/// Draws nothing where standard error is not a terminal, or where there is nothing to wait for.
fn progress(posts: u64) -> ProgressBar {
    if posts < 2 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} events, {per_sec}, {eta} left");
    ProgressBar::new(posts).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use double::{Endpoint, Fault, Rule, Script, Settings, Simulator, pki::Authority};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &[&str]) -> Args {
        Line::try_parse_from([&["send"], line].concat()).unwrap().args
    }

    fn ids(args: &Args, posts: u64) -> Vec<(String, String, String)> {
        let made = Posts::of(args).unwrap();
        assert_eq!(made.number, posts);
        let event = |post| serde_json::from_slice::<serde_json::Value>(&(made.make)(post)).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (0..posts)
            .map(event)
            .map(|event| (text(&event["id"]), text(&event["resource"]["id"]), text(&event["resource"]["status"])))
            .collect()
    }

    #[test]
    fn channels_and_repeats_share_what_they_should() {
        let events = ids(&args(&["--count", "3", "--channels", "2", "--repeat", "2", "--connections", "2"]), 12);
        let distinct: std::collections::BTreeSet<_> = events.iter().map(|(id, ..)| id).collect();
        assert_eq!(distinct.len(), 6);
        assert_eq!(events[0], events[1]);
        let statuses: Vec<&str> = events.iter().map(|(.., status)| status.as_str()).collect();
        assert_eq!(statuses[..4], ["RUNNING", "RUNNING", "SUCCESS", "SUCCESS"]);
        let connections: Vec<&str> = events.iter().map(|(_, connection, _)| connection.as_str()).collect();
        assert_eq!([connections[0], connections[4], connections[8]], ["700000", "700001", "700000"]);
    }

    #[test]
    fn the_posts_that_are_told_of_are_those_of_a_case_or_few() {
        let told = |line: &[&str]| Posts::of(&args(line)).unwrap().told;
        assert_eq!([told(&[]), told(&["--count", "20"]), told(&["--count", "21"])], [1, 20, 0]);
        let all = Posts::of(&args(&["--case", "all"])).unwrap();
        assert!(all.told == all.number && all.number > 20, "{}", all.number);
        // A repeat is one event; two contents under one id are two.
        let (ids, contents) = Posts::of(&args(&["--case", "duplicate"])).unwrap().ids();
        assert_eq!((ids.len(), contents.into_values().collect::<Vec<_>>()), (2, vec![1]));
        let (_, contents) = Posts::of(&args(&["--case", "same-id-other-content"])).unwrap().ids();
        assert_eq!(contents.into_values().collect::<Vec<_>>(), [2]);
        let (ids, contents) = Posts::of(&args(&["--repeat", "3"])).unwrap().ids();
        assert_eq!((ids.len(), contents.into_values().collect::<Vec<_>>()), (3, vec![1]));
    }

    #[tokio::test]
    async fn fails_unless_every_answer_is_2xx() {
        let authority = Authority::new("test").unwrap();
        let identity = authority.server(&["localhost"]).unwrap();
        let receiver = Simulator::start(Settings { identity: Some(identity), ..Settings::default() }).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.certificate_pem()).unwrap();
        let args = args(&["--url", &receiver.auth_url(), "--ca", ca.to_str().unwrap(), "--count", "3"]);
        receiver.script(Script::of([Rule::always(Endpoint::Any, Fault::NoContent)]));
        run(args.clone(), &Global::default()).await.unwrap();
        receiver.script(Script::of([Rule::first(1, Endpoint::Any, Fault::NoContent)]));
        let failure = run(args.clone(), &Global::default()).await.unwrap_err();
        let start = "2 of 3 events were not answered 2xx: 2 answered 404\nhint: the receiver has another path";
        assert!(failure.code == 70 && failure.message.starts_with(start), "{failure:?}");
        std::fs::write(&ca, Authority::new("other").unwrap().certificate_pem()).unwrap();
        let failure = run(args, &Global::default()).await.unwrap_err();
        assert!(failure.message.contains("hint: "), "{}", failure.message);
    }

    #[tokio::test]
    async fn trust_must_come_from_somewhere() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        assert_eq!(
            target::find(&args(&["--url", "https://localhost", "--ca", empty.to_str().unwrap()]), &Global::default())
                .await
                .map(drop)
                .unwrap_err()
                .code,
            64
        );
        let found = target::find(&args(&["--url", "ftp://localhost"]), &Global::default()).await;
        assert_eq!(found.map(drop).unwrap_err().code, 64);
    }
}
