//! Callers of several receivers behind one door.

use super::history::{EventId, Outcome, Post};
use crate::support::{Client, Door};
use base::sync::lock;
use double::{
    Connection,
    events::{Plan, event},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// Accounts of each connection.
pub(super) const ACCOUNTS: usize = 3;
/// A caller that waits longer gives up, and posts again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before it posts again.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether callers keep their sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sockets {
    /// All do.
    Kept,
    /// Every second one opens a new one for each post.
    Both,
}

/// Callers at work, each for a bank connection of its own.
pub(super) struct Callers {
    posts: Arc<Mutex<Vec<Post>>>,
    is_over: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Callers {
    /// Starts so many.
    pub(super) fn start(count: u64, door: &Door, sockets: Sockets) -> Self {
        let mut callers = Self { posts: Arc::default(), is_over: Arc::default(), tasks: JoinSet::new() };
        for connection in 0..count {
            let (door, posts, is_over) = (door.clone(), Arc::clone(&callers.posts), Arc::clone(&callers.is_over));
            let is_kept = sockets == Sockets::Kept || connection % 2 == 0;
            callers.tasks.spawn(async move { call(&door, connection, is_kept, &posts, &is_over).await });
        }
        callers
    }

    pub(super) fn posts(&self) -> Vec<Post> {
        lock(&self.posts).clone()
    }

    /// How many were taken so far.
    pub(super) fn taken(&self) -> usize {
        lock(&self.posts).iter().filter(|post| post.outcome == Outcome::Taken).count()
    }

    /// Lets each caller end with an event that was taken.
    pub(super) async fn finish(mut self) -> Vec<Post> {
        self.is_over.store(true, Relaxed);
        while let Some(caller) = self.tasks.join_next().await {
            caller.unwrap();
        }
        self.posts()
    }
}

async fn call(door: &Door, connection: u64, is_kept: bool, posts: &Mutex<Vec<Post>>, is_over: &AtomicBool) {
    let mut kept: Option<Client> = None;
    let mut number = 0;
    while !is_over.load(Relaxed) {
        let id = EventId { connection, number };
        let plan = Plan::new(id.text(), Connection::numbered(connection, ACCOUNTS));
        // The same bytes each time: what comes again is the same event.
        let body = event(&Plan { truncated: number % 10 == 0, ..plan });
        loop {
            let sent = Instant::now();
            let outcome = post(door, &mut kept, &body).await;
            lock(posts).push(Post { event: id, sent, ended: Instant::now(), outcome });
            if outcome == Outcome::Taken {
                break;
            }
            sleep(PAUSE).await;
        }
        if !is_kept {
            kept = None;
        }
        number += 1;
    }
}

/// One post, on the socket that is kept, or on a new one.
async fn post(door: &Door, kept: &mut Option<Client>, body: &[u8]) -> Outcome {
    let posted = timeout(PATIENCE, async {
        let mut client = match kept.take() {
            Some(client) => client,
            None => door.try_connect().await?,
        };
        let answer = client.post(body).await?;
        Ok::<_, std::io::Error>((client, answer))
    });
    let Ok(Ok((client, answer))) = posted.await else { return Outcome::Broken };
    if answer.header("connection") != Some("close") {
        *kept = Some(client);
    }
    if answer.status == 200 {
        return Outcome::Taken;
    }
    assert!(answer.is_our_trouble(), "{answer:?}");
    Outcome::Refused
}
