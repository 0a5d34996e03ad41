//! Any server that is a program: in a folder of its own, on a port that was free.

use super::port::free_port;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

/// For a start.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(20);

/// See the head of this file. The server ends with this value.
#[derive(Debug)]
pub struct Program {
    command: Command,
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Program {
    /// Starts what `command` makes of a new folder in `within` and of a port of 127.0.0.1, and waits until it listens there. Where the
    /// command starts further processes, it must make a process group of its own, with which they end.
    ///
    /// # Errors
    /// The program cannot be started, or does not listen.
    pub async fn start(within: &Path, command: impl FnOnce(&Path, u16) -> Command) -> io::Result<Self> {
        let (folder, port) = (tempfile::tempdir_in(within)?, free_port()?);
        let mut command = command(folder.path(), port);
        command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = spawn(&mut command)?;
        let this = Self { command, child, port, _folder: folder };
        this.listening().await?;
        Ok(this)
    }

    /// Its port of 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends the server as a crash would, and starts it again on the same files and port.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub async fn crash(&mut self) -> io::Result<()> {
        self.kill();
        self.child = spawn(&mut self.command)?;
        self.listening().await
    }

    async fn listening(&self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address()).await.is_err() {
            if Instant::now() > until {
                let told = format!("{} does not listen", self.command.get_program().display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, told));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn kill(&mut self) {
        // Where it leads no group there is none of its number.
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    command.spawn().map_err(|error| {
        io::Error::new(error.kind(), format!("{} cannot be started: {error}", command.get_program().display()))
    })
}
