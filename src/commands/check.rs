//! `check`: loads the configuration, shows what takes effect, and says what is wrong with it.
//!
//! The effective configuration and the verdict go to standard output, warnings to standard error. Nothing is bound or
//! opened for writing.

use super::{Failure, Global};
use std::io::Write;

/// Options of `check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Checks the configuration and prints the effective one.
///
/// # Errors
/// 78 with every problem at once; 70 when the output cannot be written.
pub fn run(_args: &Args, global: &Global) -> Result<(), Failure> {
    let config = global.load()?;
    let mut output = anstream::stdout();
    writeln!(output, "{}\ncallers are authenticated by: {}", config.effective(), config.authentication())?;
    let mut notes = anstream::stderr();
    for warning in &config.warnings {
        writeln!(notes, "warning: {warning}")?;
    }
    writeln!(output, "configuration ok")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_78_where_the_configuration_is_at_fault() {
        let global = Global { config: Some("no/such/file.toml".into()) };
        let failure = run(&Args {}, &global).unwrap_err();
        assert_eq!(failure.code, 78);
        assert!(failure.message.contains("no/such/file.toml: cannot be read"), "{}", failure.message);
    }
}
