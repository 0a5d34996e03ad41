//! placeholder
use super::Failure;
/// Options.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {}
/// Runs.
pub async fn run(_args: Args) -> Result<(), Failure> {
    Ok(())
}
