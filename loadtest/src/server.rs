//! The server under test: started here or running already, and what it costs by the kernel's books.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{args::Args, publish::Publisher};

/// Linux counts process time in these units for every program (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Longest wait for a server to become ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server and how to reach it.
#[derive(Debug)]
pub(crate) struct Server {
    /// The public listener.
    pub(crate) target: SocketAddr,
    /// The internal one.
    pub(crate) publish: SocketAddr,
    /// Its HS256 secret.
    pub(crate) secret: String,
    /// Its process, where known.
    pub(crate) pid: Option<u32>,
    own: Option<(Child, TempDir)>,
}

impl Server {
    /// Uses the server of the arguments, or starts one.
    pub(crate) async fn new(args: &Args) -> anyhow::Result<Self> {
        let (Some(target), Some(publish), Some(file)) = (args.target, args.publish, &args.secret_file) else {
            return Self::start(&executable(args)?, args.sockets).await;
        };
        for address in [target, publish] {
            if !address.ip().is_loopback() {
                bail!(
                    "{address} is not a loopback address: this harness tests servers on its own machine only"
                );
            }
        }
        Ok(Self {
            target,
            publish,
            secret: secret(file)?,
            pid: args.pid,
            own: None,
        })
    }

    async fn start(executable: &Path, sockets: u32) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("carillon-load-").tempdir()?;
        let data = folder.path().join("data");
        let log_path = folder.path().join("log");
        let log = std::fs::File::create(&log_path)?;
        let [target, publish] = free_ports()?;
        let limit = (sockets + 20_000).to_string();
        let mut child = Command::new(executable)
            .arg("--listen")
            .arg(target.to_string())
            .arg("--internal-listen")
            .arg(publish.to_string())
            .arg("--data-dir")
            .arg(&data)
            // What a load test must not run into; every other setting is the default.
            .envs(LIMITS.iter().map(|key| (key, &limit)))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", executable.display()))?;
        let pid = child.id();
        let began = Instant::now();
        while !Publisher::ready(publish).await {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "the server ended with {status}:\n{}",
                    std::fs::read_to_string(&log_path)?
                );
            }
            if began.elapsed() > PATIENCE {
                bail!(
                    "the server did not become ready:\n{}",
                    std::fs::read_to_string(&log_path)?
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
        let secret = secret(&data.join("auth.secret"))?;
        Ok(Self {
            target,
            publish,
            secret,
            pid,
            own: Some((child, folder)),
        })
    }

    /// Ends a server that was started here: SIGTERM, and SIGKILL only where that does not help.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let (Some((mut child, _folder)), Some(pid)) = (self.own.take(), self.pid) else {
            return Ok(());
        };
        // The shell has `kill` built in; as a program it is not on every machine.
        Command::new("sh")
            .arg("-c")
            .arg(format!("kill -TERM {pid}"))
            .status()
            .await?;
        match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => bail!("the server ended with {}", status?),
            Err(_) => {
                child.kill().await?;
                bail!(
                    "the server did not end within {} s of SIGTERM",
                    PATIENCE.as_secs()
                )
            }
        }
    }

    /// Memory and processor time now; none where the process is not known.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let pid = self.pid?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Usage {
            rss: resident(&status)?,
            cpu: processor_time(&stat)?,
        })
    }

    /// Waits until two readings a second apart agree within 0.1 %, half a minute at the most.
    pub(crate) async fn settled(&self) -> Option<Usage> {
        let mut last = self.usage()?;
        for _ in 0..30 {
            sleep(Duration::from_secs(1)).await;
            let now = self.usage()?;
            if now.rss.abs_diff(last.rss) <= last.rss / 1000 {
                return Some(now);
            }
            last = now;
        }
        Some(last)
    }
}

/// Limits that the number of sockets would meet, as they all come at once, of one tenant and from few addresses.
const LIMITS: &[&str] = &[
    "CARILLON_SERVER__MAX_CONNECTIONS",
    "CARILLON_HUB__MAX_CONNECTIONS",
    "CARILLON_HUB__MAX_CONNECTIONS_PER_TENANT",
    "CARILLON_HUB__MAX_CONNECTIONS_PER_ADDRESS",
    "CARILLON_HUB__HANDSHAKES_PER_SECOND",
];

/// What a process uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Resident bytes.
    pub(crate) rss: u64,
    /// User and system time; grows in steps of 10 ms.
    pub(crate) cpu: Duration,
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)); field 2 is a name that may hold anything, up to the last parenthesis.
fn processor_time(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

fn executable(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(path) = &args.server {
        return Ok(path.clone());
    }
    let beside = std::env::current_exe()?.with_file_name("carillon");
    if !beside.exists() {
        bail!(
            "{} does not exist: build it (`make load`), or name one with --server or --target",
            beside.display()
        );
    }
    Ok(beside)
}

fn secret(file: &Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading the secret {}", file.display()))?;
    Ok(text.trim().to_owned())
}

fn free_ports() -> anyhow::Result<[SocketAddr; 2]> {
    // Both are held at once, so that they differ.
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (first, second) = (TcpListener::bind(any)?, TcpListener::bind(any)?);
    Ok([first.local_addr()?, second.local_addr()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_books_are_read() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   1024 kB\n"), Some(1024 * 1024));
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(processor_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(processor_time("nothing"), None);
    }
}
