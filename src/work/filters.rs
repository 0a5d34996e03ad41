//! What the filters of sinks say of an entry.
//!
//! A filter is asked at the delivery, where everything is known, and once before the fetch of accounts: what every sink leaves out
//! costs no call to the API. An entry whose fetch was left out like this may be wanted later, by another sink or by a changed
//! filter: then it is fetched after all ([`lacks_fetch`]).

use delivery::{Filter, Told};
use event::{Event, UserId, wire};
use inbox::{
    Error, Facts, Fetched, Lease, Merging, Shelf, Window,
    rules::{Plan, plan},
};
use std::sync::Arc;

/// The filters of all configured sinks. Clones share them.
#[derive(Clone, Debug)]
pub struct Filters(Arc<[Option<Filter>]>);

impl Filters {
    /// Those of these sinks, in any order; `None`: the sink is given every event.
    #[must_use]
    pub fn new(filters: impl IntoIterator<Item = Option<Filter>>) -> Self {
        Self(filters.into_iter().collect())
    }

    /// Whether every sink leaves an entry out. Of a hint nothing is known before the API has confirmed it.
    pub(super) fn leave_out(&self, entry: &Facts) -> bool {
        let leaves_out =
            |filter: &Option<Filter>| filter.as_ref().is_some_and(|filter| filter.leaves_out(&told(entry)).is_some());
        !entry.confirm && !self.0.is_empty() && self.0.iter().all(leaves_out)
    }
}

/// The key of a sink's filter that leaves an entry out; `None`: the sink is given it.
pub(super) async fn left_out_by(
    filter: &Filter,
    lease: &Lease,
    shelf: &Arc<dyn Shelf>,
) -> Result<Option<&'static str>, Error> {
    let entry = &*lease.entry;
    if !entry.confirm {
        return Ok(filter.leaves_out(&told(entry)));
    }
    // What a hint claims is not asked, but what the API said: no word of channels, nor of new transactions.
    let Some(Fetched::Read { reading, .. }) = entry.fetched else { return Ok(None) };
    let Some(connection) = shelf.connection(reading).await? else { return Ok(None) };
    let known = wire::known_of(&connection);
    Ok(filter.leaves_out(&Told {
        status: known.status.as_deref(),
        provider: known.provider.as_deref(),
        user: known.user.as_deref(),
        ..Told::default()
    }))
}

/// How events of a sink with this filter are merged. What the filter leaves out, or may leave out when the API was asked, goes by itself,
/// and so does what may have to be fetched first.
#[must_use]
pub fn merging(window: Window, filter: Option<Filter>) -> Merging {
    Merging { window, takes: Some(Arc::new(move |entry: &Facts| may_merge(filter.as_ref(), entry))) }
}

/// Whether an entry may leave together with others as one delivery.
fn may_merge(filter: Option<&Filter>, entry: &Facts) -> bool {
    let is_given = filter.is_none_or(|filter| !entry.confirm && filter.leaves_out(&told(entry)).is_none());
    is_given && !may_lack_fetch(entry)
}

fn may_lack_fetch(entry: &Facts) -> bool {
    let Facts { confirm, fetched, listed, account_count, .. } = entry;
    !confirm && fetched.is_none() && *listed == 0 && account_count.is_some_and(|count| count > 0)
}

/// Whether an entry needs accounts that were not fetched, because every sink left it out then.
pub(super) fn lacks_fetch(lease: &Lease) -> bool {
    // The event is asked itself: an entry that nothing is fetched for would wait for ever.
    may_lack_fetch(&lease.entry)
        && Event::parse(&lease.body).is_ok_and(|event| matches!(plan(&event, false), Plan::Fetch(_)))
}

fn told(entry: &Facts) -> Told<'_> {
    Told {
        status: entry.status.as_deref(),
        mode: entry.mode.as_deref(),
        provider: entry.provider.as_deref(),
        user: entry.user.as_ref().map(UserId::as_str),
        new_transactions: entry.new_transactions,
    }
}
