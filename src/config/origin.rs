//! Where a configuration came from, so that the same can be read again while the service runs.

use super::{Config, Problems, build, raw, reader::Reader};
use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The file and the environment of a start.
#[derive(Clone, Default)]
pub struct Origin {
    file: Option<PathBuf>,
    /// As it was at the start; the environment of a process does not change. Shared, because it holds secrets.
    environment: Arc<HashMap<String, String>>,
    /// Files that secrets were read from.
    secret_files: Vec<PathBuf>,
}

impl Origin {
    pub(super) fn new(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            file: file.map(Path::to_owned),
            environment: Arc::new(environment.into_iter().collect()),
            secret_files: Vec::new(),
        }
    }

    /// Reads everything again.
    ///
    /// # Errors
    /// Every problem found, each with key, value unless secret, reason and hint.
    pub fn load(&self) -> Result<Config, Problems> {
        let mut problems = Vec::new();
        let tree = raw::gather(self.file.as_deref(), &self.environment, &mut problems);
        let mut reader = Reader::new(&tree, &self.environment, problems);
        match (build::config(&mut reader), reader.problems) {
            (Ok(mut config), problems) if problems.is_empty() => {
                config.warnings = reader.warnings;
                config.warnings.extend(config.exposure());
                config.origin = Self { secret_files: reader.secret_files, ..self.clone() };
                Ok(config)
            }
            (_, problems) => Err(Problems(problems)),
        }
    }

    /// The configuration file, whether it exists or not, and the files of the secrets.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let file = self.file.as_deref().unwrap_or(Path::new(raw::DEFAULT_FILE));
        std::iter::once(file).chain(self.secret_files.iter().map(PathBuf::as_path))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("file", &self.file).finish_non_exhaustive()
    }
}
