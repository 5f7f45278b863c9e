//! The dispatcher beside the hubs of a cluster: notifications, inbox, deliveries.

use std::{pin::pin, sync::Arc};

use anyhow::Context;
use common::{
    bus::Bus, credential::Credentials, ids::NodeId, receipts::ReceiptStream, telemetry::Metrics,
    token::Verifier,
};
use dispatcher::{
    Dispatcher,
    api::{ApiConfig, ApiState, Live, LiveStats},
    channels::Channels,
    keyring::Keyring,
    settings::Settings,
    spool::Spool,
    store::{Place, Store, StoreConfig},
};
use hub::{Census, TenantCount, http::Publisher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    bus, callers,
    ending::Ending,
    listeners::{Listeners, Site},
    waiting,
};
use crate::{
    config::{Config, Runtime, set_level},
    grpc,
    lock::DatabaseLock,
    routes, secret,
};

/// Runs until a signal, then finishes what it claimed.
///
/// # Errors
/// When something cannot be started. Redis or PostgreSQL that is away is no error: the process waits for it.
pub(super) async fn run(config: Config, runtime: &Runtime) -> anyhow::Result<()> {
    let mut ending = pin!(Ending::begun(&config.server)?);
    let verifier = Verifier::new(&config.auth, config.auth.secret.as_ref())?;
    let listeners = Listeners::bind(&config, true)?;
    let Some(database) = waiting::database(&config, &listeners, ending.as_mut()).await? else {
        tracing::info!("stopped");
        return Ok(());
    };
    let metrics = Metrics::default();
    let policies = config.policies()?;
    let node = NodeId::generate();
    let bus = bus::shared(&config, &policies, &node, &metrics)?;
    let receipts = bus::receipt_stream(&config, &node, &metrics)?;
    let keyring = Keyring::new(database.store().clone(), Some(bus::board(&config)?));
    let source = Arc::new(keyring.clone());
    let credentials = callers::credentials(&config, verifier, source, keyring.uses(), &metrics);
    let running = Running::start(
        &config,
        runtime,
        database,
        bus.clone(),
        receipts,
        (keyring, Arc::clone(&credentials)),
        live(Census::start(bus.clone(), node)),
        &metrics,
    )
    .await?;

    let parts = routes::Parts {
        hub: None,
        api: Some(running.api()),
        bus,
        bus_seen: routes::BusSeen::default(),
        credentials,
        metrics,
    };
    tokio::spawn(parts.bus_seen.clone().watch(parts.bus.clone()));
    let public = Site {
        router: routes::public(&parts, &config.server),
        front: None,
    };
    let internal = Site {
        router: routes::internal(&parts, &config.server),
        front: None,
    };
    let publisher = Publisher::without_hub(parts.bus.clone(), config.hub.max_publish.0, &parts.metrics);
    let grpc = grpc::router(&parts, &running.api(), publisher, &config.grpc, &config.server)?;
    let serving = listeners.serve(public, internal, Some(grpc))?;
    tracing::info!("this is the dispatcher");

    let ending = ending.await;
    running.close();
    serving.stop();
    let database = running.stop().await;
    serving.finish(&ending).await;
    database.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// What hubs count, for statistics.
fn live(census: Arc<Census>) -> LiveStats {
    LiveStats::new(move |tenant| {
        let census = Arc::clone(&census);
        async move { live_of(census.count(&tenant).await) }
    })
}

/// The same figures in the dispatcher's words.
pub(super) fn live_of(count: TenantCount) -> Live {
    Live {
        connections: count.connections as u64,
        users_online: count.users as u64,
    }
}

/// The database.
#[derive(Debug)]
pub(crate) struct Database {
    store: Store,
    /// A file is one process's alone; a server is shared.
    lock: Option<DatabaseLock>,
}

impl Database {
    /// Opens it, and migrates it where it is older.
    ///
    /// # Errors
    /// When another process has it, or it cannot be read.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let (parts, place) = (config.dispatcher(), config.database_place());
        let store_config = StoreConfig {
            read_connections: parts.database.read_connections,
            group_max: parts.database.group_max,
            backfill: parts.inbox.backfill.0,
            retention: parts.retention.after.0,
            audit_retention: parts.audit.retention.0,
            event_retention: parts.retention.events.0,
            ..StoreConfig::at(place.clone())
        };
        secret::make_folder(&config.server.data_dir)?;
        let lock = DatabaseLock::of(&place)?;
        let opened = Store::open(&store_config).await;
        Ok(Self {
            store: opened.with_context(|| format!("the database {place}"))?,
            lock,
        })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Waits for what is being written. The next process may have it then.
    pub(crate) async fn close(self) {
        self.store.close().await;
    }
}

/// A dispatcher and what its API stands on.
#[derive(Debug)]
pub(super) struct Running {
    dispatcher: Dispatcher,
    database: Database,
    api: ApiState,
    closing: CancellationToken,
}

impl Running {
    /// Takes up what a life before left, and begins to work.
    ///
    /// # Errors
    /// When a channel cannot be used as configured.
    #[expect(
        clippy::too_many_arguments,
        reason = "what standalone and a dispatcher make in ways of their own, each by its name"
    )]
    pub(super) async fn start(
        config: &Config,
        runtime: &Runtime,
        database: Database,
        bus: Bus,
        receipts: ReceiptStream,
        (keyring, credentials): (Keyring, Arc<Credentials>),
        live: LiveStats,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let parts = config.dispatcher();
        let metrics = metrics.register(dispatcher::metrics::Metrics::register);
        let channels = Channels::new(&parts, &metrics)?;
        let spool = match (&bus, config.database_place()) {
            (Bus::Redis(_), Place::Server(_)) => {
                let node = NodeId::generate();
                let away_after = parts.database.away_after.0;
                Some(Spool::start(&config.redis, &parts.spool, node.as_str(), away_after, &metrics).await?)
            }
            // A file does not go away, and a bus in memory outlives nothing.
            _ => None,
        };
        let settings = Settings::new(database.store.clone(), runtime.resolver())?;
        let dispatcher = Dispatcher::start(dispatcher::Parts {
            config: parts.clone(),
            store: database.store.clone(),
            bus,
            receipts,
            channels,
            metrics,
            spool,
            keyring,
            settings: settings.clone(),
            exclusive: database.lock.is_some(),
        })
        .await;
        tokio::spawn(take_on(settings, runtime.reloaded()));
        let closing = CancellationToken::new();
        let events = parts.clone();
        let api = ApiState::new(ApiConfig {
            credentials,
            service: dispatcher.service(),
            limits: parts.limits,
            schedules: parts.schedules,
            strategy: parts.strategy,
            realtime_lease: parts.queue.lease.0,
            live,
            closing: closing.clone(),
        });
        dispatcher.run_schedules(&api);
        dispatcher.run_events(&api, &events);
        Ok(Self {
            dispatcher,
            database,
            api,
            closing,
        })
    }

    /// The state of the API's handlers.
    pub(super) fn api(&self) -> ApiState {
        self.api.clone()
    }

    /// Requests that wait are answered now.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Finishes what was claimed. The database stays open for requests that began.
    pub(super) async fn stop(self) -> Database {
        if !self.dispatcher.stop().await {
            tracing::warn!("some deliveries were on the way; they are taken up again at the next start");
        }
        self.database
    }
}

/// Files that are read again go to the settings, and what is logged comes from them.
async fn take_on(settings: Settings, mut reloaded: watch::Receiver<u64>) {
    let mut changes = settings.subscribe();
    changes.mark_changed();
    loop {
        tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => {
                    let level = changes.borrow_and_update().log_level.clone();
                    set_level(&level);
                }
                Err(_) => return,
            },
            read = reloaded.changed() => match read {
                Ok(()) => {
                    if let Err(error) = settings.refresh().await {
                        tracing::warn!(%error, "the database does not say what it holds over the file; the next change does");
                    }
                }
                Err(_) => return,
            },
        }
    }
}
