//! A dispatcher on a store of its own.

use super::{Database, Outbox, eventually, session, settings::live, soon, tenant, user_key};
use common::{
    bus::{Bus, BusLimits, MemoryBus},
    ids::{MessageId, NotificationId},
    receipts::{Receipt, ReceiptSink, ReceiptStream, in_memory},
};
use dispatcher::{
    Dispatcher, Parts,
    channels::Channels,
    config::DispatcherConfig,
    keyring::Keyring,
    metrics::Metrics,
    model::{Accepted, Channel, Delivery, DeliveryState, NewNotification},
    service::Service,
    settings::Settings,
    spool::Spool,
    store::{Store, StoreConfig},
};

/// What outlives a dispatcher: the folder and the store in it.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) bus: Bus,
    pub(crate) metrics: Metrics,
    pub(crate) spool: Option<Spool>,
    config: StoreConfig,
    /// None for a process beside the one that has it.
    _database: Option<Database>,
}

/// A running dispatcher.
pub(crate) struct Running {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) service: Service,
    pub(crate) receipts: ReceiptSink,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings of the store.
    pub(crate) async fn with(change: impl FnOnce(&mut StoreConfig)) -> Self {
        Self::on(Database::new(), change).await
    }

    /// On this database.
    pub(crate) async fn on(database: Database, change: impl FnOnce(&mut StoreConfig)) -> Self {
        let mut config = database.config();
        change(&mut config);
        Self {
            _database: Some(database),
            ..Self::open(config).await
        }
    }

    /// What another process on the same database has. It ends before this one.
    pub(crate) async fn beside(&self) -> Self {
        Self::open(self.config.clone()).await
    }

    /// On a database that the test looks after.
    pub(crate) async fn open(config: StoreConfig) -> Self {
        // What the dispatcher logs is shown for a test that fails; `RUST_LOG` says how much. The first test sets it.
        let logs = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer();
        drop(logs.try_init());
        Self {
            store: Store::open(&config).await.unwrap(),
            bus: Bus::Memory(MemoryBus::new(BusLimits::default())),
            metrics: Metrics::new(),
            spool: None,
            config,
            _database: None,
        }
    }

    /// Starts a dispatcher with the channels of the configuration.
    pub(crate) async fn start(&self, config: DispatcherConfig) -> Running {
        let channels = Channels::new(&config, &self.metrics).unwrap();
        self.start_with(config, channels, true).await
    }

    /// Starts a dispatcher whose emails the test ends, `room` of them at once.
    pub(crate) async fn start_outbox(&self, config: DispatcherConfig, room: usize) -> (Running, Outbox) {
        let (channels, outbox) = Outbox::new(room);
        (self.start_with(config, channels, true).await, outbox)
    }

    /// The same for one of several processes on this store.
    pub(crate) async fn start_outbox_beside(
        &self,
        config: DispatcherConfig,
        room: usize,
    ) -> (Running, Outbox) {
        let (channels, outbox) = Outbox::new(room);
        (self.start_with(config, channels, false).await, outbox)
    }

    pub(crate) async fn start_with(
        &self,
        config: DispatcherConfig,
        channels: Channels,
        exclusive: bool,
    ) -> Running {
        let (sink, stream) = in_memory(1024);
        let dispatcher = self.start_on(config, channels, exclusive, stream).await;
        Running {
            service: dispatcher.service(),
            dispatcher,
            receipts: sink,
        }
    }

    /// The same with hubs that are elsewhere.
    pub(crate) async fn start_on(
        &self,
        config: DispatcherConfig,
        channels: Channels,
        exclusive: bool,
        receipts: ReceiptStream,
    ) -> Dispatcher {
        let settings = Settings::new(self.store.clone(), live(config.clone())).unwrap();
        // On the heap, as every test's future would hold it.
        Box::pin(Dispatcher::start(Parts {
            config,
            settings,
            store: self.store.clone(),
            bus: self.bus.clone(),
            receipts,
            channels,
            metrics: self.metrics.clone(),
            spool: self.spool.clone(),
            keyring: Keyring::new(self.store.clone(), None),
            exclusive,
        }))
        .await
    }

    /// Stores new notifications, as a life that ended before it did more; gives their ids.
    pub(crate) async fn stored(&self, all: Vec<NewNotification>) -> Vec<NotificationId> {
        let ids = all.iter().map(|one| one.id).collect();
        all_new(&self.store.accept(all).await.unwrap());
        ids
    }

    /// Stores one new notification.
    pub(crate) async fn stored_one(&self, one: NewNotification) -> NotificationId {
        self.stored(vec![one]).await.remove(0)
    }

    pub(crate) async fn deliveries(&self, id: NotificationId) -> Vec<Delivery> {
        self.store
            .notification(&tenant(), id)
            .await
            .unwrap()
            .expect("the notification is stored")
            .1
    }

    /// Waits until the notification's delivery by this channel fits.
    pub(crate) async fn delivery(
        &self,
        id: NotificationId,
        channel: Channel,
        fits: impl Fn(&Delivery) -> bool,
    ) -> Delivery {
        eventually(&format!("a state of {channel:?}"), async || {
            self.deliveries(id)
                .await
                .into_iter()
                .find(|one| one.channel == channel && fits(one))
        })
        .await
    }

    /// Waits until the notification's delivery by this channel has ended.
    pub(crate) async fn ended(&self, id: NotificationId, channel: Channel) -> Delivery {
        self.delivery(id, channel, |one| one.state.is_terminal()).await
    }

    /// The notification's delivery by this channel, which has to end delivered.
    pub(crate) async fn delivered(&self, id: NotificationId, channel: Channel) -> Delivery {
        let delivery = self.ended(id, channel).await;
        assert_eq!(delivery.state, DeliveryState::Delivered, "{delivery:?}");
        delivery
    }

    /// Waits until all deliveries of the notification have ended.
    pub(crate) async fn all_ended(&self, id: NotificationId) -> Vec<Delivery> {
        eventually("all deliveries have ended", async || {
            let all = self.deliveries(id).await;
            all.iter().all(|one| one.state.is_terminal()).then_some(all)
        })
        .await
    }
}

impl Running {
    /// Accepts new notifications, and gives their ids.
    pub(crate) async fn accept(&self, all: Vec<NewNotification>) -> Vec<NotificationId> {
        let ids = all.iter().map(|one| one.id).collect();
        all_new(&self.service.accept(all).await.unwrap());
        ids
    }

    /// Accepts one new notification.
    pub(crate) async fn accept_one(&self, one: NewNotification) -> NotificationId {
        self.accept(vec![one]).await.remove(0)
    }

    /// What a hub reports.
    pub(crate) async fn receive(&self, receipt: Receipt) {
        assert!(self.receipts.send(receipt).await, "the dispatcher takes receipts");
    }

    /// A hub has written the message to a session of this user.
    pub(crate) async fn written(&self, user: &str, id: impl Into<MessageId>) {
        let (key, id) = (user_key(user), id.into());
        self.receive(Receipt::Written { key, id }).await;
    }

    /// A session of this user says that it has the message.
    pub(crate) async fn delivered(&self, user: &str, id: impl Into<MessageId>) {
        let (reader, ids) = (session(user), vec![id.into()]);
        self.receive(Receipt::Delivered { reader, ids }).await;
    }

    /// Stops it, which has to be orderly.
    pub(crate) async fn stop(self) {
        let orderly = soon("the stop", self.dispatcher.stop()).await;
        assert!(orderly, "not all work ended before the stop");
    }
}

fn all_new(answers: &[Accepted]) {
    assert!(
        answers.iter().all(|answer| *answer == Accepted::New),
        "{answers:?}"
    );
}
