//! Users and their passwords, as a CSV file (RFC 4180) that begins with the line `user_id,username,password`.
//!
//! In: the file. Out: a [`Table`], or what is wrong with the file, with the number of the line and never with its content.
//!
//! Read by hand and not by the crate `csv`: every buffer that holds a password is wiped here, and a stray quotation mark is
//! an error with its line, where `csv` would take it as part of a password.

use base::secret::Secret;
use std::{collections::HashMap, fs, io, path::Path};
use zeroize::{Zeroize, Zeroizing};

/// Stands for the event's user in a user name or URL.
pub const USER_ID: &str = "{user_id}";
/// Largest table, in bytes: about a million users.
const LARGEST_TABLE: u64 = 128 * 1024 * 1024;
/// The first line of a table.
const HEADER: [&str; 3] = ["user_id", "username", "password"];

/// Users and their credentials.
#[derive(Debug, Default)]
pub struct Table(HashMap<String, Login>);

/// What the password grant needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// An email address, as a rule.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Why a table cannot be used. Never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// More bytes than can be meant.
    #[error("is larger than {} MiB", LARGEST_TABLE >> 20)]
    TooLarge,
    /// A line is wrong.
    #[error("line {line} {problem}")]
    Line {
        /// From 1.
        line: usize,
        /// Continues "line 7".
        problem: &'static str,
    },
}

impl Table {
    /// Reads a table from its file.
    ///
    /// # Errors
    /// [`TableError`], with the line.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let length = fs::metadata(path).map_err(TableError::Unreadable)?.len();
        if length > LARGEST_TABLE {
            return Err(TableError::TooLarge);
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(TableError::Unreadable)?);
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = before.split(|byte| *byte == b'\n').count();
            TableError::Line { line, problem: "is not UTF-8" }
        })?;
        Self::parse(text)
    }

    /// The credentials of a user.
    #[must_use]
    pub fn login(&self, user: &str) -> Option<&Login> {
        self.0.get(user)
    }

    /// Users whose credentials are other ones than in an earlier table, or there or not there unlike then.
    #[must_use]
    pub fn changed_since(&self, before: &Self) -> Vec<String> {
        let differs = |(user, login): &(&String, &Login)| before.0.get(*user) != Some(*login);
        let gone = before.0.keys().filter(|user| !self.0.contains_key(*user));
        self.0.iter().filter(differs).map(|(user, _)| user).chain(gone).cloned().collect()
    }

    /// One of its users, always the same one.
    #[must_use]
    pub fn any(&self) -> Option<&str> {
        self.0.keys().map(String::as_str).min()
    }

    /// How many users it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn parse(text: &str) -> Result<Self, TableError> {
        let mut records = Records { rest: text.trim_start_matches('\u{feff}'), line: 1 };
        let mut users = HashMap::new();
        let mut header_seen = false;
        loop {
            let line = records.line;
            let flaw = |problem| TableError::Line { line, problem };
            let Some(mut fields) = records.next()? else { break };
            if let [only] = fields.as_slice()
                && only.is_empty()
            {
                continue;
            }
            if !header_seen {
                if !fields.iter().map(String::as_str).eq(HEADER) {
                    return Err(flaw("must be `user_id,username,password`"));
                }
                header_seen = true;
                continue;
            }
            let (Some(password), Some(username), Some(user), true) =
                (fields.pop().map(Secret::new), fields.pop(), fields.pop(), fields.is_empty())
            else {
                fields.iter_mut().for_each(Zeroize::zeroize);
                return Err(flaw("must have three fields"));
            };
            if user.is_empty() || username.is_empty() || password.is_empty() {
                return Err(flaw("has an empty field"));
            }
            if users.insert(user, Login { username, password }).is_some() {
                return Err(flaw("names a user who was named before"));
            }
        }
        if header_seen { Ok(Self(users)) } else { Err(TableError::Line { line: 1, problem: "is missing" }) }
    }
}

/// Records of a CSV text, one after the other.
struct Records<'a> {
    rest: &'a str,
    /// Where the next one begins, from 1.
    line: usize,
}

impl Records<'_> {
    fn next(&mut self) -> Result<Option<Vec<String>>, TableError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut fields = Vec::with_capacity(HEADER.len());
        loop {
            fields.push(self.field()?);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            self.rest = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n')).unwrap_or(self.rest);
            self.line += 1;
            return Ok(Some(fields));
        }
    }

    fn field(&mut self) -> Result<String, TableError> {
        let Some(mut quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
            let (field, rest) = self.rest.split_at(end);
            let (field, rest) = match field.strip_suffix('\r') {
                Some(before) if !rest.starts_with(',') => (before, rest),
                _ => (field, rest),
            };
            if field.contains('"') {
                return Err(TableError::Line { line: self.line, problem: "has a quotation mark inside a field" });
            }
            self.rest = rest;
            return Ok(field.to_owned());
        };
        let start = self.line;
        let mut field = String::new();
        loop {
            let Some((part, rest)) = quoted.split_once('"') else {
                field.zeroize();
                return Err(TableError::Line { line: start, problem: "has a quotation mark that is never closed" });
            };
            self.line += part.matches('\n').count();
            field.push_str(part);
            if let Some(rest) = rest.strip_prefix('"') {
                field.push('"');
                quoted = rest;
                continue;
            }
            if !(rest.is_empty() || rest.starts_with([',', '\n']) || rest.starts_with("\r\n")) {
                field.zeroize();
                return Err(TableError::Line { line: start, problem: "goes on behind a closing quotation mark" });
            }
            self.rest = rest;
            return Ok(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Table, String> {
        Table::parse(text).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_what_spreadsheets_write() {
        let table =
            parse("\u{feff}user_id,username,password\r\n1,a@b.c,plain\r\n\r\n2,\"d,e\",\"x\"\"y\nz\"\n3,f,g").unwrap();
        assert_eq!(table.len(), 3);
        assert_eq!(table.login("1").unwrap().password.expose(), "plain");
        assert_eq!(table.login("2").unwrap().username, "d,e");
        assert_eq!(table.login("2").unwrap().password.expose(), "x\"y\nz");
        assert_eq!(table.login("3").unwrap().password.expose(), "g");
        assert!(table.login("4").is_none());
        assert!(parse("user_id,username,password\n").unwrap().is_empty());
    }

    #[test]
    fn names_the_line_and_never_its_content() {
        for (text, problem) in [
            ("", "line 1 is missing"),
            ("1,canary,canary\n", "line 1 must be `user_id,username,password`"),
            ("user_id,username,password\n1,canary\n", "line 2 must have three fields"),
            ("user_id,username,password\n1,a,b\n2,canary,b,c\n", "line 3 must have three fields"),
            ("user_id,username,password\n\n1,canary,\n", "line 3 has an empty field"),
            ("user_id,username,password\n1,a,b\n1,canary,c\n", "line 3 names a user who was named before"),
            ("user_id,username,password\n1,a,\"canary", "line 2 has a quotation mark that is never closed"),
            ("user_id,username,password\n1,a,\"x\ny\"\n2,a,can\"ary\n", "line 4 has a quotation mark inside a field"),
            ("user_id,username,password\n1,a,\"canary\"x\n", "line 2 goes on behind a closing quotation mark"),
        ] {
            assert_eq!(parse(text).unwrap_err(), problem, "{text}");
        }
    }

    #[test]
    fn prints_no_password() {
        let table = parse("user_id,username,password\n1,a,canary\n").unwrap();
        assert!(!format!("{table:?}").contains("canary"));
    }

    proptest! {
        #[test]
        fn reads_back_any_fields(fields in proptest::collection::vec(("[0-9]{1,9}", "\\PC{1,9}", "[a\",\r\n;é]{1,9}"), 0..9)) {
            let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let wanted: HashMap<_, _> = fields.iter().map(|(user, name, password)| (user, (name, password))).collect();
            let mut text = "user_id,username,password\n".to_owned();
            for (user, (name, password)) in &wanted {
                text.extend([user.as_str(), ",", &quote(name), ",", &quote(password), "\n"]);
            }
            let table = parse(&text).unwrap();
            prop_assert_eq!(table.len(), wanted.len());
            for (user, (name, password)) in wanted {
                let login = table.login(user).unwrap();
                prop_assert_eq!((&login.username, login.password.expose()), (name, password.as_str()));
            }
        }

        #[test]
        fn never_panics(text in "(user_id,username,password\n)?[\",\r\nab]{0,40}") {
            prop_assert!(parse(&text).is_ok() || parse(&text).is_err());
        }
    }
}
