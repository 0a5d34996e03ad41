//! Where a configuration came from, so that the same can be read again while the service runs.

use super::{Config, Problems, build, raw, reader::Reader};
use base::secret::Secret;
use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Variables by name. Any of them may hold a secret.
pub(super) type Environment = HashMap<String, Secret>;

/// The file and the environment of a start.
#[derive(Clone, Default)]
pub struct Origin {
    /// The file that was named, or the default one once it was there: from then on it must be.
    file: Option<PathBuf>,
    /// As it was at the start; the environment of a process does not change.
    environment: Arc<Environment>,
    /// Files that secrets were read from.
    secret_files: Vec<PathBuf>,
}

impl Origin {
    pub(super) fn new(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            file: file.map(Path::to_owned),
            environment: Arc::new(environment.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()),
            secret_files: Vec::new(),
        }
    }

    /// Reads everything again.
    ///
    /// # Errors
    /// Every problem found, each with key, value unless secret, reason and hint.
    pub fn load(&self) -> Result<Config, Problems> {
        let default = || Path::new(raw::DEFAULT_FILE).exists().then(|| raw::DEFAULT_FILE.into());
        let file: Option<PathBuf> = self.file.clone().or_else(default);
        let mut problems = Vec::new();
        let tree = raw::gather(file.as_deref(), &self.environment, &mut problems);
        let mut reader = Reader::new(&tree, &self.environment, problems);
        match (build::config(&mut reader), reader.problems) {
            (Ok(mut config), problems) if problems.is_empty() => {
                config.warnings = reader.warnings;
                let remarks: Vec<_> = config.remarks().collect();
                config.warnings.extend(remarks);
                let environment = Arc::clone(&self.environment);
                config.origin = Self { file, environment, secret_files: reader.secret_files };
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
