//! Carillon's own processes: the executable as it was built, not linked into the test.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    Error,
    folder::Folder,
    http::{self, Answer},
    port::Port,
    process::Process,
    wait::{self, ensure},
};

/// Names the executable; without it, it is looked for beside the running program.
pub const EXECUTABLE: &str = "CARILLON_BIN";

/// Longest start, of a debug build on a machine that builds at the same time.
const START: Duration = Duration::from_secs(60);
/// Longest wait for the answer to a look.
const LOOK: Duration = Duration::from_secs(2);

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Service {
    /// Everything in one.
    #[default]
    Standalone,
    /// `carillon hub`.
    Hub,
    /// `carillon dispatcher`.
    Dispatcher,
}

/// How a process is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What it is.
    pub service: Service,
    /// The executable, where [`executable`] would not find it.
    pub program: Option<PathBuf>,
    /// Its configuration file in TOML; none, where this is empty.
    pub config: String,
    /// More environment. Of this process's own only PATH is passed on.
    pub environment: Vec<(String, String)>,
    /// More arguments, behind those of the listeners and the data folder.
    pub arguments: Vec<String>,
    /// Public and internal port; any free ones where it does not matter.
    pub ports: Option<[u16; 2]>,
}

/// A process of Carillon, with a folder and ports that outlast it. Killed when dropped.
#[derive(Debug)]
pub struct Node {
    /// Before the folder, so that nobody writes into it while it is deleted.
    process: Mutex<Process>,
    options: Options,
    program: PathBuf,
    ports: [Port; 3],
    folder: Folder,
}

/// The executable that [`EXECUTABLE`] names, or else `carillon` beside the running program or, as tests lie one folder
/// deeper, above it.
///
/// # Errors
/// [`Error::Unfit`] where there is none.
pub fn executable() -> Result<PathBuf, Error> {
    if let Some(named) = std::env::var_os(EXECUTABLE).filter(|name| !name.is_empty()) {
        return anywhere(Path::new(&named));
    }
    let here = std::env::current_exe().map_err(Error::system("asking where this program lies"))?;
    let beside = here
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("carillon"));
    let mut found = beside.filter(|file| file.is_file());
    found.next().ok_or_else(|| {
        Error::Unfit(format!(
            "no executable beside {}: `cargo build -p carillon`, or name one by {EXECUTABLE}",
            here.display()
        ))
    })
}

impl Node {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::spawn`]; [`Error::Ended`] with its log where it gives up, [`Error::Late`].
    pub fn start(options: &Options) -> Result<Self, Error> {
        let node = Self::spawn(options)?;
        node.wait_until_ready(START)?;
        Ok(node)
    }

    /// Starts one and does not wait.
    ///
    /// # Errors
    /// [`Error::Unfit`] where a port is taken or there is no executable, and what the system says.
    pub fn spawn(options: &Options) -> Result<Self, Error> {
        let ports = match options.ports {
            None => [Port::free()?, Port::free()?, Port::free()?],
            Some([public, internal]) => [held(public)?, held(internal)?, Port::free()?],
        };
        let program = match &options.program {
            Some(program) => anywhere(program)?,
            None => executable()?,
        };
        let folder = Folder::new(options.service.word())?;
        if !options.config.is_empty() {
            fs::write(config(&folder), &options.config).map_err(Error::system("writing a configuration"))?;
        }
        Ok(Self {
            process: Mutex::new(run(&program, options, &ports, &folder)?),
            options: options.clone(),
            program,
            ports,
            folder,
        })
    }

    /// The public listener.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.ports[0].address()
    }

    /// The internal listener.
    #[must_use]
    pub fn internal(&self) -> SocketAddr {
        self.ports[1].address()
    }

    /// The gRPC listener, which a hub has not.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.ports[2].address()
    }

    /// Its folder: `carillon.toml`, `data/`, and the log of all its processes, `log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its configuration file, which is there where there is a configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        config(&self.folder)
    }

    /// The executable.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
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

    /// [`Error::Ended`] with the end of its log unless it runs.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self) -> Result<(), Error> {
        self.process().check()
    }

    /// What it says at `/ready`: 200, or 503 with the reason.
    ///
    /// # Errors
    /// [`Error::Ended`] where it has ended, [`Error::System`] where no answer comes.
    pub fn ready(&self) -> Result<Answer, Error> {
        self.process().check()?;
        http::get(self.internal(), "/ready", LOOK)
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// [`Error::Ended`] with the end of its log, [`Error::Late`] with its reason.
    pub fn wait_until_ready(&self, within: Duration) -> Result<(), Error> {
        let what = format!(
            "the {} at {} is ready",
            self.options.service.word(),
            self.internal()
        );
        wait::until(&what, within, || {
            let answer = self.ready()?;
            ensure(answer.status == 200, || {
                format!("it answers {}: {}", answer.status, answer.body)
            })
        })
    }

    /// Waits until it says that it is not ready, and gives what it says.
    ///
    /// # Errors
    /// As [`Self::wait_until_ready`].
    pub fn wait_until_unready(&self, within: Duration) -> Result<String, Error> {
        let what = format!(
            "the {} at {} is not ready",
            self.options.service.word(),
            self.internal()
        );
        wait::until(&what, within, || {
            let answer = self.ready()?;
            ensure(answer.status != 200, || "it is".to_owned()).map(|()| answer.body)
        })
    }

    /// kill -9.
    ///
    /// # Errors
    /// As [`Process::kill`].
    pub fn kill(&self) -> Result<(), Error> {
        self.process().kill()
    }

    /// SIGTERM, which has it drain and end; [`Self::wait`] waits for that.
    ///
    /// # Errors
    /// As [`Process::terminate`].
    pub fn terminate(&self) -> Result<(), Error> {
        self.process().terminate()
    }

    /// SIGINT: likewise, without the lame-duck time.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn interrupt(&self) -> Result<(), Error> {
        self.process().signal(Signal::INT)
    }

    /// Waits for its end; whether it was a clean one.
    ///
    /// # Errors
    /// [`Error::Late`].
    pub fn wait(&self, within: Duration) -> Result<bool, Error> {
        wait::until(
            &format!("the {} ends", self.options.service.word()),
            within,
            || {
                // Not by the process's own wait, during which nobody else could ask it for anything.
                self.process().wait(Duration::ZERO).map(|status| status.success())
            },
        )
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

    /// Ends its process by kill -9, if there still is one, starts it again on its ports and data, and waits until it is
    /// ready.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&self) -> Result<(), Error> {
        {
            let mut process = self.process();
            process.kill()?;
            *process = run(&self.program, &self.options, &self.ports, &self.folder)?;
        }
        self.wait_until_ready(START)
    }

    /// What one of its commands prints, with its configuration and environment: `["token", "--user", "u1"]`.
    ///
    /// # Errors
    /// [`Error::Unfit`] with what it says where it fails.
    pub fn command(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = command(&self.program, &self.options, &self.folder);
        command.args(arguments);
        let output = command.output().map_err(Error::system("running carillon"))?;
        ensure(output.status.success(), || {
            let said = String::from_utf8_lossy(&output.stderr);
            format!(
                "`carillon {}` says: {said}",
                arguments.first().copied().unwrap_or_default()
            )
        })?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Its command.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Hub => "hub",
            Self::Dispatcher => "dispatcher",
        }
    }
}

/// A path that holds in the folders in which processes start.
fn anywhere(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::system(format!("looking for {}", path.display())))
}

fn held(number: u16) -> Result<Port, Error> {
    Port::take(number)?.ok_or_else(|| Error::Unfit(format!("port {number} is taken")))
}

fn config(folder: &Folder) -> PathBuf {
    folder.path().join("carillon.toml")
}

fn run(program: &Path, options: &Options, ports: &[Port; 3], folder: &Folder) -> Result<Process, Error> {
    let [public, internal, grpc] = ports.each_ref().map(|port| port.address().to_string());
    let service = options.service.word();
    let mut command = command(program, options, folder);
    command
        .arg(service)
        .args(["--listen", &public, "--internal-listen", &internal])
        .args(["--grpc-listen", &grpc])
        .args(&options.arguments);
    Process::start(
        &format!("{service} {public}"),
        command,
        &folder.path().join("log"),
    )
}

/// The executable with everything but what it is to do.
fn command(program: &Path, options: &Options, folder: &Folder) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(options.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(folder.path())
        .arg("--data-dir")
        .arg(folder.path().join("data"));
    if !options.config.is_empty() {
        command.arg("--config").arg(config(folder));
    }
    command
}
