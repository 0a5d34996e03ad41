//! What a fetch has at hand.

use super::figures::Figures;
use crate::{
    observe::traces::Tracer,
    work::{credentials::Credentials, filters::Filters, source::Source},
};
use inbox::{Fetch, Readings, Shelf};
use std::sync::Arc;
use tokio::sync::Notify;

/// Does one kind of fetch.
pub struct Fetcher {
    /// What is fetched.
    pub fetch: Fetch,
    /// From where.
    pub source: Arc<Source>,
    /// Where it is kept.
    pub readings: Arc<dyn Readings>,
    /// What is there already.
    pub shelf: Arc<dyn Shelf>,
    /// Who is told that a user's credentials are good.
    pub credentials: Arc<Credentials>,
    /// Those of the sinks: what all of them leave out is not fetched.
    pub filters: Filters,
    /// What is counted.
    pub figures: Figures,
    /// Makes spans of completions and their calls.
    pub tracer: Tracer,
    /// Others wait for a slot: one whose turn is over gives its own back.
    pub crowd: Notify,
}
