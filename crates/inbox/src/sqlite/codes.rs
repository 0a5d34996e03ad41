//! What states, kinds of stages and judgements are called in the file. Nothing else knows these words and numbers, but for
//! the conditions of partial indexes, which SQL wants spelt out.

use crate::{Cause, Certainty, CredentialsMark, Fetch, SinkName, Stage, rules::Standing};
use rusqlite::{
    Row, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

/// `stage.kind`: a fetch by its fixed number, a sink by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Kind(pub(super) i64);

impl Kind {
    /// A fetch has this number or a smaller one, a sink a larger one.
    pub(super) const LAST_FETCH: Self = Self(0);

    pub(super) const fn of_fetch(fetch: Fetch) -> Self {
        match fetch {
            Fetch::Accounts => Self(0),
        }
    }

    pub(super) fn is_fetch(self) -> bool {
        self <= Self::LAST_FETCH
    }

    /// The fetch with this number.
    pub(super) fn fetch(self) -> Option<Fetch> {
        Fetch::ALL.into_iter().find(|fetch| Self::of_fetch(*fetch) == self)
    }
}

impl ToSql for Kind {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

impl FromSql for Kind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

/// The configured sinks with their numbers, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Sinks(pub(super) Vec<(Kind, SinkName)>);

impl Sinks {
    /// The kind of a stage; `None` for a sink that is not configured.
    pub(super) fn kind(&self, stage: &Stage) -> Option<Kind> {
        match stage {
            Stage::Fetch(fetch) => Some(Kind::of_fetch(*fetch)),
            Stage::Deliver(name) => self.0.iter().find(|(_, sink)| sink == name).map(|(kind, _)| *kind),
        }
    }

    /// Every stage that has work: fetches, then sinks.
    pub(super) fn stages(&self) -> impl Iterator<Item = (Kind, Stage)> + '_ {
        let fetches = Fetch::ALL.into_iter().map(|fetch| (Kind::of_fetch(fetch), Stage::Fetch(fetch)));
        fetches.chain(self.0.iter().map(|(kind, name)| (*kind, Stage::Deliver(name.clone()))))
    }
}

impl ToSql for Standing {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(word(*self).into())
    }
}

const fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Queued => "queued",
        Standing::Due => "due",
        Standing::Leased => "leased",
        Standing::Done => "done",
        Standing::Parked => "parked",
    }
}

impl FromSql for Standing {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        const ALL: [Standing; 5] =
            [Standing::Queued, Standing::Due, Standing::Leased, Standing::Done, Standing::Parked];
        let found = value.as_str()?;
        ALL.into_iter().find(|standing| word(*standing) == found).ok_or(FromSqlError::InvalidType)
    }
}

/// A cause of parking from its two columns, beginning at `index`.
pub(super) fn cause(row: &Row<'_>, index: usize, credentials: usize) -> rusqlite::Result<Option<Cause>> {
    let word: Option<String> = row.get(index)?;
    let credentials: Option<String> = row.get(credentials)?;
    Ok(word.and_then(|word| Cause::parse(&word, credentials.map(CredentialsMark::new))))
}

/// The column `credentials` of a cause.
pub(super) fn credentials(cause: Option<&Cause>) -> Option<&str> {
    match cause {
        Some(Cause::Credentials(mark)) => Some(mark.as_str()),
        _ => None,
    }
}

impl ToSql for Certainty {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let number: i64 = match self {
            Self::AsAnnounced => 0,
            Self::Agreed => 1,
            Self::Unsettled => 2,
        };
        Ok(number.into())
    }
}

impl FromSql for Certainty {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_i64()? {
            0 => Ok(Self::AsAnnounced),
            1 => Ok(Self::Agreed),
            2 => Ok(Self::Unsettled),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// A count, which SQLite keeps with a sign.
pub(super) fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(index)?.and_then(|count| u64::try_from(count).ok()))
}
