//! What the tests share: names, settings, patience; a world to run in, and the notifications to send through it.

mod chains;
mod database;
pub(crate) mod hooks;
mod notifications;
mod outbox;
mod settings;
pub(crate) mod sink;
pub(crate) mod smtp;
pub(crate) mod topics;
mod world;

use std::{future::Future, time::Duration};

use common::{
    audit::{CredentialKind, Origin},
    config::Span,
    ids::{Name, TenantId},
    patience,
    receipts::Reader,
    topic::TopicKey,
};
use dispatcher::{config::DispatcherConfig, model::ReaderKeys};

pub(crate) use self::{
    chains::{escalating, failing_over},
    database::Database,
    notifications::{by_email, by_realtime, by_webhook, email, in_inbox, later, notification, to_group},
    outbox::Outbox,
    world::{Running, World},
};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    patience::eventually(what, PATIENCE, ask).await
}

/// Fails the test when `work` takes too long.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    patience::soon(what, PATIENCE, work).await
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

/// Who changes something in a test.
pub(crate) fn by(user: &str) -> Origin {
    Origin {
        tenant: tenant(),
        credential: CredentialKind::Token,
        credential_id: user.to_owned(),
        user: name(user),
        address: None,
        request: None,
    }
}

/// An open socket of a user.
pub(crate) fn session(user: &str) -> Reader {
    let reader = reader(user);
    Reader {
        tenant: reader.tenant,
        user: reader.user,
        session: "s1".into(),
        keys: reader.keys.into(),
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
