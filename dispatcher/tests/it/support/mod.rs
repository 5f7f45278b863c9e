//! What the tests share: names, settings, patience; a world to run in, and the notifications to send through it.

mod notifications;
mod outbox;
pub(crate) mod sink;
pub(crate) mod smtp;
mod world;

use std::{future::Future, time::Duration};

use common::{
    config::Span,
    ids::{Name, TenantId},
    topic::TopicKey,
};
use dispatcher::{config::DispatcherConfig, model::ReaderKeys};

pub(crate) use self::{
    notifications::{by_email, by_realtime, email, in_inbox, later, notification, to_group},
    outbox::Outbox,
    world::{Running, World},
};

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
