//! Any server that is a program: in a folder of its own, on a port that was free.

use super::{port::free_port, process};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fs, io,
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
/// What the program writes, in its folder.
const OUTPUT: &str = "output";
/// Of that, in an error, in bytes.
const SAID: usize = 2000;

/// See the head of this file. The server ends with this value.
#[derive(Debug)]
pub struct Program {
    command: Command,
    child: Child,
    port: u16,
    folder: TempDir,
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
        command.current_dir(folder.path());
        let child = spawn(&mut command, folder.path())?;
        let mut this = Self { command, child, port, folder };
        this.listening(Instant::now() + PATIENCE).await?;
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
        let until = Instant::now() + PATIENCE;
        self.kill();
        // What was killed still listens, and keeps its names, until it is gone.
        while process::group_lives(self.child.id()) && Instant::now() < until {
            sleep(LOOK).await;
        }
        loop {
            self.child = spawn(&mut self.command, self.folder.path())?;
            match self.listening(until).await {
                // Others may not know yet that the killed one is gone, such as Erlang's list of nodes.
                Err(_) if Instant::now() < until => sleep(LOOK).await,
                ended => return ended,
            }
        }
    }

    /// Waits until it listens, or has ended without that.
    async fn listening(&mut self, until: Instant) -> io::Result<()> {
        while TcpStream::connect(self.address()).await.is_err() {
            if self.child.try_wait()?.is_some() || Instant::now() > until {
                let (program, said) = (self.command.get_program().display(), self.said());
                return Err(io::Error::other(format!("{program} does not listen: {said}")));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// The end of what it wrote.
    fn said(&self) -> String {
        let said = fs::read(self.folder.path().join(OUTPUT)).unwrap_or_default();
        String::from_utf8_lossy(said.get(said.len().saturating_sub(SAID)..).unwrap_or_default()).into_owned()
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

fn spawn(command: &mut Command, folder: &Path) -> io::Result<Child> {
    let output = fs::File::create(folder.join(OUTPUT))?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    command.spawn().map_err(|error| {
        io::Error::new(error.kind(), format!("{} cannot be started: {error}", command.get_program().display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;

    /// A shell that starts the real server, as some programs do, on the port that it is given.
    fn server(script: &str, port: u16) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("PORT", port.to_string()).process_group(0);
        command
    }

    const LISTEN: &str = "import os, socket, time
s = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))
time.sleep(60)";

    #[tokio::test]
    async fn what_a_killed_server_leaves_is_gone_before_the_next_start() {
        let script = format!("python3 -c \"{LISTEN}\" & wait");
        let mut program = Program::start(&std::env::temp_dir(), |_, port| server(&script, port)).await.unwrap();
        for _ in 0..5 {
            let killed = program.child.id();
            program.crash().await.unwrap();
            assert!(!process::group_lives(killed));
            assert!(process::group_lives(program.child.id()));
        }
    }

    #[tokio::test]
    async fn a_start_that_fails_after_a_crash_is_tried_again() {
        // Fails at its second start, and says why.
        let script = format!(
            "n=$(cat starts 2>/dev/null || echo 0); echo $((n + 1)) >starts
             if [ $n -eq 1 ]; then echo 'the name is taken' >&2; exit 1; fi
             exec python3 -c \"{LISTEN}\""
        );
        let mut program = Program::start(&std::env::temp_dir(), |_, port| server(&script, port)).await.unwrap();
        program.crash().await.unwrap();
        assert_eq!(fs::read_to_string(program.folder.path().join("starts")).unwrap().trim(), "3");
    }

    #[tokio::test]
    async fn a_server_that_ends_at_once_is_reported_with_its_words() {
        let script = "echo 'no such setting: gost' >&2; exit 3";
        let error = Program::start(&std::env::temp_dir(), |_, port| server(script, port)).await.unwrap_err();
        assert_eq!(error.to_string(), "sh does not listen: no such setting: gost\n");
    }
}
