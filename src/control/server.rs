//! The service's end of the control socket.

use super::{
    happenings::{Wanted, follow},
    overview::{Overview, overview},
    report::{Changed, Held, SinkReport, report, try_out},
};
use crate::work::{Gate, Source};
use axum::{
    Json, Router,
    body::Body,
    extract::{self, Path, Query},
    http::StatusCode,
    routing::{get, post},
};
use base::{error::chain, folder};
use bytes::Bytes;
use delivery::Slot;
use futures_util::Stream;
use inbox::{Erased, Persons, Receivers, Sinks, Stats, Subject, Upkeep, Watch};
use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{self, PathBuf},
    sync::Arc,
};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// What the commands reach.
#[derive(Clone)]
pub struct State {
    /// The sinks, in the order of the configuration.
    pub sinks: Arc<[Sink]>,
    /// `source` of deliveries.
    pub source: String,
    /// Where pauses are kept.
    pub kept: Arc<dyn Sinks>,
    /// Erases what is held of somebody.
    pub persons: Arc<dyn Persons>,
    /// Asked for figures.
    pub upkeep: Arc<dyn Upkeep>,
    /// What the service holds.
    pub held: Arc<Held>,
    /// The client of the vendor's API.
    pub api: Arc<Source>,
    /// Tells what happens.
    pub watch: Arc<dyn Watch>,
    /// Tells who takes events.
    pub receivers: Arc<dyn Receivers>,
    /// Which start of the service this is.
    pub service: String,
}

/// One sink.
pub struct Sink {
    /// The destination.
    pub slot: Arc<Slot>,
    /// What stands before it.
    pub gate: Arc<Gate>,
    /// The word of its kind.
    pub kind: &'static str,
}

/// A socket that nobody is answered on yet. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    file: PathBuf,
}

/// Makes the socket, in place of one that an earlier process left behind. The inbox's lock says that there is no other service.
///
/// # Errors
/// The system's.
pub fn bind(file: &path::Path) -> io::Result<Bound> {
    // Beside a file there is a folder; with the inbox on a server there may be none yet.
    if !folder::of(file).exists() {
        folder::make(folder::of(file))?;
    }
    // Made where nobody else can reach it, and moved when its mode is right.
    let private = tempfile::Builder::new().prefix(".c").tempdir_in(folder::of(file))?;
    let made = private.path().join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
    fs::rename(&made, file)?;
    Ok(Bound { listener, file: file.to_owned() })
}

impl Bound {
    /// Answers until `stop` is cancelled.
    pub async fn serve(self, state: State, stop: CancellationToken) {
        let Self { listener, file } = self;
        let router = Router::new()
            .route("/sinks", get(list))
            .route("/held", get(held))
            .route("/inbox/stats", get(stats))
            .route("/inbox/happenings", get(happenings))
            .route("/sinks/{name}/pause", post(pause))
            .route("/sinks/{name}/resume", post(resume))
            .route("/sinks/{name}/test", post(test))
            .route("/inbox/clear", post(clear))
            .route("/inbox/erase", post(erase))
            .with_state(state);
        tokio::select! {
            ended = axum::serve(listener, router).into_future() => {
                if let Err(error) = ended {
                    tracing::error!(code = "control_socket_ended", error = %chain(&error), "the control socket ended; commands cannot reach this service any more");
                }
                stop.cancelled().await;
            }
            () = stop.cancelled() => {}
        }
        // One that is gone already needs no removal.
        fs::remove_file(file).ok();
    }
}

type Answer<T> = Result<Json<T>, (StatusCode, String)>;

impl State {
    /// How every sink stands.
    ///
    /// # Errors
    /// Those of the inbox.
    pub async fn reports(&self) -> Result<Vec<SinkReport>, inbox::Error> {
        Ok(self.reports_of(&self.upkeep.stats().await?))
    }

    fn reports_of(&self, figures: &Stats) -> Vec<SinkReport> {
        let reports = self.sinks.iter().map(|sink| {
            let name = sink.slot.name();
            report(name, sink.kind, figures.of_sink(name), Some(sink.gate.view()), None)
        });
        reports.collect()
    }

    /// How the inbox stands as a whole.
    ///
    /// # Errors
    /// Those of the inbox.
    pub async fn overview(&self) -> Result<Overview, inbox::Error> {
        let figures = self.upkeep.stats().await?;
        let api = self.api.client().map(|client| client.standing());
        // The rest is told while the store is away, too.
        let receivers = self.receivers.receivers().await.unwrap_or_default();
        Ok(overview(&figures, &self.reports_of(&figures), &receivers, api, (true, api.is_some())))
    }

    /// What happens, line by line, until nothing will happen any more.
    pub fn follow(&self, wanted: Wanted) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
        follow(Arc::clone(&self.watch), &self.service, wanted)
    }

    /// Pauses a sink, or lets it go on; `None`: there is no sink of this name.
    ///
    /// # Errors
    /// Those of the inbox.
    pub async fn set_paused(&self, name: &str, is_paused: bool) -> Result<Option<Changed>, inbox::Error> {
        let Some(Sink { gate, .. }) = self.sinks.iter().find(|sink| sink.slot.name().as_str() == name) else {
            return Ok(None);
        };
        let changed = self.kept.pause(gate.name(), is_paused).await?;
        let kept = self.kept.paused().await?;
        gate.set_paused(kept.get(gate.name()).copied());
        Ok(Some(Changed { changed }))
    }
}

async fn list(extract::State(state): extract::State<State>) -> Answer<Vec<SinkReport>> {
    state.reports().await.map(Json).map_err(|error| failed(&error))
}

async fn stats(extract::State(state): extract::State<State>) -> Answer<Overview> {
    state.overview().await.map(Json).map_err(|error| failed(&error))
}

async fn happenings(extract::State(state): extract::State<State>, Query(wanted): Query<Wanted>) -> Body {
    Body::from_stream(state.follow(wanted))
}

async fn held(extract::State(state): extract::State<State>) -> Json<Held> {
    Json(Held::clone(&state.held))
}

async fn pause(extract::State(state): extract::State<State>, Path(name): Path<String>) -> Answer<Changed> {
    set_paused(&state, &name, true).await
}

async fn resume(extract::State(state): extract::State<State>, Path(name): Path<String>) -> Answer<Changed> {
    set_paused(&state, &name, false).await
}

async fn set_paused(state: &State, name: &str, is_paused: bool) -> Answer<Changed> {
    let changed = state.set_paused(name, is_paused).await.map_err(|error| failed(&error))?;
    changed.map(Json).ok_or_else(no_sink)
}

async fn test(extract::State(state): extract::State<State>, Path(name): Path<String>) -> Answer<super::report::Tested> {
    Ok(Json(try_out(&find(&state, &name)?.slot, &state.source).await))
}

async fn clear(extract::State(state): extract::State<State>) -> Answer<Changed> {
    state.upkeep.fold_log().await.map_err(|error| failed(&error))?;
    Ok(Json(Changed { changed: true }))
}

async fn erase(extract::State(state): extract::State<State>, Json(whose): Json<Subject>) -> Answer<Erased> {
    let erased = state.persons.erase(&whose).await.map_err(|error| failed(&error))?;
    Ok(Json(erased))
}

fn find<'a>(state: &'a State, name: &str) -> Result<&'a Sink, (StatusCode, String)> {
    let mut sinks = state.sinks.iter();
    sinks.find(|sink| sink.slot.name().as_str() == name).ok_or_else(no_sink)
}

fn no_sink() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, "the running service has no sink of this name: was it started with other settings?".into())
}

fn failed(error: &inbox::Error) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, chain(error))
}
