//! A dispatcher on a store of its own, and what stands around it.

pub(crate) mod sink;
pub(crate) mod smtp;

use std::{future::Future, time::Duration};

use common::{
    bus::{Bus, MemoryBus, MemoryLimits},
    config::Span,
    ids::{DeliveryId, Name, NotificationId, TenantId},
    receipts::{ReceiptSink, in_memory},
    target::{Audience, Target},
    topic::TopicKey,
};
use dispatcher::{
    Dispatcher, Parts,
    channels::Channels,
    config::DispatcherConfig,
    metrics::Metrics,
    model::{
        Channel, Content, Delivery, DeliveryState, InboxRoute, Lane, Micros, NewDelivery, NewNotification,
        ReaderKeys, Strategy,
    },
    service::Service,
    store::{Store, StoreConfig},
};
use tempfile::TempDir;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again until there is an answer. The only place where tests let time pass.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| panic!("did not happen: {what}"))
}

/// Fails the test when `work` takes too long.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| panic!("did not happen: {what}"))
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("t1").unwrap()
}

pub(crate) fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

pub(crate) fn user_key(user: &str) -> TopicKey {
    TopicKey::user(&tenant(), &name(user))
}

pub(crate) fn reader(user: &str) -> ReaderKeys {
    ReaderKeys {
        tenant: tenant(),
        user: name(user),
        keys: vec![user_key(user), TopicKey::tenant(&tenant()), TopicKey::everyone()],
    }
}

/// Settings under which tests do not wait: retries after some milliseconds, short leases.
pub(crate) fn quick() -> DispatcherConfig {
    let mut config = DispatcherConfig::default();
    let ms = |ms| Span(Duration::from_millis(ms));
    config.queue.retry = vec![ms(20)];
    config.queue.lease = ms(2000);
    config.queue.heartbeat = ms(500);
    config.queue.poll = ms(200);
    config.queue.stop_within = ms(5000);
    config.realtime.receipt_wait = ms(300);
    config.smtp.timeout = ms(10_000);
    config.validate().unwrap();
    config
}

/// What outlives a dispatcher: the folder and the store in it.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) bus: Bus,
    pub(crate) metrics: Metrics,
    _dir: TempDir,
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
        // What the dispatcher logs is shown for a test that fails; `RUST_LOG` says how much. The first test sets it.
        let logs = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer();
        drop(logs.try_init());
        let dir = tempfile::tempdir().unwrap();
        let mut config = StoreConfig::new(dir.path().join("carillon.db"));
        change(&mut config);
        let store = Store::open(&config).await.unwrap();
        Self {
            store,
            bus: Bus::Memory(MemoryBus::new(MemoryLimits::default())),
            metrics: Metrics::new(),
            _dir: dir,
        }
    }

    /// Starts a dispatcher with the channels of the configuration.
    pub(crate) async fn start(&self, config: DispatcherConfig) -> Running {
        let channels = Channels::new(&config.smtp, &self.metrics).unwrap();
        self.start_with(config, channels, true).await
    }

    pub(crate) async fn start_with(
        &self,
        config: DispatcherConfig,
        channels: Channels,
        exclusive: bool,
    ) -> Running {
        let (sink, stream) = in_memory(1024);
        let dispatcher = Dispatcher::start(Parts {
            config,
            store: self.store.clone(),
            bus: self.bus.clone(),
            receipts: stream,
            channels,
            metrics: self.metrics.clone(),
            exclusive,
        })
        .await;
        Running {
            service: dispatcher.service(),
            dispatcher,
            receipts: sink,
        }
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
}

/// A notification to one user; `with` adds to it.
pub(crate) fn notification(user: &str) -> NewNotification {
    let now = Micros::now();
    NewNotification {
        id: NotificationId::generate(),
        tenant: tenant(),
        sender: "test".to_owned(),
        audience: Some(Audience::from(Target::User(name(user)))),
        content: Content {
            title: "A title".to_owned(),
            content: "A text".to_owned(),
            priority: "normal".into(),
            ..Content::default()
        },
        lane: Lane::Medium,
        strategy: Strategy::All,
        channels: Vec::new(),
        inbox: Vec::new(),
        deliveries: Vec::new(),
        job: None,
        created_at: now,
        visible_at: now,
        expires_at: None,
        idempotency: Vec::new(),
    }
}

/// With a row in the user's inbox.
pub(crate) fn in_inbox(mut notification: NewNotification, user: &str) -> NewNotification {
    notification.inbox.push(InboxRoute {
        key: user_key(user),
        filter: None,
    });
    let state = if notification.visible_at > notification.created_at {
        DeliveryState::Pending
    } else {
        DeliveryState::Delivered
    };
    notification.deliveries.push(NewDelivery {
        state,
        ..delivery(&notification, Channel::InApp)
    });
    notification
}

/// With an email.
pub(crate) fn by_email(mut notification: NewNotification, address: &str) -> NewNotification {
    notification.deliveries.push(NewDelivery {
        address: Some(address.to_owned()),
        ..delivery(&notification, Channel::Email)
    });
    notification
}

/// With a frame: held by the acceptor, or left to the queue where it is scheduled.
pub(crate) fn by_realtime(mut notification: NewNotification, user: Option<&str>) -> NewNotification {
    let scheduled = notification.visible_at > notification.created_at;
    notification.deliveries.push(NewDelivery {
        user: user.map(name),
        state: if scheduled {
            DeliveryState::Pending
        } else {
            DeliveryState::Running
        },
        lease_until: (!scheduled).then(|| Micros::now().plus(Duration::from_secs(2))),
        ..delivery(&notification, Channel::Realtime)
    });
    notification
}

/// To be seen later.
pub(crate) fn later(mut notification: NewNotification, by: Duration) -> NewNotification {
    notification.visible_at = notification.created_at.plus(by);
    notification
}

fn delivery(notification: &NewNotification, channel: Channel) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::generate(),
        channel,
        user: None,
        address: None,
        state: DeliveryState::Pending,
        reason: None,
        due_at: notification.visible_at,
        lease_until: None,
        max_attempts: 3,
    }
}
