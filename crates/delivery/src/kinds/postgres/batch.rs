//! From deliveries to the arrays of one statement.
//!
//! Memory is bounded: the bodies that are in memory share a budget, for all batches of a sink together. Where it is used up, what
//! there is goes out first. An event that is larger than `max_event` is refused before its body is read.

use super::readable::readable;
use crate::sink::{Delivery, Error, Failure, FailureKind};
use futures_util::StreamExt as _;
use settings::units::show_size;
use std::{borrow::Cow, sync::Arc};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio_postgres::types::{ToSql, Type};

/// Bytes of bodies that one statement takes, as far as it has more than one.
const STATEMENT: usize = 4 * 1024 * 1024;
/// Bytes of bodies in memory; one larger body is let through alone.
const BUDGET: u64 = 64 * 1024 * 1024;
/// What one permit of the budget stands for.
const UNIT: u64 = 1024;

/// What the batches of one sink share.
pub(super) struct Budget {
    units: Arc<Semaphore>,
    max_event: u64,
}

impl Budget {
    pub(super) fn new(max_event: u64) -> Self {
        Self { units: Arc::new(Semaphore::new(units(BUDGET) as usize)), max_event }
    }

    /// Room for a body, if there is any now.
    pub(super) fn try_room(&self, delivery: &Delivery) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.units).try_acquire_many_owned(units(delivery.body.length())).ok()
    }

    /// Room for a body, waited for. Nobody may wait while he holds some.
    pub(super) async fn room(&self, delivery: &Delivery) -> Result<OwnedSemaphorePermit, Failure> {
        let room = Arc::clone(&self.units).acquire_many_owned(units(delivery.body.length())).await;
        room.map_err(|_closed: AcquireError| Failure::transient("the sink is being closed"))
    }

    /// Refuses what is too large.
    pub(super) fn check(&self, delivery: &Delivery) -> Result<(), Failure> {
        let (length, most) = (delivery.body.length(), self.max_event);
        if length <= most {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::Refused { status: Some(413) },
            format!(
                "the event has {length} bytes, and the sink's max_event is {}: raise it, then replay the entry",
                show_size(most)
            ),
        ))
    }
}

/// Permits for so many bytes: at least one, at most all.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.min(BUDGET).div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}

/// Events that go out together.
#[derive(Default)]
pub(super) struct Batch<'d> {
    rows: Vec<Row<'d>>,
    bytes: usize,
    /// Kept until the statement has ended.
    room: Vec<OwnedSemaphorePermit>,
}

struct Row<'d> {
    /// Where its delivery stands among those that came together.
    place: usize,
    delivery: &'d Delivery,
    data: String,
}

impl Row<'_> {
    fn id(&self) -> &str {
        self.delivery.attributes.id.as_str()
    }
}

impl<'d> Batch<'d> {
    /// Reads a body and adds its event.
    pub(super) async fn add(
        &mut self,
        place: usize,
        delivery: &'d Delivery,
        room: OwnedSemaphorePermit,
    ) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(usize::try_from(delivery.body.length()).unwrap_or_default());
        let mut pieces = delivery.body.open();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
        }
        let data = String::from_utf8(bytes).map_err(|_quotes_the_body| {
            Failure::new(
                FailureKind::Refused { status: None },
                "the event is not valid UTF-8, and PostgreSQL takes no other".to_owned(),
            )
        })?;
        self.bytes += data.len();
        self.rows.push(Row { place, delivery, data });
        self.room.push(room);
        Ok(())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= STATEMENT
    }

    pub(super) const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Where the deliveries stand among those that came together.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().map(|row| row.place)
    }

    /// The arrays of all rows, or of one of them, in the order of the statement's parameters and of their ids. Of rows with one id there
    /// is the newest.
    pub(super) fn arrays(&self, only: Option<usize>) -> Arrays<'_> {
        let mut rows: Vec<&Row<'_>> = match only {
            Some(index) => self.rows.get(index).into_iter().collect(),
            None => self.rows.iter().collect(),
        };
        rows.sort_by(|one, other| {
            let by_id = one.id().cmp(other.id());
            by_id.then_with(|| other.delivery.as_of.cmp(&one.delivery.as_of))
        });
        rows.dedup_by(|later, kept| later.id() == kept.id());
        let mut arrays = Arrays::default();
        for Row { delivery, data, .. } in rows {
            let attributes = &delivery.attributes;
            let texts: [Option<Cow<'_, str>>; 10] = [
                Some(attributes.id.as_str().into()),
                Some(attributes.source.as_str().into()),
                Some(attributes.cloud_type.as_str().into()),
                Some(attributes.subject.as_str().into()),
                attributes.linxouser.as_ref().map(|user| user.as_str().into()),
                attributes.linxochannel.as_ref().map(|channel| channel.as_str().into()),
                attributes.linxomode.as_deref().map(Cow::Borrowed),
                attributes.time.as_deref().map(Cow::Borrowed),
                Some(attributes.linxocompletion.as_str().into()),
                attributes.merged().map(Cow::Owned),
            ];
            for (array, text) in arrays.texts.iter_mut().zip(texts) {
                array.push(text);
            }
            arrays.counts.push(i64::try_from(attributes.linxoaccounts).unwrap_or(i64::MAX));
            arrays.mismatches.push(attributes.linxomismatch);
            arrays.stale.push(attributes.linxostale);
            arrays.as_of.push(delivery.as_of.as_millis());
            arrays.data.push(data);
            arrays.readable.push(readable(data));
        }
        arrays
    }
}

/// One array for each column.
#[derive(Default)]
pub(super) struct Arrays<'r> {
    texts: [Vec<Option<Cow<'r, str>>>; 10],
    counts: Vec<i64>,
    mismatches: Vec<bool>,
    stale: Vec<bool>,
    as_of: Vec<i64>,
    data: Vec<&'r str>,
    readable: Vec<Option<String>>,
}

impl Arrays<'_> {
    /// As the library wants them.
    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> = Vec::with_capacity(16);
        for array in &self.texts {
            parameters.push((array, Type::TEXT_ARRAY));
        }
        parameters.push((&self.counts, Type::INT8_ARRAY));
        parameters.push((&self.mismatches, Type::BOOL_ARRAY));
        parameters.push((&self.stale, Type::BOOL_ARRAY));
        parameters.push((&self.as_of, Type::INT8_ARRAY));
        parameters.push((&self.data, Type::TEXT_ARRAY));
        parameters.push((&self.readable, Type::TEXT_ARRAY));
        parameters
    }
}
