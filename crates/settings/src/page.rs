//! The settings that take effect, laid out as the file is.
//!
//! Made from the settings and not from what was read, so that it shows what the program will do. Without secrets, what
//! it writes can be loaded again and gives the same.

use crate::keys::join;

/// Lines of the file, in the making.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    /// The section that is being written: `tls.clients`.
    path: String,
}

impl Page {
    /// What was written.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// Writes a key, its value as it would stand in the file.
    pub fn key(&mut self, name: &str, value: &str) {
        self.text.extend([name, " = ", value, "\n"]);
    }

    /// Writes a section below the present one.
    pub(crate) fn section(&mut self, name: &str, (open, close): (&str, &str), write: impl FnOnce(&mut Self)) {
        let above = std::mem::take(&mut self.path);
        self.path = join(&above, name);
        self.gap();
        let path = self.path.clone();
        self.text.extend([open, &path, close, "\n"]);
        write(self);
        self.path = above;
    }

    /// The path of a section below the present one.
    pub(crate) fn below(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Writes a line for people.
    pub(crate) fn remark(&mut self, text: &str) {
        self.gap();
        self.text.extend(["# ", text, "\n"]);
    }

    fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }
}

/// A TOML string. Control characters were refused when the value was read.
pub(crate) fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A TOML list of texts.
pub(crate) fn toml_list<T: ToString>(entries: impl IntoIterator<Item = T>) -> String {
    let entries: Vec<_> = entries.into_iter().map(|entry| toml_text(&entry.to_string())).collect();
    format!("[{}]", entries.join(", "))
}
