//! The running dispatcher: wired from its parts, stopped in order, or dropped where it stands.

use std::sync::{Arc, atomic::AtomicBool};

use common::{bus::Bus, receipts::ReceiptStream};
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    api::ApiState,
    channels::Channels,
    config::DispatcherConfig,
    ingest,
    keyring::Keyring,
    lease::{Leases, Retries, Settler, Tenants},
    metrics::Metrics,
    model::{Micros, Revised},
    operations::Operations,
    pausing::Pausing,
    queue::{self, Context, Tasks},
    realtime::Realtime,
    receipts,
    revising::Revising,
    scheduler::Scheduler,
    service::{Means, Service},
    settings::{Effective, Settings},
    snooze,
    spool::{Away, Spool},
    store::Store,
    wake::Wake,
};

/// What a dispatcher is made of.
#[derive(Debug)]
pub struct Parts {
    /// Validated settings.
    pub config: DispatcherConfig,
    /// An open store.
    pub store: Store,
    /// The bus to the hubs.
    pub bus: Bus,
    /// What hubs report.
    pub receipts: ReceiptStream,
    /// The configured channels.
    pub channels: Channels,
    /// Registered metrics.
    pub metrics: Metrics,
    /// Where notifications go while the database is away; none: then they are refused.
    pub spool: Option<Spool>,
    /// API keys.
    pub keyring: Keyring,
    /// What can be changed while the process runs.
    pub settings: Settings,
    /// This process is the only one on the store: what a life before it held is taken back at once, without waiting for
    /// leases to run out.
    pub exclusive: bool,
}

/// A running dispatcher. Dropping it without [`Dispatcher::stop`] ends its work where it stands, as a crash would: what
/// was on the way is taken up again when its lease has run out.
#[derive(Debug)]
pub struct Dispatcher {
    service: Service,
    context: Arc<Context>,
    receipts_drained: CancellationToken,
    /// What reads events.
    ingest: TaskTracker,
    _kill: DropGuard,
}

impl Dispatcher {
    /// Takes up what was left, and begins to work. Returns when accepted notifications will be seen through.
    pub async fn start(parts: Parts) -> Self {
        let Parts {
            config,
            store,
            bus,
            receipts,
            channels,
            metrics,
            spool,
            keyring,
            settings,
            exclusive,
        } = parts;
        let leases = Leases::default();
        let (settler, flush) = Settler::new();
        let wake = Wake::default();
        let tasks = Tasks::default();
        let (realtime, waiters) = Realtime::new(
            bus,
            config.realtime.clone(),
            settler.clone(),
            leases.clone(),
            spool.as_ref().map(Spool::outcomes),
            metrics.clone(),
        );
        let revising = Revising::default();
        let settings_revised = revising.subscribe(Revised::Settings);
        let pauses_revised = revising.subscribe(Revised::Pauses);
        let keys_revised = revising.subscribe(Revised::Keys);
        let pausing = Pausing::new(store.clone(), wake.clone(), metrics.clone());
        let retries = Retries::new(settings.clone());
        let service = Service::new(Means {
            store: store.clone(),
            realtime: realtime.clone(),
            channels: channels.clone(),
            wake: wake.clone(),
            metrics: metrics.clone(),
            spool: spool.clone(),
            operations: Operations::new(
                store.clone(),
                wake.clone(),
                metrics.clone(),
                pausing.clone(),
                retries.clone(),
            ),
            keyring: keyring.clone(),
            settings: settings.clone(),
            rules: revising.subscribe(Revised::Rules),
        });
        let context = Arc::new(Context {
            config: config.queue,
            strategy: config.strategy,
            service: service.clone(),
            worker: format!("{}-{:08x}", std::process::id(), fastrand::u32(..)),
            store: store.clone(),
            channels,
            realtime: realtime.clone(),
            retries,
            settings: settings.clone(),
            leases,
            settler,
            wake: wake.clone(),
            metrics: metrics.clone(),
            stop: CancellationToken::new(),
            tasks: tasks.clone(),
            can_hold: AtomicBool::new(true),
            pausing: pausing.clone(),
            tenants: Tenants::default(),
        });

        queue::rescue_at_start(&context, exclusive).await;
        // What is paused is known before anything is claimed.
        if let Err(error) = pausing.refresh().await {
            tracing::warn!(%error, "it could not be read what is paused");
        }
        if let Err(error) = settings.refresh().await {
            tracing::warn!(%error, "it could not be read what was changed of the settings");
        }

        let mut aways: Vec<Away> = service.away().cloned().into_iter().collect();
        if let Some(spool) = spool {
            aways.push(spool.away().clone());
            tasks.spawn(spool.drain(store.clone(), wake.clone(), context.stop.clone()));
        }
        tasks.spawn(revising.run(store.clone(), aways));
        tasks.spawn(flush.run(store, wake, metrics.clone()));
        tasks.spawn(realtime.clone().publish_waiting(waiters));
        tasks.spawn(realtime.clone().give_up_waiting());
        let receipts_drained = CancellationToken::new();
        let drained = receipts_drained.clone().drop_guard();
        let receipts = receipts::run(
            receipts,
            service.readers().clone(),
            realtime,
            metrics,
            exclusive,
            context.stop.clone(),
        );
        tasks.spawn(async move {
            receipts.await;
            drop(drained);
        });
        let changes = settings.subscribe();
        tasks.spawn(queue_up(changes, context.wake.clone()));
        tasks.spawn(settings.run(settings_revised, context.stop.clone()));
        tasks.spawn(pausing.run(pauses_revised, context.stop.clone()));
        tasks.spawn(keyring.run(keys_revised, context.stop.clone()));
        queue::spawn(&context);
        tasks.spawn(snooze::run(service.clone(), context.stop.clone()));
        let (store, wake) = (context.store.clone(), context.wake.clone());
        tasks.spawn(async move {
            loop {
                store.work_elsewhere().await;
                wake.visible(Micros(0));
                wake.all();
                wake.jobs();
            }
        });
        let kill = tasks.kill.clone().drop_guard();
        Self {
            service,
            context,
            receipts_drained,
            ingest: TaskTracker::new(),
            _kill: kill,
        }
    }

    /// The handle for the API.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service.clone()
    }

    /// Begins to make the notifications that recur, by this API's rules. Without it schedules wait.
    pub fn run_schedules(&self, api: &ApiState) {
        let context = &self.context;
        let scheduler = Scheduler {
            api: api.clone(),
            worker: context.worker.clone(),
            lease: context.config.lease.0,
            metrics: context.metrics.clone(),
            stop: context.stop.clone(),
        };
        context.tasks.spawn(scheduler.run());
    }

    /// Begins to read events, by this API's rules, where the configuration says from where.
    pub fn run_events(&self, api: &ApiState, config: &DispatcherConfig) {
        let context = &self.context;
        #[cfg(feature = "kafka")]
        if !config.kafka.brokers.is_empty() {
            let reading = ingest::kafka::run(
                api.clone(),
                config.kafka.clone(),
                context.metrics.clone(),
                self.service.reading().clone(),
                context.stop.clone(),
            );
            context.tasks.spawn(self.ingest.track_future(reading));
        }
        if let Some(url) = config.outbox.place(&config.database) {
            let reading = ingest::outbox::run(
                api.clone(),
                config.outbox.clone(),
                url.clone(),
                context.metrics.clone(),
                context.stop.clone(),
            );
            context.tasks.spawn(self.ingest.track_future(reading));
        }
    }

    /// Stops in order: nothing more is claimed, sends on the way are awaited until the deadline of the configuration
    /// (`queue.stop_within`), results are stored, and what was held without having been begun goes back into the queue.
    /// What is still on the way then is left as `unknown` to the next life. Whether everything ended in time.
    pub async fn stop(self) -> bool {
        let context = &self.context;
        let deadline = tokio::time::Instant::now() + context.config.stop_within.0;
        context.stop.cancel();
        self.ingest.close();
        let waiting = context.realtime.stop_waiting();
        if !waiting.is_empty()
            && let Err(error) = context.store.release(waiting).await
        {
            tracing::warn!(%error, "frames without a receipt could not be given back; their leases run out");
        }
        let ended = async {
            self.receipts_drained.cancelled().await;
            context.leases.emptied().await;
            self.ingest.wait().await;
        };
        let in_time = tokio::time::timeout_at(deadline, ended).await.is_ok();
        if !in_time {
            tracing::warn!(
                deliveries = context.leases.held().len(),
                "the stop did not wait for these deliveries"
            );
        }
        context.channels.close().await;
        context.tasks.kill.cancel();
        context.tasks.tracker.close();
        context.tasks.tracker.wait().await;
        in_time
    }
}

/// The queue looks again with every change of the settings.
async fn queue_up(mut changes: watch::Receiver<Arc<Effective>>, wake: Wake) {
    while changes.changed().await.is_ok() {
        wake.all();
    }
}
