//! What states, kinds of stages and judgements are called in the file. Nothing else knows these words and numbers, but for
//! the conditions of partial indexes, which SQL wants spelt out.

pub(super) use crate::kind::{Kind, Sinks};
use crate::{Cause, Certainty, CredentialsMark, rules::Standing};
use rusqlite::{
    Row, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

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

impl ToSql for Standing {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for Standing {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
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
