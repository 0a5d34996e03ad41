//! Where a configuration comes from, so that the same can be read again while the program runs.

use crate::{
    at::Reader,
    gather::gather,
    keys::Tables,
    places::Places,
    problem::{Problem, Problems},
    section::Section,
    uses,
    uses::Use,
    variables::Environment,
};
use base::secret::Secret;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Names that a program has for its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Read where no file is named, if it exists.
    pub file: &'static str,
    /// What its variables begin with, before `__`.
    pub prefix: &'static str,
}

/// The file and the environment of a start.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Source {
    program: Program,
    /// The file that was named, or the default one once it was there: from then on it must be.
    file: Option<PathBuf>,
    /// As it was at the start; the environment of a process does not change.
    environment: Arc<Environment>,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Loaded<S> {
    /// The settings.
    pub settings: S,
    /// What was good until it ended, such as a certificate.
    pub ended: Vec<Problem>,
    /// What is allowed but should be known, one sentence each.
    pub warnings: Vec<String>,
    /// Where each key was given.
    pub places: Places,
    /// Files that secrets were read from.
    pub secret_files: Vec<PathBuf>,
    /// To read the same again.
    pub source: Source,
}

impl Source {
    /// A file (`None`: the program's default, if it exists) and an environment.
    ///
    /// The environment is a parameter so that tests have one of their own; secrets of the form `{ env = "..." }` come
    /// from it.
    pub fn new(program: Program, file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let environment = environment.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        Self { program, file: file.map(Path::to_owned), environment: Arc::new(environment) }
    }

    /// Reads everything, again or for the first time.
    ///
    /// # Errors
    /// Every problem found.
    pub fn load<S: Section>(&self) -> Result<Loaded<S>, Problems> {
        let default = Path::new(self.program.file);
        let file = self.file.clone().or_else(|| default.exists().then(|| default.to_owned()));
        let tables = Tables::of::<S>();
        let mut problems = Vec::new();
        let environment = (&*self.environment, self.program.prefix);
        let mut warnings = Vec::new();
        let tree = gather((file.as_deref(), default), environment, &tables, (&mut problems, &mut warnings));
        let mut reader = Reader::new(&tree, &self.environment, &tables, problems);
        reader.warnings = warnings;
        let itself = |path: &PathBuf| Use { key: "the configuration".to_owned(), path: path.clone(), written: None };
        reader.uses.extend(file.as_ref().map(itself));
        let read = S::read(&mut reader.root());
        reader.problems.extend(uses::problems(&reader.uses));
        match read {
            Ok(settings) if reader.problems.is_empty() => Ok(Loaded {
                settings,
                ended: reader.ended,
                places: Places::of(&tree, &tables),
                warnings: reader.warnings,
                secret_files: reader.secret_files,
                source: Self { file, ..self.clone() },
            }),
            _ => Err(Problems(reader.problems)),
        }
    }

    /// The configuration file, whether it exists or not.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(self.program.file))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}
