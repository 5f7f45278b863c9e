//! Hubs and a dispatcher as processes of their own, over a real Redis.

use std::net::SocketAddr;

use rig::{
    carillon::{Node, Options, Service},
    redis::Server,
};
use serde_json::Value;

use super::{client::Client, server::EXECUTABLE};

/// The tenant of every token here: a cluster has no default.
pub(crate) const TENANT: &str = "acme";

/// What all processes of a cluster have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    environment: Vec<(String, String)>,
    config: String,
}

impl Common {
    /// On this server.
    pub(crate) fn on(redis: &Server) -> Self {
        Self::over("servers", &[redis.url()])
    }

    /// On Redis of this kind, with times that are short enough for a test.
    pub(crate) fn over(kind: &str, urls: &[String]) -> Self {
        let environment = [
            ("CARILLON_REDIS__KIND", kind),
            ("CARILLON_REDIS__URLS", &urls.join(",")),
            ("CARILLON_REDIS__TIMEOUT", "500ms"),
            ("CARILLON_REDIS__CONNECT_TIMEOUT", "500ms"),
            ("CARILLON_REDIS__PROBE_AFTER", "500ms"),
            (
                "CARILLON_AUTH__SECRET",
                "a secret of a cluster of tests, long enough",
            ),
            ("CARILLON_HUB__LAME_DUCK", "0s"),
            ("CARILLON_HUB__DRAIN_WINDOW", "500ms"),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            environment: environment.map(owned).to_vec(),
            config: String::new(),
        }
    }

    /// With this in the file, which can say what the environment cannot.
    pub(crate) fn with(mut self, config: &str) -> Self {
        self.config.push_str(config);
        self
    }

    pub(crate) fn set(mut self, variable: &str, value: &str) -> Self {
        self.environment.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Starts a process without waiting for it.
    pub(crate) fn spawn(&self, service: Service) -> Node {
        Node::spawn(&self.options(service)).unwrap()
    }

    /// Starts a process and waits until it is ready.
    pub(crate) fn start(&self, service: Service) -> Node {
        Node::start(&self.options(service)).unwrap()
    }

    fn options(&self, service: Service) -> Options {
        Options {
            service,
            program: Some(EXECUTABLE.into()),
            environment: self.environment.clone(),
            config: self.config.clone(),
            ..Options::default()
        }
    }
}

/// A token of the tenant.
pub(crate) fn token(node: &Node, user: &str, scope: &str) -> String {
    let arguments = ["token", "--user", user, "--tenant", TENANT, "--scope", scope];
    node.command(&arguments).unwrap()
}

/// What `/ready` says on the internal listener.
pub(crate) fn readiness(node: &Node) -> (u16, Value) {
    let answer = node.ready().unwrap();
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

/// One POST over a connection of its own.
pub(crate) async fn post(
    address: SocketAddr,
    path: &str,
    token: &str,
    body: &Value,
) -> super::client::Answer {
    let mut client = Client::connect(address).await.unwrap();
    client.post(path, Some(token), body).await.unwrap()
}
