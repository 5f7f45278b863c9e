//! A standalone server on a database of its own.

use std::net::SocketAddr;

use anyhow::Context;
use common::token::{NewToken, mint};
use rig::{
    carillon::{Node, Options, Service},
    postgres,
};
use secrecy::SecretString;

use crate::args::{Dispatch, Kind};

/// Signs all tokens of these runs.
const SECRET: &str = "a secret of a load test, which guards nothing at all";
/// Who everything belongs to.
pub(super) const TENANT: &str = "bench";
/// Limits that a load test must not run into.
const LIMITS: &str = "\
[limits]
user_requests_per_minute = 10000000
service_requests_per_second = 10000000
queued_max = 100000000
queued_max_per_tenant = 100000000

[log]
level = \"warn\"
";

/// A running server. Dropped, it and its database are gone.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) node: Node,
    /// Lives as long as who uses it.
    _postgres: Option<postgres::Server>,
}

impl Site {
    /// Starts one with more sections of configuration.
    pub(super) fn start(args: &Dispatch, kind: Kind, more: &str) -> anyhow::Result<Self> {
        let postgres = match kind {
            Kind::Sqlite => None,
            Kind::Postgres => Some(server()?),
        };
        let mut config = format!("[auth]\nsecret = \"{SECRET}\"\n{LIMITS}\n{more}\n");
        if let Some(server) = &postgres {
            let url = server.create_database("carillon")?;
            config.push_str(&format!("[database]\nurl = \"{url}\"\n"));
        }
        let node = Node::start(&Options {
            service: Service::Standalone,
            program: args.server.clone(),
            config,
            ..Options::default()
        })
        .context("starting carillon")?;
        Ok(Self {
            node,
            _postgres: postgres,
        })
    }

    /// Where it is asked.
    pub(super) fn address(&self) -> SocketAddr {
        self.node.address()
    }
}

/// A PostgreSQL with the memory that its machine would give it.
pub(super) fn server() -> anyhow::Result<postgres::Server> {
    let options = postgres::Options::default()
        .setting("shared_buffers", "512MB")
        .setting("max_wal_size", "4GB");
    postgres::Server::start(&options).context("starting postgres")
}

/// The secret of all tokens.
pub(super) fn secret() -> &'static str {
    SECRET
}

/// A token of the service that sends.
pub(super) fn sender() -> anyhow::Result<String> {
    token("service", "service notifications:write")
}

/// A token of somebody who reads.
pub(super) fn reader(user: &str) -> anyhow::Result<String> {
    token(user, "")
}

fn token(user: &str, scopes: &str) -> anyhow::Result<String> {
    let new = NewToken {
        user: user.to_owned(),
        tenant: Some(TENANT.to_owned()),
        scopes: vec![scopes.to_owned()],
        ttl_seconds: 86_400,
        ..NewToken::default()
    };
    Ok(mint(&new, &SecretString::from(SECRET))?)
}
