//! Everything in one process: SQLite, the in-process bus, one hub, one dispatcher.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use common::{
    bus::{Bus, MemoryBus},
    http::{ServeOptions, serve},
    receipts,
    shutdown::{self, Shutdown},
    telemetry::Metrics,
    token::Verifier,
};
use dispatcher::{
    Dispatcher,
    api::{ApiConfig, ApiState, Live, LiveStats},
    channels::Channels,
    store::{Store, StoreConfig},
};
use hub::{Hub, HubParts};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, lock::DatabaseLock, routes, secret};

/// Receipts that may wait for the dispatcher; sockets that send more wait.
const RECEIPTS: usize = 16_384;

/// How often the bus forgets what is past its age.
const SWEEP: Duration = Duration::from_secs(10);

/// Runs until a signal, then ends in order.
///
/// # Errors
/// When something cannot be started; nothing has been accepted then.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let secret = secret::configured_or_kept(config.auth.secret.as_ref(), &config.server.data_dir)?;
    let verifier = Arc::new(Verifier::new(&config.auth, Some(&secret))?);
    drop(secret);
    let public = listen(config.server.listen, "server.listen").await?;
    let internal = listen(config.server.internal_listen, "server.internal_listen").await?;

    let parts = config.dispatcher();
    let path = config.database_path();
    let store_config = StoreConfig {
        read_connections: parts.database.read_connections,
        group_max: parts.database.group_max,
        backfill: parts.inbox.backfill.0,
        ..StoreConfig::new(&path)
    };
    secret::make_folder(&config.server.data_dir)?;
    let _lock = DatabaseLock::take(&path)?;
    let store = Store::open(&store_config)
        .await
        .with_context(|| format!("the database {}", path.display()))?;

    let metrics = Metrics::default();
    let policies = config.policies()?;
    let memory = MemoryBus::with_policies((&config.bus).into(), policies.clone());
    let bus = Bus::Memory(memory.clone());
    let (receipt_sink, receipt_stream) = receipts::in_memory(RECEIPTS);
    let dispatcher_metrics = metrics.register(dispatcher::metrics::Metrics::register);
    let channels = Channels::new(&parts.smtp, &dispatcher_metrics)?;
    let hub = Hub::start(HubParts {
        config: config.hub.clone(),
        node_queue: config.bus.node_queue,
        bus: bus.clone(),
        policies,
        verifier: Arc::clone(&verifier),
        public_topics: config.auth.public_topics.clone(),
        allowed_origins: config.server.allowed_origins.clone(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        receipts: receipt_sink,
        metrics: metrics.clone(),
    });
    let dispatcher = Dispatcher::start(dispatcher::Parts {
        config: parts.clone(),
        store: store.clone(),
        bus,
        receipts: receipt_stream,
        channels,
        metrics: dispatcher_metrics,
        exclusive: true,
    })
    .await;

    let closing = CancellationToken::new();
    let api = ApiState::new(ApiConfig {
        verifier: Arc::clone(&verifier),
        service: dispatcher.service(),
        max_attempts: parts.queue.max_attempts,
        limits: parts.limits.clone(),
        realtime_lease: parts.queue.lease.0,
        live: live(&hub),
        closing: closing.clone(),
    });
    let route_parts = routes::Parts {
        hub: hub.clone(),
        api,
        verifier,
        metrics,
    };
    let options = ServeOptions {
        max_connections: config.server.max_connections,
        header_timeout: config.server.header_timeout.0,
    };
    let shutdown = Shutdown::new();
    let (stop_public, stop_internal) = (CancellationToken::new(), CancellationToken::new());
    let address = public.local_addr()?;
    let router = routes::public(&route_parts, &config.server);
    tokio::spawn(serve(
        public,
        router,
        Some(hub::http::front(&hub, options.header_timeout)),
        options,
        stop_public.clone(),
        shutdown.clone(),
    ));
    let router = routes::internal(&route_parts, &config.server);
    tokio::spawn(serve(
        internal,
        router,
        Some(hub::http::express(&hub, options.header_timeout)),
        options,
        stop_internal.clone(),
        shutdown.clone(),
    ));
    tokio::spawn(sweep(memory, shutdown.token()));

    announce(address, &config);
    let signal = shutdown::signal().await?;
    let deadline = tokio::time::Instant::now() + config.server.shutdown_deadline.0;
    tracing::info!(signal, "stopping");
    hub.begin_leaving();
    // Who presses Ctrl-C looks at the screen; a balancer that sends SIGTERM has to see /ready turn red first.
    if signal == "SIGTERM" {
        tokio::time::sleep(config.hub.lame_duck.0).await;
    }
    let left = |reserve: Duration| {
        deadline
            .saturating_duration_since(tokio::time::Instant::now())
            .saturating_sub(reserve)
    };
    let reserve = config.dispatcher().queue.stop_within.0 + Duration::from_secs(1);
    if !hub.drain(left(reserve), signal == "SIGTERM").await {
        tracing::warn!("the drain's time ran out; the sessions that were left are cut off");
    }
    closing.cancel();
    stop_public.cancel();
    stop_internal.cancel();
    if !dispatcher.stop().await {
        tracing::warn!("some deliveries were on the way; they are taken up again at the next start");
    }
    if !shutdown
        .finish(left(Duration::from_millis(500)).min(Duration::from_secs(5)))
        .await
    {
        tracing::warn!("some requests did not end in time");
    }
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

async fn listen(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address);
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => anyhow::bail!("{key}: cannot listen on {address}: {error}"),
    };
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

fn live(hub: &Hub) -> LiveStats {
    let hub = hub.clone();
    LiveStats::new(move |tenant| {
        let count = hub.tenant_count(tenant);
        Live {
            connections: count.connections as u64,
            users_online: count.users as u64,
        }
    })
}

async fn sweep(bus: MemoryBus, stop: CancellationToken) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => bus.sweep(),
        }
    }
}

/// The one line for the person who started it.
#[expect(clippy::print_stdout, reason = "said to a person, not logged")]
fn announce(address: SocketAddr, config: &Config) {
    let folder = &config.server.data_dir;
    let folder = if folder == std::path::Path::new("./carillon-data") {
        String::new()
    } else {
        format!(" --data-dir {}", folder.display())
    };
    println!("Carillon is at http://{address}/  ·  a token: carillon token --user u1{folder}");
}
