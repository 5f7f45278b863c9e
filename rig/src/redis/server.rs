//! One redis-server.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    connection::{Connection, Reply},
    options::{ADMINISTRATOR, Options},
};
use crate::{
    Error,
    folder::Folder,
    port::Port,
    process::{Process, program},
    wait,
};

/// Longest start, on a machine that builds at the same time.
const START: Duration = Duration::from_secs(20);
/// Longest wait for the answer to a command.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest wait for a look at a server that may be paused.
const LOOK: Duration = Duration::from_millis(500);

/// What a server finds when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// What it had, saved just before.
    WithData,
    /// Nothing, as after a crash without persistence. A node of a cluster still knows its cluster.
    Empty,
}

/// A redis-server of its own, with a folder and a port that outlast its process. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// Before the folder, so that nobody writes into it while it is deleted.
    process: Mutex<Process>,
    options: Options,
    port: Port,
    tls_port: Option<Port>,
    home: PathBuf,
    sentinel: bool,
    _folder: Option<Folder>,
}

impl Server {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// [`Error::Ended`] where it refuses the options, and what the system says.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let folder = Folder::new("redis")?;
        let mut server = Self::spawn(options, Port::free()?, folder.path().to_owned(), false)?;
        server._folder = Some(folder);
        server.wait_until_it_answers()?;
        Ok(server)
    }

    /// Starts one in a folder of the caller's and does not wait; `sentinel` makes it a redis-sentinel.
    pub(super) fn spawn(options: &Options, port: Port, home: PathBuf, sentinel: bool) -> Result<Self, Error> {
        let tls_port = options.tls.as_ref().map(|_| Port::free()).transpose()?;
        let file = options.file(port.number(), tls_port.as_ref().map(Port::number), &home);
        let path = home.join("redis.conf");
        fs::write(&path, file).map_err(Error::system(format!("writing {}", path.display())))?;
        Ok(Self {
            process: Mutex::new(run(&home, port.number(), sentinel)?),
            options: options.clone(),
            port,
            tls_port,
            home,
            sentinel,
            _folder: None,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// For clients: `redis://127.0.0.1:6379`, with the password where there is one.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_through(self.address())
    }

    /// Likewise by way of another address, such as that of a [`Link`](crate::link::Link).
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        match &self.options.password {
            Some(password) => format!("redis://default:{}@{address}", escaped(password)),
            None => format!("redis://{address}"),
        }
    }

    /// Likewise with TLS, where it was asked for.
    #[must_use]
    pub fn tls_url(&self) -> Option<String> {
        let address = self.tls_port.as_ref()?.address();
        Some(match &self.options.password {
            Some(password) => format!("rediss://default:{}@{address}", escaped(password)),
            None => format!("rediss://{address}"),
        })
    }

    /// Its folder, with redis.conf and the log of all its processes, `log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.home
    }

    /// What all its processes wrote.
    #[must_use]
    pub fn log(&self) -> String {
        self.process().log()
    }

    /// The number of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Whether its process is there; it may be paused.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process().is_running()
    }

    /// Whether it is there and not paused.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        let process = self.process();
        process.is_running() && !process.is_paused()
    }

    /// One command over a connection of its own, as a user who may do everything. What refers to commands before it on
    /// the same connection (WAIT, MULTI, CLIENT REPLY) needs [`Self::connect`].
    ///
    /// # Errors
    /// [`Error::Redis`] where it refuses, [`Error::System`] where no answer comes within 5 s, [`Error::Ended`].
    pub fn command(&self, words: &[&str]) -> Result<Reply, Error> {
        self.connect(ANSWER)?.call(words)
    }

    /// Likewise, within half a second.
    pub(super) fn look(&self, words: &[&str]) -> Result<Reply, Error> {
        self.connect(LOOK)?.call(words)
    }

    /// A connection for several commands, logged in; `within` holds for each step.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn connect(&self, within: Duration) -> Result<Connection, Error> {
        self.process().check()?;
        let mut connection = Connection::open(self.address(), within)?;
        if let Some([name, password]) = self.login() {
            connection.call(&["AUTH", name, password])?;
        }
        Ok(connection)
    }

    /// Name and password of the user who may do everything, where it asks for them.
    pub(super) fn login(&self) -> Option<[&'static str; 2]> {
        self.options.is_guarded().then_some(ADMINISTRATOR)
    }

    /// kill -9.
    ///
    /// # Errors
    /// As [`Process::kill`].
    pub fn kill(&self) -> Result<(), Error> {
        self.process().kill()
    }

    /// SIGSTOP; see [`Process::pause`].
    ///
    /// # Errors
    /// As [`Process::pause`].
    pub fn pause(&self) -> Result<(), Error> {
        self.process().pause()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// As [`Process::resume`].
    pub fn resume(&self) -> Result<(), Error> {
        self.process().resume()
    }

    /// Ends its process by kill -9, if there still is one, starts it again on the same port and waits until it answers.
    ///
    /// # Errors
    /// As [`Self::start`]; also where the data cannot be saved because the server does not answer.
    pub fn restart(&self, how: Restart) -> Result<(), Error> {
        let dump = self.home.join("dump.rdb");
        if how == Restart::WithData && self.is_running() {
            self.command(&["SAVE"])?;
        } else if how == Restart::Empty && dump.exists() {
            fs::remove_file(&dump).map_err(Error::system("deleting the data of redis"))?;
        }
        {
            let mut process = self.process();
            process.kill()?;
            *process = run(&self.home, self.port.number(), self.sentinel)?;
        }
        self.wait_until_it_answers()
    }

    /// Waits until it answers and has loaded its data.
    pub(super) fn wait_until_it_answers(&self) -> Result<(), Error> {
        let what = format!("redis at {} answers", self.address());
        wait::until(&what, START, || self.look(&["PING"]).map(drop))
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(home: &Path, port: u16, sentinel: bool) -> Result<Process, Error> {
    let name = if sentinel {
        "redis-sentinel"
    } else {
        "redis-server"
    };
    let mut command = Command::new(program(name)?);
    command.arg(home.join("redis.conf")).current_dir(home);
    Process::start(&format!("{name} {port}"), command, &home.join("log"))
}

/// A password inside a URL (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
