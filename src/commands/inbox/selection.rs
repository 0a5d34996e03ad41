//! Which entries a command means, and how many of them.

use super::when::When;
use crate::commands::Failure;
use clap::{Args, ValueEnum};
use event::{ConnectionId, UserId};
use inbox::{Filter, Seq, SinkName, State};

/// Entries that are meant where no limit is said.
const LIMIT: usize = 50;
/// Every entry: stores count in signed 64 bits.
pub(super) const EVERY: usize = usize::MAX >> 1;

/// Which entries, and how many.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Selection {
    /// Only entries in this state; with --sink, whose work for that sink is in it
    #[arg(long, value_name = "STATE")]
    state: Option<StateName>,
    /// Only entries for this sink
    #[arg(long, value_name = "NAME")]
    pub(super) sink: Option<String>,
    /// Only entries of this connection
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// Only entries of this user
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only entries with this event id or delivery id
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// Only the entry with this number
    #[arg(long, value_name = "NUMBER")]
    pub(super) seq: Option<i64>,
    #[command(flatten)]
    pub(super) when: When,
    /// At most this many entries (50 where none is said, but for `export`, which prints all)
    #[arg(long, value_name = "COUNT", conflicts_with = "all")]
    pub(super) limit: Option<usize>,
    /// Every entry that matches; without a filter, every entry there is
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateName {
    Waiting,
    Leased,
    Done,
    Parked,
}

impl From<StateName> for State {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Waiting => Self::Waiting,
            StateName::Leased => Self::Leased,
            StateName::Done => Self::Done,
            StateName::Parked => Self::Parked,
        }
    }
}

impl Selection {
    pub(super) fn filter(&self) -> Filter {
        Filter {
            state: self.state.map(State::from),
            sink: self.sink.as_deref().map(SinkName::new),
            connection: self.connection.clone().map(ConnectionId::new),
            user: self.user.clone().map(UserId::new),
            id: self.id.clone(),
            seq: self.seq.map(Seq),
            accepted: self.when.span(),
            ..Filter::default()
        }
    }

    /// The options as they are typed, for the audit trail.
    pub(super) fn words(&self) -> String {
        let Self { state, sink, connection, user, id, seq, when, limit, all } = self;
        let mut words = Vec::new();
        let named = [("--sink", sink), ("--connection", connection), ("--user", user), ("--id", id)];
        words.extend(state.map(|state| format!("--state {}", State::from(state).as_str())));
        words.extend(named.iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?))));
        words.extend(seq.map(|seq| format!("--seq {seq}")));
        words.extend(when.words());
        words.extend(limit.map(|limit| format!("--limit {limit}")));
        words.extend(all.then(|| "--all".to_owned()));
        words.join(" ")
    }

    /// The sink, where nothing else is selected but a span of time: a replay then gives the sink what it never had.
    pub(super) fn fills(&self) -> Option<SinkName> {
        let Self { state, sink, connection, user, id, seq, when: _, limit: _, all: _ } = self;
        let others = state.is_some() || seq.is_some() || [connection, user, id].into_iter().any(Option::is_some);
        sink.as_deref().filter(|_| !others).map(SinkName::new)
    }

    /// The user, where nothing else is selected: then everything of theirs is meant.
    pub(super) fn user(&self) -> Option<UserId> {
        self.user.clone().map(UserId::new)
    }

    pub(super) fn is_user_alone(&self) -> bool {
        let Self { state, sink, connection, user, id, seq, when, limit, all: _ } = self;
        let others = state.is_some() || seq.is_some() || limit.is_some() || !when.span().is_all();
        user.is_some() && !others && [sink, connection, id].into_iter().all(Option::is_none)
    }

    pub(super) fn limit(&self) -> usize {
        if self.all { EVERY } else { self.limit.unwrap_or(LIMIT) }
    }

    /// For what changes entries: the filter, unless everything would be meant without saying so.
    pub(super) fn meant(&self) -> Result<Filter, Failure> {
        let Self { state, sink, connection, user, id, seq, when, all, .. } = self;
        when.check()?;
        let named = [sink, connection, user, id].into_iter().any(Option::is_some);
        let filtered = named || state.is_some() || seq.is_some() || !when.span().is_all();
        if filtered || *all {
            Ok(self.filter())
        } else {
            Err(Failure::usage(
                "this would mean every entry\nhint: say which ones (--state, --sink, --connection, --user, --id, --seq, \
                 --since, --until), or --all",
            ))
        }
    }
}
