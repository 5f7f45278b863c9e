//! One PostgreSQL server, or a replica of one.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Signal;

use super::{
    access::{ADMINISTRATOR, Access, MAINTENANCE, OWNER},
    connection::{Connection, Row},
    database::{self, Database},
    options::Options,
    program::{find, run},
};
use crate::{
    Error,
    account::Account,
    folder::Folder,
    port::Port,
    process::Process,
    secret,
    wait::{self, ensure},
    watcher::Watched,
};

/// Longest start, with a recovery, on a machine that builds at the same time.
const START: Duration = Duration::from_secs(60);
/// Longest shutdown: it writes everything that is in memory.
const STOP: Duration = Duration::from_secs(30);
/// Longest end without writing anything.
const QUIT: Duration = Duration::from_secs(5);
/// Longest wait for the answer to a command.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait for a look at a server that may be paused.
const LOOK: Duration = Duration::from_millis(500);

/// A PostgreSQL server of its own, with a folder and a port that outlast its process. Ended when dropped.
#[derive(Debug)]
pub struct Server {
    /// Before the folder, so that nobody writes into it while it is deleted.
    running: Mutex<Running>,
    access: Access,
    port: Port,
    account: Account,
    home: PathBuf,
    _folder: Folder,
}

#[derive(Debug)]
struct Running {
    process: Process,
    _watched: Watched,
}

impl Server {
    /// Starts one with no database yet and waits until it answers.
    ///
    /// # Errors
    /// [`Error::NotInstalled`], [`Error::Ended`] where it refuses the settings, and what the system says.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let place = Place::new(options.port, options.fsync)?;
        let password = secret::random()?;
        let file = place.home.join("password");
        fs::write(&file, &password).map_err(Error::system("writing the password of postgres"))?;
        place.account.give(&file)?;
        let arguments = [
            "--pgdata=data",
            &format!("--username={ADMINISTRATOR}"),
            "--auth=password",
            "--pwfile=password",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ];
        run("initdb", &arguments, &[], &place.home, place.account)?;
        let file = place.home.join("data/postgresql.conf");
        fs::write(&file, options.file()).map_err(Error::system("writing postgresql.conf"))?;
        let server = place.serve(password)?;
        let role = format!("CREATE ROLE {OWNER} LOGIN PASSWORD '{}'", server.access.password);
        server.query(&role)?;
        Ok(server)
    }

    /// Starts one that streams from `primary` whatever is committed there, and may be read. It keeps its place there, so
    /// that it catches up after having been away.
    ///
    /// # Errors
    /// As [`Self::start`]; [`Error::Unfit`] where the primary cannot be copied.
    pub fn replica(primary: &Self) -> Result<Self, Error> {
        let place = Place::new(None, true)?;
        let slot = format!("replica_{}", place.port.number());
        let source = format!(
            "host={} port={} user={ADMINISTRATOR} application_name={slot}",
            primary.address().ip(),
            primary.address().port(),
        );
        let arguments = [
            "--pgdata=data",
            &format!("--dbname={source}"),
            "--write-recovery-conf",
            "--wal-method=stream",
            "--create-slot",
            &format!("--slot={slot}"),
            "--checkpoint=fast",
            "--no-sync",
        ];
        let password = primary.access.password.clone();
        let environment = [("PGPASSWORD", password.as_str())];
        run(
            "pg_basebackup",
            &arguments,
            &environment,
            &place.home,
            place.account,
        )?;
        place.serve(password)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// For the superuser.
    #[must_use]
    pub fn superuser_url(&self, database: &str) -> String {
        self.access.url(ADMINISTRATOR, database)
    }

    /// For the role that owns the databases of [`Self::create_database`].
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.access.url(OWNER, database)
    }

    /// An empty database for a test, told apart by a number from others of the same name, and dropped with its value.
    ///
    /// # Errors
    /// [`Error::Postgres`], [`Error::System`].
    pub fn database(&self, name: &str) -> Result<Database, Error> {
        Database::new(&self.access, name)
    }

    /// Likewise one with all that is in `original`, to which nobody may be connected.
    ///
    /// # Errors
    /// As [`Self::database`].
    pub fn copy(&self, original: &str, name: &str) -> Result<Database, Error> {
        Database::copy(&self.access, original, name)
    }

    /// An empty database with just this name, which stays; gives the URL for its owner.
    ///
    /// # Errors
    /// [`Error::Postgres`] where there is one, [`Error::System`].
    pub fn create_database(&self, name: &str) -> Result<String, Error> {
        database::create(&self.access, name, database::EMPTY)?;
        Ok(self.url(name))
    }

    /// One command over a connection of its own, by the superuser in the database `postgres`.
    ///
    /// # Errors
    /// As [`Connection::query`]; [`Error::Ended`].
    pub fn query(&self, sql: &str) -> Result<Vec<Row>, Error> {
        self.connect(MAINTENANCE)?.query(sql)
    }

    /// A connection of the superuser.
    ///
    /// # Errors
    /// As [`Connection::open`]; [`Error::Ended`].
    pub fn connect(&self, database: &str) -> Result<Connection, Error> {
        self.running().process.check()?;
        self.access.connect(database, ANSWER)
    }

    /// The number of its first process, the postmaster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running().process.pid()
    }

    /// Everything that it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        self.running().process.log()
    }

    /// Whether its process has not ended; a paused one has not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running().process.is_running()
    }

    /// A crash: kill -9 of all its processes at once. What it had confirmed is there after [`Self::restart`].
    ///
    /// # Errors
    /// As [`Process::kill`].
    pub fn kill(&self) -> Result<(), Error> {
        self.running().process.kill()
    }

    /// Ends it in order, and all its connections at once ("fast shutdown").
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn stop(&self) -> Result<(), Error> {
        let running = self.running();
        running.process.signal(Signal::INT)?;
        running.process.wait(STOP).map(drop)
    }

    /// SIGSTOP to all its processes: connections stay open and are silent.
    ///
    /// # Errors
    /// As [`Process::pause`].
    pub fn pause(&self) -> Result<(), Error> {
        self.running().process.pause()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// As [`Process::resume`].
    pub fn resume(&self) -> Result<(), Error> {
        self.running().process.resume()
    }

    /// Crashes it, if it still runs, starts it again on the same port and waits until it has recovered and answers.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&self) -> Result<(), Error> {
        {
            let mut running = self.running();
            running.process.kill()?;
            *running = serve(&self.home, self.port.number(), self.account)?;
        }
        self.wait_until_it_answers()
    }

    /// Makes a replica a primary, which goes its own way from there, and waits until it may be written.
    ///
    /// # Errors
    /// [`Error::Postgres`] where it is none, [`Error::Unfit`] where it does not come about.
    pub fn promote(&self) -> Result<(), Error> {
        let promoted = self.connect(MAINTENANCE)?.value("SELECT pg_promote(true, 20)")?;
        ensure(promoted.as_deref() == Some("t"), || {
            "the replica was not promoted in time".to_owned()
        })
    }

    /// Waits until this replica shows everything that `primary` has committed by now.
    ///
    /// # Errors
    /// [`Error::Late`], and as [`Self::query`] at the primary.
    pub fn catch_up(&self, primary: &Self) -> Result<(), Error> {
        let position = primary
            .connect(MAINTENANCE)?
            .value("SELECT pg_current_wal_lsn()")?;
        let position = position.unwrap_or_default();
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
        wait::until("the replica has caught up", START, || {
            let shown = self.connect(MAINTENANCE)?.value(&sql)?;
            ensure(shown.as_deref() == Some("t"), || format!("not yet at {position}"))
        })
    }

    /// For what stands before it and logs in as its roles.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    fn wait_until_it_answers(&self) -> Result<(), Error> {
        let what = format!("postgres at {} answers", self.address());
        wait::until(&what, START, || {
            self.running().process.check()?;
            self.access
                .connect(MAINTENANCE, LOOK)?
                .query("SELECT 1")
                .map(drop)
        })
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let running = self.running();
        // "Immediate shutdown": nothing is written, and unlike kill -9 nothing stays in the kernel.
        let quit = !running.process.is_paused()
            && running.process.is_running()
            && running.process.signal(Signal::QUIT).is_ok()
            && running.process.wait(QUIT).is_ok();
        if !quit {
            running.process.kill().ok();
            free_memory(&self.home);
        }
    }
}

/// What a server is made from: its folder, its port, its user.
struct Place {
    folder: Folder,
    home: PathBuf,
    port: Port,
    account: Account,
}

impl Place {
    /// On the disk, where it is to wait for one.
    fn new(port: Option<u16>, disk: bool) -> Result<Self, Error> {
        let port = match port {
            None => Port::free()?,
            Some(number) => {
                Port::take(number)?.ok_or_else(|| Error::Unfit(format!("port {number} is taken")))?
            }
        };
        let folder = if disk { Folder::new } else { Folder::in_memory };
        let (folder, account) = (folder("postgres")?, Account::of_servers()?);
        account.give(folder.path())?;
        Ok(Self {
            home: folder.path().to_owned(),
            folder,
            port,
            account,
        })
    }

    fn serve(self, password: String) -> Result<Server, Error> {
        let server = Server {
            running: Mutex::new(serve(&self.home, self.port.number(), self.account)?),
            access: Access {
                address: self.port.address(),
                password,
            },
            port: self.port,
            account: self.account,
            home: self.home,
            _folder: self.folder,
        };
        server.wait_until_it_answers()?;
        Ok(server)
    }
}

fn serve(home: &Path, port: u16, account: Account) -> Result<Running, Error> {
    let mut command = Command::new(find("postgres")?);
    command
        .args(["-D", "data", "-p", &port.to_string()])
        .current_dir(home);
    account.run(&mut command);
    let process = Process::start(&format!("postgres {port}"), command, &home.join("log"))?;
    Ok(Running {
        _watched: Watched::server(process.pid()),
        process,
    })
}

/// Removes the System V segment by which a data folder is locked: a killed server leaves it, the next one on the folder
/// takes it over, and after the folder nobody would.
fn free_memory(home: &Path) {
    let notes = fs::read_to_string(home.join("data/postmaster.pid")).unwrap_or_default();
    // Its seventh line: key and number.
    let number = notes
        .lines()
        .nth(6)
        .and_then(|line| line.split_ascii_whitespace().nth(1));
    if let Some(number) = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit())) {
        let mut command = Command::new("ipcrm");
        command
            .args(["-m", number])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // 56 bytes, and nobody to tell.
        command.status().ok();
    }
}
