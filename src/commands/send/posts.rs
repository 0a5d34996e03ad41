//! What `send` posts: a named case, a file, or made-up events.

use super::args::{Args, cases};
use crate::commands::{Failure, simulate::USUAL_ACCOUNTS};
use base::clock;
use bytes::Bytes;
use double::{
    Connection,
    events::{self, Channel, Plan, VENDOR_CUT},
};
use event::Event;
use std::collections::{BTreeMap, HashSet};

/// Accounts of a connection whose events list them.
const FEW_ACCOUNTS: usize = 2;
/// So many posts are told of one by one, and those of cases.
const TOLD: u64 = 20;

type Make = Box<dyn Fn(u64) -> Bytes + Send + Sync>;

/// What is posted.
pub(super) struct Posts {
    /// How many.
    pub(super) number: u64,
    /// The n-th, from 0; always the same.
    pub(super) make: Make,
    /// How many of them, from the first, are told of one by one.
    pub(super) told: u64,
}

impl Posts {
    pub(super) fn of(args: &Args) -> Result<Self, Failure> {
        // Distinct in every run, so that the receiver does not take a second run for repeats of the first.
        let run = format!("{:x}-{:04x}", clock::now().as_millis(), fastrand::u16(..));
        if let Some(name) = &args.case {
            let bodies = cases(name).into_iter().flat_map(|case| case.posts(&format!("{run}-{}", case.name)));
            return Ok(Self::fixed(bodies.map(Bytes::from).collect()));
        }
        let events_each = if args.file.is_some() { 1 } else { u64::from(args.channels) };
        let number = args.count.saturating_mul(events_each).saturating_mul(args.repeat);
        let make: Make = match &args.file {
            Some(file) => {
                let content = std::fs::read(file)
                    .map_err(|error| Failure::usage(format_args!("cannot read {}: {error}", file.display())))?;
                let content = Bytes::from(content);
                Box::new(move |_| content.clone())
            }
            None => made_up(args, run),
        };
        Ok(Self { number, make, told: if number > TOLD { 0 } else { number } })
    }

    fn fixed(bodies: Vec<Bytes>) -> Self {
        let number = u64::try_from(bodies.len()).unwrap_or(u64::MAX);
        let make = move |post| {
            let body = usize::try_from(post).ok().and_then(|post: usize| bodies.get(post));
            body.cloned().unwrap_or_default()
        };
        Self { number, make: Box::new(make), told: number }
    }

    /// The events that are told of: the id of each post, where it has one, and how many different events each id stands for.
    pub(super) fn ids(&self) -> (Vec<Option<String>>, BTreeMap<String, usize>) {
        let mut contents: BTreeMap<String, HashSet<Bytes>> = BTreeMap::new();
        let ids = (0..self.told).map(|post| {
            let body = (self.make)(post);
            let id = Event::parse(&body).ok()?.id.as_str().to_owned();
            contents.entry(id.clone()).or_default().insert(body);
            Some(id)
        });
        let ids = ids.collect();
        (ids, contents.into_iter().map(|(id, bodies)| (id, bodies.len())).collect())
    }
}

fn made_up(args: &Args, run: String) -> Make {
    let accounts = accounts(args);
    let Args { truncated, channels, repeat, connections, .. } = *args;
    // All of one moment, so that a repeat is the very same event.
    let created = clock::now().as_seconds();
    Box::new(move |post| {
        let number = post / repeat;
        let synchronisation = number / u64::from(channels);
        let connection = Connection::numbered(synchronisation % connections, accounts);
        let first_of_two = channels == 2 && number % 2 == 0;
        let plan = Plan::new(format!("{run}-{number}"), connection);
        let plan = Plan {
            truncated: truncated || plan.truncated,
            channel: if first_of_two { Channel::FirstOfTwo } else { Channel::Last },
            created,
            ..plan
        };
        events::event(&plan).into()
    })
}

fn accounts(args: &Args) -> usize {
    args.accounts.unwrap_or(if args.truncated { USUAL_ACCOUNTS } else { FEW_ACCOUNTS })
}

/// A truncated event is completed only where the API has as many accounts as it announces.
pub(super) fn what_simulate_needs(args: &Args) -> Option<String> {
    let accounts = accounts(args);
    let is_made_up = args.file.is_none() && args.case.is_none();
    (is_made_up && (args.truncated || accounts > VENDOR_CUT) && accounts != USUAL_ACCOUNTS)
        .then(|| format!("to have these events completed, run `linxo-webhook simulate --accounts {accounts}`"))
}
