//! The server under test: started here from its description, or running already.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    args::Common,
    ask,
    process::{Usage, family, usage},
    target::{Start, Target, Template, Values},
};

/// Longest wait for a server to become ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where Carillon takes a secret from; two servers that share one know each other's tokens.
pub(crate) const SECRET: &str = "CARILLON_AUTH__SECRET";

/// A server and how to reach it.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where sockets connect: its nodes, or one balancer.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where publishes go; the first is also asked how it is.
    pub(crate) publishes: Vec<SocketAddr>,
    /// Its HS256 secret, where it has tokens.
    pub(crate) secret: Option<String>,
    pub(crate) version: String,
    pub(crate) metrics_path: Option<String>,
    pub(crate) ready_path: Option<String>,
    clean_exit: bool,
    pids: Vec<u32>,
    own: Option<(Child, TempDir)>,
}

impl Server {
    /// Uses the server of the arguments, or starts one with this environment added.
    pub(crate) async fn new(
        common: &Common,
        target: &Target,
        environment: &[(String, String)],
    ) -> anyhow::Result<Self> {
        if common.addresses.is_empty() {
            let Some(start) = &target.start else {
                bail!("the description does not say how the server is started: name it by --address");
            };
            return Self::start(common, target, start, environment).await;
        }
        let publishes = if common.publishes.is_empty() {
            &common.addresses
        } else {
            &common.publishes
        };
        for address in common.addresses.iter().chain(publishes) {
            if !address.ip().is_loopback() {
                bail!(
                    "{address} is not a loopback address: this harness tests servers on its own machine only"
                );
            }
        }
        let start = target.start.as_ref();
        Ok(Self {
            addresses: common.addresses.clone(),
            publishes: publishes.clone(),
            secret: common.secret_file.as_deref().map(secret).transpose()?,
            version: "unknown".to_owned(),
            metrics_path: start.and_then(|start| start.metrics.clone()),
            ready_path: start.and_then(|start| start.ready.clone()),
            clean_exit: false,
            pids: common.pids.clone(),
            own: None,
        })
    }

    /// Processes that somebody else started and will end.
    pub(crate) fn foreign(
        addresses: Vec<SocketAddr>,
        publishes: Vec<SocketAddr>,
        secret: String,
        version: String,
        pids: Vec<u32>,
    ) -> Self {
        Self {
            addresses,
            publishes,
            secret: Some(secret),
            version,
            metrics_path: None,
            ready_path: None,
            clean_exit: false,
            pids,
            own: None,
        }
    }

    /// Whether it was started here, and is ended here.
    pub(crate) fn is_ours(&self) -> bool {
        self.own.is_some()
    }

    /// Its processes are others now.
    pub(crate) fn watch(&mut self, pids: Vec<u32>) {
        self.pids = pids;
    }

    /// Where it is asked how it is.
    pub(crate) fn internal(&self) -> SocketAddr {
        // There is one at least, by the way it is made.
        self.publishes[0]
    }

    async fn start(
        common: &Common,
        target: &Target,
        start: &Start,
        environment: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("loadtest-").tempdir()?;
        // An empty path, of a file in the current folder, stands for that folder.
        let here = std::path::absolute(Path::new(".").join(Target::folder(common.describe.as_deref())))?;
        let [address, publish] = free_ports(start.one_port)?;
        let values = Values {
            port: address.port(),
            publish_port: publish.port(),
            folder: folder.path().to_str().context("a folder that is no text")?,
            here: here.to_str().context("a folder that is no text")?,
            sockets: common.sockets + 20_000,
            ..Values::default()
        };
        for (name, text) in &start.files {
            std::fs::write(folder.path().join(name), text.render(&values))?;
        }
        let program = program(common)?;
        let mut words: Vec<String> = start.command.iter().map(|word| word.render(&values)).collect();
        let mut version: Vec<String> = start.version.iter().map(|word| word.render(&values)).collect();
        if let Some(program) = &program {
            words.insert(0, program.clone());
            version.insert(0, program.clone());
        }
        let version = printed(&version).await;
        if let Some(core) = common.server_core {
            words.splice(..0, ["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
        }
        let log_path = folder.path().join("log");
        let log = std::fs::File::create(&log_path)?;
        let set = start.environment.iter();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .envs(set.map(|(key, value): (&String, &Template)| (key, value.render(&values))))
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .envs(pairs(&common.environment)?)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", words[0]))?;
        let pid = child.id().context("a server that ended at once")?;
        let mut server = Self {
            addresses: vec![address],
            publishes: vec![publish],
            secret: None,
            version,
            metrics_path: start.metrics.clone(),
            ready_path: start.ready.clone(),
            clean_exit: start.clean_exit,
            pids: vec![pid],
            own: None,
        };
        let child = server.wait_ready(child, &log_path).await?;
        server.pids = family(pid);
        let given = environment.iter().find(|(name, _)| name == SECRET);
        if let Some((_, secret)) = given {
            server.secret = Some(secret.clone());
        } else if target.tokens {
            let file = start.secret_file.as_ref().context("tokens need a secret_file")?;
            server.secret = Some(secret(Path::new(&file.render(&values)))?);
        }
        server.own = Some((child, folder));
        Ok(server)
    }

    async fn wait_ready(&self, mut child: Child, log: &Path) -> anyhow::Result<Child> {
        let began = Instant::now();
        while !self.is_ready().await {
            let text = || std::fs::read_to_string(log).unwrap_or_default();
            if let Some(status) = child.try_wait()? {
                bail!("the server ended with {status}:\n{}", text());
            }
            if began.elapsed() > PATIENCE {
                bail!("the server did not become ready:\n{}", text());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(child)
    }

    /// Whether it takes work.
    pub(crate) async fn is_ready(&self) -> bool {
        match &self.ready_path {
            Some(path) => ask::get(self.internal(), path)
                .await
                .is_ok_and(|(status, _)| (200..300).contains(&status)),
            None => {
                for address in self.addresses.iter().chain(&self.publishes) {
                    if !ask::connects(*address).await {
                        return false;
                    }
                }
                true
            }
        }
    }

    /// Its metrics in text form, where it has any.
    pub(crate) async fn metrics(&self) -> Option<String> {
        let (status, text) = ask::get(self.internal(), self.metrics_path.as_deref()?)
            .await
            .ok()?;
        (status == 200).then_some(text)
    }

    /// Tells it to end.
    pub(crate) async fn terminate(&self) -> anyhow::Result<()> {
        let pid = self.pids.first().context("the server's process is not known")?;
        // The shell has `kill` built in; as a program it is not on every machine.
        Command::new("sh")
            .arg("-c")
            .arg(format!("kill -TERM {pid}"))
            .status()
            .await?;
        Ok(())
    }

    /// Waits until a server that was told to end has ended.
    pub(crate) async fn ended(&mut self, within: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let Some((child, _)) = &mut self.own else {
            return Ok(None);
        };
        match timeout(within, child.wait()).await {
            Ok(status) => Ok(Some(status?)),
            Err(_) => bail!("the server did not end within {} s of SIGTERM", within.as_secs()),
        }
    }

    /// Ends a server that was started here: SIGTERM, and SIGKILL only where that does not help.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let Some((child, _)) = &mut self.own else {
            return Ok(());
        };
        // The process of one that has ended already may be another's by now.
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        self.terminate().await?;
        let clean = self.clean_exit;
        match self.ended(PATIENCE).await {
            Ok(Some(status)) if clean && !status.success() => bail!("the server ended with {status}"),
            Ok(_) => Ok(()),
            Err(error) => {
                if let Some((child, _)) = &mut self.own {
                    child.kill().await?;
                }
                if clean { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Its processes.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Memory and processor time now; none where the process is not known.
    pub(crate) fn usage(&self) -> Option<Usage> {
        if self.pids.is_empty() {
            return None;
        }
        usage(&self.pids)
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

/// The executable that goes before the command of Carillon's description; other descriptions name theirs.
fn program(common: &Common) -> anyhow::Result<Option<String>> {
    if common.describe.is_some() {
        return Ok(None);
    }
    let path: PathBuf = match &common.server {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()?.with_file_name("carillon"),
    };
    if !path.exists() {
        bail!(
            "{} does not exist: build it (`make load`), or name one with --server, --describe or --address",
            path.display()
        );
    }
    Ok(path.to_str().map(str::to_owned))
}

async fn printed(words: &[String]) -> String {
    let Some((program, arguments)) = words.split_first() else {
        return "unknown".to_owned();
    };
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(Duration::from_secs(10), output).await {
        Ok(Ok(output)) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.trim().is_empty() {
                text = String::from_utf8_lossy(&output.stderr).into_owned();
            }
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        _ => "unknown".to_owned(),
    }
}

/// `NAME=VALUE` taken apart.
pub(crate) fn pairs(texts: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    texts
        .iter()
        .map(|text| {
            let (name, value) = text
                .split_once('=')
                .with_context(|| format!("`{text}` is not NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn secret(file: &Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading the secret {}", file.display()))?;
    Ok(text.trim().to_owned())
}

fn free_ports(one: bool) -> anyhow::Result<[SocketAddr; 2]> {
    // Both are held at once, so that they differ.
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (first, second) = (TcpListener::bind(any)?, TcpListener::bind(any)?);
    let first = first.local_addr()?;
    Ok([first, if one { first } else { second.local_addr()? }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_pairs() {
        let pairs = pairs(&["A=b=c".to_owned()]).unwrap();
        assert_eq!(pairs, [("A".to_owned(), "b=c".to_owned())]);
        assert!(super::pairs(&["A".to_owned()]).is_err());
    }
}
