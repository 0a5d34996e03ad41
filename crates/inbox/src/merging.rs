//! Merging of events that wait together: what a sink asks for, and the facts of the one delivery that comes of it. When events go, and
//! which, is decided by [`rules::merging`](crate::rules::merging).

use crate::{Facts, Member, Seq, delivery_ids};
use base::clock::Timestamp;
use std::{fmt, sync::Arc, time::Duration};

/// The one kind of event that is merged: of it the vendor says what a newer one means. `event::cloud_type` makes this word.
const MERGEABLE: &str = "com.linxo.connections.updated";

/// How long events are waited for that may join a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// So long after the newest one of its connection was accepted, a delivery goes.
    pub quiet: Duration,
    /// So long after the oldest one was accepted, it goes in any case.
    pub longest: Duration,
}

/// Whether an entry would be delivered by itself.
pub type Takes = Arc<dyn Fn(&Facts) -> bool + Send + Sync>;

/// What a sink asks for whose events are merged.
#[derive(Clone)]
pub struct Merging {
    /// How long a delivery waits for events that may join it.
    pub window: Window,
    /// An entry that this does not take, such as one that the sink's filter leaves out, joins no other. It is leased by itself, and its
    /// worker decides what becomes of it. `None`: takes all.
    pub takes: Option<Takes>,
}

impl fmt::Debug for Merging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merging").field("window", &self.window).finish_non_exhaustive()
    }
}

/// What must be the same of events that are merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Likeness {
    pub(crate) cloud_type: String,
    /// Two connections may share a line.
    pub(crate) connection: String,
    pub(crate) user: Option<String>,
    /// A hint is never mixed with an event that is believed.
    pub(crate) confirm: bool,
}

impl Likeness {
    /// Whether events of this kind are merged at all.
    pub(crate) fn is_mergeable(&self) -> bool {
        self.cloud_type == MERGEABLE
    }
}

/// An event that may be merged.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) likeness: Likeness,
    pub(crate) accepted: Timestamp,
}

/// The facts of the one delivery for all of these, which are in the order of their line, and the place of the one whose accounts are
/// the newest: by the time for which they hold, and then by the order of the line. `None`: there are none.
pub(crate) fn unite(members: &[(Seq, &Facts)]) -> Option<(usize, Facts)> {
    let (newest, (_, facts)) = members.iter().enumerate().max_by_key(|(place, (_, facts))| (facts.as_of.at, *place))?;
    let mut united = (*facts).clone();
    if members.len() > 1 {
        united.merged = members
            .iter()
            .map(|(seq, facts)| Member {
                seq: *seq,
                delivery_id: facts.delivery_id.clone(),
                channel: facts.channel.clone(),
                new_transactions: facts.new_transactions,
            })
            .collect();
        united.delivery_id =
            delivery_ids::merged_id(&facts.delivery_id, united.merged.iter().map(|member| member.delivery_id.as_str()));
        let says = |says| united.merged.iter().any(|member| member.new_transactions == Some(says));
        united.new_transactions = if says(true) { Some(true) } else { says(false).then_some(false) };
    }
    Some((newest, united))
}
