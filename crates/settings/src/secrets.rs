//! Secrets: never in the configuration itself, but in a file or in a variable that it names.

use crate::{
    at::{At, Read},
    flaw::Flaw,
    problem::{Place, Problem},
    tree::{Content, Node},
    uses::Use,
};
use base::secret::Secret;
use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};
use zeroize::Zeroizing;

/// Largest file that is taken for a secret, in bytes.
const LARGEST_SECRET: usize = 64 * 1024;
const HINT: &str = "write { file = \"...\" } or { env = \"...\" }";

const FILE_HINT: &str = "the file holds the secret alone, as text; its path begins in the working directory";
const VARIABLE_HINT: &str = "give the service this variable, with the secret in it";

/// What is asked of a secret's text.
pub(crate) type Check = fn(&str) -> Result<(), Flaw>;

/// Whether a secret can travel in a header or in a token request.
///
/// # Errors
/// Why not.
pub fn header_safe(text: &str) -> Result<(), Flaw> {
    if text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(Flaw::new(
            "has spaces, line ends or characters outside of ASCII",
            "write the secret alone, without quotation marks or a name before it",
        ))
    }
}

impl At<'_, '_> {
    /// A secret; `None` where nothing was given.
    pub(crate) fn secret(&mut self, name: &str, check: Check) -> Read<Option<Secret>> {
        let Some(node) = self.node(name) else { return Ok(None) };
        let title = self.title(name);
        self.checked_secret(&title, node, check).map(Some)
    }

    /// Secrets that are valid side by side, the newest first.
    pub(crate) fn secrets(&mut self, name: &str, check: Check) -> Read<Vec<Secret>> {
        let Some(node) = self.node(name) else { return Ok(Vec::new()) };
        let title = self.title(name);
        let Content::List(list) = &node.content else {
            return self.checked_secret(&title, node, check).map(|secret| vec![secret]);
        };
        let entries = list.iter().enumerate();
        let secrets: Vec<_> =
            entries.map(|(index, node)| self.checked_secret(&format!("{title}.{index}"), node, check)).collect();
        secrets.into_iter().collect()
    }

    /// A secret, by the title of its key, and where it was given.
    pub(crate) fn checked_secret(&mut self, key: &str, node: &Node, check: Check) -> Read<Secret> {
        let (secret, place) = self.secret_at(key, node)?;
        check(secret.expose()).map_err(|flaw| {
            let problem = Problem { hint: flaw.hint, ..Problem::new(key, &place, flaw.reason) };
            self.report(problem)
        })?;
        Ok(secret)
    }

    /// A secret's text, from its file or variable, and where that was named.
    fn secret_at(&mut self, key: &str, node: &Node) -> Read<(Secret, Place)> {
        let problem = |reason: String| Problem::new(key, &node.place, reason).hint(HINT);
        let Content::Table(table) = &node.content else {
            return Err(self.report(problem("must not be written into the configuration itself".to_owned())));
        };
        let mut members = table.iter();
        let (Some((name, Node { place, content: Content::Text(text) })), None) = (members.next(), members.next())
        else {
            return Err(self.report(problem("needs exactly one of `file` and `env`, as text".to_owned())));
        };
        let secret = match name.as_str() {
            "file" => self.secret_file(key, Path::new(text)),
            "env" => self.secret_variable(text),
            other => {
                let problem = Problem::new(key, place, format!("cannot come from `{other}`")).hint(HINT);
                return Err(self.report(problem));
            }
        };
        match secret {
            Ok(secret) => Ok((secret, place.clone())),
            Err(reason) => {
                let remedy = if name == "file" { FILE_HINT } else { VARIABLE_HINT };
                Err(self.report(Problem::new(key, place, reason).hint(remedy)))
            }
        }
    }

    fn secret_variable(&self, name: &str) -> Result<Secret, String> {
        match self.reader.environment.get(name) {
            None => Err(format!("names the variable {name}, which is not set")),
            Some(secret) if secret.expose().contains(char::REPLACEMENT_CHARACTER) => {
                Err(format!("names the variable {name}, which is not valid UTF-8"))
            }
            Some(secret) if secret.is_empty() => Err(format!("names the variable {name}, which is empty")),
            Some(secret) => Ok(secret.clone()),
        }
    }

    /// The text of a file without its last line end.
    fn secret_file(&mut self, key: &str, path: &Path) -> Result<Secret, String> {
        self.reader.secret_files.push(path.to_owned());
        self.reader.uses.push(Use { key: key.to_owned(), path: path.to_owned(), written: None });
        let name = path.display();
        let unreadable = |error: io::Error| format!("names the file {name}, which cannot be read: {error}");
        let file = File::open(path).map_err(unreadable)?;
        self.warn_of_readers(key, path, &file);
        // Room for all that is read: growing would leave copies behind that nobody wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_SECRET + 1));
        let length = file.take(LARGEST_SECRET as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if length > LARGEST_SECRET {
            return Err(format!("names the file {name}, which is too large for a secret"));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|_invalid| format!("names the file {name}, which is not valid UTF-8"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(format!("names the file {name}, which is empty"));
        }
        Ok(Secret::new(text.to_owned()))
    }
}
