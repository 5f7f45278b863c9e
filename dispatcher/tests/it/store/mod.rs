//! The promises of the store. The cases use its public face only, so that every database has to pass the same.

mod accept;
mod api_keys;
mod audit;
mod chains;
mod collapse;
mod dead_letters;
mod events;
mod faults;
mod feed;
mod history;
mod hot_key;
mod inbox;
mod jobs;
mod late_commit;
mod operate;
mod pages;
mod postgres_faults;
mod queue;
mod records;
mod rescue_race;
mod retention;
mod schedules;
mod settings;
mod snooze;
mod stops;
mod unread;

use std::time::Duration;

use crate::support::{Database, name, notification, tenant, user_key};
use common::{
    ids::{DeliveryId, NotificationId},
    target::{Audience, Target},
    topic::TopicKey,
};
use dispatcher::{
    model::{
        Channel, Content, Cursor, DeliveryState, InboxFilter, InboxRoute, Lane, ListFilter, Micros,
        NewDelivery, NewNotification, ReaderKeys,
    },
    store::{ChangesResult, ClaimRequest, ClaimRules, Mark, Marked, Store, StoreConfig},
};

/// A database of its own.
struct Fresh {
    store: Store,
    config: StoreConfig,
    _database: Database,
}

impl std::ops::Deref for Fresh {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

async fn fresh() -> Fresh {
    fresh_with(|_| {}).await
}

async fn fresh_with(change: impl FnOnce(&mut StoreConfig)) -> Fresh {
    let database = Database::new();
    let mut config = database.config();
    change(&mut config);
    Fresh {
        store: Store::open(&config).await.unwrap(),
        config,
        _database: database,
    }
}

fn role_key(role: &str) -> TopicKey {
    TopicKey::role(&tenant(), &name(role))
}

fn store_key(store: &str) -> TopicKey {
    TopicKey::store(&tenant(), &name(store))
}

/// A user with roles, and the tenant's and everyone's key.
fn reader(user: &str, roles: &[&str]) -> ReaderKeys {
    let mut keys = vec![user_key(user)];
    keys.extend(roles.iter().map(|role| role_key(role)));
    keys.extend([TopicKey::tenant(&tenant()), TopicKey::everyone()]);
    ReaderKeys {
        tenant: tenant(),
        user: name(user),
        keys,
    }
}

fn plain(key: TopicKey) -> InboxRoute {
    InboxRoute { key, filter: None }
}

fn filtered(key: TopicKey, require: &[TopicKey], except: &[&str]) -> InboxRoute {
    let except = except.iter().map(|user| name(user)).collect();
    InboxRoute {
        key,
        filter: Some(InboxFilter {
            require: require.to_vec(),
            except,
        }),
    }
}

fn note(title: &str, inbox: Vec<InboxRoute>) -> NewNotification {
    NewNotification {
        audience: Some(Audience::from(Target::Tenant)),
        content: Content {
            title: title.to_owned(),
            content: format!("{title} \u{0} 文"),
            ..Content::default()
        },
        channels: vec!["in_app".to_owned()],
        inbox,
        ..notification("u")
    }
}

fn to(key: TopicKey) -> NewNotification {
    note("n", vec![plain(key)])
}

/// The same, said so long ago.
fn aged(mut new: NewNotification, age: Duration) -> NewNotification {
    new.created_at = Micros::now().minus(age);
    new.visible_at = new.created_at;
    new
}

fn email(user: &str, due_at: Micros) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::generate(),
        channel: Channel::Email,
        user: Some(name(user)),
        address: Some(format!("{user}@example.org")),
        state: DeliveryState::Pending,
        reason: None,
        due_at,
        lease_until: None,
        max_attempts: 3,
    }
}

/// A notification with one email.
fn mailed(user: &str) -> NewNotification {
    let mut new = note("mail", Vec::new());
    new.deliveries.push(email(user, new.created_at));
    new
}

fn ask(lane: Lane, limit: u32) -> ClaimRequest {
    let now = Micros::now();
    ClaimRequest {
        worker: "w".to_owned(),
        lane,
        limit,
        channels: Vec::new(),
        now,
        lease_until: now.plus(Duration::from_secs(30)),
        rules: ClaimRules::default(),
        begin: false,
    }
}

async fn put(store: &Store, new: NewNotification) -> NotificationId {
    let id = new.id;
    assert_eq!(
        store.accept(vec![new]).await.unwrap(),
        [dispatcher::model::Accepted::New]
    );
    id
}

/// Marks one notification.
async fn mark(store: &Store, reader: &ReaderKeys, id: NotificationId, mark: Mark) -> Marked {
    store.mark(reader, vec![id], mark).await.unwrap()
}

/// A reader that the store has seen.
async fn known(store: &Store, user: &str, roles: &[&str]) -> ReaderKeys {
    let reader = reader(user, roles);
    store.touch_reader(&reader).await.unwrap();
    reader
}

async fn listed(store: &Store, reader: &ReaderKeys) -> Vec<NotificationId> {
    let filter = ListFilter {
        limit: 1000,
        ..ListFilter::default()
    };
    store
        .list(reader, &filter)
        .await
        .unwrap()
        .into_iter()
        .map(|item| item.id)
        .collect()
}

async fn present(store: &Store, reader: &ReaderKeys) -> Cursor {
    changes(store, reader, None, 1).await.cursor
}

async fn changes(
    store: &Store,
    reader: &ReaderKeys,
    after: Option<&Cursor>,
    limit: u32,
) -> dispatcher::model::Changes {
    match store.changes(reader, after, limit).await.unwrap() {
        ChangesResult::Changes(changes) => changes,
        ChangesResult::Resync => panic!("asked to read again"),
    }
}
