//! `tail`: what happens, one line each, as it happens.
//!
//! The running service tells it, through the control socket or its API. When the service ends, the command waits for the next one and goes on
//! with everything that one has done since its start. The command holds no more than what the socket holds; where it reads too
//! slowly the service skips, and the command says how much.

use super::output::emit;
use crate::{
    commands::{
        Failure, Global,
        guest::{note, unreachable},
        remote::{Refusal, Service},
    },
    config::Config,
    control::{self, Client, Error, Following, Line, Told, Wanted},
};
use base::text::printable;
use clap::ValueEnum;
use inbox::{Fetch, What};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{io, ops::ControlFlow, path::PathBuf, pin::pin, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};

/// Between two looks for a service.
const LOOK: Duration = Duration::from_millis(100);
/// The same through the network.
const LOOK_AFAR: Duration = Duration::from_secs(1);
/// Between two looks whether anybody still reads.
const READER_LOOK: Duration = Duration::from_millis(500);
/// Looks only, and does not wait.
const NOTHING: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Options of `inbox tail`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Only what happens at this sink, or at the completion
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only what happens to entries of this connection
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// Only this; may be given several times
    #[arg(long, value_name = "STATE")]
    state: Vec<StateName>,
    /// Begin with the last so many lines of what happened before
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    last: usize,
    /// Print NDJSON instead of text
    #[arg(long)]
    json: bool,
}

/// What a line can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateName {
    /// The event is new
    Accepted,
    /// Its accounts are there
    Completed,
    /// A sink took it
    Delivered,
    /// It was left out, because the sink has something newer
    Dropped,
    /// Completed, delivered or dropped
    Done,
    /// An attempt failed, and there will be another one
    Waiting,
    /// A person must act, or the cause must go
    Parked,
}

impl StateName {
    const fn what(self) -> &'static [What] {
        match self {
            Self::Accepted => &[What::Accepted],
            Self::Completed => &[What::Completed],
            Self::Delivered => &[What::Delivered],
            Self::Dropped => &[What::Dropped],
            Self::Done => &[What::Completed, What::Delivered, What::Dropped],
            Self::Waiting => &[What::Waiting],
            Self::Parked => &[What::Parked],
        }
    }
}

impl Args {
    fn wanted(&self) -> Wanted {
        let what: Vec<&str> = self.state.iter().flat_map(|state| state.what()).map(|what| what.as_str()).collect();
        Wanted {
            last: Some(self.last),
            sink: self.sink.clone(),
            connection: self.connection.clone(),
            what: (!what.is_empty()).then(|| what.join(",")),
            ..Wanted::default()
        }
    }

    /// A slip in a name would look like nothing happening.
    fn check(&self, config: &Config) -> Result<(), Failure> {
        match &self.sink {
            Some(name)
                if Fetch::ALL.iter().all(|fetch| fetch.as_str() != name)
                    && config.sinks.iter().all(|sink| sink.name.as_str() != name) =>
            {
                Err(Failure::no_sink(config, name))
            }
            _ => Ok(()),
        }
    }
}

/// Where the service is that tells.
enum Teller<'a> {
    /// Behind this socket.
    Here(PathBuf),
    /// Behind its API.
    Afar(&'a Service),
}

impl Teller<'_> {
    /// What happens from now on; `None`: no service is there, or none any more.
    async fn follow(&self, wanted: &Wanted) -> Result<Option<Following>, Failure> {
        match self {
            Self::Here(socket) => {
                let service = Client::find(socket).map_err(|error| unreachable(&error))?;
                let Some(service) = service else { return Ok(None) };
                match service.follow(wanted).await {
                    Ok(following) => Ok(Some(following)),
                    // It ended while it was asked.
                    Err(Error::Exchange(_)) => Ok(None),
                    Err(error) => Err(unreachable(&error)),
                }
            }
            Self::Afar(service) => match service.follow(wanted).await {
                Ok(following) => Ok(Some(following)),
                // Before it was reached once, that is no service but a slip in its address.
                Err(Refusal::Exchange(_)) if wanted.service.is_some() => Ok(None),
                Err(error) => Err(unreachable(&error)),
            },
        }
    }

    /// Whether the end of a stream says nothing about the service: one of the API ends after some minutes.
    const fn ends_streams(&self) -> bool {
        matches!(self, Self::Afar(_))
    }

    /// Between two looks for a service.
    const fn pause(&self) -> Duration {
        match self {
            Self::Here(_) => LOOK,
            Self::Afar(_) => LOOK_AFAR,
        }
    }
}

/// Prints what happens until it is told to end, or nobody reads any more.
pub(super) async fn tail(global: &Global, service: Option<&Service>, args: &Args) -> Result<(), Failure> {
    let teller = if let Some(service) = service {
        Teller::Afar(service)
    } else {
        let config = global.load()?;
        args.check(&config)?;
        Teller::Here(control::path(&config.inbox))
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let follow = pin!(follow(&teller, args));
    tokio::select! {
        result = follow => result,
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
        () = reader_left() => Ok(()),
    }
}

/// Resolves when nobody reads standard output any more, which a command that has nothing to say would not notice.
async fn reader_left() {
    loop {
        let stdout = io::stdout();
        let mut looked_at = [PollFd::new(&stdout, PollFlags::empty())];
        let found = poll(&mut looked_at, Some(&NOTHING));
        let [looked_at] = looked_at;
        if found.is_ok() && looked_at.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            return;
        }
        time::sleep(READER_LOOK).await;
    }
}

async fn follow(teller: &Teller<'_>, args: &Args) -> Result<(), Failure> {
    let mut wanted = args.wanted();
    let mut is_waiting_said = false;
    loop {
        let Some(mut following) = teller.follow(&wanted).await? else {
            if !is_waiting_said {
                is_waiting_said = true;
                note(format_args!("no service runs on this inbox: waiting for one"));
            }
            time::sleep(teller.pause()).await;
            continue;
        };
        if is_waiting_said {
            note(format_args!("a service runs"));
        }
        is_waiting_said = false;
        if print(&mut following, &mut wanted, args.json).await?.is_break() {
            return Ok(());
        }
        if !teller.ends_streams() {
            note(format_args!(
                "the service has ended; the last of what it did may not stand here. Waiting for it to start again"
            ));
            is_waiting_said = true;
        }
    }
}

/// Prints what one service tells. `Continue` when the service has ended.
async fn print(following: &mut Following, wanted: &mut Wanted, is_json: bool) -> Result<ControlFlow<()>, Failure> {
    let mut text = Vec::new();
    loop {
        match following.line().await {
            Ok(Some(Line::Service(service))) => wanted.service = Some(service),
            Ok(Some(Line::Skipped(count))) => {
                note(format_args!("{count} lines skipped: more happened than could be written here"));
            }
            Ok(Some(Line::Happened(told))) => line(&told, is_json, &mut text)?,
            // The end of what came together.
            Ok(Some(Line::Next(next))) => {
                wanted.from = Some(next);
                if emit(&text)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                text.clear();
            }
            Ok(None) | Err(Error::Exchange(_)) => return Ok(ControlFlow::Continue(())),
            Err(error) => return Err(unreachable(&error)),
        }
    }
}

fn line(told: &Told, is_json: bool, text: &mut Vec<u8>) -> Result<(), Failure> {
    if is_json {
        serde_json::to_writer(&mut *text, told)
            .map_err(|error| Failure::ours(format_args!("a line cannot be written as JSON: {error}")))?;
    } else {
        text.extend_from_slice(words(told).as_bytes());
    }
    text.push(b'\n');
    Ok(())
}

/// A line for people.
fn words(told: &Told) -> String {
    let Told { at, what, seq, stage, delivery_id, connection_id, reason, due, .. } = told;
    let gone = "(deleted)";
    let [id, connection] = [delivery_id, connection_id].map(|id| printable(id.as_deref().unwrap_or(gone)));
    let stage = stage.as_deref().map(|stage| format!("  {}", printable(stage))).unwrap_or_default();
    let due = due.as_ref().map(|due| format!("  (again at {due})")).unwrap_or_default();
    let reason = reason.as_deref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
    format!("{at:<24}  {what:<9}  {seq:>6}  {id}  connection {connection}{stage}{reason}{due}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_what_and_why() {
        let told = Told {
            at: "2026-11-23T10:00:00.123Z".to_owned(),
            what: "waiting".to_owned(),
            seq: 17,
            stage: Some("app".to_owned()),
            delivery_id: Some("abc\u{1b}".to_owned()),
            connection_id: Some("123".to_owned()),
            user_id: Some("u".to_owned()),
            reason: Some("the endpoint answered 503".to_owned()),
            due: Some("2026-11-23T10:00:05Z".to_owned()),
        };
        assert_eq!(
            words(&told),
            "2026-11-23T10:00:00.123Z  waiting        17  abc\\u{1b}  connection 123  app: the endpoint answered 503  \
             (again at 2026-11-23T10:00:05Z)"
        );
        let gone = Told {
            what: "accepted".to_owned(),
            stage: None,
            delivery_id: None,
            connection_id: None,
            reason: None,
            due: None,
            ..told
        };
        assert_eq!(words(&gone), "2026-11-23T10:00:00.123Z  accepted       17  (deleted)  connection (deleted)");
    }
}
