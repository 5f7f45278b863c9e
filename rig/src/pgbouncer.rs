//! PgBouncer before a PostgreSQL, as hosters put one there: many clients share few connections.

use std::{fs, net::SocketAddr, process::Command, sync::Mutex, sync::PoisonError, time::Duration};

use rustix::process::Signal;

use crate::{
    Error,
    account::Account,
    folder::Folder,
    port::Port,
    postgres::{self, ADMINISTRATOR, Access, Connection, OWNER, Server},
    process::{Process, program},
    wait,
};

/// Longest start.
const START: Duration = Duration::from_secs(20);
/// Longest wait for a look.
const LOOK: Duration = Duration::from_secs(1);
/// PgBouncer's own database, of which its commands are asked.
const CONSOLE: &str = "pgbouncer";

/// What it is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// `transaction` (a connection is a client's until its transaction ends: prepared statements, LISTEN, advisory locks and
    /// SET of a session do not hold), `session` or `statement`.
    pub mode: String,
    /// How many connections to PostgreSQL a database and role share.
    pub connections: u16,
    /// More settings of its file: `("query_wait_timeout", "5")`.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: "transaction".to_owned(),
            connections: 10,
            settings: Vec::new(),
        }
    }
}

/// A running PgBouncer, on a port that outlasts its process. Killed when dropped.
#[derive(Debug)]
pub struct Pgbouncer {
    /// Before the folder, so that nobody writes into it while it is deleted.
    process: Mutex<Process>,
    port: Port,
    access: Access,
    account: Account,
    folder: Folder,
}

static SHARED: Mutex<Option<&'static Pgbouncer>> = Mutex::new(None);

/// The one before [`postgres::shared`], with transaction pooling, that all of this process share.
///
/// # Errors
/// As [`Pgbouncer::start`]; the next call tries again.
pub fn shared() -> Result<&'static Pgbouncer, Error> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pooler) = *shared {
        return Ok(pooler);
    }
    let pooler = Pgbouncer::start(postgres::shared()?, &Options::default())?;
    Ok(shared.insert(Box::leak(Box::new(pooler))))
}

impl Pgbouncer {
    /// Starts one before all databases of `server` and waits until it serves.
    ///
    /// # Errors
    /// [`Error::NotInstalled`], [`Error::Ended`] where it refuses the settings, and what the system says.
    pub fn start(server: &Server, options: &Options) -> Result<Self, Error> {
        Self::start_before(server, server.address(), options)
    }

    /// Likewise, with a way to the server of the caller's: a [`Link`](crate::link::Link).
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_before(server: &Server, way: SocketAddr, options: &Options) -> Result<Self, Error> {
        let (folder, account, port) = (Folder::new("pgbouncer")?, Account::of_servers()?, Port::free()?);
        account.give(folder.path())?;
        let access = Access {
            address: port.address(),
            ..server.access().clone()
        };
        let line = |role| format!("\"{role}\" \"{}\"\n", access.password);
        let users = [ADMINISTRATOR, OWNER].map(line).concat();
        for (name, text) in [
            ("users", users),
            ("pgbouncer.ini", file(options, port.number(), way)),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, text).map_err(Error::system(format!("writing {}", path.display())))?;
            account.give(&path)?;
        }
        let pooler = Self {
            process: Mutex::new(run(&folder, port.number(), account)?),
            port,
            access,
            account,
            folder,
        };
        pooler.wait_until_it_serves()?;
        Ok(pooler)
    }

    /// Where clients connect, by the URLs of [`Database::url_through`](crate::postgres::Database::url_through).
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// A connection to its console, for `SHOW POOLS`, `PAUSE`, `KILL database`.
    ///
    /// # Errors
    /// As [`Connection::open`]; [`Error::Ended`].
    pub fn console(&self) -> Result<Connection, Error> {
        self.with(Process::check)?;
        self.access.connect(CONSOLE, LOOK)
    }

    /// kill -9, and starts it again on the same port.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&self) -> Result<(), Error> {
        {
            let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            process.kill()?;
            *process = run(&self.folder, self.port.number(), self.account)?;
        }
        self.wait_until_it_serves()
    }

    /// kill -9.
    ///
    /// # Errors
    /// As [`Process::kill`].
    pub fn kill(&self) -> Result<(), Error> {
        self.with(Process::kill)
    }

    /// SIGTERM: it closes everything at once and ends.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn stop(&self) -> Result<(), Error> {
        self.with(|process| process.signal(Signal::TERM))?;
        self.with(|process| process.wait(START)).map(drop)
    }

    /// SIGSTOP: connections stay open and are silent.
    ///
    /// # Errors
    /// As [`Process::pause`].
    pub fn pause(&self) -> Result<(), Error> {
        self.with(Process::pause)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// As [`Process::resume`].
    pub fn resume(&self) -> Result<(), Error> {
        self.with(Process::resume)
    }

    fn with<T>(&self, act: impl FnOnce(&Process) -> T) -> T {
        act(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wait_until_it_serves(&self) -> Result<(), Error> {
        let what = format!("pgbouncer at {} serves", self.address());
        wait::until(&what, START, || self.console()?.query("SHOW VERSION").map(drop))
    }
}

fn run(folder: &Folder, port: u16, account: Account) -> Result<Process, Error> {
    let mut command = Command::new(program("pgbouncer")?);
    command.arg("pgbouncer.ini").current_dir(folder.path());
    account.run(&mut command);
    Process::start(&format!("pgbouncer {port}"), command, &folder.path().join("log"))
}

/// The whole pgbouncer.ini.
fn file(options: &Options, port: u16, way: SocketAddr) -> String {
    let more: String = options
        .settings
        .iter()
        .map(|(name, value)| format!("{name} = {value}\n"))
        .collect();
    format!(
        "[databases]\n* = host={} port={}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = plain\nauth_file = users\nadmin_users = {ADMINISTRATOR}\n\
         pool_mode = {}\ndefault_pool_size = {}\nmax_client_conn = 1000\n\
         ignore_startup_parameters = extra_float_digits\n{more}",
        way.ip(),
        way.port(),
        options.mode,
        options.connections,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_settings_come_last() {
        let options = Options {
            settings: vec![("query_wait_timeout".to_owned(), "5".to_owned())],
            ..Options::default()
        };
        let way = SocketAddr::from(([127, 0, 0, 1], 5432));
        let file = file(&options, 6432, way);
        assert!(
            file.contains("\npool_mode = transaction\ndefault_pool_size = 10\n"),
            "{file}"
        );
        assert!(file.contains("* = host=127.0.0.1 port=5432\n"), "{file}");
        assert!(file.ends_with("\nquery_wait_timeout = 5\n"), "{file}");
    }
}
