//! The admin API of a service, for commands that run somewhere else: `--admin URL`.
//!
//! What the API says becomes what an inbox beside the command would say, so that commands show it in the same way. The service notes
//! acts in its audit trail under the name of the token.

mod parts;

use super::{Failure, chain};
use crate::{
    control::{Changed, Following, Overview, SinkReport, Tested, Wanted},
    story::json::Cursor,
};
use async_trait::async_trait;
use base::{clock::Timestamp, text::printable};
use bytes::Bytes;
use clap::Args;
use inbox::{
    Act, ActView, Audit, Batch, Desk, EntryPage, EntryView, Erased, Error, Fill, Filter, Place, RefusedView, Seq,
    SinkName, Sinks, Span, Story, Subject, rules::Order,
};
use parts::{Entry, Reading, Refused, stage, time};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{collections::BTreeMap, env, fs, path::PathBuf, time::Duration};

/// The variable that holds the token where no file is named.
const TOKEN: &str = "LINXO_ADMIN_TOKEN";
/// For one request; a replay of many entries takes its time.
const TIME: Duration = Duration::from_mins(5);
/// For a request whose answer goes on for as long as it is read.
const LONG: Duration = Duration::from_hours(24);
/// Entries asked for at once.
const PAGE: usize = 500;

/// Where a service is that is not on this machine, or whose inbox this user may not open.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Remote {
    /// Ask a running service through its admin listener such as `https://host:9090`; no configuration is read then
    #[arg(long, global = true, value_name = "URL", env = "LINXO_ADMIN")]
    admin: Option<String>,
    /// File with the token for --admin [default: the variable `LINXO_ADMIN_TOKEN`]
    #[arg(long, global = true, value_name = "FILE", requires = "admin")]
    token_file: Option<PathBuf>,
    /// PEM file of the authority that signed the certificate of the listener
    #[arg(long, global = true, value_name = "FILE", requires = "admin")]
    cacert: Option<PathBuf>,
}

/// A service that is reached through its API.
#[derive(Debug)]
pub(super) struct Service {
    client: Client,
    base: Url,
    token: String,
}

impl Remote {
    /// The service; `None`: the inbox is beside this command.
    ///
    /// # Errors
    /// 64 for what cannot be a service, or files that cannot be read.
    pub(super) fn service(&self) -> Result<Option<Service>, Failure> {
        let Some(admin) = self.admin.as_deref().filter(|admin| !admin.is_empty()) else { return Ok(None) };
        let base = Url::parse(admin).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let base = base.ok_or_else(|| Failure::usage("--admin is no URL such as https://linxo.internal:9090"))?;
        let read = |file: &PathBuf| {
            fs::read(file).map_err(|error| Failure::usage(format_args!("cannot read {}: {error}", file.display())))
        };
        let token = match &self.token_file {
            Some(file) => String::from_utf8_lossy(&read(file)?).trim().to_owned(),
            None => env::var(TOKEN).unwrap_or_default(),
        };
        if token.is_empty() {
            return Err(Failure::usage(format_args!(
                "there is no token for --admin: name --token-file, or set {TOKEN}"
            )));
        }
        let mut builder = Client::builder().timeout(TIME).redirect(redirect::Policy::none());
        if let Some(file) = &self.cacert {
            let certificates = Certificate::from_pem_bundle(&read(file)?);
            let certificates = certificates.map_err(|error| Failure::usage(chain(&error)))?;
            builder = builder.tls_certs_only(certificates);
        } else if base.scheme() == "http" {
            // Nothing reaches TLS; so an image without any authority can build the client.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| Failure::ours(chain(&error)))?;
        Ok(Some(Service { client, base, token }))
    }

    /// # Errors
    /// 64: this command works on the inbox itself.
    pub(super) fn refuse(&self, what: &str) -> Result<(), Failure> {
        match &self.admin {
            Some(admin) if !admin.is_empty() => Err(Failure::only_here(what)),
            _ => Ok(()),
        }
    }
}

/// Why the service did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the service cannot be asked")]
    Exchange(#[from] reqwest::Error),
    #[error("{0}")]
    Said(String),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Store(Box::new(refusal))
    }
}

#[derive(Deserialize)]
struct Problem {
    detail: String,
}

impl Service {
    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        self.client.request(method, url).bearer_auth(&self.token)
    }

    /// The answer; `None`: there is no such thing.
    async fn answer(request: RequestBuilder) -> Result<Option<Response>, Refusal> {
        let answer = request.send().await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND => Ok(None),
            status => {
                let problem = serde_json::from_slice::<Problem>(&answer.bytes().await?);
                let detail = problem.map_or_else(|_none| "no reason is given".to_owned(), |problem| problem.detail);
                Err(Refusal::Said(format!("the service answered {status}: {}", printable(&detail))))
            }
        }
    }

    async fn bytes(request: RequestBuilder) -> Result<Option<Bytes>, Refusal> {
        match Self::answer(request).await? {
            Some(answer) => Ok(Some(answer.bytes().await?)),
            None => Ok(None),
        }
    }

    async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Refusal> {
        let answer = Self::bytes(request).await?.ok_or_else(missing)?;
        let odd = |error| Refusal::Said(format!("the service said what this version does not understand: {error}"));
        serde_json::from_slice(&answer).map_err(odd)
    }

    pub(super) async fn overview(&self) -> Result<Overview, Refusal> {
        Self::ask(self.request(Method::GET, &["overview"])).await
    }

    pub(super) async fn sinks(&self) -> Result<Vec<SinkReport>, Refusal> {
        #[derive(Deserialize)]
        struct Answer {
            sinks: Vec<SinkReport>,
        }
        let Answer { sinks } = Self::ask(self.request(Method::GET, &["sinks"])).await?;
        Ok(sinks)
    }

    pub(super) async fn pause(&self, sink: &str, is_paused: bool) -> Result<Changed, Refusal> {
        let word = if is_paused { "pause" } else { "resume" };
        Self::ask(self.request(Method::POST, &["sinks", sink, word])).await
    }

    /// Makes a test delivery.
    pub(super) async fn test(&self, sink: &str) -> Result<Tested, Refusal> {
        Self::ask(self.request(Method::POST, &["sinks", sink, "test"]).timeout(LONG)).await
    }

    /// What happens from now on.
    pub(super) async fn follow(&self, wanted: &Wanted) -> Result<Following, Refusal> {
        let request = self.request(Method::GET, &["happenings"]).query(wanted).timeout(LONG);
        Ok(Following::of(Self::answer(request).await?.ok_or_else(missing)?))
    }

    /// Entries with their events, as lines; without a limit, and of a user alone, everything that is held of that user.
    pub(super) async fn export(&self, filter: &Filter, limit: Option<usize>) -> Result<Response, Refusal> {
        let body = json!({ "entries": members(filter), "limit": limit });
        let request = self.request(Method::POST, &["entries", "export"]).json(&body).timeout(LONG);
        Self::answer(request).await?.ok_or_else(missing)
    }

    /// Erases everything of somebody.
    pub(super) async fn erase(&self, whose: &Subject) -> Result<Erased, Refusal> {
        Self::ask(self.request(Method::POST, &["erase"]).json(whose)).await
    }

    /// Refused requests, with how their bodies began.
    pub(super) async fn reveal_refused(&self, span: Span, limit: usize) -> Result<Vec<RefusedView>, Refusal> {
        let mut body = json!({ "limit": limit.clamp(1, PAGE) });
        if let Some(body) = body.as_object_mut() {
            body.extend(ends(span).map(|(name, at)| (name.to_owned(), at.into())));
        }
        let request = self.request(Method::POST, &["refused", "reveal"]).json(&body);
        let AllRefused { refused } = Self::ask(request).await?;
        Ok(refused.into_iter().map(Into::into).collect())
    }

    /// Replays, parks or purges, all in one request.
    pub(super) async fn change(
        &self,
        word: &str,
        filter: &Filter,
        limit: u64,
        reason: Option<&str>,
    ) -> Result<Done, Refusal> {
        let mut body = json!({ "entries": members(filter), "limit": limit });
        if let (Some(reason), Some(body)) = (reason, body.as_object_mut()) {
            body.insert("reason".to_owned(), reason.into());
        }
        Self::ask(self.request(Method::POST, &["entries", word]).json(&body)).await
    }

    fn spanned(&self, path: &str, span: Span, limit: usize) -> RequestBuilder {
        let mut query: Vec<(&str, String)> = vec![("limit", limit.clamp(1, PAGE).to_string())];
        query.extend(ends(span));
        self.request(Method::GET, &[path]).query(&query)
    }

    async fn story_of(&self, seq: Seq) -> Result<Story, Refusal> {
        #[derive(Deserialize)]
        struct Answer {
            reading: Option<Reading>,
            #[serde(default)]
            merged: Vec<Merged>,
        }
        #[derive(Deserialize)]
        struct Merged {
            stage: String,
            entries: Vec<i64>,
        }
        let Answer { reading, merged } = Self::ask(self.request(Method::GET, &["entries", &seq.to_string()])).await?;
        let merged = merged.into_iter().map(|of| (stage(&of.stage), of.entries.into_iter().map(Seq).collect()));
        Ok(Story { reading: reading.map(Into::into), behind: Vec::new(), facts: None, merged: merged.collect() })
    }
}

/// What a filter asks for, as the API calls it.
fn query(filter: &Filter) -> Vec<(&'static str, Value)> {
    let Filter { state, sink, connection, user, id, reason, seq, accepted, .. } = filter;
    let mut query: Vec<(&'static str, Value)> = Vec::new();
    query.extend(state.map(|state| ("state", state.as_str().into())));
    query.extend(sink.as_ref().map(|sink| ("sink", sink.as_str().into())));
    query.extend(connection.as_ref().map(|of| ("connection", of.as_str().into())));
    query.extend(user.as_ref().map(|of| ("user", of.as_str().into())));
    query.extend(id.as_ref().map(|id| ("id", id.as_str().into())));
    query.extend(reason.as_ref().map(|reason| ("reason", reason.as_str().into())));
    query.extend(seq.map(|Seq(number)| ("number", number.into())));
    query.extend(ends(*accepted).map(|(name, at)| (name, at.into())));
    query
}

/// The ends of a span, as the API calls them.
fn ends(span: Span) -> impl Iterator<Item = (&'static str, String)> {
    let ends = [("since", span.since), ("until", span.until)];
    ends.into_iter().filter_map(|(name, at)| Some((name, at.and_then(Timestamp::to_rfc3339)?)))
}

/// The same as an object; one that asks for everything says so.
fn members(filter: &Filter) -> Value {
    let query: BTreeMap<&str, Value> = query(filter).into_iter().collect();
    if query.is_empty() { json!({ "all": true }) } else { json!(query) }
}

fn missing() -> Refusal {
    Refusal::Said("the service has no such thing".to_owned())
}

/// What a change did.
#[derive(Debug, Deserialize)]
pub(super) struct Done {
    pub(super) changed: u64,
    #[serde(default)]
    pub(super) left: u64,
    /// Of a deletion.
    #[serde(default)]
    pub(super) is_cleared: bool,
}

/// The service has changed all that it was asked to change.
impl From<Done> for Batch {
    fn from(Done { changed, left, .. }: Done) -> Self {
        Self { changed, left, last: None }
    }
}

#[derive(Deserialize)]
struct AllRefused {
    refused: Vec<Refused>,
}

#[async_trait]
impl Desk for Service {
    async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<EntryView>, Error> {
        let mut page = self.page(filter, None, 0, limit).await?;
        let mut found = page.entries;
        while let Some(next) = page.next.filter(|_| found.len() < limit) {
            page = self.page(filter, Some(next), 0, limit - found.len()).await?;
            found.append(&mut page.entries);
        }
        Ok(found)
    }

    /// The service says by itself among how many it looks.
    async fn page(
        &self,
        filter: &Filter,
        behind: Option<Place>,
        _looked: usize,
        limit: usize,
    ) -> Result<EntryPage, Error> {
        #[derive(Deserialize)]
        struct Answer {
            entries: Vec<Entry>,
            next: Option<Cursor>,
        }
        let mut query: Vec<(&str, String)> = query(filter)
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        query.push(("limit", limit.clamp(1, PAGE).to_string()));
        query.extend(behind.map(|place| ("cursor", Cursor(place).to_string())));
        let page: Answer = Self::ask(self.request(Method::GET, &["entries"]).query(&query)).await?;
        let entries = page.entries.into_iter().map(EntryView::from).collect();
        Ok(EntryPage { entries, next: page.next.map(|Cursor(place)| place) })
    }

    /// Revealed, which the service notes.
    async fn body(&self, seq: Seq) -> Result<Option<Bytes>, Error> {
        Ok(Self::bytes(self.request(Method::POST, &["entries", &seq.to_string(), "reveal"])).await?)
    }

    /// The service looks it up by itself.
    async fn between(&self, _span: Span) -> Result<Option<(Seq, Seq)>, Error> {
        Ok(Some((Seq(1), Seq(i64::MAX - 1))))
    }

    async fn story(&self, seq: Seq) -> Result<Story, Error> {
        Ok(self.story_of(seq).await?)
    }

    async fn replay(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        Ok(self.change("replay", filter, limit as u64, None).await?.into())
    }

    async fn fill(&self, _: &SinkName, _: &Filter, _limit: usize, _how: Fill) -> Result<Option<Batch>, Error> {
        Err(Refusal::Said("sinks are not filled through the admin listener".to_owned()).into())
    }

    async fn hand_over(&self, _: &Filter, _to: &SinkName, _limit: usize) -> Result<Option<Batch>, Error> {
        Err(Refusal::Said("work is not moved through the admin listener".to_owned()).into())
    }

    async fn park(&self, filter: &Filter, limit: usize, reason: &str) -> Result<Batch, Error> {
        Ok(self.change("park", filter, limit as u64, Some(reason)).await?.into())
    }

    async fn purge(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        Ok(self.change("purge", filter, limit as u64, None).await?.into())
    }

    async fn refused(&self, span: Span, limit: usize) -> Result<Vec<RefusedView>, Error> {
        let AllRefused { refused } = Self::ask(self.spanned("refused", span, limit)).await?;
        Ok(refused.into_iter().map(Into::into).collect())
    }
}

/// The service notes by itself what it is asked to do.
#[async_trait]
impl Audit for Service {
    async fn begin(&self, _act: &Act) -> Result<i64, Error> {
        Ok(0)
    }

    async fn end(&self, _number: i64, _entries: u64) -> Result<(), Error> {
        Ok(())
    }

    async fn acts(&self, span: Span, limit: usize) -> Result<Vec<ActView>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            acts: Vec<Done>,
        }
        #[derive(Deserialize)]
        struct Done {
            number: i64,
            at: String,
            who: String,
            what: String,
            which: String,
            entries: Option<u64>,
        }
        let Answer { acts } = Self::ask(self.spanned("audit", span, limit)).await?;
        let act = |Done { number, at, who, what, which, entries }| ActView {
            number,
            at: time(&at),
            act: Act { who, what, which },
            entries,
        };
        Ok(acts.into_iter().map(act).collect())
    }

    async fn forget(&self, _cutoff: Timestamp) -> Result<u64, Error> {
        Ok(0)
    }
}

#[async_trait]
impl Sinks for Service {
    async fn paused(&self) -> Result<BTreeMap<SinkName, Timestamp>, Error> {
        let paused = self.sinks().await?.into_iter().filter(|sink| sink.state == "paused");
        Ok(paused.map(|sink| (SinkName::new(sink.name), time(sink.since.as_deref().unwrap_or_default()))).collect())
    }

    async fn pause(&self, sink: &SinkName, pause: bool) -> Result<bool, Error> {
        Ok(Self::pause(self, sink.as_str(), pause).await?.changed)
    }

    /// The configuration says it, and the service knows.
    async fn set_order(&self, _sink: &SinkName, _order: Order) -> Result<bool, Error> {
        Ok(false)
    }

    async fn resume(&self, _sink: &SinkName, _before: Timestamp, _limit: usize) -> Result<u64, Error> {
        Ok(0)
    }
}
