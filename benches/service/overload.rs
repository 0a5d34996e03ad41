//! What the service still takes while it has more callers than places, and refuses some of them.

use crate::{
    Outcome,
    bodies::Bodies,
    child::Process,
    measure::{Scale, median, posts},
    note,
    scene::{Scene, Settings},
};
use double::load::{Load, Target, load};
use std::fs;

/// Callers without overload.
const CALLERS: usize = 64;
/// Callers under overload, each of which comes back at once after an answer.
const CROWD: usize = 2048;
/// Requests that are taken at once then.
const PLACES: usize = 16;

/// What came of one round.
struct Answers {
    /// Stored, a second.
    taken: f64,
    /// Answered 503, a second.
    refused: f64,
}

/// A service with room for all of its callers, and one that must refuse, in turns.
pub(crate) async fn run(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let configuration = |name: &str| {
        let sink = scene.file_sink(&format!("{name}.ndjson"));
        scene.configuration(name, Settings { workers: 0, sink: &sink, linxo: "" })
    };
    let (calm, crowded) = (configuration("calm")?, configuration("crowded")?);
    let text = fs::read_to_string(&crowded)?;
    fs::write(&crowded, text.replace("[listener]\n", &format!("[listener]\nmax_requests = {PLACES}\n")))?;
    let (calm, crowded) = (Process::service(&calm).await?, Process::service(&crowded).await?);
    let (roomy, narrow) = (scene.target(&calm)?, scene.target(&crowded)?);
    let (mut counts, mut pairs) = ([1000, 4000], Vec::new());
    // The first turn of each says how many posts a turn takes.
    for turn in 0..=scale.rounds {
        let peak = answers(&roomy, CALLERS, counts[0]).await?;
        scene.folded("calm").await?;
        let under = answers(&narrow, CROWD, counts[1]).await?;
        scene.folded("crowded").await?;
        if turn == 0 {
            counts = [posts(peak.taken, scale), posts(under.taken + under.refused, scale)];
            continue;
        }
        note(&format!(
            "  peak {:.0}/s; crowded: {:.0}/s taken, {:.0}/s refused",
            peak.taken, under.taken, under.refused
        ));
        pairs.push((peak, under));
    }
    calm.stop().await?;
    crowded.stop().await?;
    let of = |figure: fn(&(Answers, Answers)) -> f64| median(pairs.iter().map(figure));
    Ok(format!(
        "### More callers than places\n\n\
         | callers | `listener.max_requests` | taken/s | refused with 503/s | share of the peak that is taken |\n\
         | ---: | ---: | ---: | ---: | ---: |\n\
         | {CALLERS} | 4096 | {:.0} | 0 | 1 |\n\
         | {CROWD} | {PLACES} | {:.0} | {:.0} | {:.2} |\n",
        of(|(peak, _)| peak.taken),
        of(|(_, under)| under.taken),
        of(|(_, under)| under.refused),
        of(|(peak, under)| under.taken / peak.taken),
    ))
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
