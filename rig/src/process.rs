//! One process on this machine.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{Error, children, wait, watcher::Watched};

/// Longest wait for the end of what was killed. Only a process inside a stuck system call takes longer than a moment.
const KILLED: Duration = Duration::from_secs(10);
/// How much of a log an error repeats.
const TAIL: usize = 2_000;

/// Finds a program on the PATH, or where Debian keeps those for administrators.
///
/// # Errors
/// [`Error::NotInstalled`].
pub fn program(name: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()]);
    let found = places.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| Error::NotInstalled {
        program: name.to_owned(),
    })
}

/// A process with a group of its own, which is killed with it and at the latest after this process.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Running {
        child: Child,
        paused: bool,
        _watched: Watched,
    },
    Ended(ExitStatus),
}

impl Process {
    /// Starts `command` with no input and both outputs appended to the file `log`; `name` stands in errors.
    ///
    /// # Errors
    /// [`Error::System`] where the log or the process cannot be made.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self, Error> {
        let open = File::options().create(true).append(true).open(log);
        let output = open.map_err(Error::system(format!("opening {}", log.display())))?;
        let errors = output.try_clone().map_err(Error::system("sharing a log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::system(format!("starting {name}")))?;
        Ok(Self {
            name: name.to_owned(),
            pid: Pid::from_child(&child),
            log: log.to_owned(),
            state: Mutex::new(State::Running {
                _watched: Watched::group(child.id()),
                child,
                paused: false,
            }),
        })
    }

    /// Its number; also that of its group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// What stands in errors for it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything that it wrote, and its predecessors with the same log.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it has not ended; a paused one has not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(*self.look(), State::Running { .. })
    }

    /// Whether it is stopped by [`Self::pause`].
    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(*self.look(), State::Running { paused: true, .. })
    }

    /// [`Error::Ended`] with the end of its log unless it runs.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self) -> Result<(), Error> {
        let State::Ended(status) = *self.look() else {
            return Ok(());
        };
        let log = self.log();
        let from = log.len().saturating_sub(TAIL);
        let from = (from..log.len()).find(|at| log.is_char_boundary(*at));
        Err(Error::Ended {
            name: self.name.clone(),
            status: status.to_string(),
            log: self.log.clone(),
            tail: log[from.unwrap_or(log.len())..].to_owned(),
        })
    }

    /// SIGKILL to the whole group and to its children in other groups, and waits for its end. Nothing happens where it
    /// has ended.
    ///
    /// # Errors
    /// [`Error::System`], [`Error::Late`].
    pub fn kill(&self) -> Result<(), Error> {
        if let State::Running { .. } = *self.look() {
            if !children::of(self.pid).is_empty() {
                kill_process_group(self.pid, Signal::STOP)
                    .map_err(|error| Error::system(format!("stopping {}", self.name))(error.into()))?;
                children::kill(self.pid);
            }
            kill_process_group(self.pid, Signal::KILL)
                .map_err(|error| Error::system(format!("killing {}", self.name))(error.into()))?;
        }
        self.wait(KILLED).map(drop)
    }

    /// SIGTERM, the request to end; [`Self::wait`] waits for that.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn terminate(&self) -> Result<(), Error> {
        self.signal(Signal::TERM)
    }

    /// A signal to the process alone. Nothing happens where it has ended.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        // The lock is held meanwhile: nobody reaps it, so the number is still its own.
        let state = self.look();
        match *state {
            State::Running { .. } => kill_process(self.pid, signal)
                .map_err(|error| Error::system(format!("a signal to {}", self.name))(error.into())),
            State::Ended(_) => Ok(()),
        }
    }

    /// SIGSTOP to the whole group and to its children: it keeps its sockets and does nothing. The kernel goes on accepting connections and
    /// bytes for it.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn pause(&self) -> Result<(), Error> {
        self.halt(Signal::STOP, true)
    }

    /// SIGCONT after [`Self::pause`].
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn resume(&self) -> Result<(), Error> {
        self.halt(Signal::CONT, false)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Error::Late`].
    pub fn wait(&self, within: Duration) -> Result<ExitStatus, Error> {
        let what = format!("{} ends", self.name);
        wait::until(&what, within, || match *self.look() {
            State::Ended(status) => Ok(status),
            State::Running { .. } => Err(Error::Unfit("it runs".to_owned())),
        })
    }

    fn halt(&self, signal: Signal, halted: bool) -> Result<(), Error> {
        match &mut *self.look() {
            State::Running { paused, .. } => {
                kill_process_group(self.pid, signal)
                    .map_err(|error| Error::system(format!("a signal to {}", self.name))(error.into()))?;
                children::send(&children::of(self.pid), signal);
                *paused = halted;
                Ok(())
            }
            State::Ended(_) => Ok(()),
        }
    }

    /// The state as of now. Who ended is reaped, and what is left of its group is killed.
    fn look(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Running { child, .. } = &mut *state
            && let Ok(Some(status)) = child.try_wait()
        {
            // An error says that the group is empty, as it should be.
            kill_process_group(self.pid, Signal::KILL).ok();
            *state = State::Ended(status);
        }
        state
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // There is nobody to tell.
        self.kill().ok();
    }
}
