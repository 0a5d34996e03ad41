//! The service's figures, all taken in one run, as tables that can be pasted into `docs/benchmarks.md`.
//!
//! In: names of parts (`receipt beside steady handshakes overload delivery drain
//! completion memory start growth many-receipt many-delivery pages`; none: all) and `--quick`. Out: one
//! Markdown table a part on standard output, what is being done on standard error.
//!
//! The service is the real binary in a process of its own, as shipped: durable commits, a log line for each event. Where it
//! is compared, it is with the **ceiling**: the same stack (axum, hyper, tokio-rustls, the same TLS settings from the same
//! file) that parses the JSON, stores nothing and answers 200. Both stand ready at once and are measured in turns, so
//! that a machine whose speed changes misleads neither; the one that is not measured does nothing.
//!
//! Not here: micro-benchmarks of single functions, and any judgement. A test never times, a benchmark never fails for speed.

#![expect(clippy::float_arithmetic, reason = "ratios and percentiles are for people; no amount of money is near")]

mod bodies;
mod child;
mod completion;
mod delivery;
mod drain;
mod footprint;
mod growth;
mod many;
mod measure;
mod overload;
mod pages;
mod publish;
mod receipt;
mod roles;
mod scene;

use std::{
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};

/// What a part gives back; an error ends the run, because a figure of something broken is worse than none.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PARTS: [&str; 14] = [
    "receipt",
    "beside",
    "steady",
    "handshakes",
    "overload",
    "delivery",
    "drain",
    "completion",
    "memory",
    "start",
    "growth",
    "many-receipt",
    "many-delivery",
    "pages",
];

fn main() -> ExitCode {
    // Fails only when a provider is installed already, and then there is one.
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let outcome =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into).and_then(|runtime| {
            match arguments.split_first() {
                Some((first, rest)) if first == "role" => runtime.block_on(roles::play(rest)),
                _ => runtime.block_on(run(&arguments)),
            }
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Outcome<()> {
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let parts: Vec<&str> = arguments.iter().map(String::as_str).filter(|argument| *argument != "--quick").collect();
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(part)) {
        return Err(format!("no such part: {unknown}; there are {}", PARTS.join(", ")).into());
    }
    let scale = if is_quick { measure::Scale::QUICK } else { measure::Scale::FULL };
    for part in PARTS.into_iter().filter(|part| parts.is_empty() || parts.contains(part)) {
        note(&format!("{part} ..."));
        let table = match part {
            "receipt" => Box::pin(receipt::alone(&scale)).await?,
            "beside" => Box::pin(receipt::beside(&scale)).await?,
            "steady" => Box::pin(delivery::steady(&scale)).await?,
            "handshakes" => Box::pin(receipt::handshakes(&scale)).await?,
            "overload" => Box::pin(overload::run(&scale)).await?,
            "delivery" => Box::pin(delivery::run(&scale)).await?,
            "drain" => Box::pin(drain::run(&scale)).await?,
            "completion" => Box::pin(completion::run(&scale)).await?,
            "memory" => Box::pin(footprint::memory(&scale)).await?,
            "start" => Box::pin(footprint::start(&scale)).await?,
            "growth" => Box::pin(growth::run(&scale)).await?,
            "many-receipt" => Box::pin(many::receipt(&scale)).await?,
            "many-delivery" => Box::pin(many::delivery(&scale)).await?,
            _ => Box::pin(pages::run(&scale)).await?,
        };
        writeln!(io::stdout(), "{table}")?;
    }
    Ok(())
}

/// Says on standard error what is being done.
fn note(text: &str) {
    // Nobody is there to be told that nobody is there to be told.
    writeln!(io::stderr(), "{text}").unwrap_or_default();
}
