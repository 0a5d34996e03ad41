//! The command line: arguments to a command, a failure to an exit code.
//!
//! In: the process arguments. Out: one command run to its end, and the exit code 0, or 64, 70, 75, 78 as `sysexits.h`
//! has them; what went wrong is said once, on standard error.
//!
//! Adding a command takes a variant of `Command` and its line in `run`. Not here: what a command does, which is
//! in `commands`.

use crate::{
    commands::{self, Failure, Global},
    observe::log,
    supervisor::{self, Sockets},
};
use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

const NAME: &str = "linxo-webhook";
/// Longest wait for blocking work that a command left behind.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Receives Linxo Connect webhooks: takes events over HTTPS, completes truncated ones, delivers them in order.
#[derive(Debug, Parser)]
#[command(name = NAME, version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (what happens without a command, too)
    Serve(commands::serve::Args),
    /// See it work: receiver, vendor double and a sink in one process, over real sockets with mutual TLS
    Demo(commands::demo::Args),
    /// Check the configuration and show what takes effect
    Check(commands::check::Args),
    /// Look at everything there is to look at, and print one report for a ticket
    Doctor(commands::doctor::Args),
    /// Post events to a receiver, and say how it answered and what became of them
    Send(commands::send::Args),
    /// For who writes the other end: the whole service with throwaway everything, delivering to your application
    Listen(commands::listen::Args),
    /// Run the vendor double: token endpoint, paged accounts, faults by script
    Simulate(commands::simulate::Args),
    /// Make throwaway certificates for trying things out
    Certs(commands::certs::Args),
    /// Look at the entries, replay, park or delete them
    Inbox(commands::inbox::Args),
    /// Look at the sinks, try one out, pause it
    Sink(commands::sink::Args),
    /// Ask a running service whether it is ready
    Health(commands::health::Args),
    /// Print JSON Schemas: of the configuration, an event, a delivery
    Schema(commands::schema::Args),
    /// Print the completion script of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
}

impl Default for Command {
    fn default() -> Self {
        Self::Serve(commands::serve::Args::default())
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    log::note_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            error.print().unwrap_or_default();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    // Fails only when a provider is installed already, and then there is one.
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
    raise_descriptor_limit();
    // Before the first thread.
    let sockets = Sockets::inherit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(&Failure::ours(format_args!("cannot start threads: {error}"))),
    };
    let result = runtime.block_on(run(cli.command.unwrap_or_default(), &cli.global, sockets));
    runtime.shutdown_timeout(LAST_WAIT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => tell(&failure),
    }
}

// Each future is boxed: together in one they would be as large as the largest, on the main thread's stack.
async fn run(command: Command, global: &Global, sockets: Result<Sockets, supervisor::Error>) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => Box::pin(commands::serve::run(args, global, sockets)).await,
        Command::Demo(args) => Box::pin(commands::demo::run(args)).await,
        Command::Check(args) => Box::pin(commands::check::run(&args, global)).await,
        Command::Doctor(args) => Box::pin(commands::doctor::run(global, args)).await,
        Command::Send(args) => Box::pin(commands::send::run(args, global)).await,
        Command::Listen(args) => Box::pin(commands::listen::run(args)).await,
        Command::Simulate(args) => Box::pin(commands::simulate::run(args, global)).await,
        Command::Certs(args) => commands::certs::run(&args),
        Command::Inbox(args) => Box::pin(commands::inbox::run(global, args)).await,
        Command::Sink(args) => Box::pin(commands::sink::run(global, args)).await,
        Command::Health(args) => Box::pin(commands::health::run(global, args)).await,
        Command::Schema(args) => commands::schema::run(&args, global),
        Command::Completions { shell } => completions(shell),
        Command::Man { folder } => manual(&folder),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}

/// One page for each command, with the name that `man` looks for: `linxo-webhook-inbox-ls.1`.
fn manual(folder: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::command(), folder).map_err(|error| {
        let folder = folder.display();
        Failure::not_now(format_args!("cannot write manual pages into {folder}: {error}\nhint: make the folder first"))
    })
}

/// Every connection is a descriptor, and the usual soft limit of 1024 is for programs that use `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused the old limit holds, and the listener says so when it reaches it.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap_or_default();
}

fn tell(failure: &Failure) -> ExitCode {
    if failure.code == 0 {
        return ExitCode::SUCCESS;
    }
    // Nothing can be done where standard error is closed too.
    writeln!(anstream::stderr(), "\x1b[1;31merror:\x1b[0m {}", failure.message).unwrap_or_default();
    ExitCode::from(failure.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_reads_well() {
        let mut command = Cli::command().mut_args(|argument| argument.hide_env_values(true));
        command.build();
        insta::assert_snapshot!("help", command.render_long_help());
        for subcommand in command.get_subcommands_mut().filter(|subcommand| subcommand.get_name() != "help") {
            let name = format!("help-{}", subcommand.get_name());
            insta::assert_snapshot!(name, subcommand.render_long_help());
        }
    }
}
