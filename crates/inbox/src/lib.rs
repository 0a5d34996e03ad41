//! The durable middle: what was accepted, and what is still to be done about it.
//!
//! In: events from the receiver. Out: leases on work for the workers. An **entry** is one accepted event. Its work is cut
//! into **stages**: one [`Stage::Fetch`] for what the event left out, then one [`Stage::Deliver`] for each configured
//! sink. Each stage of an entry has its own state, lease, attempts and reason, so that a dead sink delays no other.
//!
//! Each caller sees only what it uses:
//!
//! | interface | used by | what it does |
//! | --- | --- | --- |
//! | [`Intake`] | the receiver | makes an event durable; says whether it could |
//! | [`Queue`] | the work loops | leases stages, renews leases, ends them |
//! | [`Readings`] | fetches | keeps what was read of a connection, page by page |
//! | [`Shelf`] | deliveries | gives out what was read |
//! | [`Sinks`] | the work loops, operators' commands | pauses of sinks, and what goes back in line when one is well again |
//! | [`Desk`] | operators' commands | lists, replays, parks, purges |
//! | [`Persons`] | operators' commands | everything that is held of somebody; erases it |
//! | [`Audit`] | operators' commands | notes what they did |
//! | [`Charts`] | the admin listener | keeps what happened, minute by minute |
//! | [`Receivers`] | the service, the admin listener | who takes events into this inbox |
//! | [`Watch`] | the control socket | tells what happens, as it happens |
//! | [`Upkeep`] | the service | figures, retention, the end |
//!
//! ```text
//! rules     pure: what an outcome does to a stage, its line and its entry
//! fold      pure: what an accepted event becomes: keys, ids, stages
//! seal      encrypts what goes to the disk, where there is a key, and opens it again
//! journal   where events are safe first: an append and a sync, shared by many
//! sqlite    the back end on one file: loads, applies the rules, stores
//! journaled the journal in front of the store: answers, and folds what was accepted
//! ```
//!
//! Promises, each held by the contract in `tests/contract`, which runs on every back end:
//! - `accept` returns after the event is synced to disk; the same content is stored once (a constraint, not a look-up).
//! - A stage is leased to one worker at a time. A lease has an expiry and a token; `settle` needs both. A lease that is
//!   never settled is found again, and an entry that repeatedly loses its lease is parked instead of tried for ever.
//! - For each stage, the entries of one connection are leased one after the other, in the order of their places. A line
//!   hands out its places under a lock, so that this holds with several writers. A parked entry leaves its line, and at a
//!   sink that keeps strict order holds it up all the same.
//! - Nothing unfinished is ever deleted.
//!
//! Not here: what work means and how long to wait after a failure (`work`).

pub mod archive;
mod audit;
mod busy;
mod charts;
mod delivery_ids;
mod desk;
#[cfg(feature = "double")]
pub mod double;
mod error;
mod figures;
mod fold;
mod happenings;
mod ids;
mod intake;
mod journal;
mod journaled;
mod kind;
mod lease;
mod merging;
mod numbers;
mod pages;
mod persons;
mod postgres;
mod queue;
mod readings;
mod receivers;
pub mod rules;
mod seal;
pub mod settings;
mod sinks;
mod space;
mod span;
mod sqlite;
pub mod transfer;
mod upkeep;
mod watch;

pub use self::settings::Settings;
pub use audit::{Act, ActView, Audit};
pub use base::{
    names::{DeliveryId, SinkName},
    trace::TraceParent,
};
pub use charts::{Charts, Minute};
pub use desk::{
    AttemptView, Batch, Desk, EntryView, Fill, Filter, Page as EntryPage, Place, ReadingView, RefusedView, StageView,
    Story,
};
pub use error::{Error, Source};
pub use figures::{Figures, Limits};
pub use ids::{Fetch, Identity, Keys, Position, ReadingId, Seq, Stage, State, Token};
pub use intake::{Fate, Folded, Intake, NewEntry, Receipt, Refused, Told};
pub use journaled::{Remark, examine, seal_standing};
pub use lease::{AsOf, Certainty, Doubts, Facts, Fetched, Found, Hold, Lease, Member, Shortfall};
pub use merging::{Merging, Takes, Window};
pub use persons::{Erased, Held, HeldReading, Persons, Subject};
pub use postgres::connect::{Link, Prepared};
pub use queue::{Awaiting, Cause, Claimed, CredentialsMark, Outcome, Queue, Resume};
pub use readings::{Page, PageFacts, Reading, Readings, Shelf};
pub use receivers::{Receiver, ReceiverView, Receivers};
pub use seal::Standing as SealStanding;
pub use sinks::Sinks;
pub use span::Span;
pub use sqlite::Access;
pub use upkeep::{Expired, Failure, Resealed, StageCounts, Stats, Upkeep};
pub use watch::{About, Happening, Seen, Watch, What};

use base::clock::Timestamp;
use journaled::{Journaled, NoIntake, PatientDesk, remote, stranded};
use postgres::connect::Pool;
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

/// An open inbox: one handle for each kind of use. Clones share the store.
#[derive(Clone, Debug)]
pub struct Inbox {
    /// For the receiver.
    pub intake: Arc<dyn Intake>,
    /// For the work loops.
    pub queue: Arc<dyn Queue>,
    /// For fetches.
    pub readings: Arc<dyn Readings>,
    /// For deliveries.
    pub shelf: Arc<dyn Shelf>,
    /// For the work loops of sinks, and for commands about sinks.
    pub sinks: Arc<dyn Sinks>,
    /// For operators' commands.
    pub desk: Arc<dyn Desk>,
    /// For a person's rights.
    pub persons: Arc<dyn Persons>,
    /// For operators' commands too: what they did.
    pub audit: Arc<dyn Audit>,
    /// For charts.
    pub charts: Arc<dyn Charts>,
    /// Who takes events into it.
    pub receivers: Arc<dyn Receivers>,
    /// For who looks on.
    pub watch: Arc<dyn Watch>,
    /// For the service that owns the store.
    pub upkeep: Arc<dyn Upkeep>,
    /// Which inbox this is, and the keys that live in it; not set as long as the server that holds it was not reached.
    pub keys: Arc<OnceLock<Keys>>,
    /// How its server is reached, where it is on one.
    pub link: Option<Link>,
}

impl Inbox {
    /// A store that serves every kind of use; its keys may be known later.
    fn of<S>(store: &Arc<S>, keys: Arc<OnceLock<Keys>>) -> Self
    where
        S: Intake
            + Queue
            + Readings
            + Shelf
            + Sinks
            + Desk
            + Persons
            + Audit
            + Charts
            + Receivers
            + Watch
            + Upkeep
            + 'static,
    {
        Self {
            intake: Arc::clone(store) as _,
            queue: Arc::clone(store) as _,
            readings: Arc::clone(store) as _,
            shelf: Arc::clone(store) as _,
            sinks: Arc::clone(store) as _,
            desk: Arc::clone(store) as _,
            persons: Arc::clone(store) as _,
            audit: Arc::clone(store) as _,
            charts: Arc::clone(store) as _,
            receivers: Arc::clone(store) as _,
            watch: Arc::clone(store) as _,
            upkeep: Arc::clone(store) as _,
            keys,
            link: None,
        }
    }
}

/// Keys that are known from the beginning.
fn known(keys: Keys) -> Arc<OnceLock<Keys>> {
    Arc::new(OnceLock::from(keys))
}

/// Opens the configured store, in a file or on a server. Every name of `sinks` gets a stage with each event that is accepted from
/// now on. For its owner, a server that is away is waited for in the background: until then events go to the journal, or are refused.
///
/// # Errors
/// [`Error::Open`], [`Error::Unusable`], [`Error::Seal`], with what to do; for a guest also [`Error::Away`].
pub async fn connect(settings: &Settings, sinks: &[SinkName], access: Access) -> Result<Inbox, Error> {
    let self::settings::Store::Postgres(server) = &settings.store else { return open(settings, sinks, access) };
    match access {
        Access::Owner => {
            let remote = remote::open(server, settings, sinks).await?;
            let (keys, link) = remote.ways();
            Ok(Inbox { link: Some(link), ..Inbox::of(&remote, keys) })
        }
        Access::Guest => {
            let pool = Pool::new(server, settings)?;
            pool.must_have_inbox(GUEST_TIME).await?;
            let link = Some(Link::new(pool.clone()));
            let store = postgres::open(pool, settings, sinks, access, base::clock::now).await?;
            Ok(Inbox { link, ..Inbox::of(&store, known(store.keys().clone())) })
        }
    }
}

/// Opens the inbox on the configured server, which is there, for a receiver whose clock may be wrong: `local` is read in place of the
/// machine's.
///
/// # Errors
/// Those of [`connect`], and [`Error::Open`] where the configured store is a file.
pub async fn connect_by(settings: &Settings, sinks: &[SinkName], local: fn() -> Timestamp) -> Result<Inbox, Error> {
    let self::settings::Store::Postgres(server) = &settings.store else { return open(settings, sinks, Access::Owner) };
    let store = postgres::open(Pool::new(server, settings)?, settings, sinks, Access::Owner, local).await?;
    Ok(Inbox::of(&store, known(store.keys().clone())))
}

/// Tries the server that the configured inbox is on; says what was found, and what of it should be known. `None`: it is on none.
pub async fn try_server(settings: &Settings) -> Option<Result<(String, Vec<String>), Error>> {
    let self::settings::Store::Postgres(server) = &settings.store else { return None };
    let tried = async {
        let pool = Pool::new(server, settings)?;
        let identity = pool.must_have_inbox(GUEST_TIME).await?;
        let seal = postgres::standing(&pool, settings).await?;
        let said = format!(
            "PostgreSQL can be reached and holds the inbox {identity:?} in the schema {}, which is {seal}",
            server.schema()
        );
        Ok((said, pool.remarks(GUEST_TIME).await?))
    };
    Some(tried.await)
}

/// For a command to reach the server.
const GUEST_TIME: std::time::Duration = std::time::Duration::from_secs(5);

/// Makes the inbox on the configured server where there is none, and brings an older one up to date; where `inbox.key` is set, its
/// keys store too. Returns which inbox it is, and whether it is new; `None`: the configured store is a file, which makes itself.
///
/// # Errors
/// [`Error::Away`], [`Error::Open`], [`Error::Seal`], [`Error::Unusable`], [`Error::Store`].
pub async fn init(settings: &Settings) -> Result<Option<(Identity, bool)>, Error> {
    let self::settings::Store::Postgres(server) = &settings.store else { return Ok(None) };
    let pool = Pool::new(server, settings)?;
    let made = postgres::init(&pool, settings).await;
    pool.close();
    made.map(Some)
}

/// Opens the configured file. Every name of `sinks` gets a stage with each event that is accepted from now on.
///
/// # Errors
/// [`Error::Open`], with what to do.
pub fn open(settings: &Settings, sinks: &[SinkName], access: Access) -> Result<Inbox, Error> {
    match &settings.store {
        self::settings::Store::Postgres(_) => Err(Error::Open {
            path: settings.store.to_string(),
            problem: "an inbox on a server is opened by connecting to it".to_owned(),
            source: None,
        }),
        self::settings::Store::Sqlite(path) => {
            let folder = settings.journal_folder().filter(|_| access == Access::Owner);
            if sqlite::is_gone(path)
                && let Err(error) = archive::refuse_lost(settings, path)
            {
                return strand(folder.as_deref(), settings, path, error);
            }
            let store = match sqlite::Sqlite::open(path, settings, sinks, access) {
                Ok(store) => Arc::new(store),
                Err(error) if sqlite::is_damage(&error) || sqlite::says_locked(&error) => {
                    return strand(folder.as_deref(), settings, path, error);
                }
                Err(error) => return Err(error),
            };
            let inbox = Inbox::of(&store, known(store.keys().clone()));
            match (settings.journal_folder(), access) {
                (Some(folder), Access::Owner) => {
                    let journaled = Arc::new(Journaled::open(store, &folder, settings)?);
                    let desk = Arc::new(journaled.desk());
                    let (intake, persons) = (Arc::clone(&journaled) as _, Arc::clone(&journaled) as _);
                    Ok(Inbox { intake, desk, persons, upkeep: journaled, ..inbox })
                }
                (Some(folder), Access::Guest) => {
                    let desk = Arc::new(PatientDesk::beside(store, folder));
                    Ok(Inbox { intake: Arc::new(NoIntake), desk: Arc::clone(&desk) as _, persons: desk, ..inbox })
                }
                (None, Access::Guest) => Ok(inbox),
                (None, Access::Owner) => {
                    settings.journal_beside().map_or(Ok(()), |folder| journaled::refuse_rest(&store, &folder))?;
                    Ok(inbox)
                }
            }
        }
    }
}

/// An inbox that takes events and does nothing else, because its store cannot be used; without a journal that knows its inbox, the
/// error.
fn strand(folder: Option<&Path>, settings: &Settings, path: &Path, error: Error) -> Result<Inbox, Error> {
    let (problem, locked) = (base::error::chain(&error), sqlite::says_locked(&error).then_some(path));
    match folder.and_then(|folder| stranded::open(folder, settings, &problem, locked)) {
        Some(opened) => opened.map(|(stranded, keys)| Inbox::of(&stranded, known(keys))),
        None => Err(error),
    }
}
