//! What the service still takes while it has more callers than places.

use crate::{
    Outcome,
    bodies::Bodies,
    child::Process,
    measure::{Scale, median, posts},
    note,
    scene::{Scene, Settings},
};
use double::load::{Load, Target, load};
use std::{fmt::Write as _, fs};

/// Callers, each of which comes back at once after an answer, and places (`listener.max_requests`). The first case is the peak
/// that the others are compared with; the second tells what the connections alone cost.
const CASES: [(usize, usize); 4] = [(64, 4096), (2048, 4096), (2048, 256), (2048, 16)];

/// One case under way.
struct Case {
    callers: usize,
    places: usize,
    name: String,
    service: Process,
    /// Of a turn.
    posts: u64,
    rounds: Vec<Answers>,
}

/// What came of one round.
struct Answers {
    /// Stored, a second.
    taken: f64,
    /// Answered 503, a second.
    refused: f64,
}

/// Services with room for all of their callers and with less, in turns.
pub(crate) async fn run(scale: &Scale) -> Outcome<String> {
    let (scene, mut cases) = (Scene::new()?, Vec::new());
    for (callers, places) in CASES {
        let name = format!("{callers}-{places}");
        let sink = scene.file_sink(&format!("{name}.ndjson"));
        let configuration = scene.configuration(&name, Settings { workers: 0, sink: &sink, linxo: "" })?;
        let text = fs::read_to_string(&configuration)?;
        fs::write(&configuration, text.replace("[listener]\n", &format!("[listener]\nmax_requests = {places}\n")))?;
        let service = Process::service(&configuration).await?;
        cases.push(Case { callers, places, name, service, posts: 10 * callers as u64, rounds: Vec::new() });
    }
    // The first turn says how many posts a turn takes.
    for turn in 0..=scale.rounds {
        for case in &mut cases {
            let answers = answers(&scene.target(&case.service)?, case.callers, case.posts).await?;
            scene.folded(&case.name).await?;
            if turn == 0 {
                case.posts = posts(answers.taken + answers.refused, scale);
                continue;
            }
            let Case { callers, places, .. } = case;
            note(&format!(
                "  {callers} callers, {places} places: {:.0}/s taken, {:.0}/s refused",
                answers.taken, answers.refused
            ));
            case.rounds.push(answers);
        }
    }
    let mut table = "### More callers than places\n\n\
         | callers | `listener.max_requests` | taken/s | refused with 503/s | share of the peak that is taken |\n\
         | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    let peaks: Vec<f64> = cases.iter().take(1).flat_map(|case| &case.rounds).map(|round| round.taken).collect();
    for Case { callers, places, service, rounds, .. } in cases {
        service.stop().await?;
        let taken = median(rounds.iter().map(|round| round.taken));
        let refused = median(rounds.iter().map(|round| round.refused));
        let share = median(rounds.iter().zip(&peaks).map(|(round, peak)| round.taken / peak));
        writeln!(table, "| {callers} | {places} | {taken:.0} | {refused:.0} | {share:.2} |")?;
    }
    Ok(table)
}

async fn answers(target: &Target, concurrency: usize, posts: u64) -> Outcome<Answers> {
    let (plan, bodies) = (Load { posts, concurrency, rate: None, reconnect: false }, Bodies::new()?);
    let summary = load(target, plan, move |number| bodies.make(number), |_, _| {}).await?;
    let of = |status: u16| u32::try_from(summary.statuses.get(&status).copied().unwrap_or(0));
    let (taken, refused) = (of(200)?, of(503)?);
    if !summary.failures.is_empty() || u64::from(taken) + u64::from(refused) != posts {
        return Err(format!("answers other than 200 and 503: {:?} {:?}", summary.statuses, summary.failures).into());
    }
    let seconds = summary.elapsed.as_secs_f64();
    Ok(Answers { taken: f64::from(taken) / seconds, refused: f64::from(refused) / seconds })
}
