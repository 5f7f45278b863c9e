//! One of several hubs that are one over Redis: sockets, publish API, control.

use std::{sync::Arc, time::Duration};

use common::{
    bus::Bus, credential::Credentials, ids::NodeId, policy::Policies, receipts::ReceiptSink,
    telemetry::Metrics, token::Verifier,
};
use hub::{Hub, HubParts};

use super::{
    bus, callers,
    ending::Ending,
    listeners::{Listeners, Site},
};
use crate::{
    config::{Config, Runtime},
    files::raise_limit,
    routes,
};

/// Kept for what comes after the drain.
const RESERVE: Duration = Duration::from_secs(1);

/// Runs until a signal, then drains.
///
/// # Errors
/// When something cannot be started. Redis that is away is no error: the process waits for it, not ready.
pub(super) async fn run(config: Config, runtime: &Runtime) -> anyhow::Result<()> {
    let ending = Ending::begun(&config.server)?;
    let verifier = Verifier::new(&config.auth, config.auth.secret.as_ref())?;
    let listeners = Listeners::bind(&config, false)?;
    let metrics = Metrics::default();
    let policies = config.policies()?;
    let node = NodeId::generate();
    let bus = bus::shared(&config, &policies, &node, &metrics)?;
    let receipts = bus::receipt_sink(&config, &metrics)?;
    let (board, uses) = (bus::board(&config)?, callers::tell_uses(receipts.clone()));
    let credentials = callers::credentials(&config, verifier, Arc::new(board), uses, &metrics);
    let wiring = Wiring {
        node,
        bus: bus.clone(),
        policies,
        credentials: Arc::clone(&credentials),
        receipts: receipts.clone(),
    };
    let hub = start(&config, wiring, &metrics);
    tokio::spawn(take_on(hub.clone(), runtime.clone()));

    let parts = routes::Parts {
        hub: Some(hub.clone()),
        api: None,
        bus,
        bus_seen: routes::BusSeen::default(),
        credentials,
        metrics,
    };
    let (public, internal) = sites(&config, &parts, &hub);
    let serving = listeners.serve(public, internal, None)?;
    tracing::info!(node = %hub.node(), "this is a hub");

    let ending = ending.await;
    drain(&hub, &config, &ending, RESERVE).await;
    serving.finish(&ending).await;
    // Those of the last requests, which outlive the sessions.
    if !receipts.flush(ending.left(Duration::ZERO)).await {
        tracing::warn!("the last receipts may be lost: Redis took them not in time");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Bounds of a file that is read again hold at once.
pub(super) async fn take_on(hub: Hub, runtime: Runtime) {
    let mut reloaded = runtime.reloaded();
    // A file that was taken on while the hub was being made.
    if *reloaded.borrow() > 0 {
        reloaded.mark_changed();
    }
    while reloaded.changed().await.is_ok() {
        match runtime.config() {
            Ok(config) => {
                raise_limit(config.hub.max_connections);
                hub.take_on(&config.hub);
            }
            // It was good when it was read.
            Err(error) => tracing::error!(%error, "the bounds of [hub] were not taken on"),
        }
    }
}

/// What a hub stands on beside its settings.
#[derive(Debug)]
pub(super) struct Wiring {
    pub(super) node: NodeId,
    pub(super) bus: Bus,
    pub(super) policies: Policies,
    pub(super) credentials: Arc<Credentials>,
    pub(super) receipts: ReceiptSink,
}

/// Starts a hub on the bus at hand.
pub(super) fn start(config: &Config, wiring: Wiring, metrics: &Metrics) -> Hub {
    Hub::start(HubParts {
        node: wiring.node,
        config: config.hub.clone(),
        node_queue: config.bus.node_queue,
        bus: wiring.bus,
        policies: wiring.policies,
        credentials: wiring.credentials,
        public_topics: config.auth.public_topics.clone(),
        allowed_origins: config.server.allowed_origins.clone(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        receipts: wiring.receipts,
        metrics: metrics.clone(),
    })
}

/// What a process with a hub serves: handshakes and single publishes are read before HTTP.
pub(super) fn sites(config: &Config, parts: &routes::Parts, hub: &Hub) -> (Site, Site) {
    let header_timeout = config.server.header_timeout.0;
    let public = Site {
        router: routes::public(parts, &config.server),
        front: Some(hub::http::front(hub, header_timeout)),
    };
    let internal = Site {
        router: routes::internal(parts, &config.server),
        front: Some(hub::http::express(hub, header_timeout)),
    };
    (public, internal)
}

/// `/ready` turns red, a balancer has time to see it, and sessions are told to come back elsewhere.
pub(super) async fn drain(hub: &Hub, config: &Config, ending: &Ending, reserve: Duration) {
    hub.begin_leaving();
    if ending.has_balancer() {
        tokio::time::sleep(config.hub.lame_duck.0).await;
    }
    if !hub.drain(ending.left(reserve), ending.has_balancer()).await {
        tracing::warn!("the drain's time ran out; the sessions that were left are cut off");
    }
}
