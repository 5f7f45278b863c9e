//! The server as a process of its own.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{client::Client, eventually};

/// The executable under test.
pub(crate) const EXECUTABLE: &str = env!("CARGO_BIN_EXE_carillon");

/// Longest start, in a debug build on a busy machine.
const START: Duration = Duration::from_secs(60);

/// Where a server lives: its addresses, data folder and settings outlast a process.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    settings: Vec<(String, String)>,
    folder: Arc<TempDir>,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) home: Home,
    child: Child,
}

impl Home {
    pub(crate) fn new() -> Self {
        // Both are held at once, so that they differ.
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (public, internal) = (TcpListener::bind(any).unwrap(), TcpListener::bind(any).unwrap());
        Self {
            public: public.local_addr().unwrap(),
            internal: internal.local_addr().unwrap(),
            settings: Vec::new(),
            folder: Arc::new(tempfile::Builder::new().prefix("carillon-it-").tempdir().unwrap()),
        }
    }

    pub(crate) fn set(mut self, variable: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.settings.push((variable.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// What all its processes wrote to their outputs.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// `program` with this home's environment and nothing of the test's.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(self.settings.iter().map(|(variable, value)| (variable, value)))
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// The arguments of the server.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let data = self.data().display().to_string();
        let [public, internal] = [self.public, self.internal].map(|address| address.to_string());
        [
            "--listen",
            &public,
            "--internal-listen",
            &internal,
            "--grpc-listen",
            "127.0.0.1:0",
            "--data-dir",
            &data,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Starts the server and waits until it is ready.
    pub(crate) async fn start(&self) -> Server {
        let mut command = self.command(EXECUTABLE);
        command.args(self.arguments());
        self.start_as(command).await
    }

    /// Starts the server by a command of the caller's, for example under a tracer.
    pub(crate) async fn start_as(&self, mut command: Command) -> Server {
        let path = self.folder().join("log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server {
            home: self.clone(),
            child,
        };
        let internal = self.internal;
        eventually("the server is ready", START, async || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            let mut client = Client::connect(internal).await.ok()?;
            let answer = client.get("/ready", None).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        server
    }

    /// A token of `carillon token`, valid for an hour.
    pub(crate) async fn token(&self, arguments: &[&str]) -> String {
        let data = self.data();
        let mut command = self.command(EXECUTABLE);
        command
            .arg("token")
            .arg("--data-dir")
            .arg(data)
            .args(arguments)
            .stderr(Stdio::inherit());
        let output = command.output().await.unwrap();
        assert!(
            output.status.success(),
            "carillon token {arguments:?}: {}",
            output.status
        );
        let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        assert_eq!(token.split('.').count(), 3, "not a token: {token}");
        token
    }

    /// The secret that the server made.
    pub(crate) fn secret(&self) -> String {
        std::fs::read_to_string(self.data().join("auth.secret"))
            .unwrap()
            .trim()
            .to_owned()
    }
}

impl Server {
    /// Starts a server with the defaults.
    pub(crate) async fn start() -> Self {
        Home::new().start().await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) async fn public(&self) -> Client {
        Client::connect(self.home.public).await.unwrap()
    }

    pub(crate) async fn internal(&self) -> Client {
        Client::connect(self.home.internal).await.unwrap()
    }

    pub(crate) async fn token(&self, arguments: &[&str]) -> String {
        self.home.token(arguments).await
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; the answer is how the process ended.
    pub(crate) async fn terminate(mut self, within: Duration) -> ExitStatus {
        terminate(self.pid()).await;
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| {
                panic!(
                    "still there {} s after SIGTERM:\n{}",
                    within.as_secs(),
                    self.home.log()
                )
            })
            .unwrap()
    }

    /// Waits for a process that someone else ends.
    pub(crate) async fn ended(mut self, within: Duration) -> ExitStatus {
        tokio::time::timeout(within, self.child.wait())
            .await
            .expect("the process did not end")
            .unwrap()
    }
}

/// Sends SIGTERM to a process of this test.
pub(crate) async fn terminate(pid: u32) {
    signal("TERM", pid).await;
}

/// Sends a signal to a process of this test. The shell has `kill` built in; as a program it is not on every machine.
pub(crate) async fn signal(name: &str, pid: u32) {
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -{name} {pid}"))
        .status()
        .await
        .unwrap();
    assert!(status.success());
}
