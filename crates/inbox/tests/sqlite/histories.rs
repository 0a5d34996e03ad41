//! Generated histories of a sealed inbox: whatever the order of accepting, working, exchanging keys, erasing, crashing and
//! restoring, nobody who was erased can be opened with any key that remains, and nobody else's data is lost.

use crate::{
    LEASE,
    bank::{accept, body, held},
    seal::{open_with, sealed},
};
use event::UserId;
use inbox::{
    Filter, Folded, Inbox, Outcome, Settings, Stage, Subject,
    archive::{backup, restore},
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const USERS: u8 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An event of a user, through one of two connections; the second connection is everybody's.
    Accept {
        user: u8,
        is_shared: bool,
    },
    /// Everything that can be delivered to one sink is.
    Deliver,
    /// The next key of the list comes first, and the one before it goes with the step after.
    Rotate,
    Erase(u8),
    /// The files as they are now, without a clean end. With a user: in the middle of their erasure, between keys and rows.
    Crash(Option<u8>),
    Backup,
    /// One of the backups, with the keys store as it is; where told so, with the copy of the keys from then too.
    Restore {
        which: prop::sample::Index,
        has_old_keys: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0..USERS;
    prop_oneof![
        6 => (user.clone(), any::<bool>()).prop_map(|(user, is_shared)| Step::Accept { user, is_shared }),
        1 => Just(Step::Deliver),
        1 => Just(Step::Rotate),
        2 => user.clone().prop_map(Step::Erase),
        1 => prop::option::of(user).prop_map(Step::Crash),
        2 => Just(Step::Backup),
        2 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(which, has_old_keys)| Step::Restore { which, has_old_keys }),
    ]
}

/// Events by id: their user, and which erasure of that user came before them.
type Events = BTreeMap<String, (u8, u32)>;

struct World {
    /// All folders, so that they live as long as this.
    folders: Vec<TempDir>,
    keys: Vec<u8>,
    events: Events,
    backups: Vec<(PathBuf, PathBuf, Events)>,
    erasures: [u32; USERS as usize],
    next: u32,
}

impl World {
    fn folder(&self) -> &Path {
        self.folders.last().unwrap().path()
    }

    fn settings(&self) -> Settings {
        sealed(self.folder(), &self.keys, false)
    }

    fn erased(&mut self, user: u8) {
        self.erasures[usize::from(user)] += 1;
        self.forget();
    }

    /// What was accepted before the last erasure of its user is no more.
    fn forget(&mut self) {
        let erasures = self.erasures;
        self.events.retain(|_, (user, age)| *age == erasures[usize::from(*user)]);
    }

    async fn run(&mut self, mut inbox: Inbox, step: Step) -> Inbox {
        match step {
            Step::Accept { user, is_shared } => {
                let id = format!("e{}", self.next);
                let connection = if is_shared { "shared".to_owned() } else { format!("c{user}") };
                self.next += 1;
                let folded = accept(&inbox, &body(&id, &connection, Some(&format!("u{user}")), false)).await;
                assert!(matches!(folded, Folded::Stored { .. }));
                self.events.insert(id, (user, self.erasures[usize::from(user)]));
            }
            Step::Deliver => {
                let sink = Stage::deliver("app");
                for lease in inbox.queue.claim(&sink, 100, LEASE).await.unwrap().leases {
                    inbox.queue.settle(&[(&lease, Outcome::Done)]).await.remove(0).unwrap();
                }
            }
            Step::Rotate => {
                inbox.upkeep.close().await;
                drop(inbox);
                let next = self.keys[0] + 1;
                self.keys = vec![next, self.keys[0]];
                inbox = open_with(&self.settings());
            }
            Step::Erase(user) => {
                erase(&inbox, user).await;
                self.erased(user);
            }
            Step::Crash(user) => {
                let to = TempDir::new().unwrap();
                let copy = |name: &str| fs::copy(self.folder().join(name), to.path().join(name)).unwrap();
                copy("inbox.db");
                copy("inbox.db-wal");
                if let Some(user) = user {
                    erase(&inbox, user).await;
                }
                copy("keys.db");
                inbox.upkeep.close().await;
                drop(inbox);
                self.folders.push(to);
                if let Some(user) = user {
                    self.erased(user);
                }
                inbox = open_with(&self.settings());
            }
            Step::Backup => {
                let name = |kind: &str| self.folders[0].path().join(format!("{}.{kind}", self.backups.len()));
                let (file, keys) = (name("backup"), name("keys"));
                backup(&self.settings(), &file, Some(&keys), |_| ()).unwrap();
                self.backups.push((file, keys, self.events.clone()));
            }
            Step::Restore { which, has_old_keys } if !self.backups.is_empty() => {
                inbox.upkeep.close().await;
                drop(inbox);
                let (file, keys, events) = which.get(&self.backups).clone();
                // Keys of then may be wrapped by a key file that is no more; the owner still has it.
                let all: Vec<u8> = (1..=self.keys[0]).rev().collect();
                let settings = sealed(self.folder(), &all, false);
                restore(&settings, &file, has_old_keys.then_some(&keys), |_| ()).unwrap();
                self.events = events;
                self.forget();
                inbox = open_with(&settings);
            }
            Step::Restore { .. } => {}
        }
        inbox
    }
}

async fn erase(inbox: &Inbox, user: u8) {
    let subject = Subject::User(UserId::new(format!("u{user}")));
    assert_eq!(inbox.persons.erase(&subject).await.unwrap().left, Vec::<String>::new());
}

/// What can be read is what should be there.
async fn check(inbox: &Inbox, world: &World) {
    let entries = inbox.desk.list(&Filter::default(), 10_000).await.unwrap();
    let ids: BTreeMap<&str, &str> =
        entries.iter().map(|entry| (entry.event_id.as_str(), entry.user.as_ref().unwrap().as_str())).collect();
    let users: BTreeMap<String, String> =
        world.events.iter().map(|(id, (user, _))| (id.clone(), format!("u{user}"))).collect();
    assert_eq!(ids, users.iter().map(|(id, user)| (id.as_str(), user.as_str())).collect());
    for entry in &entries {
        let (id, connection) = (entry.event_id.as_str(), entry.connection.as_str());
        let expected = body(id, connection, entry.user.as_ref().map(UserId::as_str), false);
        assert_eq!(inbox.desk.body(entry.seq).await.unwrap().unwrap(), expected);
    }
    for user in 0..USERS {
        let expected = world.events.values().filter(|(of, _)| *of == user).count();
        assert_eq!(held(inbox, &format!("u{user}")).await.entries.len(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn nobody_who_was_erased_comes_back_and_nobody_else_is_lost(steps in prop::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World {
                folders: vec![TempDir::new().unwrap()],
                keys: vec![1],
                events: Events::new(),
                backups: Vec::new(),
                erasures: [0; USERS as usize],
                next: 0,
            };
            let mut inbox = open_with(&world.settings());
            for step in steps {
                inbox = world.run(inbox, step).await;
                check(&inbox, &world).await;
            }
            inbox.upkeep.close().await;
        });
    }
}
