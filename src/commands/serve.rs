//! `serve`: runs the service until it is told to stop.
//!
//! SIGTERM and SIGINT drain, a second one ends at once; SIGHUP opens the files of sinks again and reads certificates and
//! secrets anew. A supervisor is told of all of this.

use super::{Failure, Global, chain};
use crate::{
    app::{self, Ended},
    observe::log,
    supervisor::{self, Sockets, Supervisor},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Options of `serve`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {}

/// Runs the service, on sockets that were handed over where there are any.
///
/// # Errors
/// 78 when the configuration is at fault; 75 when its surroundings are (a port that is taken, a folder that is not writable),
/// which may mend themselves; 70 when a part of the service failed.
pub async fn run(_args: Args, global: &Global, sockets: Result<Sockets, supervisor::Error>) -> Result<(), Failure> {
    let config = global.load()?;
    let sockets = sockets.map_err(|error| Failure::configuration(chain(&error)))?;
    // Dropped last: what is logged while draining is still written.
    let _log = log::start(&config.log).map_err(|error| Failure::ours(format_args!("cannot start the log: {error}")))?;
    forbid_cores();
    let signals = |error| Failure::ours(format_args!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(signals)?;
    let mut running = app::start_on(config, sockets).await.map_err(|error| {
        let message = chain(&error);
        if error.is_configuration() { Failure::configuration(message) } else { Failure::not_now(message) }
    })?;
    let supervisor = Supervisor::tell(running.standing.clone())
        .map_err(|error| Failure::ours(format_args!("cannot start a thread: {error}")))?;
    let mut draining = false;
    loop {
        tokio::select! {
            ended = running.ended() => {
                return match ended {
                    Ended::Drained => Ok(()),
                    Ended::Afresh => Err(Failure::not_now(
                        "another program held the inbox locked at the start, and does not any more: start the service again",
                    )),
                    Ended::Early => Err(Failure::ours("a part of the service failed; the log says which")),
                };
            }
            _ = hangup.recv() => {
                supervisor.reloading();
                let (reloaded, supervisor) = (running.reload(), supervisor.clone());
                tokio::spawn(async move {
                    reloaded.await;
                    supervisor.reloaded();
                });
            }
            Some(()) = async { tokio::select! { got = terminate.recv() => got, got = interrupt.recv() => got } } => {
                if draining {
                    return Err(Failure::ours("ended at once by a second signal; what was accepted is kept"));
                }
                tracing::info!(code = "stop_asked", "told to stop: draining");
                draining = true;
                supervisor.stopping();
                running.drain();
            }
        }
    }
}

/// A crash must not write bank data and keys to a file. Where the system refuses, the service runs all the same.
fn forbid_cores() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(code = "core_dumps_possible", %error, "cannot forbid core dumps: a crash may leave bank data in a file");
    }
}
