//! The commands' end of the control socket.

use super::{
    happenings::{Line, Wanted},
    overview::Overview,
    report::{Changed, Held, SinkReport, Tested},
};
use bytes::BytesMut;
use inbox::{Erased, Subject};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::{io, os::unix::net::UnixStream, path::Path, time::Duration};

/// For everything; a test delivery may take as long as the sink's own `timeout`.
const TIME: Duration = Duration::from_mins(11);

/// Why a running service did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket is there and cannot be used.
    #[error("cannot use the control socket of the running service")]
    Socket(#[source] io::Error),
    /// The client could not be built, or the exchange broke.
    #[error("the running service did not answer")]
    Exchange(#[from] reqwest::Error),
    /// It says why it does not.
    #[error("{0}")]
    Refused(String),
    /// It is of an earlier version, which does not know this request.
    #[error("the running service does not know this request: it is of an earlier version")]
    Unknown,
    /// A line of the stream is none that this version knows.
    #[error("the running service said what this version does not understand")]
    Line(#[from] serde_json::Error),
}

/// A running service.
#[derive(Debug)]
pub struct Client(reqwest::Client);

impl Client {
    /// The service behind a socket; `None` where none runs.
    ///
    /// # Errors
    /// [`Error::Socket`], where nobody can say whether one runs.
    pub fn find(file: &Path) -> Result<Option<Self>, Error> {
        match UnixStream::connect(file) {
            Ok(_answered) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(Error::Socket(error)),
        }
        // Nothing here reaches TLS; without this an image that has no CA certificates could not build the client.
        Ok(Some(Self(reqwest::Client::builder().unix_socket(file).tls_certs_only([]).build()?)))
    }

    /// Every sink.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn sinks(&self) -> Result<Vec<SinkReport>, Error> {
        self.call(Method::GET, "sinks").await
    }

    /// What the service holds. Services of earlier versions do not say.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn held(&self) -> Result<Held, Error> {
        self.call(Method::GET, "held").await
    }

    /// The inbox as a whole.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn overview(&self) -> Result<Overview, Error> {
        self.call(Method::GET, "inbox/stats").await
    }

    /// What happens from now on, and what happened a short while ago.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn follow(&self, wanted: &Wanted) -> Result<Following, Error> {
        let request = self.0.get("http://localhost/inbox/happenings").query(wanted);
        Ok(Following::of(well(request.send().await?).await?))
    }

    /// Pauses a sink, or lets it go on.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn pause(&self, sink: &str, pause: bool) -> Result<Changed, Error> {
        let word = if pause { "pause" } else { "resume" };
        self.call(Method::POST, &format!("sinks/{sink}/{word}")).await
    }

    /// Makes a test delivery.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn test(&self, sink: &str) -> Result<Tested, Error> {
        self.call(Method::POST, &format!("sinks/{sink}/test")).await
    }

    /// Has what was deleted removed from the log and the journal beside the inbox.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn clear(&self) -> Result<Changed, Error> {
        self.call(Method::POST, "inbox/clear").await
    }

    /// Has everything of a user or a connection erased.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn erase(&self, whose: &Subject) -> Result<Erased, Error> {
        Self::answer(self.0.post("http://localhost/inbox/erase").json(whose)).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Error> {
        Self::answer(self.0.request(method, format!("http://localhost/{path}")).timeout(TIME)).await
    }

    async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Error> {
        Ok(well(request.send().await?).await?.json().await?)
    }
}

/// The answer, unless it says that nothing was done.
async fn well(answer: Response) -> Result<Response, Error> {
    if answer.status() == StatusCode::OK {
        return Ok(answer);
    }
    let reason = answer.text().await?;
    // Every refusal has a reason; routes that are not there have none.
    if reason.is_empty() { Err(Error::Unknown) } else { Err(Error::Refused(reason)) }
}

/// What happens, line by line.
#[derive(Debug)]
pub struct Following {
    response: Response,
    /// What came and is not a whole line yet, or not taken.
    read: BytesMut,
}

impl Following {
    /// The stream of an answer.
    #[must_use]
    pub fn of(response: Response) -> Self {
        Self { response, read: BytesMut::new() }
    }

    /// The next line; `None` when the service has ended.
    ///
    /// # Errors
    /// [`Error`]: the service ended in the middle, or cannot be understood.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn line(&mut self) -> Result<Option<Line>, Error> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end + 1);
                // An empty one says that the service is still there.
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            match self.response.chunk().await? {
                Some(chunk) => self.read.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}
