//! A primary with replicas, and sentinels that put another in its place when it fails.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    options::Options,
    server::{Restart, Server},
};
use crate::{
    Error,
    folder::Folder,
    port::Port,
    wait::{self, ensure},
};

/// Under which name the sentinels know the primary.
pub const SERVICE: &str = "carillon";

/// How many sentinels have to agree that the primary is down.
const QUORUM: usize = 2;
/// How many sentinels there are.
const SENTINELS: usize = 3;
/// Longest start, on a machine that builds at the same time.
const START: Duration = Duration::from_secs(20);

/// What it is started with.
#[derive(Debug, Clone)]
pub struct SentinelOptions {
    /// Replicas of the primary.
    pub replicas: usize,
    /// After how much silence the primary counts as down for a sentinel.
    pub down_after: Duration,
    /// After how long a fail-over that does not come to its end is tried again (twice this).
    pub failover_timeout: Duration,
    /// Of the primary and its replicas.
    pub node: Options,
}

/// A primary, its replicas and three sentinels. All are killed when it is dropped.
#[derive(Debug)]
pub struct Sentinel {
    nodes: Vec<Server>,
    sentinels: Vec<Server>,
    /// Behind the servers, so that nobody writes into it while it is deleted.
    _folder: Folder,
}

impl Default for SentinelOptions {
    fn default() -> Self {
        Self {
            replicas: 2,
            down_after: Duration::from_secs(1),
            failover_timeout: Duration::from_secs(5),
            node: Options::default(),
        }
    }
}

impl Sentinel {
    /// Starts all with the usual options; see [`Self::start_with`].
    ///
    /// # Errors
    /// As there.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&SentinelOptions::default())
    }

    /// Starts all and waits until the replicas are in sync and the sentinels know them and each other.
    ///
    /// # Errors
    /// [`Error::Ended`] where a server refuses its options, and what the system says.
    pub fn start_with(options: &SentinelOptions) -> Result<Self, Error> {
        let folder = Folder::new("sentinel")?;
        let mut nodes: Vec<Server> = Vec::new();
        for _ in 0..=options.replicas {
            let primary = nodes.first().map(Server::address);
            let (port, home) = place(&folder)?;
            nodes.push(Server::spawn(&node(options, primary), port, home, false)?);
        }
        wait::until("the replicas are in sync", START, || {
            in_sync(&nodes[0], options.replicas)
        })?;
        let mut sentinels = Vec::new();
        for _ in 0..SENTINELS {
            let (port, home) = place(&folder)?;
            sentinels.push(Server::spawn(&sentinel(options, &nodes[0]), port, home, true)?);
        }
        let group = Self {
            nodes,
            sentinels,
            _folder: folder,
        };
        group.acquaint(options.replicas)?;
        Ok(group)
    }

    /// The primary and its replicas as they began; the first was the primary.
    #[must_use]
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// Where the sentinels listen; their clients ask for [`SERVICE`].
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(Server::address).collect()
    }

    /// [`Self::addresses`] as clients are configured with them.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }

    /// The number among [`Self::nodes`] of the one that most sentinels name.
    ///
    /// # Errors
    /// [`Error::Unfit`] where no two that are awake agree.
    pub fn primary(&self) -> Result<usize, Error> {
        let named: Vec<usize> = self
            .sentinels
            .iter()
            .filter_map(|sentinel| self.named_by(sentinel))
            .collect();
        let agreed = named
            .iter()
            .copied()
            .find(|node| named.iter().filter(|other| *other == node).count() >= QUORUM);
        agreed.ok_or_else(|| Error::Unfit(format!("the sentinels do not agree: {named:?}")))
    }

    /// kill -9 to the primary; gives its number.
    ///
    /// # Errors
    /// As [`Self::primary`], [`Server::kill`].
    pub fn kill_primary(&self) -> Result<usize, Error> {
        let primary = self.primary()?;
        self.nodes[primary].kill()?;
        Ok(primary)
    }

    /// SIGSTOP to the primary; gives its number, for `nodes()[number].resume()`.
    ///
    /// # Errors
    /// As [`Self::primary`], [`Server::pause`].
    pub fn pause_primary(&self) -> Result<usize, Error> {
        let primary = self.primary()?;
        self.nodes[primary].pause()?;
        Ok(primary)
    }

    /// Waits until the sentinels name another than `old`, and that one takes writes: it is a primary and, where there
    /// are other replicas awake, has one of them. Gives its number.
    ///
    /// # Errors
    /// [`Error::Late`].
    pub fn wait_for_failover(&self, old: usize, within: Duration) -> Result<usize, Error> {
        wait::until("the sentinels put another in the primary's place", within, || {
            let new = self.primary()?;
            ensure(new != old, || "they name the old one".to_owned())?;
            let others = self.nodes.iter().filter(|node| node.is_awake()).count() - 1;
            in_sync(&self.nodes[new], others.min(1))?;
            Ok(new)
        })
    }

    /// Starts a killed node again, without data. The sentinels make it a replica, within some ten seconds.
    ///
    /// # Errors
    /// As [`Server::restart`].
    pub fn restart(&self, node: usize) -> Result<(), Error> {
        self.nodes[node].restart(Restart::Empty)
    }

    fn named_by(&self, sentinel: &Server) -> Option<usize> {
        if !sentinel.is_awake() {
            return None;
        }
        let answer = sentinel
            .look(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])
            .ok()?;
        let port = answer.as_list().get(1)?.as_integer()?;
        self.nodes
            .iter()
            .position(|node| i64::from(node.address().port()) == port)
    }

    /// Sentinels tell of themselves every two seconds; during the start they do it more often.
    fn acquaint(&self, replicas: usize) -> Result<(), Error> {
        for sentinel in &self.sentinels {
            sentinel.wait_until_it_answers()?;
            sentinel.command(&["SENTINEL", "DEBUG", "publish-period", "100"])?;
        }
        for sentinel in &self.sentinels {
            wait::until("the sentinels know each other", START, || {
                let count = |what| {
                    let known = sentinel.look(&["SENTINEL", what, SERVICE])?;
                    Ok::<_, Error>(known.as_list().len())
                };
                let (peers, copies) = (count("SENTINELS")?, count("REPLICAS")?);
                ensure(peers == SENTINELS - 1 && copies == replicas, || {
                    format!("{peers} others and {copies} replicas")
                })?;
                sentinel.look(&["SENTINEL", "CKQUORUM", SERVICE])
            })?;
        }
        for sentinel in &self.sentinels {
            sentinel.command(&["SENTINEL", "DEBUG", "publish-period", "2000"])?;
        }
        Ok(())
    }
}

fn place(folder: &Folder) -> Result<(Port, PathBuf), Error> {
    let port = Port::free()?;
    let home = folder.inner(&port.number().to_string())?;
    Ok((port, home))
}

/// The caller's lines come last, so that they win.
fn node(options: &SentinelOptions, primary: Option<SocketAddr>) -> Options {
    let mut lines = vec!["repl-diskless-sync-delay 0".to_owned()];
    if options.replicas > 0 {
        lines.push("min-replicas-to-write 1".to_owned());
        lines.push("min-replicas-max-lag 10".to_owned());
    }
    lines.extend(options.node.lines.iter().cloned());
    Options {
        lines,
        replica_of: primary,
        ..options.node.clone()
    }
}

fn sentinel(options: &SentinelOptions, primary: &Server) -> Options {
    let address = primary.address();
    let mut lines = vec![
        format!(
            "sentinel monitor {SERVICE} {} {} {QUORUM}",
            address.ip(),
            address.port()
        ),
        format!(
            "sentinel down-after-milliseconds {SERVICE} {}",
            options.down_after.as_millis()
        ),
        format!(
            "sentinel failover-timeout {SERVICE} {}",
            options.failover_timeout.as_millis()
        ),
        // All replicas turn to the new primary at once: it takes no writes without one.
        format!("sentinel parallel-syncs {SERVICE} {}", options.replicas.max(1)),
    ];
    if let Some([name, password]) = primary.login() {
        lines.push(format!("sentinel auth-user {SERVICE} {name}"));
        lines.push(format!("sentinel auth-pass {SERVICE} {password}"));
    }
    Options {
        lines,
        ..Options::default()
    }
}

/// Whether a primary is one, and has so many replicas that could take its place.
fn in_sync(primary: &Server, replicas: usize) -> Result<(), Error> {
    let answer = primary.look(&["INFO", "replication"])?;
    let role = answer.field("role").unwrap_or("unknown");
    ensure(role == "master", || format!("{} is a {role}", primary.address()))?;
    let online = answer.as_str().matches("state=online").count();
    ensure(online >= replicas, || {
        format!("{online} of {replicas} replicas are in sync")
    })
}
