//! POST of the completed event to the integrator's own endpoint, signed, with the attributes as headers.
//!
//! In: a delivery. Out: the endpoint's answer as a decision (the table in `docs/delivery.md`). The body is the completed event byte for
//! byte, white space included, streamed piece by piece with an exact `Content-Length`. Unless `signed` is false, the body is
//! read once before the request begins, because `webhook-signature` is a header and stands before the body.
//!
//! The same entry carries the same `webhook-id` on every attempt, with a new timestamp and signature each time; the
//! receiver removes duplicates by that id. Redirects are not followed: they would carry an event with personal data to a
//! host that nobody configured. The answer's body is thrown away unread, apart from a small rest that keeps the
//! connection usable. Reasons name the status or the phase that failed, never the URL, which may hold credentials.

mod answer;
mod client;
mod fault;
mod request;
mod settings;
#[cfg(test)]
mod tests;

pub use self::settings::{KNOWN_SECRET, Settings};

use crate::{
    opens::{Cause, Opens, Server},
    signature::Signer,
    sink::{Delivery, Error, Sink},
};
use async_trait::async_trait;
use base::{error::chain, reach};
use client::Problem;
use reqwest::{Client, Url};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

impl Opens for Settings {
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Ok(Box::new(Http::new(self)?))
    }

    fn server(&self) -> Option<Server> {
        let url = Url::parse(&self.url).ok()?;
        let (host, timeout, authorities) = (reach::host(&url), self.timeout, self.authorities.clone());
        let reach = Box::pin(async move {
            let client = client::builder(&url, timeout, &authorities).map_err(|problem| chain(&problem))?;
            let reached = reach::reach(client, &url).await;
            reached.map(|()| Vec::new()).map_err(|error| fault::explain(&error, timeout).reason)
        });
        Some(Server { host, reach })
    }

    fn files(&self) -> Vec<&Path> {
        self.authorities.iter().map(PathBuf::as_path).collect()
    }

    fn is_signed(&self) -> bool {
        self.signed
    }

    fn may_change(&self) -> bool {
        true
    }
}

/// The sink.
#[derive(Debug)]
struct Http {
    client: Client,
    url: Url,
    signer: Signer,
    timeout: Duration,
}

impl Http {
    /// Reads the authorities and builds the client; connects to nothing.
    fn new(settings: &Settings) -> Result<Self, Problem> {
        let url = Url::parse(&settings.url).map_err(Problem::Url)?;
        Ok(Self {
            client: client::build(&url, settings.timeout, &settings.authorities)?,
            url,
            signer: Signer::new(&settings.secrets).map_err(Problem::Secret)?,
            timeout: settings.timeout,
        })
    }
}

#[async_trait]
impl Sink for Http {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        let headers = request::headers(delivery, &self.signer).await?;
        let (body, mut unreadable) = request::body(&delivery.body);
        let sent = self.client.post(self.url.clone()).headers(headers).body(body).send().await;
        // An answer to half a body says nothing of the endpoint, whatever the answer is.
        if let Ok(error) = unreadable.try_recv() {
            return Err(error.into());
        }
        let response = sent.map_err(|error| fault::explain(&error, self.timeout))?;
        let judged = answer::judge(&response);
        answer::drain(response).await;
        Ok(judged?)
    }
}
