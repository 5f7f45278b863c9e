//! Redis in any of its forms, where only Carillon cares which.

use super::{
    cluster::{Cluster, ClusterOptions},
    options::Options,
    sentinel::{Sentinel, SentinelOptions},
    server::Server,
};
use crate::Error;

/// How Redis is to be started.
#[derive(Debug, Clone)]
pub enum Plan {
    /// One server.
    Single(Options),
    /// A primary, replicas and sentinels.
    Sentinel(SentinelOptions),
    /// A cluster.
    Cluster(ClusterOptions),
}

/// A running Redis.
#[derive(Debug)]
pub enum Engine {
    /// One server.
    Single(Box<Server>),
    /// A primary, replicas and sentinels.
    Sentinel(Sentinel),
    /// A cluster.
    Cluster(Cluster),
}

impl Engine {
    /// Starts what was planned.
    ///
    /// # Errors
    /// As [`Server::start`], [`Sentinel::start_with`], [`Cluster::start`].
    pub fn start(plan: &Plan) -> Result<Self, Error> {
        Ok(match plan {
            Plan::Single(options) => Self::Single(Box::new(Server::start(options)?)),
            Plan::Sentinel(options) => Self::Sentinel(Sentinel::start_with(options)?),
            Plan::Cluster(options) => Self::Cluster(Cluster::start(options)?),
        })
    }

    /// The value of `redis.kind` for it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Single(_) => "servers",
            Self::Sentinel(_) => "sentinel",
            Self::Cluster(_) => "cluster",
        }
    }

    /// The value of `redis.urls`: the server, the sentinels, or all nodes of the cluster.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        match self {
            Self::Single(server) => vec![server.url()],
            Self::Sentinel(group) => group.sentinels().iter().map(Server::url).collect(),
            Self::Cluster(cluster) => cluster.urls(),
        }
    }
}
