//! A whole cluster on loopback: Redis Cluster with replicas, hubs, nginx.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use rig::{
    carillon::{Node, Options as NodeOptions, Service},
    nginx::{Nginx, Options as NginxOptions},
    redis::{Cluster, ClusterOptions},
};

use crate::args::{Balancer, Cluster as Wanted, Common};

/// Longest end of a hub after SIGTERM, beyond the deadline that it keeps itself.
const END: Duration = Duration::from_secs(40);

/// Everything that runs. All of it ends with this value.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) redis: Cluster,
    pub(crate) hubs: Vec<Node>,
    nginx: Option<Mutex<Nginx>>,
    pub(crate) secret: String,
}

impl Stage {
    /// Starts all and waits until each hub is ready.
    pub(crate) fn start(wanted: &Wanted, common: &Common) -> anyhow::Result<Self> {
        let redis = Cluster::start(&ClusterOptions {
            primaries: wanted.primaries.into(),
            replicas: wanted.replicas.into(),
            ..ClusterOptions::default()
        })
        .context("starting Redis Cluster")?;
        let secret: String = (0..48).map(|_| fastrand::alphanumeric()).collect();
        let options = NodeOptions {
            service: Service::Hub,
            program: Some(program(common)?),
            config: configuration(&redis),
            environment: [("CARILLON_AUTH__SECRET".to_owned(), secret.clone())]
                .into_iter()
                .chain(crate::server::pairs(&common.environment)?)
                .collect(),
            ..NodeOptions::default()
        };
        let hubs = (0..wanted.hubs)
            .map(|_| Node::start(&options))
            .collect::<Result<Vec<_>, _>>()
            .context("starting the hubs")?;
        let nginx = match wanted.balancer {
            Balancer::None => None,
            Balancer::Nginx => {
                let addresses: Vec<SocketAddr> = hubs.iter().map(Node::address).collect();
                let options = NginxOptions {
                    dispatchers: addresses.clone(),
                    hubs: addresses,
                    variables: vec![
                        ("CARILLON_NGINX_UNLIMITED".to_owned(), "127.0.0.0/8".to_owned()),
                        // Old workers end while the run still sees it.
                        ("CARILLON_NGINX_SHUTDOWN".to_owned(), "20s".to_owned()),
                    ],
                    ..NginxOptions::default()
                };
                let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nginx");
                let source = wanted.nginx.as_deref().unwrap_or(&here);
                let source = source
                    .canonicalize()
                    .with_context(|| format!("nginx's configuration in {}", source.display()))?;
                Some(Mutex::new(
                    Nginx::start(&source, &options).context("starting nginx")?,
                ))
            }
        };
        Ok(Self {
            redis,
            hubs,
            nginx,
            secret,
        })
    }

    /// Where sockets connect.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match self.nginx() {
            Some(nginx) => vec![nginx.address()],
            None => self.hubs.iter().map(Node::address).collect(),
        }
    }

    /// The internal listeners of the hubs.
    pub(crate) fn internals(&self) -> Vec<SocketAddr> {
        self.hubs.iter().map(Node::internal).collect()
    }

    pub(crate) fn nginx(&self) -> Option<MutexGuard<'_, Nginx>> {
        let nginx = self.nginx.as_ref()?;
        Some(nginx.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The hubs' processes as of now.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.hubs
            .iter()
            .filter(|hub| hub.is_running())
            .map(Node::pid)
            .collect()
    }

    /// What the hubs say of themselves.
    pub(crate) fn version(&self) -> String {
        let hub = self.hubs.first();
        hub.and_then(|hub| hub.command(&["--version"]).ok())
            .unwrap_or_else(|| "unknown".to_owned())
    }

    /// SIGTERM to all hubs; those that do not end with 0.
    pub(crate) fn end(&self) -> Vec<String> {
        let told: Vec<_> = self.hubs.iter().map(Node::terminate).collect();
        let ended = self.hubs.iter().zip(told).enumerate();
        ended
            .filter_map(|(number, (hub, told))| match told.and_then(|()| hub.wait(END)) {
                Ok(true) => None,
                Ok(false) => Some(format!("hub {number} ended with an error")),
                Err(error) => Some(format!("hub {number}: {error}")),
            })
            .collect()
    }
}

fn program(common: &Common) -> anyhow::Result<PathBuf> {
    match &common.server {
        Some(path) => Ok(std::path::absolute(path)?),
        None => Ok(rig::carillon::executable()?),
    }
}

/// Beside the defaults only what a cluster has to be told, and that sockets come from few addresses.
fn configuration(redis: &Cluster) -> String {
    format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[redis]\nkind = \"cluster\"\nurls = {:?}\n[log]\nformat = \"json\"\n\
         level = \"info,access=warn,hub::worker::replay=debug\"\n",
        redis.urls()
    )
}
