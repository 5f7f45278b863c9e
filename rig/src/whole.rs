//! The whole on one machine: Redis, PostgreSQL, hubs, dispatchers, and nginx before them.

use std::{fmt::Write as _, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    Error,
    carillon::{self, Node, Service},
    nginx::{self, Nginx},
    postgres,
    redis::{Engine, Plan},
    secret,
};

/// Longest start of all nodes together, of debug builds on a machine that builds at the same time.
const START: Duration = Duration::from_secs(120);
/// Longest drain of a node: the default of `server.shutdown_deadline`, and some.
const DRAIN: Duration = Duration::from_secs(40);

/// What the database is called.
pub const DATABASE: &str = "carillon";

/// What the whole is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Redis.
    pub redis: Plan,
    /// How many hubs.
    pub hubs: usize,
    /// Public port of the first hub, with the internal one behind it, then the next hub's; any free ones where it does not
    /// matter.
    pub hub_port: Option<u16>,
    /// PostgreSQL; without it, a dispatcher has SQLite.
    pub postgres: Option<postgres::Options>,
    /// How many dispatchers; at most one without PostgreSQL.
    pub dispatchers: usize,
    /// Public port of the first dispatcher, with the internal one behind it, then the next one's.
    pub dispatcher_port: Option<u16>,
    /// Where nginx's configuration lies, and what it is started with beside the addresses; without it there is no nginx.
    pub edge: Option<(PathBuf, nginx::Options)>,
    /// The executable, where [`carillon::executable`] would not find it.
    pub program: Option<PathBuf>,
    /// More environment of all nodes, which overrides their configuration.
    pub environment: Vec<(String, String)>,
}

/// A running whole. Everything is killed when it is dropped; [`Self::stop`] asks first.
#[derive(Debug)]
pub struct Whole {
    // In the order in which they end.
    edge: Option<Nginx>,
    hubs: Vec<Node>,
    dispatchers: Vec<Node>,
    postgres: Option<postgres::Server>,
    redis: Engine,
    secret: String,
}

impl Whole {
    /// Starts all and waits until all are ready.
    ///
    /// # Errors
    /// Of the first that does not come up; [`Error::Unfit`] for several dispatchers without PostgreSQL.
    pub fn start(options: &Options) -> Result<Self, Error> {
        if options.postgres.is_none() && options.dispatchers > 1 {
            let text = "SQLite is one dispatcher's: several need PostgreSQL";
            return Err(Error::Unfit(text.to_owned()));
        }
        let postgres = options
            .postgres
            .as_ref()
            .map(postgres::Server::start)
            .transpose()?;
        let database = postgres
            .as_ref()
            .map(|server| server.create_database(DATABASE))
            .transpose()?;
        let redis = Engine::start(&options.redis)?;
        let secret = secret::random()?;
        let config = config(&redis, database.as_deref(), &secret);
        let node = |service, port: Option<u16>| {
            Node::spawn(&carillon::Options {
                service,
                program: options.program.clone(),
                config: config.clone(),
                environment: options.environment.clone(),
                ports: port.map(|port| [port, port.saturating_add(1)]),
                arguments: Vec::new(),
            })
        };
        // All at once, then wait.
        let several = |service, count, first: Option<u16>| {
            let ports = (0..).map(move |step: u16| first.map(|port| port.saturating_add(2 * step)));
            ports
                .take(count)
                .map(|port| node(service, port))
                .collect::<Result<Vec<_>, _>>()
        };
        let dispatchers = several(Service::Dispatcher, options.dispatchers, options.dispatcher_port)?;
        let hubs = several(Service::Hub, options.hubs, options.hub_port)?;
        for node in hubs.iter().chain(&dispatchers) {
            node.wait_until_ready(START)?;
        }
        let mut whole = Self {
            edge: None,
            hubs,
            dispatchers,
            postgres,
            redis,
            secret,
        };
        if let Some((source, edge)) = &options.edge {
            whole.edge = Some(Nginx::start(
                source,
                &nginx::Options {
                    hubs: whole.hubs.iter().map(Node::address).collect(),
                    dispatchers: whole.dispatchers.iter().map(Node::address).collect(),
                    ..edge.clone()
                },
            )?);
        }
        Ok(whole)
    }

    /// Redis.
    #[must_use]
    pub fn redis(&self) -> &Engine {
        &self.redis
    }

    /// The hubs.
    #[must_use]
    pub fn hubs(&self) -> &[Node] {
        &self.hubs
    }

    /// The dispatchers.
    #[must_use]
    pub fn dispatchers(&self) -> &[Node] {
        &self.dispatchers
    }

    /// PostgreSQL.
    #[must_use]
    pub fn postgres(&self) -> Option<&postgres::Server> {
        self.postgres.as_ref()
    }

    /// nginx.
    #[must_use]
    pub fn edge(&self) -> Option<&Nginx> {
        self.edge.as_ref()
    }

    /// The HS256 secret of all nodes. It was made for this start and is worth nothing elsewhere.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Everything of Carillon and nginx that has ended, with the end of its log.
    #[must_use]
    pub fn ended(&self) -> Vec<(SocketAddr, Error)> {
        let nodes = self.hubs.iter().chain(&self.dispatchers);
        let nodes = nodes.filter_map(|node| Some((node.address(), node.check().err()?)));
        let edge = self
            .edge
            .iter()
            .filter_map(|edge| Some((edge.address(), edge.process().check().err()?)));
        nodes.chain(edge).collect()
    }

    /// Ends all in order, each asked and waited for: nginx, hubs, dispatchers; then PostgreSQL and Redis, whose
    /// data goes with them. A
    /// node leaves out its lame-duck time, as nobody sends it anything any more.
    ///
    /// # Errors
    /// Of the first that does not end in time; it and what comes behind it is killed.
    pub fn stop(self) -> Result<(), Error> {
        if let Some(edge) = &self.edge {
            edge.process().terminate()?;
            edge.process().wait(DRAIN)?;
        }
        for group in [&self.hubs[..], &self.dispatchers[..]] {
            for node in group {
                node.interrupt()?;
            }
            for node in group {
                node.wait(DRAIN)?;
            }
        }
        Ok(())
    }
}

/// Of every node. Strings are quoted as Rust quotes them, which TOML reads for what stands in addresses.
fn config(redis: &Engine, database: Option<&str>, secret: &str) -> String {
    let mut config = String::from("# Of all nodes; listeners and data folder are flags.\n");
    let lines = [
        "[server]".to_owned(),
        "trusted_proxies = [\"127.0.0.1\"]".to_owned(),
        "[auth]".to_owned(),
        format!("secret = {secret:?}"),
        "public_topics = [\"*\"]".to_owned(),
        "[redis]".to_owned(),
        format!("kind = {:?}", redis.kind()),
        format!("urls = {:?}", redis.urls()),
    ];
    let database = database.map(|url| format!("[database]\nurl = {url:?}"));
    for line in lines.into_iter().chain(database) {
        // Writing to a string cannot fail.
        writeln!(config, "{line}").ok();
    }
    config
}
