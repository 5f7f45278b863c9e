//! Everything in one process: SQLite, the in-process bus, one hub, one dispatcher.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{
    bus::{Bus, MemoryBus},
    ids::NodeId,
    receipts,
    redis::RedisKind,
    telemetry::Metrics,
    token::Verifier,
};
use dispatcher::{api::LiveStats, keyring::Keyring};
use hub::Hub;
use tokio_util::sync::CancellationToken;

use super::{
    callers,
    dispatcher::{Database, Running, live_of},
    ending::Ending,
    hub::{self as node, Wiring},
    listeners::Listeners,
};
use crate::{
    config::{Config, Runtime},
    grpc, routes, secret,
};

/// Receipts that may wait for the dispatcher; sockets that send more wait.
const RECEIPTS: usize = 16_384;

/// How often the bus forgets what is past its age.
const SWEEP: Duration = Duration::from_secs(10);

/// Runs until a signal, then ends in order.
///
/// # Errors
/// When something cannot be started; nothing has been accepted then.
pub(super) async fn run(config: Config, runtime: &Runtime) -> anyhow::Result<()> {
    let ending = Ending::begun(&config.server)?;
    let secret = secret::configured_or_kept(config.auth.secret.as_ref(), &config.server.data_dir)?;
    let verifier = Verifier::new(&config.auth, Some(&secret))?;
    drop(secret);
    if config.redis.kind != RedisKind::None {
        tracing::warn!(
            "Redis is configured; standalone does not use it (`carillon hub`, `carillon dispatcher` do)"
        );
    }
    let listeners = Listeners::bind(&config, true)?;
    let database = Database::open(&config).await?;

    let metrics = Metrics::default();
    let policies = config.policies()?;
    let memory = MemoryBus::with_policies((&config.bus).into(), policies.clone());
    let bus = Bus::Memory(memory.clone());
    let (receipt_sink, receipt_stream) = receipts::in_memory(RECEIPTS);
    let keyring = Keyring::new(database.store().clone(), None);
    let source = Arc::new(keyring.clone());
    let credentials = callers::credentials(&config, verifier, source, keyring.uses(), &metrics);
    let wiring = Wiring {
        node: NodeId::generate(),
        bus: bus.clone(),
        policies,
        credentials: Arc::clone(&credentials),
        receipts: receipt_sink,
    };
    let hub = node::start(&config, wiring, &metrics);
    tokio::spawn(node::take_on(hub.clone(), runtime.clone()));
    let running = Running::start(
        &config,
        runtime,
        database,
        bus.clone(),
        receipt_stream,
        (keyring, Arc::clone(&credentials)),
        live(&hub),
        &metrics,
    )
    .await?;

    let parts = routes::Parts {
        hub: Some(hub.clone()),
        api: Some(running.api()),
        bus,
        bus_seen: routes::BusSeen::default(),
        credentials,
        metrics,
    };
    let (public, internal) = node::sites(&config, &parts, &hub);
    let grpc = grpc::router(
        &parts,
        &running.api(),
        hub.publisher().clone(),
        &config.grpc,
        &config.server,
    )?;
    let serving = listeners.serve(public, internal, Some(grpc))?;
    tokio::spawn(sweep(memory, serving.token()));

    announce(serving.address, &config);
    let ending = ending.await;
    let reserve = config.dispatcher().queue.stop_within.0 + Duration::from_secs(1);
    node::drain(&hub, &config, &ending, reserve).await;
    running.close();
    serving.stop();
    let database = running.stop().await;
    serving.finish(&ending).await;
    database.close().await;
    tracing::info!("stopped");
    Ok(())
}

fn live(hub: &Hub) -> LiveStats {
    let hub = hub.clone();
    LiveStats::new(move |tenant| std::future::ready(live_of(hub.tenant_count(&tenant))))
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
