//! A PostgreSQL of a test's own.
//!
//! The programs are those of Debian's package `postgresql`, the newest version that is installed. PostgreSQL refuses to run as
//! root, so root starts it as the user `postgres`.

use super::{
    port::free_port,
    process::{self, Cpu},
};
use crate::pki::{self, Identity};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs, io,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Where Debian keeps the programs, in a folder for each version.
const INSTALLED: &str = "/usr/lib/postgresql";
/// Whom the server runs as where the test runs as root.
const USER: &str = "postgres";
/// For a start or a stop.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(20);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs are not there.
    #[error("no PostgreSQL is installed in {INSTALLED}: `apt-get install postgresql`")]
    Missing,
    /// A file or a process.
    #[error("a PostgreSQL for a test cannot be started")]
    Io(#[from] io::Error),
    /// A certificate.
    #[error("the certificate of a PostgreSQL for a test cannot be written")]
    Certificate(#[from] pki::Error),
    /// A program failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which one.
        program: &'static str,
        /// What it said.
        said: String,
    },
}

/// How the server is set up.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// Its certificate: it takes encrypted connections too.
    pub identity: Option<&'a Identity>,
    /// The password of its user; without one everybody on this machine is let in.
    pub password: Option<&'a str>,
    /// Lines of its configuration, such as `fsync = off`.
    pub settings: &'a [&'a str],
}

/// See the head of this file. The server ends with this value.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    /// User and group of the server.
    owner: Option<(u32, u32)>,
    port: u16,
    password: Option<String>,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a database cluster, and starts its server.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start(options: &Options<'_>) -> Result<Self, Error> {
        let mut this = Self::new()?;
        let data = this.data();
        let password = this.folder.path().join("password");
        this.password = options.password.map(str::to_owned);
        let mut initdb = this.program("initdb");
        initdb.args(["--username", USER, "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"]).arg(&data);
        match options.password {
            Some(text) => {
                fs::write(&password, text)?;
                initdb.args(["--auth=scram-sha-256", "--pwfile"]).arg(&password);
            }
            None => {
                initdb.arg("--auth=trust");
            }
        }
        run("initdb", &mut initdb)?;
        let mut configuration = options.settings.join("\n");
        if let Some(identity) = options.identity {
            let (certificate, key) = (data.join("server.pem"), data.join("server.key"));
            pki::write_identity(&certificate, &key, identity)?;
            this.give(&certificate)?;
            this.give(&key)?;
            configuration.push_str("\nssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n");
        }
        let file = data.join("postgresql.auto.conf");
        fs::write(&file, configuration)?;
        this.give(&file)?;
        this.restart()?;
        Ok(this)
    }

    /// A copy of this server that follows it, and takes no writes until it is promoted.
    ///
    /// # Errors
    /// [`Error`].
    pub fn standby(&self) -> Result<Self, Error> {
        let mut this = Self::new()?;
        let mut copy = this.program("pg_basebackup");
        copy.args(["--host", "127.0.0.1", "--username", USER, "--port"]).arg(self.port.to_string());
        copy.args(["--checkpoint=fast", "--write-recovery-conf", "--wal-method=stream", "--no-sync", "--pgdata"]);
        run("pg_basebackup", copy.arg(this.data()))?;
        this.restart()?;
        Ok(this)
    }

    /// Makes a standby a server that takes writes.
    ///
    /// # Errors
    /// [`Error`].
    pub fn promote(&self) -> Result<(), Error> {
        run("pg_ctl", self.program("pg_ctl").args(["promote", "--wait", "--silent", "--pgdata"]).arg(self.data()))
    }

    /// Starts the server again, on the same port, after it was stopped or killed.
    ///
    /// # Errors
    /// [`Error`].
    pub fn restart(&mut self) -> Result<(), Error> {
        self.stop();
        let until = Instant::now() + PATIENCE;
        let log = fs::File::create(self.folder.path().join("log"))?;
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-k"]).arg(self.folder.path());
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]);
        self.server = Some(server.stdout(log.try_clone()?).stderr(log).spawn()?);
        while !self.is_ready()? {
            let ended = self.server.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > until {
                let end = ended.map_or_else(|| format!("not ready within {PATIENCE:?}"), |status| status.to_string());
                return Err(Error::Failed { program: "postgres", said: format!("{end}\n{}", self.log()) });
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Stops the server in good order; whoever is connected is disconnected.
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Ends the server without warning, as a crash of its machine would. What it acknowledged is on its disk.
    pub fn kill(&mut self) {
        // The postmaster first, so that it starts nobody meanwhile. One that it was starting has no parent then, and is found all the same.
        self.signal(Signal::STOP);
        let until = Instant::now() + PATIENCE;
        loop {
            let processes = self.processes();
            for process in &processes {
                kill_process(*process, Signal::KILL).ok();
            }
            if processes.is_empty() || Instant::now() > until {
                break;
            }
            thread::sleep(LOOK);
        }
        self.end(Signal::KILL);
        fs::remove_file(self.data().join("postmaster.pid")).ok();
    }

    /// Nobody gets an answer until [`thaw`](Self::thaw); connections stay open.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        for process in self.processes() {
            kill_process(process, Signal::STOP).ok();
        }
    }

    /// Goes on after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        for process in self.processes() {
            kill_process(process, Signal::CONT).ok();
        }
    }

    /// Runs SQL as the owner of the server, beside everybody else.
    ///
    /// # Errors
    /// [`Error`].
    pub fn sql(&self, sql: &str) -> Result<String, Error> {
        let mut psql = Command::new("psql");
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--username",
            USER,
        ]);
        psql.args(["--host", "127.0.0.1", "--dbname", USER, "--port", &self.port.to_string(), "--command", sql]);
        if let Some(password) = &self.password {
            psql.env("PGPASSWORD", password);
        }
        let output = told("psql", &mut psql)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its first database, without encryption.
    #[must_use]
    pub fn url(&self) -> String {
        url_at(self.port)
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn new() -> Result<Self, Error> {
        let programs = programs().ok_or(Error::Missing)?;
        let owner = if rustix::process::geteuid().is_root() { Some(owner()?) } else { None };
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir()?;
        let port = free_port()?;
        let this = Self { folder, programs, owner, port, password: None, server: None };
        this.give(this.folder.path())?;
        Ok(this)
    }

    /// Processor time of all processes of the server, those that have ended included.
    ///
    /// # Errors
    /// The server does not run.
    pub fn cpu(&self) -> io::Result<Duration> {
        let server = self.server.as_ref().map(Child::id).ok_or(io::ErrorKind::NotFound)?;
        let ended = Cpu::of(server)?.ended;
        // One that has ended meanwhile is counted next time.
        let living =
            self.processes().into_iter().filter_map(|pid| Cpu::of(pid.as_raw_nonzero().get().cast_unsigned()).ok());
        Ok(living.fold(ended, |all, process| all + process.own))
    }

    /// The folder of its files. They may be read by who started it.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Makes a file or folder the server's own.
    ///
    /// # Errors
    /// The system's.
    pub fn give(&self, file: &Path) -> io::Result<()> {
        self.owner.map_or(Ok(()), |(user, group)| chown(file, Some(user), Some(group)))
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("LC_ALL", "C");
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    fn is_ready(&self) -> Result<bool, Error> {
        let mut look = self.program("pg_isready");
        let look = look.args(["--quiet", "--host", "127.0.0.1", "--port", &self.port.to_string()]);
        Ok(look.status()?.success())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.server.as_ref().and_then(|server| Pid::from_raw(server.id().cast_signed())) {
            kill_process(pid, signal).ok();
        }
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        if let Some(mut server) = self.server.take() {
            server.wait().ok();
        }
    }

    /// All its processes. PostgreSQL works in the folder of its files.
    fn processes(&self) -> Vec<Pid> {
        self.data().canonicalize().map(|data| process::within(&data)).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        self.end(Signal::QUIT);
    }
}

/// The URL of a server's first database on this port of this machine.
pub(super) fn url_at(port: u16) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{USER}?sslmode=disable")
}

/// The folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(INSTALLED).ok()?.filter_map(|version| version.ok()?.file_name().into_string().ok());
    let newest = versions.filter_map(|version| version.parse::<u32>().ok()).max()?;
    let folder = Path::new(INSTALLED).join(newest.to_string()).join("bin");
    folder.join("postgres").exists().then_some(folder)
}

fn owner() -> io::Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, user, group) = (fields.next()?, fields.nth(1)?, fields.next()?);
        Some((user.parse().ok()?, group.parse().ok()?)).filter(|_| name == USER)
    });
    found.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "there is no user postgres, and PostgreSQL does not run as root")
    })
}

fn run(program: &'static str, command: &mut Command) -> Result<(), Error> {
    told(program, command).map(drop)
}

fn told(program: &'static str, command: &mut Command) -> Result<Output, Error> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::Failed { program, said: String::from_utf8_lossy(&output.stderr).into_owned() })
}
