//! The client for everything on Redis that is not the bus: the stream of receipts, tables of nodes.

use std::{sync::Arc, time::Duration};

use fred::{
    clients::Client,
    error::ErrorKind,
    interfaces::ClientLike,
    types::{
        Builder,
        config::{
            Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, Server, ServerConfig, TcpConfig,
            UnresponsiveConfig,
        },
    },
};
use secrecy::ExposeSecret;
use tokio::task::AbortHandle;

use super::{Endpoint, RedisConfig, RedisKind};

/// Commands that may wait in the client while Redis is away; beyond, they fail at once.
const WAITING: usize = 4096;

/// Before a client whose task has ended begins anew.
const ANEW: Duration = Duration::from_millis(50);

/// Redis cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is nothing to connect to.
    #[error("redis.kind is none")]
    NotConfigured,
    /// The certificates cannot be read.
    #[error("redis.ca_file: {0}")]
    Authorities(String),
    /// What the client says of its configuration.
    #[error("redis: {0}")]
    Client(#[from] fred::error::Error),
}

/// What TLS connections to Redis believe: the authorities of `ca_file`, else the system's.
///
/// # Errors
/// [`ClientError::Authorities`].
pub fn tls(config: &RedisConfig) -> Result<Arc<rustls::ClientConfig>, ClientError> {
    let refuse = |reason: String| ClientError::Authorities(reason);
    let mut roots = rustls::RootCertStore::empty();
    match &config.ca_file {
        Some(path) => {
            use rustls::pki_types::{CertificateDer, pem::PemObject};
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|error| refuse(error.to_string()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(refuse("no authority to believe".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?;
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// A client that is not connected yet: `init` connects it. A command that is not answered in time fails, none is sent
/// twice, and no more than a bounded number waits while Redis is away.
///
/// Of several independent servers it has the first: what is not the bus is little and needs no more.
///
/// # Errors
/// [`ClientError`]: the configuration cannot be used.
pub fn client(config: &RedisConfig) -> Result<Client, ClientError> {
    let first = config.urls.first().ok_or(ClientError::NotConfigured)?;
    let server = |endpoint: &Endpoint| Server::new(endpoint.host.as_str(), endpoint.port);
    let servers: Vec<Server> = config.urls.iter().map(server).collect();
    let secret = |secret: &secrecy::SecretString| secret.expose_secret().to_owned();
    let places = match config.kind {
        RedisKind::None => return Err(ClientError::NotConfigured),
        RedisKind::Servers => ServerConfig::Centralized {
            server: server(first),
        },
        RedisKind::Cluster => ServerConfig::Clustered {
            hosts: servers,
            policy: fred::types::config::ClusterDiscoveryPolicy::default(),
        },
        RedisKind::Sentinel => ServerConfig::Sentinel {
            hosts: servers,
            service_name: config.sentinel_service.clone(),
            username: first
                .username
                .clone()
                .or_else(|| config.sentinel_username.clone()),
            password: first
                .password
                .as_ref()
                .or(config.sentinel_password.as_ref())
                .map(secret),
        },
    };
    // A Sentinel's URL says how Sentinels are talked to.
    let own = (config.kind != RedisKind::Sentinel).then_some(first);
    let mut fred = Config {
        server: places,
        username: own
            .and_then(|own| own.username.clone())
            .or_else(|| config.username.clone()),
        password: own
            .and_then(|own| own.password.as_ref())
            .or(config.password.as_ref())
            .map(secret),
        fail_fast: false,
        ..Config::default()
    };
    if first.tls {
        let connector = tokio_rustls::TlsConnector::from(tls(config)?);
        fred.tls = Some(fred::types::config::TlsConnector::Rustls(connector).into());
    }
    let (timeout, connect_timeout) = (config.timeout.0, config.connect_timeout.0);
    let client = Builder::from_config(fred)
        .with_performance_config(|performance: &mut PerformanceConfig| {
            performance.default_command_timeout = timeout;
        })
        .with_connection_config(move |connection: &mut ConnectionConfig| {
            connection.connection_timeout = connect_timeout;
            connection.internal_command_timeout = timeout;
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = WAITING;
            connection.reconnect_on_auth_error = true;
            connection.unresponsive = UnresponsiveConfig {
                max_timeout: Some(timeout * 2),
                interval: timeout / 2,
            };
            connection.tcp = TcpConfig {
                nodelay: Some(true),
                ..TcpConfig::default()
            };
        })
        .set_policy(ReconnectPolicy::new_exponential(0, 100, 2_000, 2))
        .build()?;
    Ok(client)
}

/// Connects a client, and keeps it connected until it has quit or this task is aborted. fred connects anew by itself after
/// whatever befalls a connection, but its task ends for good at a redirection that it may not follow, as of a slot of a
/// cluster that is on its way to another node.
pub fn keep_connected(client: &Client) -> AbortHandle {
    let client = client.clone();
    tokio::spawn(async move {
        loop {
            match client.connect().await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::debug!(%error, "the client of redis begins anew"),
                Err(error) => tracing::error!(%error, "the client of redis has panicked"),
            }
            tokio::time::sleep(ANEW).await;
        }
    })
    .abort_handle()
}

impl ClientError {
    /// Whether what was asked may have been done although it failed.
    #[must_use]
    pub fn is_unclear(error: &fred::error::Error) -> bool {
        matches!(
            error.kind(),
            ErrorKind::Timeout | ErrorKind::IO | ErrorKind::Canceled
        )
    }
}
