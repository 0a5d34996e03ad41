//! What the binary can do: one file per command, each with its `Args` and a `run`.
//!
//! Data goes to standard output, everything else to standard error. A command ends with `Ok` (exit code 0) or a
//! [`Failure`] that names its exit code (`sysexits.h`: 64 usage, 70 our fault, 75 not now, 78 configuration).

mod acts;
pub mod certs;
pub mod check;
pub mod demo;
pub mod doctor;
mod guest;
mod hands;

pub mod health;
pub mod inbox;
pub mod listen;
mod remote;
pub mod schema;
pub mod send;
pub mod serve;

pub mod simulate;
pub mod sink;
mod table;
mod throwaway;

pub use base::error::chain;

use base::text::printable;

use crate::config::{self, Config};
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use std::{fmt::Display, io, path::PathBuf};

/// Options of every command.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Global {
    /// Configuration file [default: config/linxo-webhook.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "LINXO_WEBHOOK_CONFIG", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub config: Option<PathBuf>,
}

impl Global {
    /// Whether a configuration file is named.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.config.as_ref().is_some_and(|file| !file.as_os_str().is_empty())
    }

    /// Loads and checks the configuration from the file and the environment.
    ///
    /// # Errors
    /// Exit code 78 with every problem at once.
    pub fn load(&self) -> Result<Config, Failure> {
        // `std::env::vars` panics at a foreign variable that is not UTF-8. Ours are refused by their replacement characters.
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        // An empty variable counts as one that is not set.
        let file = self.config.as_deref().filter(|file| !file.as_os_str().is_empty());
        config::load(file, environment).map_err(Failure::configuration)
    }
}

/// Why a command did not succeed, for people, with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// What to print on standard error: one or more lines, the last ones may be hints.
    pub message: String,
}

impl Failure {
    /// 64: the command line is at fault.
    pub fn usage(message: impl Display) -> Self {
        Self { code: 64, message: message.to_string() }
    }

    /// 70: the program or its surroundings failed.
    pub fn ours(message: impl Display) -> Self {
        Self { code: 70, message: message.to_string() }
    }

    /// 75: cannot be done now; trying again later may help.
    pub fn not_now(message: impl Display) -> Self {
        Self { code: 75, message: message.to_string() }
    }

    /// 78: the configuration is at fault.
    pub fn configuration(message: impl Display) -> Self {
        Self { code: 78, message: message.to_string() }
    }

    /// 64: a command that needs the files, and not only the service.
    #[must_use]
    pub fn only_here(command: &str) -> Self {
        Self::usage(format_args!("`{command}` does not work through --admin\nhint: run it where the service runs"))
    }

    /// 64: a sink is named that is not configured.
    #[must_use]
    pub fn no_sink(config: &Config, name: &str) -> Self {
        let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
        let (name, names) = (printable(name), names.join(", "));
        Self::usage(format_args!("no sink has the name {name}\nhint: configured are {names}"))
    }

    /// 0: whoever reads the output has seen enough (`| head`), and nothing is to be said.
    #[must_use]
    pub const fn reader_left() -> Self {
        Self { code: 0, message: String::new() }
    }

    /// 70, with an error and all its sources on one line.
    pub fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::ours(chain(error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::reader_left();
        }
        Self::ours(format_args!("cannot write the output: {error}"))
    }
}
